//! What the cross-crate tests share: the exact distribution of a program, recordings, and recorded runs
//! of several tenants.
#![forbid(unsafe_code)]

pub mod exact;
pub mod pins;
pub mod scene;

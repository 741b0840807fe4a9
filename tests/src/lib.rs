//! What the cross-crate tests share: the exact distribution of a program, and recordings.
#![forbid(unsafe_code)]

pub mod exact;
pub mod pins;

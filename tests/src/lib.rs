//! What the cross-crate tests share: the exact distribution of a program, recordings, recorded runs of
//! several tenants, and a server on a thread.
#![forbid(unsafe_code)]

pub mod exact;
pub mod pins;
pub mod scene;
pub mod server;

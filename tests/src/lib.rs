//! What the cross-crate tests share: the dense reference and the chi-square test.
#![forbid(unsafe_code)]

pub mod dense;
pub mod exact;
pub mod pins;
pub mod stats;

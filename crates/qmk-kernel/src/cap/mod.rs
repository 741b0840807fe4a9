//! Capability spaces.

pub(crate) mod space;

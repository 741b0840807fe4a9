//! Strands: running images.

pub(crate) mod state;

//! Strands: running images.

pub(crate) mod checkpoint;
pub(crate) mod issue;
pub(crate) mod rollback;
pub(crate) mod state;

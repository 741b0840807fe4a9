//! Many shots at once: `plan` works out what differs between shots, `sampler` and `shots` run it, 64 shots to a word.

mod bank;
pub(crate) mod detectors;
pub(crate) mod plan;
pub(crate) mod sampler;
pub(crate) mod shots;
mod symbolic;
mod transpose;

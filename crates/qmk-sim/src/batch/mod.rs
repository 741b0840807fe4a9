//! Many shots at once, 64 to a word.
//!
//! Start at [`plan`]: it runs the state of a program once, over the parities of [`symbolic`], and leaves a list of
//! actions. [`sampler`] has a plan and what all shots share; [`shots`] performs it for a batch, with the registers in
//! [`bank`]. [`detectors`] samples parities of outcomes without running shots.

mod bank;
pub(crate) mod detectors;
pub(crate) mod plan;
pub(crate) mod sampler;
pub(crate) mod shots;
mod symbolic;
mod transpose;

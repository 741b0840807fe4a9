//! Saved states.

use super::interactive::Memory;
use super::shared_state::SharedState;

/// A saved state of a space.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) space: u32,
    pub(super) saved: Saved,
}

#[derive(Debug)]
pub(super) enum Saved {
    Program { issued: usize, shots: u64, outcomes: Vec<u8> },
    Interactive(Box<SharedState>, Memory),
}

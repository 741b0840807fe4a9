//! Strands: running images. Where to start: [`state::Strand`], its data and its states; then `issue`, which hands
//! instructions to the device, and `rollback`, which takes them back. `checkpoint` is the data of a saved state.

pub(crate) mod checkpoint;
pub(crate) mod issue;
pub(crate) mod rollback;
pub(crate) mod state;

//! What a checkpoint saves.

use crate::image::known::Known;
use crate::strand::state::ResumePoint;
use alloc::vec::Vec;
use qmk_hal::SnapshotId;

#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) owner: u32,
    /// Epoch in which it was taken.
    pub(crate) snapshot: Option<(u64, SnapshotId)>,
    /// The strand ended first.
    pub(crate) failed: bool,
    pub(crate) target: CheckpointTarget,
}

#[derive(Debug)]
pub(crate) enum CheckpointTarget {
    /// A strand, which its arrival identifies for ever, and where it was.
    Strand { id: u32, arrival: u64, mark: Option<ResumePoint> },
    /// The interactive qubits of the owner, and what was known of them.
    Qubits { version: u64, known: Vec<Known> },
}

//! The data of a checkpoint.

use crate::ids::{DomainId, StrandId};
use crate::image::known::Known;
use crate::strand::state::ResumePoint;
use crate::time::Epoch;
use alloc::vec::Vec;
use qmk_hal::SnapshotId;

#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The domain whose quota it counts against.
    pub(crate) owner: DomainId,
    /// The saved state, and the epoch in which it was saved. `None` until a strand comes to a fence.
    pub(crate) snapshot: Option<(Epoch, SnapshotId)>,
    /// The strand ended before it came to a fence, or the device refused.
    pub(crate) failed: bool,
    pub(crate) target: CheckpointTarget,
}

/// The saved thing, and the conditions under which it may be restored.
#[derive(Debug)]
pub(crate) enum CheckpointTarget {
    /// A strand. Numbers are used again and arrivals are not, so both together identify it for ever.
    Strand { id: StrandId, arrival: u64, mark: Option<ResumePoint> },
    /// The interactive qubits of the owner, in one version, and the kernel's knowledge of them by register.
    Qubits { version: u64, known: Vec<Known> },
}

//! Replies to calls that were not refused.

use super::channel::ChannelInfo;
use super::object::ObjectKind;
use super::quota::{DomainUsage, Quota};
use super::strand::StrandStatus;
use crate::caps::{Handle, Rights};
use crate::image::Event;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Reply to a successful system call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing to tell.
    Done,
    /// A new capability.
    Handle(Handle),
    /// Capabilities deleted by this step, and whether there are more to delete.
    Deleted {
        /// Capabilities.
        count: u32,
        /// Call again.
        more: bool,
    },
    /// To `Inspect`.
    Capability {
        /// Kind of object.
        kind: ObjectKind,
        /// Rights.
        rights: Rights,
        /// Badge.
        badge: u64,
    },
    /// To `Status`.
    Status(StrandStatus),
    /// To `Outcomes`.
    Outcomes(Vec<u8>),
    /// To `Apply`, `Teleport` and `SwapEntanglement`.
    Applied {
        /// Outcomes in the order the operation writes them.
        outcomes: Vec<bool>,
        /// Epoch at which the qubits would be free again on the modelled machine. For accounts: the next operation need
        /// not wait for it.
        until: u64,
    },
    /// To `FreeQubit`.
    Freed {
        /// The qubit was neither measured nor known to be in a basis state, and was reset.
        dirty: bool,
        /// Operations that were undone.
        undone: u32,
    },
    /// To `Rollback`: operations that were undone.
    RolledBack(u32),
    /// To `CheckpointStatus`: the epoch in which it was taken, if it was.
    Checkpoint(Option<u64>),
    /// To `Offer`.
    Offered {
        /// The near endpoint, in the caller's space.
        endpoint: Handle,
        /// The far endpoint, in the other domain's space.
        invitation: Handle,
    },
    /// To `Accept` and `ChannelStatus`.
    Channel(ChannelInfo),
    /// To `Usage`.
    Usage {
        /// Current use.
        used: DomainUsage,
        /// Limits.
        quota: Quota,
    },
}

/// An event of one shot of [`Reply::Outcomes`].
pub fn outcome_bit(bytes_of_shot: &[u8], event: Event) -> bool {
    bytes_of_shot.get(event as usize / 8).is_some_and(|b| b >> (event % 8) & 1 == 1)
}

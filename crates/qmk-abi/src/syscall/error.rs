//! Why a call is refused.

use super::reason::{BadArgument, Late, NotYet, WrongState};
use crate::caps::Rights;
use crate::image::ImageError;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Which limit a call would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Limit {
    /// Logical qubits.
    #[error("logical qubits")]
    Qubits,
    /// Physical qubits.
    #[error("physical qubits")]
    PhysicalQubits,
    /// Strands.
    #[error("strands")]
    Strands,
    /// Size of images.
    #[error("instructions")]
    Instructions,
    /// Capability slots.
    #[error("capability slots")]
    Slots,
    /// Channels.
    #[error("channels")]
    Channels,
    /// Checkpoints.
    #[error("checkpoints")]
    Checkpoints,
    /// Magic states.
    #[error("magic states")]
    Magic,
}

/// Why a system call was refused. A handle of someone else's and one that never existed look the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum KernelError {
    /// The handle names nothing in the caller's capability space.
    #[error("no such capability")]
    NoCapability,
    /// The capability is for another kind of object.
    #[error("capability is for another kind of object")]
    WrongKind,
    /// The capability lacks rights.
    #[error("capability lacks rights {0}")]
    Rights(Rights),
    /// The domain's quota would be exceeded.
    #[error("quota exceeded: {0}")]
    Quota(Limit),
    /// The budget of a machine capability would be exceeded.
    #[error("budget of the capability exceeded: {0}")]
    Budget(Limit),
    /// The machine, or the region, does not have that many qubits.
    #[error("{requested} logical qubits were asked for, there are {available}")]
    Capacity {
        /// Qubits asked for.
        requested: u32,
        /// Qubits the machine has.
        available: u32,
    },
    /// The image was not admitted.
    #[error("{0}")]
    Image(ImageError),
    /// No state of the kernel would make an argument valid.
    #[error("invalid argument: {0}")]
    Argument(BadArgument),
    /// The machine has no such patches, or does not sample such noise. The words are the device's.
    #[error("invalid argument: {0}")]
    Patch(String),
    /// What was asked for is not there yet.
    #[error("not ready: {0}")]
    NotReady(NotYet),
    /// The object's state does not allow it.
    #[error("not possible: {0}")]
    State(WrongState),
    /// The deadline cannot be kept.
    #[error("the deadline of {asked} epochs cannot be kept: {why}")]
    Deadline {
        /// Epochs asked for.
        asked: u64,
        /// Why.
        why: Late,
    },
    /// The fidelity cannot be reached by purification.
    #[error("fidelity {asked} cannot be reached from raw pairs of fidelity {raw}; the best is {best}")]
    Fidelity {
        /// Fidelity asked for.
        asked: f64,
        /// Fidelity of raw pairs.
        raw: f64,
        /// Best fidelity.
        best: f64,
    },
    /// The machine failed. The words are the device's.
    #[error("machine: {0}")]
    Device(String),
    /// An invariant of the kernel did not hold. The kernel has stopped: every later call answers the same.
    #[error("the kernel stopped: {0}")]
    Broken(String),
}

impl From<BadArgument> for KernelError {
    fn from(why: BadArgument) -> Self {
        KernelError::Argument(why)
    }
}

impl From<WrongState> for KernelError {
    fn from(why: WrongState) -> Self {
        KernelError::State(why)
    }
}

impl From<NotYet> for KernelError {
    fn from(why: NotYet) -> Self {
        KernelError::NotReady(why)
    }
}

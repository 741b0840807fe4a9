//! Registers of interactive spaces, and the qubits that name them.

use crate::image::known::Known;
use crate::image::uncompute::Segment;
use alloc::vec::Vec;
use qmk_abi::Handle;
use qmk_hal::SpaceId;

/// A domain's interactive space.
#[derive(Debug)]
pub(crate) struct Interactive {
    pub(crate) space: SpaceId,
    pub(crate) registers: Vec<Register>,
    pub(crate) free: Vec<u32>,
    pub(crate) live: u32,
    /// What can be undone.
    pub(crate) segment: Segment,
}

/// What the kernel knows of a qubit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    pub(crate) known: Known,
    /// Epoch at which its last operation is over.
    pub(crate) busy_until: u64,
    /// Epoch before which the pair that it is half of is not ready.
    pub(crate) ready_at: u64,
    /// The channel and side that it is the near half of.
    pub(crate) channel: Option<(u32, u8)>,
}

/// A qubit as an object.
#[derive(Clone, Debug)]
pub(crate) struct Qubit {
    pub(crate) owner: u32,
    pub(crate) register: u32,
    /// Object whose budget it counts against.
    pub(crate) machine: u32,
    /// The capability that all others to it derive from, in the owner's space.
    pub(crate) root: Option<Handle>,
}

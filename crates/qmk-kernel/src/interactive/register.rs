//! Registers of a domain's interactive space, and the qubit objects that name them.

use crate::errors::{Checked, broken};
use crate::ids::{ChannelId, DomainId, ObjectId};
use crate::image::known::Known;
use crate::image::uncompute::Segment;
use crate::interactive::channel::Side;
use crate::time::Epoch;
use alloc::vec::Vec;
use qmk_abi::Handle;
use qmk_hal::SpaceId;

/// A domain's interactive space: the device's space of the qubits that the domain took one by one.
#[derive(Debug)]
pub(crate) struct Interactive {
    pub(crate) space: SpaceId,
    /// By number, as the device knows them. Those in `free` are not allocated on the device.
    pub(crate) registers: Vec<Register>,
    pub(crate) free: Vec<u32>,
    /// Registers in use. With the last one the space is closed.
    pub(crate) live: u32,
    /// Operations since the last irreversible one, which `Rollback` undoes.
    pub(crate) segment: Segment,
}

impl Interactive {
    /// # Errors
    /// A qubit names a register that the space does not have.
    pub(crate) fn register(&self, register: u32) -> Checked<&Register> {
        self.registers.get(register as usize).ok_or_else(|| broken("a qubit's space has no such register"))
    }

    /// # Errors
    /// A qubit names a register that the space does not have.
    pub(crate) fn register_mut(&mut self, register: u32) -> Checked<&mut Register> {
        self.registers.get_mut(register as usize).ok_or_else(|| broken("a qubit's space has no such register"))
    }
}

/// The kernel's knowledge of one qubit. It never looks at states.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    pub(crate) known: Known,
    /// Epoch at which its last operation is over, on the modelled machine.
    pub(crate) busy_until: Epoch,
    /// Epoch before which the pair that it is half of is not ready. Until then no operation may use it.
    pub(crate) ready_at: Epoch,
    /// The channel that it is the near half of, and the side. The channel's end there names this register in turn.
    pub(crate) channel: Option<(ChannelId, Side)>,
}

/// A qubit as an object.
#[derive(Clone, Debug)]
pub(crate) struct Qubit {
    /// The domain whose space it lies in and whose quota it counts against, whoever holds capabilities to it.
    pub(crate) owner: DomainId,
    pub(crate) register: u32,
    /// Machine object whose budget it counts against. The qubit keeps it alive.
    pub(crate) machine: ObjectId,
    /// The owner's first capability, from which all others to the qubit derive. `None` only while the qubit is made.
    pub(crate) root: Option<Handle>,
}

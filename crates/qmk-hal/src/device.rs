//! The contract of a device.

use crate::cost::Cost;
use crate::error::DeviceError;
use crate::noise::{Column, Errors};
use crate::space::{SnapshotId, SpaceId, SpaceSpec, SpaceStatus};
use crate::spec::MachineSpec;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use qmk_abi::image::{Image, Instr, Op, Qubit};
use qmk_abi::syscall::{Level, NoiseSpec, Patch};

/// A logical-qubit machine.
pub trait Device {
    /// What the machine is.
    fn spec(&self) -> &MachineSpec;

    /// What an operation costs on patches of this kind.
    fn cost(&self, op: &Op, patch: Patch) -> Cost;

    /// Physical qubits of one logical qubit with its ancillas; `None` if the machine has no such patches.
    fn physical_qubits(&self, patch: Patch) -> Option<u32>;

    /// What errors mean for patches of this kind.
    ///
    /// # Errors
    /// Why the machine has no model of them: what is out of range, and the range.
    fn errors(&self, _patch: Patch, noise: NoiseSpec) -> Result<Errors, String> {
        match noise.level {
            Level::Ideal => Ok(Errors::default()),
            _ => Err("this machine has no model of errors; the noise level that it offers is \"ideal\"".into()),
        }
    }

    /// Probability that a shot of an admitted program meets an error, which need not change an outcome. An estimate where errors
    /// are sampled; 0 where there is no model.
    fn failure(&self, _image: &Image, _patch: Patch, _noise: NoiseSpec) -> f64 {
        0.0
    }

    /// Opens a space. The image must have been admitted: registers and events in range, allocated before
    /// use, events written before they are read.
    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError>;

    /// Allows the device to perform instruction `index` of the space's image. Each index is issued exactly once,
    /// after every instruction it depends on.
    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError>;

    /// [`Device::issue`] for each of these instructions, in this order.
    ///
    /// # Errors
    /// The first refusal; what comes after it is not issued.
    fn issue_range(&mut self, space: SpaceId, indices: Range<u32>) -> Result<(), DeviceError> {
        indices.into_iter().try_for_each(|index| self.issue(space, index))
    }

    /// Takes back an issued unitary instruction by performing its inverse, in a space whose work has not begun or is
    /// thrown away by it. All that depends on the instruction has been taken back before. It may be issued again.
    fn undo(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError>;

    /// Says what all [`Channel::Given`](crate::Channel::Given) of a space do, before its work begins.
    ///
    /// # Errors
    /// If the space has no such columns, or its work has begun.
    fn give(&mut self, _space: SpaceId, _columns: Arc<[Column]>) -> Result<(), DeviceError> {
        Err(DeviceError::Refused("the machine takes no Paulis".into()))
    }

    /// Works on issued instructions and remaining shots for at most about `budget` elementary steps (one
    /// instruction of one shot is at least one), so that a caller can stay responsive. With a budget of at least 1
    /// it gets on.
    fn work(&mut self, space: SpaceId, budget: u64) -> Result<SpaceStatus, DeviceError>;

    /// Value of an event in a finished shot; false if it was never written.
    fn outcome(&self, space: SpaceId, shot: u64, event: u32) -> bool;

    /// Appends the outcomes of finished shots, packed: for each shot `ceil(events/8)` bytes, event 0 in the lowest bit. The
    /// caller asks for shots that are done only.
    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>);

    /// Performs one instruction at once in an interactive space, growing registers and events as named. Outcomes
    /// are read with [`Device::outcome`] for shot 0. An instruction that is refused changes nothing.
    /// Pauli operations, `Reset` and `Free` are not refused for what the state is: they are how the kernel takes a qubit out of a
    /// pair.
    fn perform(&mut self, space: SpaceId, instr: Instr) -> Result<(), DeviceError>;

    /// Makes an entangled pair of a qubit of one interactive space and one of another: puts both, which must be in use, in
    /// |0>, then in (|00> + |11>)/√2, then applies X, Y or Z to the second with these probabilities. The two spaces are one
    /// state from then on, but operations still name qubits by space and register. A
    /// refusal changes nothing.
    fn link(&mut self, a: (SpaceId, Qubit), b: (SpaceId, Qubit), errors: [f64; 3]) -> Result<(), DeviceError>;

    /// Saves the state of a space, if [`Features::snapshot`](crate::Features::snapshot). A space that shares a state with another cannot be saved.
    fn snapshot(&mut self, space: SpaceId) -> Result<SnapshotId, DeviceError>;

    /// Brings a space back to a saved state, unless it was linked since. The draws of later measurements of interactive spaces are new ones.
    fn restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<(), DeviceError>;

    /// Forgets a saved state. Unknown ids are ignored.
    fn forget(&mut self, snapshot: SnapshotId);

    /// Forgets a space and its outcomes. Unknown ids are ignored. Qubits of other spaces that were entangled with its
    /// qubits are left as if those had been measured and the outcomes lost.
    fn close(&mut self, space: SpaceId);
}

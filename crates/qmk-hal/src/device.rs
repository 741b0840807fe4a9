//! The contract of a device that runs programs.

use crate::cost::Cost;
use crate::error::DeviceError;
use crate::interactive::Interactive;
use crate::noise::{Column, Errors};
use crate::snapshot::Snapshots;
use crate::space::{SpaceId, SpaceSpec, SpaceStatus};
use crate::spec::MachineSpec;
use crate::work::Work;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use qmk_abi::image::{Image, Op};
use qmk_abi::syscall::{Level, NoiseSpec, Patch};

/// A logical-qubit machine.
///
/// A device that runs programs implements the methods without a body. One that also has qubits to operate one by one
/// answers [`Device::interactive`]; one that can copy states answers [`Device::snapshots`].
///
/// What takes time is [`Work`]: a call begins it, the caller steps it and gives it back to [`Device::finish`].
/// [`Inline`](crate::Inline) does the three at once. A space has one work out at a time. Until it is back,
///
/// * calls that begin work for the space, or for one that shares its state, and `issue`, `undo` and `give` are refused
///   with [`DeviceError::Busy`];
/// * [`Device::outcomes`] answers for the shots that were done before;
/// * closing the space is accepted and takes effect when the work is back.
pub trait Device {
    /// What the device hands out.
    type Work: Work;

    /// What the machine is. It does not change while the device exists.
    fn spec(&self) -> &MachineSpec;

    /// What an operation costs on patches of this kind, in logical cycles, magic states and routes.
    fn cost(&self, op: &Op, patch: Patch) -> Cost;

    /// Physical qubits of one logical qubit with its ancillas; `None` if the machine has no such patches.
    fn physical_qubits(&self, patch: Patch) -> Option<u32>;

    /// What errors mean for patches of this kind.
    ///
    /// # Errors
    /// Why the machine has no model of them: which value is out of range, and the range.
    fn errors(&self, _patch: Patch, noise: NoiseSpec) -> Result<Errors, String> {
        match noise.level {
            Level::Ideal => Ok(Errors::default()),
            _ => Err("this machine has no model of errors; the noise level that it offers is \"ideal\"".into()),
        }
    }

    /// Probability, from 0 to 1, that a shot of an admitted program meets an error, which need not change an outcome.
    /// An estimate where errors are sampled; 0 where there is no model.
    fn failure(&self, _image: &Image, _patch: Patch, _noise: NoiseSpec) -> f64 {
        0.0
    }

    /// Opens a space: for its program or, if its image is empty, for interactive use.
    ///
    /// The image has been admitted: registers and events are in range, registers are allocated before use, events are
    /// written before they are read.
    ///
    /// # Errors
    /// [`DeviceError::StateBytes`] if there is no room for the outcomes of all shots. [`DeviceError::Refused`] if they
    /// would take too much memory, the noise does not fit the
    /// image, or the device has no model of the errors. [`DeviceError::Unsupported`] for an empty image if the device
    /// has no interactive qubits.
    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError>;

    /// Allows the device to perform instruction `index` of the space's image. The kernel issues each index once, after
    /// every instruction that it depends on.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if no such space runs a program.
    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError>;

    /// [`Device::issue`] for each of these instructions, in this order.
    ///
    /// # Errors
    /// The first refusal. The instructions after it are not issued.
    fn issue_range(&mut self, space: SpaceId, indices: Range<u32>) -> Result<(), DeviceError> {
        indices.into_iter().try_for_each(|index| self.issue(space, index))
    }

    /// Takes back an issued unitary instruction, as if by its inverse. Shots that are done or under way are thrown
    /// away. Every instruction that depends on it has been taken back before. It may be issued again.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if the instruction is not unitary or has not been issued, or if the device takes back
    /// nothing.
    fn undo(&mut self, _space: SpaceId, index: u32) -> Result<(), DeviceError> {
        Err(DeviceError::Refused(alloc::format!("the machine does not take back instructions such as {index}")))
    }

    /// Gives the Paulis of all [`Channel::Given`](crate::Channel::Given) of a space, before its work begins: one column
    /// for each, with `ceil(shots / 64)` words in its X and in its Z part.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if the columns are not those that the noise of the space names, or its work has begun.
    fn give(&mut self, _space: SpaceId, _columns: Arc<[Column]>) -> Result<(), DeviceError> {
        Err(DeviceError::Refused("the machine takes no Paulis".into()))
    }

    /// Begins, or goes on with, the shots of a program. Before all instructions are issued there is nothing to do.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if no such space runs a program; [`DeviceError::Busy`] if its work is out; the failure
    /// of earlier work, if it failed.
    fn begin_work(&mut self, space: SpaceId) -> Result<Self::Work, DeviceError>;

    /// Takes work back and makes its results count. The work may have been stepped any number of times; a program's
    /// shots that are not done stay under way.
    ///
    /// Returns the state of the space that the work is for.
    ///
    /// # Errors
    /// Why the work failed: [`DeviceError::TooMuchMagic`], [`DeviceError::OutOfMemory`],
    /// [`DeviceError::StateBytes`], or [`DeviceError::Refused`] if
    /// columns are missing that the noise names. An interactive space is then as it was; a program's space stays
    /// failed.
    fn finish(&mut self, work: Self::Work) -> Result<SpaceStatus, DeviceError>;

    /// Value of an event in a finished shot; false if it was never written.
    fn outcome(&self, space: SpaceId, shot: u64, event: u32) -> bool {
        let mut bytes = Vec::new();
        self.outcomes(space, shot, 1, &mut bytes);
        bytes.get(event as usize / 8).is_some_and(|byte| byte >> (event % 8) & 1 == 1)
    }

    /// Appends the outcomes of `count` finished shots from `first` on, packed: `ceil(events / 8)` bytes for each shot,
    /// event 0 in the lowest bit. The caller asks for shots that are done only; other shots append nothing.
    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>);

    /// Closes a space: it and its outcomes and saved states are forgotten. Unknown ids are ignored. Returns work if the
    /// device must do more, which is finished like any other. Ids may be used again after that.
    ///
    /// Qubits of other spaces that were entangled with its qubits are left as if those had been measured and the
    /// outcomes lost.
    fn begin_close(&mut self, space: SpaceId) -> Option<Self::Work>;

    /// The interactive qubits of the device, if it has any.
    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = Self::Work>> {
        None
    }

    /// The saved states of the device, if it can copy states: if [`Features::snapshot`](crate::Features::snapshot) says
    /// so.
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots<Work = Self::Work>> {
        None
    }
}

//! The part of the contract for qubits that are operated one instruction at a time.

use crate::error::DeviceError;
use crate::space::SpaceId;
use qmk_abi::image::{Instr, Qubit};

/// A register of a space.
pub type Place = (SpaceId, Qubit);

/// A device whose spaces take instructions one at a time: those that were opened with the empty image.
///
/// Outcomes are read with [`Device::outcome`](crate::Device::outcome) as those of shot 0. An operation that is refused,
/// by the call that begins it or by [`Device::finish`](crate::Device::finish), has had no effect.
pub trait Interactive {
    /// [`Device::Work`](crate::Device::Work) of the same device.
    type Work;

    /// Begins one instruction. Registers and events come into being as they are named.
    ///
    /// Pauli operations, `Reset` and `Free` are not refused because of the state: with them the kernel takes a qubit
    /// out of a pair.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if there is no such interactive space, the instruction has a condition, an angle is not
    /// finite, or the space would get too large. [`DeviceError::Busy`] if the space, or one that shares its state, has
    /// work out. From `finish`: [`DeviceError::TooMuchMagic`], [`DeviceError::OutOfMemory`],
    /// [`DeviceError::StateBytes`].
    fn begin_perform(&mut self, space: SpaceId, instr: Instr) -> Result<Self::Work, DeviceError>;

    /// Begins to entangle two registers in use, of one space or of two: both are put in |0>, then in (|00> + |11>)/√2,
    /// then X, Y or Z acts on the second with the probabilities `errors`. Two spaces share one state from then on, but
    /// operations still name qubits by space and register.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if a register is not in use, both are the same, the errors are no probabilities, or the
    /// states together would get too large. [`DeviceError::Busy`] if one of the states has work out. From `finish`:
    /// [`DeviceError::TooMuchMagic`], [`DeviceError::OutOfMemory`],
    /// [`DeviceError::StateBytes`].
    fn begin_link(&mut self, a: Place, b: Place, errors: [f64; 3]) -> Result<Self::Work, DeviceError>;
}

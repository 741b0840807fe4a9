//! What refusals mean to the caller.

use crate::engine::refusal::Refusal;
use crate::ledger::Shortage;
use qmk_hal::DeviceError;

/// Most qubits of one state.
pub(crate) const MAX_QUBITS: usize = 1 << 14;

pub(super) fn no_space() -> DeviceError {
    DeviceError::Refused("no such space".into())
}

pub(super) fn not_interactive() -> DeviceError {
    DeviceError::Refused("not an interactive space".into())
}

pub(super) fn not_a_program() -> DeviceError {
    DeviceError::Refused("the space runs no program".into())
}

/// Why qubits that share a state cannot become more.
pub(crate) fn too_many_qubits() -> DeviceError {
    DeviceError::Refused(format!("a state holds {MAX_QUBITS} interactive qubits"))
}

/// The refusal of bytes of state.
pub(crate) fn short(Shortage { needed, left, limit, of_machine }: Shortage) -> DeviceError {
    DeviceError::StateBytes { needed, left, limit, of_machine }
}

/// The refusal of an operation by the engine, for a space with this limit of active qubits.
pub(crate) fn refused(at: u32, why: Refusal, limit: u32) -> DeviceError {
    match why {
        Refusal::TooManyActive { needed, at } => DeviceError::TooMuchMagic { at, needed, limit },
        Refusal::OutOfMemory { active, at } => DeviceError::OutOfMemory { at, active },
        Refusal::StateBytes { shortage, .. } => short(shortage),
        Refusal::Conditional => DeviceError::Refused(format!("instruction {at} cannot be conditional here")),
    }
}

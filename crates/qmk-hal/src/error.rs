//! Why a device refused work.

use alloc::string::String;

/// Why a device refused work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The operation would make more qubits active than the space may have.
    #[error(
        "instruction {at} would make the number of qubits that carry live magic at once {needed}, the limit is {limit}; \
         raise the limit or measure magic qubits earlier"
    )]
    TooMuchMagic {
        /// Instruction index.
        at: u32,
        /// Active qubits it would need.
        needed: u32,
        /// The limit.
        limit: u32,
    },
    /// There is no memory for the register that the operation needs.
    #[error(
        "instruction {at} makes {active} qubits carry live magic at once, for which there is not enough memory; \
         measure magic qubits earlier"
    )]
    OutOfMemory {
        /// Instruction index.
        at: u32,
        /// Active qubits it needs.
        active: u32,
    },
    /// No such space, or the space does not support the call.
    #[error("{0}")]
    Refused(String),
}

impl DeviceError {
    /// Instruction the error is about, if it is about one.
    pub fn instruction(&self) -> Option<u32> {
        match self {
            DeviceError::TooMuchMagic { at, .. } | DeviceError::OutOfMemory { at, .. } => Some(*at),
            DeviceError::Refused(_) => None,
        }
    }
}

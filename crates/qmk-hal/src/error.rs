//! Why a device refused a call, or why its work failed.

use alloc::string::String;
use core::fmt;

/// Why a device refused a call, or why its work failed.
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
    /// The states of the machine, or of the space's owner, would take more bytes than they may.
    #[error(
        "this takes {needed} bytes of quantum state more, and {left} are left of the {limit} that {} may have; \
         free qubits or checkpoints, or let jobs end", if *.of_machine { "the machine" } else { "one owner" }
    )]
    StateBytes {
        /// Bytes that it would take more.
        needed: u64,
        /// Bytes that are left.
        left: u64,
        /// Bytes of which these are left.
        limit: u64,
        /// Whether the limit is that of the machine; that of one owner otherwise.
        of_machine: bool,
    },
    /// Work of the space, or of a space that shares its state, is out.
    #[error("the space is at work")]
    Busy,
    /// The device does not have this part of the contract.
    #[error("this machine {0}")]
    Unsupported(Ability),
    /// No such space, or the call does not fit the space; the text says which.
    #[error("{0}")]
    Refused(String),
}

/// A part of the contract that a device may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// [`Interactive`](crate::Interactive).
    Interactive,
    /// [`Snapshots`](crate::Snapshots).
    Snapshots,
}

impl fmt::Display for Ability {
    /// In words that follow "this machine".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ability::Interactive => "has no qubits for interactive use",
            Ability::Snapshots => "cannot copy states",
        })
    }
}

impl DeviceError {
    /// Instruction the error is about, if it is about one.
    pub fn instruction(&self) -> Option<u32> {
        match self {
            DeviceError::TooMuchMagic { at, .. } | DeviceError::OutOfMemory { at, .. } => Some(*at),
            _ => None,
        }
    }
}

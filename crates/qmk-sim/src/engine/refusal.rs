//! Why the engine did not perform an operation.

use crate::ledger::Shortage;

/// Why an operation was not performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It would need this many active qubits, because of a rotation at this instruction.
    TooManyActive {
        /// Active qubits.
        needed: u32,
        /// Instruction.
        at: u32,
    },
    /// There is no memory for the register that a rotation at this instruction needs.
    OutOfMemory {
        /// Active qubits.
        active: u32,
        /// Instruction.
        at: u32,
    },
    /// The machine, or the owner of the state, has not as many bytes of state left as the register needs.
    StateBytes {
        /// What is missing.
        shortage: Shortage,
        /// Instruction.
        at: u32,
    },
    /// The operation cannot depend on a condition that differs between shots of one plan.
    Conditional,
}

impl Refusal {
    /// The same refusal, reported for the instruction that needed the rotation.
    pub(crate) fn on_behalf_of(self, at: u32) -> Self {
        match self {
            Refusal::TooManyActive { needed, .. } => Refusal::TooManyActive { needed, at },
            Refusal::OutOfMemory { active, .. } => Refusal::OutOfMemory { active, at },
            Refusal::StateBytes { shortage, .. } => Refusal::StateBytes { shortage, at },
            Refusal::Conditional => Refusal::Conditional,
        }
    }
}

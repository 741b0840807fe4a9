//! Why an image is not admitted.

use serde::{Deserialize, Serialize};

/// Why an image was not admitted. `at` is the index of the offending instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("instruction {at}: {kind}")]
pub struct ImageError {
    /// Instruction index.
    pub at: u32,
    /// What is wrong with it.
    pub kind: ImageErrorKind,
}

/// Kinds of [`ImageError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ImageErrorKind {
    /// Too many instructions, registers, events or condition terms.
    #[error("image exceeds the size limit")]
    TooLarge,
    /// A register index is not below `qubits`.
    #[error("qubit register out of range")]
    QubitRange,
    /// An event index is not below `events`.
    #[error("event register out of range")]
    EventRange,
    /// Two operands name one register, or two outputs one event.
    #[error("operand named twice")]
    Duplicate,
    /// A register is used before it is allocated or after it was freed.
    #[error("qubit register is not allocated")]
    NotAllocated,
    /// A register is allocated twice.
    #[error("qubit register is already allocated")]
    AlreadyAllocated,
    /// A condition reads an event that no earlier instruction writes.
    #[error("event is read before it is written")]
    ReadBeforeWrite,
    /// An event is written twice.
    #[error("event is written twice")]
    WrittenTwice,
    /// A condition is malformed: bad range, stack underflow, or not exactly one value left.
    #[error("malformed condition")]
    BadCondition,
    /// Alloc, Free and Fence cannot be conditional.
    #[error("operation cannot be conditional")]
    CannotBeConditional,
    /// An angle is NaN or infinite.
    #[error("angle is not finite")]
    BadAngle,
    /// The machine capability lacks the instruction's class.
    #[error("capability class missing")]
    Class,
    /// The instruction needs more than the machine ever has at once.
    #[error("the machine never has what the operation needs at once")]
    Unaffordable,
}

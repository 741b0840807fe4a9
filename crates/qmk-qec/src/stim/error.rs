//! Why a text is no circuit or detector error model.

use super::lex::SyntaxError;
use qmk_abi::image::Qubit;
use thiserror::Error;

/// Why a text is no circuit or detector error model.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum StimError {
    /// It is not made of lines and blocks.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// An instruction that makes no sense or is not supported.
    #[error("line {line}: {reason}")]
    Instruction {
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with the instruction.
        reason: InstructionError,
    },
}

/// What is wrong with an instruction.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum InstructionError {
    /// The instruction is unknown, or of the part of Stim that is not supported.
    #[error("instruction {0:?} is not supported")]
    Unsupported(String),
    /// A measurement with an inverted record.
    #[error("inverted targets are not supported")]
    Inverted,
    /// A wrong number of probabilities.
    #[error("{name} takes {wanted} probabilities")]
    ProbabilityCount {
        /// The instruction.
        name: String,
        /// The number of probabilities that it takes.
        wanted: usize,
    },
    /// Probabilities that are no distribution.
    #[error("probabilities of {0} are not between 0 and 1 together")]
    Probabilities(String),
    /// A target that is no number.
    #[error("{0:?} is not a qubit")]
    Qubit(String),
    /// A qubit of too large a number.
    #[error("qubit {qubit} is not below {limit}")]
    LargeQubit {
        /// The qubit, as it is written.
        qubit: String,
        /// The limit.
        limit: u32,
    },
    /// An odd number of targets of a two-qubit operation.
    #[error("two-qubit operations take qubits in pairs")]
    OddTargets,
    /// A two-qubit operation on one qubit.
    #[error("qubit {0} is paired with itself")]
    SelfPair(Qubit),
    /// A product of Paulis with a qubit twice.
    #[error("{0} names a qubit twice")]
    RepeatedQubit(String),
    /// A product of Paulis that cannot be measured.
    #[error("{0} is not a product of at most two equal Paulis")]
    Product(String),
    /// A target that is no record.
    #[error("{0:?} is not rec[-k]")]
    NotARecord(String),
    /// A record of a measurement that has not taken place.
    #[error("{target} names a record that is not there; there are {records}")]
    MissingRecord {
        /// The target, as it is written.
        target: String,
        /// The number of records so far.
        records: u32,
    },
    /// An observable out of range, in a circuit.
    #[error("the observable is not one of 0 to {0}")]
    ObservableIndex(u32),
    /// A target that is no observable, in a model.
    #[error("{target:?} is not one of L0 to L{last}")]
    Observable {
        /// The target, as it is written.
        target: String,
        /// The last observable that is possible.
        last: u32,
    },
    /// A target that is no detector.
    #[error("{0:?} is not D<number>")]
    NotADetector(String),
    /// A detector of too large a number.
    #[error("detector {detector} is not below {limit}")]
    LargeDetector {
        /// The detector, as it is written.
        detector: String,
        /// The limit.
        limit: u32,
    },
    /// A shift that is no number.
    #[error("{0:?} is not a number of detectors")]
    Shift(String),
    /// More than one shift.
    #[error("shift_detectors takes one number")]
    ShiftCount,
}

impl InstructionError {
    /// The error of a text whose line `line` has this instruction.
    pub(super) fn at(self, line: usize) -> StimError {
        StimError::Instruction { line, reason: self }
    }
}

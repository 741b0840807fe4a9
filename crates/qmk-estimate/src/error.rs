//! The error of this crate.

use std::fmt;

/// Why there is no estimate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EstimateError {
    /// The part of the request that is at fault.
    pub kind: ErrorKind,
    /// The sentence that a user reads: what is wrong, where, and what would be right.
    pub message: String,
}

/// The part of a request that is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The job parameters cannot be read, or a value is out of its range.
    Params,
    /// The logical counts cannot be read, are out of range, or hold nothing to estimate.
    Counts,
    /// No machine of this kind runs the program within its error budget and the constraints.
    NoSolution,
}

impl EstimateError {
    pub(crate) fn params(message: impl Into<String>) -> Self {
        EstimateError { kind: ErrorKind::Params, message: message.into() }
    }

    pub(crate) fn counts(message: impl Into<String>) -> Self {
        EstimateError { kind: ErrorKind::Counts, message: message.into() }
    }

    pub(crate) fn no_solution(message: impl Into<String>) -> Self {
        EstimateError { kind: ErrorKind::NoSolution, message: message.into() }
    }
}

impl fmt::Display for EstimateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EstimateError {}

pub(crate) type Result<T> = std::result::Result<T, EstimateError>;

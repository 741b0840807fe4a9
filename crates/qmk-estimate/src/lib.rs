//! What a program would take on a fault-tolerant machine: physical qubits, run time, code distance, T factories.
//!
//! The model is that of Beverland et al., "Assessing requirements to scale to practical quantum advantage"
//! (arXiv:2211.07629), as the Azure Quantum Resource Estimator has it: the same inputs give the same figures, under the
//! same names. A program's [`LogicalCounts`] come from [`program_counts`], or from elsewhere; [`JobParams`] say what the
//! machine is; [`estimate`] puts both together.
//!
//! ```
//! use qmk_estimate::{JobParams, LogicalCounts, estimate};
//! let counts = LogicalCounts { num_qubits: 100, t_count: 1_000_000, ..LogicalCounts::default() };
//! let params = JobParams::parse(r#"{"qubitParams": {"name": "qubit_gate_ns_e4"}}"#)?;
//! println!("{}", estimate(&counts, &params)?.table());
//! # Ok::<(), qmk_estimate::EstimateError>(())
//! ```
#![forbid(unsafe_code)]

mod counts;
mod factory;
mod formula;
mod params;
mod physical;
mod report;

pub use counts::{check_counts, image_counts, parse_counts, program_counts};
pub use params::JobParams;
pub use physical::estimate;
pub use qmk_abi::rpc::LogicalCounts;
pub use report::{Breakdown, ErrorBudget, Estimate, FormattedCounts, LogicalQubit, PhysicalCounts, TFactory};

use std::fmt;

/// Why there is no estimate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EstimateError {
    /// What is at fault.
    pub kind: ErrorKind,
    /// What is wrong, where, and what to do.
    pub message: String,
}

/// What is at fault where there is no estimate.
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
    fn params(message: impl Into<String>) -> Self {
        EstimateError { kind: ErrorKind::Params, message: message.into() }
    }

    fn counts(message: impl Into<String>) -> Self {
        EstimateError { kind: ErrorKind::Counts, message: message.into() }
    }

    fn no_solution(message: impl Into<String>) -> Self {
        EstimateError { kind: ErrorKind::NoSolution, message: message.into() }
    }
}

impl fmt::Display for EstimateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EstimateError {}

type Result<T> = std::result::Result<T, EstimateError>;

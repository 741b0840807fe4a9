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
mod error;
mod factory;
mod formula;
mod params;
mod physical;
mod report;

pub use counts::{check_counts, image_counts, parse_counts, program_counts};
pub use error::{ErrorKind, EstimateError};
pub use params::JobParams;
pub use physical::estimate;
pub use qmk_abi::rpc::LogicalCounts;
pub use report::{Breakdown, ErrorBudget, Estimate, FormattedCounts, LogicalQubit, PhysicalCounts, TFactory};

//! Estimates the physical resources of a program on a fault-tolerant machine: qubits, run time, code distance, T
//! factories.
//!
//! The model is that of Beverland et al., "Assessing requirements to scale to practical quantum advantage"
//! (arXiv:2211.07629), as the Azure Quantum Resource Estimator has it: the same inputs give the same figures, under the
//! same names. The [`LogicalCounts`] of a program come from [`program_counts`] or from JSON. [`JobParams`] describe the
//! machine. [`estimate`] finds the smallest machine of this kind that runs the program, and reports it.
//!
//! ```
//! use qmk_estimate::{JobParams, LogicalCounts, estimate};
//! let counts = LogicalCounts { num_qubits: 100, t_count: 1_000_000, ..LogicalCounts::default() };
//! let params = JobParams::parse(r#"{"qubitParams": {"name": "qubit_gate_ns_e4"}}"#)?;
//! let report = estimate(&counts, &params)?;
//! assert_eq!(report.logical_qubit.code_distance, 11);
//! println!("{}", report.table());
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

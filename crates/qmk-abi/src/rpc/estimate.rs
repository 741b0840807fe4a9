//! `qmk_estimate`: the physical resources of a program.

use super::job::Format;
use alloc::{collections::BTreeMap, string::String};
use serde::{Deserialize, Serialize};

/// What a program asks of a fault-tolerant machine, whatever its qubits are. The names are those of the Azure Quantum
/// Resource Estimator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogicalCounts {
    /// Logical qubits, most at once.
    pub num_qubits: u64,
    /// T gates, each of one T state.
    #[serde(default)]
    pub t_count: u64,
    /// Rotations by other angles than those of Clifford and T gates.
    #[serde(default)]
    pub rotation_count: u64,
    /// Layers of operations outside the Clifford group that hold such a rotation.
    #[serde(default)]
    pub rotation_depth: u64,
    /// CCZ and Toffoli gates.
    #[serde(default)]
    pub ccz_count: u64,
    /// CCiX gates.
    #[serde(default)]
    pub ccix_count: u64,
    /// Measurements.
    #[serde(default)]
    pub measurement_count: u64,
}

/// Parameters of `qmk_estimate`: a program or logical counts. On the JSON wire `graph` (an object) may stand for
/// `source`, and `job_params` is an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EstimateRequest {
    /// Session id.
    pub session_id: String,
    /// Program text.
    #[serde(default)]
    pub source: Option<String>,
    /// Language of `source`.
    #[serde(default)]
    pub format: Format,
    /// Values for the program's `.param` directives.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Logical counts, instead of a program.
    #[serde(default)]
    pub counts: Option<LogicalCounts>,
    /// Job parameters of the estimator, as JSON text; empty for all defaults.
    #[serde(default)]
    pub job_params: String,
}

/// Result of `qmk_estimate`. On the JSON wire the report itself is the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimated {
    /// The report, as JSON text with the names of the Azure Quantum Resource Estimator.
    pub report: String,
}

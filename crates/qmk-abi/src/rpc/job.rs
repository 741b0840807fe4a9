//! Jobs: how programs are run, and their results.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Parameters that name a job of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRef {
    /// Session id.
    pub session_id: String,
    /// Job id.
    pub job_id: String,
}

/// Parameters of `qmk_job_wait`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobWait {
    /// Session id.
    pub session_id: String,
    /// Job id.
    pub job_id: String,
    /// Give up after this long; `None` waits for ever.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// Text form of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// QVM graph as JSON.
    #[default]
    Json,
    /// QVM assembly.
    #[serde(alias = "qvm")]
    Asm,
}

/// Parameters of `qmk_job_submit`. On the JSON wire `graph` (an object) may stand for `source`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSubmit {
    /// Session id.
    pub session_id: String,
    /// Program text.
    pub source: String,
    /// Language of `source`.
    #[serde(default)]
    pub format: Format,
    /// How to run it.
    #[serde(default)]
    pub policy: Policy,
}

/// How to run a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Higher runs first among the tenant's own jobs.
    pub priority: i32,
    /// Latest end, in epochs after submission.
    pub deadline_epochs: Option<u64>,
    /// Seed of all randomness.
    pub seed: u64,
    /// Number of shots.
    pub shots: u64,
    /// Noise level: `ideal`, `logical` or `physical`.
    pub noise: String,
    /// Keep debugging detail.
    pub debug: bool,
    /// Profile for qubits whose allocation names none.
    pub profile: Option<String>,
    /// Values for the program's `.param` directives.
    pub params: BTreeMap<String, String>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            priority: 0,
            deadline_epochs: None,
            seed: 0,
            shots: 1,
            noise: "ideal".into(),
            debug: false,
            profile: None,
            params: BTreeMap::new(),
        }
    }
}

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobState {
    /// Waiting for resources.
    Queued,
    /// Being checked.
    Validating,
    /// Running.
    Running,
    /// Ended with a result.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended by request.
    Cancelled,
}

impl JobState {
    /// Whether the job will not change any more.
    pub fn ended(self) -> bool {
        matches!(self, JobState::Completed | JobState::Failed | JobState::Cancelled)
    }

    /// Name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Queued => "QUEUED",
            JobState::Validating => "VALIDATING",
            JobState::Running => "RUNNING",
            JobState::Completed => "COMPLETED",
            JobState::Failed => "FAILED",
            JobState::Cancelled => "CANCELLED",
        }
    }
}

/// Result of `qmk_job_submit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// Job id.
    pub job_id: String,
    /// State on return.
    pub state: JobState,
    /// Epochs of the program's critical path, all shots.
    pub estimated_epochs: u64,
}

/// Progress of a job. Node counts are of kernel instructions, all shots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs run.
    pub current_epoch: u64,
    /// Epochs expected.
    pub total_epochs: u64,
    /// Instructions executed; where the errors of all shots are sampled before the first is run, their share of the
    /// work.
    pub nodes_executed: u64,
    /// Instructions in all.
    pub nodes_total: u64,
}

/// Result of `qmk_job_status` and `qmk_job_wait`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Job id.
    pub job_id: String,
    /// State.
    pub state: JobState,
    /// Progress.
    pub progress: Progress,
    /// Events of the last shot, once completed (a Bell index is 0 to 3).
    pub events: Option<BTreeMap<String, u8>>,
    /// Execution figures, once completed.
    pub telemetry: Option<Telemetry>,
    /// Why the job failed.
    pub error: Option<String>,
}

/// Epochs of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epochs {
    /// One shot.
    pub per_shot: u64,
    /// All shots.
    pub total: u64,
}

/// Result of `qmk_job_result`; also the `--json` output of `qmk run`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Number of shots.
    pub shots: u64,
    /// Seed.
    pub seed: u64,
    /// Event names in declared order.
    pub events: Vec<String>,
    /// Occurrences per outcome string: one character per event in order, two for a Bell index.
    pub counts: BTreeMap<String, u64>,
    /// Logical cycles.
    pub epochs: Epochs,
    /// Time of one shot on the modelled machine, in microseconds.
    pub logical_time_us: f64,
    /// Physical qubits of the modelled machine.
    pub physical_qubits: u64,
    /// Magic states consumed by one shot.
    pub t_states: u64,
    /// Probability that one shot suffers a logical error.
    pub logical_error_probability: f64,
    /// Largest number of qubits that carried live magic at once.
    pub peak_active_qubits: u32,
    /// Time the run took here, in milliseconds.
    pub wall_ms: f64,
    /// Things worth knowing, such as qubits freed implicitly.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Result of `qmk_job_result`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// Job id.
    pub job_id: String,
    /// Event values of the last shot.
    pub last_shot: BTreeMap<String, u8>,
    /// The figures of `qmk run`.
    pub report: RunReport,
}

/// Result of `qmk_job_cancel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cancelled {
    /// Job id.
    pub job_id: String,
    /// State after the call.
    pub state: JobState,
    /// Machine epoch at which it was cancelled.
    pub cancelled_at_epoch: u64,
}

/// Result of `q_get_telemetry` with a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Epochs, all shots.
    pub total_epochs: u64,
    /// Gates, all shots.
    pub total_gates: u64,
    /// Physical qubits of the modelled machine.
    pub physical_qubits_used: u64,
    /// Decoder cycles, all shots.
    pub decoder_cycles: u64,
    /// Time the job took here, in milliseconds.
    pub execution_time_ms: f64,
}

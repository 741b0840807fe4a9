//! The session protocol: typed requests and replies between clients and services. The binary wire form
//! carries [`Request`] and `Result<Reply, RpcError>` as postcard frames; the JSON-RPC form uses the
//! method name as in [`Request::method`], the variant's struct as `params`, and the reply's inner struct as `result`.

mod estimate;
pub mod interactive;
mod watch;

use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};
pub use estimate::*;
use serde::{Deserialize, Serialize};
pub use watch::*;

/// Somewhere a request can be sent: a socket, or a machine in the same process.
pub trait Endpoint: Send + Sync {
    /// Performs one request; [`Request::JobWait`] blocks.
    fn call(&self, request: Request) -> Result<Reply, RpcError>;

    /// Does what was put off until replies are sent. Who forwards requests calls it when it has sent the replies.
    fn settle(&self) {}

    /// Whether the other end may act for a tenant, by its user or by what it has shown so far.
    fn known(&self) -> bool {
        true
    }
}

/// A request under the session protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Opens a session.
    SessionCreate(SessionCreate),
    /// Closes a session; its jobs are cancelled and its qubits freed.
    SessionClose(SessionRef),
    /// Submits a program.
    JobSubmit(JobSubmit),
    /// Asks how far a job is.
    JobStatus(JobRef),
    /// Waits for a job to end.
    JobWait(JobWait),
    /// Fetches the result of a finished job.
    JobResult(JobRef),
    /// Cancels a job.
    JobCancel(JobRef),
    /// Machine inventory and the tenant's usage.
    ResourceQuery(SessionRef),
    /// Execution figures of one job.
    Telemetry(JobRef),
    /// Shows a token, which the connection acts under from then on.
    Authenticate(Authenticate),
    /// The signed head of the audit log.
    AuditHead(AuditQuery),
    /// An entry of the audit log, with its proof.
    AuditProve(AuditProve),
    /// Qubits one by one, channels, checkpoints.
    Interactive(interactive::Call),
    /// Lists the jobs of the session's tenant.
    JobList(SessionRef),
    /// Figures of the whole machine.
    MachineStats(SessionRef),
    /// Physical resources of a program.
    Estimate(EstimateRequest),
}

impl Request {
    /// JSON-RPC method name of the request.
    pub fn method(&self) -> &'static str {
        match self {
            Request::SessionCreate(_) => "qmk_session_create",
            Request::SessionClose(_) => "qmk_session_close",
            Request::JobSubmit(_) => "qmk_job_submit",
            Request::JobStatus(_) => "qmk_job_status",
            Request::JobWait(_) => "qmk_job_wait",
            Request::JobResult(_) => "qmk_job_result",
            Request::JobCancel(_) => "qmk_job_cancel",
            Request::ResourceQuery(_) => "qmk_resource_query",
            Request::Telemetry(_) => "q_get_telemetry",
            Request::Authenticate(_) => "qmk_authenticate",
            Request::AuditHead(_) => "qmk_audit_head",
            Request::AuditProve(_) => "qmk_audit_prove",
            Request::Interactive(call) => call.method(),
            Request::JobList(_) => "qmk_job_list",
            Request::MachineStats(_) => "qmk_machine_stats",
            Request::Estimate(_) => "qmk_estimate",
        }
    }
}

impl Request {
    /// The session a request names.
    pub fn session(&self) -> Option<&str> {
        match self {
            Request::SessionCreate(_) | Request::Authenticate(_) | Request::AuditHead(_) => None,
            Request::AuditProve(p) => Some(&p.session_id),
            Request::SessionClose(p) | Request::ResourceQuery(p) => Some(&p.session_id),
            Request::JobList(p) | Request::MachineStats(p) => Some(&p.session_id),
            Request::JobSubmit(p) => Some(&p.session_id),
            Request::Estimate(p) => Some(&p.session_id),
            Request::JobWait(p) => Some(&p.session_id),
            Request::Interactive(call) => Some(call.session()),
            Request::JobStatus(p) | Request::JobResult(p) | Request::JobCancel(p) | Request::Telemetry(p) => {
                Some(&p.session_id)
            }
        }
    }
}

/// Reply to a successful [`Request`], variant by variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// To `SessionCreate`.
    Session(SessionInfo),
    /// To `SessionClose`.
    Closed(Closed),
    /// To `JobSubmit`.
    Submitted(Submitted),
    /// To `JobStatus` and `JobWait`.
    Status(JobStatus),
    /// To `JobResult`.
    Result(Arc<JobResult>),
    /// To `JobCancel`.
    Cancelled(Cancelled),
    /// To `ResourceQuery`.
    Resources(Resources),
    /// To `Telemetry`.
    Telemetry(Telemetry),
    /// To `Authenticate`.
    Authenticated(Authenticated),
    /// To `AuditHead`.
    AuditHead(AuditHead),
    /// To `AuditProve`.
    AuditProof(AuditProof),
    /// To `Interactive`.
    Interactive(interactive::Answer),
    /// To `JobList`.
    Jobs(JobList),
    /// To `MachineStats`.
    Machine(MachineStats),
    /// To `Estimate`.
    Estimate(Estimated),
}

/// Parameters of `qmk_session_create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionCreate {
    /// Capability names asked for, as in [`crate::Rights::CLASS_NAMES`].
    #[serde(default, alias = "capabilities")]
    pub requested: Vec<String>,
    /// Tenant to act for; if absent, the token's or the caller's own.
    #[serde(default)]
    pub tenant_id: Option<String>,
    /// Token that says for whom, and what at most; if absent, the one that the connection has shown.
    #[serde(default)]
    pub token: Option<String>,
    /// Keep the session when the connection that opened it closes. Otherwise a session that was used
    /// again on that connection ends with it.
    #[serde(default)]
    pub detached: bool,
    /// Only look: the session holds no capabilities, ends with its connection, and is not recorded.
    #[serde(default)]
    pub observer: bool,
}

/// Parameters of `qmk_authenticate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Authenticate {
    /// Token, as `qmk token issue` prints it.
    pub token: String,
}

/// Result of `qmk_authenticate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authenticated {
    /// Tenant that the connection now acts for.
    pub tenant_id: String,
    /// Id of the token, to revoke it by.
    pub token_id: String,
    /// Capabilities of sessions that it opens, at most.
    pub capabilities: Vec<String>,
    /// When the token expires, in Unix seconds.
    pub expires: u64,
}

/// Parameters that name a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRef {
    /// Session id.
    pub session_id: String,
}

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

/// Result of `qmk_session_create`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Session id.
    pub session_id: String,
    /// Capabilities the session holds.
    pub granted: Vec<String>,
    /// Capabilities asked for and refused.
    pub denied: Vec<String>,
    /// Limits of the tenant.
    pub quota: QuotaInfo,
}

/// Limits of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaInfo {
    /// Logical qubits live at once.
    pub max_logical_qubits: u64,
    /// Physical qubits live at once.
    pub max_physical_qubits: u64,
    /// Open channels between qubits of their own: two logical qubits each.
    pub max_channels: u64,
    /// Unfinished jobs.
    pub max_jobs: u64,
}

/// Result of `qmk_session_close`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Always true.
    pub closed: bool,
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
    /// Instructions executed; where the errors of all shots are sampled before the first is run, their share of the work.
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

/// Result of `qmk_resource_query`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// The machine.
    pub machine: MachineInfo,
    /// The tenant's current use.
    pub usage: Usage,
    /// The tenant's limits.
    pub quota: QuotaInfo,
}

/// The whole machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// Logical qubits the machine has.
    pub logical_qubits: u64,
    /// Logical qubits not in use by anyone.
    pub logical_qubits_free: u64,
    /// Current epoch.
    pub epoch: u64,
    /// Length of an epoch in microseconds.
    pub epoch_us: f64,
}

/// What a tenant uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Logical qubits.
    pub logical_qubits: u64,
    /// Unfinished jobs.
    pub jobs: u64,
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

/// Parameters of `qmk_audit_head`: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditQuery {}

/// Parameters of `qmk_audit_prove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditProve {
    /// Session id. Its tenant sees its own entries.
    pub session_id: String,
    /// Position of the entry in the log.
    pub index: u64,
}

/// Result of `qmk_audit_head`: a promise, signed with Ed25519, of the entries before it. What is signed is the text
/// of three lines, each ended by a newline, of the origin, the size in decimal and the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Name of the log, made from its key.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root of their Merkle tree (RFC 9162), in base64.
    pub root: String,
    /// Signature, in base64.
    pub signature: String,
    /// The key that verifies it, as a C2SP signed-note verifier key.
    pub key: String,
}

/// Result of `qmk_audit_prove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditProof {
    /// Position of the entry in the log.
    pub index: u64,
    /// The entry's bytes, in base64.
    pub entry: String,
    /// Inclusion proof in the head's tree (RFC 9162, section 2.1.3), in base64.
    pub path: Vec<String>,
    /// The head.
    pub head: AuditHead,
}

/// A refused request. Codes are those of JSON-RPC 2.0 and of the QMK protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// What kind of error.
    pub code: ErrorCode,
    /// What was wrong, where, and what to do about it.
    pub message: String,
    /// Capabilities required, for `InsufficientCaps`.
    pub required: Vec<String>,
    /// Capabilities missing, for `InsufficientCaps`.
    pub missing: Vec<String>,
    /// Verifier findings, for `InvalidGraph`.
    pub findings: Vec<Finding>,
    /// When to try again, for a refusal that time alone mends.
    pub retry_after_ms: Option<u64>,
}

impl RpcError {
    /// An error with a code and message only.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let (required, missing, findings) = (Vec::new(), Vec::new(), Vec::new());
        RpcError { code, message: message.into(), required, missing, findings, retry_after_ms: None }
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal,)*) => {
        /// Error codes of the session protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }
        impl ErrorCode {
            /// JSON-RPC error code.
            pub fn code(self) -> i32 { match self { $(ErrorCode::$name => $code,)* } }
            /// Protocol name, such as `INVALID_GRAPH`.
            pub fn name(self) -> &'static str { match self { $(ErrorCode::$name => $text,)* } }
            /// The code with this JSON-RPC number.
            pub fn from_code(code: i32) -> Option<Self> { match code { $($code => Some(ErrorCode::$name),)* _ => None } }
        }
    };
}
error_codes! {
    /// Not JSON.
    Parse = -32700 "PARSE_ERROR",
    /// Not a request object.
    InvalidRequest = -32600 "INVALID_REQUEST",
    /// No such method.
    MethodNotFound = -32601 "METHOD_NOT_FOUND",
    /// Wrong parameters.
    InvalidParams = -32602 "INVALID_PARAMS",
    /// The service failed.
    Internal = -32603 "INTERNAL_ERROR",
    /// The session lacks a capability.
    InsufficientCaps = -32001 "INSUFFICIENT_CAPS",
    /// Who the caller says it is was not accepted.
    AuthFailed = -32100 "AUTH_FAILED",
    /// The tenant may not act at present.
    TenantSuspended = -32101 "TENANT_SUSPENDED",
    /// No such session, or not the caller's.
    SessionNotFound = -32102 "SESSION_NOT_FOUND",
    /// The program has findings.
    InvalidGraph = -32200 "INVALID_GRAPH",
    /// The tenant's limit would be exceeded.
    QuotaExceeded = -32201 "QUOTA_EXCEEDED",
    /// The machine cannot hold the program.
    ResourceExhausted = -32202 "RESOURCE_EXHAUSTED",
    /// No such job, or not the caller's.
    JobNotFound = -32300 "JOB_NOT_FOUND",
    /// The session may not do this.
    AccessDenied = -32301 "ACCESS_DENIED",
    /// The wait ended before the job.
    Timeout = -32302 "TIMEOUT",
    /// The job has already ended.
    AlreadyCompleted = -32303 "ALREADY_COMPLETED",
    /// No such checkpoint.
    NoCheckpoint = -32400 "NO_CHECKPOINT",
    /// The fidelity asked for cannot be reached.
    FidelityUnavailable = -32500 "FIDELITY_UNAVAILABLE",
    /// No such channel, or not the caller's.
    ChannelNotFound = -32501 "CHANNEL_NOT_FOUND",
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The program cannot run.
    Error,
    /// The program runs, but look at this.
    Warning,
}

/// One finding of the verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Finding class, such as `E-LINEAR`.
    pub code: String,
    /// Severity.
    pub severity: Severity,
    /// Node the finding is about.
    pub node: Option<String>,
    /// Line of the source, from 1.
    pub line: Option<u32>,
    /// What is wrong and what to do.
    pub message: String,
}

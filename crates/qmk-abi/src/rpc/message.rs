//! Requests, replies, and whatever answers them.

use super::audit::{AuditHead, AuditProof, AuditProve, AuditQuery};
use super::error::RpcError;
use super::estimate::{EstimateRequest, Estimated};
use super::interactive;
use super::job::{Cancelled, JobRef, JobResult, JobStatus, JobSubmit, JobWait, Submitted, Telemetry};
use super::session::{
    Authenticate, Authenticated, Closed, Resources, SessionCreate, SessionCreateV1, SessionInfo, SessionRef,
};
use super::watch::{JobList, MachineStats};
use alloc::sync::Arc;
use serde::{Deserialize, Serialize};

/// File name of the socket that a server listens on by default, in `$XDG_RUNTIME_DIR`.
pub const SOCKET_NAME: &str = "qmk.sock";
/// Directory of that socket where `$XDG_RUNTIME_DIR` is not set.
pub const SOCKET_DIR: &str = "/tmp";

/// Somewhere a request can be sent: a socket, or a machine in the same process.
pub trait Endpoint: Send + Sync {
    /// Performs one request. [`Request::JobWait`] blocks.
    ///
    /// # Errors
    /// The refusal, or `INTERNAL_ERROR` where the connection fails or the machine has stopped.
    fn call(&self, request: Request) -> Result<Reply, RpcError>;

    /// Does work that was put off until replies are sent. A server calls it when it has sent them.
    fn settle(&self) {}

    /// Whether the caller may act for a tenant, by its user or by a token that it has shown.
    fn is_authenticated(&self) -> bool {
        true
    }
}

/// A request under the session protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Opens a session, as older binary frames ask for it. See [`Request::current`].
    SessionCreateV1(SessionCreateV1),
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
    /// Opens a session.
    SessionCreate(SessionCreate),
}

impl Request {
    /// The same request in today's form. A variant never changes its place or its fields, since binary frames number
    /// them; an old form keeps its meaning here.
    pub fn current(self) -> Self {
        match self {
            Request::SessionCreateV1(old) => Request::SessionCreate(old.into()),
            request => request,
        }
    }

    /// JSON-RPC method name of the request.
    pub fn method(&self) -> &'static str {
        match self {
            Request::SessionCreate(_) | Request::SessionCreateV1(_) => "qmk_session_create",
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
            Request::SessionCreate(_) | Request::SessionCreateV1(_) => None,
            Request::Authenticate(_) | Request::AuditHead(_) => None,
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

//! Blocking client for a QMK machine: over its Unix socket with [`Client::connect`], or of a machine in the same process
//! with [`Client::over`], through the same trait, [`qmk_abi::rpc::Endpoint`]. Start at [`Client`]; a [`Session`] submits
//! programs and holds qubits, a [`Job`] is waited for.
//!
//! ```
//! # fn main() -> Result<(), qmk_client::ClientError> {
//! use qmk_client::{Client, Policy, Program};
//! use qmk_services::{Machine, MachineConfig};
//! use qmk_sim::SimDevice;
//!
//! // Of a server: `Client::connect("/tmp/qmk.sock")?`.
//! let machine = Machine::start(SimDevice::default(), MachineConfig::default());
//! let client = Client::over(machine.connect());
//! let session = client.session(&[])?;
//! let bell = Program::asm("ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_CNOT a, b\nMEASURE_Z a -> x\nMEASURE_Z b -> y");
//! let result = session.run(&bell, Policy { shots: 100, ..Policy::default() })?;
//! println!("{:?}", result.report.counts);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod builder;
mod interactive;
mod socket;

pub use builder::SessionBuilder;
pub use qmk_abi::Rights as Cap;
pub use qmk_abi::rpc::interactive::{Applied, ChannelInfo, ChannelState, CheckpointInfo, Mapping, Released, Replayed};
pub use qmk_abi::rpc::{
    Endpoint, ErrorCode, Format, JobResult, JobStatus, LogicalCounts, Policy, Resources, RpcError, SessionInfo,
};

pub use qmk_abi::rpc::SessionCreate;
use qmk_abi::rpc::{EstimateRequest, JobList, JobRef, JobSubmit, JobWait, MachineStats, Reply, Request, SessionRef};
use qmk_abi::rpc::{SOCKET_DIR, SOCKET_NAME};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Default socket: `$XDG_RUNTIME_DIR/qmk.sock`, else `/tmp/qmk.sock`.
pub fn default_socket() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| SOCKET_DIR.into(), PathBuf::from).join(SOCKET_NAME)
}

/// Errors of a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The machine refused the request.
    #[error("{0}")]
    Rpc(#[from] RpcError),
    /// The connection failed.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    /// The other side does not speak the protocol.
    #[error("protocol: {0}")]
    Protocol(String),
}

impl ClientError {
    /// The machine's error code, if it was the machine that refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Rpc(e) => Some(e.code),
            _ => None,
        }
    }
}

/// A program text.
#[derive(Clone, Debug)]
pub struct Program {
    /// Text.
    pub source: String,
    /// Its language.
    pub format: Format,
}

impl Program {
    /// QVM assembly.
    pub fn asm(source: impl Into<String>) -> Self {
        Program { source: source.into(), format: Format::Asm }
    }

    /// A QVM graph in JSON.
    pub fn json(source: impl Into<String>) -> Self {
        Program { source: source.into(), format: Format::Json }
    }
}

/// A connection to a machine.
#[derive(Clone)]
pub struct Client {
    endpoint: Arc<dyn Endpoint>,
    patience: Duration,
}

impl Client {
    /// Connects to a server's socket: `PATH` or `unix:PATH`.
    ///
    /// # Errors
    /// If nothing listens there.
    pub fn connect(path: &str) -> Result<Client, ClientError> {
        Ok(Client::over(socket::Socket::connect(path.strip_prefix("unix:").unwrap_or(path))?))
    }

    /// A client of any endpoint, such as a machine in the same process.
    pub fn over(endpoint: impl Endpoint + 'static) -> Client {
        Client { endpoint: Arc::new(endpoint), patience: Duration::ZERO }
    }

    /// A client that asks again for so long where the machine answers that it was asked too often.
    pub fn patient(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self
    }

    /// Performs a raw request.
    ///
    /// # Errors
    /// The refusal of the machine, or a failure of the connection.
    pub fn call(&self, request: Request) -> Result<Reply, ClientError> {
        if self.patience.is_zero() {
            return Ok(self.endpoint.call(request)?);
        }
        let start = Instant::now();
        loop {
            match self.endpoint.call(request.clone()) {
                Err(RpcError { retry_after_ms: Some(ms), .. })
                    if start.elapsed() + Duration::from_millis(ms) <= self.patience =>
                {
                    std::thread::sleep(Duration::from_millis(ms));
                }
                done => return Ok(done?),
            }
        }
    }

    /// Opens a session that only looks: it holds no capabilities, and the machine does not record it.
    ///
    /// # Errors
    /// If the tenant may not.
    pub fn observe(&self, tenant_id: Option<&str>) -> Result<Session, ClientError> {
        let tenant_id = tenant_id.map(String::from);
        self.session_with(SessionCreate { tenant_id, observer: true, ..SessionCreate::default() })
    }

    /// Opens a session with these capabilities; none means all the tenant has.
    ///
    /// # Errors
    /// If the tenant may not.
    pub fn session(&self, caps: &[Cap]) -> Result<Session, ClientError> {
        let requested = caps.iter().flat_map(|c| c.class_names()).collect();
        self.session_with(SessionCreate { requested, ..SessionCreate::default() })
    }

    /// Opens a session.
    ///
    /// # Errors
    /// If the tenant may not.
    pub fn session_with(&self, params: SessionCreate) -> Result<Session, ClientError> {
        let close_on_drop = !params.detached;
        match self.call(Request::SessionCreate(params))? {
            Reply::Session(info) => Ok(Session { client: self.clone(), info, close_on_drop }),
            other => unexpected(other),
        }
    }
}

fn unexpected<T>(reply: Reply) -> Result<T, ClientError> {
    Err(ClientError::Protocol(format!("unexpected reply {reply:?}")))
}

/// An open session; closed when dropped, unless it is detached.
pub struct Session {
    client: Client,
    info: SessionInfo,
    close_on_drop: bool,
}

impl Session {
    /// Id, granted and denied capabilities, quota.
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// Submits a program.
    ///
    /// # Errors
    /// Findings, missing capabilities, quotas.
    pub fn submit(&self, program: &Program, policy: Policy) -> Result<Job, ClientError> {
        let submit = JobSubmit {
            session_id: self.info.session_id.clone(),
            source: program.source.clone(),
            format: program.format,
            policy,
        };
        match self.client.call(Request::JobSubmit(submit))? {
            Reply::Submitted(s) => {
                let reference = JobRef { session_id: self.info.session_id.clone(), job_id: s.job_id };
                Ok(Job { client: self.client.clone(), reference, estimated_epochs: s.estimated_epochs })
            }
            other => unexpected(other),
        }
    }

    /// Submits a program and waits for its result.
    ///
    /// # Errors
    /// As [`Session::submit`] and [`Job::wait`].
    pub fn run(&self, program: &Program, policy: Policy) -> Result<JobResult, ClientError> {
        self.submit(program, policy)?.wait(None)
    }

    /// Physical resources of a program on a machine that `job_params` describe: JSON under the names of the Azure Quantum
    /// Resource Estimator, as is the report; empty for all defaults. `params` are values for `.param` directives.
    ///
    /// # Errors
    /// Findings, parameters out of range, constraints that no machine keeps.
    pub fn estimate(
        &self,
        program: &Program,
        params: BTreeMap<String, String>,
        job_params: &str,
    ) -> Result<String, ClientError> {
        let (source, format) = (Some(program.source.clone()), program.format);
        self.request_estimate(EstimateRequest { source, format, params, ..self.estimate_with(job_params) })
    }

    /// As [`Session::estimate`], of logical counts.
    ///
    /// # Errors
    /// As there.
    pub fn estimate_counts(&self, counts: LogicalCounts, job_params: &str) -> Result<String, ClientError> {
        self.request_estimate(EstimateRequest { counts: Some(counts), ..self.estimate_with(job_params) })
    }

    fn estimate_with(&self, job_params: &str) -> EstimateRequest {
        let (session_id, job_params) = (self.info.session_id.clone(), job_params.into());
        EstimateRequest { session_id, job_params, ..EstimateRequest::default() }
    }

    fn request_estimate(&self, request: EstimateRequest) -> Result<String, ClientError> {
        match self.client.call(Request::Estimate(request))? {
            Reply::Estimate(r) => Ok(r.report),
            other => unexpected(other),
        }
    }

    /// Machine inventory and the tenant's usage.
    ///
    /// # Errors
    /// If the session is closed.
    pub fn resources(&self) -> Result<Resources, ClientError> {
        match self.client.call(Request::ResourceQuery(SessionRef { session_id: self.info.session_id.clone() }))? {
            Reply::Resources(r) => Ok(r),
            other => unexpected(other),
        }
    }

    /// Jobs of all sessions of the tenant.
    ///
    /// # Errors
    /// If the session is closed.
    pub fn jobs(&self) -> Result<JobList, ClientError> {
        match self.client.call(Request::JobList(SessionRef { session_id: self.info.session_id.clone() }))? {
            Reply::Jobs(r) => Ok(r),
            other => unexpected(other),
        }
    }

    /// Figures of the whole machine.
    ///
    /// # Errors
    /// `ACCESS_DENIED` for sessions that may see their own tenant only.
    pub fn machine_stats(&self) -> Result<MachineStats, ClientError> {
        match self.client.call(Request::MachineStats(SessionRef { session_id: self.info.session_id.clone() }))? {
            Reply::Machine(r) => Ok(r),
            other => unexpected(other),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.close_on_drop {
            // The server closes it with the connection anyway.
            let _ = self.client.call(Request::SessionClose(SessionRef { session_id: self.info.session_id.clone() }));
        }
    }
}

/// A submitted job.
pub struct Job {
    client: Client,
    reference: JobRef,
    /// Lower bound on its epochs, all shots.
    pub estimated_epochs: u64,
}

impl Job {
    /// A job of an open session, by id.
    pub fn attach(client: &Client, reference: JobRef) -> Job {
        Job { client: client.clone(), reference, estimated_epochs: 0 }
    }

    /// The ids.
    pub fn reference(&self) -> &JobRef {
        &self.reference
    }

    /// How far it is.
    ///
    /// # Errors
    /// If the job or session is gone.
    pub fn status(&self) -> Result<JobStatus, ClientError> {
        match self.client.call(Request::JobStatus(self.reference.clone()))? {
            Reply::Status(s) => Ok(s),
            other => unexpected(other),
        }
    }

    /// Waits until it has ended and fetches the result. Waits in slices, so that other threads can use the same
    /// connection meanwhile.
    ///
    /// # Errors
    /// `TIMEOUT`, or why the job failed.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<JobResult, ClientError> {
        let start = Instant::now();
        loop {
            let left = timeout.map_or(Duration::from_millis(100), |t| t.saturating_sub(start.elapsed()));
            let slice = left.min(Duration::from_millis(100)).as_millis() as u64;
            let JobRef { session_id, job_id } = self.reference.clone();
            match self.client.call(Request::JobWait(JobWait { session_id, job_id, timeout_ms: Some(slice) })) {
                Ok(_) => return self.result(),
                Err(e) if e.code() == Some(ErrorCode::Timeout) => {
                    // The machine knows of the slice only.
                    if let Some(t) = timeout.filter(|t| start.elapsed() >= *t) {
                        return Err(self.timed_out(t));
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The error of a wait that was too short.
    pub fn timed_out(&self, after: Duration) -> ClientError {
        let message = format!("{} has not ended after {} ms", self.reference.job_id, after.as_millis());
        RpcError::new(ErrorCode::Timeout, message).into()
    }

    /// The result of a completed job.
    ///
    /// # Errors
    /// If it has not completed.
    pub fn result(&self) -> Result<JobResult, ClientError> {
        match self.client.call(Request::JobResult(self.reference.clone()))? {
            Reply::Result(r) => Ok(Arc::unwrap_or_clone(r)),
            other => unexpected(other),
        }
    }

    /// Cancels it.
    ///
    /// # Errors
    /// `ALREADY_COMPLETED`.
    pub fn cancel(&self) -> Result<(), ClientError> {
        self.client.call(Request::JobCancel(self.reference.clone())).map(drop)
    }
}

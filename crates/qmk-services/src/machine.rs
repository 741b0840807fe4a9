//! Sessions and jobs over one kernel.

use crate::program::{Program, count_outcomes};
use parking_lot::{Condvar, Mutex, MutexGuard};
use qmk_abi::rpc::*;
use qmk_abi::syscall::{Limit, Quota, StrandState, StrandStatus};
use qmk_abi::{Handle, KernelError, Rights, Syscall};
use qmk_kernel::hal::Device;
use qmk_kernel::{DomainId, Kernel};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Limits of each tenant.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// Logical qubits a tenant may hold; the machine's if `None`.
    pub max_logical_qubits: Option<u32>,
    /// Unfinished jobs of a tenant.
    pub max_jobs: u32,
    /// Sessions of a tenant.
    pub max_sessions: usize,
    /// Finished jobs a session keeps results of; the oldest go first.
    pub kept_jobs: usize,
    /// Shots of one job.
    pub max_shots: u64,
    /// Qubits that may carry live magic at once in one job.
    pub max_active: u32,
}

impl Default for MachineConfig {
    fn default() -> Self {
        MachineConfig {
            max_logical_qubits: None,
            max_jobs: 1000,
            max_sessions: 1000,
            kept_jobs: 1000,
            max_shots: 100_000_000,
            max_active: 24,
        }
    }
}

struct Tenant {
    domain: DomainId,
    /// The tenant's machine capability, in its own space.
    machine: Handle,
}

struct Session {
    tenant: String,
    /// Connection that created it, unless detached.
    owner: Option<u64>,
    /// Used again on that connection, and so bound to its life. A client that opens a connection per call never
    /// does this, and its session outlives the connection.
    bound: bool,
    granted: Rights,
    machine: Handle,
    jobs: BTreeMap<u64, Job>,
}

struct Job {
    program: Arc<Program>,
    policy: Policy,
    image: Handle,
    strand: Handle,
    state: JobState,
    status: StrandStatus,
    estimated: u64,
    started: Instant,
    result: Option<JobResult>,
    error: Option<String>,
}

struct State<D> {
    kernel: Kernel<D>,
    root: DomainId,
    machine: Handle,
    config: MachineConfig,
    tenants: BTreeMap<String, Tenant>,
    sessions: BTreeMap<String, Session>,
    next_job: u64,
    next_connection: u64,
    stopping: bool,
}

struct Shared<D> {
    state: Mutex<State<D>>,
    /// Signalled when there is work for the kernel.
    work: Condvar,
    /// Signalled when a job changed.
    changed: Condvar,
}

/// A machine: a kernel over a device, the services, and the thread that advances them.
pub struct Machine<D: Device + Send + 'static> {
    shared: Arc<Shared<D>>,
    driver: Option<JoinHandle<()>>,
}

/// An endpoint of the session protocol. Dropping it closes the sessions that belong to it.
pub struct Connection<D: Device + Send + 'static> {
    shared: Arc<Shared<D>>,
    id: u64,
}

impl<D: Device + Send + 'static> Machine<D> {
    /// Boots a kernel on a device and starts advancing it.
    pub fn start(device: D, config: MachineConfig) -> Self {
        let all = Quota { qubits: u32::MAX, strands: u32::MAX, instructions: u32::MAX, slots: u32::MAX, active: 0 };
        let (kernel, root, machine) = Kernel::boot(device, 0, all);
        let state = State {
            kernel,
            root,
            machine,
            config,
            tenants: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_job: 1,
            next_connection: 1,
            stopping: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), changed: Condvar::new() });
        let driver = shared.clone();
        let driver = std::thread::Builder::new().name("kernel".into()).spawn(move || drive(&driver)).ok();
        Machine { shared, driver }
    }

    /// A new endpoint.
    pub fn connect(&self) -> Connection<D> {
        let mut state = self.shared.state.lock();
        state.next_connection += 1;
        Connection { shared: self.shared.clone(), id: state.next_connection }
    }
}

impl<D: Device + Send + 'static> Drop for Machine<D> {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.work.notify_all();
        if let Some(driver) = self.driver.take() {
            // A panic of the driver has been reported by then.
            let _ = driver.join();
        }
    }
}

/// Advances the kernel while any strand lives.
fn drive<D: Device>(shared: &Shared<D>) {
    let mut state = shared.state.lock();
    while !state.stopping {
        let report = state.kernel.advance();
        if report.ended > 0 || report.epoch.is_multiple_of(64) {
            state.collect();
            shared.changed.notify_all();
        }
        if report.busy {
            // Callers wait no longer than one epoch.
            MutexGuard::bump(&mut state);
        } else {
            shared.work.wait(&mut state);
        }
    }
}

fn not_found<T>(what: ErrorCode) -> Result<T, RpcError> {
    let message = if what == ErrorCode::JobNotFound { "no such job" } else { "no such session" };
    Err(RpcError::new(what, message))
}

fn kernel_error(e: KernelError) -> RpcError {
    let code = match &e {
        KernelError::Quota(_) => ErrorCode::QuotaExceeded,
        KernelError::Capacity { .. } => ErrorCode::ResourceExhausted,
        KernelError::Image(_) | KernelError::Argument(_) => ErrorCode::InvalidGraph,
        KernelError::Rights(_) => ErrorCode::InsufficientCaps,
        _ => ErrorCode::Internal,
    };
    let hint = match e {
        KernelError::Quota(Limit::Strands) => "; wait for a job to end or cancel one",
        KernelError::Quota(_) => "; see qmk_resource_query for the tenant's quota",
        _ => "",
    };
    RpcError::new(code, format!("{e}{hint}"))
}

impl<D: Device> State<D> {
    fn call(&mut self, domain: DomainId, call: Syscall) -> Result<qmk_abi::Reply, RpcError> {
        self.kernel.syscall(domain, call).map_err(kernel_error)
    }

    fn handle(&mut self, domain: DomainId, call: Syscall) -> Result<Handle, RpcError> {
        match self.call(domain, call)? {
            qmk_abi::Reply::Handle(h) => Ok(h),
            other => Err(RpcError::new(ErrorCode::Internal, format!("unexpected reply {other:?}"))),
        }
    }

    fn quota(&self) -> Quota {
        let machine = self.kernel.device().spec().logical_qubits;
        Quota {
            qubits: self.config.max_logical_qubits.unwrap_or(machine).min(machine),
            strands: self.config.max_jobs,
            instructions: 1 << 24,
            slots: 1 << 20,
            active: self.config.max_active,
        }
    }

    fn quota_info(&self) -> QuotaInfo {
        let q = self.quota();
        QuotaInfo {
            max_logical_qubits: q.qubits as u64,
            max_physical_qubits: q.qubits as u64 * 97,
            max_channels: 0,
            max_jobs: q.strands as u64,
        }
    }

    /// The tenant of this name, created on first use.
    fn tenant(&mut self, name: &str) -> Result<(), RpcError> {
        if self.tenants.contains_key(name) {
            return Ok(());
        }
        if self.tenants.len() >= 1000 || name.len() > 256 {
            return Err(RpcError::new(ErrorCode::AuthFailed, "no such tenant"));
        }
        let (root, machine, quota) = (self.root, self.machine, self.quota());
        let control = self.handle(root, Syscall::CreateDomain { machine, quota })?;
        let rights = Rights::all() - Rights::ADMIN - Rights::GRANT;
        let derive = Syscall::Derive { source: machine, rights, badge: 0, into: Some(control) };
        let machine = self.handle(root, derive)?;
        let domain = self
            .kernel
            .domain_of(root, control)
            .ok_or_else(|| RpcError::new(ErrorCode::Internal, "the new domain is gone"))?;
        self.tenants.insert(name.into(), Tenant { domain, machine });
        Ok(())
    }

    fn create_session(&mut self, p: SessionCreate, connection: u64) -> Result<SessionInfo, RpcError> {
        let name = p.tenant_id.unwrap_or_else(|| "default".into());
        self.tenant(&name)?;
        if self.sessions.values().filter(|s| s.tenant == name).count() >= self.config.max_sessions {
            return Err(RpcError::new(ErrorCode::QuotaExceeded, "too many open sessions; close one"));
        }
        let available = Rights::CLASSES - Rights::ADMIN;
        let (mut granted, mut denied) = (Rights::empty(), Vec::new());
        for cap in &p.requested {
            match Rights::from_class_name(cap).filter(|r| available.contains(*r)) {
                Some(r) => granted |= r,
                None => denied.push(cap.clone()),
            }
        }
        if p.requested.is_empty() {
            granted = available;
        }
        let (domain, source) = (self.tenants[&name].domain, self.tenants[&name].machine);
        // The service, not the kernel, knows which graphs imply CAP_COMPUTE and CAP_MEASURE.
        let rights = granted | (Rights::OBJECT - Rights::GRANT) | Rights::COMPUTE | Rights::MEASURE;
        let machine = self.handle(domain, Syscall::Derive { source, rights, badge: 0, into: None })?;
        let mut id = [0u8; 16];
        getrandom::fill(&mut id).map_err(|e| RpcError::new(ErrorCode::Internal, format!("no entropy: {e}")))?;
        let session_id = format!("sess_{:032x}", u128::from_le_bytes(id));
        let owner = (!p.detached).then_some(connection);
        let session = Session { tenant: name, owner, bound: false, granted, machine, jobs: BTreeMap::new() };
        self.sessions.insert(session_id.clone(), session);
        Ok(SessionInfo { session_id, granted: granted.class_names(), denied, quota: self.quota_info() })
    }

    fn session(&self, id: &str) -> Result<&Session, RpcError> {
        self.sessions.get(id).map_or_else(|| not_found(ErrorCode::SessionNotFound), Ok)
    }

    fn close_session(&mut self, id: &str) -> Result<Closed, RpcError> {
        let Some(session) = self.sessions.remove(id) else { return not_found(ErrorCode::SessionNotFound) };
        let domain = self.tenants[&session.tenant].domain;
        // Everything the session made derives from its machine capability.
        self.call(domain, Syscall::Delete { target: session.machine })?;
        Ok(Closed { closed: true })
    }

    fn submit(&mut self, p: &JobSubmit, program: Program) -> Result<Submitted, RpcError> {
        let session = self.session(&p.session_id)?;
        let (domain, machine) = (self.tenants[&session.tenant].domain, session.machine);
        let policy = p.policy.clone();
        let estimated = program.critical_path(|op| self.kernel.device().cost(op)).saturating_mul(policy.shots);
        let image = self.handle(domain, Syscall::Admit { machine, image: program.image.clone() })?;
        let spawn =
            Syscall::Spawn { machine, image, shots: policy.shots, seed: policy.seed, priority: policy.priority };
        let strand = match self.handle(domain, spawn) {
            Ok(strand) => strand,
            Err(e) => {
                self.call(domain, Syscall::Delete { target: image })?;
                return Err(e);
            }
        };
        let number = self.next_job;
        self.next_job += 1;
        let status = StrandStatus {
            state: StrandState::Waiting,
            epochs: 0,
            issued: 0,
            instructions: program.image.code.len() as u32,
            shots_done: 0,
            shots: policy.shots,
            magic_states: 0,
            peak_active: 0,
            fault: None,
        };
        let kept = self.config.kept_jobs;
        let session = self.sessions.get_mut(&p.session_id).expect("looked up above");
        let job = Job {
            program: Arc::new(program),
            policy,
            image,
            strand,
            state: JobState::Queued,
            status,
            estimated,
            started: Instant::now(),
            result: None,
            error: None,
        };
        session.jobs.insert(number, job);
        let ended: Vec<u64> = session.jobs.iter().filter(|(_, j)| j.state.ended()).map(|(&n, _)| n).collect();
        for old in ended.iter().take(ended.len().saturating_sub(kept)) {
            session.jobs.remove(old);
        }
        Ok(Submitted { job_id: format!("job_{number}"), state: JobState::Queued, estimated_epochs: estimated })
    }

    /// Brings job states up to date with their strands, and fetches finished outcomes.
    fn collect(&mut self) {
        let kernel = &mut self.kernel;
        for session in self.sessions.values_mut() {
            let domain = self.tenants[&session.tenant].domain;
            for (number, job) in session.jobs.iter_mut().filter(|(_, j)| !j.state.ended()) {
                let Ok(qmk_abi::Reply::Status(s)) = kernel.syscall(domain, Syscall::Status { strand: job.strand })
                else {
                    continue;
                };
                job.status = s;
                job.state = match job.status.state {
                    StrandState::Waiting => JobState::Queued,
                    StrandState::Running | StrandState::Draining => JobState::Running,
                    StrandState::Done => JobState::Completed,
                    StrandState::Faulted => JobState::Failed,
                };
                if job.state == JobState::Completed {
                    job.result = Some(finish(kernel, domain, *number, job));
                } else if job.state == JobState::Failed {
                    job.error = job.status.fault.as_ref().map(|(_, m)| m.clone());
                }
                if job.state.ended() {
                    for target in [job.strand, job.image] {
                        // Both were just used, and no one else holds them.
                        let _ = kernel.syscall(domain, Syscall::Delete { target });
                    }
                }
            }
        }
    }

    fn job(&self, session: &str, job: &str) -> Result<&Job, RpcError> {
        let number = job.strip_prefix("job_").and_then(|n| n.parse::<u64>().ok());
        let session = self.session(session)?;
        number.and_then(|n| session.jobs.get(&n)).map_or_else(|| not_found(ErrorCode::JobNotFound), Ok)
    }

    fn status(&self, session: &str, id: &str) -> Result<JobStatus, RpcError> {
        let job = self.job(session, id)?;
        let s = &job.status;
        // The first pass issues; the shots that follow repeat its schedule.
        let executed = match s.shots_done {
            0 => s.issued as u64,
            n => n.saturating_mul(s.instructions as u64),
        };
        Ok(JobStatus {
            job_id: id.into(),
            state: job.state,
            progress: Progress {
                current_epoch: s.epochs.saturating_mul(s.shots_done.max(1)),
                total_epochs: job.result.as_ref().map_or(job.estimated, |r| r.report.epochs.total),
                nodes_executed: executed,
                nodes_total: s.shots.saturating_mul(s.instructions as u64),
            },
            events: job.result.as_ref().map(|r| r.last_shot.clone()),
            telemetry: job.result.as_ref().map(|_| telemetry(job)),
            error: job.error.clone(),
        })
    }

    fn cancel(&mut self, session: &str, id: &str) -> Result<Cancelled, RpcError> {
        let job = self.job(session, id)?;
        if job.state.ended() {
            return Err(RpcError::new(ErrorCode::AlreadyCompleted, format!("{id} has already ended")));
        }
        let (strand, image) = (job.strand, job.image);
        let domain = self.tenants[&self.sessions[session].tenant].domain;
        self.call(domain, Syscall::Delete { target: strand })?;
        self.call(domain, Syscall::Delete { target: image })?;
        let epoch = self.kernel.epoch();
        let job = id
            .strip_prefix("job_")
            .and_then(|n| n.parse().ok())
            .and_then(|n: u64| self.sessions.get_mut(session)?.jobs.get_mut(&n));
        if let Some(job) = job {
            job.state = JobState::Cancelled;
        }
        Ok(Cancelled { job_id: id.into(), state: JobState::Cancelled, cancelled_at_epoch: epoch })
    }

    fn resources(&mut self, session: &str) -> Result<Resources, RpcError> {
        let domain = self.tenants[&self.session(session)?.tenant].domain;
        let qmk_abi::Reply::Usage { used, .. } = self.call(domain, Syscall::Usage)? else {
            return Err(RpcError::new(ErrorCode::Internal, "unexpected reply"));
        };
        Ok(Resources {
            machine: MachineInfo {
                logical_qubits: self.kernel.device().spec().logical_qubits as u64,
                logical_qubits_free: self.kernel.free_qubits() as u64,
                epoch: self.kernel.epoch(),
                epoch_us: 7.0,
            },
            usage: Usage { logical_qubits: used.qubits as u64, jobs: used.strands as u64 },
            quota: self.quota_info(),
        })
    }
}

fn telemetry(job: &Job) -> Telemetry {
    let Some(r) = &job.result else { return Telemetry::default() };
    Telemetry {
        total_epochs: r.report.epochs.total,
        total_gates: job.status.shots.saturating_mul(job.status.instructions as u64),
        physical_qubits_used: r.report.physical_qubits,
        decoder_cycles: r.report.epochs.total,
        execution_time_ms: r.report.wall_ms,
    }
}

/// Reads a finished strand's outcomes.
fn finish<D: Device>(kernel: &mut Kernel<D>, domain: DomainId, number: u64, job: &Job) -> JobResult {
    let stride = (job.program.image.events as usize).div_ceil(8);
    let mut raw: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut last = Vec::new();
    let mut first = 0;
    while stride > 0 && first < job.policy.shots {
        let call = Syscall::Outcomes { strand: job.strand, first, count: u32::MAX };
        let Ok(qmk_abi::Reply::Outcomes(bytes)) = kernel.syscall(domain, call) else { break };
        for shot in bytes.chunks_exact(stride) {
            match raw.get_mut(shot) {
                Some(n) => *n += 1,
                None => _ = raw.insert(shot.to_vec(), 1),
            }
        }
        first += (bytes.len() / stride).max(1) as u64;
        last = bytes[bytes.len().saturating_sub(stride)..].to_vec();
    }
    if stride == 0 {
        raw.insert(Vec::new(), job.policy.shots);
    }
    let mut report = job.program.report(job.policy.shots, job.policy.seed, job.status.epochs);
    report.counts = count_outcomes(&job.program.events, &raw);
    report.t_states = job.status.magic_states;
    report.peak_active_qubits = job.status.peak_active;
    report.wall_ms = job.started.elapsed().as_secs_f64() * 1e3;
    JobResult { job_id: format!("job_{number}"), last_shot: job.program.values(&last), report }
}

impl<D: Device + Send + 'static> Connection<D> {
    fn submit(&self, p: JobSubmit) -> Result<Submitted, RpcError> {
        let (granted, max_shots) = {
            let state = self.shared.state.lock();
            (state.session(&p.session_id)?.granted, state.config.max_shots)
        };
        let policy = &p.policy;
        let bad = |m: String| Err(RpcError::new(ErrorCode::InvalidParams, m));
        if policy.shots == 0 || policy.shots > max_shots {
            return bad(format!("shots must be from 1 to {max_shots}, not {}", policy.shots));
        }
        match policy.noise.as_str() {
            "ideal" => {}
            "logical" | "physical" => {
                return bad(format!("noise level {:?} is not available on this machine; use \"ideal\"", policy.noise));
            }
            other => return bad(format!("unknown noise level {other:?}; known: ideal, logical, physical")),
        }
        // Parsing and checking take their time without holding up the machine.
        let program = Program::build(&p.source, p.format, &policy.params, policy.profile.as_deref(), granted)?;
        let submitted = self.shared.state.lock().submit(&p, program)?;
        self.shared.work.notify_all();
        Ok(submitted)
    }

    fn wait(&self, p: &JobWait) -> Result<JobStatus, RpcError> {
        let deadline = p.timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        let mut state = self.shared.state.lock();
        loop {
            let status = state.status(&p.session_id, &p.job_id)?;
            if status.state.ended() {
                return Ok(status);
            }
            let late = match deadline {
                Some(d) => self.shared.changed.wait_until(&mut state, d).timed_out(),
                None => {
                    self.shared.changed.wait(&mut state);
                    false
                }
            };
            if late {
                let message = format!("{} has not ended after {} ms", p.job_id, p.timeout_ms.unwrap_or(0));
                return Err(RpcError::new(ErrorCode::Timeout, message));
            }
        }
    }
}

impl<D: Device + Send + 'static> Endpoint for Connection<D> {
    fn call(&self, request: Request) -> Result<Reply, RpcError> {
        let state = || self.shared.state.lock();
        if let Some(session) =
            request.session().and_then(|id| MutexGuard::try_map(state(), |s| s.sessions.get_mut(id)).ok())
        {
            let mut session = session;
            session.bound |= session.owner == Some(self.id);
        }
        match request {
            Request::SessionCreate(p) => state().create_session(p, self.id).map(Reply::Session),
            Request::SessionClose(p) => {
                let closed = state().close_session(&p.session_id);
                // Waiters on its jobs must learn of it.
                self.shared.changed.notify_all();
                closed.map(Reply::Closed)
            }
            Request::JobSubmit(p) => self.submit(p).map(Reply::Submitted),
            Request::JobStatus(p) => {
                let mut state = state();
                state.collect();
                state.status(&p.session_id, &p.job_id).map(Reply::Status)
            }
            Request::JobWait(p) => self.wait(&p).map(Reply::Status),
            Request::JobResult(p) => {
                let state = state();
                let job = state.job(&p.session_id, &p.job_id)?;
                match (&job.result, job.state) {
                    (Some(r), _) => Ok(Reply::Result(r.clone())),
                    (None, JobState::Failed) => {
                        let why = job.error.as_deref().unwrap_or("no reason given");
                        Err(RpcError::new(ErrorCode::ResourceExhausted, format!("{} failed: {why}", p.job_id)))
                    }
                    (None, JobState::Cancelled) => {
                        Err(RpcError::new(ErrorCode::AlreadyCompleted, format!("{} was cancelled", p.job_id)))
                    }
                    _ => {
                        Err(RpcError::new(ErrorCode::Timeout, format!("{} has not ended; wait for it first", p.job_id)))
                    }
                }
            }
            Request::JobCancel(p) => {
                let cancelled = state().cancel(&p.session_id, &p.job_id);
                self.shared.changed.notify_all();
                cancelled.map(Reply::Cancelled)
            }
            Request::ResourceQuery(p) => state().resources(&p.session_id).map(Reply::Resources),
            Request::Telemetry(p) => {
                let state = state();
                Ok(Reply::Telemetry(telemetry(state.job(&p.session_id, &p.job_id)?)))
            }
        }
    }
}

impl<D: Device + Send + 'static> Drop for Connection<D> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let mine = state.sessions.iter().filter(|(_, s)| s.bound && s.owner == Some(self.id));
        for id in mine.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            // It was just listed.
            let _ = state.close_session(&id);
        }
        self.shared.changed.notify_all();
    }
}

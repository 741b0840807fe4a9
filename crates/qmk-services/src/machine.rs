//! Sessions and jobs over one kernel.

use crate::program::{Program, count_outcomes};
use parking_lot::{Condvar, Mutex, MutexGuard};
use qmk_abi::image::{ImageError, ImageErrorKind};
use qmk_abi::rpc::*;
use qmk_abi::syscall::{Limit, Patch, Quota, Run, StrandState, StrandStatus};
use qmk_abi::{Handle, KernelError, Rights, Syscall};
use qmk_kernel::hal::Device;
use qmk_kernel::{Clock, DomainId, Kernel};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of outcomes that one round of collecting reads, of all jobs together.
const COLLECT_BYTES: u64 = 1 << 20;

/// How long an epoch may keep callers waiting.
const EPOCH: Duration = Duration::from_millis(10);

/// Limits of each tenant.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// Logical qubits a tenant may hold; the machine's if `None`.
    pub max_logical_qubits: Option<u32>,
    /// Physical qubits of a tenant's logical qubits; as many as they have on patches of the usual kind if `None`.
    pub max_physical_qubits: Option<u64>,
    /// Open channels of a tenant; as many as its logical qubits have pairs if `None`.
    pub max_channels: Option<u32>,
    /// Checkpoints of a tenant.
    pub max_checkpoints: u32,
    /// Unfinished jobs of a tenant.
    pub max_jobs: u32,
    /// Tenants. One more takes the place of the one that was used least recently among those that have nothing but
    /// sessions that may go.
    pub max_tenants: usize,
    /// Sessions of a tenant. One more closes the session that was used least recently, among those that no open
    /// connection is bound to and that have no unfinished job; without such a session it is refused.
    pub max_sessions: usize,
    /// Finished jobs a session keeps results of; the oldest go first.
    pub kept_jobs: usize,
    /// Bytes of the results that a tenant's sessions keep; the oldest go first. A job with more bytes of distinct
    /// outcomes fails.
    pub kept_bytes: usize,
    /// Shots of one job.
    pub max_shots: u64,
    /// Qubits that may carry live magic at once in one job.
    pub max_active: u32,
    /// Whether shots are finished in the epoch in which their last instruction is, so that what a run does, and when, is
    /// the same on any machine. A long job then keeps callers waiting.
    pub lockstep: bool,
}

impl Default for MachineConfig {
    fn default() -> Self {
        MachineConfig {
            max_logical_qubits: None,
            max_physical_qubits: None,
            max_channels: None,
            max_checkpoints: 64,
            max_jobs: 1000,
            max_tenants: 1000,
            max_sessions: 1000,
            kept_jobs: 1000,
            kept_bytes: 256 << 20,
            max_shots: 100_000_000,
            max_active: Quota::UNLIMITED.active,
            lockstep: false,
        }
    }
}

struct Tenant {
    domain: DomainId,
    /// The capability to the domain, in the root's space.
    control: Handle,
    /// The tenant's machine capability, in its own space.
    machine: Handle,
    sessions: BTreeSet<String>,
    /// When a session of it was last used.
    used: u64,
    /// Finished jobs, with their session and the bytes of their results.
    kept: BTreeMap<u64, (String, usize)>,
    kept_bytes: usize,
}

struct Session {
    tenant: String,
    /// Connection that created it, unless detached.
    owner: Option<u64>,
    /// Used again on that connection, and so bound to its life. A client that opens a connection per call never
    /// does this, and its session outlives the connection.
    bound: bool,
    granted: Rights,
    /// When it was last used.
    used: u64,
    machine: Handle,
    jobs: BTreeMap<u64, Job>,
}

struct Job {
    /// Until the job has ended.
    program: Option<Arc<Program>>,
    policy: Policy,
    image: Handle,
    strand: Handle,
    state: JobState,
    status: StrandStatus,
    estimated: u64,
    started: Instant,
    outcomes: Outcomes,
    result: Option<Arc<JobResult>>,
    error: Option<String>,
}

/// What has been read of a job's outcomes.
#[derive(Default)]
struct Outcomes {
    shots: u64,
    counts: BTreeMap<Vec<u8>, u64>,
    last: Vec<u8>,
}

/// A job whose outcomes have all been read.
struct Finished {
    session: String,
    number: u64,
    outcomes: Outcomes,
    program: Arc<Program>,
    report: RunReport,
}

struct State<D> {
    kernel: Kernel<D>,
    root: DomainId,
    machine: Handle,
    config: MachineConfig,
    tenants: BTreeMap<String, Tenant>,
    sessions: BTreeMap<String, Session>,
    /// Unfinished jobs and their sessions.
    unfinished: BTreeMap<u64, String>,
    /// Job whose outcomes are read first.
    first_read: u64,
    /// Counts uses of sessions.
    uses: u64,
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
        let (mut kernel, root, machine) = Kernel::boot(device, 0, Quota::UNLIMITED);
        if config.lockstep {
            kernel.set_clock(Clock::Lockstep);
        }
        let state = State {
            kernel,
            root,
            machine,
            config,
            tenants: BTreeMap::new(),
            sessions: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            first_read: 0,
            uses: 0,
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

/// Advances the kernel while any strand lives or has outcomes to read.
fn drive<D: Device>(shared: &Shared<D>) {
    let mut state = shared.state.lock();
    let mut pace = Kernel::<D>::PACE;
    while !state.stopping {
        let start = Instant::now();
        let report = state.kernel.advance();
        let busy = report.busy;
        if !state.config.lockstep {
            pace = adapt(pace, start.elapsed(), report.turns).min(Kernel::<D>::PACE);
            state.kernel.set_clock(Clock::FreeRunning { pace });
        }
        let collected = state.collect();
        // While a result is made, more work may come.
        let idle = !busy && !collected.more && collected.finished.is_empty();
        for job in collected.finished {
            // Names take longer than bits, and no one need wait for them.
            let (session, number) = (job.session.clone(), job.number);
            let result = MutexGuard::unlocked(&mut state, || job.result());
            state.keep(&session, number, result);
        }
        if collected.ended {
            shared.changed.notify_all();
        }
        if idle {
            shared.work.wait(&mut state);
        } else {
            // Callers wait no longer than one epoch.
            MutexGuard::bump(&mut state);
        }
    }
}

/// A step means more on one device than on another, so the pace follows the clock: down at once, and up slowly.
fn adapt(pace: u64, took: Duration, turns: u32) -> u64 {
    // An epoch of one turn says nothing of the turns that a strand under issue leaves no room for.
    let told = turns > 1 || pace < 4096;
    match turns {
        0 => pace,
        _ if took > EPOCH => (pace / 2).max(1),
        _ if took < EPOCH / 2 && told => pace + pace / 8 + 1,
        _ => pace,
    }
}

/// What a round of collecting found.
#[derive(Default)]
struct Collected {
    finished: Vec<Finished>,
    /// Whether any job ended.
    ended: bool,
    /// Whether there are outcomes to read.
    more: bool,
}

fn not_found<T>(what: ErrorCode) -> Result<T, RpcError> {
    let message = if what == ErrorCode::JobNotFound { "no such job" } else { "no such session" };
    Err(RpcError::new(what, message))
}

fn kernel_error(e: KernelError) -> RpcError {
    let code = match &e {
        KernelError::Quota(_) => ErrorCode::QuotaExceeded,
        KernelError::Budget(_)
        | KernelError::Capacity { .. }
        | KernelError::Deadline { .. }
        | KernelError::NotReady(_)
        | KernelError::Image(ImageError { kind: ImageErrorKind::Unaffordable, .. }) => ErrorCode::ResourceExhausted,
        KernelError::Image(_) => ErrorCode::InvalidGraph,
        KernelError::Argument(_) | KernelError::State(_) => ErrorCode::InvalidParams,
        KernelError::Rights(_) => ErrorCode::InsufficientCaps,
        KernelError::Fidelity { .. } => ErrorCode::FidelityUnavailable,
        KernelError::NoCapability | KernelError::WrongKind | KernelError::Device(_) => ErrorCode::Internal,
    };
    let hint = match e {
        KernelError::Quota(Limit::Strands) => "; wait for a job to end or cancel one",
        KernelError::Quota(_) => "; see qmk_resource_query for the tenant's quota",
        KernelError::Budget(_) => "; open a session with a larger budget",
        KernelError::NotReady(_) => "; try again later",
        KernelError::Fidelity { .. } => "; ask for less",
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

    /// Deletes a capability and all that derives from it.
    fn delete(&mut self, domain: DomainId, target: Handle) -> Result<(), RpcError> {
        let mut begun = false;
        loop {
            match self.kernel.syscall(domain, Syscall::Delete { target }) {
                Ok(qmk_abi::Reply::Deleted { more: true, .. }) => begun = true,
                Ok(_) => return Ok(()),
                // What a domain held is deleted after the last capability to it; epochs go on with that.
                Err(KernelError::NoCapability) if begun => return Ok(()),
                Err(e) => return Err(kernel_error(e)),
            }
        }
    }

    fn quota(&self) -> Quota {
        let device = self.kernel.device();
        let machine = device.spec().logical_qubits;
        let qubits = self.config.max_logical_qubits.unwrap_or(machine).min(machine);
        let usual = device.physical_qubits(Patch::default()).map_or(u64::MAX, u64::from);
        Quota {
            qubits,
            physical_qubits: self.config.max_physical_qubits.unwrap_or(usual.saturating_mul(qubits as u64)),
            strands: self.config.max_jobs,
            instructions: 1 << 24,
            slots: 1 << 20,
            channels: self.config.max_channels.unwrap_or(qubits / 2),
            checkpoints: self.config.max_checkpoints,
            active: self.config.max_active,
            ..Quota::UNLIMITED
        }
    }

    fn quota_info(&self) -> QuotaInfo {
        let q = self.quota();
        QuotaInfo {
            max_logical_qubits: q.qubits as u64,
            max_physical_qubits: q.physical_qubits,
            max_channels: q.channels as u64,
            max_jobs: q.strands as u64,
        }
    }

    /// The tenant of this name, created on first use.
    fn tenant(&mut self, name: &str) -> Result<(), RpcError> {
        if self.tenants.contains_key(name) {
            return Ok(());
        }
        if name.len() > 256 {
            return Err(RpcError::new(ErrorCode::AuthFailed, "no such tenant"));
        }
        if self.tenants.len() >= self.config.max_tenants && !self.evict_tenant()? {
            return Err(RpcError::new(
                ErrorCode::ResourceExhausted,
                "the machine has too many tenants; try again later",
            ));
        }
        let (root, machine, quota) = (self.root, self.machine, self.quota());
        let control = self.handle(root, Syscall::CreateDomain { machine, quota })?;
        let rights = Rights::all() - Rights::ADMIN - Rights::GRANT;
        let derive = Syscall::Derive { source: machine, rights, badge: 0, into: Some(control), budget: None };
        let machine = self.handle(root, derive)?;
        let domain = self
            .kernel
            .domain_of(root, control)
            .ok_or_else(|| RpcError::new(ErrorCode::Internal, "the new domain is gone"))?;
        let tenant = Tenant {
            domain,
            control,
            machine,
            sessions: BTreeSet::new(),
            used: self.uses,
            kept: BTreeMap::new(),
            kept_bytes: 0,
        };
        self.tenants.insert(name.into(), tenant);
        Ok(())
    }

    /// Notes that a request of a connection names a session.
    fn touch(&mut self, id: &str, connection: u64) {
        self.uses += 1;
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.used = self.uses;
        session.bound |= session.owner == Some(connection);
        if let Some(tenant) = self.tenants.get_mut(&session.tenant) {
            tenant.used = self.uses;
        }
    }

    /// Sessions of a tenant that may be closed to make room. Clients that open a connection for each call leave theirs
    /// behind, so not to have closed it cannot keep a session for ever.
    fn idle_sessions<'a>(&self, tenant: &'a Tenant) -> Vec<&'a String> {
        let busy: BTreeSet<&String> = self.unfinished.values().collect();
        tenant.sessions.iter().filter(|id| !self.sessions[*id].bound && !busy.contains(id)).collect()
    }

    /// Closes the idle session of a tenant that was used least recently; false if there is none.
    fn evict_session(&mut self, tenant: &str) -> Result<bool, RpcError> {
        let idle = self.idle_sessions(&self.tenants[tenant]);
        let Some(oldest) = idle.into_iter().min_by_key(|id| self.sessions[*id].used).cloned() else { return Ok(false) };
        self.close_session(&oldest).map(|closed| closed.closed)
    }

    /// Forgets the tenant that was used least recently, of those that have no more than idle sessions; false if there
    /// is none.
    fn evict_tenant(&mut self) -> Result<bool, RpcError> {
        let mut by_use: Vec<_> = self.tenants.iter().collect();
        by_use.sort_by_key(|(_, t)| t.used);
        let oldest = by_use.into_iter().find(|(_, t)| self.idle_sessions(t).len() == t.sessions.len());
        let Some(name) = oldest.map(|(name, _)| name.clone()) else { return Ok(false) };
        let Some(tenant) = self.tenants.remove(&name) else { return Ok(false) };
        self.sessions.retain(|id, _| !tenant.sessions.contains(id));
        // All that it held derives from what its domain held.
        self.delete(self.root, tenant.control)?;
        Ok(true)
    }

    fn create_session(&mut self, p: SessionCreate, connection: u64) -> Result<SessionInfo, RpcError> {
        let name = p.tenant_id.unwrap_or_else(|| "default".into());
        self.tenant(&name)?;
        if self.tenants[&name].sessions.len() >= self.config.max_sessions && !self.evict_session(&name)? {
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
        let machine = self.handle(domain, Syscall::Derive { source, rights, badge: 0, into: None, budget: None })?;
        let mut id = [0u8; 16];
        getrandom::fill(&mut id).map_err(|e| RpcError::new(ErrorCode::Internal, format!("no entropy: {e}")))?;
        let session_id = format!("sess_{:032x}", u128::from_le_bytes(id));
        let owner = (!p.detached).then_some(connection);
        self.uses += 1;
        if let Some(tenant) = self.tenants.get_mut(&name) {
            tenant.used = self.uses;
            tenant.sessions.insert(session_id.clone());
        }
        let (used, jobs) = (self.uses, BTreeMap::new());
        let session = Session { tenant: name, owner, bound: false, granted, used, machine, jobs };
        self.sessions.insert(session_id.clone(), session);
        Ok(SessionInfo { session_id, granted: granted.class_names(), denied, quota: self.quota_info() })
    }

    fn session(&self, id: &str) -> Result<&Session, RpcError> {
        self.sessions.get(id).map_or_else(|| not_found(ErrorCode::SessionNotFound), Ok)
    }

    fn close_session(&mut self, id: &str) -> Result<Closed, RpcError> {
        let Some(session) = self.sessions.remove(id) else { return not_found(ErrorCode::SessionNotFound) };
        let Some(tenant) = self.tenants.get_mut(&session.tenant) else { return not_found(ErrorCode::SessionNotFound) };
        tenant.sessions.remove(id);
        for number in session.jobs.keys() {
            self.unfinished.remove(number);
            tenant.kept_bytes -= tenant.kept.remove(number).map_or(0, |(_, bytes)| bytes);
        }
        let domain = tenant.domain;
        // Everything the session made derives from its machine capability.
        self.delete(domain, session.machine)?;
        Ok(Closed { closed: true })
    }

    fn submit(&mut self, p: &JobSubmit, mut program: Program) -> Result<Submitted, RpcError> {
        let session = self.session(&p.session_id)?;
        let (domain, machine) = (self.tenants[&session.tenant].domain, session.machine);
        let policy = p.policy.clone();
        let instructions = program.image.code.len() as u32;
        let patch = program.patch();
        let device = self.kernel.device();
        if device.physical_qubits(patch).is_none() {
            return Err(program.unavailable());
        }
        let estimated = program.critical_path(|op, patch| device.cost(op, patch)).saturating_mul(policy.shots);
        let image = self.handle(domain, Syscall::Admit { machine, image: std::mem::take(&mut program.image) })?;
        let run = Run {
            shots: policy.shots,
            seed: policy.seed,
            priority: policy.priority,
            deadline: policy.deadline_epochs,
            patch,
            ..Run::default()
        };
        let strand = match self.kernel.syscall(domain, Syscall::Spawn { machine, image, run }) {
            Ok(qmk_abi::Reply::Handle(strand)) => strand,
            Ok(other) => return Err(RpcError::new(ErrorCode::Internal, format!("unexpected reply {other:?}"))),
            Err(e) => {
                self.delete(domain, image)?;
                let late = matches!(e, KernelError::Deadline { .. });
                let mut e = kernel_error(e);
                if late {
                    e.message += &format!("; {} shots take at least {estimated} epochs", policy.shots);
                }
                return Err(e);
            }
        };
        let number = self.next_job;
        self.next_job += 1;
        let status = StrandStatus {
            state: StrandState::Waiting,
            epochs: 0,
            waited: 0,
            issued: 0,
            instructions,
            shots_done: 0,
            shots: policy.shots,
            magic_states: 0,
            peak_active: 0,
            dirty_frees: 0,
            fault: None,
        };
        let kept = self.config.kept_jobs;
        let session = self.sessions.get_mut(&p.session_id).expect("looked up above");
        let job = Job {
            program: Some(Arc::new(program)),
            policy,
            image,
            strand,
            state: JobState::Queued,
            status,
            estimated,
            started: Instant::now(),
            outcomes: Outcomes::default(),
            result: None,
            error: None,
        };
        session.jobs.insert(number, job);
        self.unfinished.insert(number, p.session_id.clone());
        let ended: Vec<u64> = session.jobs.iter().filter(|(_, j)| j.state.ended()).map(|(&n, _)| n).collect();
        for &old in ended.iter().take(ended.len().saturating_sub(kept)) {
            self.forget(&p.session_id, old);
        }
        Ok(Submitted { job_id: format!("job_{number}"), state: JobState::Queued, estimated_epochs: estimated })
    }

    /// Brings job states up to date with their strands and reads outcomes, as many as do not hold up callers.
    fn collect(&mut self) -> Collected {
        let mut collected = Collected::default();
        let mut left = COLLECT_BYTES;
        let share = left / (self.unfinished.len() as u64).max(1);
        let numbers = self.unfinished.range(self.first_read..).chain(self.unfinished.range(..self.first_read));
        let numbers: Vec<(u64, String)> = numbers.map(|(&n, s)| (n, s.clone())).collect();
        self.first_read = 0;
        for (number, id) in numbers {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let domain = self.tenants[&session.tenant].domain;
            let Some(job) = session.jobs.get_mut(&number) else { continue };
            let Some(program) = job.program.clone() else { continue };
            let status = self.kernel.syscall(domain, Syscall::Status { strand: job.strand });
            let Ok(qmk_abi::Reply::Status(status)) = status else { continue };
            job.status = status;
            let stride = program.stride as u64;
            let unread = |job: &Job| job.status.shots_done - job.outcomes.shots;
            if left == 0 && unread(job) > 0 && self.first_read == 0 {
                self.first_read = number;
            }
            let mut mine = share.max(stride + 8).min(left);
            while unread(job) > 0 && mine > 0 && stride > 0 {
                let most = u32::try_from((mine / (stride + 8)).max(1)).unwrap_or(u32::MAX);
                let call = Syscall::Outcomes { strand: job.strand, first: job.outcomes.shots, count: most };
                let Ok(qmk_abi::Reply::Outcomes(bytes)) = self.kernel.syscall(domain, call) else { break };
                let shots = job.outcomes.add(&bytes, program.stride);
                if shots == 0 {
                    break;
                }
                let cost = shots * (stride + 8);
                (mine, left) = (mine.saturating_sub(cost), left.saturating_sub(cost));
            }
            let width = program.width + KEY_BYTES;
            if job.outcomes.counts.len().saturating_mul(width) > self.config.kept_bytes {
                job.error = Some(format!(
                    "its {} distinct outcomes so far take more than the {} bytes a tenant's results may take; \
                     run fewer shots at a time or measure fewer qubits",
                    job.outcomes.counts.len(),
                    self.config.kept_bytes
                ));
                job.state = JobState::Failed;
            } else {
                job.state = match job.status.state {
                    StrandState::Waiting => JobState::Queued,
                    StrandState::Faulted => JobState::Failed,
                    // A finished strand is a running job until its outcomes are read and named.
                    _ => JobState::Running,
                };
            }
            if job.state == JobState::Failed {
                let fault = job.status.fault.as_ref().map(|(at, m)| program.explain(*at, m));
                job.error = job.error.take().or(fault);
                self.end(&id, number, 0);
                collected.ended = true;
            } else if job.status.state == StrandState::Done && (unread(job) == 0 || stride == 0) {
                let mut outcomes = std::mem::take(&mut job.outcomes);
                if stride == 0 {
                    outcomes.counts.insert(Vec::new(), job.policy.shots);
                }
                let mut report = program.report(job.policy.shots, job.policy.seed, job.status.epochs);
                report.t_states = job.status.magic_states;
                report.peak_active_qubits = job.status.peak_active;
                report.warnings.extend(dirty(job.status.dirty_frees));
                report.wall_ms = job.started.elapsed().as_secs_f64() * 1e3;
                collected.finished.push(Finished { session: id, number, outcomes, program, report });
                collected.ended = true;
            } else {
                collected.more |= unread(job) > 0;
            }
        }
        collected
    }

    /// Keeps the result of a finished job, unless it is gone by now.
    fn keep(&mut self, session: &str, number: u64, result: JobResult) {
        let job = self.sessions.get_mut(session).and_then(|s| s.jobs.get_mut(&number));
        let Some(job) = job.filter(|j| !j.state.ended()) else { return };
        let counts: usize = result.report.counts.keys().map(|k| k.len() + KEY_BYTES).sum();
        let names: usize = result.report.events.iter().map(|e| 2 * (e.len() + KEY_BYTES)).sum();
        job.state = JobState::Completed;
        job.result = Some(Arc::new(result));
        self.end(session, number, counts + names);
    }

    /// Gives back what an ended job held in the kernel, and forgets the oldest results of a tenant that keeps too much.
    fn end(&mut self, session: &str, number: u64, bytes: usize) {
        self.unfinished.remove(&number);
        let Some(owner) = self.sessions.get_mut(session) else { return };
        let (Some(tenant), Some(job)) = (self.tenants.get_mut(&owner.tenant), owner.jobs.get_mut(&number)) else {
            return;
        };
        job.program = None;
        job.outcomes = Outcomes::default();
        let (domain, held) = (tenant.domain, [job.strand, job.image]);
        tenant.kept.insert(number, (session.into(), bytes));
        tenant.kept_bytes += bytes;
        let mut excess = tenant.kept_bytes.saturating_sub(self.config.kept_bytes);
        let mut old = Vec::new();
        for (&n, (session, bytes)) in tenant.kept.iter().filter(|(n, (_, bytes))| **n != number && *bytes > 0) {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(*bytes);
            old.push((session.clone(), n));
        }
        for target in held {
            // No one else holds them.
            let _ = self.delete(domain, target);
        }
        for (session, n) in old {
            self.forget(&session, n);
        }
    }

    /// Forgets an ended job.
    fn forget(&mut self, session: &str, number: u64) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        session.jobs.remove(&number);
        if let Some(tenant) = self.tenants.get_mut(&session.tenant) {
            tenant.kept_bytes -= tenant.kept.remove(&number).map_or(0, |(_, bytes)| bytes);
        }
    }

    fn job(&self, session: &str, job: &str) -> Result<&Job, RpcError> {
        let session = self.session(session)?;
        job_number(job).and_then(|n| session.jobs.get(&n)).map_or_else(|| not_found(ErrorCode::JobNotFound), Ok)
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
        let epoch = self.kernel.epoch();
        if let Some(number) = job_number(id) {
            if let Some(job) = self.sessions.get_mut(session).and_then(|s| s.jobs.get_mut(&number)) {
                job.state = JobState::Cancelled;
            }
            self.end(session, number, 0);
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

/// What to say of qubits that are freed while something may still depend on them.
fn dirty(frees: u32) -> Option<String> {
    let what = match frees {
        0 => return None,
        1 => "1 qubit is".into(),
        n => format!("{n} qubits are"),
    };
    Some(format!("{what} freed without being measured; their state is reset first"))
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

/// The number in a job's name. Each job has one name.
fn job_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("job_")?;
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| canonical)
}

/// What a key of a map takes beside its text, about.
const KEY_BYTES: usize = 48;

impl Outcomes {
    /// Adds packed outcomes; returns the number of shots.
    fn add(&mut self, bytes: &[u8], stride: usize) -> u64 {
        for shot in bytes.chunks_exact(stride) {
            match self.counts.get_mut(shot) {
                Some(n) => *n += 1,
                None => _ = self.counts.insert(shot.to_vec(), 1),
            }
        }
        let shots = (bytes.len() / stride) as u64;
        self.shots += shots;
        self.last = bytes[bytes.len().saturating_sub(stride)..].to_vec();
        shots
    }
}

impl Finished {
    fn result(mut self) -> JobResult {
        self.report.counts = count_outcomes(&self.program.events, &self.outcomes.counts);
        let last_shot = self.program.values(&self.outcomes.last);
        JobResult { job_id: format!("job_{}", self.number), last_shot, report: self.report }
    }
}

impl<D: Device + Send + 'static> Connection<D> {
    fn submit(&self, p: JobSubmit) -> Result<Submitted, RpcError> {
        let (granted, max_shots) = {
            let state = self.shared.state.lock();
            (state.session(&p.session_id)?.granted, state.config.max_shots)
        };
        let policy = &p.policy;
        let bad = |m: String| Err(RpcError::new(ErrorCode::InvalidParams, m));
        if policy.shots == 0 {
            return bad("shots must be at least 1".into());
        }
        if policy.shots > max_shots {
            let message = format!("{} shots are more than the {max_shots} this machine runs in one job", policy.shots);
            return Err(RpcError::new(ErrorCode::QuotaExceeded, message));
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
        if let Some(id) = request.session() {
            state().touch(id, self.id);
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
            Request::JobStatus(p) => state().status(&p.session_id, &p.job_id).map(Reply::Status),
            Request::JobWait(p) => self.wait(&p).map(Reply::Status),
            Request::JobResult(p) => {
                let state = state();
                let job = state.job(&p.session_id, &p.job_id)?;
                match (&job.result, job.state) {
                    (Some(r), _) => {
                        let result = r.clone();
                        // It may be large, so it is copied while others go on.
                        drop(state);
                        Ok(Reply::Result(JobResult::clone(&result)))
                    }
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

#[cfg(test)]
mod tests {
    use super::{EPOCH, adapt};
    use std::time::Duration;

    #[test]
    fn the_pace_settles_where_an_epoch_takes_its_time() {
        // Nanoseconds of a step, and the least that a turn takes.
        for (step, least) in [(1, 1), (40, 1), (1_000, 1), (1, 4_000_000), (30_000, 4_000_000)] {
            let mut pace = 1 << 18;
            let mut took = Duration::ZERO;
            for _ in 0..200 {
                // As the kernel cuts it.
                let turns = (pace / 2048).clamp(1, 8);
                took = turns as u32 * Duration::from_nanos((step * (pace / turns).max(1)).max(least));
                pace = adapt(pace, took, turns as u32);
            }
            assert!(took < 2 * EPOCH && took > EPOCH / 4, "{pace} steps of {step} ns: {took:?}");
        }
        assert_eq!(adapt(100, 9 * EPOCH, 0), 100);
        assert_eq!(adapt(1 << 18, EPOCH / 100, 1), 1 << 18);
    }
}

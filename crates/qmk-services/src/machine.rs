//! Sessions and jobs over one kernel.

use crate::jobs::telemetry;
use crate::program::Program;
use crate::sessions::Session;
use crate::tenants::Tenant;
use crate::watch::Watched;
use parking_lot::{Condvar, Mutex, MutexGuard};
use qmk_abi::image::{ImageError, ImageErrorKind};
use qmk_abi::rpc::*;
use qmk_abi::syscall::{Limit, Quota};
use qmk_abi::{Handle, KernelError, Syscall};
use qmk_kernel::hal::Device;
use qmk_kernel::{Clock, DomainId, Kernel};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
    /// Whether every session may see the figures of all tenants, as fits a machine that only its owner can reach. If
    /// not, a session needs CAP_ADMIN for that.
    pub open_stats: bool,
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
            open_stats: true,
        }
    }
}

pub(crate) struct State<D> {
    pub(crate) kernel: Kernel<D>,
    pub(crate) root: DomainId,
    pub(crate) machine: Handle,
    pub(crate) config: MachineConfig,
    pub(crate) tenants: BTreeMap<String, Tenant>,
    pub(crate) sessions: BTreeMap<String, Session>,
    /// Unfinished jobs and their sessions.
    pub(crate) unfinished: BTreeMap<u64, String>,
    /// Job whose outcomes are read first.
    pub(crate) first_read: u64,
    /// Counts uses of sessions.
    pub(crate) uses: u64,
    pub(crate) next_job: u64,
    pub(crate) next_connection: u64,
    pub(crate) stopping: bool,
    pub(crate) watched: Watched,
}

pub(crate) struct Shared<D> {
    pub(crate) state: Mutex<State<D>>,
    /// Signalled when there is work for the kernel.
    pub(crate) work: Condvar,
    /// Signalled when a job changed.
    pub(crate) changed: Condvar,
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
            watched: Watched::default(),
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

    /// Figures of the whole machine.
    pub fn stats(&self) -> MachineStats {
        self.shared.state.lock().machine_stats()
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
        state.watched.issued += report.issued as u64;
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

pub(crate) fn not_found<T>(what: ErrorCode) -> Result<T, RpcError> {
    let message = if what == ErrorCode::JobNotFound { "no such job" } else { "no such session" };
    Err(RpcError::new(what, message))
}

pub(crate) fn kernel_error(e: KernelError) -> RpcError {
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
    pub(crate) fn call(&mut self, domain: DomainId, call: Syscall) -> Result<qmk_abi::Reply, RpcError> {
        self.kernel.syscall(domain, call).map_err(kernel_error)
    }

    pub(crate) fn handle(&mut self, domain: DomainId, call: Syscall) -> Result<Handle, RpcError> {
        match self.call(domain, call)? {
            qmk_abi::Reply::Handle(h) => Ok(h),
            other => Err(RpcError::new(ErrorCode::Internal, format!("unexpected reply {other:?}"))),
        }
    }

    /// Deletes a capability and all that derives from it.
    pub(crate) fn delete(&mut self, domain: DomainId, target: Handle) -> Result<(), RpcError> {
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
            Request::JobList(p) => state().job_list(&p.session_id).map(Reply::Jobs),
            Request::MachineStats(p) => state().machine_view(&p.session_id).map(Reply::Machine),
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

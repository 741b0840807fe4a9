//! Sessions and jobs over one kernel.

use crate::builds::Builds;
use crate::identity::{Caller, Peer, Rate, unix_time};
use crate::jobs::{Job, completed, ended, job_number, no_result};
use crate::policy::SitePolicy;
use crate::program::Program;
use crate::refusals::{Refusals, Refusee};
use crate::sessions::{Aside, Session, Title};
use crate::store::{End, Retention, SessionRecord, Store, StoreError, Ticket};
use crate::tenants::Tenant;
use crate::watch::Watched;
use parking_lot::{Condvar, Mutex, MutexGuard};
use qmk_abi::image::{ImageError, ImageErrorKind};
use qmk_abi::rpc::*;
use qmk_abi::syscall::{Level, Limit, Quota};
use qmk_abi::{Handle, KernelError, Rights, Syscall};
use qmk_kernel::hal::Device;
use qmk_kernel::{Clock, DomainId, Kernel};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an epoch may keep callers waiting.
const EPOCH: Duration = Duration::from_millis(10);

/// Epochs of a program with the machine to itself that may pass at once. In a longer one, calls find it at work.
const AT_ONCE: u64 = 1 << 16;

/// How long a caller's thread may advance the kernel.
const SETTLE: Duration = Duration::from_micros(500);

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
    /// Ended jobs of a tenant that a machine which keeps its state keeps on disk; the oldest go first.
    pub stored_jobs: u64,
    /// Bytes that these may take.
    pub stored_bytes: u64,
    /// Shots of one job.
    pub max_shots: u64,
    /// Requests of a tenant; a second's worth may come at once. `None` for no limit.
    pub max_requests_per_second: Option<u32>,
    /// Nodes of one program, and instructions; `None` for as many as a tenant may have.
    pub max_nodes: Option<usize>,
    /// Bytes that the programs of a session's unfinished jobs take, about.
    pub max_session_bytes: usize,
    /// Qubits that may carry live magic at once in one job.
    pub max_active: u32,
    /// The same of the qubits that a tenant holds one by one, at most as many: all wait while one of those is operated on.
    pub max_active_held: u32,
    /// Seed of the outcomes of qubits that are held one by one; from the system's entropy if `None`. Jobs have their own.
    pub seed: Option<u64>,
    /// Whether shots are finished in the epoch in which their last instruction is, so that what a run does, and when, is
    /// the same on any machine. A long job then keeps callers waiting.
    pub lockstep: bool,
    /// Who may do what; without, all is the owner's.
    pub policy: Option<Arc<SitePolicy>>,
    /// Tells the time that tokens expire by, in Unix seconds.
    pub unix_time: fn() -> u64,
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
            stored_jobs: 100_000,
            stored_bytes: 1 << 30,
            max_shots: 100_000_000,
            max_requests_per_second: None,
            max_nodes: None,
            max_session_bytes: 256 << 20,
            max_active: Quota::UNLIMITED.active,
            max_active_held: 16,
            seed: None,
            lockstep: false,
            policy: None,
            unix_time,
        }
    }
}

pub(crate) struct State<D> {
    pub(crate) kernel: Kernel<D>,
    pub(crate) root: DomainId,
    pub(crate) machine: Handle,
    pub(crate) config: MachineConfig,
    pub(crate) store: Store,
    pub(crate) tenants: BTreeMap<String, Tenant>,
    pub(crate) sessions: BTreeMap<String, Session>,
    pub(crate) aside: Aside,
    /// Unfinished jobs and their sessions.
    pub(crate) unfinished: BTreeMap<u64, String>,
    /// Job whose outcomes are read first.
    pub(crate) first_read: u64,
    /// Counts uses of sessions.
    pub(crate) uses: u64,
    pub(crate) next_job: u64,
    pub(crate) next_connection: u64,
    /// Calls that wait for epochs.
    pub(crate) waiting: u32,
    pub(crate) stopping: bool,
    /// A thread advances the kernel, and goes on until there is nothing to do or the driver takes over.
    driving: bool,
    /// When users who were not known for whom they said they were may try again.
    pub(crate) strangers: BTreeMap<u32, Rate>,
    /// Device steps of an epoch.
    pace: u64,
    pub(crate) watched: Watched,
}

pub(crate) struct Shared<D> {
    pub(crate) store: Store,
    pub(crate) builds: Builds,
    refusals: Refusals,
    /// Set when the machine is about to end: sessions stay as they are.
    pub(crate) leaving: Arc<AtomicBool>,
    pub(crate) state: Mutex<State<D>>,
    /// Signalled when there is work for the kernel.
    pub(crate) work: Condvar,
    /// Signalled when a job changed.
    pub(crate) changed: Condvar,
    /// Signalled after each epoch that a call waits for.
    pub(crate) ticked: Condvar,
}

/// A machine: a kernel over a device, the services, and the thread that advances them.
pub struct Machine<D: Device + Send + 'static> {
    shared: Arc<Shared<D>>,
    driver: Option<JoinHandle<()>>,
}

/// An endpoint of the session protocol. Dropping it closes the sessions that belong to it.
pub struct Connection<D: Device + Send + 'static> {
    pub(crate) shared: Arc<Shared<D>>,
    caller: Mutex<Caller>,
    /// Whether its owner calls [`Endpoint::settle`].
    settles: bool,
    /// A job was submitted, and no one has been told.
    owed: AtomicBool,
    /// Whether it has acted for a tenant.
    proved: AtomicBool,
    built: Mutex<Option<Built>>,
}

/// The program that a connection submitted last.
struct Built {
    source: String,
    format: Format,
    policy: Policy,
    granted: Rights,
    program: Program,
}

/// Programs longer than this are not kept for the next submission.
const BUILT_BYTES: usize = 64 << 10;
/// Names and values of a program's parameters.
const PARAMS_BYTES: usize = 64 << 10;

/// What the parameters of a submission take, about.
pub(crate) fn bytes_of_params(policy: &Policy) -> usize {
    policy.params.iter().map(|(name, value)| name.len() + value.len() + 48).sum()
}

impl<D: Device + Send + 'static> Machine<D> {
    /// Boots a kernel on a device and starts advancing it. Nothing is left of it when it ends.
    pub fn start(device: D, config: MachineConfig) -> Self {
        let mut state = State::boot(device, config, Store::default());
        state.next_job = 1;
        Self::run(state)
    }

    /// Like [`Machine::start`], with a directory where jobs, their results and sessions outlive the machine: what was
    /// answered before a sudden end is still there after it, and jobs that had not ended run again from the start.
    ///
    /// # Errors
    /// If the directory is another machine's, or its files are damaged or cannot be written.
    pub fn open(device: D, config: MachineConfig, dir: &Path) -> Result<Self, StoreError> {
        let retention = Retention { jobs: config.stored_jobs, bytes: config.stored_bytes };
        let mut state = State::boot(device, config, Store::open(dir, retention)?);
        state.recover()?;
        Ok(Self::run(state))
    }

    /// Whether jobs and sessions outlive it.
    pub fn keeps(&self) -> bool {
        self.shared.store.keeps()
    }

    /// A flag to be set when the machine is about to end: connections that close then leave their sessions open.
    pub fn leaving(&self) -> Arc<AtomicBool> {
        self.shared.leaving.clone()
    }

    /// Stops the machine and closes its journal under a signed head.
    ///
    /// # Errors
    /// If a write fails. What was recorded before is not lost.
    pub fn close(&self) -> Result<(), StoreError> {
        self.shared.leaving.store(true, Ordering::Relaxed);
        self.shared.state.lock().stopping = true;
        self.shared.work.notify_all();
        self.shared.refusals.flush(&self.shared.store);
        self.shared.store.close()
    }

    fn run(state: State<D>) -> Self {
        let (store, leaving) = (state.store.clone(), Arc::default());
        let (work, changed, ticked) = (Condvar::new(), Condvar::new(), Condvar::new());
        let (builds, refusals, state) = (Builds::default(), Refusals::default(), Mutex::new(state));
        let shared = Arc::new(Shared { store, builds, refusals, leaving, state, work, changed, ticked });
        let driver = shared.clone();
        let driver = std::thread::Builder::new().name("kernel".into()).spawn(move || drive(&driver)).ok();
        Machine { shared, driver }
    }

    /// A new endpoint within this process, which acts as the owner of the machine.
    pub fn connect(&self) -> Connection<D> {
        self.endpoint(None)
    }

    /// A new endpoint for another process.
    pub fn connect_as(&self, peer: Peer) -> Connection<D> {
        self.endpoint(Some(peer))
    }

    fn endpoint(&self, peer: Option<Peer>) -> Connection<D> {
        let mut state = self.shared.state.lock();
        state.next_connection += 1;
        let caller = Caller { connection: state.next_connection, peer, shown: None };
        Connection {
            shared: self.shared.clone(),
            caller: Mutex::new(caller),
            settles: false,
            owed: AtomicBool::new(false),
            proved: AtomicBool::new(false),
            built: Mutex::new(None),
        }
    }

    /// Figures of the whole machine.
    pub fn stats(&self) -> MachineStats {
        self.shared.state.lock().machine_stats()
    }

    /// Takes on a new policy. Sessions that it would not give are closed. The limits that the kernel keeps, and weights,
    /// hold for a tenant once it has no session open.
    pub fn set_policy(&self, policy: SitePolicy) {
        self.shared.state.lock().set_policy(policy);
        self.shared.changed.notify_all();
    }
}

impl<D: Device> State<D> {
    fn boot(device: D, config: MachineConfig, store: Store) -> Self {
        let entropy = || getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(0));
        let seed = config.seed.unwrap_or_else(entropy);
        let (mut kernel, root, machine) = Kernel::boot(device, seed, Quota::UNLIMITED);
        if config.lockstep {
            kernel.set_clock(Clock::Lockstep);
        }
        State {
            kernel,
            root,
            machine,
            config,
            store,
            tenants: BTreeMap::new(),
            sessions: BTreeMap::new(),
            aside: Aside::default(),
            unfinished: BTreeMap::new(),
            first_read: 0,
            uses: 0,
            next_job: 1,
            next_connection: 1,
            waiting: 0,
            stopping: false,
            driving: false,
            strangers: BTreeMap::new(),
            pace: Kernel::<D>::PACE,
            watched: Watched::default(),
        }
    }

    /// Takes up the sessions again that were open, and submits the jobs again that had not ended.
    fn recover(&mut self) -> Result<(), StoreError> {
        let store = self.store.clone();
        let mut tenants = BTreeMap::new();
        for (number, record) in store.sessions()? {
            let granted = record.granted.iter().filter_map(|c| Rights::from_class_name(c)).collect();
            let SessionRecord { tenant, uid, token, .. } = record;
            // The policy may have changed meanwhile.
            if !self.gives(&tenant, granted, token.as_ref()) {
                store.closed(&tenant, number);
                continue;
            }
            tenants.insert(number, tenant.clone());
            let (owner, token, worked) = (None, token.map(Arc::new), false);
            let title = Title { number, tenant, granted, owner, uid, token, worked };
            self.aside.insert(store.session_id(number), title);
        }
        for job in store.unfinished()? {
            let mut job = job?;
            let Some(tenant) = tenants.get(&job.session).cloned() else { continue };
            job.submit.session_id = store.session_id(job.session);
            self.next_job = job.job;
            let again = self.resume(&job.submit.session_id).and_then(|()| {
                let JobSubmit { session_id, source, format, policy } = &job.submit;
                let granted = self.session(session_id)?.granted;
                let program = Program::build(source, *format, &policy.params, policy.profile.as_deref(), granted)?;
                self.submit(&job.submit, program, false)
            });
            match again {
                Ok((_, ticket)) => ticket.recorded.store(true, Ordering::Release),
                // On a smaller machine.
                Err(e) => {
                    let error = Some(format!("after a restart of the server it could not be run again: {e}"));
                    let status = JobStatus {
                        job_id: format!("job_{}", job.job),
                        state: JobState::Failed,
                        progress: Progress::default(),
                        events: None,
                        telemetry: None,
                        error,
                    };
                    let Policy { shots, priority, .. } = job.submit.policy;
                    let (started, recorded) = (Instant::now(), Arc::default());
                    let (session, job) = (job.session, job.job);
                    let ticket = Ticket { tenant, session, job, shots, priority, started, recorded, silent: false };
                    store.try_ended(&ticket, status, None)?;
                }
            }
        }
        self.next_job = store.next_job()?;
        Ok(())
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
        self.shared.leaving.store(true, Ordering::Relaxed);
        self.shared.refusals.flush(&self.shared.store);
        if let Err(e) = self.shared.store.close() {
            eprintln!("qmk: {e}");
        }
    }
}

/// Advances the kernel while any strand lives or has outcomes to read.
fn drive<D: Device>(shared: &Shared<D>) {
    let mut state = shared.state.lock();
    while !state.stopping {
        if !state.driving {
            let mut state = Driving::begin(&mut state);
            while !state.stopping && !turn(shared, &mut state) {
                // Callers wait no longer than one epoch.
                MutexGuard::bump(&mut state);
            }
        }
        if !state.stopping {
            shared.work.wait(&mut state);
        }
    }
}

/// Wakes the driver unless it is forgotten.
struct Woken<'a>(&'a Condvar);

impl Drop for Woken<'_> {
    fn drop(&mut self) {
        self.0.notify_all();
    }
}

/// Marks that this thread advances the kernel, until it ends, or panics.
struct Driving<'a, 'b, D>(&'a mut MutexGuard<'b, State<D>>);

impl<'a, 'b, D> Driving<'a, 'b, D> {
    fn begin(state: &'a mut MutexGuard<'b, State<D>>) -> Self {
        state.driving = true;
        Driving(state)
    }
}

impl<'b, D> std::ops::Deref for Driving<'_, 'b, D> {
    type Target = MutexGuard<'b, State<D>>;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl<D> std::ops::DerefMut for Driving<'_, '_, D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.0
    }
}

impl<D> Drop for Driving<'_, '_, D> {
    fn drop(&mut self) {
        self.0.driving = false;
    }
}

/// One epoch, or several at once, and what follows; true if there is nothing more to do.
fn turn<D: Device>(shared: &Shared<D>, state: &mut MutexGuard<'_, State<D>>) -> bool {
    let start = Instant::now();
    // A call that waits for an epoch wants to see it.
    let most = if state.waiting > 0 { 1 } else { AT_ONCE };
    let report = state.kernel.advance_by(most);
    state.watched.issued += report.issued as u64;
    let busy = report.busy;
    if !state.config.lockstep {
        let pace = adapt(state.pace, start.elapsed(), report.turns).min(Kernel::<D>::PACE);
        if pace != state.pace {
            state.pace = pace;
            state.kernel.set_clock(Clock::FreeRunning { pace });
        }
    }
    let collected = state.collect();
    // While results are made and records written, more work may come.
    let undisturbed = collected.finished.is_empty() && collected.started.is_empty();
    let idle = !busy && !collected.more && undisturbed && state.waiting == 0;
    if shared.store.keeps() && !collected.started.is_empty() {
        let started = || collected.started.iter().for_each(|ticket| shared.store.started(ticket));
        MutexGuard::unlocked(state, started);
    }
    for job in collected.finished {
        let (session, ticket) = (job.session.clone(), job.ticket.clone());
        let result = if job.is_small() && !shared.store.keeps() {
            job.result()
        } else {
            let status = job.status.clone();
            // Names take longer than bits, as records do, and no one need wait for them.
            MutexGuard::unlocked(state, || {
                let result = job.result();
                if shared.store.keeps() {
                    shared.store.ended(&ticket, completed(&status, &result), Some(&result));
                }
                result
            })
        };
        state.keep(&session, ticket.job, result);
    }
    if state.waiting > 0 {
        shared.ticked.notify_all();
    }
    if collected.ended {
        shared.changed.notify_all();
    }
    idle
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

/// The level of errors that a policy names.
pub(crate) fn noise_level(name: &str) -> Result<Level, RpcError> {
    match name {
        "ideal" => Ok(Level::Ideal),
        "logical" => Ok(Level::Logical),
        "physical" => Ok(Level::Physical),
        other => {
            let message = format!("unknown noise level {other:?}; known: ideal, logical, physical");
            Err(RpcError::new(ErrorCode::InvalidParams, message))
        }
    }
}

pub(crate) fn not_found<T>(what: ErrorCode) -> Result<T, RpcError> {
    let message = if what == ErrorCode::JobNotFound { "no such job" } else { "no such session" };
    Err(RpcError::new(what, message))
}

fn lost(e: &StoreError) -> RpcError {
    RpcError::new(ErrorCode::Internal, format!("the stored account of the job cannot be read: {e}"))
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
        KernelError::NoCapability | KernelError::WrongKind | KernelError::Device(_) | KernelError::Broken(_) => {
            ErrorCode::Internal
        }
    };
    let hint = match &e {
        KernelError::Quota(Limit::Strands) => " of unfinished jobs (max_jobs); wait for one to end or cancel one",
        KernelError::Quota(_) => "; `qmk resources` (qmk_resource_query) has the tenant's quota",
        KernelError::Budget(_) => "; open a session with a larger budget",
        KernelError::NotReady(_) => "; try again later",
        KernelError::Fidelity { .. } => "; ask for less",
        _ => "",
    };
    let lacks = if let KernelError::Rights(missing) = &e { missing.class_names() } else { Vec::new() };
    let mut refused = RpcError::new(code, format!("{e}{hint}"));
    (refused.required, refused.missing) = (lacks.clone(), lacks);
    refused
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
    /// For owners that call [`Endpoint::settle`] after a request: a job then starts on the thread that submitted it,
    /// without waking another.
    pub fn settling(mut self) -> Self {
        self.settles = true;
        self
    }

    fn submit(&self, p: JobSubmit) -> Result<Submitted, RpcError> {
        let (granted, max_shots, tenant) = {
            let state = self.shared.state.lock();
            let session = state.session(&p.session_id)?;
            (session.granted, state.max_shots(&session.tenant), session.tenant.clone())
        };
        let policy = &p.policy;
        let bad = |m: String| Err(RpcError::new(ErrorCode::InvalidParams, m));
        let given = bytes_of_params(policy);
        if given > PARAMS_BYTES {
            return bad(format!("policy.params: {given} bytes of names and values; at most {PARAMS_BYTES} are taken"));
        }
        if policy.shots == 0 {
            return bad("shots must be at least 1".into());
        }
        if policy.shots > max_shots {
            let message = format!(
                "{} shots are more than the {max_shots} this machine runs in one job of the tenant",
                policy.shots
            );
            return Err(RpcError::new(ErrorCode::QuotaExceeded, message));
        }
        noise_level(&policy.noise)?;
        // Parsing and checking take their time without holding up the machine.
        let program = self.build(&p, granted, &tenant)?;
        let (submitted, ticket) = self.shared.state.lock().submit(&p, program, false)?;
        // The text may be long, so it is recorded while others go on. The job does not end before that is done.
        if let Err(e) = self.shared.store.submitted(&ticket, &p) {
            self.shared.state.lock().withdraw(&p.session_id, ticket.job);
            return Err(e.into());
        }
        if self.settles {
            self.owed.store(true, Ordering::Relaxed);
        } else {
            self.shared.work.notify_all();
        }
        Ok(submitted)
    }

    /// The program of a submission. A client that runs one program with many seeds has it built once; what others
    /// submitted makes no difference, so that it cannot be told from the time.
    fn build(&self, p: &JobSubmit, granted: Rights, tenant: &str) -> Result<Program, RpcError> {
        let same = |b: &Built| {
            let (old, new) = (&b.policy, &p.policy);
            b.source == p.source
                && b.format == p.format
                && b.granted == granted
                && old.params == new.params
                && old.profile == new.profile
        };
        if let Some(built) = self.built.lock().as_ref().filter(|b| same(b)) {
            return Ok(built.program.clone());
        }
        let policy = &p.policy;
        let program = self.build_in_turn((&p.source, p.format), policy, granted, tenant)?;
        if p.source.len() <= BUILT_BYTES && program.bytes() <= BUILT_BYTES {
            let (source, format, policy) = (p.source.clone(), p.format, policy.clone());
            *self.built.lock() = Some(Built { source, format, policy, granted, program: program.clone() });
        }
        Ok(program)
    }

    /// The account of a job that memory has not kept, or the error of looking for it there.
    pub(crate) fn stored(&self, missing: RpcError, session: &str, job: &str) -> Result<End, RpcError> {
        let number = job_number(job).filter(|_| missing.code == ErrorCode::JobNotFound && self.shared.store.keeps());
        let Some(number) = number else { return Err(missing) };
        let session = self.shared.state.lock().session(session)?.number;
        self.shared.store.end(session, number).map_err(|e| lost(&e))?.ok_or(missing)
    }

    /// Records that a request was refused.
    fn refused(&self, method: &str, session: Option<&str>, asked: Option<&SessionCreate>, e: &RpcError) {
        let caller = self.caller.lock().clone();
        let (mut who, mut number) = (Refusee { uid: caller.uid(), tenant: None }, None);
        let state = self.shared.state.lock();
        // Only whoever may use a session is refused anything in it but the session.
        if let Some(session) = session.and_then(|id| state.sessions.get(id)) {
            (who.tenant, number) = (Some(session.tenant.clone()), Some(session.number));
        } else if let Some(p) = asked {
            who.tenant = state.claim(p, &caller).ok().map(|(tenant, _)| tenant);
        }
        drop(state);
        let claimed = asked.and_then(|p| p.tenant_id.as_deref());
        self.shared.refusals.record(&self.shared.store, &who, claimed, (method, number), e);
    }

    pub(crate) fn wait(&self, p: &JobWait) -> Result<JobStatus, RpcError> {
        let deadline = p.timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        let mut state = self.shared.state.lock();
        loop {
            let status = match state.status(&p.session_id, &p.job_id) {
                Ok(status) => status,
                Err(e) => {
                    drop(state);
                    return self.stored(e, &p.session_id, &p.job_id).map(|end| end.status);
                }
            };
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
    fn known(&self) -> bool {
        self.proved.load(Ordering::Relaxed) || self.shared.state.lock().has_tenant(&self.caller.lock())
    }

    fn settle(&self) {
        if !self.owed.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut state = self.shared.state.lock();
        if state.driving || state.stopping {
            return;
        }
        let start = Instant::now();
        let mut idle = false;
        // If a turn panics, the driver goes on.
        let woken = Woken(&self.shared.work);
        let mut driving = Driving::begin(&mut state);
        while !idle && start.elapsed() < SETTLE {
            idle = turn(&self.shared, &mut driving);
        }
        drop(driving);
        std::mem::forget(woken);
        if !idle {
            // What takes longer is for the driver.
            self.shared.work.notify_all();
        }
    }

    fn call(&self, request: Request) -> Result<Reply, RpcError> {
        self.settle();
        if !self.shared.store.keeps() {
            return self.perform(request);
        }
        let (method, session) = (request.method(), request.session().map(String::from));
        let asked = match &request {
            // What it carries may be long, and is only looked at after a refusal.
            Request::SessionCreate(p) => Some(SessionCreate { requested: Vec::new(), ..p.clone() }),
            _ => None,
        };
        self.perform(request).inspect_err(|e| self.refused(method, session.as_deref(), asked.as_ref(), e))
    }
}

impl<D: Device + Send + 'static> Connection<D> {
    fn perform(&self, request: Request) -> Result<Reply, RpcError> {
        let state = || self.shared.state.lock();
        let caller = self.caller.lock().clone();
        state().authorize(&request, &caller)?;
        if request.session().is_some() {
            self.proved.store(true, Ordering::Relaxed);
        }
        match request {
            Request::SessionCreate(p) => {
                let mut state = state();
                state.admit(&caller)?;
                let created = state.create_session(p, &caller);
                state.tried(&caller, &created);
                self.proved.fetch_or(created.is_ok(), Ordering::Relaxed);
                created.map(Reply::Session)
            }
            Request::SessionClose(p) => {
                let closed = state().close_on_request(&p.session_id);
                // Waiters on its jobs must learn of it.
                self.shared.changed.notify_all();
                closed.map(Reply::Closed)
            }
            Request::JobSubmit(p) => self.submit(p).map(Reply::Submitted),
            Request::JobStatus(p) => {
                let status = state().status(&p.session_id, &p.job_id);
                let stored = |e| self.stored(e, &p.session_id, &p.job_id).map(|end| end.status);
                status.or_else(stored).map(Reply::Status)
            }
            Request::JobWait(p) => {
                let (start, status) = (Instant::now(), self.wait(&p));
                state().charge_wait(&p.session_id, start.elapsed())?;
                status.map(Reply::Status)
            }
            Request::JobResult(p) => {
                let state = state();
                let (result, missing) = match state.job(&p.session_id, &p.job_id) {
                    Ok(job) => (job.result.clone(), no_result(&p.job_id, job.state, job.error.as_deref())),
                    Err(e) => (None, e),
                };
                drop(state);
                if let Some(result) = result {
                    return Ok(Reply::Result(result));
                }
                let End { status, result } = self.stored(missing, &p.session_id, &p.job_id)?;
                let missing = || no_result(&p.job_id, status.state, status.error.as_deref());
                result.map(|r| Reply::Result(Arc::new(r))).ok_or_else(missing)
            }
            Request::JobCancel(p) => {
                let cancelled = state().cancel(&p.session_id, &p.job_id);
                self.shared.changed.notify_all();
                let ended = |e| match self.stored(e, &p.session_id, &p.job_id) {
                    Ok(_) => Err(ended(&p.job_id)),
                    Err(e) => Err(e),
                };
                cancelled.or_else(ended).map(Reply::Cancelled)
            }
            Request::Authenticate(p) => {
                let mut state = state();
                state.admit(&caller)?;
                let shown = state.authenticate(&p);
                state.tried(&caller, &shown);
                drop(state);
                let (credential, info) = shown?;
                self.caller.lock().shown = Some(credential);
                self.proved.store(true, Ordering::Relaxed);
                Ok(Reply::Authenticated(info))
            }
            Request::ResourceQuery(p) => state().resources(&p.session_id).map(Reply::Resources),
            Request::JobList(p) => self.job_list(&p.session_id).map(Reply::Jobs),
            Request::MachineStats(p) => state().machine_view(&p.session_id, &caller).map(Reply::Machine),
            Request::Estimate(p) => {
                let (tenant, max_nodes) = {
                    let state = state();
                    (state.session(&p.session_id)?.tenant.clone(), state.config.max_nodes)
                };
                crate::estimate::estimate(p, &self.shared, &tenant, max_nodes).map(Reply::Estimate)
            }
            Request::Telemetry(p) => {
                let telemetry = state().job(&p.session_id, &p.job_id).map(Job::telemetry);
                let stored = |e| self.stored(e, &p.session_id, &p.job_id).map(|end| end.status.telemetry);
                telemetry.map(Some).or_else(stored).map(|t| Reply::Telemetry(t.unwrap_or_default()))
            }
            Request::AuditHead(_) => self.shared.store.head().map(Reply::AuditHead),
            Request::AuditProve(p) => {
                let tenant = state().session(&p.session_id)?.tenant.clone();
                self.shared.store.prove(&tenant, p.index).map(Reply::AuditProof)
            }
            Request::Interactive(call) => self.interactive(call).map(Reply::Interactive),
        }
    }
}

impl<D: Device + Send + 'static> Drop for Connection<D> {
    fn drop(&mut self) {
        self.settle();
        if self.shared.leaving.load(Ordering::Relaxed) {
            return;
        }
        let id = self.caller.lock().connection;
        let mut state = self.shared.state.lock();
        let mine = state.sessions.iter().filter(|(_, s)| s.bound && s.owner == Some(id));
        for id in mine.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            // It was just listed.
            let _ = state.close_session(&id);
        }
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::{EPOCH, Machine, MachineConfig, State, adapt};
    use crate::identity::Caller;
    use crate::policy::SitePolicy;
    use crate::program::Program;
    use crate::store::Store;
    use qmk_abi::Rights;
    use qmk_abi::rpc::*;
    use qmk_abi::syscall::Quota;
    use qmk_sim::SimDevice;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_kernel_gets_the_limits_of_the_policy() {
        let text = "[tenants.a]\ncapabilities = []\nweight = 3\n[tenants.a.quota]\nmax_logical_qubits = 5\n\
                    max_physical_qubits = 6\nmax_channels = 7\nmax_jobs = 8\nmax_active_qubits = 9\n\
                    magic_states_per_window = 10\nepochs_per_window = 11\nwindow_epochs = 12\n\
                    [tenants.b]\ncapabilities = []\n[tenants.b.quota]\nmax_jobs = 5000\nmax_active_qubits = 40\n";
        let policy = SitePolicy::parse(text, "policy.toml".as_ref()).unwrap();
        let config = MachineConfig { policy: Some(Arc::new(policy)), ..MachineConfig::default() };
        let machine = Machine::start(SimDevice::default(), config);
        let quota = |tenant| machine.shared.state.lock().quota(tenant);
        let (a, b) = (quota("a"), quota("b"));
        let numbers = [a.qubits, a.channels, a.strands, a.active, a.weight];
        assert_eq!(numbers, [5, 7, 8, 9, 3]);
        assert_eq!([a.physical_qubits, a.magic, a.epochs, a.window], [6, 10, 11, 12]);
        // A policy does not go beyond the machine.
        assert_eq!([b.strands, b.active, b.weight], [1000, Quota::UNLIMITED.active, 1]);
    }

    /// A machine without a driver, and jobs on it that have run, each with as many distinct outcomes as shots, nearly.
    fn with_outcomes(jobs: u32, shots: u64, kept_bytes: usize) -> State<SimDevice> {
        let config = MachineConfig { kept_bytes, lockstep: true, ..MachineConfig::default() };
        let mut state = State::boot(SimDevice::default(), config, Store::default());
        let caller = Caller { connection: 1, peer: None, shown: None };
        let session_id = state.create_session(SessionCreate::default(), &caller).unwrap().session_id;
        let source = ".for i in 1..24\nALLOC_LQ -> q{i}\nAPPLY_H q{i}\nMEASURE_Z q{i} -> m{i}\n.endfor\n";
        for seed in 0..jobs.into() {
            let policy = Policy { shots, seed, ..Policy::default() };
            let p = JobSubmit { session_id: session_id.clone(), source: source.into(), format: Format::Asm, policy };
            let program = Program::build(source, Format::Asm, &BTreeMap::new(), None, Rights::all()).unwrap();
            state.submit(&p, program, true).unwrap();
        }
        while state.kernel.advance().busy {}
        state
    }

    fn found(state: &State<SimDevice>) -> Vec<usize> {
        let jobs = state.sessions.values().flat_map(|s| s.jobs.values());
        jobs.map(|job| job.outcomes.counts.len()).collect()
    }

    #[test]
    fn one_round_finds_room_for_some_new_outcomes_and_for_some_of_each_job() {
        let mut state = with_outcomes(3, 5000, 256 << 20);
        let (mut rounds, mut ended, mut before) = (0, 0, vec![0; 3]);
        while ended < 3 {
            ended += state.collect().finished.len();
            let now = found(&state);
            let new: usize = now.iter().zip(&before).map(|(now, before)| now.saturating_sub(*before)).sum();
            assert!(new <= 1100, "{before:?} {now:?}");
            assert!(rounds > 0 || now.iter().all(|n| *n > 300), "{now:?}");
            (rounds, before) = (rounds + 1, now);
            assert!(rounds < 100, "never done");
        }
        assert!(rounds >= 14, "{rounds}");
    }

    #[test]
    fn all_running_jobs_of_a_tenant_hold_so_many_outcomes_together() {
        // What three of them need.
        let (width, most) = (24 + 48, 3 * 3000 * (24 + 48));
        let mut state = with_outcomes(20, 3000, most);
        let (mut completed, mut rounds) = (0, 0);
        while !state.unfinished.is_empty() {
            let collected = state.collect();
            for job in &collected.finished {
                assert_eq!(job.outcomes.shots, 3000);
                state.withdraw(&job.session, job.ticket.job);
            }
            completed += collected.finished.len();
            let held = found(&state).iter().sum::<usize>() * width;
            // One more may grow to its end.
            assert!(held <= most + (3000 + 2000) * width, "{held}");
            rounds += 1;
            assert!(rounds < 1000, "never done");
        }
        assert_eq!(completed, 20);
    }

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

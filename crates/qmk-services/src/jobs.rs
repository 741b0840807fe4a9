//! Jobs: programs under way, and their results.

use crate::machine::{State, bytes_of_params, kernel_error, noise_level, not_found};
use crate::program::{Program, count_outcomes};
use crate::store::Ticket;
use crate::tenants::Tenant;
use crate::watch::brief;
use qmk_abi::rpc::*;
use qmk_abi::syscall::{Run, StrandState, StrandStatus};
use qmk_abi::{Handle, KernelError, Syscall};
use qmk_kernel::hal::Device;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of outcomes that one round of collecting reads, of all jobs together.
const COLLECT_BYTES: u64 = 1 << 20;

/// New outcomes that it finds room for: each takes a microsecond, and callers wait meanwhile.
const COLLECT_NEW: u64 = 1024;

/// Bytes of the longest program that is kept with its job.
const KEPT_SOURCE: usize = 256 << 10;

/// What a key of a map takes beside its text, about.
const KEY_BYTES: usize = 48;

pub(crate) struct Job {
    /// Until the job has ended.
    pub(crate) program: Option<Arc<Program>>,
    pub(crate) policy: Policy,
    pub(crate) image: Handle,
    pub(crate) strand: Handle,
    pub(crate) state: JobState,
    pub(crate) status: StrandStatus,
    pub(crate) estimated: u64,
    /// Magic states of a shot.
    magic: u64,
    /// What its program takes, about.
    pub(crate) bytes: usize,
    pub(crate) started: Instant,
    /// Once it has ended.
    pub(crate) took: Option<Duration>,
    pub(crate) outcomes: Outcomes,
    pub(crate) result: Option<Arc<JobResult>>,
    pub(crate) error: Option<String>,
    pub(crate) recorded: Arc<AtomicBool>,
    /// A job of the machine's own.
    pub(crate) silent: bool,
    /// To build the program again, if it is not too long.
    pub(crate) source: Option<(String, Format)>,
}

/// What has been read of a job's outcomes.
#[derive(Default)]
pub(crate) struct Outcomes {
    pub(crate) shots: u64,
    pub(crate) counts: BTreeMap<Vec<u8>, u64>,
    pub(crate) last: Vec<u8>,
}

/// A job whose outcomes have all been read.
pub(crate) struct Finished {
    pub(crate) session: String,
    pub(crate) ticket: Ticket,
    pub(crate) status: StrandStatus,
    pub(crate) outcomes: Outcomes,
    pub(crate) program: Arc<Program>,
    pub(crate) report: RunReport,
}

/// What a round of collecting found.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) finished: Vec<Finished>,
    /// Jobs that have begun to run.
    pub(crate) started: Vec<Ticket>,
    /// Whether any job ended.
    pub(crate) ended: bool,
    /// Whether there are outcomes to read.
    pub(crate) more: bool,
}

impl<D: Device> State<D> {
    /// Takes on a job; a silent one is the machine's own, of which no one is told and nothing recorded.
    pub(crate) fn submit(
        &mut self,
        p: &JobSubmit,
        mut program: Program,
        silent: bool,
    ) -> Result<(Submitted, Ticket), RpcError> {
        let session = self.session(&p.session_id)?;
        let (domain, machine) = (self.tenants[&session.tenant].domain, session.machine);
        let bytes = program.bytes() + p.source.len() + bytes_of_params(&p.policy);
        let taken: usize = self
            .unfinished
            .iter()
            .filter(|(_, s)| **s == p.session_id)
            .filter_map(|(n, _)| session.jobs.get(n).map(|j| j.bytes))
            .sum();
        if taken.saturating_add(bytes) > self.config.max_session_bytes {
            let message = format!(
                "the programs of this session's unfinished jobs would take {} bytes, more than {}; wait for one to end",
                taken.saturating_add(bytes),
                self.config.max_session_bytes
            );
            return Err(RpcError::new(ErrorCode::QuotaExceeded, message));
        }
        let policy = p.policy.clone();
        let instructions = program.image.code.len() as u32;
        let patch = program.patch();
        let device = self.kernel.device();
        if device.physical_qubits(patch).is_none() {
            return Err(program.unavailable());
        }
        let noise = program.noise(noise_level(&policy.noise)?);
        let errors = device
            .errors(patch, noise)
            .map_err(|why| RpcError::new(ErrorCode::InvalidParams, format!("noise level {:?}: {why}", policy.noise)))?;
        let estimated = program.critical_path(|op, patch| device.cost(op, patch)).saturating_mul(policy.shots);
        let failure = device.failure(&program.image, patch, noise);
        program.expect(failure, errors.warning);
        let magic = program.magic(|op, patch| device.cost(op, patch));
        self.check_magic(&p.session_id, magic)?;
        let image = self.handle(domain, Syscall::Admit { machine, image: std::mem::take(&mut program.image) })?;
        let run = Run {
            shots: policy.shots,
            seed: policy.seed,
            priority: policy.priority,
            deadline: policy.deadline_epochs,
            patch,
            noise,
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
            prepared: 0,
            fault: None,
        };
        let kept = self.config.kept_jobs;
        let session = self.sessions.get_mut(&p.session_id).expect("looked up above");
        let ticket = Ticket {
            tenant: session.tenant.clone(),
            session: session.number,
            job: number,
            shots: policy.shots,
            priority: policy.priority,
            started: Instant::now(),
            recorded: Arc::new(AtomicBool::new(silent)),
            silent,
        };
        let job = Job {
            program: Some(Arc::new(program)),
            policy,
            image,
            strand,
            state: JobState::Queued,
            status,
            estimated,
            magic: magic.0,
            bytes,
            started: ticket.started,
            took: None,
            outcomes: Outcomes::default(),
            result: None,
            error: None,
            recorded: ticket.recorded.clone(),
            silent,
            source: (1..=KEPT_SOURCE).contains(&p.source.len()).then(|| (p.source.clone(), p.format)),
        };
        tracing::info!(
            job = number,
            session = brief(&p.session_id),
            tenant = session.tenant,
            shots = job.policy.shots,
            instructions,
            estimated_epochs = estimated,
            "job submitted"
        );
        session.jobs.insert(number, job);
        self.unfinished.insert(number, p.session_id.clone());
        if session.jobs.len() > kept {
            let unfinished = self.unfinished.values().filter(|s| **s == p.session_id).count();
            let many = session.jobs.len().saturating_sub(unfinished).saturating_sub(kept);
            let ended = session.jobs.iter().filter(|(_, j)| j.state.ended()).map(|(&n, _)| n);
            for old in ended.take(many).collect::<Vec<_>>() {
                self.forget(&p.session_id, old);
            }
        }
        let submitted =
            Submitted { job_id: format!("job_{number}"), state: JobState::Queued, estimated_epochs: estimated };
        Ok((submitted, ticket))
    }

    /// Refuses a program that the tenant's quota of magic states will never let run, given those of a shot and of one
    /// instruction.
    fn check_magic(&mut self, session: &str, (shot, most): (u64, u64)) -> Result<(), RpcError> {
        let name = self.session(session)?.tenant.clone();
        let tenant = &self.tenants[&name];
        let (quota, domain) = (tenant.quota, tenant.domain);
        if quota.magic == u64::MAX {
            return Ok(());
        }
        let (needs, left, how) = if quota.window == 0 {
            let open = self.unfinished.iter().filter(|(_, id)| tenant.sessions.contains(*id));
            let jobs = open.filter_map(|(n, id)| self.sessions.get(id)?.jobs.get(n));
            let promised: u64 = jobs.map(|j| j.magic.saturating_sub(j.status.magic_states)).sum();
            let spent = self.usage(domain).magic.saturating_add(promised);
            (shot, quota.magic.saturating_sub(spent), "in a shot, and the tenant has")
        } else {
            (most, quota.magic, "in one operation, and the tenant may spend in a window")
        };
        if needs <= left {
            return Ok(());
        }
        let message = format!("quota exceeded: the program takes {needs} magic states {how} {left}");
        Err(RpcError::new(ErrorCode::QuotaExceeded, message))
    }

    /// Ends jobs that never will: of tenants that have spent what is not renewed.
    fn end_stuck(&mut self) -> bool {
        let limited = |t: &Tenant| t.quota.window == 0 && t.quota.magic.min(t.quota.epochs) < u64::MAX;
        let tenants = self.tenants.iter().filter(|(_, t)| limited(t));
        let mut stuck = Vec::new();
        for (name, domain, quota) in tenants.map(|(name, t)| (name.clone(), t.domain, t.quota)).collect::<Vec<_>>() {
            let used = self.usage(domain);
            let magic = quota.magic.saturating_sub(used.magic);
            for (&number, id) in self.unfinished.iter().filter(|(_, id)| self.tenants[&name].sessions.contains(*id)) {
                let Some(job) = self.sessions.get(id).and_then(|s| s.jobs.get(&number)) else { continue };
                let s = &job.status;
                let issues = matches!(s.state, StrandState::Waiting | StrandState::Running | StrandState::Held);
                if !issues || s.issued == s.instructions || !job.recorded.load(Ordering::Acquire) {
                    continue;
                }
                if quota.epochs <= used.epochs {
                    stuck.push((number, id.clone(), format!("{} epochs", quota.epochs)));
                } else if magic < job.magic.saturating_sub(s.magic_states) {
                    stuck.push((number, id.clone(), format!("{} magic states", quota.magic)));
                }
            }
        }
        for (number, id, spent) in &stuck {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            let (tenant, owner) = (session.tenant.clone(), session.number);
            let Some(job) = session.jobs.get_mut(number) else { continue };
            job.state = JobState::Failed;
            job.error =
                Some(format!("the tenant has spent its {spent}, which are not renewed, before the job was done"));
            let (ticket, report) = (job.ticket(tenant, owner, *number), job.report(&format!("job_{number}")));
            self.store.ended(&ticket, report, None);
            self.end(id, *number, 0);
        }
        !stuck.is_empty()
    }

    /// Takes back a job that could not be recorded.
    pub(crate) fn withdraw(&mut self, session: &str, number: u64) {
        self.end(session, number, 0);
        self.forget(session, number);
    }

    /// Brings job states up to date with their strands and reads outcomes, as many as do not hold up callers.
    pub(crate) fn collect(&mut self) -> Collected {
        let mut collected = Collected::default();
        let mut left = COLLECT_BYTES;
        let jobs = (self.unfinished.len() as u64).max(1);
        let (share, mut new_left, new_share) = (left / jobs, COLLECT_NEW, (COLLECT_NEW / jobs).max(64));
        let mut held = self.held_outcomes();
        let numbers = self.unfinished.range(self.first_read..).chain(self.unfinished.range(..self.first_read));
        let numbers: Vec<(u64, String)> = numbers.map(|(&n, s)| (n, s.clone())).collect();
        self.first_read = 0;
        for (number, id) in numbers {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let domain = self.tenants[&session.tenant].domain;
            let Some(job) = session.jobs.get_mut(&number) else { continue };
            let Some(program) = job.program.clone() else { continue };
            if !job.recorded.load(Ordering::Acquire) {
                collected.more = true;
                continue;
            }
            let ticket = job.ticket(session.tenant.clone(), session.number, number);
            let status = self.kernel.syscall(domain, Syscall::Status { strand: job.strand });
            let Ok(qmk_abi::Reply::Status(status)) = status else { continue };
            job.status = status;
            if job.state == JobState::Queued && job.status.state != StrandState::Waiting {
                let tenant = &session.tenant;
                tracing::info!(job = number, tenant, waited_epochs = job.status.waited, "job started");
            }
            let stride = program.stride as u64;
            let unread = |job: &Job| job.status.shots_done - job.outcomes.shots;
            let (total, first) = held.entry(domain.0).or_insert((0, number));
            // Where a tenant's jobs hold as much as its results may take, one after the other goes on.
            let held_back = *total > self.config.kept_bytes && *first != number;
            if (left == 0 || new_left == 0) && !held_back && unread(job) > 0 && self.first_read == 0 {
                self.first_read = number;
            }
            let mut mine = share.max(stride + 8).min(left);
            let (mut new, before) = (new_share.min(new_left), job.outcomes.counts.len());
            while unread(job) > 0 && mine > 0 && stride > 0 && new > 0 && !held_back {
                // Each shot may be a new outcome.
                let most = u32::try_from((mine / (stride + 8)).clamp(1, new)).unwrap_or(u32::MAX);
                let known = job.outcomes.counts.len();
                let call = Syscall::Outcomes { strand: job.strand, first: job.outcomes.shots, count: most };
                let Ok(qmk_abi::Reply::Outcomes(bytes)) = self.kernel.syscall(domain, call) else { break };
                let shots = job.outcomes.add(&bytes, program.stride);
                if shots == 0 {
                    break;
                }
                let cost = shots * (stride + 8);
                (mine, left) = (mine.saturating_sub(cost), left.saturating_sub(cost));
                let found = (job.outcomes.counts.len() - known) as u64;
                (new, new_left) = (new.saturating_sub(found), new_left.saturating_sub(found));
            }
            let was = job.state;
            let (distinct, width) = (job.outcomes.counts.len(), program.width + KEY_BYTES);
            *total += (distinct - before) * width;
            if distinct.saturating_mul(width) > self.config.kept_bytes {
                job.error = Some(format!(
                    "its {distinct} distinct outcomes so far take more than the {} bytes a tenant's results may take; \
                     run fewer shots at a time or measure fewer qubits",
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
                self.store.ended(&ticket, job.report(&format!("job_{number}")), None);
                self.end(&id, number, 0);
                collected.ended = true;
                continue;
            }
            if was == JobState::Queued && job.state == JobState::Running {
                collected.started.push(ticket.clone());
            }
            if job.status.state == StrandState::Done && (unread(job) == 0 || stride == 0) {
                let mut outcomes = std::mem::take(&mut job.outcomes);
                if stride == 0 {
                    outcomes.counts.insert(Vec::new(), job.policy.shots);
                }
                let mut report = program.report(job.policy.shots, job.policy.seed, job.status.epochs);
                report.t_states = job.status.magic_states;
                report.peak_active_qubits = job.status.peak_active;
                report.warnings.extend(dirty(job.status.dirty_frees));
                report.wall_ms = job.started.elapsed().as_secs_f64() * 1e3;
                collected.finished.push(Finished {
                    session: id,
                    ticket,
                    status: job.status.clone(),
                    outcomes,
                    program,
                    report,
                });
                collected.ended = true;
            } else {
                collected.more |= unread(job) > 0;
            }
        }
        collected.ended |= self.end_stuck();
        collected
    }

    /// Bytes of the outcomes that each tenant's unfinished jobs hold, about, and the first job that holds some.
    fn held_outcomes(&self) -> BTreeMap<u32, (usize, u64)> {
        let mut held: BTreeMap<u32, (usize, u64)> = BTreeMap::new();
        for (&number, id) in &self.unfinished {
            let Some(session) = self.sessions.get(id) else { continue };
            let Some(job) = session.jobs.get(&number).filter(|job| !job.outcomes.counts.is_empty()) else { continue };
            let Some(program) = &job.program else { continue };
            let domain = self.tenants[&session.tenant].domain;
            let (bytes, _) = held.entry(domain.0).or_insert((0, number));
            *bytes += job.outcomes.counts.len().saturating_mul(program.width + KEY_BYTES);
        }
        held
    }

    /// Keeps the result of a finished job, unless it is gone by now.
    pub(crate) fn keep(&mut self, session: &str, number: u64, result: JobResult) {
        let job = self.sessions.get_mut(session).and_then(|s| s.jobs.get_mut(&number));
        let Some(job) = job.filter(|j| !j.state.ended()) else { return };
        let counts: usize = result.report.counts.keys().map(|k| k.len() + KEY_BYTES).sum();
        let names: usize = result.report.events.iter().map(|e| 2 * (e.len() + KEY_BYTES)).sum();
        job.state = JobState::Completed;
        job.result = Some(Arc::new(result));
        self.end(session, number, counts + names);
    }

    /// Gives back what an ended job held in the kernel, and forgets the oldest results of a tenant that keeps too much.
    pub(crate) fn end(&mut self, session: &str, number: u64, bytes: usize) {
        self.unfinished.remove(&number);
        let Some(owner) = self.sessions.get_mut(session) else { return };
        let (Some(tenant), Some(job)) = (self.tenants.get_mut(&owner.tenant), owner.jobs.get_mut(&number)) else {
            return;
        };
        if !job.silent {
            tenant.ended.add(job.state);
        }
        let ms = job.started.elapsed().as_millis() as u64;
        let state = job.state.name();
        tracing::info!(job = number, tenant = owner.tenant, state, epochs = job.status.epochs, ms, "job ended");
        job.took = Some(job.started.elapsed());
        job.program = None;
        job.outcomes = Outcomes::default();
        let bytes = bytes + job.source.as_ref().map_or(0, |(text, _)| text.len()) + bytes_of_params(&job.policy);
        let (domain, mut held) = (tenant.domain, vec![job.strand, job.image]);
        held.extend(owner.held.take_of_job(number));
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
    pub(crate) fn forget(&mut self, session: &str, number: u64) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        session.jobs.remove(&number);
        if let Some(tenant) = self.tenants.get_mut(&session.tenant) {
            tenant.kept_bytes -= tenant.kept.remove(&number).map_or(0, |(_, bytes)| bytes);
        }
    }

    pub(crate) fn job(&self, session: &str, job: &str) -> Result<&Job, RpcError> {
        let session = self.session(session)?;
        let job = job_number(job).and_then(|n| session.jobs.get(&n));
        job.filter(|j| j.recorded.load(Ordering::Acquire)).map_or_else(|| not_found(ErrorCode::JobNotFound), Ok)
    }

    pub(crate) fn status(&self, session: &str, id: &str) -> Result<JobStatus, RpcError> {
        Ok(self.job(session, id)?.report(id))
    }

    pub(crate) fn cancel(&mut self, session: &str, id: &str) -> Result<Cancelled, RpcError> {
        let job = self.job(session, id)?;
        if job.state.ended() {
            return Err(ended(id));
        }
        let owner = self.session(session)?;
        let status = JobStatus { state: JobState::Cancelled, ..job.report(id) };
        let ticket = job.ticket(owner.tenant.clone(), owner.number, job_number(id).unwrap_or(0));
        self.store.try_ended(&ticket, status, None)?;
        let epoch = self.kernel.epoch();
        if let Some(number) = job_number(id) {
            if let Some(job) = self.sessions.get_mut(session).and_then(|s| s.jobs.get_mut(&number)) {
                job.state = JobState::Cancelled;
            }
            self.end(session, number, 0);
        }
        Ok(Cancelled { job_id: id.into(), state: JobState::Cancelled, cancelled_at_epoch: epoch })
    }
}

impl Outcomes {
    /// Adds packed outcomes; returns the number of shots.
    pub(crate) fn add(&mut self, bytes: &[u8], stride: usize) -> u64 {
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
    /// Whether its result is made in no time.
    pub(crate) fn is_small(&self) -> bool {
        self.outcomes.counts.len().saturating_mul(self.program.width) + self.program.events.len() < 256
    }

    pub(crate) fn result(mut self) -> JobResult {
        self.report.counts = count_outcomes(&self.program.events, &self.outcomes.counts);
        let last_shot = self.program.values(&self.outcomes.last);
        JobResult { job_id: format!("job_{}", self.ticket.job), last_shot, report: self.report }
    }
}

/// What to say of qubits that are freed while something may still depend on them.
fn dirty(frees: u32) -> Option<String> {
    let (what, whose) = match frees {
        0 => return None,
        1 => ("1 qubit is".into(), "its"),
        n => (format!("{n} qubits are"), "their"),
    };
    Some(format!("{what} freed without being measured; {whose} state is reset first"))
}

impl Job {
    pub(crate) fn progress(&self) -> Progress {
        progress(&self.status, self.result.as_ref().map_or(self.estimated, |r| r.report.epochs.total))
    }

    fn ticket(&self, tenant: String, session: u64, job: u64) -> Ticket {
        let Policy { shots, priority, .. } = self.policy;
        let (started, recorded, silent) = (self.started, self.recorded.clone(), self.silent);
        Ticket { tenant, session, job, shots, priority, started, recorded, silent }
    }

    /// How far it is.
    fn report(&self, id: &str) -> JobStatus {
        JobStatus {
            job_id: id.into(),
            state: self.state,
            progress: self.progress(),
            events: self.result.as_ref().map(|r| r.last_shot.clone()),
            telemetry: self.result.as_ref().map(|r| telemetry(&self.status, r)),
            error: self.error.clone(),
        }
    }

    pub(crate) fn telemetry(&self) -> Telemetry {
        self.result.as_ref().map(|r| telemetry(&self.status, r)).unwrap_or_default()
    }
}

/// The status of a completed job.
pub(crate) fn completed(status: &StrandStatus, result: &JobResult) -> JobStatus {
    JobStatus {
        job_id: result.job_id.clone(),
        state: JobState::Completed,
        progress: progress(status, result.report.epochs.total),
        events: None,
        telemetry: Some(telemetry(status, result)),
        error: None,
    }
}

fn progress(s: &StrandStatus, total_epochs: u64) -> Progress {
    Progress {
        current_epoch: s.epochs.saturating_mul(s.shots_done.max(1)),
        total_epochs,
        nodes_executed: match (s.prepared, s.shots_done) {
            // What is prepared for all shots takes nearly all of the time.
            (1.., _) => {
                let parts = 99 * s.prepared as u128 * s.shots as u128 + 1_000_000 * s.shots_done as u128;
                (parts * s.instructions as u128 / 100_000_000) as u64
            }
            // The first pass issues; the shots that follow repeat its schedule.
            (0, 0) => s.issued as u64,
            (0, n) => n.saturating_mul(s.instructions as u64),
        },
        nodes_total: s.shots.saturating_mul(s.instructions as u64),
    }
}

/// Why a job has no result.
pub(crate) fn no_result(id: &str, state: JobState, error: Option<&str>) -> RpcError {
    let why = error.unwrap_or("no reason given");
    match state {
        JobState::Failed => RpcError::new(ErrorCode::ResourceExhausted, format!("{id} failed: {why}")),
        JobState::Cancelled => RpcError::new(ErrorCode::AlreadyCompleted, format!("{id} was cancelled")),
        _ => RpcError::new(ErrorCode::Timeout, format!("{id} has not ended; wait for it first")),
    }
}

pub(crate) fn ended(id: &str) -> RpcError {
    RpcError::new(ErrorCode::AlreadyCompleted, format!("{id} has already ended"))
}

fn telemetry(status: &StrandStatus, r: &JobResult) -> Telemetry {
    Telemetry {
        total_epochs: r.report.epochs.total,
        total_gates: status.shots.saturating_mul(status.instructions as u64),
        physical_qubits_used: r.report.physical_qubits,
        decoder_cycles: r.report.epochs.total,
        execution_time_ms: r.report.wall_ms,
    }
}

/// The number in a job's name. Each job has one name.
pub(crate) fn job_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("job_")?;
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| canonical)
}

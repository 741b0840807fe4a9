//! Qubits that sessions hold one by one, checkpoints, and calls on jobs under way.

use crate::jobs::job_number;
use crate::machine::{Connection, State, kernel_error};
use crate::program::{Program, code_name};
use qmk_abi::image::Op;
use qmk_abi::rpc::interactive::*;
use qmk_abi::rpc::{ErrorCode, Format, JobRef, JobResult, JobState, JobSubmit, JobWait, Policy, RpcError};
use qmk_abi::syscall::Limit;
use qmk_abi::{Handle, KernelError, Rights, Syscall};
use qmk_kernel::DomainId;
use qmk_kernel::hal::Device;
use qmk_qvm::{Graph, Node, Opcode, Resources};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a call waits for magic states and pairs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Qubits taken before others get in between.
const CHUNK: usize = 64;

/// How long a replay may take if the caller does not say, and at most.
const REPLAY: (u64, u64) = (30_000, 60_000);

/// What a session holds beside jobs. All of it derives from the session's machine capability, and ends with it.
#[derive(Default)]
pub(crate) struct Held {
    qubits: BTreeMap<u64, Handle>,
    checkpoints: BTreeMap<u64, Checkpoint>,
    /// Names given out. A name is not used twice.
    names: u64,
}

struct Checkpoint {
    handle: Handle,
    job: Option<u64>,
}

impl Held {
    /// One that gives out names after these.
    pub(crate) fn after(names: u64) -> Held {
        Held { names, ..Held::default() }
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Takes out the checkpoints of a job, which end with it.
    pub(crate) fn take_of_job(&mut self, job: u64) -> Vec<Handle> {
        let mut taken = Vec::new();
        self.checkpoints.retain(|_, c| {
            let ends = c.job == Some(job);
            if ends {
                taken.push(c.handle);
            }
            !ends
        });
        taken
    }
}

/// Why an attempt failed.
pub(crate) enum Refused {
    /// Epochs will change it.
    NotYet(RpcError),
    Final(RpcError),
}

impl From<RpcError> for Refused {
    fn from(e: RpcError) -> Self {
        Refused::Final(e)
    }
}

impl From<KernelError> for Refused {
    fn from(e: KernelError) -> Self {
        match e {
            KernelError::NotReady(_) => Refused::NotYet(kernel_error(e)),
            // A device refuses what the caller's qubits make too large for it.
            KernelError::Device(_) => Refused::Final(RpcError::new(ErrorCode::ResourceExhausted, e.to_string())),
            e => Refused::Final(kernel_error(e)),
        }
    }
}

pub(crate) fn unexpected<T, E: From<RpcError>>(reply: qmk_abi::Reply) -> Result<T, E> {
    Err(RpcError::new(ErrorCode::Internal, format!("unexpected reply {reply:?}")).into())
}

pub(crate) fn invalid<T, E: From<RpcError>>(message: impl Into<String>) -> Result<T, E> {
    Err(RpcError::new(ErrorCode::InvalidParams, message).into())
}

/// The number in a name. Each thing has one name.
fn number(prefix: &str, name: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| canonical)
}

impl<D: Device> State<D> {
    /// The domain and machine capability of a session that holds these classes.
    pub(crate) fn may(&self, session: &str, need: Rights) -> Result<(DomainId, Handle), RpcError> {
        let session = self.session(session)?;
        let missing = need - session.granted;
        if !missing.is_empty() {
            let names = missing.class_names();
            let message = format!("this needs {}, which the session does not hold", names.join(", "));
            let mut e = RpcError::new(ErrorCode::InsufficientCaps, message);
            (e.required, e.missing) = (need.class_names(), names);
            return Err(e);
        }
        Ok((self.tenants[&session.tenant].domain, session.machine))
    }

    fn held(&mut self, session: &str) -> Result<&mut Held, RpcError> {
        self.session(session)?;
        Ok(&mut self.sessions.get_mut(session).expect("looked up above").held)
    }

    pub(crate) fn qubit(&self, session: &str, name: &str) -> Result<Handle, RpcError> {
        let held = &self.session(session)?.held;
        match number("q_", name).and_then(|n| held.qubits.get(&n)) {
            Some(&handle) => Ok(handle),
            None => invalid("no such qubit in this session; q_alloc names those that it holds"),
        }
    }

    fn take_qubits(&mut self, session: &str, most: usize, names: &mut Vec<String>) -> Result<(), Refused> {
        let (domain, machine) = self.may(session, Rights::ALLOC)?;
        for _ in 0..most {
            let qmk_abi::Reply::Handle(handle) = self.kernel.syscall(domain, Syscall::TakeQubit { machine })? else {
                continue;
            };
            let held = self.held(session)?;
            let name = held.name();
            held.qubits.insert(name, handle);
            names.push(format!("q_{name}"));
        }
        Ok(())
    }

    /// Performs the operations that are left of `ops`.
    fn perform(&mut self, p: &Apply, ops: &mut Vec<Op>, applied: &mut Applied) -> Result<(), Refused> {
        let need = ops.iter().map(|op| op.class()).fold(Rights::empty(), |all, class| all | class);
        let (domain, machine) = self.may(&p.session_id, if need.is_empty() { Rights::COMPUTE } else { need })?;
        let qubits = p.qubits.iter().map(|q| self.qubit(&p.session_id, q)).collect::<Result<Vec<_>, _>>()?;
        applied.until_epoch = applied.until_epoch.max(self.kernel.epoch());
        while let Some(&op) = ops.first() {
            let call = Syscall::Apply { machine, op, qubits: qubits.clone() };
            match self.kernel.syscall(domain, call)? {
                qmk_abi::Reply::Applied { outcomes, until } => {
                    applied.outcomes.extend(outcomes.into_iter().map(u8::from));
                    applied.until_epoch = until;
                }
                other => return unexpected(other),
            }
            ops.remove(0);
        }
        Ok(())
    }

    fn release(&mut self, session: &str, name: &str, uncompute: bool) -> Result<(bool, u32), Refused> {
        let (domain, machine) = self.may(session, Rights::empty())?;
        let qubit = self.qubit(session, name)?;
        let uncompute = uncompute.then_some(machine);
        match self.kernel.syscall(domain, Syscall::FreeQubit { qubit, uncompute })? {
            qmk_abi::Reply::Freed { dirty, undone } => {
                number("q_", name).and_then(|n| self.held(session).ok()?.qubits.remove(&n));
                Ok((dirty, undone))
            }
            other => unexpected(other),
        }
    }

    /// The strand of a job that has not ended.
    fn running(&self, session: &str, id: &str) -> Result<Handle, RpcError> {
        let job = self.job(session, id)?;
        if job.state.ended() {
            return Err(RpcError::new(ErrorCode::AlreadyCompleted, format!("{id} has already ended")));
        }
        Ok(job.strand)
    }

    /// The strand that a call is about, if it is about one.
    fn strand_of(&self, p: &Part) -> Result<Option<Handle>, RpcError> {
        p.job_id.as_deref().map(|id| self.running(&p.session_id, id)).transpose()
    }

    fn rollback(&mut self, p: &Part) -> Result<RolledBack, Refused> {
        let (domain, machine) = self.may(&p.session_id, Rights::COMPUTE)?;
        let strand = self.strand_of(p)?;
        match self.kernel.syscall(domain, Syscall::Rollback { machine, strand })? {
            qmk_abi::Reply::RolledBack(undone) => Ok(RolledBack { undone: undone.into() }),
            other => unexpected(other),
        }
    }

    fn checkpoint(&mut self, p: &Part) -> Result<CheckpointInfo, Refused> {
        let (domain, machine) = self.may(&p.session_id, Rights::CHECKPOINT)?;
        let strand = self.strand_of(p)?;
        let handle = match self.kernel.syscall(domain, Syscall::Checkpoint { machine, strand })? {
            qmk_abi::Reply::Handle(handle) => handle,
            other => return unexpected(other),
        };
        let job = p.job_id.as_deref().and_then(job_number);
        let held = self.held(&p.session_id)?;
        let name = held.name();
        held.checkpoints.insert(name, Checkpoint { handle, job });
        let taken_at_epoch = match self.kernel.syscall(domain, Syscall::CheckpointStatus { checkpoint: handle })? {
            qmk_abi::Reply::Checkpoint(taken) => taken,
            other => return unexpected(other),
        };
        Ok(CheckpointInfo { checkpoint_id: format!("ckpt_{name}"), taken_at_epoch, pending: taken_at_epoch.is_none() })
    }

    /// The name, capability and job of a checkpoint.
    fn find_checkpoint(&self, p: &CheckpointRef) -> Result<(u64, Handle, Option<u64>), RpcError> {
        let held = &self.session(&p.session_id)?.held;
        let found = number("ckpt_", &p.checkpoint_id).and_then(|n| Some((n, held.checkpoints.get(&n)?)));
        found.map(|(n, c)| (n, c.handle, c.job)).ok_or_else(|| {
            RpcError::new(ErrorCode::NoCheckpoint, "no such checkpoint in this session; those of a job end with it")
        })
    }

    fn restore(&mut self, p: &CheckpointRef) -> Result<Restored, Refused> {
        let (domain, _) = self.may(&p.session_id, Rights::CHECKPOINT)?;
        let (_, checkpoint, job) = self.find_checkpoint(p)?;
        self.kernel.syscall(domain, Syscall::Restore { checkpoint })?;
        let session = self.sessions.get_mut(&p.session_id);
        if let Some(job) = session.and_then(|s| s.jobs.get_mut(&job?)) {
            // Its shots are done again.
            job.outcomes = Default::default();
            job.status.shots_done = 0;
        }
        Ok(Restored { checkpoint_id: p.checkpoint_id.clone(), at_epoch: self.kernel.epoch() })
    }

    fn drop_checkpoint(&mut self, p: &CheckpointRef) -> Result<Restored, RpcError> {
        let (domain, _) = self.may(&p.session_id, Rights::empty())?;
        let (name, handle, _) = self.find_checkpoint(p)?;
        self.held(&p.session_id)?.checkpoints.remove(&name);
        self.delete(domain, handle)?;
        Ok(Restored { checkpoint_id: p.checkpoint_id.clone(), at_epoch: self.kernel.epoch() })
    }

    fn migrate(&mut self, p: &Migrate) -> Result<Migrated, RpcError> {
        let (domain, _) = self.may(&p.session_id, Rights::empty())?;
        let strand = self.running(&p.session_id, &p.job_id)?;
        let region = p.region.clone().unwrap_or_else(|| "shared".into());
        if region != "shared" {
            let shown: String = region.chars().take(60).collect();
            return invalid(format!("this machine has no region {shown:?}; it has: shared"));
        }
        self.call(domain, Syscall::Migrate { strand, region: None })?;
        Ok(Migrated { job_id: p.job_id.clone(), region })
    }
}

/// The operations that an opcode stands for, over registers `0..arity`. The verifier and the lowering of programs do the
/// work, so that an operation means the same here and there.
fn operations(p: &Apply) -> Result<Vec<Op>, RpcError> {
    let shown: String = p.op.chars().take(60).collect();
    match p.op.as_str() {
        "ALLOC_LQ" => return invalid("ALLOC_LQ has a method of its own: q_alloc"),
        "FREE_LQ" => return invalid("FREE_LQ has a method of its own: q_release"),
        "OPEN_CHAN" | "USE_CHAN" | "CLOSE_CHAN" => {
            return invalid(format!("{shown} has methods of its own: q_open_chan and so on"));
        }
        "COND_PAULI" | "FENCE_EPOCH" | "BAR_REGION" | "SET_POLICY" => {
            return invalid(format!(
                "{shown} makes no sense for qubits held one by one; the caller decides what follows"
            ));
        }
        _ => {}
    }
    if p.qubits.is_empty() || p.qubits.len() > 3 {
        return invalid(format!("{shown}: operations take 1 to 3 qubits, {} are given", p.qubits.len()));
    }
    if p.theta.is_some_and(|t| !t.is_finite()) {
        return invalid(format!("{shown}: the angle is not finite"));
    }
    let vqs: Vec<String> = (0..p.qubits.len()).map(|i| format!("q{i}")).collect();
    let events: &[&str] = match p.op.as_str() {
        "MEASURE_BELL" => &["m0", "m1"],
        op if op.starts_with("MEASURE_") => &["m0"],
        _ => &[],
    };
    let Some(op) = Opcode::from_name(&p.op) else {
        return invalid(format!("unknown operation {shown:?}{}", Opcode::hint(&p.op)));
    };
    let node = |id: &str, op, produces: &[&str]| Node {
        id: id.into(),
        op,
        args: Default::default(),
        vqs: vqs.clone(),
        chs: Vec::new(),
        inputs: Vec::new(),
        produces: produces.iter().map(ToString::to_string).collect(),
        caps: Vec::new(),
        guard: None,
        line: None,
    };
    let mut nodes = vec![node("alloc", Opcode::AllocLq, &[]), node("op", op, events)];
    if let Some(theta) = p.theta {
        let name = if p.op == "MEASURE_ANGLE" { "angle" } else { "theta" };
        nodes[1].args.insert(name.into(), theta.into());
    }
    let events = nodes[1].produces.clone();
    let resources = Resources { vqs: vqs.clone(), chs: Vec::new(), events };
    let lowered = qmk_qvm::lower(&Graph { nodes, resources, ..Graph::default() });
    match lowered {
        Ok(lowered) => {
            let ops = lowered.image.code.into_iter().map(|i| i.op);
            Ok(ops.filter(|op| !matches!(op, Op::Alloc(_) | Op::Free(_) | Op::Fence)).collect())
        }
        Err(findings) => {
            let error = findings.into_iter().find(|f| f.severity == qmk_qvm::Severity::Error);
            invalid(format!("{shown}: {}", error.map_or("not an operation".into(), |f| f.message)))
        }
    }
}

impl<D: Device + Send + 'static> Connection<D> {
    /// Tries until it can be done, while the machine runs epochs. The lock is given up in between, so an attempt looks
    /// everything up again.
    pub(crate) fn patiently<T>(
        &self,
        mut attempt: impl FnMut(&mut State<D>) -> Result<T, Refused>,
    ) -> Result<T, RpcError> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock();
        loop {
            match attempt(&mut state) {
                Ok(done) => return Ok(done),
                Err(Refused::Final(e)) => return Err(e),
                Err(Refused::NotYet(mut e)) => {
                    if Instant::now() >= deadline || state.stopping {
                        e.message += &format!("; it was not so within {} s", PATIENCE.as_secs());
                        return Err(e);
                    }
                    state.waiting += 1;
                    self.shared.work.notify_all();
                    self.shared.ticked.wait_until(&mut state, deadline);
                    state.waiting -= 1;
                }
            }
        }
    }

    pub(crate) fn interactive(&self, call: Call) -> Result<Answer, RpcError> {
        let state = || self.shared.state.lock();
        Ok(match call {
            Call::Alloc(p) => Answer::Alloc(self.alloc(&p)?),
            Call::Apply(p) => Answer::Apply(self.apply(&p)?),
            Call::Measure(p) => Answer::Measure(self.measure(p)?),
            Call::Release(p) => Answer::Release(self.release(p)?),
            Call::Rollback(p) => Answer::Rollback(self.patiently(|s| s.rollback(&p))?),
            Call::OpenChannel(p) => Answer::OpenChannel(state().open_channel(&p)?),
            Call::AcceptChannel(p) => Answer::AcceptChannel(self.patiently(|s| s.accept_channel(&p))?),
            Call::UseChannel(p) => Answer::UseChannel(self.patiently(|s| s.use_channel(&p))?),
            Call::CloseChannel(p) => Answer::CloseChannel(state().close_channel(&p)?),
            Call::ChannelStatus(p) => Answer::ChannelStatus(state().channel_status(&p)?),
            Call::ChannelList(p) => Answer::ChannelList(state().list_channels(&p.session_id)?),
            Call::Checkpoint(p) => Answer::Checkpoint(self.patiently(|s| s.checkpoint(&p))?),
            Call::Restore(p) => {
                let restored = self.patiently(|s| s.restore(&p))?;
                self.shared.work.notify_all();
                Answer::Restore(restored)
            }
            Call::DropCheckpoint(p) => Answer::DropCheckpoint(state().drop_checkpoint(&p)?),
            Call::Migrate(p) => Answer::Migrate(state().migrate(&p)?),
            Call::Mapping(p) => Answer::Mapping(self.mapping(&p)?),
            Call::Replay(p) => Answer::Replay(self.replay(&p)?),
        })
    }

    fn alloc(&self, p: &Alloc) -> Result<Allocated, RpcError> {
        {
            let mut state = self.shared.state.lock();
            let (domain, _) = state.may(&p.session_id, Rights::ALLOC)?;
            if p.n == 0 {
                return invalid("n must be at least 1");
            }
            if let qmk_abi::Reply::Usage { used, quota } = state.call(domain, Syscall::Usage)?
                && p.n > quota.qubits - used.qubits
            {
                return Err(kernel_error(KernelError::Quota(Limit::Qubits)));
            }
        }
        let mut qubits = Vec::new();
        while qubits.len() < p.n as usize {
            let taken = self.patiently(|state| {
                let most = CHUNK.min(p.n as usize - qubits.len());
                let before = qubits.len();
                state.take_qubits(&p.session_id, most, &mut qubits).or_else(|e| match e {
                    // What there is was taken; the next attempt is for the rest.
                    Refused::NotYet(_) if qubits.len() > before => Ok(()),
                    e => Err(e),
                })
            });
            if let Err(e) = taken {
                // All or none.
                let mut state = self.shared.state.lock();
                for name in &qubits {
                    _ = state.release(&p.session_id, name, false);
                }
                return Err(e);
            }
        }
        Ok(Allocated { qubits })
    }

    fn apply(&self, p: &Apply) -> Result<Applied, RpcError> {
        // Who may not even ask learns nothing of what is asked.
        self.shared.state.lock().session(&p.session_id)?;
        let mut ops = operations(p)?;
        let mut applied = Applied { outcomes: Vec::new(), until_epoch: 0 };
        self.patiently(|state| state.perform(p, &mut ops, &mut applied))?;
        Ok(applied)
    }

    fn measure(&self, p: Measure) -> Result<Measured, RpcError> {
        let op = match (p.basis.as_deref(), p.angle) {
            (None, Some(_)) => "MEASURE_ANGLE",
            (None | Some("z" | "Z"), None) => "MEASURE_Z",
            (Some("x" | "X"), None) => "MEASURE_X",
            (Some("y" | "Y"), None) => "MEASURE_Y",
            (Some(_), Some(_)) => return invalid("give either an angle or a basis"),
            (Some(other), None) => {
                let shown: String = other.chars().take(20).collect();
                return invalid(format!("unknown basis {shown:?}; known: z, x, y, or an angle"));
            }
        };
        let apply = Apply { session_id: p.session_id, op: op.into(), qubits: vec![p.qubit], theta: p.angle };
        let applied = self.apply(&apply)?;
        Ok(Measured { outcome: applied.outcomes.first().copied().unwrap_or(0), until_epoch: applied.until_epoch })
    }

    fn release(&self, p: Release) -> Result<Released, RpcError> {
        {
            let state = self.shared.state.lock();
            state.session(&p.session_id)?;
            p.qubits.iter().try_for_each(|q| state.qubit(&p.session_id, q).map(drop))?;
            if p.qubits.iter().collect::<BTreeSet<_>>().len() < p.qubits.len() {
                return invalid("a qubit is named twice");
            }
        }
        let mut done = Released { released: Vec::new(), dirty: Vec::new(), undone: 0 };
        for name in &p.qubits {
            let (dirty, undone) =
                self.patiently(|state| state.release(&p.session_id, name, p.uncompute)).map_err(|mut e| {
                    if !done.released.is_empty() {
                        e.message += &format!("; {} qubits were released before {name}", done.released.len());
                    }
                    e
                })?;
            done.released.push(name.clone());
            done.undone += u64::from(undone);
            if dirty {
                done.dirty.push(name.clone());
            }
        }
        Ok(done)
    }

    /// The program of a job: that which runs, or built again from its source.
    fn program(&self, source: Option<(String, Format)>, policy: &Policy, p: &JobRef) -> Result<Program, RpcError> {
        let (granted, tenant) = {
            let state = self.shared.state.lock();
            let session = state.session(&p.session_id)?;
            (session.granted, session.tenant.clone())
        };
        let Some((text, format)) = source else {
            let message = format!("the program of {} is too long to be kept; submit it again with its seed", p.job_id);
            return Err(RpcError::new(ErrorCode::ResourceExhausted, message));
        };
        self.build_in_turn((&text, format), policy, granted, &tenant)
    }

    /// Why there is no program of a job that memory has not kept.
    fn forgotten(&self, missing: RpcError, p: &JobRef) -> RpcError {
        let message = format!("the program of {} is not kept any more; submit it again with its seed", p.job_id);
        let told = |_| RpcError::new(ErrorCode::ResourceExhausted, message);
        self.stored(missing, &p.session_id, &p.job_id).map_or_else(|e| e, told)
    }

    fn mapping(&self, p: &JobRef) -> Result<Mapping, RpcError> {
        let (running, source, policy, state) = {
            let state = self.shared.state.lock();
            let job = match state.job(&p.session_id, &p.job_id) {
                Ok(job) => job,
                Err(e) => {
                    drop(state);
                    return Err(self.forgotten(e, p));
                }
            };
            (job.program.clone(), job.source.clone(), job.policy.clone(), job.state)
        };
        let program = match running {
            Some(program) => program,
            None => self.program(source, &policy, p)?.into(),
        };
        let patch = program.patch();
        let physical = self.shared.state.lock().kernel.device().physical_qubits(patch);
        Ok(Mapping {
            job_id: p.job_id.clone(),
            state,
            qubits: program.qubits.iter().cloned().zip(0..).collect(),
            region: "shared".into(),
            code: code_name(patch.code).into(),
            distance: patch.distance.into(),
            physical_per_logical: physical.map_or(0, u64::from),
            peak_logical_qubits: program.peak_qubits,
        })
    }

    fn replay(&self, p: &Replay) -> Result<Replayed, RpcError> {
        let job = JobRef { session_id: p.session_id.clone(), job_id: p.job_id.clone() };
        let (first, source, policy) = {
            let state = self.shared.state.lock();
            let found = match state.job(&p.session_id, &p.job_id) {
                Ok(found) => found,
                Err(e) => {
                    drop(state);
                    return Err(self.forgotten(e, &job));
                }
            };
            let Some(result) = found.result.clone() else {
                let what = match found.state {
                    JobState::Failed | JobState::Cancelled => "did not complete, so there is nothing to compare with",
                    _ => "has not ended; wait for it first",
                };
                return invalid(format!("{} {what}", p.job_id));
            };
            (result, found.source.clone(), Policy { deadline_epochs: None, ..found.policy.clone() })
        };
        let program = self.program(source, &policy, &job)?;
        let (seed, shots) = (policy.seed, policy.shots);
        let timeout_ms = Some(p.timeout_ms.unwrap_or(REPLAY.0).min(REPLAY.1));
        // The program is built already, and its text not kept twice.
        let (session_id, source, format) = (p.session_id.clone(), String::new(), Format::Asm);
        let submit = JobSubmit { session_id: session_id.clone(), source, format, policy };
        let again = self.shared.state.lock().submit(&submit, program, true)?.0.job_id;
        self.shared.work.notify_all();
        let ended = self.wait(&JobWait { session_id: session_id.clone(), job_id: again.clone(), timeout_ms });
        let mut state = self.shared.state.lock();
        let second = state.job(&session_id, &again)?.result.clone();
        if ended.is_err() {
            _ = state.cancel(&session_id, &again);
        }
        if let Some(number) = job_number(&again) {
            state.forget(&session_id, number);
        }
        drop(state);
        ended.map_err(|mut e| {
            e.message = e.message.replace(&again, &format!("the replay of {}", p.job_id));
            e
        })?;
        let Some(second) = second else {
            let message = format!("the replay of {} failed, as the job itself did not", p.job_id);
            return Err(RpcError::new(ErrorCode::ResourceExhausted, message));
        };
        let differences = differences(&first, &second);
        let identical = differences.is_empty() && first.last_shot == second.last_shot;
        Ok(Replayed { job_id: p.job_id.clone(), seed, shots, identical, differences })
    }
}

/// Outcomes that did not occur as often in both, some of them.
fn differences(a: &JobResult, b: &JobResult) -> Vec<String> {
    let (a, b) = (&a.report.counts, &b.report.counts);
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter().filter(|k| a.get(*k) != b.get(*k)).take(10).cloned().collect()
}

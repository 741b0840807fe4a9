//! Reading outcomes.

use crate::model::finished::{Collected, Finished};
use crate::model::job::{Job, KEY_BYTES};
use crate::model::tenant::Tenant;
use crate::model::ticket::Ticket;
use crate::program::Program;
use crate::state::State;
use qmk_abi::Syscall;
use qmk_abi::rpc::JobState;
use qmk_abi::syscall::StrandState;
use qmk_kernel::hal::Device;
use qmk_kernel::{DomainId, Kernel};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of outcomes that one round of collecting reads, of all jobs together.
const COLLECT_BYTES: u64 = 1 << 20;
/// New distinct outcomes of one round: each takes a microsecond, during which callers wait.
const COLLECT_NEW: u64 = 1024;

/// Amount that one round of collecting may still read.
struct Budget {
    /// Bytes of outcomes, of all jobs together and of each.
    bytes: u64,
    bytes_each: u64,
    /// New distinct outcomes, of all jobs together and of each.
    new: u64,
    new_each: u64,
}

impl Budget {
    fn new(jobs: u64) -> Budget {
        let jobs = jobs.max(1);
        let new_each = (COLLECT_NEW / jobs).max(64);
        Budget { bytes: COLLECT_BYTES, bytes_each: COLLECT_BYTES / jobs, new: COLLECT_NEW, new_each }
    }

    fn is_spent(&self) -> bool {
        self.bytes == 0 || self.new == 0
    }
}

impl<D: Device> State<D> {
    /// Brings job states up to date with their strands and reads outcomes, within bounds that keep callers from
    /// waiting.
    pub(crate) fn collect(&mut self) -> Collected {
        let mut collected = Collected::default();
        let mut budget = Budget::new(self.unfinished.len() as u64);
        let mut held = self.held_outcomes();
        let numbers = self.unfinished.range(self.first_read..).chain(self.unfinished.range(..self.first_read));
        let numbers: Vec<(u64, String)> = numbers.map(|(&n, s)| (n, s.clone())).collect();
        self.first_read = 0;
        for (number, id) in numbers {
            self.collect_job(number, id, &mut budget, &mut held, &mut collected);
        }
        collected.ended |= self.end_stuck();
        collected
    }

    fn collect_job(
        &mut self,
        number: u64,
        id: String,
        budget: &mut Budget,
        held: &mut BTreeMap<u32, (usize, u64)>,
        collected: &mut Collected,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let domain = self.tenants[&session.tenant].domain;
        let Some(job) = session.jobs.get_mut(&number) else { return };
        let Some(program) = job.program.clone() else { return };
        if !job.recorded.load(Ordering::Acquire) {
            collected.more = true;
            return;
        }
        let ticket = job.ticket(session.tenant.clone(), session.number, number);
        let status = self.kernel.syscall(domain, Syscall::Status { strand: job.strand });
        let Ok(qmk_abi::Reply::Status(status)) = status else { return };
        job.status = status;
        if job.state == JobState::Queued && job.status.state != StrandState::Waiting {
            let tenant = &session.tenant;
            tracing::info!(job = number, tenant, waited_epochs = job.status.waited, "job started");
        }
        let (total, first) = held.entry(domain.0).or_insert((0, number));
        // Where a tenant's jobs hold as much as its results may take, they go on one after the other.
        let held_back = *total > self.config.kept_bytes && *first != number;
        if budget.is_spent() && !held_back && unread(job) > 0 && self.first_read == 0 {
            self.first_read = number;
        }
        let (before, was) = (job.outcomes.counts.len(), job.state);
        if !held_back {
            read_outcomes(&mut self.kernel, domain, job, program.stride, budget);
        }
        *total += (job.outcomes.counts.len() - before) * (program.width + KEY_BYTES);
        update_state(job, &program, self.config.kept_bytes);
        if job.state == JobState::Failed {
            let fault = job.status.fault.as_ref().map(|(at, m)| program.explain(*at, m));
            job.error = job.error.take().or(fault);
            self.store.ended(&ticket, job.report(&format!("job_{number}")), None);
            self.end(&id, number, 0);
            collected.ended = true;
            return;
        }
        if was == JobState::Queued && job.state == JobState::Running {
            collected.started.push(ticket.clone());
        }
        if job.status.state == StrandState::Done && (unread(job) == 0 || program.stride == 0) {
            collected.finished.push(finish(job, program, id, ticket));
            collected.ended = true;
        } else {
            collected.more |= unread(job) > 0;
        }
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

    /// Fails jobs of tenants that have spent a quota that is not renewed: they would wait for ever.
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
}

/// Shots that are done and not read.
fn unread(job: &Job) -> u64 {
    job.status.shots_done - job.outcomes.shots
}

/// Reads outcomes of a job, within its share of the budget.
fn read_outcomes<D: Device>(
    kernel: &mut Kernel<D>,
    domain: DomainId,
    job: &mut Job,
    stride: usize,
    budget: &mut Budget,
) {
    let shot = stride as u64 + 8;
    let (mut bytes, mut new) = (budget.bytes_each.max(shot).min(budget.bytes), budget.new_each.min(budget.new));
    while unread(job) > 0 && bytes > 0 && stride > 0 && new > 0 {
        // Each shot may be a new outcome.
        let most = u32::try_from((bytes / shot).clamp(1, new)).unwrap_or(u32::MAX);
        let known = job.outcomes.counts.len();
        let call = Syscall::Outcomes { strand: job.strand, first: job.outcomes.shots, count: most };
        let Ok(qmk_abi::Reply::Outcomes(read)) = kernel.syscall(domain, call) else { break };
        let shots = job.outcomes.add(&read, stride);
        if shots == 0 {
            break;
        }
        let cost = shots * shot;
        (bytes, budget.bytes) = (bytes.saturating_sub(cost), budget.bytes.saturating_sub(cost));
        let found = (job.outcomes.counts.len() - known) as u64;
        (new, budget.new) = (new.saturating_sub(found), budget.new.saturating_sub(found));
    }
}

/// Sets a job's state by its strand. A job whose distinct outcomes take more than `kept_bytes` fails.
fn update_state(job: &mut Job, program: &Program, kept_bytes: usize) {
    let distinct = job.outcomes.counts.len();
    if distinct.saturating_mul(program.width + KEY_BYTES) > kept_bytes {
        job.error = Some(format!(
            "its {distinct} distinct outcomes so far take more than the {kept_bytes} bytes a tenant's results may take; \
             run fewer shots at a time or measure fewer qubits"
        ));
        job.state = JobState::Failed;
        return;
    }
    job.state = match job.status.state {
        StrandState::Waiting => JobState::Queued,
        StrandState::Faulted => JobState::Failed,
        // A finished strand is a running job until its outcomes are read and named.
        _ => JobState::Running,
    };
}

/// Takes the outcomes out of a job whose outcomes have all been read.
fn finish(job: &mut Job, program: Arc<Program>, session: String, ticket: Ticket) -> Finished {
    let mut outcomes = std::mem::take(&mut job.outcomes);
    if program.stride == 0 {
        outcomes.counts.insert(Vec::new(), job.policy.shots);
    }
    let mut report = program.report(job.policy.shots, job.policy.seed, job.status.epochs);
    report.t_states = job.status.magic_states;
    report.peak_active_qubits = job.status.peak_active;
    report.warnings.extend(dirty(job.status.dirty_frees));
    report.wall_ms = job.started.elapsed().as_secs_f64() * 1e3;
    Finished { session, ticket, status: job.status.clone(), outcomes, program, report }
}

/// Warning about qubits that are freed while something may still depend on them.
fn dirty(frees: u32) -> Option<String> {
    let (what, whose) = match frees {
        0 => return None,
        1 => ("1 qubit is".into(), "its"),
        n => (format!("{n} qubits are"), "their"),
    };
    Some(format!("{what} freed without being measured; {whose} state is reset first"))
}

#[cfg(test)]
mod tests {
    use crate::config::MachineConfig;
    use crate::model::caller::Caller;
    use crate::program::Program;
    use crate::state::State;
    use crate::store::handle::Store;
    use qmk_abi::Rights;
    use qmk_abi::rpc::*;
    use qmk_sim::SimDevice;
    use std::collections::BTreeMap;

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
}

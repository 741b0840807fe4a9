//! Taking on a job.

use crate::errors::{kernel_error, unexpected};
use crate::model::job::{Job, Outcomes, bytes_of_params};
use crate::model::ticket::Ticket;
use crate::model::watched::brief;
use crate::program::{Program, noise_level};
use crate::state::State;
use qmk_abi::rpc::*;
use qmk_abi::syscall::{NoiseSpec, Patch, Run, StrandState, StrandStatus};
use qmk_abi::{Handle, Image, KernelError, Syscall};
use qmk_kernel::hal::Device;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Bytes of the longest program that is kept with its job.
const KEPT_SOURCE: usize = 256 << 10;

/// Demand of a program on the machine.
struct Demand {
    patch: Patch,
    noise: NoiseSpec,
    /// Epochs of the critical path, all shots: a lower bound.
    epochs: u64,
    /// Magic states of a shot, and of the instruction that takes most of them.
    magic: (u64, u64),
}

impl<D: Device> State<D> {
    /// Takes on a job. A silent one is the machine's own: no client learns of it, and nothing is recorded.
    pub(crate) fn submit(
        &mut self,
        p: &JobSubmit,
        mut program: Program,
        silent: bool,
    ) -> Result<(Submitted, Ticket), RpcError> {
        let bytes = program.bytes() + p.source.len() + bytes_of_params(&p.policy);
        self.check_memory(&p.session_id, bytes)?;
        let demand = self.demand(&mut program, &p.policy)?;
        self.check_magic(&p.session_id, demand.magic)?;
        let instructions = program.image.code.len() as u32;
        let image = std::mem::take(&mut program.image);
        let (image, strand) = self.spawn(&p.session_id, image, &p.policy, &demand)?;
        let number = self.next_job;
        self.next_job += 1;
        let policy = p.policy.clone();
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
        tracing::info!(
            job = number,
            session = brief(&p.session_id),
            tenant = session.tenant,
            shots = policy.shots,
            instructions,
            estimated_epochs = demand.epochs,
            "job submitted"
        );
        let job = Job {
            program: Some(Arc::new(program)),
            image,
            strand,
            state: JobState::Queued,
            status: not_started(instructions, policy.shots),
            policy,
            estimated: demand.epochs,
            magic: demand.magic.0,
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
        session.jobs.insert(number, job);
        self.unfinished.insert(number, p.session_id.clone());
        self.forget_excess(&p.session_id);
        let job_id = format!("job_{number}");
        Ok((Submitted { job_id, state: JobState::Queued, estimated_epochs: demand.epochs }, ticket))
    }

    /// Refuses a program that would take the session's unfinished jobs beyond their memory.
    fn check_memory(&self, id: &str, bytes: usize) -> Result<(), RpcError> {
        let session = self.session(id)?;
        let mine = self.unfinished.iter().filter(|(_, s)| *s == id);
        let taken: usize = mine.filter_map(|(n, _)| session.jobs.get(n).map(|j| j.bytes)).sum();
        let (all, most) = (taken.saturating_add(bytes), self.config.max_session_bytes);
        if all <= most {
            return Ok(());
        }
        let message = format!(
            "the programs of this session's unfinished jobs would take {all} bytes, more than {most}; wait for one to end"
        );
        Err(RpcError::new(ErrorCode::QuotaExceeded, message))
    }

    /// Asks the device what a program takes and which errors it meets.
    fn demand(&self, program: &mut Program, policy: &Policy) -> Result<Demand, RpcError> {
        let (device, patch) = (self.kernel.device(), program.patch());
        if device.physical_qubits(patch).is_none() {
            return Err(program.unavailable());
        }
        let noise = program.noise(noise_level(&policy.noise)?);
        let errors = device
            .errors(patch, noise)
            .map_err(|why| RpcError::new(ErrorCode::InvalidParams, format!("noise level {:?}: {why}", policy.noise)))?;
        let epochs = program.critical_path(|op, patch| device.cost(op, patch)).saturating_mul(policy.shots);
        program.expect(device.failure(&program.image, patch, noise), errors.warning);
        let magic = program.magic(|op, patch| device.cost(op, patch));
        Ok(Demand { patch, noise, epochs, magic })
    }

    /// Admits an image and starts a strand of it. A refused strand leaves no image behind.
    fn spawn(
        &mut self,
        session: &str,
        image: Image,
        policy: &Policy,
        demand: &Demand,
    ) -> Result<(Handle, Handle), RpcError> {
        let session = self.session(session)?;
        let (domain, machine) = (self.tenants[&session.tenant].domain, session.machine);
        let image = self.handle(domain, Syscall::Admit { machine, image })?;
        let run = Run {
            shots: policy.shots,
            seed: policy.seed,
            priority: policy.priority,
            deadline: policy.deadline_epochs,
            patch: demand.patch,
            noise: demand.noise,
            ..Run::default()
        };
        match self.kernel.syscall(domain, Syscall::Spawn { machine, image, run }) {
            Ok(qmk_abi::Reply::Handle(strand)) => Ok((image, strand)),
            Ok(other) => unexpected(other),
            Err(e) => {
                self.delete(domain, image)?;
                let late = matches!(e, KernelError::Deadline { .. });
                let mut e = kernel_error(e);
                if late {
                    e.message += &format!("; {} shots take at least {} epochs", policy.shots, demand.epochs);
                }
                Err(e)
            }
        }
    }

    /// Forgets the oldest ended jobs of a session that has too many.
    fn forget_excess(&mut self, id: &str) {
        let kept = self.config.kept_jobs;
        let Some(session) = self.sessions.get(id).filter(|s| s.jobs.len() > kept) else { return };
        let unfinished = self.unfinished.values().filter(|s| *s == id).count();
        let excess = session.jobs.len().saturating_sub(unfinished).saturating_sub(kept);
        let ended = session.jobs.iter().filter(|(_, j)| j.state.ended()).map(|(&n, _)| n);
        for old in ended.take(excess).collect::<Vec<_>>() {
            self.forget(id, old);
        }
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

    /// Takes back a job that could not be recorded.
    pub(crate) fn withdraw(&mut self, session: &str, number: u64) {
        self.end(session, number, 0);
        self.forget(session, number);
    }
}

/// The status of a strand that has issued nothing.
fn not_started(instructions: u32, shots: u64) -> StrandStatus {
    StrandStatus {
        state: StrandState::Waiting,
        epochs: 0,
        waited: 0,
        issued: 0,
        instructions,
        shots_done: 0,
        shots,
        magic_states: 0,
        peak_active: 0,
        dirty_frees: 0,
        prepared: 0,
        fault: None,
    }
}

//! How a job is taken on.

use crate::errors::kernel_error;
use crate::model::job::{Job, Outcomes, bytes_of_params};
use crate::model::ticket::Ticket;
use crate::model::watched::brief;
use crate::program::{Program, noise_level};
use crate::state::State;
use qmk_abi::rpc::*;
use qmk_abi::syscall::{Run, StrandState, StrandStatus};
use qmk_abi::{KernelError, Syscall};
use qmk_kernel::hal::Device;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Bytes of the longest program that is kept with its job.
const KEPT_SOURCE: usize = 256 << 10;

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

    /// Takes back a job that could not be recorded.
    pub(crate) fn withdraw(&mut self, session: &str, number: u64) {
        self.end(session, number, 0);
        self.forget(session, number);
    }
}

//! The calls on qubits and checkpoints, in the machine's state.

use crate::errors::{Refused, invalid, unexpected};
use crate::model::holdings::{Checkpoint, Holdings};
use crate::model::job::job_number;
use crate::state::State;
use qmk_abi::image::Op;
use qmk_abi::rpc::interactive::*;
use qmk_abi::rpc::{ErrorCode, RpcError};
use qmk_abi::{Handle, Rights, Syscall};
use qmk_kernel::DomainId;
use qmk_kernel::hal::Device;

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

    pub(super) fn held(&mut self, session: &str) -> Result<&mut Holdings, RpcError> {
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

    pub(super) fn take_qubits(&mut self, session: &str, most: usize, names: &mut Vec<String>) -> Result<(), Refused> {
        let (domain, machine) = self.may(session, Rights::ALLOC)?;
        self.check_share(session, most)?;
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

    /// # Errors
    /// The tenant would hold more qubits one by one than any tenant may.
    fn check_share(&self, session: &str, more: usize) -> Result<(), RpcError> {
        let Some(share) = self.config.max_held_qubits else { return Ok(()) };
        let sessions = &self.tenants[&self.session(session)?.tenant].sessions;
        let held: usize = sessions.iter().filter_map(|id| self.sessions.get(id)).map(|s| s.held.qubits.len()).sum();
        if held + more <= share as usize {
            return Ok(());
        }
        let message = format!(
            "a tenant may hold {share} qubits one by one on this machine (max_held_qubits), and this one holds {held}; \
             give some back with q_release, or leave the allocation to a program"
        );
        Err(RpcError::new(ErrorCode::QuotaExceeded, message))
    }

    /// Performs the operations that are left of `ops`.
    pub(super) fn perform(&mut self, p: &Apply, ops: &mut Vec<Op>, applied: &mut Applied) -> Result<(), Refused> {
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

    pub(super) fn release(&mut self, session: &str, name: &str, uncompute: bool) -> Result<(bool, u32), Refused> {
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
    pub(super) fn running(&self, session: &str, id: &str) -> Result<Handle, RpcError> {
        let job = self.job(session, id)?;
        if job.state.ended() {
            return Err(RpcError::new(ErrorCode::AlreadyCompleted, format!("{id} has already ended")));
        }
        Ok(job.strand)
    }

    /// The strand that a call is about, if it is about one.
    pub(super) fn strand_of(&self, p: &Part) -> Result<Option<Handle>, RpcError> {
        p.job_id.as_deref().map(|id| self.running(&p.session_id, id)).transpose()
    }

    pub(super) fn rollback(&mut self, p: &Part) -> Result<RolledBack, Refused> {
        let (domain, machine) = self.may(&p.session_id, Rights::COMPUTE)?;
        let strand = self.strand_of(p)?;
        match self.kernel.syscall(domain, Syscall::Rollback { machine, strand })? {
            qmk_abi::Reply::RolledBack(undone) => Ok(RolledBack { undone: undone.into() }),
            other => unexpected(other),
        }
    }

    pub(super) fn checkpoint(&mut self, p: &Part) -> Result<CheckpointInfo, Refused> {
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
    pub(super) fn find_checkpoint(&self, p: &CheckpointRef) -> Result<(u64, Handle, Option<u64>), RpcError> {
        let held = &self.session(&p.session_id)?.held;
        let found = number("ckpt_", &p.checkpoint_id).and_then(|n| Some((n, held.checkpoints.get(&n)?)));
        found.map(|(n, c)| (n, c.handle, c.job)).ok_or_else(|| {
            RpcError::new(ErrorCode::NoCheckpoint, "no such checkpoint in this session; those of a job end with it")
        })
    }

    pub(super) fn restore(&mut self, p: &CheckpointRef) -> Result<Restored, Refused> {
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

    pub(super) fn drop_checkpoint(&mut self, p: &CheckpointRef) -> Result<Restored, RpcError> {
        let (domain, _) = self.may(&p.session_id, Rights::empty())?;
        let (name, handle, _) = self.find_checkpoint(p)?;
        self.held(&p.session_id)?.checkpoints.remove(&name);
        self.delete(domain, handle)?;
        Ok(Restored { checkpoint_id: p.checkpoint_id.clone(), at_epoch: self.kernel.epoch() })
    }

    pub(super) fn migrate(&mut self, p: &Migrate) -> Result<Migrated, RpcError> {
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

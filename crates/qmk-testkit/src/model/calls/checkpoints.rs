//! Checkpoints of strands and of interactive qubits.

use crate::model::object::{Object, Of};
use crate::model::state::Model;
use crate::model::verdict::{Caller, Effect, Expected, always, certain_if};
use qmk_kernel::DomainId;
use qmk_kernel::abi::syscall::{ObjectKind, StrandState};
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;

impl<D: Device> Model<D> {
    pub(super) fn expect_checkpoint(&mut self, caller: &Caller, machine: Handle, strand: Option<Handle>) -> Expected {
        let need = Rights::USE | Rights::CHECKPOINT;
        let (parent, ..) = self.allowed(caller.domain, machine, ObjectKind::Machine, need)?;
        let copies = self.kernel.device().spec().features.snapshot;
        (caller.has_slot() && copies && caller.used.checkpoints < caller.quota.checkpoints).then_some(())?;
        match strand {
            Some(strand) => {
                let of = Of::Strand(self.movable(caller.domain, strand)?.0);
                always(Effect::New(parent, Object::Checkpoint(of)))
            }
            None => {
                self.live_qubits().find(|(q, _)| self.owner(*q) == caller.domain)?;
                let of = Of::Qubits(self.accounts[&caller.domain].version);
                // Qubits that are entangled with those of others cannot be copied.
                certain_if(self.unlinked(), Effect::New(parent, Object::Checkpoint(of)))
            }
        }
    }

    pub(super) fn expect_checkpoint_status(&self, d: DomainId, checkpoint: Handle) -> Expected {
        let (_, o, _) = self.allowed(d, checkpoint, ObjectKind::Checkpoint, Rights::READ)?;
        let Object::Checkpoint(of) = self.object(o) else { return None };
        // That of a strand fails if the strand ends first.
        certain_if(matches!(of, Of::Qubits(_)), Effect::Taken(*of))
    }

    pub(super) fn apply_checkpoint_status(&self, of: Of, reply: &Reply) {
        let &Reply::Checkpoint(taken) = reply else { panic!("{reply:?}") };
        assert!(taken.is_none_or(|epoch| epoch <= self.kernel.epoch()));
        assert!(taken.is_some() || matches!(of, Of::Strand(_)), "a checkpoint of qubits is taken at once");
    }

    pub(super) fn expect_restore(&mut self, d: DomainId, checkpoint: Handle) -> Expected {
        let (_, o, _) = self.allowed(d, checkpoint, ObjectKind::Checkpoint, Rights::USE)?;
        let Object::Checkpoint(of) = *self.object(o) else { return None };
        let (domain, checkpoint) = self.reader(o);
        let taken = self.kernel.syscall(domain, Syscall::CheckpointStatus { checkpoint });
        matches!(taken, Ok(Reply::Checkpoint(Some(_)))).then_some(())?;
        match of {
            Of::Strand(strand) => self.expect_restore_strand(strand, o),
            Of::Qubits(version) => {
                (self.accounts[&self.owner(o)].version == version).then_some(())?;
                certain_if(self.unlinked(), Effect::Nothing)
            }
        }
    }

    fn expect_restore_strand(&mut self, s: usize, checkpoint: usize) -> Expected {
        use StrandState::*;
        self.live.contains(&s).then_some(())?;
        let status = self.status(s);
        let runs = matches!(status.state, Running | Held | Draining);
        let Object::Strand(strand) = self.object(s) else { return None };
        // What is done again counts again, what was undone does not.
        let (at, at_undone) = self.marks[&checkpoint];
        let undone = self.undone.get(&s).copied().unwrap_or(0);
        let again = (status.magic_states - 2 * undone).saturating_sub(at - 2 * at_undone);
        let again = again.saturating_mul(strand.run.shots);
        (runs && self.within_budget(strand.machine, 0, 0, again)).then_some(())?;
        always(Effect::Restored(s, checkpoint, again))
    }

    pub(super) fn apply_restore(&mut self, strand: usize, checkpoint: usize, again: u64) {
        if let Object::Strand(s) = self.object(strand) {
            self.charge(s.machine, again);
        }
        self.undone.insert(strand, self.marks[&checkpoint].1);
        self.account_of(strand).inexact = true;
    }
}

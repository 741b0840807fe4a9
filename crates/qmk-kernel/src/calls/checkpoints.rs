//! Calls on checkpoints: `Checkpoint`, `CheckpointStatus`, `Restore`. They need a device that copies states, which only
//! a simulator can.

use crate::errors::{Checked, Result, broken, device_error, lower, refuse, refuse_if};
use crate::holding::Holding;
use crate::ids::{DomainId, ObjectId, StrandId};
use crate::image::known::Known;
use crate::object::{Entry, Object};
use crate::state::Kernel;
use crate::strand::checkpoint::{Checkpoint, CheckpointTarget};
use crate::strand::state::ResumePoint;
use alloc::{boxed::Box, vec::Vec};
use qmk_abi::syscall::{Limit, NotYet, ObjectKind, WrongState};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::{Device, Inline, SnapshotId};

impl<D: Device> Kernel<D> {
    /// Saves the caller's interactive qubits at once, or a strand at its next fence. Returns [`Reply::Handle`].
    ///
    /// # Errors
    /// The device copies no states, the quota is used up, the caller holds no qubits, or the strand issues no more.
    pub(crate) fn checkpoint(&mut self, caller: DomainId, machine: Handle, strand: Option<Handle>) -> Result<Reply> {
        self.require(caller, machine, ObjectKind::Machine, Rights::USE | Rights::CHECKPOINT)?;
        self.check_slots(caller)?;
        if !self.device.spec().features.snapshot {
            return refuse(WrongState::NoCopies);
        }
        let domain = self.domains.get(caller)?;
        refuse_if(domain.used.checkpoints >= domain.quota.checkpoints, KernelError::Quota(Limit::Checkpoints))?;
        // A strand is saved when it comes to a fence, where no operation of it is under way. Interactive qubits are
        // saved now, as each of their operations is over before its call returns.
        let (strand, target, snapshot) = match strand {
            Some(handle) => {
                let id = self.preemptible_strand(caller, handle)?;
                let arrival = self.objects.strand(id)?.arrival;
                (Some(id), CheckpointTarget::Strand { id, arrival, mark: None }, None)
            }
            None => {
                let Some(interactive) = &domain.interactive else { return refuse(WrongState::NoQubits) };
                let known = interactive.registers.iter().map(|r| r.known).collect();
                let (space, version) = (interactive.space, domain.qubits_version);
                let snapshot = self.device.snapshot(space).map_err(device_error)?;
                (None, CheckpointTarget::Qubits { version, known }, Some((self.epoch, snapshot)))
            }
        };
        self.domains.get_mut(caller)?.used.checkpoints += 1;
        let checkpoint = Checkpoint { owner: caller, snapshot, failed: false, target };
        let object = Object::Checkpoint(Box::new(checkpoint));
        let (id, handle) = self.create_object(caller, object, ObjectKind::Checkpoint, machine)?;
        if let Some(strand) = strand {
            let strand = self.objects.strand_mut(strand)?;
            strand.checkpoints.push(id);
            strand.update_hold();
        }
        Ok(Reply::Handle(handle))
    }

    /// Takes the checkpoints that wait for a strand to be held at a fence, if it is.
    pub(crate) fn take_checkpoints(&mut self, id: StrandId) -> Checked {
        let now = self.epoch;
        let strand = self.objects.strand_mut(id)?;
        let (Some(mark), Some(space)) = (strand.mark(), strand.space) else { return Ok(()) };
        for checkpoint in core::mem::take(&mut strand.checkpoints) {
            let snapshot = self.device.snapshot(space);
            let checkpoint = self.objects.checkpoint_mut(checkpoint)?;
            let CheckpointTarget::Strand { mark: to, .. } = &mut checkpoint.target else {
                return Err(broken("a strand has a checkpoint of qubits"));
            };
            match snapshot {
                Ok(snapshot) => {
                    *to = Some(mark);
                    checkpoint.snapshot = Some((now, snapshot));
                }
                Err(_) => checkpoint.failed = true,
            }
        }
        Ok(())
    }

    /// The checkpoint behind a handle.
    ///
    /// # Errors
    /// As [`Kernel::require`], or the checkpoint failed.
    fn find_checkpoint(&self, caller: DomainId, handle: Handle, need: Rights) -> Result<&Checkpoint> {
        let (id, _) = self.require(caller, handle, ObjectKind::Checkpoint, need)?;
        let checkpoint = self.objects.checkpoint(id)?;
        if checkpoint.failed { refuse(WrongState::EndedBeforeFence) } else { Ok(checkpoint) }
    }

    /// Returns [`Reply::Checkpoint`] with the epoch in which the state was saved, if it was.
    ///
    /// # Errors
    /// The checkpoint failed.
    pub(crate) fn checkpoint_status(&self, caller: DomainId, handle: Handle) -> Result<Reply> {
        let checkpoint = self.find_checkpoint(caller, handle, Rights::READ)?;
        Ok(Reply::Checkpoint(checkpoint.snapshot.map(|(epoch, _)| epoch.number())))
    }

    /// Brings a strand, or the owner's qubits, back to the saved state.
    ///
    /// # Errors
    /// The state is not saved yet, what was saved is gone or has changed, or the session's budget has not the
    /// magic states that will be spent again.
    pub(crate) fn restore(&mut self, caller: DomainId, handle: Handle) -> Result<Reply> {
        let checkpoint = self.find_checkpoint(caller, handle, Rights::USE)?;
        let owner = checkpoint.owner;
        let Some((_, snapshot)) = checkpoint.snapshot else { return refuse(NotYet::NoFence) };
        match &checkpoint.target {
            &CheckpointTarget::Strand { id, arrival, mark } => {
                let mark = mark.ok_or_else(|| broken("a saved strand has no point to resume at"))?;
                self.restore_strand(id, arrival, mark, snapshot)?;
            }
            CheckpointTarget::Qubits { version, known } => {
                let (version, known) = (*version, known.clone());
                self.restore_qubits(owner, version, known, snapshot)?;
            }
        }
        Ok(Reply::Done)
    }

    /// Brings a strand back to the fence where it was saved.
    fn restore_strand(&mut self, id: StrandId, arrival: u64, mark: ResumePoint, snapshot: SnapshotId) -> Result<()> {
        // A checkpoint does not keep its strand alive, and the number may be another object's by now.
        let strand = match self.objects.find(id.object()) {
            Some(Entry { object: Object::Strand(strand), .. }) if strand.arrival == arrival => strand,
            _ => return refuse(WrongState::StrandGone),
        };
        let Some(space) = strand.space else { return refuse(WrongState::StrandGone) };
        if !strand.holds_qubits() {
            return refuse(WrongState::StrandEnded);
        }
        let (image, patch, region) = (strand.image_object, strand.run.patch, strand.region);
        // Magic states of the work that is thrown away are spent a second time.
        let (session, magic) = (strand.machine, strand.magic_since(&mark));
        self.check_budget(session, Holding::default(), magic)?;
        self.device.restore(space, snapshot).map_err(device_error)?;
        self.charge_budget(session, Holding::default(), magic)?;
        let heights = self.heights(image, patch, region)?;
        let now = self.epoch;
        self.objects.strand_mut(id)?.resume_at(mark, now, heights);
        Ok(())
    }

    /// Brings a domain's interactive qubits back, if they are still the same qubits.
    fn restore_qubits(&mut self, owner: DomainId, version: u64, known: Vec<Known>, snapshot: SnapshotId) -> Result<()> {
        let domain = self.domains.get(owner)?;
        let Some(interactive) = domain.interactive.as_ref().filter(|_| domain.qubits_version == version) else {
            return refuse(WrongState::QubitsChanged);
        };
        self.device.restore(interactive.space, snapshot).map_err(device_error)?;
        let interactive = self.interactive_mut(owner)?;
        // Operations since the snapshot did not happen, and those before it are not remembered with it.
        interactive.segment.clear();
        for (register, known) in interactive.registers.iter_mut().zip(known) {
            register.known = known;
        }
        Ok(())
    }

    /// A checkpoint object is gone: the device forgets the state, and a strand no longer stops for it.
    pub(crate) fn end_checkpoint(&mut self, id: ObjectId, checkpoint: Checkpoint) -> Checked {
        if let Some((_, snapshot)) = checkpoint.snapshot {
            self.device.forget(snapshot);
        }
        // The strand may be gone, and its number another object's, which then does not list this checkpoint.
        if let CheckpointTarget::Strand { id: strand, .. } = checkpoint.target
            && let Some(Entry { object: Object::Strand(strand), .. }) = self.objects.find_mut(strand.object())
        {
            strand.checkpoints.retain(|&c| c != id);
            strand.update_hold();
        }
        let used = &mut self.domains.get_mut(checkpoint.owner)?.used;
        lower(&mut used.checkpoints, 1, "a domain has more checkpoints than its account")
    }
}

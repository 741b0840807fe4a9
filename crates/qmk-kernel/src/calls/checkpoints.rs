//! Checkpoints: states to come back to, where the device can copy states.

use crate::errors::{Result, device_error, not_now, not_ready};
use crate::object::{Entry, Object};
use crate::state::Kernel;
use crate::strand::checkpoint::{Checkpoint, CheckpointTarget};
use alloc::boxed::Box;
use alloc::vec::Vec;
use qmk_abi::syscall::{Limit, ObjectKind};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    pub(crate) fn checkpoint(&mut self, d: u32, machine: Handle, strand: Option<Handle>) -> Result<Reply> {
        self.require(d, machine, ObjectKind::Machine, Rights::USE | Rights::CHECKPOINT)?;
        self.check_slots(d)?;
        if !self.device.spec().features.snapshot {
            return not_now("the machine cannot copy quantum states");
        }
        let Some(domain) = self.domain(d) else { return Err(KernelError::NoCapability) };
        if domain.used.checkpoints >= domain.quota.checkpoints {
            return Err(KernelError::Quota(Limit::Checkpoints));
        }
        let mut checkpoint = Checkpoint { owner: d, snapshot: None, failed: false, target: self.current_qubits(d) };
        let strand = match strand {
            Some(handle) => {
                let id = self.preemptible_strand(d, handle)?;
                let Object::Strand(s) = self.object(id) else { return not_now("the strand is gone") };
                checkpoint.target = CheckpointTarget::Strand { id, arrival: s.arrival, mark: None };
                Some(id)
            }
            None => {
                let space = domain.interactive.as_ref().map(|i| i.space);
                let Some(space) = space else { return not_now("the domain holds no qubits") };
                let snapshot = self.device.snapshot(space).map_err(device_error)?;
                checkpoint.snapshot = Some((self.epoch, snapshot));
                None
            }
        };
        if let Some(domain) = self.domain_mut(d) {
            domain.used.checkpoints += 1;
        }
        let object = Object::Checkpoint(Box::new(checkpoint));
        let (id, handle) = self.create_object(d, object, ObjectKind::Checkpoint, machine)?;
        if let Some(strand) = strand.and_then(|s| self.strand_mut(s)) {
            strand.checkpoints.push(id);
            strand.update_hold();
        }
        Ok(Reply::Handle(handle))
    }

    fn current_qubits(&self, d: u32) -> CheckpointTarget {
        let domain = self.domain(d);
        let registers = domain.and_then(|d| d.interactive.as_ref()).map_or(&[][..], |i| &i.registers);
        CheckpointTarget::Qubits {
            version: domain.map_or(0, |d| d.qubits_version),
            known: registers.iter().map(|r| r.known).collect(),
        }
    }

    /// Saves a strand that is held at a fence.
    pub(crate) fn take_checkpoints(&mut self, id: u32) {
        let now = self.epoch;
        let Some(strand) = self.strand_mut(id) else { return };
        let (Some(mark), Some(space)) = (strand.mark(), strand.space) else { return };
        for checkpoint in core::mem::take(&mut strand.checkpoints) {
            let snapshot = self.device.snapshot(space);
            let Some(Entry { object: Object::Checkpoint(c), .. }) = self.objects.get_mut(checkpoint) else { continue };
            if let (CheckpointTarget::Strand { mark: to, .. }, Ok(snapshot)) = (&mut c.target, snapshot) {
                *to = Some(mark);
                c.snapshot = Some((now, snapshot));
            } else {
                c.failed = true;
            }
        }
    }

    /// The strand of these ended before it came to a fence.
    pub(crate) fn fail_checkpoints(&mut self, ids: Vec<u32>) {
        for id in ids {
            if let Some(Entry { object: Object::Checkpoint(c), .. }) = self.objects.get_mut(id) {
                c.failed = true;
            }
        }
    }

    fn find_checkpoint(&self, d: u32, handle: Handle, need: Rights) -> Result<&Checkpoint> {
        let (id, _) = self.require(d, handle, ObjectKind::Checkpoint, need)?;
        match self.object(id) {
            Object::Checkpoint(c) if c.failed => not_now("the strand ended before it came to a fence"),
            Object::Checkpoint(c) => Ok(c),
            _ => not_now("the checkpoint is gone"),
        }
    }

    pub(crate) fn checkpoint_status(&self, d: u32, handle: Handle) -> Result<Reply> {
        let checkpoint = self.find_checkpoint(d, handle, Rights::READ)?;
        Ok(Reply::Checkpoint(checkpoint.snapshot.map(|(epoch, _)| epoch)))
    }

    pub(crate) fn restore(&mut self, d: u32, handle: Handle) -> Result<Reply> {
        let checkpoint = self.find_checkpoint(d, handle, Rights::USE)?;
        let owner = checkpoint.owner;
        let Some((_, snapshot)) = checkpoint.snapshot else { return not_ready("the strand has not come to a fence") };
        match &checkpoint.target {
            &CheckpointTarget::Strand { id, arrival, mark } => {
                let Object::Strand(strand) = self.object(id) else { return not_now("the strand is gone") };
                let (Some(mark), Some(space), true) = (mark, strand.space, strand.arrival == arrival) else {
                    return not_now("the strand is gone");
                };
                if !strand.holds_qubits() {
                    return not_now("the strand has ended; spawn it again");
                }
                let (image, patch, region) = (strand.image_object, strand.run.patch, strand.region);
                // What is thrown away is done again.
                let (session, magic) = (strand.machine, strand.magic_since(&mark));
                self.check_budget(session, 0, 0, magic)?;
                self.device.restore(space, snapshot).map_err(device_error)?;
                self.charge_budget(session, 0, 0, magic);
                let heights = self.heights(image, patch, region);
                let now = self.epoch;
                if let Some(strand) = self.strand_mut(id) {
                    strand.resume_at(mark, now, heights);
                }
            }
            CheckpointTarget::Qubits { version, known } => {
                let (version, known) = (*version, known.clone());
                let Some(domain) = self.domain(owner) else { return not_now("the qubits' owner is gone") };
                let Some(interactive) = domain.interactive.as_ref().filter(|_| domain.qubits_version == version) else {
                    return not_now("qubits were taken, freed or linked since");
                };
                self.device.restore(interactive.space, snapshot).map_err(device_error)?;
                if let Some(interactive) = self.domain_mut(owner).and_then(|d| d.interactive.as_mut()) {
                    interactive.segment.clear();
                    for (register, known) in interactive.registers.iter_mut().zip(known) {
                        register.known = known;
                    }
                }
            }
        }
        Ok(Reply::Done)
    }

    pub(crate) fn end_checkpoint(&mut self, id: u32, checkpoint: Checkpoint) {
        if let Some((_, snapshot)) = checkpoint.snapshot {
            self.device.forget(snapshot);
        }
        if let CheckpointTarget::Strand { id: strand, .. } = checkpoint.target
            && let Some(strand) = self.strand_mut(strand)
        {
            strand.checkpoints.retain(|&c| c != id);
            strand.update_hold();
        }
        if let Some(domain) = self.domain_mut(checkpoint.owner) {
            domain.used.checkpoints -= 1;
        }
    }
}

//! Calls on strands: `Spawn`, `Outcomes`, `Pause`, `Migrate`, `Rollback`, and the end of a strand.

use crate::calls::qubits::check_classes;
use crate::errors::{Checked, Result, device_error, late, refuse, refuse_if};
use crate::holding::Holding;
use crate::ids::{ContextId, DomainId, ObjectId, RegionId, StrandId};
use crate::image::admit::Admitted;
use crate::limits::{HORIZON, OUTCOME_BYTES};
use crate::object::{Object, wrong_kind};
use crate::sched::deadline::Plan;
use crate::state::Kernel;
use crate::strand::state::{Origin, Strand};
use alloc::{boxed::Box, vec::Vec};
use qmk_abi::image::{ImageError, ImageErrorKind, Op};
use qmk_abi::syscall::{BadArgument, Late, Limit, NotYet, ObjectKind, Run, StrandState, WrongState};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::{Device, Inline};

impl<D: Device> Kernel<D> {
    /// Spawns a strand: a run of an image. It waits for its qubits, or starts at once if it has a deadline, which is
    /// accepted only with a schedule that keeps it. Returns [`Reply::Handle`].
    ///
    /// # Errors
    /// The image needs rights, qubits, routes or magic states that the caller, its quota, its budget or the
    /// region never has; or the deadline cannot be kept.
    pub(crate) fn spawn(&mut self, caller: DomainId, machine: Handle, image: Handle, run: Run) -> Result<Reply> {
        let (machine_object, rights) = self.require(caller, machine, ObjectKind::Machine, Rights::USE)?;
        let (image_object, _) = self.require(caller, image, ObjectKind::Image, Rights::USE)?;
        let image = self.objects.image(image_object)?.admitted.clone();
        refuse_if(!rights.contains(image.classes), KernelError::Rights(image.classes - rights))?;
        let region = self.region_of(caller, run.region)?;
        let context = self.context_of(caller, run.context)?;
        self.check_slots(caller)?;
        if run.shots == 0 {
            return refuse(BadArgument::NoShots);
        }
        let Some(physical) = self.device.physical_qubits(run.patch) else {
            return refuse(BadArgument::Patch);
        };
        let decoding = self.device.errors(run.patch, run.noise).map_err(KernelError::Patch)?.decoding;
        let qubits = Holding::qubits_of(image.peak_qubits, physical as u64 * image.peak_qubits as u64);
        self.check_size(caller, &image, image_object, &run, (region, qubits))?;
        let plan = match run.deadline {
            Some(deadline) => Some(self.plan(caller, image_object, &run, region, deadline, (qubits, decoding))?),
            None => None,
        };
        let profile = self.profile(image_object, run.patch)?;
        let (path, magic) = (profile.path, profile.magic.saturating_mul(run.shots));
        let on_budget = Holding::qubits_of(image.peak_qubits, 0).and_strand();
        self.check_budget(machine_object, on_budget, magic)?;
        // The call succeeds from here on, so accounts may change. The budget counts the qubits of the peak at once, the
        // quota only when the strand starts: a budget is a promise about the session, a quota about the machine.
        self.charge_budget(machine_object, on_budget, magic)?;
        self.arrivals += 1;
        let (owner, arrival) = (caller, self.arrivals);
        let machine_id = machine_object;
        let origin = Origin {
            owner,
            machine: machine_id,
            image_object,
            image,
            context,
            region,
            arrival,
            path,
            qubits,
            decoding,
        };
        let mut strand = Strand::new(origin, run, self.epoch);
        let planned = plan.is_some();
        strand.plan = plan;
        self.hold(machine_object)?;
        self.hold(image_object)?;
        self.domains.get_mut(caller)?.held.take(Holding::STRAND)?;
        self.join_context(context, region)?;
        let object = Object::Strand(Box::new(strand));
        let (id, handle) = self.create_object(caller, object, ObjectKind::Strand, machine)?;
        let id = StrandId::of(id);
        if planned {
            self.start(id, self.epoch.plus(1))?;
        } else {
            let region = self.regions.get_mut(region)?;
            region.waiting.push(id);
            region.recheck_waiting = true;
        }
        Ok(Reply::Handle(handle))
    }

    /// The context behind a handle, the caller's own without a handle.
    fn context_of(&self, caller: DomainId, context: Option<Handle>) -> Result<ContextId> {
        let Some(handle) = context else { return Ok(self.domains.get(caller)?.context) };
        let (object, _) = self.require(caller, handle, ObjectKind::Context, Rights::USE)?;
        match self.object(object)? {
            Object::Context(context) => Ok(*context),
            _ => Err(wrong_kind().into()),
        }
    }

    /// # Errors
    /// A strand of the image would never start, or never issue one of its instructions, even if nothing else ran.
    fn check_size(
        &mut self,
        caller: DomainId,
        image: &Admitted,
        image_object: ObjectId,
        run: &Run,
        (region, qubits): (RegionId, Holding),
    ) -> Result<()> {
        let domain = self.domains.get(caller)?;
        let (quota, strands) = (domain.quota, domain.held.strands());
        let place = self.regions.get(region)?;
        let (available, buffer, routes) = (place.qubits, place.magic_buffer, place.routes);
        refuse_if(image.peak_qubits > available, KernelError::Capacity { requested: image.peak_qubits, available })?;
        refuse_if(image.peak_qubits > quota.qubits, KernelError::Quota(Limit::Qubits))?;
        refuse_if(qubits.physical() > quota.physical_qubits, KernelError::Quota(Limit::PhysicalQubits))?;
        refuse_if(strands >= quota.strands, KernelError::Quota(Limit::Strands))?;
        let profile = self.profile(image_object, run.patch)?;
        if let Some(at) = profile.unaffordable(routes, buffer) {
            return Err(KernelError::Image(ImageError { at, kind: ImageErrorKind::Unaffordable }));
        }
        refuse_if(profile.most_magic.0 as u64 > quota.magic, KernelError::Quota(Limit::Magic))?;
        Ok(())
    }

    /// The schedule of a strand with a deadline.
    ///
    /// # Errors
    /// The reason why there is none that keeps it.
    fn plan(
        &mut self,
        caller: DomainId,
        image: ObjectId,
        run: &Run,
        region: RegionId,
        deadline: u64,
        (qubits, decoding): (Holding, u32),
    ) -> Result<Plan> {
        // The cheap test comes first: making a plan takes time with the program and with the deadline.
        let path = self.profile(image, run.patch)?.path;
        if path as u64 > deadline / run.shots {
            return late(deadline, Late::LongestPath);
        }
        let (flow, heights) = (self.flow(image)?, self.rank(image, run.patch)?);
        let (domain, place) = (self.domains.get(caller)?, self.regions.get(region)?);
        if (domain.quota.magic, domain.quota.epochs) != (u64::MAX, u64::MAX) {
            return late(deadline, Late::DomainLimits);
        }
        if run.context.is_some() {
            return late(deadline, Late::Context);
        }
        if !domain.fits(qubits) {
            return late(deadline, Late::DomainQubits);
        }
        if qubits.qubits() > place.free_qubits() {
            return late(deadline, Late::RegionQubits);
        }
        for &id in &place.waiting {
            if self.blocks_others(id)? {
                return late(deadline, Late::QubitsAwaited);
            }
        }
        if place.decoder_backlog > 0 || !place.keeps_up_with(qubits.qubits() as u64 * decoding as u64) {
            return late(deadline, Late::Decoders);
        }
        // Shots follow each other, each with the same schedule.
        let within = deadline / run.shots;
        let cost = |op: &_| self.device.cost(op, run.patch);
        match Plan::make(&flow, heights, cost, place, within)? {
            Some(plan) if place.may_reserve(plan.rest(0)) => Ok(plan),
            Some(_) => late(deadline, Late::Promised),
            None if within > HORIZON => late(deadline, Late::Horizon),
            None => late(deadline, Late::Supply),
        }
    }

    /// Returns [`Reply::Outcomes`]: up to `count` shots from `first` on, as many as are finished and fit one reply.
    /// Each takes the image's events in bits, rounded up to bytes.
    ///
    /// # Errors
    /// `first` is beyond the shots of the strand, or is not finished yet.
    pub(crate) fn outcomes(&self, caller: DomainId, handle: Handle, first: u64, count: u32) -> Result<Reply> {
        let (_, strand) = self.strand(caller, handle, Rights::READ)?;
        if first >= strand.run.shots {
            return refuse(BadArgument::ShotRange);
        }
        let (Some(space), true) = (strand.space, first < strand.shots_done()) else {
            return refuse(NotYet::ShotPending);
        };
        let stride = strand.image.image.events.div_ceil(8).max(1) as u64;
        let count = (count as u64).min(strand.shots_done() - first).min((OUTCOME_BYTES / stride).max(1));
        // The device was never asked to run an empty program, and has no outcomes of it.
        if strand.image.image.code.is_empty() {
            return Ok(Reply::Outcomes(alloc::vec![0; (count * stride) as usize]));
        }
        let mut bytes = Vec::with_capacity((count * stride) as usize);
        self.device.outcomes(space, first, count as u32, &mut bytes);
        Ok(Reply::Outcomes(bytes))
    }

    /// A strand that may be paused, migrated, checkpointed and rolled back.
    ///
    /// # Errors
    /// It has faulted, has issued all instructions, or has a deadline, whose schedule leaves no room for this.
    pub(crate) fn preemptible_strand(&self, caller: DomainId, handle: Handle) -> Result<StrandId> {
        let (id, strand) = self.strand(caller, handle, Rights::CONTROL)?;
        match strand.state {
            StrandState::Faulted => refuse(WrongState::Faulted),
            StrandState::Draining | StrandState::Done => refuse(WrongState::AllIssued),
            _ if strand.run.deadline.is_some() => refuse(WrongState::Scheduled),
            _ => Ok(id),
        }
    }

    /// Holds a strand at its next fence, or lets it go on.
    ///
    /// # Errors
    /// As [`Kernel::preemptible_strand`].
    pub(crate) fn pause(&mut self, caller: DomainId, handle: Handle, paused: bool) -> Result<Reply> {
        let id = self.preemptible_strand(caller, handle)?;
        let strand = self.objects.strand_mut(id)?;
        strand.paused = paused;
        strand.update_hold();
        Ok(Reply::Done)
    }

    /// Moves a strand to another region at its next fence, as soon as there is room.
    ///
    /// # Errors
    /// As [`Kernel::preemptible_strand`], or the strand would never fit there.
    pub(crate) fn migrate(&mut self, caller: DomainId, handle: Handle, region: Option<Handle>) -> Result<Reply> {
        let id = self.preemptible_strand(caller, handle)?;
        let to = self.region_of(caller, region)?;
        let strand = self.objects.strand(id)?;
        let (peak, image, patch) = (strand.image.peak_qubits, strand.image_object, strand.run.patch);
        let place = self.regions.get(to)?;
        let (available, buffer, routes) = (place.qubits, place.magic_buffer, place.routes);
        refuse_if(peak > available, KernelError::Capacity { requested: peak, available })?;
        if self.profile(image, patch)?.unaffordable(routes, buffer).is_some() {
            return refuse(WrongState::RegionTooSmall);
        }
        let strand = self.objects.strand_mut(id)?;
        strand.migrate_to = Some(to).filter(|&to| to != strand.region);
        strand.update_hold();
        Ok(Reply::Done)
    }

    /// Moves a strand that is held at a fence, if its new region has room. A region that has become too small for it
    /// since the call is forgotten.
    pub(crate) fn try_migrate(&mut self, id: StrandId) -> Checked {
        let strand = self.objects.strand(id)?;
        let (Some(to), from, qubits) = (strand.migrate_to, strand.region, strand.holding()) else { return Ok(()) };
        let running = strand.running(id);
        let (image, patch) = (strand.image_object, strand.run.patch);
        let place = self.regions.get(to)?;
        let (whole, routes, buffer) = (place.qubits, place.routes, place.magic_buffer);
        let has_room = place.has_room(qubits.qubits(), running.load);
        if qubits.qubits() > whole || self.profile(image, patch)?.unaffordable(routes, buffer).is_some() {
            self.objects.strand_mut(id)?.migrate_to = None;
            return Ok(());
        }
        if !has_room {
            return Ok(());
        }
        // Its owner and its context hold as many qubits as before, only those of another region.
        let place = self.regions.get_mut(from)?;
        place.running.retain(|r| r.id != id);
        place.held.give_back(qubits)?;
        place.recheck_waiting = true;
        let place = self.regions.get_mut(to)?;
        place.held.take(qubits)?;
        place.enter(running);
        let strand = self.objects.strand_mut(id)?;
        strand.region = to;
        strand.migrate_to = None;
        Ok(())
    }

    /// Undoes the unitary instructions that a strand issued since the last irreversible one, or without a strand the
    /// operations on the caller's qubits. Returns [`Reply::RolledBack`] with their number.
    ///
    /// # Errors
    /// As [`Kernel::preemptible_strand`]; undoing takes rights or magic states that are not there; or the
    /// device refuses.
    pub(crate) fn rollback(&mut self, caller: DomainId, machine: Handle, strand: Option<Handle>) -> Result<Reply> {
        let (machine, rights) = self.require(caller, machine, ObjectKind::Machine, Rights::USE | Rights::COMPUTE)?;
        let Some(handle) = strand else { return self.rollback_qubits(caller, machine, rights) };
        let id = self.preemptible_strand(caller, handle)?;
        let strand = self.objects.strand(id)?;
        let (session, run) = (strand.machine, strand.run);
        // The rights that count are those of the caller: undoing takes the classes that doing took.
        let ops: Vec<Op> = strand.reversible().collect();
        check_classes(&ops, rights)?;
        let magic: u64 = ops.iter().map(|op| self.device.cost(op, run.patch).magic as u64).sum();
        // Each takes its magic states once more to be undone, and again to be done anew, in every shot.
        let magic = magic.saturating_mul(2).saturating_mul(run.shots);
        self.check_budget(session, Holding::default(), magic)?;
        let now = self.epoch;
        let undone = self.objects.strand_mut(id)?.rollback(&mut self.device, now)?.map_err(device_error)?;
        self.charge_budget(session, Holding::default(), magic)?;
        Ok(Reply::RolledBack(undone))
    }

    /// A strand object is gone: it stops, and gives back everything.
    pub(crate) fn end_strand(&mut self, id: StrandId, mut strand: Strand) -> Checked {
        // Nothing is left of these if it ended before.
        let holdings = strand.take_holdings(self.epoch);
        self.release_holdings(id, holdings)?;
        if let Some(space) = strand.space {
            self.device.close(space);
        }
        self.domains.get_mut(strand.owner)?.held.give_back(Holding::STRAND)?;
        self.refund_budget(strand.machine, Holding::qubits_of(strand.image.peak_qubits, 0).and_strand())?;
        self.unhold(strand.image_object)?;
        self.unhold(strand.machine)
    }
}

//! System calls about strands and regions.

use crate::calls::qubits::check_classes;
use crate::errors::{Result, argument, device_error, late, not_now, not_ready};
use crate::limits::{HORIZON, OUTCOME_BYTES};
use crate::object::Object;
use crate::sched::deadline::Plan;
use crate::state::Kernel;
use crate::strand::state::{Origin, Strand};
use alloc::boxed::Box;
use alloc::vec::Vec;
use qmk_abi::image::{ImageError, ImageErrorKind, Op};
use qmk_abi::syscall::{Limit, ObjectKind, Run, StrandState};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    pub(crate) fn spawn(&mut self, d: u32, machine: Handle, image: Handle, run: Run) -> Result<Reply> {
        let (machine_object, rights) = self.require(d, machine, ObjectKind::Machine, Rights::USE)?;
        let (image_object, _) = self.require(d, image, ObjectKind::Image, Rights::USE)?;
        let Object::Image { image, .. } = self.object(image_object) else { return not_now("the image is gone") };
        let image = image.clone();
        if !rights.contains(image.classes) {
            return Err(KernelError::Rights(image.classes - rights));
        }
        let region = self.region_of(d, run.region)?;
        let Some(domain) = self.domain(d) else { return Err(KernelError::NoCapability) };
        let context = match run.context {
            None => domain.context,
            Some(handle) => {
                let (object, _) = self.require(d, handle, ObjectKind::Context, Rights::USE)?;
                match self.object(object) {
                    Object::Context(c) => *c,
                    _ => return not_now("the context is gone"),
                }
            }
        };
        self.check_slots(d)?;
        if run.shots == 0 {
            return argument("shots must be at least 1");
        }
        let Some(physical) = self.device.physical_qubits(run.patch) else {
            return argument("the machine has no patches of this code and distance");
        };
        let decoding = self.device.errors(run.patch, run.noise).map_err(KernelError::Argument)?.decoding;
        let physical = physical as u64 * image.peak_qubits as u64;
        let (quota, used) = (domain.quota, domain.used);
        let Some(place) = self.regions.get(region) else { return not_now("the region is gone") };
        let (available, buffer, routes) = (place.qubits, place.magic_buffer, place.routes);
        let peak = image.peak_qubits;
        if peak > available {
            return Err(KernelError::Capacity { requested: peak, available });
        }
        if peak > quota.qubits {
            return Err(KernelError::Quota(Limit::Qubits));
        }
        if physical > quota.physical_qubits {
            return Err(KernelError::Quota(Limit::PhysicalQubits));
        }
        if used.strands >= quota.strands {
            return Err(KernelError::Quota(Limit::Strands));
        }
        let profile = self.profile(image_object, run.patch)?;
        if let Some(at) = profile.unaffordable(routes, buffer) {
            return Err(KernelError::Image(ImageError { at, kind: ImageErrorKind::Unaffordable }));
        }
        if profile.most_magic.0 as u64 > quota.magic {
            return Err(KernelError::Quota(Limit::Magic));
        }
        let plan = match run.deadline {
            Some(deadline) => Some(self.plan(d, image_object, &run, region, deadline, (physical, decoding))?),
            None => None,
        };
        let magic = profile.magic.saturating_mul(run.shots);
        self.check_budget(machine_object, 1, peak, magic)?;
        self.charge_budget(machine_object, 1, peak, magic);
        self.arrivals += 1;
        let origin = Origin {
            owner: d,
            machine: machine_object,
            image_object,
            image,
            context,
            region,
            arrival: self.arrivals,
            path: profile.path,
            physical,
            decoding,
        };
        let mut strand = Strand::new(origin, run, self.epoch);
        let planned = plan.is_some();
        strand.plan = plan;
        self.hold(machine_object);
        self.hold(image_object);
        if let Some(domain) = self.domain_mut(d) {
            domain.used.strands += 1;
        }
        self.join(context, region);
        let (id, handle) = self.create_object(d, Object::Strand(Box::new(strand)), ObjectKind::Strand, machine)?;
        if planned {
            self.start(id, self.epoch + 1);
        } else if let Some(region) = self.regions.get_mut(region) {
            region.waiting.push(id);
            region.recheck_waiting = true;
        }
        Ok(Reply::Handle(handle))
    }

    /// The schedule of a strand with a deadline, or why there is none.
    fn plan(
        &mut self,
        d: u32,
        image: u32,
        run: &Run,
        region: u32,
        deadline: u64,
        (physical, decoding): (u64, u32),
    ) -> Result<Plan> {
        let path = self.profile(image, run.patch)?.path;
        if path as u64 > deadline / run.shots {
            return late(deadline, "the longest path of all shots takes longer");
        }
        let (flow, heights) = (self.flow(image), self.rank(image, run.patch));
        let (Some(domain), Some(place)) = (self.domain(d), self.regions.get(region)) else {
            return not_now("the region is gone");
        };
        let Object::Image { image, .. } = self.object(image) else { return not_now("the image is gone") };
        let (peak, used, quota) = (image.peak_qubits, domain.used, domain.quota);
        if (quota.magic, quota.epochs) != (u64::MAX, u64::MAX) {
            return late(deadline, "the domain's magic states or epochs are limited");
        }
        if run.context.is_some() {
            return late(deadline, "a deadline is kept outside of contexts");
        }
        if used.qubits.saturating_add(peak) > quota.qubits
            || used.physical_qubits.saturating_add(physical) > quota.physical_qubits
        {
            return late(deadline, "the domain's qubits are in use");
        }
        if peak > place.free_qubits {
            return late(deadline, "the region's qubits are in use");
        }
        if place.waiting.iter().any(|&id| self.blocks_others(id)) {
            return late(deadline, "a strand has waited too long for the region's qubits");
        }
        if place.decoder_backlog > 0 || !place.keeps_up_with(peak as u64 * decoding as u64) {
            return late(deadline, "the decoders are behind, or would be");
        }
        let within = deadline / run.shots;
        let cost = |op: &_| self.device.cost(op, run.patch);
        match Plan::make(&flow, heights, cost, place, within) {
            Some(plan) if place.may_reserve(plan.rest(0)) => Ok(plan),
            Some(_) => late(deadline, "the region has promised too much of late; what is always there is a region"),
            None if within > HORIZON => late(deadline, "one shot takes longer than promises can be made"),
            None => late(deadline, "a shot takes longer with the magic states and routes there are"),
        }
    }
}

// Calls on strands that exist.
impl<D: Device> Kernel<D> {
    pub(crate) fn outcomes(&self, d: u32, handle: Handle, first: u64, count: u32) -> Result<Reply> {
        let (_, strand) = self.strand(d, handle, Rights::READ)?;
        if first >= strand.run.shots {
            return argument("the strand has fewer shots than that");
        }
        let (Some(space), true) = (strand.space, first < strand.shots_done()) else {
            return not_ready("the shot is not finished");
        };
        let stride = strand.image.image.events.div_ceil(8).max(1) as u64;
        let count = (count as u64).min(strand.shots_done() - first).min((OUTCOME_BYTES / stride).max(1));
        if strand.image.image.code.is_empty() {
            return Ok(Reply::Outcomes(alloc::vec![0; (count * stride) as usize]));
        }
        let mut bytes = Vec::with_capacity((count * stride) as usize);
        self.device.outcomes(space, first, count as u32, &mut bytes);
        Ok(Reply::Outcomes(bytes))
    }

    /// A strand that may be held, moved and taken back.
    pub(crate) fn preemptible_strand(&self, d: u32, handle: Handle) -> Result<u32> {
        let (id, strand) = self.strand(d, handle, Rights::CONTROL)?;
        match strand.state {
            StrandState::Faulted => not_now("the strand has faulted"),
            StrandState::Draining | StrandState::Done => not_now("all instructions of the strand have been issued"),
            _ if strand.run.deadline.is_some() => not_now("a strand with a deadline keeps to its schedule"),
            _ => Ok(id),
        }
    }

    pub(crate) fn pause(&mut self, d: u32, handle: Handle, paused: bool) -> Result<Reply> {
        let id = self.preemptible_strand(d, handle)?;
        if let Some(strand) = self.strand_mut(id) {
            strand.paused = paused;
            strand.update_hold();
        }
        Ok(Reply::Done)
    }

    pub(crate) fn migrate(&mut self, d: u32, handle: Handle, region: Option<Handle>) -> Result<Reply> {
        let id = self.preemptible_strand(d, handle)?;
        let to = self.region_of(d, region)?;
        let Object::Strand(strand) = self.object(id) else { return not_now("the strand is gone") };
        let (peak, image, patch) = (strand.image.peak_qubits, strand.image_object, strand.run.patch);
        let Some(place) = self.regions.get(to) else { return not_now("the region is gone") };
        let (available, buffer, routes) = (place.qubits, place.magic_buffer, place.routes);
        if peak > available {
            return Err(KernelError::Capacity { requested: peak, available });
        }
        let profile = self.profile(image, patch)?;
        if profile.unaffordable(routes, buffer).is_some() {
            return not_now("the region never has what the strand's instructions need at once");
        }
        if let Some(strand) = self.strand_mut(id) {
            strand.migrate_to = Some(to).filter(|&to| to != strand.region);
            strand.update_hold();
        }
        Ok(Reply::Done)
    }

    /// Moves a strand that is held at a fence, if its new region has room. One that has become too small for it is forgotten.
    pub(crate) fn try_migrate(&mut self, id: u32) {
        let Some(strand) = self.strand_mut(id) else { return };
        let (Some(to), from, peak) = (strand.migrate_to, strand.region, strand.image.peak_qubits) else { return };
        let running = strand.running(id);
        let (image, patch) = (strand.image_object, strand.run.patch);
        let Ok(profile) = self.profile(image, patch) else { return };
        let Some(place) = self.regions.get(to) else { return };
        if peak > place.qubits || profile.unaffordable(place.routes, place.magic_buffer).is_some() {
            if let Some(strand) = self.strand_mut(id) {
                strand.migrate_to = None;
            }
            return;
        }
        if !place.has_room(peak, running.load) {
            return;
        }
        if let Some(from) = self.regions.get_mut(from) {
            from.running.retain(|r| r.id != id);
            from.free_qubits += peak;
            from.recheck_waiting = true;
        }
        if let Some(to) = self.regions.get_mut(to) {
            to.free_qubits -= peak;
            to.enter(running);
        }
        if let Some(strand) = self.strand_mut(id) {
            strand.region = to;
            strand.migrate_to = None;
        }
    }

    pub(crate) fn rollback(&mut self, d: u32, machine: Handle, strand: Option<Handle>) -> Result<Reply> {
        let (machine, rights) = self.require(d, machine, ObjectKind::Machine, Rights::USE | Rights::COMPUTE)?;
        let Some(handle) = strand else { return self.rollback_qubits(d, machine, rights) };
        let id = self.preemptible_strand(d, handle)?;
        let Object::Strand(strand) = self.object(id) else { return not_now("the strand is gone") };
        let (session, run) = (strand.machine, strand.run);
        let ops: Vec<Op> = strand.reversible().collect();
        check_classes(&ops, rights)?;
        let magic: u64 = ops.iter().map(|op| self.device.cost(op, run.patch).magic as u64).sum();
        // They are undone, and then done again.
        let magic = magic.saturating_mul(2).saturating_mul(run.shots);
        self.check_budget(session, 0, 0, magic)?;
        let now = self.epoch;
        let undone = match self.objects.get_mut(id).map(|e| &mut e.object) {
            Some(Object::Strand(strand)) => strand.rollback(&mut self.device, now).map_err(device_error)?,
            _ => return not_now("the strand is gone"),
        };
        self.charge_budget(session, 0, 0, magic);
        Ok(Reply::RolledBack(undone))
    }

    /// Forgets a strand that no one names any more.
    pub(crate) fn end_strand(&mut self, id: u32, mut strand: Strand) {
        let (owner, machine, image) = (strand.owner, strand.machine, strand.image_object);
        let (space, peak) = (strand.space, strand.image.peak_qubits);
        let held = strand.holdings(self.epoch);
        self.release_holdings(id, held);
        if let Some(space) = space {
            self.device.close(space);
        }
        if let Some(domain) = self.domain_mut(owner) {
            domain.used.strands -= 1;
        }
        self.refund_budget(machine, 1, peak);
        self.unhold(image);
        self.unhold(machine);
    }
}

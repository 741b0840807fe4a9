//! System calls about strands and regions.

use crate::calls::qubits::check_classes;
use crate::image::dataflow::Flow;
use crate::image::profile::ImageProfile;
use crate::sched::deadline::{HORIZON, Plan};
use crate::sched::fair_queue::Times;
use crate::sched::frontier::heights;
use crate::sched::region::Region;
use crate::state::{Entry, Kernel, Object, Result, argument, device_error, late, not_now, not_ready};
use crate::strand::state::{Held, Origin, Strand};
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use qmk_abi::image::{ImageError, ImageErrorKind, Op};
use qmk_abi::syscall::{Limit, ObjectKind, Patch, Run, StrandState};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::{Device, SpaceSpec};

/// Largest reply to `Outcomes`.
const OUTCOME_BYTES: u64 = 1 << 20;

impl<D: Device> Kernel<D> {
    /// What an image takes on these patches; the last answer is kept with the image.
    fn profile(&mut self, image: u32, patch: Patch) -> Result<ImageProfile> {
        let Object::Image { image: admitted, profile, .. } = self.object(image) else {
            return not_now("the image is gone");
        };
        if let Some((_, profile)) = profile.as_ref().filter(|(p, _)| *p == patch) {
            return Ok(profile.clone());
        }
        let found = ImageProfile::new(admitted, |op| self.device.cost(op, patch));
        if let Some(Entry { object: Object::Image { profile, .. }, .. }) = self.objects.get_mut(image) {
            *profile = Some((patch, found.clone()));
        }
        Ok(found)
    }

    /// Ranks of a strand's instructions, if it runs where order matters.
    pub(crate) fn heights(&mut self, image: u32, patch: Patch, region: u32) -> Option<Arc<Vec<u32>>> {
        let profile = self.profile(image, patch).ok()?;
        let routes = self.regions.get(region)?.routes;
        let Object::Image { image: admitted, .. } = self.object(image) else { return None };
        // No more routes are in use at once than qubits.
        if profile.magic == 0 && routes >= admitted.peak_qubits { None } else { Some(self.rank(image, patch)) }
    }

    /// Dataflow of an image.
    fn flow(&mut self, image: u32) -> Arc<Flow> {
        match self.objects.get_mut(image) {
            Some(Entry { object: Object::Image { image, flow, .. }, .. }) => {
                flow.get_or_insert_with(|| Arc::new(Flow::new(image.image.clone(), image.peak_qubits))).clone()
            }
            _ => Arc::default(),
        }
    }

    fn rank(&mut self, image: u32, patch: Patch) -> Arc<Vec<u32>> {
        let flow = self.flow(image);
        let device = &self.device;
        let Some(Entry { object: Object::Image { profile, .. }, .. }) = self.objects.get_mut(image) else {
            return Arc::default();
        };
        let make = || Arc::new(heights(&flow, |op| device.cost(op, patch).cycles));
        match profile {
            Some((_, profile)) => profile.heights.get_or_insert_with(make).clone(),
            None => make(),
        }
    }

    /// The region behind an optional handle.
    fn region_of(&self, d: u32, region: Option<Handle>) -> Result<u32> {
        let Some(handle) = region else { return Ok(0) };
        let (object, _) = self.require(d, handle, ObjectKind::Region, Rights::USE)?;
        match self.object(object) {
            Object::Region(r) => Ok(*r),
            _ => not_now("the region is gone"),
        }
    }

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
        let (available, buffer, routes) = (place.qubits, place.buffer, place.routes);
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
        let (id, handle) = self.give(d, Object::Strand(Box::new(strand)), ObjectKind::Strand, machine)?;
        if planned {
            self.start(id, self.epoch + 1);
        } else if let Some(region) = self.regions.get_mut(region) {
            region.waiting.push(id);
            region.changed = true;
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
        if peak > place.free {
            return late(deadline, "the region's qubits are in use");
        }
        if place.waiting.iter().any(|&id| self.holds_up(id)) {
            return late(deadline, "a strand has waited too long for the region's qubits");
        }
        if place.backlog > 0 || !place.keeps_up_with(peak as u64 * decoding as u64) {
            return late(deadline, "the decoders are behind, or would be");
        }
        let within = deadline / run.shots;
        let cost = |op: &_| self.device.cost(op, run.patch);
        match Plan::make(&flow, heights, cost, place, within) {
            Some(plan) if place.may_promise(plan.rest(0)) => Ok(plan),
            Some(_) => late(deadline, "the region has promised too much of late; what is always there is a region"),
            None if within > HORIZON => late(deadline, "one shot takes longer than promises can be made"),
            None => late(deadline, "a shot takes longer with the magic states and routes there are"),
        }
    }

    /// Gives a strand its qubits and its space.
    pub(crate) fn start(&mut self, id: u32, now: u64) {
        let Some(strand) = self.strand_mut(id) else { return };
        let (owner, region, context, physical) = (strand.owner, strand.region, strand.context, strand.physical);
        let (peak, run) = (strand.image.peak_qubits, strand.run);
        let running = strand.running(id);
        let image = strand.image.image.clone();
        let active = self.domain(owner).map_or(0, |d| d.quota.active);
        let (shots, seed, patch, errors) = (run.shots, run.seed, run.patch, run.noise);
        let spec = SpaceSpec { image, noise: Arc::default(), patch, errors, shots, seed, max_active: active };
        self.occupy(owner, region, context, peak, physical);
        let space = self.device.open(spec);
        let Some(strand) = self.strand_mut(id) else { return };
        match space {
            Ok(space) => strand.start(space, now),
            // It gives back what it holds as any strand that runs.
            Err(e) => strand.fail_to_start(e, now),
        }
        let promises = strand.plan.as_ref().map_or(Vec::new(), |p| p.rest(0).to_vec());
        if let Some(region) = self.regions.get_mut(region) {
            region.enter(running);
            region.count_promises(&promises);
            region.promise(promises.into_iter(), true);
        }
    }

    /// Lets a strand that has just started issue, if nothing else does it.
    pub(crate) fn begin(&mut self, id: u32) {
        let Some(strand) = self.strand_mut(id).filter(|s| s.is_fresh()) else { return };
        let (image, patch, region) = (strand.image_object, strand.run.patch, strand.region);
        let (flow, heights) = (self.flow(image), self.heights(image, patch, region));
        if let Some(strand) = self.strand_mut(id) {
            strand.begin(flow, heights);
        }
    }

    /// Counts qubits as held.
    fn occupy(&mut self, owner: u32, region: u32, context: u32, qubits: u32, physical: u64) {
        if let Some(region) = self.regions.get_mut(region) {
            region.free -= qubits;
        }
        if let Some(domain) = self.domain_mut(owner) {
            domain.used.qubits += qubits;
            domain.used.physical_qubits += physical;
        }
        if let Some(context) = self.contexts.get_mut(context) {
            context.qubits += qubits;
        }
    }

    /// Qubits have come free, in a region or of a quota: a waiting strand of any region may have come to fit.
    pub(crate) fn look_again(&mut self) {
        for (_, region) in self.regions.iter_mut() {
            region.changed = true;
        }
    }

    /// Counts a strand of a context, which begins level with the others of the region if it had none.
    fn join(&mut self, context: u32, region: u32) {
        if self.contexts.get(context).is_some_and(|c| c.strands == 0)
            && let Some(place) = self.regions.get(region)
        {
            // Those of other regions are no one's business in this one.
            let waiting = place.waiting.iter().filter_map(|&id| match self.object(id) {
                Object::Strand(strand) => Some(strand.context),
                _ => None,
            });
            let busy = place.running.iter().map(|r| r.context).chain(waiting).filter(|&c| c != context);
            let foremost = busy.filter_map(|c| Some(self.contexts.get(c)?.times())).reduce(Times::max);
            if let (Some(times), Some(context)) = (foremost, self.contexts.get_mut(context)) {
                context.catch_up(times.less_lead());
            }
        }
        if let Some(context) = self.contexts.get_mut(context) {
            context.strands += 1;
        }
    }

    /// A strand that ends leaves its context.
    fn leave(&mut self, context: u32) {
        if let Some(context) = self.contexts.get_mut(context) {
            context.strands -= 1;
        }
    }

    /// Takes a strand that ends out of its region. What it holds of the machine, which it does from its start, is given back,
    /// and what was to be saved at a fence will not be.
    pub(crate) fn withdraw(&mut self, id: u32, held: Held) {
        let Held { owner, region, context, qubits, physical, promises, checkpoints } = held;
        self.fail_checkpoints(checkpoints);
        let Some(region) = self.regions.get_mut(region) else { return };
        // One that failed holds its qubits until the epoch is over, so that its state does not tell.
        if let Some(at) = region.running.iter().position(|r| r.id == id) {
            region.running.remove(at);
            region.free += qubits;
            region.promise(promises.into_iter(), false);
            self.look_again();
            if let Some(domain) = self.domain_mut(owner) {
                domain.used.qubits -= qubits;
                domain.used.physical_qubits -= physical;
            }
            if let Some(context) = self.contexts.get_mut(context) {
                context.qubits -= qubits;
            }
            self.leave(context);
        } else if let Some(at) = region.waiting.iter().position(|&s| s == id) {
            region.waiting.remove(at);
            region.changed = true;
            self.leave(context);
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
    pub(crate) fn movable(&self, d: u32, handle: Handle) -> Result<u32> {
        let (id, strand) = self.strand(d, handle, Rights::CONTROL)?;
        match strand.state {
            StrandState::Faulted => not_now("the strand has faulted"),
            StrandState::Draining | StrandState::Done => not_now("all instructions of the strand have been issued"),
            _ if strand.run.deadline.is_some() => not_now("a strand with a deadline keeps to its schedule"),
            _ => Ok(id),
        }
    }

    pub(crate) fn pause(&mut self, d: u32, handle: Handle, paused: bool) -> Result<Reply> {
        let id = self.movable(d, handle)?;
        if let Some(strand) = self.strand_mut(id) {
            strand.paused = paused;
            strand.update_hold();
        }
        Ok(Reply::Done)
    }

    pub(crate) fn migrate(&mut self, d: u32, handle: Handle, region: Option<Handle>) -> Result<Reply> {
        let id = self.movable(d, handle)?;
        let to = self.region_of(d, region)?;
        let Object::Strand(strand) = self.object(id) else { return not_now("the strand is gone") };
        let (peak, image, patch) = (strand.image.peak_qubits, strand.image_object, strand.run.patch);
        let Some(place) = self.regions.get(to) else { return not_now("the region is gone") };
        let (available, buffer, routes) = (place.qubits, place.buffer, place.routes);
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
    pub(crate) fn try_move(&mut self, id: u32) {
        let Some(strand) = self.strand_mut(id) else { return };
        let (Some(to), from, peak) = (strand.migrate_to, strand.region, strand.image.peak_qubits) else { return };
        let running = strand.running(id);
        let (image, patch) = (strand.image_object, strand.run.patch);
        let Ok(profile) = self.profile(image, patch) else { return };
        let Some(place) = self.regions.get(to) else { return };
        if peak > place.qubits || profile.unaffordable(place.routes, place.buffer).is_some() {
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
            from.free += peak;
            from.changed = true;
        }
        if let Some(to) = self.regions.get_mut(to) {
            to.free -= peak;
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
        let id = self.movable(d, handle)?;
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
        let held = strand.held(self.epoch);
        self.withdraw(id, held);
        if let Some(space) = space {
            self.device.close(space);
        }
        if let Some(domain) = self.domain_mut(owner) {
            domain.used.strands -= 1;
        }
        self.discharge(machine, 1, peak);
        self.let_go(image);
        self.let_go(machine);
    }

    // Regions and contexts.

    pub(crate) fn create_region(
        &mut self,
        d: u32,
        machine: Handle,
        qubits: u32,
        routes: u32,
        magic: u32,
    ) -> Result<Reply> {
        self.require(d, machine, ObjectKind::Machine, Rights::ADMIN)?;
        self.check_slots(d)?;
        let Some(shared) = self.regions.get_mut(0) else { return not_now("there is no shared region") };
        if qubits == 0 {
            return argument("a region needs at least one qubit");
        }
        if qubits > shared.free {
            return Err(KernelError::Capacity { requested: qubits, available: shared.free });
        }
        if routes > shared.routes || magic > shared.rate {
            return argument("the shared region has fewer routes or magic states than that");
        }
        if routes > shared.routes - shared.taken {
            return not_ready("operations under way use the routes");
        }
        if !shared.promises.is_empty() {
            return not_ready("the shared region has deadlines to keep");
        }
        // Buffer and decoders go with the part of the machine that they serve.
        let part = |whole: u32, of: u32, all: u32| (whole as u64 * of as u64 / all.max(1) as u64) as u32;
        let buffer = part(shared.buffer, magic, shared.rate);
        let decoded = part(shared.decoded, qubits, shared.qubits);
        let left = (shared.qubits - qubits, shared.routes - routes, shared.buffer - buffer);
        if self.is_needed(0, left.0, left.1, left.2) {
            return not_ready("a strand of the shared region needs what would be taken from it");
        }
        let Some(shared) = self.regions.get_mut(0) else { return not_now("there is no shared region") };
        shared.qubits -= qubits;
        shared.free -= qubits;
        shared.routes -= routes;
        shared.rate -= magic;
        shared.buffer -= buffer;
        shared.stock = shared.stock.min(shared.buffer);
        shared.decoded -= decoded;
        let region = self.regions.insert(Region::new(qubits, routes, magic, buffer, decoded));
        Ok(Reply::Handle(self.give(d, Object::Region(region), ObjectKind::Region, machine)?.1))
    }

    /// Whether a strand of a region needs more than this.
    fn is_needed(&mut self, region: u32, qubits: u32, routes: u32, buffer: u32) -> bool {
        let Some(place) = self.regions.get(region) else { return false };
        place.strands().into_iter().any(|id| {
            let Object::Strand(strand) = self.object(id) else { return false };
            let (image, patch, peak) = (strand.image_object, strand.run.patch, strand.image.peak_qubits);
            let profile = self.profile(image, patch);
            peak > qubits || profile.is_ok_and(|n| n.unaffordable(routes, buffer).is_some())
        })
    }

    /// Ends a strand with a fault.
    fn stop_strand(&mut self, id: u32, why: &str) {
        let now = self.epoch;
        let Some(strand) = self.strand_mut(id) else { return };
        let held = strand.held(now);
        strand.fault(0, why.to_string());
        self.withdraw(id, held);
    }

    pub(crate) fn end_region(&mut self, id: u32) {
        let Some(region) = self.regions.get(id) else { return };
        for strand in region.strands() {
            self.stop_strand(strand, "its region was taken back");
        }
        for (_, entry) in self.objects.iter_mut() {
            if let Object::Strand(strand) = &mut entry.object
                && strand.migrate_to == Some(id)
            {
                strand.migrate_to = None;
                strand.update_hold();
            }
        }
        let Some(region) = self.regions.remove(id) else { return };
        if let Some(shared) = self.regions.get_mut(0) {
            shared.qubits += region.qubits;
            shared.free += region.qubits;
            shared.routes += region.routes;
            shared.rate += region.rate;
            shared.buffer += region.buffer;
            shared.decoded += region.decoded;
            shared.backlog += region.backlog;
            // Operations under way keep their routes to their end.
            shared.taken += region.taken;
            if shared.releases.len() < region.releases.len() {
                shared.releases.resize(region.releases.len(), 0);
            }
            shared.releases.iter_mut().zip(&region.releases).for_each(|(all, one)| *all += one);
            shared.changed = true;
        }
    }

    /// The strands of a context that is taken back go on under their domains' own.
    pub(crate) fn end_context(&mut self, id: u32) {
        self.contexts.remove(id);
        let mut moved = Vec::new();
        for (_, entry) in self.objects.iter_mut() {
            if let Object::Strand(strand) = &mut entry.object
                && strand.context == id
                && let Some(Some(domain)) = self.domains.get(strand.owner as usize)
            {
                strand.context = domain.context;
                let ended = matches!(strand.state, StrandState::Done | StrandState::Faulted);
                moved.push((strand.context, strand.region, ended, strand.holds_qubits(), strand.image.peak_qubits));
            }
        }
        for (context, region, ended, held, qubits) in moved {
            if !ended {
                self.join(context, region);
            }
            if let (true, Some(context)) = (held, self.contexts.get_mut(context)) {
                context.qubits += qubits;
            }
        }
        for (_, region) in self.regions.iter_mut() {
            for running in &mut region.running {
                if running.context == id
                    && let Some(Entry { object: Object::Strand(strand), .. }) = self.objects.get(running.id)
                {
                    running.context = strand.context;
                }
            }
            region.running.sort_unstable();
        }
    }
}

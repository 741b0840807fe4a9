//! Starts and ends of strands.

use crate::limits::{MAX_STARTED, PATIENCE};
use crate::object::Object;
use crate::sched::fair_queue::behind;
use crate::sched::region::Running;
use crate::state::Kernel;
use crate::strand::state::Holdings;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use qmk_abi::syscall::StrandState;
use qmk_hal::{Device, SpaceSpec};

impl<D: Device> Kernel<D> {
    /// Starts strands that fit: of the context that has had the fewest patches for its weight first, and within a context by
    /// priority, then the longest path. A strand that waits for its domain's quota holds up its context; one that waits for the
    /// region is overtaken by others that fit. Against starvation, once in [`PATIENCE`] epochs the oldest strand of a context
    /// goes before others of it, and a context that has had none started for [`PATIENCE`] epochs goes before all others and is
    /// not overtaken. See the module for what that promises. Returns those that it started.
    pub(crate) fn start_waiting(&mut self, region: u32) -> Vec<u32> {
        let now = self.epoch;
        let Some(place) = self.regions.get_mut(region) else { return Vec::new() };
        // An old strand may begin to hold up others at any time, which lets none start that could not before.
        if place.waiting.is_empty() || !core::mem::take(&mut place.recheck_waiting) {
            return Vec::new();
        }
        let whole = place.qubits;
        let mut queues: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for &id in &place.waiting {
            let Some(Object::Strand(strand)) = self.objects.get(id).map(|e| &e.object) else { continue };
            let queue = queues.entry(strand.context).or_default();
            // They come in order of arrival.
            let waited =
                now - self.contexts.get(strand.context).map_or(0, |c| c.last_aged_start).max(strand.arrival_epoch);
            let aged = queue.is_empty() && waited >= PATIENCE;
            queue.push((!aged, strand.running(id)));
        }
        // The first comes last, to be popped.
        queues.values_mut().for_each(|q| q.sort_unstable_by(|a, b| b.cmp(a)));
        let longest = queues.values().flatten().map(|(_, r)| r.path.0).fold(0, u32::max);
        let (mut started, mut instructions) = (Vec::new(), 0);
        loop {
            let arrival_epoch = |id| match self.object(id) {
                Object::Strand(strand) => strand.arrival_epoch,
                _ => now,
            };
            let first = queues.iter().filter_map(|(c, q)| {
                let (_, first) = q.last()?;
                let sched = self.contexts.get(*c)?;
                let since = sched.last_start.max(arrival_epoch(first.id));
                let starved = now - since >= PATIENCE;
                let time = sched.projected_patch_time(whole).saturating_add(behind(first.path.0, longest).patches);
                Some((!starved, if starved { since } else { time }, first.arrival, *c))
            });
            let Some((served, _, _, context)) = first.min() else { break };
            let Some((ordinary, Running { id, .. })) = queues.get_mut(&context).and_then(Vec::pop) else { break };
            let Object::Strand(strand) = self.object(id) else { continue };
            let (owner, peak, physical, load) =
                (strand.owner, strand.image.peak_qubits, strand.physical, strand.load());
            let Some(domain) = self.domain(owner) else { continue };
            let fits_quota = peak <= domain.quota.qubits.saturating_sub(domain.used.qubits)
                && physical <= domain.quota.physical_qubits.saturating_sub(domain.used.physical_qubits);
            let has_room = self.regions.get(region).is_some_and(|r| r.has_room(peak, load));
            let Some(sched) = self.contexts.get_mut(context) else { continue };
            if fits_quota && has_room {
                sched.last_start = now;
                if !ordinary {
                    sched.last_aged_start = now;
                }
                let size = self.strand_mut(id).map_or(0, |s| s.image.image.code.len());
                self.start(id, now);
                started.push(id);
                // To start takes time in proportion to the program.
                instructions += size;
                if instructions > MAX_STARTED {
                    if let Some(place) = self.regions.get_mut(region) {
                        place.recheck_waiting = true;
                    }
                    break;
                }
            } else if fits_quota && !served && self.can_come_free(region, peak) {
                break;
            } else {
                queues.remove(&context);
            }
        }
        if let Some(place) = self.regions.get_mut(region) {
            place.waiting.retain(|id| !started.contains(id));
        }
        started
    }

    /// Whether a waiting strand lets no one else take qubits.
    pub(crate) fn blocks_others(&self, id: u32) -> bool {
        let Object::Strand(strand) = self.object(id) else { return false };
        let Some(domain) = self.domain(strand.owner) else { return false };
        let peak = strand.image.peak_qubits;
        let fits_quota = peak <= domain.quota.qubits.saturating_sub(domain.used.qubits);
        fits_quota
            && self.epoch.saturating_sub(strand.arrival_epoch) >= PATIENCE
            && self.can_come_free(strand.region, peak)
    }

    /// Whether a region has so many qubits that come free by themselves: those held one by one and those of paused
    /// strands need not, and no one can be made to wait for them.
    pub(crate) fn can_come_free(&self, region: u32, qubits: u32) -> bool {
        let Some(place) = self.regions.get(region) else { return false };
        let paused = place.running.iter().filter_map(|r| match self.object(r.id) {
            Object::Strand(s) if s.paused && s.state == StrandState::Held => Some(s.image.peak_qubits),
            _ => None,
        });
        qubits <= place.qubits - place.interactive - paused.sum::<u32>()
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
        self.charge_qubits(owner, region, context, peak, physical);
        let space = self.device.open(spec);
        let Some(strand) = self.strand_mut(id) else { return };
        match space {
            Ok(space) => strand.start(space, now),
            // It gives back what it holds as any strand that runs.
            Err(e) => strand.fail_to_start(e, now),
        }
        let reservations = strand.plan.as_ref().map_or(Vec::new(), |p| p.rest(0).to_vec());
        if let Some(region) = self.regions.get_mut(region) {
            region.enter(running);
            region.charge_reservable(&reservations);
            region.reserve(reservations.into_iter(), true);
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
    pub(crate) fn charge_qubits(&mut self, owner: u32, region: u32, context: u32, qubits: u32, physical: u64) {
        if let Some(region) = self.regions.get_mut(region) {
            region.free_qubits -= qubits;
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
    pub(crate) fn recheck_all_regions(&mut self) {
        for (_, region) in self.regions.iter_mut() {
            region.recheck_waiting = true;
        }
    }

    /// Takes a strand that ends out of its region. What it holds of the machine, which it does from its start, is given back,
    /// and what was to be saved at a fence will not be.
    pub(crate) fn release_holdings(&mut self, id: u32, held: Holdings) {
        let Holdings { owner, region, context, qubits, physical, reservations, checkpoints } = held;
        self.fail_checkpoints(checkpoints);
        let Some(region) = self.regions.get_mut(region) else { return };
        // One that failed holds its qubits until the epoch is over, so that its state does not tell.
        if let Some(at) = region.running.iter().position(|r| r.id == id) {
            region.running.remove(at);
            region.free_qubits += qubits;
            region.reserve(reservations.into_iter(), false);
            self.recheck_all_regions();
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
            region.recheck_waiting = true;
            self.leave(context);
        }
    }

    /// Takes out strands that have ended; returns their number.
    pub(crate) fn end(&mut self) -> u32 {
        let mut ended = Vec::new();
        for (_, region) in self.regions.iter() {
            ended.extend(region.running.iter().map(|r| r.id).filter(|&id| match self.object(id) {
                Object::Strand(s) => matches!(s.state, StrandState::Done | StrandState::Faulted),
                _ => true,
            }));
        }
        let now = self.epoch;
        for &id in &ended {
            if let Some(held) = self.strand_mut(id).map(|s| s.holdings(now)) {
                self.release_holdings(id, held);
            }
        }
        ended.len() as u32
    }
}

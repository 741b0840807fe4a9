//! Starts and ends of strands: which waiting strand gets qubits next, and how a strand that ends gives them back.
//!
//! Where to start: [`Kernel::start_waiting`]. Its bounds against starvation are in `sched/epoch.rs`.

use crate::errors::Checked;
use crate::holding::Holding;
use crate::ids::{ContextId, RegionId, StrandId};
use crate::limits::{MAX_STARTED, PATIENCE};
use crate::sched::fair_queue::behind;
use crate::sched::region::Running;
use crate::state::Kernel;
use crate::strand::state::Holdings;
use crate::time::Epoch;
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use qmk_abi::syscall::StrandState;
use qmk_hal::{Device, SpaceSpec};

/// A waiting strand in its context's queue. The least starts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// False for the oldest strand of the context if it has waited too long, which puts it first.
    in_turn: bool,
    running: Running,
}

/// Waiting strands by context, each queue with its first strand last, to be popped.
type Queues = BTreeMap<ContextId, Vec<Waiting>>;

/// A context's bid to start its next strand. The least wins.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bid {
    /// False for a context that has had no strand started for too long.
    served: bool,
    /// Epoch since which that is so, or the virtual patch time.
    time: u64,
    arrival: u64,
    context: ContextId,
}

impl<D: Device> Kernel<D> {
    /// Starts strands that fit. The context that has held the fewest patches for its weight goes first, and within a
    /// context the strand of the highest priority, then of the longest path.
    ///
    /// A strand that waits for its domain's quota holds up its context. One that waits for the region is overtaken by
    /// others that fit. Against starvation, once in [`PATIENCE`] epochs the oldest strand of a context goes before
    /// others of it; and a context that has had none started for [`PATIENCE`] epochs goes before all others and is not
    /// overtaken.
    ///
    /// Returns the strands that it started.
    pub(crate) fn start_waiting(&mut self, region: RegionId) -> Checked<Vec<StrandId>> {
        let now = self.epoch;
        let place = self.regions.get_mut(region)?;
        // Without a change no strand starts that could not before: growing old only makes a strand hold others up.
        if place.waiting.is_empty() || !core::mem::take(&mut place.recheck_waiting) {
            return Ok(Vec::new());
        }
        let whole = place.qubits;
        let mut queues = self.queues(region)?;
        let longest = queues.values().flatten().map(|w| w.running.path.0).fold(0, u32::max);
        let (mut started, mut instructions) = (Vec::new(), 0);
        while let Some(Bid { served, context, .. }) = self.best_bid(&queues, whole, longest)? {
            let Some(Waiting { in_turn, running }) = queues.get_mut(&context).and_then(Vec::pop) else { break };
            let strand = self.objects.strand(running.id)?;
            let (qubits, size) = (strand.holding(), strand.image.image.code.len());
            let fits_quota = self.domains.get(strand.owner)?.fits(qubits);
            let has_room = self.regions.get(region)?.has_room(qubits.qubits(), running.load);
            if fits_quota && has_room {
                let sched = self.contexts.get_mut(context)?;
                sched.last_start = now;
                if !in_turn {
                    sched.last_aged_start = now;
                }
                self.start(running.id, now)?;
                started.push(running.id);
                // Starting takes time in proportion to the program, and an epoch takes bounded time.
                instructions += size;
                if instructions > MAX_STARTED {
                    self.regions.get_mut(region)?.recheck_waiting = true;
                    break;
                }
            } else if fits_quota && !served && self.can_come_free(region, qubits.qubits())? {
                // It has waited too long to be overtaken: qubits are left to come free for it.
                break;
            } else {
                queues.remove(&context);
            }
        }
        self.regions.get_mut(region)?.waiting.retain(|id| !started.contains(id));
        Ok(started)
    }

    /// Queues of the strands that wait in a region.
    fn queues(&self, region: RegionId) -> Checked<Queues> {
        let mut queues = Queues::new();
        // They are kept in order of arrival, so the first of a context is its oldest.
        for &id in &self.regions.get(region)?.waiting {
            let strand = self.objects.strand(id)?;
            let queue = queues.entry(strand.context).or_default();
            let since = self.contexts.get(strand.context)?.last_aged_start.max(strand.arrival_epoch);
            let aged = queue.is_empty() && self.epoch.since(since) >= PATIENCE;
            queue.push(Waiting { in_turn: !aged, running: strand.running(id) });
        }
        queues.values_mut().for_each(|q| q.sort_unstable_by(|a, b| b.cmp(a)));
        Ok(queues)
    }

    /// The context to start a strand next, of those with a strand in `queues`.
    fn best_bid(&self, queues: &Queues, whole: u32, longest: u32) -> Checked<Option<Bid>> {
        let mut best: Option<Bid> = None;
        for (&context, queue) in queues {
            let Some(Waiting { running: first, .. }) = queue.last() else { continue };
            let sched = self.contexts.get(context)?;
            let since = sched.last_start.max(self.objects.strand(first.id)?.arrival_epoch);
            let served = self.epoch.since(since) < PATIENCE;
            let patches = sched.projected_patch_time(whole).saturating_add(behind(first.path.0, longest).patches);
            let time = if served { patches } else { since.number() };
            let bid = Bid { served, time, arrival: first.arrival, context };
            if best.as_ref().is_none_or(|best| bid < *best) {
                best = Some(bid);
            }
        }
        Ok(best)
    }

    /// Whether a waiting strand has waited so long that no other strand or domain may take qubits of its region.
    pub(crate) fn blocks_others(&self, id: StrandId) -> Checked<bool> {
        let strand = self.objects.strand(id)?;
        let domain = self.domains.get(strand.owner)?;
        let peak = strand.image.peak_qubits;
        let fits_quota = peak <= domain.quota.qubits.saturating_sub(domain.held.qubits());
        let patient = self.epoch.since(strand.arrival_epoch) < PATIENCE;
        Ok(fits_quota && !patient && self.can_come_free(strand.region, peak)?)
    }

    /// Whether this many qubits of a region come free without anyone's doing. Those held one by one and those of paused
    /// strands need not, so no one is made to wait for them.
    pub(crate) fn can_come_free(&self, region: RegionId, qubits: u32) -> Checked<bool> {
        let place = self.regions.get(region)?;
        let mut stuck = place.interactive_qubits();
        for r in &place.running {
            let strand = self.objects.strand(r.id)?;
            if strand.paused && strand.state == StrandState::Held {
                stuck += strand.image.peak_qubits;
            }
        }
        Ok(qubits <= place.qubits.saturating_sub(stuck))
    }

    /// Gives a strand its qubits and a space of the device. It counts as started at epoch `now`.
    pub(crate) fn start(&mut self, id: StrandId, now: Epoch) -> Checked {
        let strand = self.objects.strand(id)?;
        let (owner, region, context, qubits) = (strand.owner, strand.region, strand.context, strand.holding());
        let (running, run, image) = (strand.running(id), strand.run, strand.image.image.clone());
        let max_active = self.domains.get(owner)?.quota.active;
        let (shots, seed, patch, errors) = (run.shots, run.seed, run.patch, run.noise);
        let spec = SpaceSpec { image, noise: Arc::default(), patch, errors, shots, seed, max_active, owner: owner.0 };
        // The qubits are counted first: a strand that the device refuses gives them back as any strand that ends.
        self.domains.get_mut(owner)?.held.take(qubits)?;
        self.contexts.get_mut(context)?.held.take(qubits)?;
        let space = self.device.open(spec);
        let strand = self.objects.strand_mut(id)?;
        match space {
            Ok(space) => strand.start(space, now),
            Err(e) => strand.fail_to_start(e, now),
        }
        let place = self.regions.get_mut(region)?;
        place.held.take(qubits)?;
        place.enter(running);
        place.reserve(strand.plan.as_ref().map_or(&[], |p| p.rest(0)));
        Ok(())
    }

    /// Builds the tables for issuing one instruction at a time: the strand's dataflow, and ranks where resources may be
    /// short. That takes time with the program, so it is put off until it is clear that the program is not issued as a
    /// whole.
    ///
    /// Does so only for a strand that has just started and has no plan.
    pub(crate) fn begin(&mut self, id: StrandId) -> Checked {
        let strand = self.objects.strand(id)?;
        if !strand.is_fresh() {
            return Ok(());
        }
        let (image, patch, region) = (strand.image_object, strand.run.patch, strand.region);
        let (flow, heights) = (self.flow(image)?, self.heights(image, patch, region)?);
        self.objects.strand_mut(id)?.begin(flow, heights);
        Ok(())
    }

    /// Qubits have come free, of a region or of a quota. A quota's may let a strand of any region start.
    pub(crate) fn recheck_all_regions(&mut self) {
        for (_, region) in self.regions.iter_mut() {
            region.recheck_waiting = true;
        }
    }

    /// Takes a strand that ends out of its region and gives back its holdings. A strand that is in no region any more
    /// has given them back already.
    pub(crate) fn release_holdings(&mut self, id: StrandId, holdings: Holdings) -> Checked {
        let Holdings { owner, region, context, qubits, reservations, checkpoints } = holdings;
        // It did not come to the fence that these waited for.
        for checkpoint in checkpoints {
            self.objects.checkpoint_mut(checkpoint)?.failed = true;
        }
        // A strand that faulted with its region still names it.
        let Some(place) = self.regions.find_mut(region) else { return Ok(()) };
        // Its state does not tell whether it holds qubits: one that faulted does until the epoch is over.
        if let Some(at) = place.running.iter().position(|r| r.id == id) {
            place.running.remove(at);
            place.held.give_back(qubits)?;
            place.unreserve(&reservations);
            self.recheck_all_regions();
            self.domains.get_mut(owner)?.held.give_back(qubits)?;
            self.contexts.get_mut(context)?.held.give_back(qubits.and_strand())?;
        } else if let Some(at) = place.waiting.iter().position(|&s| s == id) {
            place.waiting.remove(at);
            place.recheck_waiting = true;
            self.contexts.get_mut(context)?.held.give_back(Holding::STRAND)?;
        }
        Ok(())
    }

    /// Takes strands that are done or have faulted out of their regions. Returns their number. They keep their objects
    /// and spaces, for outcomes to be read, until no capability names them.
    pub(crate) fn collect_ended(&mut self) -> Checked<u32> {
        let mut ended = Vec::new();
        for (_, region) in self.regions.iter() {
            for r in &region.running {
                if matches!(self.objects.strand(r.id)?.state, StrandState::Done | StrandState::Faulted) {
                    ended.push(r.id);
                }
            }
        }
        let now = self.epoch;
        for &id in &ended {
            let holdings = self.objects.strand_mut(id)?.take_holdings(now);
            self.release_holdings(id, holdings)?;
        }
        Ok(ended.len() as u32)
    }
}

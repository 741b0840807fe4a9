//! One epoch of the machine.
//!
//! Nothing starves. Let R be the longest time that a strand holds patches, and n the number of contexts.
//!
//! A strand that waits for patches, with `a` strands of its context that arrived before it, starts within
//! `(a + 1) (PATIENCE + n R)` epochs, if its domain's quota lets it: when it is the oldest, it is the first of its context after
//! at most [`PATIENCE`] epochs; a context that starts none for so long is overtaken no more, and each of those that have waited
//! for longer makes it wait for at most R.
//!
//! A strand that is ready is the first of its context after [`AGE`] epochs without an issue. The first of a context goes before
//! those of another as soon as that has taken [`CREDIT`](crate::sched::fair_queue::CREDIT) and [`LEAD`](crate::sched::fair_queue::LEAD) epochs of the
//! whole region more, for its weight, of whatever is short. What is refused to the first is saved up for it. So it issues within
//! `AGE + (CREDIT + LEAD) W + m / r` epochs for each of its context that is as old, where W is the sum of the weights, and m the
//! magic states that it needs at once of the r that come in an epoch.

use crate::calls::derivation::STEP;
use crate::image::profile::ImageProfile;
use crate::sched::fair_queue::{Context, Resource, Times, behind};
use crate::sched::region::{Open, Running};
use crate::state::{Clock, EpochReport, Kernel, Object};
use crate::strand::state::Stop;
use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::Range;
use qmk_abi::syscall::StrandState;
use qmk_hal::Device;

/// Most turns of one epoch at the device, all strands together.
const TURNS: u64 = 8;
/// Device steps of a turn that are worth having more turns in an epoch.
const STEPS: u64 = 1 << 11;
/// Instructions of the strands that start in one epoch, after which no more do.
const MAX_STARTED: usize = 1 << 20;
/// Epochs after which a strand that waits to start goes before those of higher priority in its context, and a context that
/// has had none started goes before all others.
pub(crate) const PATIENCE: u64 = 1024;
/// Epochs after which a strand that is ready and issues nothing goes before all others of its context.
pub(crate) const AGE: u64 = 64;

impl<D: Device> Kernel<D> {
    /// Runs one epoch: starts strands that fit, issues ready instructions under the epoch's resources, and lets the
    /// device finish shots.
    pub fn advance(&mut self) -> EpochReport {
        self.advance_by(1)
    }

    /// Runs one epoch, or all epochs of a program at once if they are at most `most`: where a strand starts that has the machine
    /// to itself, takes no magic states and is short of nothing, each of its instructions is issued as soon as what it depends on
    /// is over. What that comes to is the same as epoch by epoch, in less time. All else takes one epoch a call, as with
    /// [`Kernel::advance`].
    pub fn advance_by(&mut self, most: u64) -> EpochReport {
        self.epoch += 1;
        let mut step = STEP;
        self.bury(&mut step);
        self.pass_pairs(1);
        let mut report = EpochReport::default();
        for region in self.regions.ids() {
            let started = self.start_waiting(region);
            if let [id] = *started
                && let Some(issued) = self.issue_through(id, most)
            {
                report.issued += issued;
            } else {
                started.into_iter().for_each(|id| self.begin(id));
                report.issued += self.run_region(region);
            }
        }
        report.epoch = self.epoch;
        let (turns, issuing) = self.drain();
        report.turns = turns;
        // A strand that issues neither drains nor ends.
        if !issuing {
            report.ended = self.end();
        }
        report.busy =
            !self.dying.is_empty() || self.regions.iter().any(|(_, r)| !(r.waiting.is_empty() && r.running.is_empty()));
        report
    }

    fn pass_pairs(&mut self, epochs: u64) {
        let made = epochs.saturating_mul(self.device.spec().link.pairs_per_epoch as u64);
        self.pairs_due = self.pairs_due.saturating_sub(made);
    }

    /// Passes the epochs of a strand that starts in this one, if nothing else is going on and nothing that it needs is ever
    /// short; returns the number of its instructions.
    fn issue_through(&mut self, id: u32, most: u64) -> Option<u32> {
        let Object::Strand(strand) = self.object(id) else { return None };
        let (image, region, context, peak) =
            (strand.image_object, strand.region, strand.context, strand.image.peak_qubits);
        // Epochs after this one.
        let path = strand.path as u64;
        let Object::Image { profile: Some((patch, ImageProfile { free_schedule: Some(free_schedule), .. })), .. } =
            self.object(image)
        else {
            return None;
        };
        let (place, share) = (self.regions.get(region)?, self.contexts.get(context)?);
        let alone = self.regions.iter().all(|(_, r)| r.waiting.is_empty() && r.running.iter().all(|r| r.id == id));
        let calm = self.dying.is_empty() && self.regions.iter().all(|(_, r)| r.is_calm());
        let enough = place.routes >= peak && share.is_unlimited() && path < most;
        if !(strand.is_fresh() && !strand.holds() && strand.run.patch == *patch && alone && calm && enough) {
            return None;
        }
        let (free_schedule, qubits, routes) = (*free_schedule, place.qubits, place.routes);
        let strand = self.objects.strand_mut(id)?;
        let issued = strand.image.image.code.len() as u32;
        if !strand.issue_through(&mut self.device, &free_schedule) {
            return Some(0);
        }
        self.epoch += path;
        self.pass_pairs(path);
        for (_, place) in self.regions.iter_mut() {
            place.pass(path);
        }
        self.regions.get_mut(region)?.pass(1);
        let share = self.contexts.get_mut(context)?;
        share.charge(Resource::Patches, share.qubits as u64 * (path + 1), qubits);
        share.charge(Resource::Routes, free_schedule.route_epochs, routes);
        share.charge_epochs(free_schedule.cycles as u64);
        Some(issued)
    }

    /// Issues what can be issued in a region; returns the number of instructions.
    fn run_region(&mut self, id: u32) -> u32 {
        let now = self.epoch;
        let Some(region) = self.regions.get_mut(id) else { return 0 };
        let mut open = region.begin_epoch(now);
        let running = core::mem::take(&mut region.running);
        let mut planned = 0;
        let mut held = Vec::new();
        let mut seen = core::mem::take(&mut self.seen);
        seen.clear();
        for r in &running {
            seen.push(Seen { ready_since: None, to_go: 0 });
            let Some(strand) = self.objects.strand_mut(r.id) else { continue };
            if !strand.issues() {
                continue;
            }
            strand.begin_epoch(now);
            if let (true, Some(seen)) = (strand.is_ready(), seen.last_mut()) {
                *seen = Seen { ready_since: Some(strand.last_issue), to_go: strand.to_go() };
            }
            if strand.plan.is_some() {
                let before = strand.magic();
                planned += strand.follow_plan(&mut self.device, now);
                if let Some(Some(domain)) = self.domains.get_mut(strand.owner as usize) {
                    domain.charge_magic(strand.magic() - before);
                }
            } else if strand.state == StrandState::Held {
                held.push(r.id);
            }
        }
        self.best_effort(id, &running, &seen, &mut open);
        self.seen = seen;
        for r in &running {
            if let Some(strand) = self.objects.strand_mut(r.id)
                && strand.issues()
            {
                strand.end_epoch();
            }
        }
        let issued = planned + open.issued;
        if let Some(region) = self.regions.get_mut(id) {
            region.running = running;
            region.end_epoch(open);
            // What is held no longer holds up others.
            region.changed |= !held.is_empty();
        }
        for strand in held {
            self.at_fence(strand);
        }
        issued
    }

    /// What waits for a strand to be at a fence.
    fn at_fence(&mut self, id: u32) {
        self.take_checkpoints(id);
        self.try_move(id);
        if let Some(strand) = self.strand_mut(id) {
            strand.update_hold();
        }
    }

    /// Lets strands without deadlines issue: the context of the least issue time first.
    fn best_effort(&mut self, region: u32, running: &[Running], seen: &[Seen], open: &mut Open) {
        let Some(place) = self.regions.get(region) else { return };
        let (qubits, routes, rate) = (place.qubits, place.routes, place.rate);
        let mut turns = core::mem::take(&mut self.queue);
        let mut from = 0;
        for group in running.chunk_by(|a, b| a.context == b.context) {
            let range = from..from + group.len();
            from = range.end;
            let Some(context) = group.first().map(|r| r.context) else { continue };
            let oldest = neglected(seen, range.clone(), open.now);
            let first = range.start;
            let range = skip_unready(seen, range);
            let Some(share) = self.contexts.get_mut(context) else { continue };
            share.charge(Resource::Patches, share.qubits as u64, qubits);
            if share.may_issue(open.now) {
                turns.push(Reverse(Turn { time: share.times().issue, context, oldest, first, range }));
            }
        }
        let alone = turns.len() == 1;
        let longest = seen.iter().map(|s| s.to_go).fold(0, u32::max);
        for Reverse(turn) in &mut turns {
            turn.time = turn.time.saturating_add(self.behind(running, turn, longest));
        }
        let mut turns = BinaryHeap::from(turns);
        while let Some(Reverse(mut turn)) = turns.pop() {
            let at = turn.oldest.take().or_else(|| (!turn.range.is_empty()).then_some(turn.range.start));
            let Some(id) = at.and_then(|at| running.get(at)).map(|r| r.id) else { continue };
            let Some(strand) = self.objects.strand_mut(id) else { continue };
            let Some(Some(domain)) = self.domains.get_mut(strand.owner as usize) else { continue };
            let Some(share) = self.contexts.get_mut(turn.context) else { continue };
            let (mut magic, spent, taken) = (domain.magic_left(open.now), open.spent, open.route_epochs);
            let (first, issued) = (strand.charged_in != open.now, strand.issued());
            let stop = if first && !share.may_issue(open.now) {
                Stop::Dry
            } else {
                strand.issue(&mut self.device, open, if alone { u32::MAX } else { 1 }, &mut magic)
            };
            if first && strand.issued() > issued {
                strand.charged_in = open.now;
                share.charge_epochs(1);
            }
            let (spent, taken) = ((open.spent - spent) as u64, open.route_epochs - taken);
            domain.charge_magic(spent);
            if stop == Stop::Dry && at == Some(turn.range.start) {
                turn.range = skip_unready(seen, turn.range.start + 1..turn.range.end);
            }
            share.charge(Resource::Magic, spent, rate);
            share.charge(Resource::Routes, taken, routes);
            turn.time = share.times().issue;
            if !turn.range.is_empty() && alone {
                turns.push(Reverse(turn));
            } else if !turn.range.is_empty() {
                turn.time = turn.time.saturating_add(self.behind(running, &turn, longest));
                turns.push(Reverse(turn));
            }
        }
        self.queue = turns.into_vec();
        let groups = || running.chunk_by(|a, b| a.context == b.context);
        let contexts = groups().filter_map(|group| self.contexts.get(group.first()?.context));
        let latest = contexts.map(Context::times).fold(Times::default(), Times::max);
        for group in groups() {
            if let Some(share) = group.first().and_then(|r| self.contexts.get_mut(r.context)) {
                share.keep_up(latest);
            }
        }
    }

    /// Cycles that a strand still has to go.
    fn to_go(&self, id: u32) -> u32 {
        match self.object(id) {
            Object::Strand(strand) => strand.to_go(),
            _ => 0,
        }
    }

    /// How far the strand whose turn it is stands behind its context: what others than the first take is filling up.
    fn behind(&self, running: &[Running], turn: &Turn, longest: u32) -> u64 {
        match running.get(turn.range.start) {
            Some(r) if turn.range.start == turn.first => behind(self.to_go(r.id), longest).issue,
            _ => behind(0, longest).issue,
        }
    }

    /// Lets the device finish shots; returns the turns, and whether all strands still issue. Free-running, tenants that have issued
    /// all of a program share the device by the steps it takes for them and their weights (start-time fair queueing: Goyal, Vin
    /// & Cheng, SIGCOMM '96), and turns go around the strands of a tenant, so that an epoch takes the same time however many
    /// there are.
    fn drain(&mut self) -> (u32, bool) {
        let mut draining: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let (mut issuing, mut ended) = (false, false);
        for (_, region) in self.regions.iter() {
            for r in &region.running {
                let Some(Object::Strand(s)) = self.objects.get(r.id).map(|e| &e.object) else { continue };
                match s.state {
                    StrandState::Draining => draining.entry(s.owner).or_default().push(r.id),
                    StrandState::Running | StrandState::Held => issuing = true,
                    _ => ended = true,
                }
            }
        }
        if draining.is_empty() {
            return (0, !ended);
        }
        let pace = match self.clock {
            Clock::FreeRunning { pace } => pace.max(1),
            Clock::Lockstep => {
                let mut turns = 0;
                for id in draining.into_values().flatten() {
                    while let Some(strand) = self.objects.strand_mut(id)
                        && strand.state == StrandState::Draining
                    {
                        strand.drain(&mut self.device, Self::PACE);
                        turns += 1;
                    }
                }
                return (turns, false);
            }
        };
        // A strand that still issues gets on by one epoch at a time, and must not wait long for the shots of others.
        let turns = (pace / STEPS).clamp(1, TURNS);
        let steps = (pace / turns).max(1);
        let most = if issuing { 1 } else { turns as u32 };
        for turn in 0..most {
            // The tenant that has had the least goes first. One that comes back stands where the last that went first stood.
            let steps_of = |owner: u32| match self.domains.get(owner as usize) {
                Some(Some(domain)) => domain.steps.max(self.drained),
                _ => u64::MAX,
            };
            let Some((had, owner)) = draining.keys().map(|&owner| (steps_of(owner), owner)).min() else {
                return (turn, false);
            };
            self.drained = had;
            let (Some(Some(domain)), Some(strands)) = (self.domains.get_mut(owner as usize), draining.get_mut(&owner))
            else {
                break;
            };
            domain.turns = domain.turns.wrapping_add(1);
            let next = domain.turns % strands.len();
            let Some(strand) = strands.get(next).and_then(|&id| self.objects.strand_mut(id)) else { break };
            let took = strand.drain(&mut self.device, steps).max(1);
            domain.steps = had.saturating_add(took.div_ceil(domain.quota.weight.max(1) as u64));
            if strand.state != StrandState::Draining {
                strands.remove(next);
                if strands.is_empty() {
                    draining.remove(&owner);
                }
            }
        }
        (most, false)
    }

    /// Takes out strands that have ended; returns their number.
    fn end(&mut self) -> u32 {
        let mut ended = Vec::new();
        for (_, region) in self.regions.iter() {
            ended.extend(region.running.iter().map(|r| r.id).filter(|&id| match self.object(id) {
                Object::Strand(s) => matches!(s.state, StrandState::Done | StrandState::Faulted),
                _ => true,
            }));
        }
        let now = self.epoch;
        for &id in &ended {
            if let Some(held) = self.strand_mut(id).map(|s| s.held(now)) {
                self.withdraw(id, held);
            }
        }
        ended.len() as u32
    }

    /// Starts strands that fit: of the context that has had the fewest patches for its weight first, and within a context by
    /// priority, then the longest path. A strand that waits for its domain's quota holds up its context; one that waits for the
    /// region is overtaken by others that fit. Against starvation, once in [`PATIENCE`] epochs the oldest strand of a context
    /// goes before others of it, and a context that has had none started for [`PATIENCE`] epochs goes before all others and is
    /// not overtaken. See the module for what that promises. Returns those that it started.
    fn start_waiting(&mut self, region: u32) -> Vec<u32> {
        let now = self.epoch;
        let Some(place) = self.regions.get_mut(region) else { return Vec::new() };
        // An old strand may begin to hold up others at any time, which lets none start that could not before.
        if place.waiting.is_empty() || !core::mem::take(&mut place.changed) {
            return Vec::new();
        }
        let whole = place.qubits;
        let mut queues: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for &id in &place.waiting {
            let Some(Object::Strand(strand)) = self.objects.get(id).map(|e| &e.object) else { continue };
            let queue = queues.entry(strand.context).or_default();
            // They come in order of arrival.
            let waited = now - self.contexts.get(strand.context).map_or(0, |c| c.favoured).max(strand.arrived);
            let favoured = queue.is_empty() && waited >= PATIENCE;
            queue.push((!favoured, strand.running(id)));
        }
        // The first comes last, to be popped.
        queues.values_mut().for_each(|q| q.sort_unstable_by(|a, b| b.cmp(a)));
        let longest = queues.values().flatten().map(|(_, r)| r.path.0).fold(0, u32::max);
        let (mut started, mut instructions) = (Vec::new(), 0);
        loop {
            let arrived = |id| match self.object(id) {
                Object::Strand(strand) => strand.arrived,
                _ => now,
            };
            let first = queues.iter().filter_map(|(c, q)| {
                let (_, first) = q.last()?;
                let share = self.contexts.get(*c)?;
                let since = share.last_start.max(arrived(first.id));
                let starved = now - since >= PATIENCE;
                let time = share.holding(whole).saturating_add(behind(first.path.0, longest).patches);
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
            let Some(share) = self.contexts.get_mut(context) else { continue };
            if fits_quota && has_room {
                share.last_start = now;
                if !ordinary {
                    share.favoured = now;
                }
                let size = self.strand_mut(id).map_or(0, |s| s.image.image.code.len());
                self.start(id, now);
                started.push(id);
                // To start takes time in proportion to the program.
                instructions += size;
                if instructions > MAX_STARTED {
                    if let Some(place) = self.regions.get_mut(region) {
                        place.changed = true;
                    }
                    break;
                }
            } else if fits_quota && !served && self.comes_free(region, peak) {
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
}

/// The strand, of some that run, that has been ready longest without issuing anything, if that is too long.
fn neglected(seen: &[Seen], range: Range<usize>, now: u64) -> Option<usize> {
    let since = range.filter_map(|at| Some((at, seen.get(at)?.ready_since?)));
    let (at, last) = since.min_by_key(|&(_, last)| last)?;
    (now - last > AGE).then_some(at)
}

/// Those of some strands from the first that is ready on; what is not does not become so within the epoch.
fn skip_unready(seen: &[Seen], mut range: Range<usize>) -> Range<usize> {
    while !range.is_empty() && seen.get(range.start).is_some_and(|s| s.ready_since.is_none()) {
        range.start += 1;
    }
    range
}

/// A strand as an epoch finds it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// When it last issued something, if it could now.
    ready_since: Option<u64>,
    /// Cycles that it still has to go.
    to_go: u32,
}

/// A context's turn. The rest of its strands are those of `range`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    time: u64,
    context: u32,
    oldest: Option<usize>,
    /// Its first strand, ready or not.
    first: usize,
    range: Range<usize>,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.time, self.context).cmp(&(other.time, other.context))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

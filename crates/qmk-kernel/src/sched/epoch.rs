//! One epoch of the machine.
//!
//! Nothing starves. Let R be the longest time that a strand holds patches, and n the number of contexts.
//!
//! A strand that waits for patches, with `a` strands of its context that arrived before it, starts within `(a + 1)
//! (PATIENCE + n R)` epochs, if its domain's quota lets it: when it is the oldest, it is the first of its context after
//! at most [`PATIENCE`](crate::limits::PATIENCE) epochs; a context that starts none for so long is overtaken no more,
//! and each of those that have waited for longer makes it wait for at most R.
//!
//! A strand that is ready is the first of its context after [`AGE`](crate::limits::AGE) epochs without an issue. The
//! first of a context goes before those of another as soon as that has taken
//! [`CREDIT`](crate::sched::fair_queue::CREDIT) and [`LEAD`](crate::sched::fair_queue::LEAD) epochs of the whole region
//! more, for its weight, of whatever is short. What is refused to the first is saved up for it. So it issues within
//! `AGE + (CREDIT + LEAD) W + m / r` epochs for each of its context that is as old, where W is the sum of the weights,
//! and m the magic states that it needs at once of the r that come in an epoch.

use crate::domain::Domain;
use crate::errors::{Checked, broken};
use crate::ids::{RegionId, StrandId};
use crate::limits::STEP;
use crate::sched::fair_queue::{Resource, SchedContext, VirtualTimes, behind};
use crate::sched::region::{EpochBudget, Running};
use crate::sched::turn::{StrandView, Turn, first_ready, neglected};
use crate::state::{EpochReport, Kernel};
use crate::strand::state::{Stop, Strand};
use alloc::{collections::BinaryHeap, string::ToString, vec::Vec};
use core::cmp::Reverse;
use qmk_abi::syscall::StrandState;
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    /// Runs one epoch: starts strands that fit, issues ready instructions within the epoch's resources, and lets the
    /// device finish shots.
    pub fn advance(&mut self) -> EpochReport {
        self.advance_by(1)
    }

    /// Runs one epoch, or all epochs of a program at once if they are at most `most`. That is where a strand starts
    /// that has the machine to itself, takes no magic states and is short of nothing: each of its instructions is
    /// issued as soon as those that it depends on are over. The result is the same as epoch by epoch, in less time.
    /// Anything else takes one epoch a call, as with [`Kernel::advance`].
    ///
    /// After an impossible case the report is `broken`, and no epoch passes any more.
    pub fn advance_by(&mut self, most: u64) -> EpochReport {
        let mut report = EpochReport::default();
        if self.broken.is_none()
            && let Err(broken) = self.run_epoch(most, &mut report)
        {
            self.stop(broken.to_string());
        }
        report.epoch = self.epoch.number();
        report.broken = self.broken.is_some();
        report
    }

    fn run_epoch(&mut self, most: u64, report: &mut EpochReport) -> Checked {
        self.epoch = self.epoch.plus(1);
        // Dead domains are emptied first: their qubits may let a strand start in this very epoch.
        let mut step = STEP;
        self.empty_dead_spaces(&mut step)?;
        self.make_pairs(1);
        for region in self.regions.ids() {
            // The number may be free.
            if self.regions.find(region).is_none() {
                continue;
            }
            let started = self.start_waiting(region)?;
            if let [id] = *started
                && let Some(issued) = self.issue_whole_program(id, most)?
            {
                report.issued += issued;
            } else {
                for id in started {
                    self.begin(id)?;
                }
                report.issued += self.run_region(region)?;
            }
        }
        let (turns, all_issue) = self.drain()?;
        report.turns = turns;
        // A strand that issues neither drains nor ends.
        if !all_issue {
            report.ended = self.collect_ended()?;
        }
        report.busy =
            !self.dying.is_empty() || self.regions.iter().any(|(_, r)| !(r.waiting.is_empty() && r.running.is_empty()));
        Ok(())
    }

    /// The link makes some epochs' raw pairs of those that are due.
    fn make_pairs(&mut self, epochs: u64) {
        let made = epochs.saturating_mul(self.device.spec().link.pairs_per_epoch as u64);
        self.pairs_due = self.pairs_due.saturating_sub(made);
    }

    /// Passes all epochs of a strand that starts in this one, if nothing else goes on and none of its instructions
    /// would ever have to wait for a resource. Returns the number of its instructions, or `None` if its epochs must be
    /// run one by one.
    fn issue_whole_program(&mut self, id: StrandId, most: u64) -> Checked<Option<u32>> {
        let strand = self.objects.strand(id)?;
        let (region, context, peak) = (strand.region, strand.context, strand.image.peak_qubits);
        // Epochs after this one.
        let path = strand.path as u64;
        let Some((patch, profile)) = &self.objects.image(strand.image_object)?.profile else { return Ok(None) };
        let Some(free_schedule) = profile.free_schedule else { return Ok(None) };
        let (place, sched) = (self.regions.get(region)?, self.contexts.get(context)?);
        // No other strand competes for anything, none waits, and no domain is being emptied whose qubits could let one
        // start.
        let alone = self.regions.iter().all(|(_, r)| r.waiting.is_empty() && r.running.iter().all(|r| r.id == id));
        let calm = self.dying.is_empty() && self.regions.iter().all(|(_, r)| r.is_calm());
        // As many routes as qubits are never short, epochs are not counted, and the caller lets all of them pass.
        let enough = place.routes >= peak && sched.is_unlimited() && path < most;
        if !(strand.is_fresh() && !strand.holds() && strand.run.patch == *patch && alone && calm && enough) {
            return Ok(None);
        }
        let (qubits, routes) = (place.qubits, place.routes);
        let strand = self.objects.strand_mut(id)?;
        let issued = strand.image.image.code.len() as u32;
        if !strand.issue_whole_program(&mut self.device, &free_schedule)? {
            return Ok(Some(0));
        }
        // The accounts are made up for all epochs together.
        self.epoch = self.epoch.plus(path);
        self.make_pairs(path);
        for (_, place) in self.regions.iter_mut() {
            place.pass(path);
        }
        // The strand's own region was not run in the epoch of its start either.
        self.regions.get_mut(region)?.pass(1);
        let sched = self.contexts.get_mut(context)?;
        sched.charge(Resource::Patches, sched.held.qubits() as u64 * (path + 1), qubits);
        sched.charge(Resource::Routes, free_schedule.route_epochs, routes);
        sched.charge_epochs(free_schedule.cycles as u64);
        Ok(Some(issued))
    }

    /// Runs one epoch of a region. Returns the number of instructions issued.
    fn run_region(&mut self, id: RegionId) -> Checked<u32> {
        let region = self.regions.get_mut(id)?;
        let mut budget = region.begin_epoch(self.epoch)?;
        // Taken out, so that the strands can be walked while the rest of the kernel is borrowed.
        let running = core::mem::take(&mut region.running);
        let mut views = core::mem::take(&mut self.strand_views);
        views.clear();
        let mut held = Vec::new();
        let planned = self.begin_strands(&running, &mut views, &mut held)?;
        self.issue_best_effort(id, &running, &views, &mut budget)?;
        self.strand_views = views;
        for r in &running {
            let strand = self.objects.strand_mut(r.id)?;
            if strand.issues() {
                strand.end_epoch()?;
            }
        }
        let issued = planned + budget.issued;
        let region = self.regions.get_mut(id)?;
        region.running = running;
        region.end_epoch(budget)?;
        // A paused strand that is held at a fence no longer counts as coming free, so others may overtake strands that
        // wait for it.
        region.recheck_waiting |= !held.is_empty();
        for strand in held {
            self.at_fence(strand)?;
        }
        Ok(issued)
    }

    /// Completes the instructions that are due, issues those of plans, and notes how each strand stands. Strands held
    /// at a fence are added to `held`. Returns the number of instructions issued.
    fn begin_strands(
        &mut self,
        running: &[Running],
        views: &mut Vec<StrandView>,
        held: &mut Vec<StrandId>,
    ) -> Checked<u32> {
        let now = self.epoch;
        let mut planned = 0;
        for r in running {
            let mut view = StrandView { ready_since: None, remaining_path: 0 };
            let strand = self.objects.strand_mut(r.id)?;
            if strand.issues() {
                strand.begin_epoch(now);
                if strand.is_ready() {
                    view = StrandView { ready_since: Some(strand.last_issue), remaining_path: strand.remaining_path() };
                }
                if strand.plan.is_some() {
                    let before = strand.magic();
                    planned += strand.follow_plan(&mut self.device, now)?;
                    self.domains.get_mut(strand.owner)?.charge_magic(strand.magic() - before);
                } else if strand.state == StrandState::Held {
                    held.push(r.id);
                }
            }
            views.push(view);
        }
        Ok(planned)
    }

    /// Takes the checkpoints and makes the migration that waited for a strand to be at a fence.
    fn at_fence(&mut self, id: StrandId) -> Checked {
        self.take_checkpoints(id)?;
        self.try_migrate(id)?;
        self.objects.strand_mut(id)?.update_hold();
        Ok(())
    }

    /// Lets strands without deadlines issue. Turns go to the context of the least issue time, until no strand can issue
    /// any more.
    fn issue_best_effort(
        &mut self,
        region: RegionId,
        running: &[Running],
        views: &[StrandView],
        budget: &mut EpochBudget,
    ) -> Checked {
        let place = self.regions.get(region)?;
        let whole = Whole { patches: place.qubits, routes: place.routes, magic: place.magic_rate };
        let mut turns = core::mem::take(&mut self.turn_heap);
        self.collect_turns(running, views, whole, budget, &mut turns)?;
        // A context that is alone competes with no one, and issues to the end in one turn.
        let alone = turns.len() == 1;
        let longest = views.iter().map(|s| s.remaining_path).fold(0, u32::max);
        for Reverse(turn) in &mut turns {
            turn.time = turn.time.saturating_add(self.lag(running, turn, longest)?);
        }
        let mut turns = BinaryHeap::from(turns);
        while let Some(Reverse(mut turn)) = turns.pop() {
            let Some(at) = turn.oldest.take().or((turn.next < turn.end).then_some(turn.next)) else { continue };
            let id = running.get(at).ok_or_else(|| broken("a turn is that of no strand"))?.id;
            // A turn is one instruction that takes routes or magic states, so contexts take them in order of their
            // virtual times.
            let stop = self.issue_turn(id, alone, whole, budget)?;
            // The neglected strand keeps its place in the range, and has its ordinary turn as well.
            if stop == Stop::NothingIssuable && at == turn.next {
                turn.next = first_ready(views, at + 1..turn.end);
            }
            if turn.next < turn.end {
                turn.time = self.contexts.get(turn.context)?.times().issue;
                if !alone {
                    turn.time = turn.time.saturating_add(self.lag(running, &turn, longest)?);
                }
                turns.push(Reverse(turn));
            }
        }
        self.turn_heap = turns.into_vec();
        self.limit_credits(running)
    }

    /// Charges the contexts for the patches that they hold in this epoch, and collects a turn for each that may issue.
    fn collect_turns(
        &mut self,
        running: &[Running],
        views: &[StrandView],
        whole: Whole,
        budget: &EpochBudget,
        turns: &mut Vec<Reverse<Turn>>,
    ) -> Checked {
        let mut first = 0;
        for group in running.chunk_by(|a, b| a.context == b.context) {
            let end = first + group.len();
            let Some(&Running { context, .. }) = group.first() else { continue };
            let oldest = neglected(views, first..end, budget.now);
            let next = first_ready(views, first..end);
            let sched = self.contexts.get_mut(context)?;
            sched.charge(Resource::Patches, sched.held.qubits() as u64, whole.patches);
            if sched.may_issue(budget.now) {
                turns.push(Reverse(Turn { time: sched.times().issue, context, oldest, first, next, end }));
            }
            first = end;
        }
        Ok(())
    }

    /// One turn of a strand. The routes and magic states that it took are charged to its domain and its context
    /// afterwards, by the difference in the budget.
    #[inline]
    fn issue_turn(&mut self, id: StrandId, alone: bool, whole: Whole, budget: &mut EpochBudget) -> Checked<Stop> {
        let strand: &mut Strand = self.objects.strand_mut(id)?;
        let domain: &mut Domain = self.domains.get_mut(strand.owner)?;
        let sched = self.contexts.get_mut(strand.context)?;
        let (mut magic, spent, routed) = (domain.magic_left(budget.now), budget.magic_spent, budget.route_epochs);
        // Its context's quota counts an epoch of a strand when it first issues in it.
        let (first, issued) = (strand.last_charged_epoch != budget.now, strand.issued());
        let stop = if first && !sched.may_issue(budget.now) {
            Stop::NothingIssuable
        } else {
            strand.issue(&mut self.device, budget, if alone { u32::MAX } else { 1 }, &mut magic)?
        };
        if first && strand.issued() > issued {
            strand.last_charged_epoch = budget.now;
            sched.charge_epochs(1);
        }
        let (spent, routed) = ((budget.magic_spent - spent) as u64, budget.route_epochs - routed);
        domain.charge_magic(spent);
        sched.charge(Resource::Magic, spent, whole.magic);
        sched.charge(Resource::Routes, routed, whole.routes);
        Ok(stop)
    }

    /// Lets no busy context lag behind the foremost by more than its credit.
    fn limit_credits(&mut self, running: &[Running]) -> Checked {
        let groups =
            || running.chunk_by(|a, b| a.context == b.context).filter_map(|group| Some(group.first()?.context));
        let mut foremost = VirtualTimes::default();
        for context in groups() {
            foremost = foremost.max(SchedContext::times(self.contexts.get(context)?));
        }
        for context in groups() {
            self.contexts.get_mut(context)?.limit_credit(foremost);
        }
        Ok(())
    }

    /// How far the strand whose turn it is stands behind its context. Only the context's first strand may run ahead by
    /// its remaining path: the turns of the others fill up what it leaves.
    fn lag(&self, running: &[Running], turn: &Turn, longest: u32) -> Checked<u64> {
        let remaining = match running.get(turn.next) {
            Some(r) if turn.next == turn.first => self.objects.strand(r.id)?.remaining_path(),
            _ => 0,
        };
        Ok(behind(remaining, longest).issue)
    }
}

/// The amount of each resource that a region has in an epoch, by which its price is set.
#[derive(Clone, Copy, Debug)]
struct Whole {
    patches: u32,
    routes: u32,
    magic: u32,
}

//! One epoch of the machine.
//!
//! Nothing starves. Let R be the longest time that a strand holds patches, and n the number of contexts.
//!
//! A strand that waits for patches, with `a` strands of its context that arrived before it, starts within
//! `(a + 1) (PATIENCE + n R)` epochs, if its domain's quota lets it: when it is the oldest, it is the first of its context after
//! at most [`PATIENCE`](crate::limits::PATIENCE) epochs; a context that starts none for so long is overtaken no more, and each of those that have waited
//! for longer makes it wait for at most R.
//!
//! A strand that is ready is the first of its context after [`AGE`](crate::limits::AGE) epochs without an issue. The first of a context goes before
//! those of another as soon as that has taken [`CREDIT`](crate::sched::fair_queue::CREDIT) and [`LEAD`](crate::sched::fair_queue::LEAD) epochs of the
//! whole region more, for its weight, of whatever is short. What is refused to the first is saved up for it. So it issues within
//! `AGE + (CREDIT + LEAD) W + m / r` epochs for each of its context that is as old, where W is the sum of the weights, and m the
//! magic states that it needs at once of the r that come in an epoch.

use crate::image::profile::ImageProfile;
use crate::limits::STEP;
use crate::object::Object;
use crate::sched::fair_queue::{Resource, SchedContext, VirtualTimes, behind};
use crate::sched::region::{EpochBudget, Running};
use crate::sched::turn::{StrandView, Turn, neglected, skip_unready};
use crate::state::{EpochReport, Kernel};
use crate::strand::state::Stop;
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_abi::syscall::StrandState;
use qmk_hal::Device;

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
        self.empty_dead_spaces(&mut step);
        self.pass_pairs(1);
        let mut report = EpochReport::default();
        for region in self.regions.ids() {
            let started = self.start_waiting(region);
            if let [id] = *started
                && let Some(issued) = self.issue_whole_program(id, most)
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
    fn issue_whole_program(&mut self, id: u32, most: u64) -> Option<u32> {
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
        let (place, sched) = (self.regions.get(region)?, self.contexts.get(context)?);
        let alone = self.regions.iter().all(|(_, r)| r.waiting.is_empty() && r.running.iter().all(|r| r.id == id));
        let calm = self.dying.is_empty() && self.regions.iter().all(|(_, r)| r.is_calm());
        let enough = place.routes >= peak && sched.is_unlimited() && path < most;
        if !(strand.is_fresh() && !strand.holds() && strand.run.patch == *patch && alone && calm && enough) {
            return None;
        }
        let (free_schedule, qubits, routes) = (*free_schedule, place.qubits, place.routes);
        let strand = self.objects.strand_mut(id)?;
        let issued = strand.image.image.code.len() as u32;
        if !strand.issue_whole_program(&mut self.device, &free_schedule) {
            return Some(0);
        }
        self.epoch += path;
        self.pass_pairs(path);
        for (_, place) in self.regions.iter_mut() {
            place.pass(path);
        }
        self.regions.get_mut(region)?.pass(1);
        let sched = self.contexts.get_mut(context)?;
        sched.charge(Resource::Patches, sched.qubits as u64 * (path + 1), qubits);
        sched.charge(Resource::Routes, free_schedule.route_epochs, routes);
        sched.charge_epochs(free_schedule.cycles as u64);
        Some(issued)
    }

    /// Issues what can be issued in a region; returns the number of instructions.
    fn run_region(&mut self, id: u32) -> u32 {
        let now = self.epoch;
        let Some(region) = self.regions.get_mut(id) else { return 0 };
        let mut budget = region.begin_epoch(now);
        let running = core::mem::take(&mut region.running);
        let mut planned = 0;
        let mut held = Vec::new();
        let mut views = core::mem::take(&mut self.strand_views);
        views.clear();
        for r in &running {
            views.push(StrandView { ready_since: None, remaining_path: 0 });
            let Some(strand) = self.objects.strand_mut(r.id) else { continue };
            if !strand.issues() {
                continue;
            }
            strand.begin_epoch(now);
            if let (true, Some(views)) = (strand.is_ready(), views.last_mut()) {
                *views = StrandView { ready_since: Some(strand.last_issue), remaining_path: strand.remaining_path() };
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
        self.issue_best_effort(id, &running, &views, &mut budget);
        self.strand_views = views;
        for r in &running {
            if let Some(strand) = self.objects.strand_mut(r.id)
                && strand.issues()
            {
                strand.end_epoch();
            }
        }
        let issued = planned + budget.issued;
        if let Some(region) = self.regions.get_mut(id) {
            region.running = running;
            region.end_epoch(budget);
            // What is held no longer holds up others.
            region.recheck_waiting |= !held.is_empty();
        }
        for strand in held {
            self.at_fence(strand);
        }
        issued
    }

    /// What waits for a strand to be at a fence.
    fn at_fence(&mut self, id: u32) {
        self.take_checkpoints(id);
        self.try_migrate(id);
        if let Some(strand) = self.strand_mut(id) {
            strand.update_hold();
        }
    }

    /// Lets strands without deadlines issue: the context of the least issue time first.
    fn issue_best_effort(&mut self, region: u32, running: &[Running], views: &[StrandView], budget: &mut EpochBudget) {
        let Some(place) = self.regions.get(region) else { return };
        let (qubits, routes, rate) = (place.qubits, place.routes, place.magic_rate);
        let mut turns = core::mem::take(&mut self.turn_heap);
        let mut from = 0;
        for group in running.chunk_by(|a, b| a.context == b.context) {
            let range = from..from + group.len();
            from = range.end;
            let Some(context) = group.first().map(|r| r.context) else { continue };
            let oldest = neglected(views, range.clone(), budget.now);
            let first = range.start;
            let range = skip_unready(views, range);
            let Some(sched) = self.contexts.get_mut(context) else { continue };
            sched.charge(Resource::Patches, sched.qubits as u64, qubits);
            if sched.may_issue(budget.now) {
                turns.push(Reverse(Turn { time: sched.times().issue, context, oldest, first, range }));
            }
        }
        let alone = turns.len() == 1;
        let longest = views.iter().map(|s| s.remaining_path).fold(0, u32::max);
        for Reverse(turn) in &mut turns {
            turn.time = turn.time.saturating_add(self.behind(running, turn, longest));
        }
        let mut turns = BinaryHeap::from(turns);
        while let Some(Reverse(mut turn)) = turns.pop() {
            let at = turn.oldest.take().or_else(|| (!turn.range.is_empty()).then_some(turn.range.start));
            let Some(id) = at.and_then(|at| running.get(at)).map(|r| r.id) else { continue };
            let Some(strand) = self.objects.strand_mut(id) else { continue };
            let Some(Some(domain)) = self.domains.get_mut(strand.owner as usize) else { continue };
            let Some(sched) = self.contexts.get_mut(turn.context) else { continue };
            let (mut magic, spent, taken) = (domain.magic_left(budget.now), budget.magic_spent, budget.route_epochs);
            let (first, issued) = (strand.last_charged_epoch != budget.now, strand.issued());
            let stop = if first && !sched.may_issue(budget.now) {
                Stop::NothingIssuable
            } else {
                strand.issue(&mut self.device, budget, if alone { u32::MAX } else { 1 }, &mut magic)
            };
            if first && strand.issued() > issued {
                strand.last_charged_epoch = budget.now;
                sched.charge_epochs(1);
            }
            let (spent, taken) = ((budget.magic_spent - spent) as u64, budget.route_epochs - taken);
            domain.charge_magic(spent);
            if stop == Stop::NothingIssuable && at == Some(turn.range.start) {
                turn.range = skip_unready(views, turn.range.start + 1..turn.range.end);
            }
            sched.charge(Resource::Magic, spent, rate);
            sched.charge(Resource::Routes, taken, routes);
            turn.time = sched.times().issue;
            if !turn.range.is_empty() && alone {
                turns.push(Reverse(turn));
            } else if !turn.range.is_empty() {
                turn.time = turn.time.saturating_add(self.behind(running, &turn, longest));
                turns.push(Reverse(turn));
            }
        }
        self.turn_heap = turns.into_vec();
        let groups = || running.chunk_by(|a, b| a.context == b.context);
        let contexts = groups().filter_map(|group| self.contexts.get(group.first()?.context));
        let latest = contexts.map(SchedContext::times).fold(VirtualTimes::default(), VirtualTimes::max);
        for group in groups() {
            if let Some(sched) = group.first().and_then(|r| self.contexts.get_mut(r.context)) {
                sched.limit_credit(latest);
            }
        }
    }

    /// Cycles that a strand still has to go.
    fn remaining_path(&self, id: u32) -> u32 {
        match self.object(id) {
            Object::Strand(strand) => strand.remaining_path(),
            _ => 0,
        }
    }

    /// How far the strand whose turn it is stands behind its context: what others than the first take is filling up.
    fn behind(&self, running: &[Running], turn: &Turn, longest: u32) -> u64 {
        match running.get(turn.range.start) {
            Some(r) if turn.range.start == turn.first => behind(self.remaining_path(r.id), longest).issue,
            _ => behind(0, longest).issue,
        }
    }
}

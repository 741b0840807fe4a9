//! How a strand issues instructions.

use crate::image::profile::FreeSchedule;
use crate::image::uncompute::is_reversible;
use crate::limits::MAX_REVERSIBLE;
use crate::sched::frontier::Class;
use crate::sched::region::EpochBudget;
use crate::strand::state::{Stop, Strand};
use qmk_abi::Op;
use qmk_abi::syscall::StrandState;
use qmk_hal::{Cost, Device};

impl Strand {
    /// Issues all at once, if nothing ever has to wait for anything but what it depends on, and passes the epochs in which
    /// that is over.
    pub(crate) fn issue_whole_program<D: Device>(&mut self, device: &mut D, free_schedule: &FreeSchedule) -> bool {
        let Some(space) = self.space else { return false };
        let count = self.image.image.code.len() as u32;
        if let Err(e) = device.issue_range(space, 0..count) {
            self.fail(e);
            return false;
        }
        self.issued = count;
        self.epochs = self.path as u64;
        self.last_issue = self.started + free_schedule.last as u64;
        self.last_charged_epoch = self.last_issue;
        self.state = StrandState::Draining;
        true
    }

    /// Ends the operations that are due in this epoch.
    pub(crate) fn begin_epoch(&mut self, now: u64) {
        if self.epoch_debt > 0 {
            self.epoch_debt -= 1;
        } else if let Some(frontier) = &mut self.frontier {
            self.in_flight.land(frontier, &self.flow);
            if frontier.held_at(&self.flow).is_some() {
                self.state = StrandState::Held;
            }
        }
        self.epochs = now - self.started;
    }

    /// After the last issue of an epoch: whether all is issued and complete.
    pub(crate) fn end_epoch(&mut self) {
        let done = match (&self.plan, &self.frontier) {
            (Some(plan), _) => plan.is_done(self.epochs),
            (None, Some(frontier)) => frontier.is_done(&self.flow) && (self.epoch_debt, self.magic_debt) == (0, 0),
            (None, None) => true,
        };
        if done {
            self.state = StrandState::Draining;
            // What told the order of issue takes memory that a strand no longer needs.
            (self.frontier, self.in_flight, self.reversible) = Default::default();
        } else {
            if self.frontier.as_ref().is_some_and(|f| f.held_at(&self.flow).is_some()) {
                self.state = StrandState::Held;
            }
            self.epochs += 1;
        }
    }

    /// Issues what the plan says for this epoch.
    pub(crate) fn follow_plan<D: Device>(&mut self, device: &mut D, now: u64) -> u32 {
        let (Some(space), Some(plan)) = (self.space, &mut self.plan) else { return 0 };
        let before = self.issued;
        while let Some(index) = plan.due(self.epochs) {
            let Some(instr) = self.image.image.code.get(index as usize) else { break };
            self.magic += device.cost(&instr.op, self.run.patch).magic as u64;
            if let Err(e) = device.issue(space, index) {
                self.fail(e);
                break;
            }
            self.issued += 1;
            self.last_issue = now;
        }
        self.issued - before
    }

    /// Issues ready instructions. A ranked strand stops after `turn` instructions that need more than time.
    pub(crate) fn issue<D: Device>(
        &mut self,
        device: &mut D,
        budget: &mut EpochBudget,
        turn: u32,
        owner_magic: &mut u64,
    ) -> Stop {
        if !self.is_ready() {
            return Stop::NothingIssuable;
        }
        if self.magic_debt > 0 {
            let paid = budget.take_magic(self.magic_debt.min(*owner_magic));
            self.magic_debt -= paid;
            *owner_magic -= paid;
            if self.magic_debt > 0 {
                return Stop::NothingIssuable;
            }
        }
        let before = self.issued;
        let stop = if self.is_ranked() {
            self.issue_ranked(device, budget, turn, owner_magic)
        } else {
            self.issue_all(device, budget, owner_magic)
        };
        if self.issued > before {
            self.last_issue = budget.now;
        }
        stop
    }

    fn issue_all<D: Device>(&mut self, device: &mut D, budget: &mut EpochBudget, owner_magic: &mut u64) -> Stop {
        let (mut at, mut kept) = (0, 0);
        while let Some(frontier) = &mut self.frontier {
            let Some(&index) = frontier.fifo.get(at) else {
                frontier.fifo.truncate(kept);
                break;
            };
            at += 1;
            let Some(instr) = self.image.image.code.get(index as usize) else { continue };
            let cost = device.cost(&instr.op, self.run.patch);
            if budget.is_over() {
                frontier.fifo.drain(kept..at - 1);
                break;
            }
            if cost.magic as u64 > *owner_magic || !budget.take(cost) {
                if let Some(place) = frontier.fifo.get_mut(kept) {
                    *place = index;
                }
                kept += 1;
                continue;
            }
            *owner_magic -= cost.magic as u64;
            if !self.issue_one(device, index, cost, budget) {
                break;
            }
        }
        Stop::NothingIssuable
    }

    fn issue_ranked<D: Device>(
        &mut self,
        device: &mut D,
        budget: &mut EpochBudget,
        turn: u32,
        owner_magic: &mut u64,
    ) -> Stop {
        let mut left = turn;
        // A class whose first instruction was refused is not asked for again in this turn.
        let (mut magic_refused, mut routed_refused) = (false, false);
        loop {
            while let Some((_, index)) = self.frontier.as_ref().and_then(|f| f.first(Class::Plain)) {
                let Some(instr) = self.image.image.code.get(index as usize) else { return Stop::NothingIssuable };
                let cost = device.cost(&instr.op, self.run.patch);
                if cost.magic as u64 > *owner_magic || !budget.take(cost) {
                    break;
                }
                if let Some(frontier) = &mut self.frontier {
                    frontier.take(Class::Plain);
                }
                *owner_magic -= cost.magic as u64;
                if !self.issue_one(device, index, cost, budget) {
                    return Stop::NothingIssuable;
                }
            }
            if left == 0 {
                return Stop::TurnOver;
            }
            let Some(frontier) = &self.frontier else { return Stop::NothingIssuable };
            let magic =
                frontier.first(Class::Magic).filter(|_| !magic_refused && budget.magic_open && *owner_magic > 0);
            let routed = frontier.first(Class::Routed).filter(|_| !routed_refused && budget.routes_open);
            let class = if magic.map(|m| m.0) >= routed.map(|r| r.0) { Class::Magic } else { Class::Routed };
            let Some((_, index)) = (if class == Class::Magic { magic } else { routed }) else {
                return Stop::NothingIssuable;
            };
            let Some(instr) = self.image.image.code.get(index as usize) else { return Stop::NothingIssuable };
            let cost = device.cost(&instr.op, self.run.patch);
            if cost.magic as u64 > *owner_magic {
                // The owner's window is used up, which is no one else's matter.
                *owner_magic = 0;
                continue;
            }
            if !budget.take(cost) {
                *(if class == Class::Magic { &mut magic_refused } else { &mut routed_refused }) = true;
                continue;
            }
            if let Some(frontier) = &mut self.frontier {
                frontier.take(class);
            }
            *owner_magic -= cost.magic as u64;
            left -= 1;
            if !self.issue_one(device, index, cost, budget) {
                return Stop::NothingIssuable;
            }
        }
    }

    /// Hands an instruction to the device; false if it refuses.
    #[inline]
    fn issue_one<D: Device>(&mut self, device: &mut D, index: u32, cost: Cost, budget: &mut EpochBudget) -> bool {
        let (Some(space), Some(frontier)) = (self.space, &mut self.frontier) else { return false };
        if let Err(e) = device.issue(space, index) {
            self.fail(e);
            return false;
        }
        self.issued += 1;
        budget.issued += 1;
        self.magic += cost.magic as u64;
        let op = self.image.image.code.get(index as usize).map_or(Op::Fence, |i| i.op);
        if is_reversible(&op) {
            if self.reversible.is_empty() {
                self.reversible_since = budget.now;
            }
            if self.reversible.len() == MAX_REVERSIBLE {
                self.reversible.drain(..MAX_REVERSIBLE / 2);
                self.reversible_since = budget.now;
            }
            self.reversible.push(index);
        } else {
            self.reversible.clear();
        }
        let cycles = budget.cycles(cost, || op.writes().next().is_some());
        self.in_flight.launch(frontier, &self.flow, index, cycles);
        true
    }

    /// Lets the device finish shots; returns the steps that it took.
    pub(crate) fn drain<D: Device>(&mut self, device: &mut D, work: u64) -> u64 {
        let Some(space) = self.space else { return 0 };
        if self.image.image.code.is_empty() {
            // To a device, a space without a program is an interactive one.
            self.shots_done = self.run.shots;
            self.state = StrandState::Done;
            return 0;
        }
        match device.work(space, work) {
            Ok(status) => {
                self.shots_done = status.shots_done;
                self.peak_active = status.peak_active;
                self.prepared = self.prepared.max(status.prepared);
                if status.shots_done >= self.run.shots {
                    self.state = StrandState::Done;
                }
                status.steps
            }
            Err(e) => {
                self.fail(e);
                0
            }
        }
    }
}

//! How a strand issues instructions. There are four ways, each for the case in which the others cost too much or do too
//! little:
//!
//! * [`Strand::issue_whole_program`]: all at once, where the strand has the machine to itself and nothing is ever
//!   short. No frontier is built, and the epochs in between are not run.
//! * [`Strand::follow_plan`]: by the schedule of its deadline, whose resources are reserved, so that nothing is asked
//!   for.
//! * `issue_all`: ready instructions in the order in which they became ready, where routes and magic states suffice for
//!   any order.
//! * `issue_ranked`: the instruction with the longest remaining path first, where they are short.
//!
//! The last two end in `issue_one`, the one place that takes an instruction off the accounts and starts its way to
//! completion.

use crate::errors::{Checked, broken};
use crate::image::profile::FreeSchedule;
use crate::image::uncompute::is_reversible;
use crate::limits::MAX_REVERSIBLE;
use crate::sched::frontier::Class;
use crate::sched::region::EpochBudget;
use crate::strand::state::{Stop, Strand};
use crate::time::Epoch;
use qmk_abi::Op;
use qmk_abi::syscall::StrandState;
use qmk_hal::{Cost, Device, Inline, SpaceId};

const NO_INSTRUCTION: &str = "an instruction is ready that the image has not";
const NO_FRONTIER: &str = "a strand issues one by one without a frontier";

impl Strand {
    /// Issues all instructions at once, and passes the epochs in which they are over. Returns false if the device
    /// refuses, which is the strand's fault.
    pub(crate) fn issue_whole_program<D: Device>(
        &mut self,
        device: &mut D,
        free_schedule: &FreeSchedule,
    ) -> Checked<bool> {
        let count = self.image.image.code.len() as u32;
        // To a device, a space without a program is an interactive one, which takes no issue.
        if count > 0
            && let Err(e) = device.issue_range(self.open_space()?, 0..count)
        {
            self.fail(e);
            return Ok(false);
        }
        self.issued = count;
        self.epochs = self.path as u64;
        self.last_issue = self.started.plus(free_schedule.last as u64);
        self.last_charged_epoch = self.last_issue;
        self.state = StrandState::Draining;
        Ok(true)
    }

    /// Completes the instructions that are due in this epoch, unless the strand still pays for a rollback.
    pub(crate) fn begin_epoch(&mut self, now: Epoch) {
        if self.epoch_debt > 0 {
            self.epoch_debt -= 1;
        } else if let Some(frontier) = &mut self.frontier {
            self.in_flight.land(frontier, &self.flow);
            if frontier.held_at(&self.flow).is_some() {
                self.state = StrandState::Held;
            }
        }
        self.epochs = now.since(self.started);
    }

    /// After the last issue of an epoch. A strand that has issued and completed everything drains from here on.
    pub(crate) fn end_epoch(&mut self) -> Checked {
        let done = match (&self.plan, &self.frontier) {
            (Some(plan), _) => plan.is_done(self.epochs),
            (None, Some(frontier)) => frontier.is_done(&self.flow) && (self.epoch_debt, self.magic_debt) == (0, 0),
            (None, None) => {
                return Err(broken("a strand runs without a plan and without a frontier"));
            }
        };
        if done {
            self.state = StrandState::Draining;
            // The frontier has an entry for each instruction, and the shots may take long.
            (self.frontier, self.in_flight, self.reversible) = Default::default();
        } else {
            if self.frontier.as_ref().is_some_and(|f| f.held_at(&self.flow).is_some()) {
                self.state = StrandState::Held;
            }
            self.epochs += 1;
        }
        Ok(())
    }

    /// Issues the instructions that the plan has for this epoch. Returns their number.
    pub(crate) fn follow_plan<D: Device>(&mut self, device: &mut D, now: Epoch) -> Checked<u32> {
        let space = self.open_space()?;
        let before = self.issued;
        while let Some(index) = self.plan.as_mut().and_then(|plan| plan.due(self.epochs)) {
            let instr = self.image.image.code.get(index as usize).ok_or_else(|| broken(NO_INSTRUCTION))?;
            self.magic += device.cost(&instr.op, self.run.patch).magic as u64;
            if let Err(e) = device.issue(space, index) {
                self.fail(e);
                break;
            }
            self.issued += 1;
            self.last_issue = now;
        }
        Ok(self.issued - before)
    }

    /// Issues ready instructions. A ranked strand stops after `turn` instructions that take routes or magic states.
    /// `owner_magic` is the rest of its domain's quota, and is lowered.
    pub(crate) fn issue<D: Device>(
        &mut self,
        device: &mut D,
        budget: &mut EpochBudget,
        turn: u32,
        owner_magic: &mut u64,
    ) -> Checked<Stop> {
        if !self.is_ready() {
            return Ok(Stop::NothingIssuable);
        }
        // The magic states of a rollback are paid before anything is issued, in parts if the stock is short.
        if self.magic_debt > 0 {
            let paid = budget.take_magic(self.magic_debt.min(*owner_magic));
            self.magic_debt -= paid;
            *owner_magic -= paid;
            if self.magic_debt > 0 {
                return Ok(Stop::NothingIssuable);
            }
        }
        let before = self.issued;
        let stop = if self.is_ranked() {
            self.issue_ranked(device, budget, turn, owner_magic)?
        } else {
            self.issue_all(device, budget, owner_magic)?;
            Stop::NothingIssuable
        };
        if self.issued > before {
            self.last_issue = budget.now;
        }
        Ok(stop)
    }

    /// Issues ready instructions in the order in which they became ready. Those refused stay in the queue, in their
    /// order.
    fn issue_all<D: Device>(&mut self, device: &mut D, budget: &mut EpochBudget, owner_magic: &mut u64) -> Checked {
        // The queue up to `kept` was refused, and from `at` on it is still to be asked for. Completions append to it.
        let (mut at, mut kept) = (0, 0);
        // A refusal of the device is a fault, which drops the frontier.
        while let Some(frontier) = &mut self.frontier {
            let Some(&index) = frontier.fifo.get(at) else {
                frontier.fifo.truncate(kept);
                break;
            };
            at += 1;
            let instr = self.image.image.code.get(index as usize).ok_or_else(|| broken(NO_INSTRUCTION))?;
            let cost = device.cost(&instr.op, self.run.patch);
            // The region has issued its most for this epoch. The rest of the queue, refused or not asked for, stays.
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
            if !self.issue_one(device, index, cost, budget)? {
                break;
            }
        }
        Ok(())
    }

    /// Issues by rank: all plain instructions, which cost nothing but time, then one that takes routes or magic states,
    /// and so on.
    fn issue_ranked<D: Device>(
        &mut self,
        device: &mut D,
        budget: &mut EpochBudget,
        turn: u32,
        owner_magic: &mut u64,
    ) -> Checked<Stop> {
        let mut left = turn;
        // A class whose first instruction was refused is not asked for again in this turn.
        let (mut magic_refused, mut routed_refused) = (false, false);
        loop {
            if !self.issue_plain(device, budget, owner_magic)? {
                return Ok(Stop::NothingIssuable);
            }
            if left == 0 {
                return Ok(Stop::TurnOver);
            }
            let frontier = self.frontier.as_ref().ok_or_else(|| broken(NO_FRONTIER))?;
            let magic =
                frontier.first(Class::Magic).filter(|_| !magic_refused && budget.magic_open && *owner_magic > 0);
            let routed = frontier.first(Class::Routed).filter(|_| !routed_refused && budget.routes_open);
            let class = if magic.map(|m| m.0) >= routed.map(|r| r.0) { Class::Magic } else { Class::Routed };
            let Some((_, index)) = (if class == Class::Magic { magic } else { routed }) else {
                return Ok(Stop::NothingIssuable);
            };
            let instr = self.image.image.code.get(index as usize).ok_or_else(|| broken(NO_INSTRUCTION))?;
            let cost = device.cost(&instr.op, self.run.patch);
            if cost.magic as u64 > *owner_magic {
                // The owner's quota is short and not the region, so the stock is not kept from others.
                *owner_magic = 0;
                continue;
            }
            if !budget.take(cost) {
                *(if class == Class::Magic { &mut magic_refused } else { &mut routed_refused }) = true;
                continue;
            }
            self.frontier.as_mut().ok_or_else(|| broken(NO_FRONTIER))?.take(class);
            *owner_magic -= cost.magic as u64;
            left -= 1;
            if !self.issue_one(device, index, cost, budget)? {
                return Ok(Stop::NothingIssuable);
            }
        }
    }

    /// Issues plain instructions by rank, as far as the epoch's bound allows. Returns false if the device refuses one.
    #[inline]
    fn issue_plain<D: Device>(
        &mut self,
        device: &mut D,
        budget: &mut EpochBudget,
        owner_magic: &mut u64,
    ) -> Checked<bool> {
        while let Some((_, index)) = self.frontier.as_ref().and_then(|f| f.first(Class::Plain)) {
            let instr = self.image.image.code.get(index as usize).ok_or_else(|| broken(NO_INSTRUCTION))?;
            let cost = device.cost(&instr.op, self.run.patch);
            if cost.magic as u64 > *owner_magic || !budget.take(cost) {
                break;
            }
            self.frontier.as_mut().ok_or_else(|| broken(NO_FRONTIER))?.take(Class::Plain);
            *owner_magic -= cost.magic as u64;
            if !self.issue_one(device, index, cost, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hands an instruction to the device, whose resources are taken already. Returns false if the device refuses,
    /// which is a fault.
    #[inline]
    fn issue_one<D: Device>(
        &mut self,
        device: &mut D,
        index: u32,
        cost: Cost,
        budget: &mut EpochBudget,
    ) -> Checked<bool> {
        let (Some(space), Some(frontier)) = (self.space, &mut self.frontier) else { return Err(broken(NO_FRONTIER)) };
        // A refusal is a fault of the strand. What it took for this instruction is lost for the rest of the epoch.
        if let Err(e) = device.issue(space, index) {
            self.fail(e);
            return Ok(false);
        }
        self.issued += 1;
        budget.issued += 1;
        self.magic += cost.magic as u64;
        // A rollback undoes unitary instructions back to the last irreversible one, so only those since then are
        // remembered.
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
        Ok(true)
    }

    /// Lets the device finish shots with about `work` steps. Returns the steps that it took.
    pub(crate) fn drain<D: Device>(&mut self, device: &mut D, work: u64) -> Checked<u64> {
        let space = self.open_space()?;
        if self.image.image.code.is_empty() {
            // A device takes a space without a program for an interactive one, and does no work on it.
            self.shots_done = self.run.shots;
            self.state = StrandState::Done;
            return Ok(0);
        }
        match device.work(space, work) {
            Ok(status) => {
                self.shots_done = status.shots_done;
                self.peak_active = status.peak_active;
                self.prepared = self.prepared.max(status.prepared);
                if status.shots_done >= self.run.shots {
                    self.state = StrandState::Done;
                }
                Ok(status.steps)
            }
            Err(e) => {
                self.fail(e);
                Ok(0)
            }
        }
    }

    /// The device's space of a strand that has started and not failed to.
    fn open_space(&self) -> Checked<SpaceId> {
        self.space.ok_or_else(|| broken("a strand runs without a space of the device"))
    }
}

//! A running image.

use crate::image::admit::Admitted;
use crate::image::dataflow::Flow;
use crate::image::profile::FreeSchedule;
use crate::image::uncompute::is_reversible;
use crate::sched::deadline::Plan;
use crate::sched::frontier::{Class, Frontier, InFlight};
use crate::sched::region::{Open, Promise, Running};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_abi::Op;
use qmk_abi::syscall::{Run, StrandState, StrandStatus};
use qmk_hal::{Cost, Device, DeviceError, SpaceId};

/// Instructions that can be taken back.
const MAX_REVERSIBLE: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Strand {
    pub(crate) owner: u32,
    /// Objects that it keeps alive: the machine capability's budget, and the image.
    pub(crate) machine: u32,
    pub(crate) image_object: u32,
    pub(crate) image: Arc<Admitted>,
    pub(crate) run: Run,
    pub(crate) context: u32,
    pub(crate) region: u32,
    /// Region to go to at the next fence.
    pub(crate) migrate_to: Option<u32>,
    pub(crate) paused: bool,
    /// Checkpoints to take at the next fence.
    pub(crate) checkpoints: Vec<u32>,
    /// Order of arrival.
    pub(crate) arrival: u64,
    /// Epoch of arrival.
    pub(crate) arrived: u64,
    /// Cycles of its longest path.
    pub(crate) path: u32,
    /// Physical qubits that it holds while it runs.
    pub(crate) physical: u64,
    /// Decoding of one of its patches in an epoch, in thousandths.
    decoding: u32,
    pub(crate) state: StrandState,
    pub(crate) space: Option<SpaceId>,
    pub(crate) plan: Option<Plan>,
    started: u64,
    /// Epoch in which it last issued something.
    pub(crate) last_issue: u64,
    /// Epoch that was last charged to its context.
    pub(crate) charged_in: u64,
    /// Epochs and magic states that it still owes for what it took back.
    debt: u64,
    magic_debt: u64,
    epochs: u64,
    issued: u32,
    /// Magic states taken, and how many of them to undo.
    magic: u64,
    undone_magic: u64,
    shots_done: u64,
    peak_active: u32,
    prepared: u32,
    fault: Option<(u32, String)>,
    /// From when it begins to issue one by one.
    flow: Arc<Flow>,
    frontier: Option<Frontier>,
    in_flight: InFlight,
    /// Unitary instructions issued since the last irreversible one, and when the first of them was.
    reversible: Vec<u32>,
    reversible_since: u64,
}

/// What a strand stops issuing for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It has had its turn.
    Turn,
    /// Nothing of what is ready can be issued in this epoch.
    Dry,
}

/// Where a strand can be taken up again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) segment: usize,
    issued: u32,
    magic: u64,
    undone_magic: u64,
    epochs: u64,
}

/// What a strand holds of the machine.
pub(crate) struct Held {
    pub(crate) owner: u32,
    pub(crate) region: u32,
    pub(crate) context: u32,
    pub(crate) qubits: u32,
    pub(crate) physical: u64,
    pub(crate) promises: Vec<Promise>,
    /// Checkpoints that were to be taken at its next fence.
    pub(crate) checkpoints: Vec<u32>,
}

/// What a new strand is made of.
pub(crate) struct Origin {
    pub(crate) owner: u32,
    pub(crate) machine: u32,
    pub(crate) image_object: u32,
    pub(crate) image: Arc<Admitted>,
    pub(crate) context: u32,
    pub(crate) region: u32,
    pub(crate) arrival: u64,
    pub(crate) path: u32,
    pub(crate) physical: u64,
    pub(crate) decoding: u32,
}

impl Strand {
    pub(crate) fn new(origin: Origin, run: Run, now: u64) -> Self {
        let Origin { owner, machine, image_object, image, context, region, arrival, path, physical, decoding } = origin;
        Strand {
            owner,
            machine,
            image_object,
            image,
            run,
            context,
            region,
            migrate_to: None,
            paused: false,
            checkpoints: Vec::new(),
            arrival,
            arrived: now,
            path,
            physical,
            decoding,
            state: StrandState::Waiting,
            space: None,
            plan: None,
            started: 0,
            last_issue: 0,
            charged_in: 0,
            debt: 0,
            magic_debt: 0,
            epochs: 0,
            issued: 0,
            magic: 0,
            undone_magic: 0,
            shots_done: 0,
            peak_active: 0,
            prepared: 0,
            fault: None,
            flow: Arc::default(),
            frontier: None,
            in_flight: InFlight::default(),
            reversible: Vec::new(),
            reversible_since: 0,
        }
    }

    /// Its place among those that run.
    pub(crate) fn running(&self, id: u32) -> Running {
        Running {
            context: self.context,
            priority: Reverse(self.run.priority),
            path: Reverse(self.path),
            arrival: self.arrival,
            id,
            load: self.load(),
        }
    }

    /// What its patches give the decoders in an epoch.
    pub(crate) fn load(&self) -> u64 {
        self.image.peak_qubits as u64 * self.decoding as u64
    }

    pub(crate) fn start(&mut self, space: SpaceId, now: u64) {
        self.state = StrandState::Running;
        self.space = Some(space);
        self.started = now;
        self.last_issue = now;
    }

    /// Whether it has started and has no schedule yet, neither a plan nor a frontier.
    pub(crate) fn is_fresh(&self) -> bool {
        self.state == StrandState::Running && self.plan.is_none() && self.frontier.is_none()
    }

    /// Begins to issue one by one; with `heights`, by rank.
    pub(crate) fn begin(&mut self, flow: Arc<Flow>, heights: Option<Arc<Vec<u32>>>) {
        self.frontier = Some(Frontier::new(&flow, heights, 0, self.holds()));
        self.flow = flow;
        self.update_hold();
    }

    /// Issues all at once, if nothing ever has to wait for anything but what it depends on, and passes the epochs in which
    /// that is over.
    pub(crate) fn issue_through<D: Device>(&mut self, device: &mut D, free_schedule: &FreeSchedule) -> bool {
        let Some(space) = self.space else { return false };
        let count = self.image.image.code.len() as u32;
        if let Err(e) = device.issue_range(space, 0..count) {
            self.fail(e);
            return false;
        }
        self.issued = count;
        self.epochs = self.path as u64;
        self.last_issue = self.started + free_schedule.last as u64;
        self.charged_in = self.last_issue;
        self.state = StrandState::Draining;
        true
    }

    /// The device has no space for it.
    pub(crate) fn fail_to_start(&mut self, error: DeviceError, now: u64) {
        self.started = now;
        self.fail(error);
    }

    /// Whether it holds qubits of the machine.
    pub(crate) fn holds_qubits(&self) -> bool {
        matches!(self.state, StrandState::Running | StrandState::Held | StrandState::Draining)
    }

    /// Whether it is between its start and the issue of its last instruction.
    pub(crate) fn issues(&self) -> bool {
        matches!(self.state, StrandState::Running | StrandState::Held)
    }

    /// Cycles that it still has to go, as far as is known.
    pub(crate) fn to_go(&self) -> u32 {
        self.frontier.as_ref().map_or(0, |f| f.height().unwrap_or(self.path))
    }

    pub(crate) fn is_ranked(&self) -> bool {
        self.frontier.as_ref().is_some_and(Frontier::is_ranked)
    }

    /// Whether it could issue something, were there the resources.
    pub(crate) fn is_ready(&self) -> bool {
        self.state == StrandState::Running && self.debt == 0 && self.frontier.as_ref().is_some_and(Frontier::is_ready)
    }

    /// Whether something wants it to stop at the next fence.
    pub(crate) fn holds(&self) -> bool {
        self.paused || self.migrate_to.is_some() || !self.checkpoints.is_empty()
    }

    /// Stops at the next fence as long as something wants it to.
    pub(crate) fn update_hold(&mut self) {
        let hold = self.holds();
        let issues = self.issues();
        if let Some(frontier) = &mut self.frontier {
            frontier.set_hold(&self.flow, hold);
            if issues {
                self.state = match frontier.held_at(&self.flow) {
                    Some(_) => StrandState::Held,
                    None => StrandState::Running,
                };
            }
        }
    }

    /// The fence it is held at, with nothing under way.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let segment = self.frontier.as_ref()?.held_at(&self.flow)?;
        let &Strand { issued, magic, undone_magic, epochs, .. } = self;
        Some(Mark { segment, issued, magic, undone_magic, epochs })
    }

    /// Magic states of what it has done since `mark`, all shots together.
    pub(crate) fn magic_since(&self, mark: &Mark) -> u64 {
        let net = |magic: u64, undone: u64| magic.saturating_sub(2 * undone);
        let since = net(self.magic, self.undone_magic).saturating_sub(net(mark.magic, mark.undone_magic));
        since.saturating_mul(self.run.shots)
    }

    /// Takes up what it did at `mark`.
    pub(crate) fn go_back(&mut self, mark: Mark, now: u64, heights: Option<Arc<Vec<u32>>>) {
        self.frontier = Some(Frontier::new(&self.flow, heights, mark.segment, self.holds()));
        self.in_flight = InFlight::default();
        self.reversible.clear();
        (self.debt, self.magic_debt) = (0, 0);
        self.shots_done = 0;
        (self.issued, self.epochs) = (mark.issued, mark.epochs);
        (self.magic, self.undone_magic) = (mark.magic, mark.undone_magic);
        self.started = now.saturating_sub(mark.epochs);
        self.last_issue = now;
        self.state = StrandState::Running;
        self.fault = None;
        self.update_hold();
    }

    /// Ends the operations that are due in this epoch.
    pub(crate) fn begin_epoch(&mut self, now: u64) {
        if self.debt > 0 {
            self.debt -= 1;
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
            (None, Some(frontier)) => frontier.is_done(&self.flow) && (self.debt, self.magic_debt) == (0, 0),
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
        open: &mut Open,
        turn: u32,
        owner_magic: &mut u64,
    ) -> Stop {
        if !self.is_ready() {
            return Stop::Dry;
        }
        if self.magic_debt > 0 {
            let paid = open.take_magic(self.magic_debt.min(*owner_magic));
            self.magic_debt -= paid;
            *owner_magic -= paid;
            if self.magic_debt > 0 {
                return Stop::Dry;
            }
        }
        let before = self.issued;
        let stop = if self.is_ranked() {
            self.issue_ranked(device, open, turn, owner_magic)
        } else {
            self.issue_all(device, open, owner_magic)
        };
        if self.issued > before {
            self.last_issue = open.now;
        }
        stop
    }

    fn issue_all<D: Device>(&mut self, device: &mut D, open: &mut Open, owner_magic: &mut u64) -> Stop {
        let (mut at, mut kept) = (0, 0);
        while let Some(frontier) = &mut self.frontier {
            let Some(&index) = frontier.fifo.get(at) else {
                frontier.fifo.truncate(kept);
                break;
            };
            at += 1;
            let Some(instr) = self.image.image.code.get(index as usize) else { continue };
            let cost = device.cost(&instr.op, self.run.patch);
            if open.is_over() {
                frontier.fifo.drain(kept..at - 1);
                break;
            }
            if cost.magic as u64 > *owner_magic || !open.take(cost) {
                if let Some(place) = frontier.fifo.get_mut(kept) {
                    *place = index;
                }
                kept += 1;
                continue;
            }
            *owner_magic -= cost.magic as u64;
            if !self.put(device, index, cost, open) {
                break;
            }
        }
        Stop::Dry
    }

    fn issue_ranked<D: Device>(&mut self, device: &mut D, open: &mut Open, turn: u32, owner_magic: &mut u64) -> Stop {
        let mut left = turn;
        // A class whose first instruction was refused is not asked for again in this turn.
        let (mut magic_refused, mut routed_refused) = (false, false);
        loop {
            while let Some((_, index)) = self.frontier.as_ref().and_then(|f| f.first(Class::Plain)) {
                let Some(instr) = self.image.image.code.get(index as usize) else { return Stop::Dry };
                let cost = device.cost(&instr.op, self.run.patch);
                if cost.magic as u64 > *owner_magic || !open.take(cost) {
                    break;
                }
                if let Some(frontier) = &mut self.frontier {
                    frontier.take(Class::Plain);
                }
                *owner_magic -= cost.magic as u64;
                if !self.put(device, index, cost, open) {
                    return Stop::Dry;
                }
            }
            if left == 0 {
                return Stop::Turn;
            }
            let Some(frontier) = &self.frontier else { return Stop::Dry };
            let magic = frontier.first(Class::Magic).filter(|_| !magic_refused && open.magic_open && *owner_magic > 0);
            let routed = frontier.first(Class::Routed).filter(|_| !routed_refused && open.routes_open);
            let class = if magic.map(|m| m.0) >= routed.map(|r| r.0) { Class::Magic } else { Class::Routed };
            let Some((_, index)) = (if class == Class::Magic { magic } else { routed }) else { return Stop::Dry };
            let Some(instr) = self.image.image.code.get(index as usize) else { return Stop::Dry };
            let cost = device.cost(&instr.op, self.run.patch);
            if cost.magic as u64 > *owner_magic {
                // The owner's window is used up, which is no one else's matter.
                *owner_magic = 0;
                continue;
            }
            if !open.take(cost) {
                *(if class == Class::Magic { &mut magic_refused } else { &mut routed_refused }) = true;
                continue;
            }
            if let Some(frontier) = &mut self.frontier {
                frontier.take(class);
            }
            *owner_magic -= cost.magic as u64;
            left -= 1;
            if !self.put(device, index, cost, open) {
                return Stop::Dry;
            }
        }
    }

    /// Hands an instruction to the device; false if it refuses.
    #[inline]
    fn put<D: Device>(&mut self, device: &mut D, index: u32, cost: Cost, open: &mut Open) -> bool {
        let (Some(space), Some(frontier)) = (self.space, &mut self.frontier) else { return false };
        if let Err(e) = device.issue(space, index) {
            self.fail(e);
            return false;
        }
        self.issued += 1;
        open.issued += 1;
        self.magic += cost.magic as u64;
        let op = self.image.image.code.get(index as usize).map_or(Op::Fence, |i| i.op);
        if is_reversible(&op) {
            if self.reversible.is_empty() {
                self.reversible_since = open.now;
            }
            if self.reversible.len() == MAX_REVERSIBLE {
                self.reversible.drain(..MAX_REVERSIBLE / 2);
                self.reversible_since = open.now;
            }
            self.reversible.push(index);
        } else {
            self.reversible.clear();
        }
        let cycles = open.cycles(cost, || op.writes().next().is_some());
        self.in_flight.launch(frontier, &self.flow, index, cycles);
        true
    }

    /// Operations that a rollback takes back.
    pub(crate) fn reversible(&self) -> impl Iterator<Item = Op> {
        self.reversible.iter().filter_map(|&index| Some(self.image.image.code.get(index as usize)?.op))
    }

    /// Takes back what is unitary, back to the last irreversible instruction. It takes the epochs and the magic states that
    /// it took to do it; returns the number of instructions.
    pub(crate) fn rollback<D: Device>(&mut self, device: &mut D, now: u64) -> Result<u32, DeviceError> {
        let costs = self.reversible().map(|op| device.cost(&op, self.run.patch));
        let (longest, magic) = costs.fold((0, 0), |(l, m), c| (c.cycles.max(l), m + c.magic as u64));
        let (Some(space), Some(frontier)) = (self.space, &mut self.frontier) else { return Ok(0) };
        let mut undone = self.reversible.clone();
        undone.reverse();
        for (done, &index) in undone.iter().enumerate() {
            if let Err(e) = device.undo(space, index) {
                // What was taken back is issued again, so that the call changes nothing.
                for &index in undone.iter().take(done).rev() {
                    let _ = device.issue(space, index);
                }
                return Err(e);
            }
        }
        self.reversible.clear();
        let mut flying: Vec<u32> = self.in_flight.iter().collect();
        flying.sort_unstable();
        let mut taken = undone.clone();
        taken.sort_unstable();
        self.in_flight.retain(|index| taken.binary_search(&index).is_err());
        frontier.take_back(&self.flow, &undone, &flying);
        if !undone.is_empty() {
            // To wait at a fence is nothing to undo.
            let end = now.min(self.last_issue + longest.saturating_sub(1) as u64);
            self.debt += end - self.reversible_since + 1;
        }
        self.issued -= undone.len() as u32;
        self.magic += magic;
        self.undone_magic += magic;
        self.magic_debt += magic;
        self.update_hold();
        Ok(undone.len() as u32)
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

    pub(crate) fn fail(&mut self, error: DeviceError) {
        self.fault(error.instruction().unwrap_or(0), error.to_string());
    }

    pub(crate) fn fault(&mut self, at: u32, why: String) {
        self.state = StrandState::Faulted;
        self.fault = Some((at, why));
        (self.frontier, self.in_flight, self.reversible) = Default::default();
    }

    pub(crate) fn status(&self, now: u64) -> StrandStatus {
        let until = if self.state == StrandState::Waiting { now } else { self.started };
        StrandStatus {
            state: self.state,
            epochs: self.epochs,
            waited: until.saturating_sub(self.arrived),
            issued: self.issued,
            instructions: self.image.image.code.len() as u32,
            shots_done: self.shots_done,
            shots: self.run.shots,
            magic_states: self.magic,
            prepared: self.prepared,
            peak_active: self.peak_active,
            dirty_frees: self.image.dirty_frees,
            fault: self.fault.clone(),
        }
    }

    pub(crate) fn issued(&self) -> u32 {
        self.issued
    }

    /// Magic states consumed.
    pub(crate) fn magic(&self) -> u64 {
        self.magic
    }

    pub(crate) fn shots_done(&self) -> u64 {
        self.shots_done
    }

    /// What is to be given back when it ends after epoch `now`.
    pub(crate) fn held(&mut self, now: u64) -> Held {
        let epochs = (now + 1).saturating_sub(self.started);
        Held {
            owner: self.owner,
            region: self.region,
            context: self.context,
            qubits: self.image.peak_qubits,
            physical: self.physical,
            promises: self.plan.take().map_or(Vec::new(), |p| p.rest(epochs).to_vec()),
            checkpoints: core::mem::take(&mut self.checkpoints),
        }
    }
}

//! A running image: a dataflow frontier over its instructions.

use crate::admit::Admitted;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use qmk_abi::syscall::{StrandState, StrandStatus};
use qmk_hal::{Device, DeviceError, SpaceId};

/// What one epoch can spend, shared by all strands.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) magic: u32,
    pub(crate) routes: u32,
}

#[derive(Debug)]
pub(crate) struct Strand {
    pub(crate) owner: u32,
    pub(crate) image: Arc<Admitted>,
    pub(crate) shots: u64,
    pub(crate) seed: u64,
    pub(crate) priority: i32,
    pub(crate) state: StrandState,
    pub(crate) space: Option<SpaceId>,
    started: u64,
    epochs: u64,
    issued: u32,
    magic: u64,
    shots_done: u64,
    peak_active: u32,
    fault: Option<(u32, String)>,
    frontier: Frontier,
    /// Completions of the epochs to come, the next one first. Costs are a few dozen cycles at most.
    in_flight: VecDeque<Vec<u32>>,
}

/// Which instructions of a program may be issued.
#[derive(Debug, Default)]
struct Frontier {
    /// How many completions each instruction still waits for.
    waiting_for: Vec<u32>,
    ready: Vec<u32>,
    /// Ready but behind a fence, by segment.
    parked: BTreeMap<usize, Vec<u32>>,
    segment: usize,
    segment_end: u32,
    completed: u32,
}

impl Frontier {
    fn new(image: &Admitted) -> Self {
        let mut frontier = Frontier { waiting_for: image.predecessors.clone(), ..Frontier::default() };
        frontier.segment_end = image.segment_end(0).unwrap_or(0);
        for (i, &n) in image.predecessors.iter().enumerate() {
            if n == 0 {
                frontier.make_ready(image, i as u32);
            }
        }
        frontier.pass_fences(image);
        frontier
    }

    fn make_ready(&mut self, image: &Admitted, index: u32) {
        // Nothing before the current segment is left.
        if index < self.segment_end {
            self.ready.push(index);
        } else {
            self.parked.entry(image.segment(index)).or_default().push(index);
        }
    }

    fn pass_fences(&mut self, image: &Admitted) {
        while self.completed == self.segment_end {
            let Some(end) = image.segment_end(self.segment + 1) else { return };
            self.segment += 1;
            self.segment_end = end;
            self.ready.extend(self.parked.remove(&self.segment).into_iter().flatten());
        }
    }

    fn complete(&mut self, image: &Admitted, index: u32) {
        image.for_each_successor(index, |next| {
            let left = &mut self.waiting_for[next as usize];
            *left -= 1;
            if *left == 0 {
                self.make_ready(image, next);
            }
        });
        self.completed += 1;
        self.pass_fences(image);
    }
}

impl Strand {
    pub(crate) fn new(owner: u32, image: Arc<Admitted>, shots: u64, seed: u64, priority: i32) -> Self {
        Strand {
            owner,
            image,
            shots,
            seed,
            priority,
            state: StrandState::Waiting,
            space: None,
            started: 0,
            epochs: 0,
            issued: 0,
            magic: 0,
            shots_done: 0,
            peak_active: 0,
            fault: None,
            frontier: Frontier::default(),
            in_flight: VecDeque::new(),
        }
    }

    pub(crate) fn start(&mut self, space: SpaceId, epoch: u64) {
        self.state = StrandState::Running;
        self.space = Some(space);
        self.started = epoch;
        self.frontier = Frontier::new(&self.image);
    }

    /// Issues what is ready in this epoch under the budget; returns the number of instructions issued.
    pub(crate) fn run_epoch<D: Device>(&mut self, device: &mut D, now: u64, budget: &mut Budget) -> u32 {
        let Some(space) = self.space else { return 0 };
        let (image, frontier) = (&*self.image, &mut self.frontier);
        if let Some(mut due) = self.in_flight.pop_front() {
            due.drain(..).for_each(|index| frontier.complete(image, index));
            self.in_flight.push_back(due);
        }
        let before = self.issued;
        let (mut at, mut deferred) = (0, 0);
        while let Some(&index) = frontier.ready.get(at) {
            at += 1;
            let cost = device.cost(&image.image.code[index as usize].op);
            if cost.magic > budget.magic || cost.routes > budget.routes {
                frontier.ready[deferred] = index;
                deferred += 1;
                continue;
            }
            budget.magic -= cost.magic;
            budget.routes -= cost.routes;
            if let Err(e) = device.issue(space, index) {
                return self.fail(e, before);
            }
            self.issued += 1;
            self.magic += cost.magic as u64;
            let cycles = cost.cycles as usize;
            if cycles == 0 {
                frontier.complete(image, index);
            } else {
                if self.in_flight.len() < cycles {
                    self.in_flight.resize_with(cycles, Vec::new);
                }
                self.in_flight[cycles - 1].push(index);
            }
        }
        frontier.ready.truncate(deferred);
        self.epochs = now - self.started;
        if frontier.completed as usize == image.image.code.len() {
            self.state = StrandState::Draining;
            // What told the order of issue takes memory that a strand no longer needs.
            (self.frontier, self.in_flight) = Default::default();
        } else {
            self.epochs += 1;
        }
        self.issued - before
    }

    /// Lets the device finish shots.
    pub(crate) fn drain<D: Device>(&mut self, device: &mut D, work: u64) {
        let Some(space) = self.space else { return };
        if self.image.image.code.is_empty() {
            // To a device, a space without a program is an interactive one.
            self.shots_done = self.shots;
            self.state = StrandState::Done;
            return;
        }
        match device.work(space, work) {
            Ok(status) => {
                self.shots_done = status.shots_done;
                self.peak_active = status.peak_active;
                if status.shots_done >= self.shots {
                    self.state = StrandState::Done;
                }
            }
            Err(e) => {
                self.fail(e, 0);
            }
        }
    }

    pub(crate) fn fail(&mut self, error: DeviceError, issued_before: u32) -> u32 {
        self.state = StrandState::Faulted;
        self.fault = Some((error.instruction().unwrap_or(0), error.to_string()));
        self.issued.saturating_sub(issued_before)
    }

    pub(crate) fn status(&self) -> StrandStatus {
        StrandStatus {
            state: self.state,
            epochs: self.epochs,
            issued: self.issued,
            instructions: self.image.image.code.len() as u32,
            shots_done: self.shots_done,
            shots: self.shots,
            magic_states: self.magic,
            peak_active: self.peak_active,
            fault: self.fault.clone(),
        }
    }

    pub(crate) fn shots_done(&self) -> u64 {
        self.shots_done
    }
}

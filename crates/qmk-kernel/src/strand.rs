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
    waiting_for: Vec<u32>,
    ready: VecDeque<u32>,
    /// Ready but behind a fence, by segment.
    parked: BTreeMap<u32, Vec<u32>>,
    current_segment: u32,
    left_in_segment: u32,
    /// Completions by epoch.
    in_flight: BTreeMap<u64, Vec<u32>>,
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
            waiting_for: Vec::new(),
            ready: VecDeque::new(),
            parked: BTreeMap::new(),
            current_segment: 0,
            left_in_segment: 0,
            in_flight: BTreeMap::new(),
        }
    }

    pub(crate) fn start(&mut self, space: SpaceId, epoch: u64) {
        self.state = StrandState::Running;
        self.space = Some(space);
        self.started = epoch;
        self.waiting_for = self.image.predecessors.clone();
        self.left_in_segment = self.image.segment_sizes[0];
        let image = self.image.clone();
        for (i, &n) in image.predecessors.iter().enumerate() {
            if n == 0 {
                self.make_ready(i as u32);
            }
        }
        self.skip_finished_segments();
    }

    fn make_ready(&mut self, index: u32) {
        match self.image.segment[index as usize] {
            s if s == self.current_segment => self.ready.push_back(index),
            s => self.parked.entry(s).or_default().push(index),
        }
    }

    fn skip_finished_segments(&mut self) {
        while self.left_in_segment == 0 && (self.current_segment as usize) + 1 < self.image.segment_sizes.len() {
            self.current_segment += 1;
            self.left_in_segment = self.image.segment_sizes[self.current_segment as usize];
            self.ready.extend(self.parked.remove(&self.current_segment).into_iter().flatten());
        }
    }

    fn complete(&mut self, index: u32) {
        let image = self.image.clone();
        let range = image.offsets[index as usize] as usize..image.offsets[index as usize + 1] as usize;
        for &next in &image.successors[range] {
            self.waiting_for[next as usize] -= 1;
            if self.waiting_for[next as usize] == 0 {
                self.make_ready(next);
            }
        }
        self.left_in_segment -= 1;
        self.skip_finished_segments();
    }

    /// Issues what is ready in this epoch under the budget; returns the number of instructions issued.
    pub(crate) fn run_epoch<D: Device>(&mut self, device: &mut D, now: u64, budget: &mut Budget) -> u32 {
        let Some(space) = self.space else { return 0 };
        while let Some(entry) = self.in_flight.first_entry() {
            if *entry.key() > now {
                break;
            }
            for index in entry.remove() {
                self.complete(index);
            }
        }
        let before = self.issued;
        let mut deferred = VecDeque::new();
        while let Some(index) = self.ready.pop_front() {
            let cost = device.cost(&self.image.image.code[index as usize].op);
            if cost.magic > budget.magic || cost.routes > budget.routes {
                deferred.push_back(index);
                continue;
            }
            budget.magic -= cost.magic;
            budget.routes -= cost.routes;
            if let Err(e) = device.issue(space, index) {
                return self.fail(e, before);
            }
            self.issued += 1;
            self.magic += cost.magic as u64;
            if cost.cycles == 0 {
                self.complete(index);
            } else {
                self.in_flight.entry(now + cost.cycles as u64).or_default().push(index);
            }
        }
        self.ready = deferred;
        self.epochs = now - self.started;
        if self.ready.is_empty() && self.in_flight.is_empty() {
            self.state = StrandState::Draining;
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

//! A running image.

use crate::image::admit::Admitted;
use crate::image::dataflow::Flow;
use crate::sched::deadline::Plan;
use crate::sched::frontier::{Frontier, InFlight};
use crate::sched::region::{Reservation, Running};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_abi::syscall::{Run, StrandState, StrandStatus};
use qmk_hal::{DeviceError, SpaceId};

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
    pub(crate) arrival_epoch: u64,
    /// Cycles of its longest path.
    pub(crate) path: u32,
    /// Physical qubits that it holds while it runs.
    pub(crate) physical: u64,
    /// Decoding of one of its patches in an epoch, in thousandths.
    pub(super) decoding: u32,
    pub(crate) state: StrandState,
    pub(crate) space: Option<SpaceId>,
    pub(crate) plan: Option<Plan>,
    pub(super) started: u64,
    /// Epoch in which it last issued something.
    pub(crate) last_issue: u64,
    /// Epoch that was last charged to its context.
    pub(crate) last_charged_epoch: u64,
    /// Epochs and magic states that it still owes for what it took back.
    pub(super) epoch_debt: u64,
    pub(super) magic_debt: u64,
    pub(super) epochs: u64,
    pub(super) issued: u32,
    /// Magic states taken, and how many of them to undo.
    pub(super) magic: u64,
    pub(super) undone_magic: u64,
    pub(super) shots_done: u64,
    pub(super) peak_active: u32,
    pub(super) prepared: u32,
    pub(super) fault: Option<(u32, String)>,
    /// From when it begins to issue one by one.
    pub(super) flow: Arc<Flow>,
    pub(super) frontier: Option<Frontier>,
    pub(super) in_flight: InFlight,
    /// Unitary instructions issued since the last irreversible one, and when the first of them was.
    pub(super) reversible: Vec<u32>,
    pub(super) reversible_since: u64,
}

/// What a strand stops issuing for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It has had its turn.
    TurnOver,
    /// Nothing of what is ready can be issued in this epoch.
    NothingIssuable,
}

/// Where a strand can be taken up again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResumePoint {
    pub(crate) segment: usize,
    pub(super) issued: u32,
    pub(super) magic: u64,
    pub(super) undone_magic: u64,
    pub(super) epochs: u64,
}

/// What a strand holds of the machine.
pub(crate) struct Holdings {
    pub(crate) owner: u32,
    pub(crate) region: u32,
    pub(crate) context: u32,
    pub(crate) qubits: u32,
    pub(crate) physical: u64,
    pub(crate) reservations: Vec<Reservation>,
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
            arrival_epoch: now,
            path,
            physical,
            decoding,
            state: StrandState::Waiting,
            space: None,
            plan: None,
            started: 0,
            last_issue: 0,
            last_charged_epoch: 0,
            epoch_debt: 0,
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
    pub(crate) fn remaining_path(&self) -> u32 {
        self.frontier.as_ref().map_or(0, |f| f.height().unwrap_or(self.path))
    }

    pub(crate) fn is_ranked(&self) -> bool {
        self.frontier.as_ref().is_some_and(Frontier::is_ranked)
    }

    /// Whether it could issue something, were there the resources.
    pub(crate) fn is_ready(&self) -> bool {
        self.state == StrandState::Running
            && self.epoch_debt == 0
            && self.frontier.as_ref().is_some_and(Frontier::is_ready)
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
            waited: until.saturating_sub(self.arrival_epoch),
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
    pub(crate) fn holdings(&mut self, now: u64) -> Holdings {
        let epochs = (now + 1).saturating_sub(self.started);
        Holdings {
            owner: self.owner,
            region: self.region,
            context: self.context,
            qubits: self.image.peak_qubits,
            physical: self.physical,
            reservations: self.plan.take().map_or(Vec::new(), |p| p.rest(epochs).to_vec()),
            checkpoints: core::mem::take(&mut self.checkpoints),
        }
    }
}

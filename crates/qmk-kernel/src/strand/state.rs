//! A strand: one run of an image, from its spawn to the last of its shots.
//!
//! It waits for qubits, then runs, is held at fences when something wants it to stop there, drains while the device
//! finishes its shots, and is done or has faulted. `issue.rs` and `rollback.rs` have what it does while it runs.

use crate::holding::Holding;
use crate::ids::{ContextId, DomainId, ObjectId, RegionId, StrandId};
use crate::image::admit::Admitted;
use crate::image::dataflow::Flow;
use crate::sched::deadline::Plan;
use crate::sched::frontier::{Frontier, InFlight};
use crate::sched::region::{Reservation, Running};
use crate::time::Epoch;
use alloc::string::{String, ToString};
use alloc::{sync::Arc, vec::Vec};
use core::cmp::Reverse;
use qmk_abi::syscall::{Run, StrandState, StrandStatus};
use qmk_hal::{DeviceError, SpaceId};

/// A run of an image.
///
/// It is in its region's `waiting` while its state is `Waiting`, in `running` while it holds qubits, and in neither
/// after that. It has a plan, or a frontier, or has issued everything.
#[derive(Debug)]
pub(crate) struct Strand {
    /// The domain that spawned it, whose quota it counts against.
    pub(crate) owner: DomainId,
    /// Machine object whose budget it counts against. The strand keeps it alive, and its image.
    pub(crate) machine: ObjectId,
    pub(crate) image_object: ObjectId,
    pub(crate) image: Arc<Admitted>,
    pub(crate) run: Run,
    /// Always exists: when it is taken back, the strand goes on under its owner's own.
    pub(crate) context: ContextId,
    /// Exists until the strand has faulted. It faults when its region is taken back.
    pub(crate) region: RegionId,
    /// Region to go to at the next fence.
    pub(crate) migrate_to: Option<RegionId>,
    /// A call wants it to stop at the next fence.
    pub(crate) paused: bool,
    /// Checkpoints to take at the next fence.
    pub(crate) checkpoints: Vec<ObjectId>,
    /// Order of arrival, by which a strand is known for ever. Numbers of objects are used again.
    pub(crate) arrival: u64,
    pub(crate) arrival_epoch: Epoch,
    /// Cycles of its longest path.
    pub(crate) path: u32,
    /// Qubits that it holds while it is among its region's running strands.
    qubits: Holding,
    /// Decoder load of one of its patches in an epoch, in thousandths of a patch.
    decoding: u32,
    pub(crate) state: StrandState,
    /// The device's space, from its start on, unless the device had none.
    pub(crate) space: Option<SpaceId>,
    /// The schedule of a strand with a deadline. Such a strand has no frontier.
    pub(crate) plan: Option<Plan>,
    pub(super) started: Epoch,
    /// Epoch in which it last issued an instruction.
    pub(crate) last_issue: Epoch,
    /// Epoch that was last charged to its context, which counts each epoch once.
    pub(crate) last_charged_epoch: Epoch,
    /// Epochs, and magic states, that it owes for a rollback. It issues nothing until they are paid.
    pub(super) epoch_debt: u64,
    pub(super) magic_debt: u64,
    /// Epochs since its start, those before a restored checkpoint included.
    pub(super) epochs: u64,
    /// Instructions issued, net of those taken back.
    pub(super) issued: u32,
    /// Magic states taken, and how many of them undid others.
    pub(super) magic: u64,
    pub(super) undone_magic: u64,
    /// Figures of the device: shots finished, most qubits with live magic, and shots whose errors are sampled.
    pub(super) shots_done: u64,
    pub(super) peak_active: u32,
    pub(super) prepared: u32,
    /// Instruction and reason.
    pub(super) fault: Option<(u32, String)>,
    /// Dataflow of the image, from when it begins to issue one by one.
    pub(super) flow: Arc<Flow>,
    pub(super) frontier: Option<Frontier>,
    pub(super) in_flight: InFlight,
    /// Unitary instructions issued since the last irreversible one, at most
    /// [`MAX_REVERSIBLE`](crate::limits::MAX_REVERSIBLE), and the epoch of the first.
    pub(super) reversible: Vec<u32>,
    pub(super) reversible_since: Epoch,
}

/// Why a strand stopped issuing for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It has had its turn, and may issue more in the next.
    TurnOver,
    /// None of its ready instructions can be issued in this epoch.
    NothingIssuable,
}

/// A fence to resume a strand at, with its accounts there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResumePoint {
    /// Fence segment that is issued next.
    pub(crate) segment: usize,
    pub(super) issued: u32,
    pub(super) magic: u64,
    pub(super) undone_magic: u64,
    pub(super) epochs: u64,
}

/// The holdings that a strand gives back when it ends, moved out of it so that they are given back once.
pub(crate) struct Holdings {
    pub(crate) owner: DomainId,
    pub(crate) region: RegionId,
    pub(crate) context: ContextId,
    pub(crate) qubits: Holding,
    pub(crate) reservations: Vec<Reservation>,
    /// Checkpoints that were to be taken at its next fence.
    pub(crate) checkpoints: Vec<ObjectId>,
}

/// The parts of a new strand.
pub(crate) struct Origin {
    pub(crate) owner: DomainId,
    pub(crate) machine: ObjectId,
    pub(crate) image_object: ObjectId,
    pub(crate) image: Arc<Admitted>,
    pub(crate) context: ContextId,
    pub(crate) region: RegionId,
    pub(crate) arrival: u64,
    pub(crate) path: u32,
    pub(crate) qubits: Holding,
    pub(crate) decoding: u32,
}

impl Strand {
    pub(crate) fn new(origin: Origin, run: Run, now: Epoch) -> Self {
        let Origin { owner, machine, image_object, image, context, region, arrival, path, qubits, decoding } = origin;
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
            qubits,
            decoding,
            state: StrandState::Waiting,
            space: None,
            plan: None,
            started: Epoch::BOOT,
            last_issue: Epoch::BOOT,
            last_charged_epoch: Epoch::BOOT,
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
            reversible_since: Epoch::BOOT,
        }
    }

    /// Its entry among its region's running strands.
    pub(crate) fn running(&self, id: StrandId) -> Running {
        Running {
            context: self.context,
            priority: Reverse(self.run.priority),
            path: Reverse(self.path),
            arrival: self.arrival,
            id,
            load: self.load(),
        }
    }

    /// Qubits that it holds while it runs.
    pub(crate) const fn holding(&self) -> Holding {
        self.qubits
    }

    /// Reservations by epoch, the next one first: the part of its plan that the epochs after `now` are reserved for.
    pub(crate) fn planned(&self, now: Epoch) -> &[Reservation] {
        self.plan.as_ref().map_or(&[], |p| p.rest(now.plus(1).since(self.started)))
    }

    /// Decoder load of its patches in an epoch, in thousandths of a patch.
    pub(crate) fn load(&self) -> u64 {
        self.image.peak_qubits as u64 * self.decoding as u64
    }

    pub(crate) fn start(&mut self, space: SpaceId, now: Epoch) {
        self.state = StrandState::Running;
        self.space = Some(space);
        self.started = now;
        self.last_issue = now;
    }

    /// Whether it has started and has no schedule yet, neither a plan nor a frontier.
    pub(crate) fn is_fresh(&self) -> bool {
        self.state == StrandState::Running && self.plan.is_none() && self.frontier.is_none()
    }

    /// Begins to issue one instruction at a time. With `heights`, the ones with the longest remaining path go first.
    pub(crate) fn begin(&mut self, flow: Arc<Flow>, heights: Option<Arc<Vec<u32>>>) {
        self.frontier = Some(Frontier::new(&flow, heights, 0, self.holds()));
        self.flow = flow;
        self.update_hold();
    }

    /// The device has no space for it. It holds its qubits until the epoch is over, as any strand that faults.
    pub(crate) fn fail_to_start(&mut self, error: DeviceError, now: Epoch) {
        self.started = now;
        self.fail(error);
    }

    /// Whether it runs on qubits of the machine. One that ended within the epoch holds them until the epoch is over.
    pub(crate) fn holds_qubits(&self) -> bool {
        matches!(self.state, StrandState::Running | StrandState::Held | StrandState::Draining)
    }

    /// Whether it is between its start and the issue of its last instruction.
    pub(crate) fn issues(&self) -> bool {
        matches!(self.state, StrandState::Running | StrandState::Held)
    }

    /// Cycles of its longest remaining path, or of its longest path if only that is known.
    pub(crate) fn remaining_path(&self) -> u32 {
        self.frontier.as_ref().map_or(0, |f| f.height().unwrap_or(self.path))
    }

    pub(crate) fn is_ranked(&self) -> bool {
        self.frontier.as_ref().is_some_and(Frontier::is_ranked)
    }

    /// Whether it could issue an instruction, were there the resources.
    pub(crate) fn is_ready(&self) -> bool {
        self.state == StrandState::Running
            && self.epoch_debt == 0
            && self.frontier.as_ref().is_some_and(Frontier::is_ready)
    }

    /// Whether a pause, a migration or a checkpoint wants it to stop at the next fence.
    pub(crate) fn holds(&self) -> bool {
        self.paused || self.migrate_to.is_some() || !self.checkpoints.is_empty()
    }

    /// Stops at the next fence, or goes on, after a pause, migration or checkpoint was added or removed.
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

    pub(crate) fn status(&self, now: Epoch) -> StrandStatus {
        let until = if self.state == StrandState::Waiting { now } else { self.started };
        StrandStatus {
            state: self.state,
            epochs: self.epochs,
            waited: until.since(self.arrival_epoch),
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

    /// Takes out the holdings that it gives back when it ends after epoch `now`.
    pub(crate) fn take_holdings(&mut self, now: Epoch) -> Holdings {
        let reservations = self.planned(now).to_vec();
        self.plan = None;
        Holdings {
            owner: self.owner,
            region: self.region,
            context: self.context,
            qubits: self.qubits,
            reservations,
            checkpoints: core::mem::take(&mut self.checkpoints),
        }
    }
}

//! What the machine hands out: each kind of work holds the run or the states that it changes.

use super::program::ProgramRun;
use super::shared_state::{Draw, SharedState};
use super::space::{Memory, Saved};
use qmk_abi::image::Op;
use qmk_hal::{DeviceError, Place, Progress, SpaceId, SpaceStatus, Work};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Work of a [`SimDevice`](crate::SimDevice).
#[derive(Debug)]
pub struct SimWork(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    Shots(Box<Shots>),
    Perform(Perform),
    Link(Box<Link>),
    Save(Box<Save>),
    Restore(Box<Restore>),
    Close(Box<Close>),
}

/// Shots of a program.
#[derive(Debug)]
pub(super) struct Shots {
    pub(super) space: SpaceId,
    pub(super) run: Box<ProgramRun>,
    /// Whether the whole program is issued.
    pub(super) issued: bool,
    pub(super) status: SpaceStatus,
    /// Outcomes of the shots that were finished since the work began.
    pub(super) outcomes: Vec<u8>,
    pub(super) fault: Option<DeviceError>,
}

impl Shots {
    fn step(&mut self, budget: u64) -> Progress {
        if !self.issued || self.fault.is_some() {
            return Progress::Done;
        }
        self.fault = self.run.advance(budget, &mut self.status, &mut self.outcomes).err();
        match self.fault.is_some() || self.status.shots_done >= self.run.shots() {
            true => Progress::Done,
            false => Progress::More,
        }
    }
}

/// One instruction of an interactive space.
#[derive(Debug)]
pub(super) struct Perform {
    pub(super) space: SpaceId,
    pub(super) state: Box<SharedState>,
    /// The operation as the space names its registers.
    pub(super) named: Op,
    /// The operation on qubits of the state.
    pub(super) op: Op,
    pub(super) seed: u64,
    pub(super) at: u32,
    /// In the order in which the operation writes them.
    pub(super) outcomes: [bool; 2],
    pub(super) done: Option<Result<(), DeviceError>>,
}

impl Perform {
    pub(super) fn step(&mut self) {
        if self.done.is_none() {
            let mut outcomes = self.outcomes.iter_mut();
            let record = |bit| {
                if let Some(outcome) = outcomes.next() {
                    *outcome = bit;
                }
            };
            self.done = Some(self.state.perform(&self.op, self.seed, self.at, record));
        }
    }
}

/// A pair of qubits of one state or of two.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) places: [Place; 2],
    /// Number of the state of each qubit.
    pub(super) numbers: [u32; 2],
    /// The state of the first qubit, and of the second if it is another.
    pub(super) state: Box<SharedState>,
    pub(super) other: Option<Box<SharedState>>,
    pub(super) qubits: [usize; 2],
    /// For resetting the first, the second, and for the error.
    pub(super) draws: [Draw; 3],
    /// Probabilities of X, Y and Z on the second qubit.
    pub(super) errors: [f64; 3],
    pub(super) done: Option<Result<Option<Joined>, DeviceError>>,
}

/// How two states became one.
#[derive(Debug)]
pub(super) struct Joined {
    /// Which of the two numbers the one state has.
    pub(super) kept: usize,
    /// The spaces whose qubits have moved, and the numbers of these by their old ones.
    pub(super) spaces: BTreeSet<u32>,
    pub(super) qubits: Vec<Option<usize>>,
}

impl Link {
    pub(super) fn step(&mut self) {
        if self.done.is_none() {
            self.done = Some(self.perform());
        }
    }

    /// Everything that can be refused comes before anything that has an effect.
    fn perform(&mut self) -> Result<Option<Joined>, DeviceError> {
        let ([a, b], [draw_a, draw_b, draw_error]) = (self.qubits, self.draws);
        let mut joined = None;
        match &mut self.other {
            None => {
                self.state.can_reset(&[a, b], draw_a.site.at)?;
                self.state.reset(a, draw_a)?;
                self.state.reset(b, draw_b)?;
            }
            Some(other) => {
                self.state.can_join(a, other, b, draw_a.site.at)?;
                self.state.reset(a, draw_a)?;
                other.reset(b, draw_b)?;
                joined = self.join();
            }
        }
        self.state.entangle(self.qubits, self.errors, draw_error);
        Ok(joined)
    }

    /// Makes the two states one. The smaller one moves.
    fn join(&mut self) -> Option<Joined> {
        let mut moved = self.other.take()?;
        let second_stays = self.state.used() < moved.used();
        if second_stays {
            std::mem::swap(&mut self.state, &mut moved);
        }
        let spaces = moved.spaces().clone();
        let qubits = self.state.adopt(*moved);
        let renamed = &mut self.qubits[!second_stays as usize];
        *renamed = qubits[*renamed].unwrap_or(*renamed);
        Some(Joined { kept: second_stays as usize, spaces, qubits })
    }
}

/// What a space is without while its state is being copied.
#[derive(Debug)]
pub(super) enum Held {
    Run(Box<ProgramRun>),
    State(Box<SharedState>),
}

/// The state of a space is saved.
#[derive(Debug)]
pub(super) struct Save {
    pub(super) space: SpaceId,
    /// Number of the snapshot.
    pub(super) id: u32,
    pub(super) held: Held,
    /// Instruction that errors name.
    pub(super) at: u32,
    pub(super) memory: Memory,
    pub(super) saved: Option<Result<Saved, DeviceError>>,
}

impl Save {
    pub(super) fn step(&mut self) {
        if let (None, Held::State(state)) = (&self.saved, &self.held) {
            let memory = std::mem::take(&mut self.memory);
            self.saved = Some(state.copy(self.at).map(|copy| Saved::Interactive(Box::new(copy), memory)));
        }
    }
}

/// A space goes back to a saved state.
#[derive(Debug)]
pub(super) struct Restore {
    pub(super) space: SpaceId,
    pub(super) from: Arc<Saved>,
    pub(super) held: Held,
    /// Instruction that errors name.
    pub(super) at: u32,
    pub(super) copy: Option<Result<Box<SharedState>, DeviceError>>,
}

impl Restore {
    pub(super) fn step(&mut self) {
        if let (None, Saved::Interactive(state, _)) = (&self.copy, &*self.from) {
            self.copy = Some(state.copy(self.at).map(Box::new));
        }
    }
}

/// A space leaves a state that others share.
#[derive(Debug)]
pub(super) struct Close {
    pub(super) space: SpaceId,
    /// Number of the state.
    pub(super) number: u32,
    pub(super) state: Box<SharedState>,
    pub(super) qubits: Vec<usize>,
    pub(super) draw: Draw,
    pub(super) done: bool,
}

impl Close {
    pub(super) fn step(&mut self) {
        if !std::mem::replace(&mut self.done, true) {
            self.state.leave(self.space.0, self.qubits.drain(..), self.draw);
        }
    }
}

impl Work for SimWork {
    fn space(&self) -> SpaceId {
        match &self.0 {
            Kind::Shots(w) => w.space,
            Kind::Perform(w) => w.space,
            Kind::Link(w) => w.places[0].0,
            Kind::Save(w) => w.space,
            Kind::Restore(w) => w.space,
            Kind::Close(w) => w.space,
        }
    }

    #[inline]
    fn step(&mut self, budget: u64) -> Progress {
        match &mut self.0 {
            Kind::Shots(w) => return w.step(budget),
            Kind::Perform(w) => w.step(),
            Kind::Link(w) => w.step(),
            Kind::Save(w) => w.step(),
            Kind::Restore(w) => w.step(),
            Kind::Close(w) => w.step(),
        }
        Progress::Done
    }
}

//! The simulated machine behind the hardware contract.

mod cost;
mod interactive;
mod program;
mod refusal;
mod shared_state;
mod snapshot;

use crate::program::check::check_noise;
use crate::rng::DrawSite;
use cost::{cost, physical_qubits};
use interactive::{Interactive, Memory, check};
use num_complex::Complex64;
use program::{Run, Space};
use qmk_abi::image::{Instr, Op, Qubit};
use qmk_abi::syscall::{Level, Patch};
use qmk_hal::{
    Channel, Column, Cost, Device, DeviceError, Features, LinkSpec, MachineSpec, SnapshotId, SpaceId, SpaceSpec,
    SpaceStatus,
};
use refusal::{no_space, not_interactive, too_many_qubits};
use shared_state::{Draw, SharedState};
use snapshot::{Saved, Snapshot};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Outcomes of one space may take this many bytes.
const MAX_OUTCOME_BYTES: u64 = 256 << 20;

/// Size of the simulated machine.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Logical qubits.
    pub logical_qubits: u32,
    /// Two-qubit operations routed per epoch.
    pub routes_per_epoch: u32,
    /// Magic states delivered per epoch.
    pub magic_per_epoch: u32,
    /// Magic states kept in stock; four epochs' deliveries, but at least 64, if `None`.
    pub magic_buffer: Option<u32>,
    /// Patches decoded per epoch; all logical qubits if `None`, so that there is no backlog.
    pub decoded_per_epoch: Option<u32>,
    /// Raw pairs between spaces.
    pub link: LinkSpec,
    /// Whether states can be saved.
    pub snapshot: bool,
    /// Threads that run shots; 0 for one on each core. Outcomes do not depend on it.
    pub threads: usize,
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig {
            logical_qubits: 10_000,
            routes_per_epoch: 5_000,
            magic_per_epoch: 64,
            magic_buffer: None,
            decoded_per_epoch: None,
            // A Werner state of fidelity 0.95.
            link: LinkSpec { raw: [0.95, 0.05 / 3.0, 0.05 / 3.0, 0.05 / 3.0], pairs_per_epoch: 16 },
            snapshot: true,
            threads: 0,
        }
    }
}

/// The simulated logical-qubit machine.
#[derive(Debug)]
pub struct SimDevice {
    spec: MachineSpec,
    threads: usize,
    spaces: BTreeMap<u32, Space>,
    next: u32,
    /// States of interactive spaces.
    states: BTreeMap<u32, SharedState>,
    next_state: u32,
    snapshots: BTreeMap<u32, Snapshot>,
    next_snapshot: u32,
}

impl SimDevice {
    /// A machine of the given size.
    pub fn new(config: SimConfig) -> Self {
        let magic_per_epoch = config.magic_per_epoch.max(1);
        SimDevice {
            spec: MachineSpec {
                logical_qubits: config.logical_qubits,
                routes_per_epoch: config.routes_per_epoch.max(2),
                magic_per_epoch,
                magic_buffer: config.magic_buffer.unwrap_or(magic_per_epoch.saturating_mul(4).max(64)),
                decoded_per_epoch: config.decoded_per_epoch.unwrap_or(config.logical_qubits),
                link: config.link,
                features: Features { snapshot: config.snapshot },
            },
            threads: match config.threads {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                n => n,
            },
            spaces: BTreeMap::new(),
            next: 0,
            states: BTreeMap::new(),
            next_state: 0,
            snapshots: BTreeMap::new(),
            next_snapshot: 0,
        }
    }

    /// The amplitudes of the state that an interactive space is part of, up to a global phase: 2^n of them for n qubits. An
    /// index has a bit for each register that has been named, from the lowest up in order of space id, then of register.
    /// Above are bits of qubits of closed spaces and of qubits that were reset, as long as too many active qubits were needed to measure them. `None` for other
    /// spaces, and for more than 20 qubits. For tests and debugging.
    pub fn amplitudes(&self, space: SpaceId) -> Option<Vec<Complex64>> {
        let Run::Interactive(this) = &self.spaces.get(&space.0)?.run else { return None };
        let state = self.states.get(&this.state)?;
        let spaces = state.spaces().iter().filter_map(|id| self.spaces.get(id));
        let registers = spaces.filter_map(|s| match &s.run {
            Run::Interactive(other) => Some(other.memory.registers.values().copied()),
            _ => None,
        });
        state.amplitudes(registers.flatten())
    }

    fn space(&mut self, id: SpaceId) -> Result<&mut Space, DeviceError> {
        self.spaces.get_mut(&id.0).ok_or_else(no_space)
    }

    /// Where a register of an interactive space is: state and qubit, and the space's draws number `draw` of its next
    /// instruction.
    fn locate(&self, (id, register): (SpaceId, Qubit), draw: u32) -> Result<(u32, usize, Draw), DeviceError> {
        let space = self.spaces.get(&id.0).ok_or_else(no_space)?;
        let Run::Interactive(this) = &space.run else { return Err(not_interactive()) };
        let Some(&qubit) = this.memory.registers.get(&register) else {
            return Err(DeviceError::Refused(format!("register {register} of the space is not in use")));
        };
        this.following()?;
        Ok((this.state, qubit, Draw { seed: space.spec.seed, site: DrawSite { at: this.at, draw } }))
    }

    /// The state of an interactive space that shares it with no other.
    fn unshared(&self, this: &Interactive) -> Result<&SharedState, DeviceError> {
        let state = self.states.get(&this.state).ok_or_else(no_space)?;
        match state.spaces().len() {
            1 => Ok(state),
            _ => Err(DeviceError::Refused("the space shares its state with another".into())),
        }
    }

    /// Makes two states one. Returns its number.
    fn join(&mut self, a: u32, b: u32) -> u32 {
        let size = |state: u32| self.states.get(&state).map_or(0, SharedState::used);
        // The smaller one moves.
        let (number, moved) = if size(a) < size(b) { (b, a) } else { (a, b) };
        let Some(other) = self.states.remove(&moved) else { return number };
        let Some(state) = self.states.get_mut(&number) else { return number };
        let moving = other.spaces().clone();
        let names = state.adopt(other);
        for id in moving {
            if let Some(Space { run: Run::Interactive(this), .. }) = self.spaces.get_mut(&id) {
                this.state = number;
                this.memory.registers.values_mut().for_each(|q| *q = names[*q].unwrap_or(*q));
            }
        }
        number
    }
}

/// A number that nothing in use has.
fn unused<T>(map: &BTreeMap<u32, T>, next: &mut u32) -> u32 {
    while map.contains_key(next) {
        *next = next.wrapping_add(1);
    }
    let id = *next;
    *next = next.wrapping_add(1);
    id
}

impl Default for SimDevice {
    fn default() -> Self {
        SimDevice::new(SimConfig::default())
    }
}

impl Device for SimDevice {
    fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    #[inline]
    fn cost(&self, op: &Op, _patch: Patch) -> Cost {
        cost(op)
    }

    fn physical_qubits(&self, patch: Patch) -> Option<u32> {
        physical_qubits(patch)
    }

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let bytes = spec.shots.saturating_mul(spec.image.events.div_ceil(8) as u64);
        if bytes > MAX_OUTCOME_BYTES {
            return Err(DeviceError::Refused(format!(
                "{} shots of {} events need {bytes} bytes of outcomes, the limit is {MAX_OUTCOME_BYTES}; run fewer shots at a time",
                spec.shots, spec.image.events
            )));
        }
        if spec.errors.level != Level::Ideal {
            return Err(DeviceError::Refused(
                "the simulator knows logical qubits, and no errors of their patches".into(),
            ));
        }
        check_noise(&spec.image, &spec.noise).map_err(DeviceError::Refused)?;
        let named = spec.noise.iter().filter_map(|n| match n.channel {
            Channel::Given { column, .. } => Some(column as usize + 1),
            _ => None,
        });
        let named = named.max().unwrap_or(0);
        let id = unused(&self.spaces, &mut self.next);
        let run = if spec.image.code.is_empty() {
            let state = unused(&self.states, &mut self.next_state);
            self.states.insert(state, SharedState::new(id, spec.max_active));
            Run::Interactive(Interactive { state, memory: Memory::default(), at: 0 })
        } else {
            Run::Unplanned
        };
        let space = Space {
            spec,
            named,
            columns: Arc::default(),
            threads: self.threads,
            issued: 0,
            run,
            outcomes: Vec::new(),
            status: SpaceStatus::default(),
            fault: None,
        };
        self.spaces.insert(id, space);
        Ok(SpaceId(id))
    }

    fn issue(&mut self, space: SpaceId, _index: u32) -> Result<(), DeviceError> {
        self.space(space)?.issued += 1;
        Ok(())
    }

    fn issue_range(&mut self, space: SpaceId, indices: Range<u32>) -> Result<(), DeviceError> {
        self.space(space)?.issued += indices.len();
        Ok(())
    }

    fn undo(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        let space = self.space(space)?;
        let op = space.spec.image.code.get(index as usize).map(|i| i.op);
        let unitary = op.is_some_and(|op| {
            op.writes().next().is_none() && !matches!(op, Op::Free(_) | Op::Reset(_) | Op::InjectT(_))
        });
        if !unitary || space.issued == 0 {
            return Err(DeviceError::Refused(format!("no unitary instruction {index} has been issued")));
        }
        space.issued -= 1;
        space.rewind(0);
        Ok(())
    }

    fn give(&mut self, space: SpaceId, columns: Arc<[Column]>) -> Result<(), DeviceError> {
        let space = self.space(space)?;
        let words = space.spec.shots.div_ceil(64) as usize;
        if columns.len() != space.named || columns.iter().any(|c| c.x.len() != words || c.z.len() != words) {
            return Err(DeviceError::Refused(format!("the space needs {} columns of {words} words each", space.named)));
        }
        if !matches!(space.run, Run::Unplanned) {
            return Err(DeviceError::Refused("the space's work has begun".into()));
        }
        space.columns = columns;
        Ok(())
    }

    fn work(&mut self, space: SpaceId, budget: u64) -> Result<SpaceStatus, DeviceError> {
        let space = self.space(space)?;
        space.status.steps = 0;
        if let Some(fault) = &space.fault {
            return Err(fault.clone());
        }
        // Shots are run from the whole program, so the order of issue cannot matter.
        if space.issued >= space.spec.image.code.len() {
            space.work(budget).inspect_err(|e| space.fault = Some(e.clone()))?;
        }
        Ok(space.status)
    }

    fn outcome(&self, space: SpaceId, shot: u64, event: u32) -> bool {
        let Some(space) = self.spaces.get(&space.0) else { return false };
        if let Run::Interactive(this) = &space.run {
            return shot == 0 && this.memory.events.get(event as usize).copied().unwrap_or(false);
        }
        let byte = shot.saturating_mul(space.stride() as u64).saturating_add(event as u64 / 8);
        space.outcomes.get(byte as usize).is_some_and(|b| b >> (event % 8) & 1 == 1)
    }

    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>) {
        let Some(space) = self.spaces.get(&space.0) else { return };
        let byte = |shot: u64| (shot.saturating_mul(space.stride() as u64) as usize).min(space.outcomes.len());
        out.extend_from_slice(&space.outcomes[byte(first)..byte(first + count as u64)]);
    }

    fn perform(&mut self, space: SpaceId, instr: Instr) -> Result<(), DeviceError> {
        let space = self.spaces.get_mut(&space.0).ok_or_else(no_space)?;
        let Run::Interactive(this) = &mut space.run else { return Err(not_interactive()) };
        let state = self.states.get_mut(&this.state).ok_or_else(no_space)?;
        check(&instr)?;
        let next = this.following()?;
        let Memory { registers, events } = &mut this.memory;
        for q in instr.op.qubits() {
            if let Entry::Vacant(entry) = registers.entry(q) {
                entry.insert(state.take().ok_or_else(too_many_qubits)?);
            }
        }
        let count = instr.op.writes().max().map_or(0, |e| e as usize + 1);
        events.resize(events.len().max(count), false);
        let op = instr.op.map_qubits(|q| registers[&q] as Qubit);
        let mut writes = op.writes();
        let done = state.perform(&op, space.spec.seed, this.at, |bit| {
            if let Some(e) = writes.next() {
                events[e as usize] = bit;
            }
        });
        if let (Err(why), Op::Free(q) | Op::Reset(q)) = (&done, instr.op) {
            // What cannot be measured yet is left behind, and another qubit takes its place: no one can tell.
            let draw = Draw { seed: space.spec.seed, site: DrawSite { at: this.at, draw: 0 } };
            let fresh = state.replace(registers[&q], draw).ok_or_else(|| why.clone())?;
            registers.insert(q, fresh);
            this.at = next;
            return Ok(());
        }
        space.status.peak_active = space.status.peak_active.max(state.peak_active());
        done?;
        this.at = next;
        Ok(())
    }

    fn link(&mut self, a: (SpaceId, Qubit), b: (SpaceId, Qubit), errors: [f64; 3]) -> Result<(), DeviceError> {
        if !errors.iter().all(|p| (0.0..=1.0).contains(p)) || errors.iter().sum::<f64>() > 1.0 + 1e-9 {
            return Err(DeviceError::Refused(format!("{errors:?} are no probabilities of X, Y and Z")));
        }
        if a == b {
            return Err(DeviceError::Refused("a pair has two qubits".into()));
        }
        // Two spaces draw on their own, one space draws thrice.
        let (first, qa, draw_a) = self.locate(a, 0)?;
        let (second, qb, draw_b) = self.locate(b, 1)?;
        let (_, _, draw_error) = self.locate(a, 2)?;
        // Everything that can be refused comes before anything that has an effect.
        let number = if first == second {
            let state = self.states.get_mut(&first).ok_or_else(no_space)?;
            state.can_reset(&[qa, qb], draw_a.site.at)?;
            state.reset(qa, draw_a)?;
            state.reset(qb, draw_b)?;
            first
        } else {
            let mut other = self.states.remove(&second).ok_or_else(no_space)?;
            let reset = self.states.get_mut(&first).ok_or_else(no_space).and_then(|state| {
                state.can_join(qa, &mut other, qb, draw_a.site.at)?;
                state.reset(qa, draw_a)?;
                other.reset(qb, draw_b)
            });
            self.states.insert(second, other);
            reset?;
            self.join(first, second)
        };
        let ((_, qa, _), (_, qb, _)) = (self.locate(a, 0)?, self.locate(b, 1)?);
        let state = self.states.get_mut(&number).ok_or_else(no_space)?;
        state.entangle([qa, qb], errors, draw_error);
        for id in BTreeSet::from([a.0, b.0]) {
            let space = self.spaces.get_mut(&id.0).ok_or_else(no_space)?;
            space.status.peak_active = space.status.peak_active.max(state.peak_active());
            if let Run::Interactive(this) = &mut space.run {
                this.at = this.following()?;
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, space: SpaceId) -> Result<SnapshotId, DeviceError> {
        if !self.spec.features.snapshot {
            return Err(DeviceError::Refused("this machine cannot copy states".into()));
        }
        let saved = match &self.spaces.get(&space.0).ok_or_else(no_space)?.run {
            Run::Interactive(this) => {
                Saved::Interactive(Box::new(self.unshared(this)?.copy(this.at)?), this.memory.clone())
            }
            _ => {
                let space = self.space(space)?;
                let mut outcomes = Vec::new();
                if outcomes.try_reserve_exact(space.outcomes.len()).is_err() {
                    return Err(DeviceError::Refused("there is not enough memory for the outcomes".into()));
                }
                outcomes.extend_from_slice(&space.outcomes);
                Saved::Program { issued: space.issued, shots: space.status.shots_done, outcomes }
            }
        };
        let id = unused(&self.snapshots, &mut self.next_snapshot);
        self.snapshots.insert(id, Snapshot { space: space.0, saved });
        Ok(SnapshotId(id))
    }

    fn restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<(), DeviceError> {
        let Some(Snapshot { saved, .. }) = self.snapshots.get(&snapshot.0).filter(|s| s.space == space.0) else {
            return Err(DeviceError::Refused("the space has no such snapshot".into()));
        };
        let state = match (&self.spaces.get(&space.0).ok_or_else(no_space)?.run, saved) {
            (Run::Interactive(this), Saved::Interactive(state, _)) => {
                self.unshared(this)?;
                Some(state.copy(this.at)?)
            }
            _ => None,
        };
        let space = self.spaces.get_mut(&space.0).ok_or_else(no_space)?;
        match (&mut space.run, saved) {
            (Run::Interactive(this), Saved::Interactive(_, memory)) => {
                this.memory.clone_from(memory);
                self.states.extend(state.map(|state| (this.state, state)));
            }
            (_, Saved::Program { issued, shots, outcomes }) => {
                space.rewind(0);
                space.issued = *issued;
                space.outcomes.extend_from_slice(outcomes);
                space.status.shots_done = *shots;
            }
            _ => {}
        }
        Ok(())
    }

    fn forget(&mut self, snapshot: SnapshotId) {
        self.snapshots.remove(&snapshot.0);
    }

    fn close(&mut self, space: SpaceId) {
        let Some(closed) = self.spaces.remove(&space.0) else { return };
        self.snapshots.retain(|_, s| s.space != space.0);
        let Run::Interactive(this) = closed.run else { return };
        match self.states.get_mut(&this.state) {
            Some(state) if state.spaces().len() > 1 => {
                let draw = Draw { seed: closed.spec.seed, site: DrawSite { at: this.at, draw: 0 } };
                state.leave(space.0, this.memory.registers.into_values(), draw);
            }
            _ => _ = self.states.remove(&this.state),
        }
    }
}

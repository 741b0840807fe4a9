//! The simulated machine behind the hardware contract.

use crate::cost::{cost, physical_qubits};
use crate::direct::Direct;
use crate::lanes::{Chunk, Sampler};
use crate::noise::BLOCK;
use crate::plan::{NoPlan, plan};
use crate::program::{Program, check_noise};
use crate::state::State;
use crate::structure::Refusal;
use qmk_abi::image::{Instr, Op, Qubit};
use qmk_abi::syscall::Patch;
use qmk_hal::{
    Cost, Device, DeviceError, Features, LinkSpec, MachineSpec, SnapshotId, SpaceId, SpaceSpec, SpaceStatus,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Outcomes of one space may take this many bytes.
const MAX_OUTCOME_BYTES: u64 = 256 << 20;
/// Qubits of one interactive space.
const MAX_INTERACTIVE: u32 = 1 << 14;

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
}

#[derive(Debug)]
struct Space {
    spec: SpaceSpec,
    threads: usize,
    issued: usize,
    run: Run,
    outcomes: Vec<u8>,
    status: SpaceStatus,
    fault: Option<DeviceError>,
}

/// How a space is simulated.
#[derive(Debug)]
enum Run {
    /// One instruction at a time, as they come.
    Interactive { state: Box<State>, at: u32, events: Vec<bool> },
    /// A program that waits for its last instruction.
    Waiting,
    /// All shots from one plan, those under way in chunks.
    Planned(Arc<Sampler>, Vec<Chunk>),
    /// One shot after the other; the one under way, if any.
    Direct(Box<Program>, Option<Box<Direct>>),
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
        }
    }

    fn space(&mut self, id: SpaceId) -> Result<&mut Space, DeviceError> {
        self.spaces.get_mut(&id.0).ok_or_else(|| DeviceError::Refused("no such space".into()))
    }
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
        check_noise(&spec.image, &spec.noise).map_err(DeviceError::Refused)?;
        let run = if spec.image.code.is_empty() {
            Run::Interactive {
                state: Box::new(State::new(0, spec.seed, 0, spec.max_active)),
                at: 0,
                events: Vec::new(),
            }
        } else {
            Run::Waiting
        };
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let space = Space {
            spec,
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

    fn work(&mut self, space: SpaceId, budget: u64) -> Result<SpaceStatus, DeviceError> {
        let space = self.space(space)?;
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
        if let Run::Interactive { events, .. } = &space.run {
            return shot == 0 && events.get(event as usize).copied().unwrap_or(false);
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
        let space = self.space(space)?;
        if let Some(fault) = &space.fault {
            return Err(fault.clone());
        }
        let (Run::Interactive { state, at, events }, None) = (&mut space.run, instr.cond) else {
            return Err(DeviceError::Refused("not an interactive space".into()));
        };
        let qubits = instr.op.qubits().max().map_or(0, |q| q.saturating_add(1));
        let count = instr.op.writes().max().map_or(0, |e| e.saturating_add(1));
        if qubits > MAX_INTERACTIVE || count > MAX_INTERACTIVE {
            return Err(DeviceError::Refused(format!("an interactive space holds {MAX_INTERACTIVE} qubits")));
        }
        // Doubling keeps the cost of growth linear.
        if qubits as usize > state.qubits() {
            state.grow((qubits as usize).next_power_of_two());
        }
        events.resize(events.len().max(count as usize), false);
        let index = *at;
        *at += 1;
        let mut writes = instr.op.writes();
        let done = state.perform(&instr.op, index, |bit| {
            if let Some(e) = writes.next() {
                events[e as usize] = bit;
            }
        });
        space.status.peak_active = state.peak_active();
        let limit = space.spec.max_active;
        done.map_err(|e| refused(index, e, limit)).inspect_err(|e| space.fault = Some(e.clone()))
    }

    fn link(&mut self, _a: (SpaceId, Qubit), _b: (SpaceId, Qubit), _errors: [f64; 3]) -> Result<(), DeviceError> {
        Err(DeviceError::Refused("links are not modelled yet".into()))
    }

    fn snapshot(&mut self, _space: SpaceId) -> Result<SnapshotId, DeviceError> {
        Err(DeviceError::Refused("states cannot be saved yet".into()))
    }

    fn restore(&mut self, _space: SpaceId, _snapshot: SnapshotId) -> Result<(), DeviceError> {
        Err(DeviceError::Refused("no such snapshot".into()))
    }

    fn forget(&mut self, _snapshot: SnapshotId) {}

    fn close(&mut self, space: SpaceId) {
        self.spaces.remove(&space.0);
    }
}

impl Space {
    /// Bytes of one shot's outcomes.
    fn stride(&self) -> usize {
        self.spec.image.events.div_ceil(8) as usize
    }

    /// Forgets all but the first `shots` shots, and what went wrong: the others are run again.
    fn rewind(&mut self, shots: u64) {
        self.status.shots_done = self.status.shots_done.min(shots);
        self.outcomes.truncate(self.status.shots_done as usize * self.stride());
        self.fault = None;
        match &mut self.run {
            Run::Planned(_, chunks) => chunks.clear(),
            Run::Direct(_, current) => *current = None,
            Run::Interactive { .. } | Run::Waiting => {}
        }
    }

    fn work(&mut self, budget: u64) -> Result<(), DeviceError> {
        if let Run::Waiting = self.run {
            self.start()?;
        }
        let (image, stride, shots) = (&self.spec.image, self.stride(), self.spec.shots);
        match &mut self.run {
            Run::Planned(sampler, chunks) => {
                self.status.peak_active = sampler.peak_active();
                let mut budget = budget;
                while budget > 0 && self.status.shots_done < shots {
                    if chunks.is_empty() {
                        // Each thread takes as much as one may.
                        let share = (shots - self.status.shots_done).div_ceil(self.threads as u64).next_power_of_two();
                        let lanes = sampler.lanes_for(budget).min(share.max(BLOCK));
                        let starts = (self.status.shots_done..shots).step_by(lanes as usize).take(self.threads);
                        chunks.extend(
                            starts.map(|first| Chunk::new(sampler, image, first, lanes.min(shots - first) as usize)),
                        );
                    }
                    let budgets: Vec<u64> = std::thread::scope(|scope| {
                        let advance = |chunk: &mut Chunk| {
                            let mut left = budget;
                            // What is not done has spent it all.
                            if chunk.advance(&mut left) { left } else { 0 }
                        };
                        let (mine, others) = chunks.split_first_mut().expect("shots are left");
                        let others: Vec<_> =
                            others.iter_mut().map(|chunk| scope.spawn(move || advance(chunk))).collect();
                        let mut left = vec![advance(mine)];
                        left.extend(others.into_iter().map(|o| o.join().unwrap_or(0)));
                        left
                    });
                    budget = budgets.into_iter().min().unwrap_or(0);
                    if !chunks.iter().all(Chunk::is_done) {
                        break;
                    }
                    for chunk in chunks.drain(..) {
                        let from = self.outcomes.len();
                        self.outcomes.resize(from + chunk.shots() * stride, 0);
                        chunk.write(stride, &mut self.outcomes[from..]);
                        self.status.shots_done += chunk.shots() as u64;
                    }
                }
            }
            Run::Direct(program, current) => {
                let mut budget = budget;
                while self.status.shots_done < shots {
                    let shot = self.status.shots_done;
                    let limit = self.spec.max_active;
                    let direct = current
                        .get_or_insert_with(|| Box::new(Direct::new(program, image, self.spec.seed, shot, limit)));
                    let done = direct.run(program, image, &mut budget);
                    self.status.peak_active = self.status.peak_active.max(direct.peak_active());
                    if !done.map_err(|(at, why)| refused(at, why, limit))? {
                        break;
                    }
                    for byte in direct.events.chunks(8) {
                        self.outcomes.push(byte.iter().enumerate().fold(0, |b, (i, &e)| b | (e as u8) << i));
                    }
                    // Making and packing a shot takes its time even where nothing happens in it.
                    budget = budget.saturating_sub(1 + (image.events / 8) as u64);
                    *current = None;
                    self.status.shots_done += 1;
                    if budget == 0 {
                        break;
                    }
                }
            }
            Run::Interactive { .. } | Run::Waiting => {}
        }
        Ok(())
    }

    /// Decides how to run the program, now that all of it is issued.
    fn start(&mut self) -> Result<(), DeviceError> {
        let program = Program::new(&self.spec.image, &self.spec.noise);
        let limit = self.spec.max_active;
        self.run = if self.spec.shots == 1 {
            Run::Direct(Box::new(program), None)
        } else {
            match plan(&program, &self.spec.image, limit) {
                Ok(plan) => Run::Planned(Arc::new(Sampler::new(plan, self.spec.seed, self.threads)), Vec::new()),
                // A plan follows both sides of every condition; a shot follows one.
                Err(NoPlan::Refused(at, why @ Refusal::TooManyActive { .. })) if !program.is_conditional() => {
                    return Err(refused(at, why, limit));
                }
                Err(_) => Run::Direct(Box::new(program), None),
            }
        };
        Ok(())
    }
}

fn refused(at: u32, why: Refusal, limit: u32) -> DeviceError {
    match why {
        Refusal::TooManyActive { needed, at } => DeviceError::TooMuchMagic { at, needed, limit },
        Refusal::OutOfMemory { active, at } => DeviceError::OutOfMemory { at, active },
        Refusal::Conditional => DeviceError::Refused(format!("instruction {at} cannot be conditional here")),
    }
}

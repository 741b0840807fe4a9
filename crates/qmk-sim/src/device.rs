//! The simulated machine behind the hardware contract.

use crate::cost::cost;
use crate::state::State;
use crate::structure::Refusal;
use qmk_abi::image::{CondTerm, Image, Instr, Op};
use qmk_hal::{Cost, Device, DeviceError, Features, MachineSpec, SpaceId, SpaceSpec, SpaceStatus};
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
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig { logical_qubits: 10_000, routes_per_epoch: 5_000, magic_per_epoch: 64 }
    }
}

/// The simulated logical-qubit machine.
#[derive(Debug)]
pub struct SimDevice {
    spec: MachineSpec,
    spaces: BTreeMap<u32, Space>,
    next: u32,
}

#[derive(Debug)]
struct Space {
    spec: SpaceSpec,
    /// The image's code over qubit slots: a slot is reused once its register is freed.
    code: Vec<Instr>,
    slots: usize,
    issued: u32,
    /// The shot under way and the index of its next instruction.
    current: Option<(State, usize)>,
    events: Vec<bool>,
    outcomes: Vec<u8>,
    status: SpaceStatus,
    fault: Option<DeviceError>,
}

impl SimDevice {
    /// A machine of the given size.
    pub fn new(config: SimConfig) -> Self {
        SimDevice {
            spec: MachineSpec {
                logical_qubits: config.logical_qubits,
                routes_per_epoch: config.routes_per_epoch.max(2),
                magic_per_epoch: config.magic_per_epoch.max(1),
                magic_buffer: config.magic_per_epoch.max(1).saturating_mul(4).max(64),
                features: Features { snapshot: true },
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

    fn cost(&self, op: &Op) -> Cost {
        cost(op)
    }

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let bytes = spec.shots.saturating_mul(spec.image.events.div_ceil(8) as u64);
        if bytes > MAX_OUTCOME_BYTES {
            return Err(DeviceError::Refused(format!(
                "{} shots of {} events need {bytes} bytes of outcomes, the limit is {MAX_OUTCOME_BYTES}; run fewer shots at a time",
                spec.shots, spec.image.events
            )));
        }
        let (code, slots) = assign_slots(&spec.image);
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let events = vec![false; spec.image.events as usize];
        let space = Space {
            spec,
            code,
            slots,
            issued: 0,
            current: None,
            events,
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

    fn work(&mut self, space: SpaceId, budget: u64) -> Result<SpaceStatus, DeviceError> {
        let space = self.space(space)?;
        if let Some(fault) = &space.fault {
            return Err(fault.clone());
        }
        // Shots replay the whole program in program order, so the order of issue cannot matter.
        if space.issued as usize >= space.code.len() {
            space.run(budget).inspect_err(|e| space.fault = Some(e.clone()))?;
        }
        Ok(space.status)
    }

    fn outcome(&self, space: SpaceId, shot: u64, event: u32) -> bool {
        let Some(space) = self.spaces.get(&space.0) else { return false };
        if space.code.is_empty() {
            return shot == 0 && space.events.get(event as usize).copied().unwrap_or(false);
        }
        let stride = space.spec.image.events.div_ceil(8) as u64;
        let byte = (shot.saturating_mul(stride)).saturating_add(event as u64 / 8);
        space.outcomes.get(byte as usize).is_some_and(|b| b >> (event % 8) & 1 == 1)
    }

    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>) {
        let Some(space) = self.spaces.get(&space.0) else { return };
        let stride = space.spec.image.events.div_ceil(8) as u64;
        let [from, to] =
            [first, first + count as u64].map(|s| (s.saturating_mul(stride) as usize).min(space.outcomes.len()));
        out.extend_from_slice(&space.outcomes[from..to]);
    }

    fn perform(&mut self, space: SpaceId, instr: Instr) -> Result<(), DeviceError> {
        let space = self.space(space)?;
        if let Some(fault) = &space.fault {
            return Err(fault.clone());
        }
        if !space.code.is_empty() || instr.cond.is_some() {
            return Err(DeviceError::Refused("not an interactive space".into()));
        }
        let qubits = instr.op.qubits().max().map_or(0, |q| q.saturating_add(1));
        let events = instr.op.writes().max().map_or(0, |e| e.saturating_add(1));
        if qubits > MAX_INTERACTIVE || events > MAX_INTERACTIVE {
            return Err(DeviceError::Refused(format!("an interactive space holds {MAX_INTERACTIVE} qubits")));
        }
        let (state, at) =
            space.current.get_or_insert_with(|| (State::new(0, space.spec.seed, 0, space.spec.max_active), 0));
        // Doubling keeps the cost of growth linear.
        if qubits as usize > state.qubits() {
            state.grow((qubits as usize).next_power_of_two());
        }
        space.events.resize(space.events.len().max(events as usize), false);
        let (index, limit) = (*at as u32, space.spec.max_active);
        *at += 1;
        let mut writes = instr.op.writes();
        let events = &mut space.events;
        let done = state.perform(&instr.op, index, |bit| {
            if let Some(e) = writes.next() {
                events[e as usize] = bit;
            }
        });
        space.status.peak_active = state.peak_active();
        done.map_err(|e| refused(e, index, limit))
            .inspect_err(|e| space.fault = Some(e.clone()))
    }

    fn close(&mut self, space: SpaceId) {
        self.spaces.remove(&space.0);
    }
}

impl Space {
    fn run(&mut self, mut budget: u64) -> Result<(), DeviceError> {
        // A Clifford step touches rows of n bits, a magic step 2^k amplitudes.
        let words = self.slots.div_ceil(64) as u64;
        while self.status.shots_done < self.spec.shots {
            let shot = self.status.shots_done;
            let (state, pc) = self.current.get_or_insert_with(|| {
                self.events.fill(false);
                (State::new(self.slots, self.spec.seed, shot, self.spec.max_active), 0)
            });
            let mut stack = Vec::new();
            while let Some(instr) = self.code.get(*pc) {
                if budget == 0 {
                    return Ok(());
                }
                budget = budget.saturating_sub(1 + words + (1u64 << state.active()) / 64);
                let at = *pc as u32;
                *pc += 1;
                if let Some(cond) = instr.cond {
                    if !holds(self.spec.image.cond_terms(cond), &self.events, &mut stack) {
                        continue;
                    }
                    if let Op::Pauli(p, q) = instr.op {
                        state.frame_pauli(p, q as usize);
                        continue;
                    }
                }
                let mut writes = instr.op.writes();
                let events = &mut self.events;
                let done = state.perform(&instr.op, at, |bit| {
                    if let Some(e) = writes.next() {
                        events[e as usize] = bit;
                    }
                });
                self.status.peak_active = self.status.peak_active.max(state.peak_active());
                done.map_err(|e| refused(e, at, self.spec.max_active))?;
            }
            self.current = None;
            for byte in self.events.chunks(8) {
                self.outcomes.push(byte.iter().enumerate().fold(0, |b, (i, &e)| b | (e as u8) << i));
            }
            self.status.shots_done += 1;
        }
        Ok(())
    }
}

fn refused(why: Refusal, at: u32, limit: u32) -> DeviceError {
    match why {
        Refusal::TooManyActive(needed) => DeviceError::TooMuchMagic { at, needed, limit },
        Refusal::Conditional => DeviceError::Refused(format!("instruction {at} cannot be conditional here")),
    }
}

/// Evaluates an admitted condition.
fn holds(terms: &[CondTerm], events: &[bool], stack: &mut Vec<bool>) -> bool {
    stack.clear();
    for term in terms {
        match *term {
            CondTerm::Event(e) => stack.push(events[e as usize]),
            CondTerm::Not => {
                if let Some(top) = stack.last_mut() {
                    *top = !*top;
                }
            }
            CondTerm::And(n) | CondTerm::Or(n) | CondTerm::Xor(n) => {
                let operands = stack.split_off(stack.len().saturating_sub(n as usize));
                stack.push(match term {
                    CondTerm::And(_) => operands.iter().all(|&b| b),
                    CondTerm::Or(_) => operands.iter().any(|&b| b),
                    _ => operands.iter().fold(false, |p, &b| p ^ b),
                });
            }
        }
    }
    stack.pop().unwrap_or(false)
}

/// Renames registers to slots, reusing the slot of a freed register, so that the tableau is as large as
/// the program's peak, not its total.
fn assign_slots(image: &Arc<Image>) -> (Vec<Instr>, usize) {
    let mut slot_of = vec![u32::MAX; image.qubits as usize];
    let (mut free, mut slots) = (Vec::new(), 0);
    let mut code = Vec::with_capacity(image.code.len());
    for instr in &image.code {
        if let Op::Alloc(q) = instr.op {
            slot_of[q as usize] = free.pop().unwrap_or_else(|| {
                slots += 1;
                slots - 1
            });
        }
        code.push(Instr { op: instr.op.map_qubits(|q| slot_of[q as usize]), cond: instr.cond });
        if let Op::Free(q) = instr.op {
            free.push(slot_of[q as usize]);
        }
    }
    (code, slots as usize)
}

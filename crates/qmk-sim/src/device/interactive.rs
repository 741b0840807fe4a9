//! Qubits that are operated one instruction at a time.

use super::machine::SimDevice;
use super::refusal::{no_space, not_interactive};
use super::shared_state::Draw;
use super::space::{Memory, Space};
use super::work::{Kind, Link, Perform, SimWork};
use crate::rng::DrawSite;
use qmk_abi::image::{Instr, Op, Qubit};
use qmk_hal::{DeviceError, Interactive, Place, SpaceId, SpaceStatus};
use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

/// Events of one interactive space.
const MAX_EVENTS: u32 = 1 << 14;

impl Interactive for SimDevice {
    type Work = SimWork;

    fn begin_perform(&mut self, id: SpaceId, instr: Instr) -> Result<SimWork, DeviceError> {
        let Some(space) = self.spaces.get_mut(&id.0) else { return Err(no_space()) };
        let Space::Interactive(space) = space else { return Err(not_interactive()) };
        let slot = self.states.get_mut(&space.state).ok_or_else(no_space)?;
        let mut state = slot.take().ok_or(DeviceError::Busy)?;
        let mut name = || {
            check(&instr)?;
            space.following()?;
            for q in instr.op.qubits() {
                if let Entry::Vacant(entry) = space.memory.registers.entry(q) {
                    entry.insert(state.take()?);
                }
            }
            Ok(instr.op.map_qubits(|q| space.memory.registers[&q] as Qubit))
        };
        match name() {
            Ok(op) => {
                let (seed, at, outcomes) = (space.seed, space.at, [false; 2]);
                let work = Perform { space: id, state, named: instr.op, op, seed, at, outcomes, done: None };
                Ok(SimWork(Kind::Perform(work)))
            }
            Err(refused) => {
                *slot = Some(state);
                Err(refused)
            }
        }
    }

    fn begin_link(&mut self, a: Place, b: Place, errors: [f64; 3]) -> Result<SimWork, DeviceError> {
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
        let state = self.take_state(first)?;
        let other = match first == second {
            true => None,
            false => match self.take_state(second) {
                Ok(other) => Some(other),
                Err(busy) => {
                    self.put_state(first, state);
                    return Err(busy);
                }
            },
        };
        Ok(SimWork(Kind::Link(Box::new(Link {
            places: [a, b],
            numbers: [first, second],
            state,
            other,
            qubits: [qa, qb],
            draws: [draw_a, draw_b, draw_error],
            errors,
            done: None,
        }))))
    }
}

impl SimDevice {
    /// Where a register of an interactive space is: number of the state and qubit, and the space's draws number `draw`
    /// of its next instruction.
    fn locate(&mut self, (id, register): Place, draw: u32) -> Result<(u32, usize, Draw), DeviceError> {
        let space = self.interactive_space(id)?;
        let Some(&qubit) = space.memory.registers.get(&register) else {
            return Err(DeviceError::Refused(format!("register {register} of the space is not in use")));
        };
        space.following()?;
        Ok((space.state, qubit, Draw { seed: space.seed, site: DrawSite { at: space.at, draw } }))
    }

    pub(super) fn finish_perform(&mut self, mut work: Perform) -> Result<SpaceStatus, DeviceError> {
        work.step();
        let Some(Space::Interactive(space)) = self.spaces.get_mut(&work.space.0) else { return Err(no_space()) };
        let Perform { mut state, named, at, outcomes, done, .. } = work;
        let mut done = done.unwrap_or(Ok(()));
        let Memory { registers, events } = &mut space.memory;
        if let (Err(why), Op::Free(q) | Op::Reset(q)) = (&done, named) {
            // A qubit that cannot be measured yet is left behind, and another takes its place: no one can tell.
            let draw = Draw { seed: space.seed, site: DrawSite { at, draw: 0 } };
            done = match state.replace(registers[&q], draw) {
                Ok(fresh) => {
                    registers.insert(q, fresh);
                    Ok(())
                }
                Err(_) => Err(why.clone()),
            };
        } else {
            space.peak_active = space.peak_active.max(state.peak_active());
            for (event, bit) in named.writes().zip(outcomes).filter(|_| done.is_ok()) {
                let event = event as usize;
                events.resize(events.len().max(event + 1), false);
                events[event] = bit;
            }
        }
        let number = space.state;
        if done.is_ok() {
            space.at = at + 1;
        }
        let status = space.status();
        self.put_state(number, state);
        done.map(|()| status)
    }

    pub(super) fn finish_link(&mut self, mut work: Link) -> Result<SpaceStatus, DeviceError> {
        work.step();
        let Link { places, numbers, state, other, done, .. } = work;
        let peak = state.peak_active();
        let joined = match done.unwrap_or(Ok(None)) {
            Ok(joined) => joined,
            Err(refused) => {
                self.put_state(numbers[0], state);
                if let Some(other) = other {
                    self.put_state(numbers[1], other);
                }
                return Err(refused);
            }
        };
        let mut number = numbers[0];
        if let Some(joined) = joined {
            number = numbers[joined.kept];
            self.states.remove(&numbers[1 - joined.kept]);
            for id in joined.spaces {
                if let Some(Space::Interactive(space)) = self.spaces.get_mut(&id) {
                    space.state = number;
                    space.memory.registers.values_mut().for_each(|q| *q = joined.qubits[*q].unwrap_or(*q));
                }
            }
        }
        self.put_state(number, state);
        let mut status = SpaceStatus::default();
        for id in BTreeSet::from(places.map(|(id, _)| id)) {
            let space = self.interactive_space(id)?;
            space.peak_active = space.peak_active.max(peak);
            space.at = space.following()?;
            status = space.status();
        }
        Ok(status)
    }
}

/// Refuses what would not be admitted as part of a program.
fn check(instr: &Instr) -> Result<(), DeviceError> {
    let refuse = |why: &str| Err(DeviceError::Refused(why.into()));
    if instr.cond.is_some() {
        return refuse("a condition is for programs; let the caller decide");
    }
    if instr.op.angle().is_some_and(|a| !a.is_finite()) {
        return refuse("the angle is not finite");
    }
    let qubits = instr.op.qubits().enumerate();
    if qubits.clone().any(|(i, q)| instr.op.qubits().take(i).any(|other| other == q)) {
        return refuse("an operation acts on different registers");
    }
    if instr.op.writes().any(|e| e >= MAX_EVENTS) {
        return Err(DeviceError::Refused(format!("an interactive space holds {MAX_EVENTS} events")));
    }
    Ok(())
}

//! Runs one shot of a program: for single shots, and where a condition changes more than signs, so that shots have no
//! common plan.

use crate::engine::frame_state::FrameState;
use crate::engine::refusal::Refusal;
use crate::engine::shot::{BitFrame, Shot};
use crate::ledger::Charge;
use crate::noise::{BLOCK, draw, given};
use crate::program::perform::perform_step;
use crate::program::steps::{LastUse, NoiseStep, Program};
use qmk_abi::image::{CondTerm, Image, Op, Pauli};
use qmk_hal::Channel;

/// A shot under way.
#[derive(Debug)]
pub(crate) struct SingleShot {
    frame_states: Vec<FrameState<BitFrame>>,
    shots: Vec<Shot>,
    pub(crate) events: Vec<bool>,
    next: usize,
    next_noise: usize,
    stack: Vec<bool>,
}

impl SingleShot {
    /// Registers are charged where `charge` is.
    pub(crate) fn new(
        program: &Program,
        image: &Image,
        seed: u64,
        shot: u64,
        max_active: u32,
        charge: &Charge,
    ) -> Self {
        let frame_states = program.frame_states(max_active);
        SingleShot {
            frame_states: frame_states.into_iter().map(|state: FrameState<_>| state.charged(charge)).collect(),
            shots: program.components.iter().map(|_| Shot::new(seed, shot)).collect(),
            events: vec![false; image.events as usize],
            next: 0,
            next_noise: 0,
            stack: Vec::new(),
        }
    }

    pub(crate) fn peak_active(&self) -> u32 {
        self.frame_states.iter().map(FrameState::peak_active).max().unwrap_or(0)
    }

    /// Performs steps until the shot is over (true) or the budget is spent (false).
    ///
    /// # Errors
    /// The index of the instruction that was refused, and why.
    pub(crate) fn run(&mut self, program: &Program, image: &Image, budget: &mut i64) -> Result<bool, (u32, Refusal)> {
        while let Some(step) = program.steps.get(self.next) {
            if *budget <= 0 {
                return Ok(false);
            }
            // Fast path: unconditional Clifford gates behind the last noise channel, most steps of most programs.
            if step.cond.is_none() && step.last_use == [LastUse::Live; 3] && self.next_noise == program.noise.len() {
                let frame_state = &mut self.frame_states[step.component as usize];
                match step.op {
                    Op::Clifford1(g, q) => frame_state.clifford1(g, q as usize),
                    Op::Clifford2(g, a, b) => frame_state.clifford2(g, a as usize, b as usize),
                    _ => {}
                }
                if matches!(step.op, Op::Clifford1(..) | Op::Clifford2(..)) {
                    *budget = budget.saturating_sub(1 + frame_state.qubits() as i64 / 64);
                    self.next += 1;
                    continue;
                }
            }
            self.noise(program, true, |n| n.after < step.at);
            self.next += 1;
            let frame_state = &mut self.frame_states[step.component as usize];
            let effort = frame_state.effort();
            // A Clifford step touches rows of n bits, a magic step 2^k amplitudes.
            let cost = 1 + frame_state.qubits() as i64 / 64 + (1i64 << frame_state.active().len()) / 64;
            *budget = budget.saturating_sub(cost);
            if let Some(cond) = step.cond
                && !holds(image.cond_terms(cond), &self.events, &mut self.stack)
            {
                self.noise(program, false, |n| n.after <= step.at);
                continue;
            }
            let shot = &mut self.shots[step.component as usize];
            let mut writes = step.op.writes();
            let record = |bit| {
                if let Some(e) = writes.next() {
                    self.events[e as usize] = bit;
                }
            };
            perform_step(frame_state, &step.op, step.at, step.last_use, None, shot, record)
                .map_err(|e| (step.at, e))?;
            *budget = budget.saturating_sub((self.frame_states[step.component as usize].effort() - effort) as i64);
            self.noise(program, true, |n| n.after <= step.at);
        }
        Ok(true)
    }

    /// Draws the channels that are due. Without `wrote` the last step was skipped, so it has no record that could be
    /// flipped.
    fn noise(&mut self, program: &Program, wrote: bool, due: impl Fn(&NoiseStep) -> bool) {
        while let Some(n) = program.noise.get(self.next_noise).filter(|n| due(n)) {
            let Some(shot) = self.shots.get(n.component as usize) else { return };
            let mut error = 0;
            draw(shot.random, self.next_noise as u32, &n.channel, shot.shot / BLOCK, |at, e| {
                if at == shot.shot % BLOCK {
                    error = e;
                }
            });
            self.next_noise += 1;
            let mut strike = |q: u32, letter: u8| {
                let p = match letter & 3 {
                    0 => return,
                    1 => Pauli::X,
                    2 => Pauli::Z,
                    _ => Pauli::Y,
                };
                self.frame_states[n.component as usize].apply_pauli(&[(p, q as usize)], &true);
            };
            match n.channel {
                Channel::Pauli1 { qubit, .. } => strike(qubit, error),
                Channel::Given { qubit, column } => {
                    let [x, z] = given(&program.columns, column, shot.shot);
                    strike(qubit, (x & 1 | (z & 1) << 1) as u8);
                }
                Channel::Pauli2 { qubits, .. } => {
                    strike(qubits[0], error);
                    strike(qubits[1], error >> 2);
                }
                Channel::Flip { event, .. } => self.events[event as usize] ^= wrote && error == 1,
            }
        }
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
                let operands = stack.len().saturating_sub(n as usize);
                let value = match term {
                    CondTerm::And(_) => stack[operands..].iter().all(|&b| b),
                    CondTerm::Or(_) => stack[operands..].iter().any(|&b| b),
                    _ => stack[operands..].iter().fold(false, |p, &b| p ^ b),
                };
                stack.truncate(operands);
                stack.push(value);
            }
        }
    }
    stack.pop().unwrap_or(false)
}

//! Planning: the state of a program is worked out once for all shots; a plan is what is left to do for each.
//!
//! A plan is a list of actions over *symbols*, each a bit per shot: coins, outcomes of register measurements,
//! conditions and noise. Outcomes of stabilizer measurements are parities of symbols (as in SymPhase, Fang & Ying,
//! arXiv:2311.03906). So Clifford operations, coins that nothing reads, and Pauli feed-forward cost nothing per shot.

use super::symbolic::{Parity, SymbolicFrame};
use crate::engine::backend::Backend;
use crate::engine::frame_state::FrameState;
use crate::engine::refusal::Refusal;
use crate::program::perform::perform_step;
use crate::program::steps::Program;
use crate::register::mask::Mask;
use crate::register::merge::merge;
use crate::rng::DrawSite;
use qmk_abi::image::{Cond, CondTerm, Event, Image, Pauli};
use qmk_hal::{Channel, Column};
use std::sync::Arc;

/// Words that the parities in the frames of one program may take.
const MAX_WORDS: usize = 1 << 27;
/// Symbols that all rows, noise and conditions of a plan may name together. Where outcomes are parities of very many
/// others, shots are cheaper one by one.
const MAX_SYMBOLS: usize = 1 << 25;
/// Elementary steps that may be spent on finding the rotations that measurements need.
const MAX_EFFORT: u64 = 1 << 30;
/// Logarithm of the amplitudes that one action may pass over, so that work can pause between actions.
const MAX_PASSES: u32 = 28;

/// A row: the parity of some symbols, kept for the shots of a batch. Rows `0..events` are the events.
pub(crate) type RowId = u32;

/// The sign of a mask, in each shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Plus,
    Row(RowId),
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Computes a row from its symbols.
    Row(RowId),
    /// Evaluates a condition over event rows into a symbol.
    Condition {
        cond: Cond,
        symbol: u32,
    },
    /// Rotations with the same angle in all shots, in order.
    Rotate {
        register: u32,
        rotations: Vec<(Mask, f64)>,
    },
    /// A rotation whose sign, or whether it happens at all, depends on the shot.
    RotateEach {
        register: u32,
        mask: Mask,
        theta: f64,
        sign: Sign,
        cond: Option<RowId>,
    },
    /// A qubit joins a register.
    Push {
        register: u32,
        theta: f64,
        cond: Option<RowId>,
    },
    Collapse(Collapse),
}

impl Action {
    /// The register that it acts on, and whether its effect is the same in all shots.
    pub(super) fn register(&self) -> Option<(u32, bool)> {
        match self {
            Action::Row(_) | Action::Condition { .. } => None,
            Action::Rotate { register, .. } | Action::Push { register, cond: None, .. } => Some((*register, true)),
            Action::RotateEach { register, .. }
            | Action::Push { register, .. }
            | Action::Collapse(Collapse { register, .. }) => Some((*register, false)),
        }
    }
}

/// A measurement of `(-1)^sign mask`, after which `bit` leaves the register.
#[derive(Clone, Debug)]
pub(crate) struct Collapse {
    pub(crate) register: u32,
    pub(crate) mask: Mask,
    pub(crate) bit: u32,
    pub(crate) sign: Sign,
    pub(crate) site: DrawSite,
    /// The outcome.
    pub(crate) symbol: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) constant: bool,
    /// Coins, conditions and outcomes, by number.
    pub(crate) symbols: Vec<u32>,
}

/// A noise channel and, for each X and Z part of each of its registers, the rows that it flips.
#[derive(Clone, Debug)]
pub(crate) struct NoisePlan {
    pub(crate) channel: Channel,
    pub(crate) flips: Vec<Vec<RowId>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// By row number; `None` for events that nothing writes.
    pub(crate) rows: Vec<Option<Row>>,
    /// Number of symbols: coins, and those that actions compute.
    pub(crate) symbols: u32,
    /// The coins that are read, with the number of their symbol.
    pub(crate) coins: Vec<(DrawSite, u32)>,
    pub(crate) noise: Vec<NoisePlan>,
    pub(crate) columns: Arc<[Column]>,
    pub(crate) registers: u32,
    pub(crate) peak_active: u32,
}

#[derive(Clone, Copy, Debug)]
enum Symbol {
    Coin(DrawSite),
    Computed,
    /// Part of a noise channel: channel and part.
    Noise(u32, u8),
}

/// Why a program has no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unplannable {
    /// The engine refused an instruction.
    Refused(u32, Refusal),
    /// The parities grow too large.
    TooLarge,
}

#[derive(Default)]
struct Planner {
    plan: Plan,
    /// Symbols named so far.
    named: usize,
    /// Qubits of each register.
    active: Vec<u32>,
    symbols: Vec<Symbol>,
    register: u32,
}

impl Planner {
    fn symbol(&mut self, s: Symbol) -> u32 {
        self.symbols.push(s);
        self.symbols.len() as u32 - 1
    }

    /// Computes a row from a parity. Noise symbols are left to their channels, which flip the row.
    fn fill(&mut self, row: RowId, e: &Parity) {
        let mut symbols = Vec::new();
        for s in e.symbols() {
            match self.symbols[s as usize] {
                Symbol::Noise(channel, part) => {
                    self.plan.noise[channel as usize].flips[part as usize].push(row);
                }
                _ => symbols.push(s),
            }
        }
        self.named += e.symbols().count();
        self.plan.rows[row as usize] = Some(Row { constant: e.constant, symbols });
        self.plan.actions.push(Action::Row(row));
    }

    fn row(&mut self, e: &Parity) -> RowId {
        let row = self.plan.rows.len() as RowId;
        self.plan.rows.push(None);
        self.fill(row, e);
        row
    }

    /// A parity as a sign: its constant part, and a row for the rest.
    fn sign(&mut self, e: &Parity) -> (bool, Sign) {
        if e.is_constant() {
            return (e.constant, Sign::Plus);
        }
        (false, Sign::Row(self.row(e)))
    }
}

impl Backend for Planner {
    type Frame = SymbolicFrame;

    fn coin(&mut self, site: DrawSite) -> Parity {
        Parity::symbol(self.symbol(Symbol::Coin(site)))
    }

    fn rotate(&mut self, mut mask: Mask, theta: f64, sign: Parity, cond: Option<&Parity>) {
        let (minus, sign) = self.sign(&sign);
        mask.negative ^= minus;
        let register = self.register;
        if let (Sign::Plus, None) = (sign, cond) {
            if let Some(Action::Rotate { register: r, rotations }) = self.plan.actions.last_mut()
                && *r == register
                && rotations.len() < 16 << MAX_PASSES.saturating_sub(self.active[register as usize] + 4).min(12)
            {
                merge(rotations, mask, theta, false);
            } else {
                self.plan.actions.push(Action::Rotate { register, rotations: vec![(mask, theta)] });
            }
            return;
        }
        let cond = cond.map(|c| self.row(c));
        self.plan.actions.push(Action::RotateEach { register, mask, theta, sign, cond });
    }

    fn push(&mut self, theta: f64, cond: Option<&Parity>) {
        let cond = cond.map(|c| self.row(c));
        self.active[self.register as usize] += 1;
        self.plan.actions.push(Action::Push { register: self.register, theta, cond });
    }

    fn collapse(&mut self, mut mask: Mask, sign: Parity, bit: u32, site: DrawSite) -> Parity {
        let (minus, sign) = self.sign(&sign);
        mask.negative ^= minus;
        let symbol = self.symbol(Symbol::Computed);
        self.active[self.register as usize] -= 1;
        let register = self.register;
        self.plan.actions.push(Action::Collapse(Collapse { register, mask, bit, sign, site, symbol }));
        Parity::symbol(symbol)
    }

    fn invert(into: &mut Parity) {
        into.constant = !into.constant;
    }
}

/// A condition as a parity of events; `None` if it is not one. Adds the words that it reads to `read`.
fn parity_of(terms: &[CondTerm], events: &[Parity], read: &mut usize) -> Option<Parity> {
    let mut stack: Vec<Parity> = Vec::new();
    for term in terms {
        match *term {
            CondTerm::Event(e) => {
                *read += events[e as usize].words();
                stack.push(events[e as usize].clone());
            }
            CondTerm::Not => {
                let top = stack.last_mut()?;
                top.constant = !top.constant;
            }
            CondTerm::Xor(n) | CondTerm::And(n @ 1) | CondTerm::Or(n @ 1) => {
                for _ in 1..n {
                    let top = stack.pop()?;
                    stack.last_mut()?.xor(&top);
                }
            }
            _ => return None,
        }
    }
    stack.pop()
}

/// Whether a condition reads each event.
fn events_read(program: &Program, image: &Image) -> Vec<bool> {
    let mut read = vec![false; image.events as usize];
    for step in &program.steps {
        for term in step.cond.map_or(&[][..], |c| image.cond_terms(c)) {
            if let CondTerm::Event(e) = term {
                read[*e as usize] = true;
            }
        }
    }
    read
}

/// Adds the noise channels of a program, which flip nothing yet. Returns those that flip events, sorted, with their
/// numbers.
fn add_noise(program: &Program, plan: &mut Plan) -> Vec<(Event, u32)> {
    let mut flips: Vec<(Event, u32)> = Vec::new();
    for (i, n) in program.noise.iter().enumerate() {
        let parts = match n.channel {
            Channel::Pauli1 { .. } | Channel::Given { .. } => 2,
            Channel::Pauli2 { .. } => 4,
            Channel::Flip { event, .. } => {
                flips.push((event, i as u32));
                1
            }
        };
        plan.noise.push(NoisePlan { channel: n.channel, flips: vec![Vec::new(); parts] });
    }
    flips.sort_unstable();
    flips
}

/// Plans all shots of a program.
///
/// # Errors
/// If an operation is refused or depends on a condition in a way that differs between shots, or the plan grows too
/// large.
pub(crate) fn plan(program: &Program, image: &Image, max_active: u32) -> Result<Plan, Unplannable> {
    let mut planner = Planner::default();
    planner.plan.rows = vec![None; image.events as usize];
    planner.plan.columns = program.columns.clone();
    planner.plan.registers = program.components.len() as u32;
    planner.active = vec![0; program.components.len()];
    let read = events_read(program, image);
    let flips = add_noise(program, &mut planner.plan);
    let mut frame_states: Vec<FrameState<SymbolicFrame>> = program.frame_states(max_active);
    let mut events = vec![Parity::default(); if read.contains(&true) { image.events as usize } else { 0 }];
    let mut channels = program.noise.iter().enumerate().peekable();
    let largest = program.components.iter().copied().max().unwrap_or(0) as usize;
    for step in &program.steps {
        while let Some((i, n)) = channels.next_if(|(_, n)| n.after < step.at) {
            insert(&mut planner, &mut frame_states, i as u32, n.component, &n.channel);
        }
        let effort = frame_states[step.component as usize].effort();
        if planner.symbols.len() / 64 * largest > MAX_WORDS || planner.named > MAX_SYMBOLS || effort > MAX_EFFORT {
            return Err(Unplannable::TooLarge);
        }
        planner.register = step.component;
        let cond = step.cond.map(|cond| {
            parity_of(image.cond_terms(cond), &events, &mut planner.named).unwrap_or_else(|| {
                let symbol = planner.symbol(Symbol::Computed);
                planner.plan.actions.push(Action::Condition { cond, symbol });
                Parity::symbol(symbol)
            })
        });
        // A condition with the same value in all shots is no condition.
        let cond = match cond {
            Some(c) if c.is_constant() && !c.constant => continue,
            Some(c) if c.is_constant() => None,
            c => c,
        };
        let frame_state = &mut frame_states[step.component as usize];
        let mut outcomes: [Parity; 2] = Default::default();
        let mut count = 0;
        perform_step(frame_state, &step.op, step.at, step.last_use, cond.as_ref(), &mut planner, |e| {
            outcomes[count] = e;
            count += 1;
        })
        .map_err(|e| Unplannable::Refused(step.at, e))?;
        for (event, mut e) in step.op.writes().zip(outcomes) {
            let event: Event = event;
            let first = flips.partition_point(|(other, _)| *other < event);
            for &(_, channel) in flips[first..].iter().take_while(|(other, _)| *other == event) {
                e.xor(&Parity::symbol(planner.symbol(Symbol::Noise(channel, 0))));
            }
            planner.fill(event, &e);
            if read[event as usize] {
                events[event as usize] = e;
            }
        }
    }
    planner.plan.peak_active = frame_states.iter().map(FrameState::peak_active).max().unwrap_or(0);
    Ok(number(planner))
}

/// Applies the errors of a channel to the frame, each where a symbol of its own is 1.
fn insert(
    planner: &mut Planner,
    frame_states: &mut [FrameState<SymbolicFrame>],
    channel: u32,
    component: u32,
    what: &Channel,
) {
    let qubits: &[u32] = match what {
        Channel::Pauli1 { qubit, .. } | Channel::Given { qubit, .. } => std::slice::from_ref(qubit),
        Channel::Pauli2 { qubits, .. } => qubits,
        Channel::Flip { .. } => return,
    };
    for (i, &q) in qubits.iter().enumerate() {
        for (j, p) in [Pauli::X, Pauli::Z].into_iter().enumerate() {
            let symbol = planner.symbol(Symbol::Noise(channel, (2 * i + j) as u8));
            frame_states[component as usize].apply_pauli(&[(p, q as usize)], &Parity::symbol(symbol));
        }
    }
}

/// Numbers the symbols that are read, and drops the others.
fn number(planner: Planner) -> Plan {
    let Planner { mut plan, symbols, .. } = planner;
    const UNUSED: u32 = u32::MAX;
    let mut name = vec![UNUSED; symbols.len()];
    let mut next = 0;
    let mut give = |s: u32| {
        let n = &mut name[s as usize];
        if *n == UNUSED {
            *n = next;
            next += 1;
            if let Symbol::Coin(site) = symbols[s as usize] {
                plan.coins.push((site, *n));
            }
        }
        *n
    };
    for row in plan.rows.iter_mut().flatten() {
        row.symbols.iter_mut().for_each(|s| *s = give(*s));
    }
    for action in &mut plan.actions {
        if let Action::Condition { symbol, .. } | Action::Collapse(Collapse { symbol, .. }) = action {
            *symbol = give(*symbol);
        }
    }
    plan.symbols = next;
    plan
}

//! When the instructions of an image run if the machine is short of nothing: each begins as soon as possible.
//!
//! Profiles, progress, the noise of patches, estimates and the ranks of the scheduler all come from this one walk, so
//! its rules stand here and nowhere else. An instruction begins when
//!
//! * all its registers are free,
//! * all events that its condition reads are known,
//! * everything before the last fence has ended, and
//! * if it allocates, a patch is there ([`Patches`]).
//!
//! Seen from the end of the program the same rules hold with the roles of first and second exchanged. That gives the
//! heights by which instructions are ranked: [`Image::heights`].

use super::condition::{Cond, CondTerm};
use super::op::{Op, Qubit};
use super::patches::Patches;
use super::program::{Image, Instr};
use alloc::vec;
use alloc::vec::Vec;

/// When an instruction runs, in logical cycles from the start of the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Cycle in which it begins.
    pub start: u32,
    /// Cycle in which its operands are free again and its events known.
    pub end: u32,
}

/// What a machine says of an operation, of which a schedule reads the time.
pub trait Timed {
    /// Logical cycles from the start of the operation until its operands are free again.
    fn cycles(&self) -> u32;
}

impl Timed for u32 {
    #[inline]
    fn cycles(&self) -> u32 {
        *self
    }
}

impl Image {
    /// Walks through the as-soon-as-possible schedule in program order: `visit` gets each instruction with its index,
    /// its span and what `cost` says of its operation. With `u32::MAX` patches, no allocation waits for one. Returns
    /// the length of the critical path in cycles.
    ///
    /// Times saturate. Registers and events that are out of range are passed over, for an image need not be admitted.
    ///
    /// ```
    /// use qmk_abi::image::{Clifford1, Clifford2, Image, Instr, Op, Span};
    ///
    /// let code = [Op::Clifford1(Clifford1::H, 0), Op::Clifford2(Clifford2::Cnot, 0, 1)];
    /// let code = code.map(|op| Instr { op, cond: None }).to_vec();
    /// let image = Image { qubits: 2, code, ..Image::default() };
    /// // Both take two cycles, and the second waits for the register of the first.
    /// let mut spans = Vec::new();
    /// image.schedule(image.peak_qubits(), |_| 2, |_, _, span, _| spans.push(span));
    /// assert_eq!(spans, [Span { start: 0, end: 2 }, Span { start: 2, end: 4 }]);
    /// ```
    #[inline]
    pub fn schedule<C: Timed>(
        &self,
        patches: u32,
        cost: impl Fn(&Op) -> C,
        visit: impl FnMut(u32, &Instr, Span, C),
    ) -> u32 {
        walk(self, Direction::Forward, patches, cost, visit)
    }

    /// Length of the critical path in cycles, on a machine that gives the image this many patches: no schedule of one
    /// shot is shorter.
    pub fn critical_path(&self, patches: u32, cycles: impl Fn(&Op) -> u32) -> u32 {
        self.schedule(patches, cycles, |_, _, _, _| ())
    }

    /// Height of each instruction: cycles of the longest path from its start to the end of the program.
    pub fn heights(&self, patches: u32, cycles: impl Fn(&Op) -> u32) -> Vec<u32> {
        let balance = |op: &Op| i64::from(matches!(op, Op::Alloc(_))) - i64::from(matches!(op, Op::Free(_)));
        let kept: i64 = self.code.iter().map(|instr| balance(&instr.op)).sum();
        // Seen from the end, the first frees give patches that no later allocation takes.
        let unused = (i64::from(patches) - kept).clamp(0, u32::MAX.into()) as u32;
        let mut heights = vec![0; self.code.len()];
        walk(self, Direction::Backward, unused, cycles, |at, _, span, _| {
            if let Some(height) = heights.get_mut(at as usize) {
                *height = span.end;
            }
        });
        heights
    }
}

/// Which end of the program a walk begins at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Goes through the instructions from one end of the program to the other.
///
/// The kinds that programs are full of are told apart once, and the rules compiled for each. Kinds come in no order
/// that a processor foresees, so each further jump on the kind takes as long as the rules themselves.
#[inline(always)]
fn walk<C: Timed>(
    image: &Image,
    direction: Direction,
    patches: u32,
    cost: impl Fn(&Op) -> C,
    mut visit: impl FnMut(u32, &Instr, Span, C),
) -> u32 {
    let mut times = Times {
        image,
        direction,
        registers: vec![0; image.qubits as usize],
        events: vec![0; image.events as usize],
        patches: Patches::new(patches),
        fence: 0,
        last: 0,
    };
    let count = image.code.len();
    for i in 0..count {
        let at = if direction == Direction::Forward { i } else { count - 1 - i };
        let Some(instr) = image.code.get(at) else { continue };
        let (span, cost) = match (instr.op, instr.cond) {
            (op @ Op::Clifford1(_, q), cond) => times.place(&op, cond, [q], &cost),
            (op @ Op::Clifford2(_, a, b), cond) => times.place(&op, cond, [a, b], &cost),
            (op @ Op::Measure(_, q, _), cond) => times.place(&op, cond, [q], &cost),
            (op @ (Op::Alloc(q) | Op::Free(q)), cond) => times.place(&op, cond, [q], &cost),
            (op, cond) => match op.operands() {
                (_, 0) => times.place(&op, cond, [], &cost),
                ([a, ..], 1) => times.place(&op, cond, [a], &cost),
                ([a, b, _], 2) => times.place(&op, cond, [a, b], &cost),
                (operands, _) => times.place(&op, cond, operands, &cost),
            },
        };
        visit(at as u32, instr, span, cost);
    }
    times.last
}

/// Cycles that instructions wait for.
struct Times<'a> {
    image: &'a Image,
    direction: Direction,
    /// From which on each register is free.
    registers: Vec<u32>,
    /// From which on each event is known.
    events: Vec<u32>,
    /// From which on each patch is free.
    patches: Patches<u32>,
    /// In which everything before the last fence has ended.
    fence: u32,
    /// In which everything so far has ended.
    last: u32,
}

impl Times<'_> {
    /// The rules, for an operation on N registers. Backward, the roles are exchanged: an event is awaited by its writer
    /// and provided by its readers, and a free waits for the allocation that takes its patch.
    #[inline(always)]
    fn place<const N: usize, C: Timed>(
        &mut self,
        op: &Op,
        cond: Option<Cond>,
        operands: [Qubit; N],
        cost: &impl Fn(&Op) -> C,
    ) -> (Span, C) {
        let forward = self.direction == Direction::Forward;
        let allocates = N == 1 && matches!(op, Op::Alloc(_));
        let frees = N == 1 && matches!(op, Op::Free(_));
        let (takes, gives) = if forward { (allocates, frees) } else { (frees, allocates) };
        if N == 0 && *op == Op::Fence {
            self.fence = self.last;
        }
        let mut start = latest(&self.registers, (operands, N), self.fence);
        if takes {
            start = start.max(self.patches.take().unwrap_or(0));
        }
        let reads = cond.map(|cond| self.image.cond_terms(cond));
        if !forward {
            start = latest(&self.events, op.results(), start);
        } else if let Some(terms) = reads {
            each_event(terms, |e| start = latest(&self.events, ([e], 1), start));
        }
        let cost = cost(op);
        let end = start.saturating_add(cost.cycles());
        postpone(&mut self.registers, (operands, N), end);
        if forward {
            postpone(&mut self.events, op.results(), end);
        } else if let Some(terms) = reads {
            each_event(terms, |e| postpone(&mut self.events, ([e], 1), end));
        }
        if gives {
            self.patches.give(end);
        }
        self.last = self.last.max(end);
        (Span { start, end }, cost)
    }
}

/// The latest of `from` and the times at the first `count` indices.
#[inline(always)]
fn latest<const N: usize>(times: &[u32], (indices, count): ([u32; N], usize), from: u32) -> u32 {
    let mut latest = from;
    for (i, index) in indices.into_iter().enumerate() {
        if i < count {
            latest = latest.max(times.get(index as usize).copied().unwrap_or(0));
        }
    }
    latest
}

/// Sets the times at the first `count` indices to one that is later.
#[inline(always)]
fn postpone<const N: usize>(times: &mut [u32], (indices, count): ([u32; N], usize), to: u32) {
    for (i, index) in indices.into_iter().enumerate() {
        if i < count
            && let Some(time) = times.get_mut(index as usize)
        {
            *time = to.max(*time);
        }
    }
}

fn each_event(terms: &[CondTerm], mut visit: impl FnMut(u32)) {
    for term in terms {
        if let CondTerm::Event(e) = *term {
            visit(e);
        }
    }
}

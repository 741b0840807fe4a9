//! What an admitted image takes of the machine, found once.

use crate::image::admit::Admitted;
use crate::limits::MAX_ISSUES;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use qmk_abi::image::{CondTerm, Op, Patches};
use qmk_hal::Cost;

/// Cycles of a program for each of its instructions, beyond which it is not known what it does in each.
const MAX_CYCLES_PER_INSTRUCTION: usize = 4;

/// What an image takes on patches of some kind.
#[derive(Clone, Debug)]
pub(crate) struct ImageProfile {
    /// Magic states of one shot.
    pub(crate) magic: u64,
    /// Most that one instruction takes at once, and that instruction.
    pub(crate) most_magic: (u32, u32),
    pub(crate) most_routes: (u32, u32),
    /// Cycles of its longest path.
    pub(crate) path: u32,
    /// What it does where nothing is short, if that is known.
    pub(crate) free_schedule: Option<FreeSchedule>,
    /// Made when first asked for.
    pub(crate) heights: Option<Arc<Vec<u32>>>,
}

/// A run in which each instruction is issued as soon as those that it depends on are over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreeSchedule {
    /// Cycles in which something is issued, and the last of these.
    pub(crate) cycles: u32,
    pub(crate) last: u32,
    /// Routes taken, for as many epochs as they are.
    pub(crate) route_epochs: u64,
}

impl ImageProfile {
    /// One pass over an admitted image.
    pub(crate) fn new(admitted: &Admitted, cost: impl Fn(&Op) -> Cost) -> Self {
        let program = &*admitted.image;
        // When patches come free.
        let mut patches = Patches::new(admitted.peak_qubits);
        let mut found = ImageProfile {
            magic: 0,
            most_magic: (0, 0),
            most_routes: (0, 0),
            path: 0,
            free_schedule: None,
            heights: None,
        };
        // When registers are free, events known and all before the last fence done.
        let (mut free, mut known, mut fence) =
            (vec![0u32; program.qubits as usize], vec![0u32; program.events as usize], 0);
        // How many instructions start in each cycle, as long as the cycles are not many more than the instructions.
        let mut starting: Vec<u32> = Vec::new();
        let (mut simple, mut route_epochs) = (true, 0);
        for (at, instr) in program.code.iter().enumerate() {
            let (start, end, took);
            // Most of most programs comes first, in short.
            match (&instr.op, instr.cond) {
                (op @ &Op::Clifford1(_, q), None) => {
                    let Some(free) = free.get_mut(q as usize) else { continue };
                    took = cost(op);
                    start = fence.max(*free);
                    end = start.saturating_add(took.cycles);
                    *free = end;
                }
                (op @ &(Op::Alloc(q) | Op::Free(q)), None) => {
                    let Some(free) = free.get_mut(q as usize) else { continue };
                    took = cost(op);
                    let taken = if matches!(op, Op::Alloc(_)) { patches.take() } else { None };
                    start = fence.max(*free).max(taken.unwrap_or(0));
                    end = start.saturating_add(took.cycles);
                    *free = end;
                    if matches!(op, Op::Free(_)) {
                        patches.give(end);
                    }
                }
                (op @ &Op::Clifford2(_, a, b), None) => {
                    let when = |q: u32| free.get(q as usize).copied().unwrap_or(0);
                    took = cost(op);
                    start = fence.max(when(a)).max(when(b));
                    end = start.saturating_add(took.cycles);
                    free.get_mut(a as usize).into_iter().for_each(|t| *t = end);
                    free.get_mut(b as usize).into_iter().for_each(|t| *t = end);
                }
                (op @ &Op::Measure(_, q, e), None) => {
                    let (Some(free), Some(known)) = (free.get_mut(q as usize), known.get_mut(e as usize)) else {
                        continue;
                    };
                    took = cost(op);
                    start = fence.max(*free);
                    end = start.saturating_add(took.cycles);
                    (*free, *known) = (end, end);
                }
                (op, cond) => {
                    if *op == Op::Fence {
                        fence = found.path;
                    }
                    let (operands, count) = op.operands();
                    let mut from = fence;
                    for &q in operands.iter().take(count) {
                        from = from.max(free.get(q as usize).copied().unwrap_or(0));
                    }
                    for term in cond.map_or(&[][..], |c| program.cond_terms(c)) {
                        if let CondTerm::Event(e) = *term {
                            from = from.max(known.get(e as usize).copied().unwrap_or(0));
                        }
                    }
                    took = cost(op);
                    (start, end) = (from, from.saturating_add(took.cycles));
                    for &q in operands.iter().take(count) {
                        free.get_mut(q as usize).into_iter().for_each(|t| *t = end);
                    }
                    let (results, count) = op.results();
                    for &e in results.iter().take(count) {
                        known.get_mut(e as usize).into_iter().for_each(|t| *t = end);
                    }
                }
            }
            found.path = found.path.max(end);
            if took.magic > 0 {
                found.magic += took.magic as u64;
                found.most_magic = found.most_magic.max((took.magic, at as u32));
            }
            if took.routes > 0 {
                route_epochs += took.routes as u64 * took.cycles as u64;
                found.most_routes = found.most_routes.max((took.routes, at as u32));
                // Each operand is on a patch of its own.
                simple &= took.cycles > 0 && (took.routes == 1 || took.routes as usize <= instr.op.operands().1);
            }
            if starting.len() <= start as usize {
                simple &= start as usize <= MAX_CYCLES_PER_INSTRUCTION * program.code.len();
                starting.resize(if simple { start as usize + 1 } else { 0 }, 0);
            }
            starting.get_mut(start as usize).into_iter().for_each(|n| *n += 1);
        }
        if simple && found.magic == 0 && starting.iter().all(|&n| n <= MAX_ISSUES) {
            let cycles = starting.iter().filter(|&&n| n > 0).count() as u32;
            found.free_schedule =
                Some(FreeSchedule { cycles, last: (starting.len() as u32).saturating_sub(1), route_epochs });
        }
        found
    }

    /// An instruction that takes more at once than a region with these routes and this buffer ever has.
    pub(crate) fn unaffordable(&self, routes: u32, buffer: u32) -> Option<u32> {
        let magic = (self.most_magic.0 > buffer).then_some(self.most_magic.1);
        magic.or_else(|| (self.most_routes.0 > routes).then_some(self.most_routes.1))
    }
}

//! What an admitted image takes of the machine. Found in one pass, when the image is first run on patches of a kind.

use crate::image::admit::Admitted;
use crate::limits::MAX_ISSUES;
use alloc::sync::Arc;
use alloc::vec::Vec;
use qmk_abi::image::Op;
use qmk_hal::Cost;

/// Cycles per instruction beyond which instructions are not counted by cycle, so that the counts take memory in
/// proportion to the image.
const MAX_CYCLES_PER_INSTRUCTION: usize = 4;

/// What an image takes on patches of one kind.
#[derive(Clone, Debug)]
pub(crate) struct ImageProfile {
    /// Magic states of one shot.
    pub(crate) magic: u64,
    /// Most magic states that one instruction takes at once, and the index of that instruction.
    pub(crate) most_magic: (u32, u32),
    /// Most routes that one instruction takes at once, and the index of that instruction.
    pub(crate) most_routes: (u32, u32),
    /// Cycles of the critical path.
    pub(crate) path: u32,
    /// The run where nothing is short. `None` if something may be.
    pub(crate) free_schedule: Option<FreeSchedule>,
    /// Height of each instruction. Made when the scheduler first ranks the image.
    pub(crate) heights: Option<Arc<Vec<u32>>>,
}

/// A run in which each instruction is issued as soon as those that it depends on have ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreeSchedule {
    /// Cycles in which something is issued.
    pub(crate) cycles: u32,
    /// The last cycle in which something is issued.
    pub(crate) last: u32,
    /// Routes in use, summed over all cycles.
    pub(crate) route_epochs: u64,
}

impl ImageProfile {
    /// Of an admitted image, in one pass.
    pub(crate) fn new(admitted: &Admitted, cost: impl Fn(&Op) -> Cost) -> Self {
        let image = &*admitted.image;
        let (mut magic, mut most_magic, mut most_routes) = (0u64, (0, 0), (0, 0));
        // How many instructions start in each cycle.
        let mut starting: Vec<u32> = Vec::new();
        let (mut unhindered, mut route_epochs) = (true, 0u64);
        let path = image.schedule(admitted.peak_qubits, cost, |at, instr, span, cost| {
            let start = span.start as usize;
            if cost.magic > 0 {
                magic += u64::from(cost.magic);
                most_magic = most_magic.max((cost.magic, at));
            }
            if cost.routes > 0 {
                route_epochs += u64::from(cost.routes) * u64::from(cost.cycles);
                most_routes = most_routes.max((cost.routes, at));
                // Where no instruction takes more routes than it has operands, no more are in use than patches.
                unhindered &= cost.cycles > 0 && (cost.routes == 1 || cost.routes as usize <= instr.op.operands().1);
            }
            if starting.len() <= start {
                unhindered &= start <= MAX_CYCLES_PER_INSTRUCTION * image.code.len();
                starting.resize(if unhindered { start + 1 } else { 0 }, 0);
            }
            if let Some(count) = starting.get_mut(start) {
                *count += 1;
            }
        });
        let issued_at_once = starting.iter().copied().max().unwrap_or(0);
        let free_schedule = (unhindered && magic == 0 && issued_at_once <= MAX_ISSUES).then(|| FreeSchedule {
            cycles: starting.iter().filter(|&&count| count > 0).count() as u32,
            last: (starting.len() as u32).saturating_sub(1),
            route_epochs,
        });
        ImageProfile { magic, most_magic, most_routes, path, free_schedule, heights: None }
    }

    /// An instruction that takes more at once than a region with these routes and this buffer ever has.
    pub(crate) fn unaffordable(&self, routes: u32, buffer: u32) -> Option<u32> {
        let magic = (self.most_magic.0 > buffer).then_some(self.most_magic.1);
        magic.or_else(|| (self.most_routes.0 > routes).then_some(self.most_routes.1))
    }
}

//! A part of the machine: its resources from epoch to epoch, and what of them is promised.

use crate::limits::{MAX_ISSUES, PATCH};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_hal::Cost;

/// Epochs of the whole region that may be promised at once, and the same in halves of an epoch: for each epoch that passes
/// half an epoch may be promised again, so that the other half is left to strands without deadlines.
const PROMISES: u64 = 2 * MAX_PROMISED;
const MAX_PROMISED: u64 = 4096;
const UNIT: u64 = 1 << 16;

/// A strand that runs or drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Running {
    pub(crate) context: u32,
    pub(crate) priority: Reverse<i32>,
    /// Its longest path.
    pub(crate) path: Reverse<u32>,
    pub(crate) arrival: u64,
    pub(crate) id: u32,
    /// Decoding of its patches.
    pub(crate) load: u64,
}

/// What one epoch to come has promised to strands with deadlines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Promise {
    pub(crate) magic: u32,
    pub(crate) routes: u32,
    /// Magic states that must be left after the epoch, so that later promises are kept.
    pub(crate) keep: u32,
}

#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) qubits: u32,
    pub(crate) free: u32,
    /// Those that domains hold one by one.
    pub(crate) lent: u32,
    pub(crate) routes: u32,
    /// Magic states that come in an epoch, that can be kept, and that there are.
    pub(crate) rate: u32,
    pub(crate) buffer: u32,
    pub(crate) stock: u32,
    /// Magic states that a strand was refused in the last epoch, and that are being saved up for it.
    saved: u32,
    /// Patches decoded in an epoch, and thousandths of patches and epochs that are not decoded yet.
    pub(crate) decoded: u32,
    pub(crate) backlog: u64,
    /// Routes taken by operations under way, and how many come back in the epochs to come, the next one first.
    pub(crate) taken: u32,
    pub(crate) releases: VecDeque<u32>,
    /// Promises of the epochs to come, the next one first.
    pub(crate) promises: VecDeque<Promise>,
    /// The rate by which it was worked out what must be kept for them.
    kept_by: u32,
    /// What may still be promised, in parts of [`UNIT`] of half an epoch.
    promisable: u64,
    /// Strands that have not started, in order of arrival.
    pub(crate) waiting: Vec<u32>,
    /// Strands that have started and not ended, sorted.
    pub(crate) running: Vec<Running>,
    /// Whether a waiting strand may have come to fit.
    pub(crate) changed: bool,
}

/// What can still be had in the epoch under way.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) now: u64,
    pub(crate) issued: u32,
    /// Instructions that may still be issued, so that an epoch takes bounded time.
    left: u32,
    /// Magic states that are not promised, and those spent.
    magic: u32,
    pub(crate) spent: u32,
    routes: u32,
    /// Routes taken, times the epochs for which they are.
    pub(crate) route_epochs: u64,
    /// What was refused to one is refused to all after it, so that what is short is saved up for whoever is first.
    pub(crate) magic_open: bool,
    refused: u32,
    pub(crate) routes_open: bool,
    /// Epochs by which decoding is late.
    lag: u32,
    releases: VecDeque<u32>,
    /// Most routes promised within so many epochs from now.
    promised: Vec<u32>,
}

impl Open {
    /// Takes what an operation needs beyond time, if it can be had.
    #[inline]
    pub(crate) fn take(&mut self, cost: Cost) -> bool {
        if self.left == 0 {
            return false;
        }
        if cost.magic == 0 && cost.routes == 0 {
            self.left -= 1;
            return true;
        }
        if cost.magic > 0 && (!self.magic_open || cost.magic > self.magic) {
            if self.magic_open {
                self.refused = cost.magic;
            }
            self.magic_open = false;
            return false;
        }
        if cost.routes > 0 {
            let promised = self.promised.get(cost.cycles as usize).or(self.promised.last()).copied().unwrap_or(0);
            if !self.routes_open || cost.routes.saturating_add(promised) > self.routes {
                self.routes_open = false;
                return false;
            }
            self.routes -= cost.routes;
            let cycles = cost.cycles.max(1) as usize;
            if self.releases.len() < cycles {
                self.releases.resize(cycles, 0);
            }
            if let Some(due) = self.releases.get_mut(cycles - 1) {
                *due += cost.routes;
            }
            self.route_epochs += cost.routes as u64 * cycles as u64;
        }
        self.magic -= cost.magic;
        self.spent += cost.magic;
        self.left -= 1;
        true
    }

    /// Whether nothing more may be issued at all.
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Takes up to so many magic states.
    pub(crate) fn take_magic(&mut self, most: u64) -> u64 {
        let taken = if self.magic_open { most.min(self.magic as u64) as u32 } else { 0 };
        self.magic -= taken;
        self.spent += taken;
        self.magic_open &= taken as u64 == most;
        taken as u64
    }

    /// Epochs until an operation is over. What waits for the decoder takes longer when that is late: outcomes, and the
    /// correction of an injected magic state.
    #[inline]
    pub(crate) fn cycles(&self, cost: Cost, has_outcome: impl Fn() -> bool) -> usize {
        let late = if self.lag > 0 && (cost.magic > 0 || has_outcome()) { self.lag } else { 0 };
        (cost.cycles + late) as usize
    }
}

impl Region {
    pub(crate) fn new(qubits: u32, routes: u32, rate: u32, buffer: u32, decoded: u32) -> Self {
        Region {
            qubits,
            free: qubits,
            lent: 0,
            routes,
            rate,
            buffer,
            stock: 0,
            saved: 0,
            decoded,
            backlog: 0,
            taken: 0,
            releases: VecDeque::new(),
            promises: VecDeque::new(),
            kept_by: rate,
            promisable: PROMISES * UNIT,
            waiting: Vec::new(),
            running: Vec::new(),
            changed: false,
        }
    }

    /// Whether `more` qubits can come into use: they must be free, and while promises are out, decoding must not fall behind.
    pub(crate) fn has_room(&self, more: u32, load: u64) -> bool {
        more <= self.free && (self.promises.is_empty() || self.keeps_up_with(load))
    }

    /// Whether the decoders work off so much more as it comes.
    pub(crate) fn keeps_up_with(&self, load: u64) -> bool {
        self.load() + load <= self.throughput()
    }

    /// What the decoders get in an epoch, and what they work off, in thousandths of a patch.
    fn load(&self) -> u64 {
        self.running.iter().map(|r| r.load).sum::<u64>() + self.lent as u64 * PATCH
    }

    fn throughput(&self) -> u64 {
        self.decoded as u64 * PATCH
    }

    /// Magic states that no promise needs and no strand waits for.
    pub(crate) fn spare_magic(&self) -> u32 {
        let keep = self.promises.front().map_or(0, |p| (p.keep + p.magic).saturating_sub(self.rate));
        self.stock.saturating_sub(keep).saturating_sub(self.saved)
    }

    /// What comes in with these epochs: magic states, and what may be promised.
    fn refill(&mut self, epochs: u64) {
        let grown = |from: u64, by: u64, most: u64| from.saturating_add(epochs.saturating_mul(by)).min(most);
        self.stock = grown(self.stock as u64, self.rate as u64, self.buffer as u64) as u32;
        self.promisable = grown(self.promisable, UNIT, PROMISES * UNIT);
    }

    pub(crate) fn begin_epoch(&mut self, now: u64) -> Open {
        self.refill(1);
        self.taken -= self.releases.pop_front().unwrap_or(0);
        // Beyond the longest delay there is, nothing more is remembered.
        let most = self.throughput() * Cost::MAX_CYCLES as u64;
        self.backlog = (self.backlog + self.load()).saturating_sub(self.throughput()).min(most);
        let late = self.backlog.div_ceil(self.throughput().max(PATCH));
        let mut promised = Vec::new();
        if !self.promises.is_empty() {
            let mut most = 0;
            promised.push(0);
            promised.extend(self.promises.iter().take(Cost::MAX_CYCLES as usize).map(|p| {
                most = most.max(p.routes);
                most
            }));
        }
        let promise = self.promises.pop_front().unwrap_or_default();
        self.stock = self.stock.saturating_sub(promise.magic);
        Open {
            now,
            issued: 0,
            magic: self.stock.saturating_sub(promise.keep),
            spent: 0,
            routes: self.routes - self.taken,
            route_epochs: 0,
            magic_open: true,
            refused: 0,
            left: MAX_ISSUES,
            routes_open: true,
            lag: late.min(Cost::MAX_CYCLES as u64) as u32,
            releases: core::mem::take(&mut self.releases),
            promised,
        }
    }

    /// Whether nothing is under way or owed, so that an epoch without magic states is like any other.
    pub(crate) fn is_calm(&self) -> bool {
        self.taken == 0 && self.backlog == 0 && self.promises.is_empty() && self.keeps_up_with(0)
    }

    /// Passes epochs in which it is calm at the beginning and at the end, and gives no magic states.
    pub(crate) fn pass(&mut self, epochs: u64) {
        self.refill(epochs);
        self.releases.clear();
        self.saved = 0;
    }

    pub(crate) fn end_epoch(&mut self, open: Open) {
        self.stock -= open.spent;
        self.saved = open.refused;
        self.taken = self.routes - open.routes;
        self.releases = open.releases;
    }

    /// How much of what may be promised these promises are.
    fn volume(&self, promises: &[Promise]) -> u64 {
        let sum = |f: fn(&Promise) -> u32| promises.iter().map(|p| f(p) as u64).sum::<u64>();
        let part = |used: u64, whole: u32| used.saturating_mul(2 * UNIT) / whole.max(1) as u64;
        part(sum(|p| p.magic), self.rate).max(part(sum(|p| p.routes), self.routes))
    }

    pub(crate) fn may_promise(&self, promises: &[Promise]) -> bool {
        self.volume(promises) <= self.promisable
    }

    /// Counts promises that are being made. Taking them back does not make up for it.
    pub(crate) fn count_promises(&mut self, promises: &[Promise]) {
        self.promisable = self.promisable.saturating_sub(self.volume(promises));
    }

    /// Adds promises, or takes them back; works out what must be kept for them.
    pub(crate) fn promise(&mut self, promises: impl ExactSizeIterator<Item = Promise>, keep: bool) {
        // Most strands promise nothing, and promises reach far.
        if promises.len() == 0 && self.kept_by == self.rate {
            return;
        }
        if keep && self.promises.len() < promises.len() {
            self.promises.resize(promises.len(), Promise::default());
        }
        for (all, one) in self.promises.iter_mut().zip(promises) {
            if keep {
                all.magic += one.magic;
                all.routes += one.routes;
            } else {
                all.magic = all.magic.saturating_sub(one.magic);
                all.routes = all.routes.saturating_sub(one.routes);
            }
        }
        while self.promises.back().is_some_and(|p| p.magic == 0 && p.routes == 0) {
            self.promises.pop_back();
        }
        self.kept_by = self.rate;
        let mut keep = 0u32;
        for promise in self.promises.iter_mut().rev() {
            promise.keep = keep;
            keep = (keep + promise.magic).saturating_sub(self.rate);
        }
    }

    /// Strands that have not ended.
    pub(crate) fn strands(&self) -> Vec<u32> {
        self.running.iter().map(|r| r.id).chain(self.waiting.iter().copied()).collect()
    }

    pub(crate) fn enter(&mut self, running: Running) {
        let at = self.running.partition_point(|r| *r < running);
        self.running.insert(at, running);
    }
}

//! A part of the machine: its resources from epoch to epoch, and what of them is promised.

use crate::limits::{MAX_ISSUES, PATCH};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_hal::Cost;

/// Epochs of the whole region that may be promised at once, and the same in halves of an epoch: for each epoch that passes
/// half an epoch may be promised again, so that the other half is left to strands without deadlines.
const MAX_RESERVABLE: u64 = 2 * MAX_RESERVED_EPOCHS;
const MAX_RESERVED_EPOCHS: u64 = 4096;
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
pub(crate) struct Reservation {
    pub(crate) magic: u32,
    pub(crate) routes: u32,
    /// Magic states that must be left after the epoch, so that later promises are kept.
    pub(crate) keep: u32,
}

#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) qubits: u32,
    pub(crate) free_qubits: u32,
    /// Those that domains hold one by one.
    pub(crate) interactive: u32,
    pub(crate) routes: u32,
    /// Magic states that come in an epoch, that can be kept, and that there are.
    pub(crate) magic_rate: u32,
    pub(crate) magic_buffer: u32,
    pub(crate) magic_stock: u32,
    /// Magic states that a strand was refused in the last epoch, and that are being saved up for it.
    magic_reserved: u32,
    /// Patches decoded in an epoch, and thousandths of patches and epochs that are not decoded yet.
    pub(crate) decoder_rate: u32,
    pub(crate) decoder_backlog: u64,
    /// Routes taken by operations under way, and how many come back in the epochs to come, the next one first.
    pub(crate) routes_in_use: u32,
    pub(crate) route_releases: VecDeque<u32>,
    /// Promises of the epochs to come, the next one first.
    pub(crate) reservations: VecDeque<Reservation>,
    /// The rate by which it was worked out what must be kept for them.
    keep_rate: u32,
    /// What may still be promised, in parts of [`UNIT`] of half an epoch.
    reservable: u64,
    /// Strands that have not started, in order of arrival.
    pub(crate) waiting: Vec<u32>,
    /// Strands that have started and not ended, sorted.
    pub(crate) running: Vec<Running>,
    /// Whether a waiting strand may have come to fit.
    pub(crate) recheck_waiting: bool,
}

/// What can still be had in the epoch under way.
#[derive(Debug)]
pub(crate) struct EpochBudget {
    pub(crate) now: u64,
    pub(crate) issued: u32,
    /// Instructions that may still be issued, so that an epoch takes bounded time.
    issues_left: u32,
    /// Magic states that are not promised, and those spent.
    magic_left: u32,
    pub(crate) magic_spent: u32,
    routes_left: u32,
    /// Routes taken, times the epochs for which they are.
    pub(crate) route_epochs: u64,
    /// What was refused to one is refused to all after it, so that what is short is saved up for whoever is first.
    pub(crate) magic_open: bool,
    magic_refused: u32,
    pub(crate) routes_open: bool,
    /// Epochs by which decoding is late.
    decoder_lag: u32,
    route_releases: VecDeque<u32>,
    /// Most routes promised within so many epochs from now.
    routes_reserved: Vec<u32>,
}

impl EpochBudget {
    /// Takes what an operation needs beyond time, if it can be had.
    #[inline]
    pub(crate) fn take(&mut self, cost: Cost) -> bool {
        if self.issues_left == 0 {
            return false;
        }
        if cost.magic == 0 && cost.routes == 0 {
            self.issues_left -= 1;
            return true;
        }
        if cost.magic > 0 && (!self.magic_open || cost.magic > self.magic_left) {
            if self.magic_open {
                self.magic_refused = cost.magic;
            }
            self.magic_open = false;
            return false;
        }
        if cost.routes > 0 {
            let reserved =
                self.routes_reserved.get(cost.cycles as usize).or(self.routes_reserved.last()).copied().unwrap_or(0);
            if !self.routes_open || cost.routes.saturating_add(reserved) > self.routes_left {
                self.routes_open = false;
                return false;
            }
            self.routes_left -= cost.routes;
            let cycles = cost.cycles.max(1) as usize;
            if self.route_releases.len() < cycles {
                self.route_releases.resize(cycles, 0);
            }
            if let Some(due) = self.route_releases.get_mut(cycles - 1) {
                *due += cost.routes;
            }
            self.route_epochs += cost.routes as u64 * cycles as u64;
        }
        self.magic_left -= cost.magic;
        self.magic_spent += cost.magic;
        self.issues_left -= 1;
        true
    }

    /// Whether nothing more may be issued at all.
    pub(crate) fn is_over(&self) -> bool {
        self.issues_left == 0
    }

    /// Takes up to so many magic states.
    pub(crate) fn take_magic(&mut self, most: u64) -> u64 {
        let taken = if self.magic_open { most.min(self.magic_left as u64) as u32 } else { 0 };
        self.magic_left -= taken;
        self.magic_spent += taken;
        self.magic_open &= taken as u64 == most;
        taken as u64
    }

    /// Epochs until an operation is over. What waits for the decoder takes longer when that is late: outcomes, and the
    /// correction of an injected magic state.
    #[inline]
    pub(crate) fn cycles(&self, cost: Cost, has_outcome: impl Fn() -> bool) -> usize {
        let late = if self.decoder_lag > 0 && (cost.magic > 0 || has_outcome()) { self.decoder_lag } else { 0 };
        (cost.cycles + late) as usize
    }
}

impl Region {
    pub(crate) fn new(qubits: u32, routes: u32, magic_rate: u32, magic_buffer: u32, decoder_rate: u32) -> Self {
        Region {
            qubits,
            free_qubits: qubits,
            interactive: 0,
            routes,
            magic_rate,
            magic_buffer,
            magic_stock: 0,
            magic_reserved: 0,
            decoder_rate,
            decoder_backlog: 0,
            routes_in_use: 0,
            route_releases: VecDeque::new(),
            reservations: VecDeque::new(),
            keep_rate: magic_rate,
            reservable: MAX_RESERVABLE * UNIT,
            waiting: Vec::new(),
            running: Vec::new(),
            recheck_waiting: false,
        }
    }

    /// Whether `more` qubits can come into use: they must be free, and while promises are out, decoding must not fall behind.
    pub(crate) fn has_room(&self, more: u32, load: u64) -> bool {
        more <= self.free_qubits && (self.reservations.is_empty() || self.keeps_up_with(load))
    }

    /// Whether the decoders work off so much more as it comes.
    pub(crate) fn keeps_up_with(&self, load: u64) -> bool {
        self.load() + load <= self.throughput()
    }

    /// What the decoders get in an epoch, and what they work off, in thousandths of a patch.
    fn load(&self) -> u64 {
        self.running.iter().map(|r| r.load).sum::<u64>() + self.interactive as u64 * PATCH
    }

    fn throughput(&self) -> u64 {
        self.decoder_rate as u64 * PATCH
    }

    /// Magic states that no promise needs and no strand waits for.
    pub(crate) fn spare_magic(&self) -> u32 {
        let keep = self.reservations.front().map_or(0, |p| (p.keep + p.magic).saturating_sub(self.magic_rate));
        self.magic_stock.saturating_sub(keep).saturating_sub(self.magic_reserved)
    }

    /// What comes in with these epochs: magic states, and what may be promised.
    fn refill(&mut self, epochs: u64) {
        let grown = |from: u64, by: u64, most: u64| from.saturating_add(epochs.saturating_mul(by)).min(most);
        self.magic_stock = grown(self.magic_stock as u64, self.magic_rate as u64, self.magic_buffer as u64) as u32;
        self.reservable = grown(self.reservable, UNIT, MAX_RESERVABLE * UNIT);
    }

    pub(crate) fn begin_epoch(&mut self, now: u64) -> EpochBudget {
        self.refill(1);
        self.routes_in_use -= self.route_releases.pop_front().unwrap_or(0);
        // Beyond the longest delay there is, nothing more is remembered.
        let most = self.throughput() * Cost::MAX_CYCLES as u64;
        self.decoder_backlog = (self.decoder_backlog + self.load()).saturating_sub(self.throughput()).min(most);
        let late = self.decoder_backlog.div_ceil(self.throughput().max(PATCH));
        let mut reserved = Vec::new();
        if !self.reservations.is_empty() {
            let mut most = 0;
            reserved.push(0);
            reserved.extend(self.reservations.iter().take(Cost::MAX_CYCLES as usize).map(|p| {
                most = most.max(p.routes);
                most
            }));
        }
        let reservation = self.reservations.pop_front().unwrap_or_default();
        self.magic_stock = self.magic_stock.saturating_sub(reservation.magic);
        EpochBudget {
            now,
            issued: 0,
            magic_left: self.magic_stock.saturating_sub(reservation.keep),
            magic_spent: 0,
            routes_left: self.routes - self.routes_in_use,
            route_epochs: 0,
            magic_open: true,
            magic_refused: 0,
            issues_left: MAX_ISSUES,
            routes_open: true,
            decoder_lag: late.min(Cost::MAX_CYCLES as u64) as u32,
            route_releases: core::mem::take(&mut self.route_releases),
            routes_reserved: reserved,
        }
    }

    /// Whether nothing is under way or owed, so that an epoch without magic states is like any other.
    pub(crate) fn is_calm(&self) -> bool {
        self.routes_in_use == 0 && self.decoder_backlog == 0 && self.reservations.is_empty() && self.keeps_up_with(0)
    }

    /// Passes epochs in which it is calm at the beginning and at the end, and gives no magic states.
    pub(crate) fn pass(&mut self, epochs: u64) {
        self.refill(epochs);
        self.route_releases.clear();
        self.magic_reserved = 0;
    }

    pub(crate) fn end_epoch(&mut self, budget: EpochBudget) {
        self.magic_stock -= budget.magic_spent;
        self.magic_reserved = budget.magic_refused;
        self.routes_in_use = self.routes - budget.routes_left;
        self.route_releases = budget.route_releases;
    }

    /// How much of what may be promised these promises are.
    fn volume(&self, reservations: &[Reservation]) -> u64 {
        let sum = |f: fn(&Reservation) -> u32| reservations.iter().map(|p| f(p) as u64).sum::<u64>();
        let part = |used: u64, whole: u32| used.saturating_mul(2 * UNIT) / whole.max(1) as u64;
        part(sum(|p| p.magic), self.magic_rate).max(part(sum(|p| p.routes), self.routes))
    }

    pub(crate) fn may_reserve(&self, reservations: &[Reservation]) -> bool {
        self.volume(reservations) <= self.reservable
    }

    /// Counts promises that are being made. Taking them back does not make up for it.
    pub(crate) fn charge_reservable(&mut self, reservations: &[Reservation]) {
        self.reservable = self.reservable.saturating_sub(self.volume(reservations));
    }

    /// Adds promises, or takes them back; works out what must be kept for them.
    pub(crate) fn reserve(&mut self, reservations: impl ExactSizeIterator<Item = Reservation>, keep: bool) {
        // Most strands promise nothing, and promises reach far.
        if reservations.len() == 0 && self.keep_rate == self.magic_rate {
            return;
        }
        if keep && self.reservations.len() < reservations.len() {
            self.reservations.resize(reservations.len(), Reservation::default());
        }
        for (all, one) in self.reservations.iter_mut().zip(reservations) {
            if keep {
                all.magic += one.magic;
                all.routes += one.routes;
            } else {
                all.magic = all.magic.saturating_sub(one.magic);
                all.routes = all.routes.saturating_sub(one.routes);
            }
        }
        while self.reservations.back().is_some_and(|p| p.magic == 0 && p.routes == 0) {
            self.reservations.pop_back();
        }
        self.keep_rate = self.magic_rate;
        let mut keep = 0u32;
        for reservation in self.reservations.iter_mut().rev() {
            reservation.keep = keep;
            keep = (keep + reservation.magic).saturating_sub(self.magic_rate);
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

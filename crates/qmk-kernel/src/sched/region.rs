//! A region: a part of the machine with its qubits, routes, magic states and decoders, epoch after epoch, and the
//! reservations of strands with deadlines. [`EpochBudget`] is the part that one epoch may spend.

use crate::errors::{Broken, Checked, broken};
use crate::holding::Holding;
use crate::ids::{ContextId, StrandId};
use crate::limits::{MAX_ISSUES, PATCH};
use crate::time::Epoch;
use alloc::{collections::VecDeque, vec::Vec};
use core::cmp::Reverse;
use qmk_hal::Cost;

/// Epochs of the whole region that may be reserved at once.
const MAX_RESERVED_EPOCHS: u64 = 4096;
/// The same in halves of an epoch. Each epoch that passes makes half an epoch reservable again, so that the other half
/// is left to strands without deadlines.
const MAX_RESERVABLE: u64 = 2 * MAX_RESERVED_EPOCHS;
/// Fixed point of [`Region::reservable`]: parts of half an epoch.
const UNIT: u64 = 1 << 16;

/// A strand that runs or drains. The order of the fields is the order in which a region keeps them: by context, then
/// the more important, the longer, the older first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Running {
    pub(crate) context: ContextId,
    pub(crate) priority: Reverse<i32>,
    /// Cycles of its longest path.
    pub(crate) path: Reverse<u32>,
    pub(crate) arrival: u64,
    pub(crate) id: StrandId,
    /// Decoder load of its patches in an epoch, in thousandths of a patch.
    pub(crate) load: u64,
}

/// The reservations of strands with deadlines in one epoch to come, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reservation {
    pub(crate) magic: u32,
    pub(crate) routes: u32,
    /// Magic states that must be in stock after the epoch, so that later reservations are kept.
    pub(crate) keep: u32,
}

/// A part of the machine.
#[derive(Debug, Default)]
pub(crate) struct Region {
    /// Logical qubits. All regions together have those of the device.
    pub(crate) qubits: u32,
    /// Qubits that strands and interactive spaces hold, never more than `qubits`.
    pub(crate) held: Holding,
    /// Those of `held` that domains hold one by one. Only the shared region has any.
    interactive: Holding,
    /// Two-qubit operations that can be routed at once.
    pub(crate) routes: u32,
    /// Magic states made in an epoch.
    pub(crate) magic_rate: u32,
    /// Most magic states in stock.
    pub(crate) magic_buffer: u32,
    pub(crate) magic_stock: u32,
    /// Magic states that the first strand was refused in the last epoch. Interactive operations leave them in stock.
    magic_reserved: u32,
    /// Patches decoded in an epoch.
    pub(crate) decoder_rate: u32,
    /// Syndromes not decoded yet, in thousandths of a patch times epochs.
    pub(crate) decoder_backlog: u64,
    /// Routes of operations under way, at most `routes`.
    pub(crate) routes_in_use: u32,
    /// How many of them come free in the epochs to come, the next one first. Their sum is `routes_in_use`.
    pub(crate) route_releases: VecDeque<u32>,
    /// Reservations of the epochs to come, the next one first.
    pub(crate) reservations: VecDeque<Reservation>,
    /// The magic rate that their `keep` was worked out with.
    keep_rate: u32,
    /// How much may still be reserved, in parts of [`UNIT`] of half an epoch.
    reservable: u64,
    /// Strands that have not started, in order of arrival.
    pub(crate) waiting: Vec<StrandId>,
    /// Strands that hold qubits, sorted.
    pub(crate) running: Vec<Running>,
    /// Something changed that may let a waiting strand start. While it is false, no waiting strand is looked at.
    pub(crate) recheck_waiting: bool,
}

/// The resources that the epoch under way may still spend.
#[derive(Debug, Default)]
pub(crate) struct EpochBudget {
    pub(crate) now: Epoch,
    /// Instructions issued without a plan.
    pub(crate) issued: u32,
    /// Instructions that may still be issued, so that an epoch takes bounded time.
    issues_left: u32,
    /// Magic states that are not reserved.
    magic_left: u32,
    pub(crate) magic_spent: u32,
    routes_left: u32,
    /// Routes taken, each times the epochs that its operation takes.
    pub(crate) route_epochs: u64,
    /// Cleared when a magic-state request is refused. Later requests of this epoch are refused too, so the stock
    /// accumulates for the first requester.
    pub(crate) magic_open: bool,
    /// Magic states of the request that was refused first.
    magic_refused: u32,
    /// The same for routes.
    pub(crate) routes_open: bool,
    /// Epochs by which decoding is late.
    decoder_lag: u32,
    route_releases: VecDeque<u32>,
    /// At index n, the most routes reserved in any of the next n epochs. The last entry stands for all longer times.
    routes_reserved: Vec<u32>,
}

impl EpochBudget {
    /// Takes the magic states and routes of an operation. Returns false, and takes nothing, if there are not enough.
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

    /// Takes up to `most` magic states, to pay a debt in parts. Returns how many it took.
    pub(crate) fn take_magic(&mut self, most: u64) -> u64 {
        let taken = if self.magic_open { most.min(self.magic_left as u64) as u32 } else { 0 };
        self.magic_left -= taken;
        self.magic_spent += taken;
        self.magic_open &= taken as u64 == most;
        taken as u64
    }

    /// Epochs until an operation is over. Outcomes, and the corrections of injected magic states, wait for the decoders
    /// when these are late.
    #[inline]
    pub(crate) fn cycles(&self, cost: Cost, has_outcome: impl Fn() -> bool) -> usize {
        let late = if self.decoder_lag > 0 && (cost.magic > 0 || has_outcome()) { self.decoder_lag } else { 0 };
        (cost.cycles + late) as usize
    }
}

impl Region {
    pub(crate) fn new(qubits: u32, routes: u32, magic_rate: u32, magic_buffer: u32, decoder_rate: u32) -> Self {
        // A stock that nothing fills is none: a strand that needs it is refused, and waits not for ever.
        let magic_buffer = if magic_rate == 0 { 0 } else { magic_buffer };
        let (keep_rate, reservable) = (magic_rate, MAX_RESERVABLE * UNIT);
        Region { qubits, routes, magic_rate, magic_buffer, decoder_rate, keep_rate, reservable, ..Region::default() }
    }

    /// Qubits that no one holds.
    #[inline]
    pub(crate) fn free_qubits(&self) -> u32 {
        self.qubits.saturating_sub(self.held.qubits())
    }

    /// Qubits that domains hold one by one. They need not ever come free.
    pub(crate) fn interactive_qubits(&self) -> u32 {
        self.interactive.qubits()
    }

    pub(crate) fn take_interactive(&mut self, one: Holding) -> Checked {
        // Interactive qubits are among those held.
        self.held.take(one)?;
        self.interactive.take(one)
    }

    pub(crate) fn return_interactive(&mut self, one: Holding) -> Checked {
        self.held.give_back(one)?;
        self.interactive.give_back(one)
    }

    /// Takes a new region's part out of this one, which has it free.
    pub(crate) fn split_off(&mut self, part: &Region) {
        self.qubits -= part.qubits;
        self.routes -= part.routes;
        self.magic_rate -= part.magic_rate;
        self.magic_buffer -= part.magic_buffer;
        self.magic_stock = self.magic_stock.min(self.magic_buffer);
        self.decoder_rate -= part.decoder_rate;
    }

    /// Takes back the part of a region whose strands are stopped. Its operations under way keep their routes to their
    /// end.
    pub(crate) fn merge(&mut self, part: &Region) -> Checked {
        if part.held.qubits() > 0 {
            return Err(broken("a region is taken back while its qubits are held"));
        }
        self.qubits += part.qubits;
        self.routes += part.routes;
        self.magic_rate += part.magic_rate;
        self.magic_buffer += part.magic_buffer;
        self.decoder_rate += part.decoder_rate;
        self.decoder_backlog += part.decoder_backlog;
        self.routes_in_use += part.routes_in_use;
        if self.route_releases.len() < part.route_releases.len() {
            self.route_releases.resize(part.route_releases.len(), 0);
        }
        self.route_releases.iter_mut().zip(&part.route_releases).for_each(|(all, one)| *all += one);
        self.recheck_waiting = true;
        Ok(())
    }

    /// Whether `more` qubits with this decoder load can come into use: they must be free, and while there are
    /// reservations, decoding must not fall behind.
    pub(crate) fn has_room(&self, more: u32, load: u64) -> bool {
        more <= self.free_qubits() && (self.reservations.is_empty() || self.keeps_up_with(load))
    }

    /// Whether the decoders work off this much more load in each epoch.
    pub(crate) fn keeps_up_with(&self, load: u64) -> bool {
        self.load() + load <= self.throughput()
    }

    /// Decoder load of one epoch, in thousandths of a patch.
    fn load(&self) -> u64 {
        self.running.iter().map(|r| r.load).sum::<u64>() + self.interactive.qubits() as u64 * PATCH
    }

    /// Load that the decoders work off in an epoch, in thousandths of a patch.
    fn throughput(&self) -> u64 {
        self.decoder_rate as u64 * PATCH
    }

    /// Magic states that interactive operations may take: those that no reservation needs and no strand waits for.
    pub(crate) fn spare_magic(&self) -> u32 {
        let keep = self.reservations.front().map_or(0, |p| (p.keep + p.magic).saturating_sub(self.magic_rate));
        self.magic_stock.saturating_sub(keep).saturating_sub(self.magic_reserved)
    }

    /// Adds the magic states of some epochs to the stock, and lets as many halves of epochs be reserved again.
    fn refill(&mut self, epochs: u64) {
        let grown = |from: u64, by: u64, most: u64| from.saturating_add(epochs.saturating_mul(by)).min(most);
        self.magic_stock = grown(self.magic_stock as u64, self.magic_rate as u64, self.magic_buffer as u64) as u32;
        self.reservable = grown(self.reservable, UNIT, MAX_RESERVABLE * UNIT);
    }

    /// Begins an epoch. Returns the budget of strands without deadlines.
    pub(crate) fn begin_epoch(&mut self, now: Epoch) -> Checked<EpochBudget> {
        self.refill(1);
        let released = self.route_releases.pop_front().unwrap_or(0);
        self.routes_in_use = self.routes_in_use.checked_sub(released).ok_or_else(unrouted)?;
        // The backlog grows by the load and shrinks by the throughput. No operation waits longer than the longest cost
        // there is, so a longer backlog need not be known.
        let most = self.throughput() * Cost::MAX_CYCLES as u64;
        self.decoder_backlog = (self.decoder_backlog + self.load()).saturating_sub(self.throughput()).min(most);
        let late = self.decoder_backlog.div_ceil(self.throughput().max(PATCH));
        let routes_reserved = self.most_routes_reserved();
        // Reservations of this epoch are taken off before strands without deadlines may spend.
        let reservation = self.reservations.pop_front().unwrap_or_default();
        self.magic_stock = self.magic_stock.saturating_sub(reservation.magic);
        Ok(EpochBudget {
            now,
            magic_left: self.magic_stock.saturating_sub(reservation.keep),
            routes_left: self.routes.checked_sub(self.routes_in_use).ok_or_else(unrouted)?,
            magic_open: true,
            issues_left: MAX_ISSUES,
            routes_open: true,
            decoder_lag: late.min(Cost::MAX_CYCLES as u64) as u32,
            route_releases: core::mem::take(&mut self.route_releases),
            routes_reserved,
            ..EpochBudget::default()
        })
    }

    /// The running maximum of reserved routes, as [`EpochBudget`] wants it; empty without reservations, which allocates
    /// nothing.
    fn most_routes_reserved(&self) -> Vec<u32> {
        let mut reserved = Vec::new();
        if !self.reservations.is_empty() {
            let mut most = 0;
            reserved.push(0);
            reserved.extend(self.reservations.iter().take(Cost::MAX_CYCLES as usize).map(|p| {
                most = most.max(p.routes);
                most
            }));
        }
        reserved
    }

    /// Whether no operation, backlog or reservation reaches into the next epoch. Epochs that spend no magic states then
    /// differ only in their number.
    pub(crate) fn is_calm(&self) -> bool {
        self.routes_in_use == 0 && self.decoder_backlog == 0 && self.reservations.is_empty() && self.keeps_up_with(0)
    }

    /// Passes epochs that begin and end calm and spend no magic states.
    pub(crate) fn pass(&mut self, epochs: u64) {
        self.refill(epochs);
        self.route_releases.clear();
        self.magic_reserved = 0;
    }

    /// Ends the epoch that `budget` was spent in.
    pub(crate) fn end_epoch(&mut self, budget: EpochBudget) -> Checked {
        self.magic_stock = self
            .magic_stock
            .checked_sub(budget.magic_spent)
            .ok_or_else(|| broken("an epoch spent more magic states than were in stock"))?;
        self.magic_reserved = budget.magic_refused;
        self.routes_in_use = self.routes - budget.routes_left;
        self.route_releases = budget.route_releases;
        Ok(())
    }

    /// The share of the region that these reservations are: in magic states or in routes, whichever is larger.
    fn volume(&self, reservations: &[Reservation]) -> u64 {
        let sum = |f: fn(&Reservation) -> u32| reservations.iter().map(|p| f(p) as u64).sum::<u64>();
        let part = |used: u64, whole: u32| used.saturating_mul(2 * UNIT) / whole.max(1) as u64;
        part(sum(|p| p.magic), self.magic_rate).max(part(sum(|p| p.routes), self.routes))
    }

    pub(crate) fn may_reserve(&self, reservations: &[Reservation]) -> bool {
        self.volume(reservations) <= self.reservable
    }

    /// Reserves the epochs of an accepted deadline, the next one first.
    pub(crate) fn reserve(&mut self, reservations: &[Reservation]) {
        self.reservable = self.reservable.saturating_sub(self.volume(reservations));
        if self.reservations.len() < reservations.len() {
            self.reservations.resize(reservations.len(), Reservation::default());
        }
        for (all, one) in self.reservations.iter_mut().zip(reservations) {
            all.magic += one.magic;
            all.routes += one.routes;
        }
        self.update_keep(reservations.is_empty());
    }

    /// Takes back the rest of a reservation. It does not become reservable again, so that a tenant cannot reserve
    /// the region over and over.
    pub(crate) fn unreserve(&mut self, reservations: &[Reservation]) {
        for (all, one) in self.reservations.iter_mut().zip(reservations) {
            all.magic = all.magic.saturating_sub(one.magic);
            all.routes = all.routes.saturating_sub(one.routes);
        }
        self.update_keep(reservations.is_empty());
    }

    /// Works out the magic states to keep in stock after each epoch. It takes time with the reach of all reservations,
    /// so it is left out if neither they nor the magic rate have changed.
    fn update_keep(&mut self, unchanged: bool) {
        if unchanged && self.keep_rate == self.magic_rate {
            return;
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
    pub(crate) fn strands(&self) -> Vec<StrandId> {
        self.running.iter().map(|r| r.id).chain(self.waiting.iter().copied()).collect()
    }

    /// Puts a strand in its place among those that run.
    pub(crate) fn enter(&mut self, running: Running) {
        let at = self.running.partition_point(|r| *r < running);
        self.running.insert(at, running);
    }
}

#[cold]
fn unrouted() -> Broken {
    broken("more routes come free than are in use, or are in use than there are")
}

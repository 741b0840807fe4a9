//! Deadlines. A strand that has one is scheduled to its end before it is accepted, and all that the schedule takes is
//! reserved for it. So an accepted deadline is met by construction, whatever else arrives.

use crate::errors::{Checked, broken};
use crate::image::dataflow::Flow;
use crate::limits::{HORIZON, MAX_ISSUES};
use crate::sched::frontier::{Class, Frontier, InFlight};
use crate::sched::region::{Region, Reservation};
use alloc::{collections::VecDeque, sync::Arc, vec::Vec};
use core::cmp::Reverse;
use qmk_abi::image::Op;
use qmk_hal::Cost;

/// When to issue each instruction, counted in epochs from the start.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Epoch and instruction, in order of issue.
    starts: Vec<(u32, u32)>,
    /// Place in `starts` of the next one.
    at: usize,
    /// Epochs in all.
    length: u32,
    /// The magic states and routes that it takes, epoch by epoch.
    needs: Vec<Reservation>,
}

impl Plan {
    /// The next instruction to issue in an epoch.
    pub(crate) fn due(&mut self, epoch: u64) -> Option<u32> {
        let &(start, index) = self.starts.get(self.at)?;
        (start as u64 <= epoch).then(|| {
            self.at += 1;
            index
        })
    }

    pub(crate) fn is_done(&self, epoch: u64) -> bool {
        self.at == self.starts.len() && epoch >= self.length as u64
    }

    /// List scheduling by longest remaining path (Graham, SIAM J. Appl. Math. 17 (1969) 416) into what the region has
    /// not reserved yet, from its next epoch on. `None` if that takes more than `within` epochs. Operations under way
    /// keep their routes until they end.
    pub(crate) fn make(
        flow: &Flow,
        heights: Arc<Vec<u32>>,
        cost: impl Fn(&Op) -> Cost,
        region: &Region,
        within: u64,
    ) -> Checked<Option<Plan>> {
        // The plan is made by running the strand against a forecast, with the same frontier that an unplanned strand
        // issues from.
        let mut frontier = Frontier::new(flow, Some(heights), 0, false);
        let mut plan = Plan { starts: Vec::with_capacity(flow.image.code.len()), at: 0, length: 0, needs: Vec::new() };
        let mut in_flight = InFlight::default();
        let mut forecast = Forecast::new(region);
        for epoch in 0..=within.min(HORIZON) as u32 {
            in_flight.land(&mut frontier, flow);
            forecast.begin_epoch();
            // Classes whose first instruction did not fit into this epoch. The others of the class wait behind it.
            let mut closed = 0u8;
            let before = plan.starts.len();
            while plan.starts.len() - before < MAX_ISSUES as usize {
                let classes = [Class::Plain, Class::Routed, Class::Magic];
                let open = classes.into_iter().filter(|&c| closed & 1 << c as u8 == 0);
                let Some(((_, index), class)) = open
                    .filter_map(|c| Some((frontier.first(c)?, c)))
                    .max_by_key(|((height, index), _)| (*height, Reverse(*index)))
                else {
                    break;
                };
                let instr = flow.image.code.get(index as usize);
                let cost = cost(&instr.ok_or_else(|| broken("an instruction is ready that the image has not"))?.op);
                if !forecast.take(cost) {
                    closed |= 1 << class as u8;
                    continue;
                }
                frontier.take(class);
                plan.add(epoch, index, cost);
                in_flight.launch(&mut frontier, flow, index, cost.cycles as usize);
            }
            if plan.starts.len() == flow.image.code.len() {
                return Ok((plan.length as u64 <= within).then_some(plan));
            }
            forecast.end_epoch();
        }
        Ok(None)
    }

    /// Adds the issue of an instruction in an epoch.
    fn add(&mut self, epoch: u32, index: u32, cost: Cost) {
        let span = span(cost);
        let last = epoch as usize + span.max(1);
        if (cost.magic > 0 || span > 0) && self.needs.len() < last {
            self.needs.resize(last, Reservation::default());
        }
        for need in self.needs.iter_mut().skip(epoch as usize).take(span) {
            need.routes += cost.routes;
        }
        if let Some(need) = self.needs.get_mut(epoch as usize) {
            need.magic += cost.magic;
        }
        self.starts.push((epoch, index));
        self.length = self.length.max(epoch + cost.cycles);
    }

    /// The part of its needs that is left when `epochs` of it are over.
    pub(crate) fn rest(&self, epochs: u64) -> &[Reservation] {
        let from = (epochs as usize).min(self.needs.len());
        self.needs.get(from..).unwrap_or(&[])
    }
}

/// Epochs for which an operation takes routes.
fn span(cost: Cost) -> usize {
    if cost.routes > 0 { cost.cycles.max(1) as usize } else { 0 }
}

/// The resources that a region will have free in the epochs to come, while a plan is made.
struct Forecast<'a> {
    region: &'a Region,
    /// Magic states in stock at the end of the epoch, and those of them that no reservation needs later.
    stock: u32,
    magic: u32,
    /// Routes left in this epoch and the ones after it, made as far as they were asked for.
    routes: VecDeque<u32>,
    /// Epochs for which `routes` were made, and the routes still in use in the last of them.
    made: usize,
    in_use: u32,
    /// This epoch, counted from the next one of the region.
    epoch: usize,
}

impl<'a> Forecast<'a> {
    fn new(region: &'a Region) -> Self {
        let (stock, in_use) = (region.magic_stock, region.routes_in_use);
        Forecast { region, stock, magic: 0, routes: VecDeque::new(), made: 0, in_use, epoch: 0 }
    }

    fn begin_epoch(&mut self) {
        let reservation = self.region.reservations.get(self.epoch).copied().unwrap_or_default();
        let refilled = self.stock.saturating_add(self.region.magic_rate).min(self.region.magic_buffer);
        self.stock = refilled.saturating_sub(reservation.magic);
        self.magic = self.stock.saturating_sub(reservation.keep);
    }

    fn end_epoch(&mut self) {
        self.look_ahead(1);
        self.routes.pop_front();
        self.epoch += 1;
    }

    /// Takes the magic states of an operation in this epoch, and its routes for as long as it lasts. Returns false, and
    /// takes nothing, if there are not enough.
    fn take(&mut self, cost: Cost) -> bool {
        let span = span(cost);
        self.look_ahead(span);
        if cost.magic > self.magic || self.routes.iter().take(span).any(|&r| r < cost.routes) {
            return false;
        }
        self.magic -= cost.magic;
        self.stock -= cost.magic;
        self.routes.iter_mut().take(span).for_each(|r| *r -= cost.routes);
        true
    }

    /// Makes the routes of at least this many epochs.
    fn look_ahead(&mut self, epochs: usize) {
        while self.routes.len() < epochs {
            self.in_use -= self.region.route_releases.get(self.made).copied().unwrap_or(0);
            let reserved = self.region.reservations.get(self.made).map_or(0, |p| p.routes);
            self.routes.push_back(self.region.routes.saturating_sub(self.in_use).saturating_sub(reserved));
            self.made += 1;
        }
    }
}

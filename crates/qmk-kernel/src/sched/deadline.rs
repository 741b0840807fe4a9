//! Deadlines: a strand that has one is scheduled to its end before it is accepted, and what the schedule takes is promised
//! to it. So an accepted deadline is met by construction, whatever else arrives.

use crate::image::dataflow::Flow;
use crate::limits::{HORIZON, MAX_ISSUES};
use crate::sched::frontier::{Class, Frontier, InFlight};
use crate::sched::region::{Region, Reservation};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_abi::image::Op;
use qmk_hal::Cost;

/// When to issue each instruction, counted from the start.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Epoch and instruction, in order.
    starts: Vec<(u32, u32)>,
    at: usize,
    /// Epochs in all.
    pub(crate) length: u32,
    /// What it takes, epoch by epoch.
    pub(crate) needs: Vec<Reservation>,
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

    /// List scheduling by longest remaining path into what the region has not promised yet, from its next epoch on; `None` if
    /// that takes more than `within` epochs. Best-effort operations under way keep their routes until they end.
    pub(crate) fn make(
        flow: &Flow,
        heights: Arc<Vec<u32>>,
        cost: impl Fn(&Op) -> Cost,
        region: &Region,
        within: u64,
    ) -> Option<Plan> {
        let mut frontier = Frontier::new(flow, Some(heights), 0, false);
        let mut plan = Plan { starts: Vec::with_capacity(flow.image.code.len()), at: 0, length: 0, needs: Vec::new() };
        let mut in_flight = InFlight::default();
        let (mut stock, mut taken) = (region.magic_stock, region.routes_in_use);
        // Routes that each epoch has left, made as far as needed.
        let mut routes: VecDeque<u32> = VecDeque::new();
        let mut made = 0;
        let mut ahead = |routes: &mut VecDeque<u32>, cycles: usize| {
            while routes.len() < cycles {
                taken -= region.route_releases.get(made).copied().unwrap_or(0);
                let reserved = region.reservations.get(made).map_or(0, |p| p.routes);
                routes.push_back(region.routes.saturating_sub(taken).saturating_sub(reserved));
                made += 1;
            }
        };
        for epoch in 0..=within.min(HORIZON) as u32 {
            in_flight.land(&mut frontier, flow);
            let reservation = region.reservations.get(epoch as usize).copied().unwrap_or_default();
            stock = stock.saturating_add(region.magic_rate).min(region.magic_buffer).saturating_sub(reservation.magic);
            let mut magic = stock.saturating_sub(reservation.keep);
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
                let Some(instr) = flow.image.code.get(index as usize) else { break };
                let cost = cost(&instr.op);
                let span = if cost.routes > 0 { cost.cycles.max(1) as usize } else { 0 };
                ahead(&mut routes, span);
                if cost.magic > magic || routes.iter().take(span).any(|&r| r < cost.routes) {
                    closed |= 1 << class as u8;
                    continue;
                }
                frontier.take(class);
                magic -= cost.magic;
                stock -= cost.magic;
                routes.iter_mut().take(span).for_each(|r| *r -= cost.routes);
                let last = epoch as usize + span.max(1);
                if (cost.magic > 0 || span > 0) && plan.needs.len() < last {
                    plan.needs.resize(last, Reservation::default());
                }
                for need in plan.needs.iter_mut().skip(epoch as usize).take(span) {
                    need.routes += cost.routes;
                }
                if let Some(need) = plan.needs.get_mut(epoch as usize) {
                    need.magic += cost.magic;
                }
                plan.starts.push((epoch, index));
                plan.length = plan.length.max(epoch + cost.cycles);
                in_flight.launch(&mut frontier, flow, index, cost.cycles as usize);
            }
            if plan.starts.len() == flow.image.code.len() {
                return (plan.length as u64 <= within).then_some(plan);
            }
            ahead(&mut routes, 1);
            routes.pop_front();
        }
        None
    }

    /// What is left of it for the epochs to come, when `epochs` of it are over.
    pub(crate) fn rest(&self, epochs: u64) -> &[Reservation] {
        let from = (epochs as usize).min(self.needs.len());
        self.needs.get(from..).unwrap_or(&[])
    }
}

//! Calls on domains and contexts.

use crate::cap::space::Space;
use crate::domain::Domain;
use crate::errors::{Result, argument};
use crate::object::{Entry, Object};
use crate::sched::fair_queue::{SchedContext, VirtualTimes};
use crate::state::Kernel;
use alloc::boxed::Box;
use alloc::vec::Vec;
use qmk_abi::syscall::{DomainUsage, ObjectKind, Quota, StrandState};
use qmk_abi::{Handle, Reply, Rights};
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    pub(crate) fn add_domain(&mut self, quota: Quota) -> u32 {
        let context = self.contexts.insert(SchedContext::new(quota.weight, quota.epochs, quota.window));
        self.domains.push(Some(Box::new(Domain {
            capabilities: Space::default(),
            quota,
            used: DomainUsage::default(),
            window_number: 0,
            context,
            interactive: None,
            link_until: 0,
            qubits_version: 0,
            device_turns: 0,
            device_vtime: 0,
            dead: false,
        })));
        self.domains.len() as u32 - 1
    }

    pub(crate) fn create_domain(&mut self, d: u32, machine: Handle, quota: Quota) -> Result<Reply> {
        self.require(d, machine, ObjectKind::Machine, Rights::ADMIN)?;
        self.check_slots(d)?;
        if self.domains.len() >= u32::MAX as usize {
            return argument("domain ids are used up");
        }
        let id = self.add_domain(quota);
        Ok(Reply::Handle(self.create_object(d, Object::Domain(id), ObjectKind::Domain, machine)?.1))
    }

    pub(crate) fn create_context(&mut self, d: u32, machine: Handle, context: SchedContext) -> Result<Reply> {
        self.require(d, machine, ObjectKind::Machine, Rights::ADMIN)?;
        self.check_slots(d)?;
        let context = self.contexts.insert(context);
        Ok(Reply::Handle(self.create_object(d, Object::Context(context), ObjectKind::Context, machine)?.1))
    }

    /// The strands of a context that is taken back go on under their domains' own.
    pub(crate) fn end_context(&mut self, id: u32) {
        self.contexts.remove(id);
        let mut moved = Vec::new();
        for (_, entry) in self.objects.iter_mut() {
            if let Object::Strand(strand) = &mut entry.object
                && strand.context == id
                && let Some(Some(domain)) = self.domains.get(strand.owner as usize)
            {
                strand.context = domain.context;
                let ended = matches!(strand.state, StrandState::Done | StrandState::Faulted);
                moved.push((strand.context, strand.region, ended, strand.holds_qubits(), strand.image.peak_qubits));
            }
        }
        for (context, region, ended, held, qubits) in moved {
            if !ended {
                self.join(context, region);
            }
            if let (true, Some(context)) = (held, self.contexts.get_mut(context)) {
                context.qubits += qubits;
            }
        }
        for (_, region) in self.regions.iter_mut() {
            for running in &mut region.running {
                if running.context == id
                    && let Some(Entry { object: Object::Strand(strand), .. }) = self.objects.get(running.id)
                {
                    running.context = strand.context;
                }
            }
            region.running.sort_unstable();
        }
    }

    /// Counts a strand of a context, which begins level with the others of the region if it had none.
    pub(crate) fn join(&mut self, context: u32, region: u32) {
        if self.contexts.get(context).is_some_and(|c| c.strands == 0)
            && let Some(place) = self.regions.get(region)
        {
            // Those of other regions are no one's business in this one.
            let waiting = place.waiting.iter().filter_map(|&id| match self.object(id) {
                Object::Strand(strand) => Some(strand.context),
                _ => None,
            });
            let busy = place.running.iter().map(|r| r.context).chain(waiting).filter(|&c| c != context);
            let foremost = busy.filter_map(|c| Some(self.contexts.get(c)?.times())).reduce(VirtualTimes::max);
            if let (Some(times), Some(context)) = (foremost, self.contexts.get_mut(context)) {
                context.catch_up(times.minus_lead());
            }
        }
        if let Some(context) = self.contexts.get_mut(context) {
            context.strands += 1;
        }
    }

    /// A strand that ends leaves its context.
    pub(crate) fn leave(&mut self, context: u32) {
        if let Some(context) = self.contexts.get_mut(context) {
            context.strands -= 1;
        }
    }
}

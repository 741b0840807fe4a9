//! Calls on domains and scheduling contexts: `CreateDomain`, `CreateContext`, `Usage`, and what destroying them leaves
//! to do.

use crate::domain::Domain;
use crate::errors::{Checked, Result, refuse};
use crate::holding::Holding;
use crate::ids::{ContextId, DomainId, RegionId};
use crate::object::Object;
use crate::sched::fair_queue::{SchedContext, VirtualTimes};
use crate::state::Kernel;
use alloc::string::ToString;
use alloc::vec::Vec;
use qmk_abi::syscall::{BadArgument, DomainUsage, ObjectKind, Quota, StrandState};
use qmk_abi::{Handle, Reply, Rights};
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    /// Adds a domain with a scheduling context of its own; `None` if domain ids are used up.
    pub(crate) fn add_domain(&mut self, quota: Quota) -> Option<DomainId> {
        let context = self.contexts.insert(SchedContext::new(quota.weight, quota.epochs, quota.window));
        self.domains.add(Domain::new(quota, context))
    }

    /// Makes a domain. Returns [`Reply::Handle`] of the capability that controls it.
    ///
    /// # Errors
    /// The machine capability lacks `ADMIN`, the caller has no slot left, or all domain ids were used.
    pub(crate) fn create_domain(&mut self, caller: DomainId, machine: Handle, quota: Quota) -> Result<Reply> {
        self.require(caller, machine, ObjectKind::Machine, Rights::ADMIN)?;
        self.check_slots(caller)?;
        // Its weight and its quota of epochs are those of its own context.
        let Some(id) = self.add_domain(quota) else { return refuse(BadArgument::DomainIds) };
        Ok(Reply::Handle(self.create_object(caller, Object::Domain(id), ObjectKind::Domain, machine)?.1))
    }

    /// Makes a scheduling context that strands of several domains may share. Returns [`Reply::Handle`].
    ///
    /// # Errors
    /// The machine capability lacks `ADMIN`, or the caller has no slot left.
    pub(crate) fn create_context(&mut self, caller: DomainId, machine: Handle, context: SchedContext) -> Result<Reply> {
        self.require(caller, machine, ObjectKind::Machine, Rights::ADMIN)?;
        self.check_slots(caller)?;
        let context = self.contexts.insert(context);
        Ok(Reply::Handle(self.create_object(caller, Object::Context(context), ObjectKind::Context, machine)?.1))
    }

    /// Returns [`Reply::Usage`]: the caller's accounts, put together from where each is kept, and its quota.
    pub(crate) fn usage(&mut self, caller: DomainId) -> Result<Reply> {
        self.accounts(caller).map_err(|broken| {
            self.stop(broken.to_string());
            broken.into()
        })
    }

    /// Inlined, so that the reply is made in place.
    #[inline]
    fn accounts(&mut self, caller: DomainId) -> Checked<Reply> {
        let now = self.epoch;
        let context = self.domains.get(caller)?.context;
        let epochs = self.contexts.get_mut(context)?.epochs_used(now);
        let domain = self.domains.get_mut(caller)?;
        // Begins a new window if the last one is over.
        domain.magic_left(now);
        let used = DomainUsage {
            qubits: domain.held.qubits(),
            physical_qubits: domain.held.physical(),
            strands: domain.held.strands(),
            slots: domain.capabilities.used(),
            epochs,
            ..domain.used
        };
        Ok(Reply::Usage { used, quota: domain.quota })
    }

    /// Counts a strand of a context. A context that had none starts level with the busy ones of the strand's region,
    /// less the lead that their longest paths may have: what it did not use while idle is not saved up.
    pub(crate) fn join_context(&mut self, context: ContextId, region: RegionId) -> Checked {
        if self.contexts.get(context)?.held.strands() == 0 {
            // Contexts that are busy in other regions compete for nothing in this one.
            let place = self.regions.get(region)?;
            let running = place.running.iter().map(|r| Ok(r.context));
            let waiting = place.waiting.iter().map(|&id| Ok(self.objects.strand(id)?.context));
            let mut foremost: Option<VirtualTimes> = None;
            for busy in running.chain(waiting) {
                let busy = busy?;
                // A context that is being taken back competes no more, and its running strands still name it.
                if busy != context
                    && let Some(times) = self.contexts.find(busy).map(SchedContext::times)
                {
                    foremost = Some(foremost.map_or(times, |most| most.max(times)));
                }
            }
            if let Some(times) = foremost {
                self.contexts.get_mut(context)?.catch_up(times.minus_lead());
            }
        }
        self.contexts.get_mut(context)?.held.take(Holding::STRAND)
    }

    /// Takes back a context. Its strands go on under their domains' own.
    pub(crate) fn end_context(&mut self, id: ContextId) -> Checked {
        self.contexts.remove(id)?;
        // Any domain may have strands in it: a context can be granted.
        let mut moved = Vec::new();
        for (_, entry) in self.objects.iter_mut() {
            if let Object::Strand(strand) = &mut entry.object
                && strand.context == id
            {
                strand.context = self.domains.get(strand.owner)?.context;
                let ended = matches!(strand.state, StrandState::Done | StrandState::Faulted);
                let holding = if strand.holds_qubits() { strand.holding() } else { Holding::default() };
                moved.push((strand.context, strand.region, ended, holding));
            }
        }
        // Joined after all are moved, as joining looks at the contexts of others.
        for (context, region, ended, holding) in moved {
            if !ended {
                self.join_context(context, region)?;
            }
            self.contexts.get_mut(context)?.held.take(holding)?;
        }
        // Regions keep their running strands sorted by context.
        for (_, region) in self.regions.iter_mut() {
            for running in &mut region.running {
                if running.context == id {
                    running.context = self.objects.strand(running.id)?.context;
                }
            }
            region.running.sort_unstable();
        }
        Ok(())
    }
}

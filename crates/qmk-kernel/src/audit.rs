//! The audit: every invariant of the kernel's tables, checked without changing anything.
//!
//! Nothing in the kernel relies on it. Tests call it after each step, and a server may when it is in doubt. Each check
//! names its invariant by a story; `tests/audit.rs` breaks each of them once. Where to start: [`Kernel::audit`].

use crate::cap::space::SlotRef;
use crate::domain::Domain;
use crate::errors::{Broken, Checked};
use crate::holding::Holding;
use crate::ids::{DomainId, ObjectId, RegionId, StrandId};
use crate::interactive::channel::Side;
use crate::limits::MAX_DELETIONS;
use crate::object::{Entry, Machine, Object};
use crate::sched::region::{Region, Reservation};
use crate::state::Kernel;
use crate::strand::checkpoint::CheckpointTarget;
use crate::strand::state::Strand;
use alloc::{collections::BTreeMap, vec, vec::Vec};
use qmk_abi::syscall::{ChannelState, ObjectKind, Patch, StrandState};
use qmk_hal::Device;

/// Fails with a story unless it holds.
fn check(holds: bool, story: &'static str, number: u32) -> Checked {
    if holds { Ok(()) } else { Err(Broken::found(story, Some(number))) }
}

impl<D: Device> Kernel<D> {
    /// Checks every invariant of the kernel's tables. It takes time with all that the kernel holds, and is for tests,
    /// and for an embedding that has reason to doubt.
    ///
    /// # Errors
    /// The first invariant that does not hold, or an impossible case met on the way.
    pub fn audit(&self) -> Checked {
        self.audit_tables()?;
        self.audit_derivation()?;
        self.audit_objects()?;
        self.audit_machine()?;
        self.audit_regions()?;
        self.audit_domains()?;
        self.audit_contexts()?;
        self.audit_budgets()?;
        self.audit_channels()
    }

    /// Stops the kernel as an impossible case does, for tests of what holds one.
    pub fn stop_as_broken(&mut self, story: &str) {
        self.stop(story.into());
    }

    /// Numbers are used or free and never both; nothing is left that no object names; what is bounded is within its
    /// bound.
    fn audit_tables(&self) -> Checked {
        let whole = self.objects.is_well_formed()
            && self.contexts.is_well_formed()
            && self.regions.is_well_formed()
            && self.channels.is_well_formed();
        check(whole, "a free number is in use, or an unused one is not free", 0)?;
        check(self.deletions.len() <= MAX_DELETIONS, "more deletions are under way than may be", 0)?;
        for (id, domain) in self.domains.iter() {
            check(self.contexts.find(domain.context).is_some(), "a domain's own context is gone", id.0)?;
        }
        let is_named = |is: &dyn Fn(&Object) -> bool| self.objects.iter().any(|(_, e)| is(&e.object));
        for (id, _) in self.contexts.iter() {
            let own = self.domains.iter().any(|(_, d)| d.context == id);
            let named = own || is_named(&|o| matches!(o, Object::Context(c) if *c == id));
            check(named, "a context is left that no domain and no object names", id.index())?;
        }
        for (id, _) in self.regions.iter() {
            let named = id == RegionId::SHARED || is_named(&|o| matches!(o, Object::Region(r) if *r == id));
            check(named, "a region is left that no object names", id.index())?;
        }
        for (id, channel) in self.channels.iter() {
            let named = channel.ends().iter().any(|e| e.object.is_some());
            check(named, "a channel is left without endpoints", id.index())?;
        }
        for (id, domain) in self.domains.iter() {
            // The root, which boot made, is named by nothing.
            let named = id.0 == 0 || domain.dead || is_named(&|o| matches!(o, Object::Domain(d) if *d == id));
            check(named, "a domain is left that no object names", id.0)?;
            check(
                domain.dead == self.dying.contains(&id),
                "a domain is dead and not being emptied, or not dead and is",
                id.0,
            )?;
        }
        Ok(())
    }

    /// The capabilities of all spaces form one list, linked both ways.
    fn audit_derivation(&self) -> Checked {
        let mut count = 0;
        let mut head = None;
        for (id, domain) in self.domains.iter() {
            check(domain.capabilities.is_well_formed(), "a capability space miscounts its slots", id.0)?;
            check(
                domain.dead || domain.capabilities.used() <= domain.quota.slots,
                "a domain has more capabilities than its quota of slots",
                id.0,
            )?;
            for (handle, _) in domain.capabilities.occupied() {
                let at = SlotRef { domain: id, slot: handle.slot };
                count += 1;
                if self.link(at)?.prev.is_none() {
                    check(head.is_none(), "the derivation list has two heads", id.0)?;
                    head = Some(at);
                }
            }
        }
        let (mut walked, mut at) = (0, head);
        while let Some(here) = at {
            walked += 1;
            check(walked <= count, "the derivation list runs in a circle", here.domain.0)?;
            let next = self.link(here)?.next;
            if let Some(next) = next {
                let linked = self.is_occupied(next) && self.link(next)?.prev == Some(here);
                check(linked, "the derivation list is not linked both ways", next.domain.0)?;
            }
            at = next;
        }
        check(walked == count, "a capability is not in the derivation list", 0)
    }

    fn is_occupied(&self, at: SlotRef) -> bool {
        self.domains.find(at.domain).is_some_and(|d| d.capabilities.is_occupied(at.slot))
    }

    /// Each object is named as often as it counts, needed as often as it counts, and of the kind that its capabilities
    /// say.
    fn audit_objects(&self) -> Checked {
        let mut references: BTreeMap<ObjectId, u32> = BTreeMap::new();
        for (id, domain) in self.domains.iter() {
            for (_, capability) in domain.capabilities.occupied() {
                *references.entry(capability.object).or_default() += 1;
                let object = self.objects.find(capability.object).map(|e| &e.object);
                let fits = object.is_some_and(|object| fits_kind(object, capability.kind));
                check(fits, "a capability is of another kind than its object", id.0)?;
            }
        }
        let mut holds: BTreeMap<ObjectId, u32> = BTreeMap::new();
        for (_, Entry { object, .. }) in self.objects.iter() {
            match object {
                Object::Machine(Machine { parent: Some(parent), .. }) => *holds.entry(*parent).or_default() += 1,
                Object::Qubit(qubit) => *holds.entry(qubit.machine).or_default() += 1,
                Object::Strand(strand) => {
                    *holds.entry(strand.machine).or_default() += 1;
                    *holds.entry(strand.image_object).or_default() += 1;
                }
                _ => {}
            }
        }
        for (id, entry) in self.objects.iter() {
            let named = references.get(&id).copied().unwrap_or(0);
            check(entry.references == named, "an object's references are not its capabilities", id.index())?;
            let needed = holds.get(&id).copied().unwrap_or(0);
            check(entry.holds == needed, "an object's holds are not the objects that need it", id.index())?;
            check(named + needed > 0, "an object is left that nothing names or needs", id.index())?;
        }
        Ok(())
    }

    /// Regions partition the machine.
    fn audit_machine(&self) -> Checked {
        let spec = self.device.spec();
        let sum = |part: fn(&Region) -> u32| self.regions.iter().map(|(_, r)| part(r) as u64).sum::<u64>();
        let story = "the regions' parts are not the machine";
        check(sum(|r| r.qubits) == spec.logical_qubits as u64, story, 0)?;
        check(sum(|r| r.routes) == spec.routes_per_epoch as u64, story, 1)?;
        check(sum(|r| r.magic_rate) == spec.magic_per_epoch as u64, story, 2)?;
        check(sum(|r| r.magic_buffer) == spec.magic_buffer as u64, story, 3)?;
        check(sum(|r| r.decoder_rate) == spec.decoded_per_epoch as u64, story, 4)
    }

    /// Each region's accounts are those of its strands and interactive qubits.
    fn audit_regions(&self) -> Checked {
        let one = Holding::qubits_of(1, self.device.physical_qubits(Patch::default()).unwrap_or(1) as u64);
        for (id, region) in self.regions.iter() {
            let n = id.index();
            let mut held = Holding::default();
            if id == RegionId::SHARED {
                for _ in self.qubits() {
                    held.take(one)?;
                }
            }
            check(
                region.interactive_qubits() == held.qubits(),
                "a region's interactive qubits are not the qubits there are",
                n,
            )?;
            for running in &region.running {
                let strand = self.objects.strand(running.id)?;
                held.take(strand.holding())?;
                let same = strand.region == id && *running == strand.running(running.id);
                check(same, "a running strand is listed with other figures than its own", n)?;
            }
            for &waiting in &region.waiting {
                let strand = self.objects.strand(waiting)?;
                let waits = strand.region == id && strand.state == StrandState::Waiting;
                check(waits, "a strand is listed as waiting and does not wait", n)?;
            }
            check(region.held == held, "a region's held qubits are not those of its strands and domains", n)?;
            check(held.qubits() <= region.qubits, "a region holds more qubits than it has", n)?;
            check(region.running.is_sorted(), "a region's running strands are out of order", n)?;
            check(region.magic_stock <= region.magic_buffer, "a region has more magic states than its buffer", n)?;
            check(region.routes_in_use <= region.routes, "a region has more routes in use than it has", n)?;
            let released = region.route_releases.iter().map(|&r| r as u64).sum::<u64>();
            check(released == region.routes_in_use as u64, "routes in use are not those that will be released", n)?;
            self.audit_reservations(id, region)?;
        }
        for (id, strand) in self.strands() {
            self.audit_strand(id, strand)?;
        }
        Ok(())
    }

    /// A region has reserved exactly the rest of its strands' plans.
    fn audit_reservations(&self, id: RegionId, region: &Region) -> Checked {
        let mut planned: Vec<Reservation> = vec![Reservation::default(); region.reservations.len()];
        let story = "a region's reservations are not the rest of its strands' plans";
        for running in &region.running {
            let strand = self.objects.strand(running.id)?;
            for (epoch, need) in strand.planned(self.epoch).iter().enumerate() {
                let Some(planned) = planned.get_mut(epoch) else {
                    check((need.magic, need.routes) == (0, 0), story, id.index())?;
                    continue;
                };
                planned.magic += need.magic;
                planned.routes += need.routes;
            }
        }
        let same = |(a, b): (&Reservation, &Reservation)| (a.magic, a.routes) == (b.magic, b.routes);
        check(region.reservations.iter().zip(&planned).all(same), story, id.index())
    }

    /// A strand is where its state says, and what it names exists.
    fn audit_strand(&self, id: StrandId, strand: &Strand) -> Checked {
        let n = id.index();
        check(self.contexts.find(strand.context).is_some(), "a strand's context is gone", n)?;
        let migrates = strand.migrate_to.is_none_or(|to| self.regions.find(to).is_some());
        check(migrates, "a strand is to go to a region that is gone", n)?;
        let listed = |list: fn(&Region) -> Vec<StrandId>| {
            self.regions.iter().flat_map(|(_, r)| list(r)).filter(|&other| other == id).count()
        };
        let waits = listed(|r| r.waiting.clone());
        let runs = listed(|r| r.running.iter().map(|r| r.id).collect());
        let as_stated = match strand.state {
            StrandState::Waiting => (waits, runs) == (1, 0),
            StrandState::Running | StrandState::Held | StrandState::Draining => (waits, runs) == (0, 1),
            // One that failed to start with a plan is taken out of its region at the end of the next epoch.
            StrandState::Done | StrandState::Faulted => waits == 0 && runs <= 1,
        };
        check(as_stated, "a strand is not where its state says", n)?;
        for &checkpoint in &strand.checkpoints {
            let found = match self.objects.find(checkpoint).map(|e| &e.object) {
                Some(Object::Checkpoint(c)) => c.snapshot.is_none() && is_of(&c.target, id),
                _ => false,
            };
            check(found, "a strand waits to take a checkpoint that is not its own", n)?;
        }
        Ok(())
    }

    /// Each domain's accounts are those of its objects, and within its quota.
    fn audit_domains(&self) -> Checked {
        let one = Holding::qubits_of(1, self.device.physical_qubits(Patch::default()).unwrap_or(1) as u64);
        for (id, domain) in self.domains.iter() {
            let (mut held, mut images, mut checkpoints, mut channels) = (Holding::default(), 0u64, 0u32, 0u32);
            for (_, entry) in self.objects.iter() {
                match &entry.object {
                    Object::Strand(strand) if strand.owner == id => held.take(Holding::STRAND)?,
                    Object::Qubit(qubit) if qubit.owner == id => held.take(one)?,
                    Object::Image(image) if image.owner == id => images += image.size as u64,
                    Object::Checkpoint(checkpoint) if checkpoint.owner == id => checkpoints += 1,
                    _ => {}
                }
            }
            for (_, region) in self.regions.iter() {
                for running in &region.running {
                    let strand = self.objects.strand(running.id)?;
                    if strand.owner == id {
                        held.take(strand.holding())?;
                    }
                }
            }
            for (_, channel) in self.channels.iter().filter(|(_, c)| c.is_open()) {
                channels += channel.ends().iter().filter(|e| e.domain == id).count() as u32;
            }
            check(domain.held == held, "a domain's account of strands and qubits is not what it holds", id.0)?;
            check(domain.used.instructions as u64 == images, "a domain's account of images is not their size", id.0)?;
            check(
                domain.used.checkpoints == checkpoints,
                "a domain's account of checkpoints is not their number",
                id.0,
            )?;
            check(domain.used.channels == channels, "a domain's account of channels is not their number", id.0)?;
            check(is_within_quota(domain), "a domain holds more than its quota", id.0)?;
            self.audit_interactive(id, domain)?;
        }
        Ok(())
    }

    /// The registers in use are those that qubits name, each once.
    fn audit_interactive(&self, id: DomainId, domain: &Domain) -> Checked {
        let mut named: Vec<u32> = self.qubits().filter(|q| q.owner == id).map(|q| q.register).collect();
        let Some(interactive) = &domain.interactive else {
            return check(named.is_empty(), "a qubit's owner has no interactive space", id.0);
        };
        check(interactive.live as usize == named.len(), "an interactive space miscounts its qubits", id.0)?;
        named.extend(&interactive.free);
        named.sort_unstable();
        let each_once = named.iter().copied().eq(0..interactive.registers.len() as u32);
        check(each_once, "a register is named twice, or neither in use nor free", id.0)
    }

    /// Each context counts the strands that have not ended, and the qubits of those that run.
    fn audit_contexts(&self) -> Checked {
        for (id, context) in self.contexts.iter() {
            let mut held = Holding::default();
            for (_, region) in self.regions.iter() {
                for running in region.running.iter().filter(|r| r.context == id) {
                    held.take(self.objects.strand(running.id)?.holding().and_strand())?;
                }
                for &waiting in &region.waiting {
                    if self.objects.strand(waiting)?.context == id {
                        held.take(Holding::STRAND)?;
                    }
                }
            }
            check(context.held == held, "a context's account is not its strands and their qubits", id.index())?;
        }
        Ok(())
    }

    /// Each budget counts what is done through it, and is kept.
    fn audit_budgets(&self) -> Checked {
        let mut held: BTreeMap<ObjectId, Holding> = BTreeMap::new();
        for (_, entry) in self.objects.iter() {
            let (machine, part) = match &entry.object {
                Object::Strand(s) => (s.machine, Holding::qubits_of(s.image.peak_qubits, 0).and_strand()),
                Object::Qubit(qubit) => (qubit.machine, Holding::qubits_of(1, 0)),
                _ => continue,
            };
            let mut next = Some(machine);
            while let Some(id) = next {
                held.entry(id).or_default().take(part)?;
                next = self.objects.machine(id)?.parent;
            }
        }
        for (id, entry) in self.objects.iter() {
            let Object::Machine(machine) = &entry.object else { continue };
            let Some(budget) = &machine.budget else { continue };
            let sum = held.get(&id).copied().unwrap_or_default();
            check(machine.held == sum, "a budget's account is not what is done through it", id.index())?;
            let kept =
                sum.strands() <= budget.strands && sum.qubits() <= budget.qubits && machine.magic <= budget.magic;
            check(kept, "a budget is exceeded", id.index())?;
        }
        Ok(())
    }

    /// Channels, endpoints and registers name each other.
    fn audit_channels(&self) -> Checked {
        for (id, channel) in self.channels.iter() {
            let n = id.index();
            for side in Side::BOTH {
                let end = channel.end(side);
                let wants = match channel.state {
                    ChannelState::Offered => side == Side::Offering,
                    state => state == ChannelState::Linked,
                };
                check(end.register.is_some() == wants, "a channel's halves are not those of its state", n)?;
                if let Some(register) = end.register {
                    let linked = self.register(end.domain, register)?.channel == Some((id, side));
                    check(linked, "a channel's half does not name the channel", n)?;
                }
                if let Some(object) = end.object {
                    let endpoint = self.objects.find(object).map(|e| &e.object);
                    let linked =
                        matches!(endpoint, Some(&Object::Endpoint { channel, side: s }) if (channel, s) == (id, side));
                    check(linked, "a channel's endpoint does not name the channel", n)?;
                }
            }
        }
        for (id, entry) in self.objects.iter() {
            if let &Object::Endpoint { channel, side } = &entry.object {
                let linked = self.channels.find(channel).is_some_and(|c| c.end(side).object == Some(id));
                check(linked, "an endpoint names a channel that does not name it", id.index())?;
            }
        }
        for (id, domain) in self.domains.iter() {
            for (number, register) in domain.interactive.iter().flat_map(|i| i.registers.iter().enumerate()) {
                let Some((channel, side)) = register.channel else { continue };
                let end = self.channels.find(channel).map(|c| *c.end(side));
                let linked = end.is_some_and(|e| e.domain == id && e.register == Some(number as u32));
                check(linked, "a qubit names a channel that does not name it", id.0)?;
            }
        }
        Ok(())
    }

    fn qubits(&self) -> impl Iterator<Item = &crate::interactive::register::Qubit> {
        self.objects.iter().filter_map(|(_, e)| if let Object::Qubit(qubit) = &e.object { Some(qubit) } else { None })
    }

    fn strands(&self) -> impl Iterator<Item = (StrandId, &Strand)> {
        self.objects.iter().filter_map(|(id, e)| match &e.object {
            Object::Strand(strand) => Some((StrandId::of(id), &**strand)),
            _ => None,
        })
    }
}

fn is_of(target: &CheckpointTarget, strand: StrandId) -> bool {
    matches!(target, CheckpointTarget::Strand { id, .. } if *id == strand)
}

fn is_within_quota(domain: &Domain) -> bool {
    let (quota, used, held) = (&domain.quota, &domain.used, &domain.held);
    held.strands() <= quota.strands
        && held.qubits() <= quota.qubits
        && held.physical() <= quota.physical_qubits
        && used.instructions <= quota.instructions
        && used.channels <= quota.channels
        && used.checkpoints <= quota.checkpoints
        && used.magic <= quota.magic
}

fn fits_kind(object: &Object, kind: ObjectKind) -> bool {
    let of_object = match object {
        Object::Machine(_) => ObjectKind::Machine,
        Object::Domain(_) => ObjectKind::Domain,
        Object::Image(_) => ObjectKind::Image,
        Object::Strand(_) => ObjectKind::Strand,
        // Only a qubit is destroyed before its capabilities.
        Object::Qubit(_) | Object::Gone => ObjectKind::Qubit,
        Object::Context(_) => ObjectKind::Context,
        Object::Region(_) => ObjectKind::Region,
        Object::Endpoint { .. } => ObjectKind::Endpoint,
        Object::Checkpoint(_) => ObjectKind::Checkpoint,
    };
    kind == of_object
}

//! Derivation, revocation and deletion of capabilities: `Derive`, `Inspect`, `Revoke`, `Delete`.
//!
//! They keep the derivation list of `cap/space.rs`. Architecture invariant: it is a well-formed tree between any two
//! removals, so that a large subtree can be taken down over many calls while others go on.

use crate::cap::space::{Capability, Link, SlotRef};
use crate::domain::Domain;
use crate::errors::{Checked, Result, refuse, refuse_if};
use crate::ids::{DomainId, ObjectId};
use crate::limits::{MAX_BUDGET_DEPTH, MAX_DELETIONS, STEP};
use crate::object::{Machine, Object};
use crate::state::{Deletion, Kernel};
use qmk_abi::syscall::{BadArgument, Budget, ObjectKind};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::{Device, Inline};

impl<D: Device> Kernel<D> {
    pub(crate) fn link(&self, at: SlotRef) -> Checked<&Link> {
        self.domains.get(at.domain)?.capabilities.link(at.slot)
    }

    fn link_mut(&mut self, at: SlotRef) -> Checked<&mut Link> {
        self.domains.get_mut(at.domain)?.capabilities.link_mut(at.slot)
    }

    /// Derives a capability with some of the rights of `source`, into the caller's space or that of the domain `into`.
    /// With a budget, which only machines have, the new capability names a machine object of its own. Returns
    /// [`Reply::Handle`], a handle of the target domain.
    ///
    /// # Errors
    /// The source lacks the rights asked for, or `GRANT` for another domain's space; the target has no slot
    /// left; budgets are nested too deep.
    pub(crate) fn derive(
        &mut self,
        caller: DomainId,
        source: Handle,
        rights: Rights,
        badge: u64,
        into: Option<Handle>,
        budget: Option<Budget>,
    ) -> Result<Reply> {
        let c = self.lookup(caller, source)?;
        refuse_if(!c.rights.contains(rights), KernelError::Rights(rights - c.rights))?;
        let target = match into {
            None => caller,
            Some(_) if !c.rights.contains(Rights::GRANT) => {
                return Err(KernelError::Rights(Rights::GRANT));
            }
            Some(handle) => self.named_domain(caller, handle, Rights::CONTROL)?,
        };
        self.check_slots(target)?;
        let parent = SlotRef { domain: caller, slot: source.slot };
        let mut object = c.object;
        if budget.is_some() {
            let Object::Machine(Machine { depth, .. }) = self.object(object)? else {
                return Err(KernelError::WrongKind);
            };
            let depth = depth + 1;
            if depth > MAX_BUDGET_DEPTH {
                return refuse(BadArgument::BudgetDepth);
            }
            // Strands and qubits of the new budget count against this one too, so this one must outlive it.
            self.hold(c.object)?;
            let machine = Machine { parent: Some(c.object), depth, budget, ..Machine::default() };
            object = self.add_object(Object::Machine(machine));
        }
        // A badge, once set, stays: it tells a server which of its clients a capability came from.
        let inherited = self.link(parent)?.badge;
        let badge = if inherited == 0 { badge } else { inherited };
        let handle = self.insert_capability(target, object, c.kind, rights, badge, Some(parent))?;
        self.help_delete()?;
        Ok(Reply::Handle(handle))
    }

    /// Returns [`Reply::Capability`]: kind, rights and badge of any capability of the caller.
    pub(crate) fn inspect(&self, caller: DomainId, target: Handle) -> Result<Reply> {
        let inspect = |d: &Domain| d.capabilities.inspect(target);
        let (c, badge) = self.domains.find(caller).and_then(inspect).ok_or(KernelError::NoCapability)?;
        Ok(Reply::Capability { kind: c.kind, rights: c.rights, badge })
    }

    /// Deletes up to [`STEP`] of the capabilities that derive from `target`, and last the target if `itself`. Returns
    /// [`Reply::Deleted`] with their number and whether any are left. It takes no right: a holder may always give up a
    /// capability and take back what was made of it.
    pub(crate) fn delete_call(&mut self, caller: DomainId, target: Handle, itself: bool) -> Result<Reply> {
        self.lookup(caller, target)?;
        let (count, more) = self.delete(caller, target, itself)?;
        // Remembered as long as it is under way, so that derivations take it on between two calls.
        let known = self.deletions.iter().position(|d| (d.domain, d.target) == (caller, target));
        match known {
            Some(at) if !more => _ = self.deletions.swap_remove(at),
            None if more && self.deletions.len() < MAX_DELETIONS => {
                self.deletions.push(Deletion { domain: caller, target, itself });
            }
            _ => {}
        }
        Ok(Reply::Deleted { count, more })
    }

    /// Puts a capability in a domain's space, in the derivation list right behind the one that it derives from.
    pub(crate) fn insert_capability(
        &mut self,
        domain: DomainId,
        object: ObjectId,
        kind: ObjectKind,
        rights: Rights,
        badge: u64,
        parent: Option<SlotRef>,
    ) -> Checked<Handle> {
        let (depth, next) = match parent {
            Some(parent) => {
                let link = self.link(parent)?;
                (link.depth + 1, link.next)
            }
            None => (0, None),
        };
        let link = Link { badge, depth, prev: parent, next };
        let handle = self.domains.get_mut(domain)?.capabilities.insert(Capability { object, rights, kind }, link);
        let me = SlotRef { domain, slot: handle.slot };
        if let Some(next) = next {
            self.link_mut(next)?.prev = Some(me);
        }
        if let Some(parent) = parent {
            self.link_mut(parent)?.next = Some(me);
        }
        self.objects.get_mut(object)?.references += 1;
        Ok(handle)
    }

    /// Deletes capabilities derived from a target, and then itself if asked, at most [`STEP`] of them. Returns their
    /// number and whether any are left.
    pub(crate) fn delete(&mut self, domain: DomainId, target: Handle, itself: bool) -> Checked<(u32, bool)> {
        self.delete_some(domain, target, itself, STEP)
    }

    /// Takes the latest deletion that is under way on by two. The derivation that calls this adds one capability, so
    /// deletions end even while the domains that they are about keep deriving.
    fn help_delete(&mut self) -> Checked {
        if let Some(&Deletion { domain, target, itself }) = self.deletions.last()
            && !self.delete_some(domain, target, itself, 2)?.1
        {
            self.deletions.pop();
        }
        Ok(())
    }

    fn delete_some(&mut self, domain: DomainId, target: Handle, itself: bool, most: u32) -> Checked<(u32, bool)> {
        let mut left = most;
        let at = SlotRef { domain, slot: target.slot };
        // Looked up anew each time: deleting a domain's last capability may empty the very space that the target is in.
        let exists = |k: &Self| k.domains.find(domain).is_some_and(|d| d.capabilities.get(target).is_some());
        while exists(self) {
            if !self.empty_dead_spaces(&mut left)? {
                return Ok((most - left, true));
            }
            if exists(self) {
                match self.descendant(at)? {
                    Some(next) if left > 0 => self.remove_capability(next, &mut left)?,
                    Some(_) => return Ok((most - left, true)),
                    None if !itself => break,
                    None if left > 0 => self.remove_capability(at, &mut left)?,
                    None => return Ok((most - left, true)),
                }
            }
        }
        let more = !self.empty_dead_spaces(&mut left)?;
        Ok((most - left, more))
    }

    /// The first of a capability's descendants. They are the run of deeper capabilities behind it, so it is the next
    /// one or there is none.
    fn descendant(&self, at: SlotRef) -> Checked<Option<SlotRef>> {
        let link = self.link(at)?;
        let Some(next) = link.next else { return Ok(None) };
        Ok((self.link(next)?.depth > link.depth).then_some(next))
    }

    /// Empties the spaces of dead domains, with all that derives from what they held. Each removal takes one from
    /// `left`. Returns false if `left` was used up before the end.
    pub(crate) fn empty_dead_spaces(&mut self, left: &mut u32) -> Checked<bool> {
        while let Some(&domain) = self.dying.last() {
            let Some(slot) = self.domains.get_mut(domain)?.capabilities.last() else {
                self.dying.pop();
                self.forget_domain(domain)?;
                continue;
            };
            if *left == 0 {
                return Ok(false);
            }
            // Descendants first, in whatever space they are: they derive their authority from this one.
            let at = SlotRef { domain, slot };
            let next = self.descendant(at)?.unwrap_or(at);
            self.remove_capability(next, left)?;
        }
        Ok(true)
    }

    /// The end of a dead domain, whose space is empty. Nothing of it is left: all that it made derived from what its
    /// space held.
    fn forget_domain(&mut self, domain: DomainId) -> Checked {
        let dead = self.domains.remove(domain)?;
        self.contexts.remove(dead.context)?;
        if let Some(interactive) = dead.interactive {
            self.device.close(interactive.space);
        }
        Ok(())
    }

    /// Deletes one capability, and its object if nothing else names or needs it.
    fn remove_capability(&mut self, at: SlotRef, left: &mut u32) -> Checked {
        *left -= 1;
        let link = self.link(at)?.clone();
        let capability = self.domains.get_mut(at.domain)?.capabilities.remove(at.slot)?;
        if let Some(prev) = link.prev {
            self.link_mut(prev)?.next = link.next;
        }
        if let Some(next) = link.next {
            self.link_mut(next)?.prev = link.prev;
        }
        self.drop_reference(capability.object)
    }
}

//! Derivation and deletion.

use crate::cap::space::{Capability, Link, SlotRef};
use crate::errors::{Result, argument};
use crate::limits::{MAX_BUDGET_DEPTH, MAX_DELETIONS, STEP};
use crate::object::{Machine, Object};
use crate::state::Kernel;
use qmk_abi::syscall::{Budget, ObjectKind};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    pub(crate) fn link(&self, at: SlotRef) -> Option<&Link> {
        self.domain(at.domain)?.capabilities.link(at.slot)
    }

    fn link_mut(&mut self, at: SlotRef) -> Option<&mut Link> {
        self.domain_mut(at.domain)?.capabilities.link_mut(at.slot)
    }

    pub(crate) fn derive(
        &mut self,
        d: u32,
        source: Handle,
        rights: Rights,
        badge: u64,
        into: Option<Handle>,
        budget: Option<Budget>,
    ) -> Result<Reply> {
        let c = self.lookup(d, source)?;
        if !c.rights.contains(rights) {
            return Err(KernelError::Rights(rights - c.rights));
        }
        let target = match into {
            None => d,
            Some(handle) => {
                if !c.rights.contains(Rights::GRANT) {
                    return Err(KernelError::Rights(Rights::GRANT));
                }
                let (object, _) = self.require(d, handle, ObjectKind::Domain, Rights::CONTROL)?;
                match self.object(object) {
                    Object::Domain(t) => *t,
                    _ => return Err(KernelError::WrongKind),
                }
            }
        };
        self.check_slots(target)?;
        let parent = SlotRef { domain: d, slot: source.slot };
        let mut object = c.object;
        if budget.is_some() {
            let Object::Machine(Machine { depth, .. }) = self.object(object) else {
                return Err(KernelError::WrongKind);
            };
            let depth = depth + 1;
            if depth > MAX_BUDGET_DEPTH {
                return argument("budgets are nested too deep");
            }
            self.hold(c.object);
            let machine = Machine { parent: Some(c.object), depth, budget, ..Machine::default() };
            object = self.add_object(Object::Machine(machine));
        }
        // A badge, once set, stays.
        let badge = self.link(parent).map(|l| l.badge).filter(|&b| b != 0).unwrap_or(badge);
        let handle = self.insert(target, object, c.kind, rights, badge, Some(parent));
        self.help_delete();
        handle.map(Reply::Handle).ok_or(KernelError::NoCapability)
    }

    pub(crate) fn delete_call(&mut self, d: u32, target: Handle, itself: bool) -> Result<Reply> {
        self.lookup(d, target)?;
        let (count, more) = self.delete(d, target, itself);
        let known = self.deletions.iter().position(|&(domain, t, _)| (domain, t) == (d, target));
        match known {
            Some(at) if !more => _ = self.deletions.swap_remove(at),
            None if more && self.deletions.len() < MAX_DELETIONS => self.deletions.push((d, target, itself)),
            _ => {}
        }
        Ok(Reply::Deleted { count, more })
    }

    /// Puts a capability in a domain's space, behind the one that it derives from.
    pub(crate) fn insert(
        &mut self,
        domain: u32,
        object: u32,
        kind: ObjectKind,
        rights: Rights,
        badge: u64,
        parent: Option<SlotRef>,
    ) -> Option<Handle> {
        let (depth, next) = match parent.and_then(|p| self.link(p)) {
            Some(link) => (link.depth + 1, link.next),
            None => (0, None),
        };
        let link = Link { badge, depth, prev: parent, next };
        let handle = self.domain_mut(domain)?.capabilities.insert(Capability { object, rights, kind }, link);
        let me = SlotRef { domain, slot: handle.slot };
        if let Some(next) = next.and_then(|n| self.link_mut(n)) {
            next.prev = Some(me);
        }
        if let Some(parent) = parent.and_then(|p| self.link_mut(p)) {
            parent.next = Some(me);
        }
        self.objects.get_mut(object)?.references += 1;
        Some(handle)
    }

    /// Deletes capabilities derived from a target, and then itself if asked, at most [`STEP`] of them. Returns their number
    /// and whether any are left.
    pub(crate) fn delete(&mut self, domain: u32, target: Handle, itself: bool) -> (u32, bool) {
        self.delete_some(domain, target, itself, STEP)
    }

    /// A derivation takes a deletion that is under way on by more than it may have set it back, so that it ends even if those
    /// it is about keep deriving.
    pub(crate) fn help_delete(&mut self) {
        if let Some(&(domain, target, itself)) = self.deletions.last()
            && !self.delete_some(domain, target, itself, 2).1
        {
            self.deletions.pop();
        }
    }

    fn delete_some(&mut self, domain: u32, target: Handle, itself: bool, most: u32) -> (u32, bool) {
        let mut left = most;
        let at = SlotRef { domain, slot: target.slot };
        // The target's own domain may die of it.
        let exists = |k: &Self| k.domain(domain).is_some_and(|d| d.capabilities.get(target).is_some());
        while exists(self) {
            if !self.empty_dead_spaces(&mut left) {
                return (most - left, true);
            }
            if exists(self) {
                match self.descendant(at) {
                    Some(next) if left > 0 => self.remove(next, &mut left),
                    Some(_) => return (most - left, true),
                    None if !itself => break,
                    None if left > 0 => self.remove(at, &mut left),
                    None => return (most - left, true),
                }
            }
        }
        let more = !self.empty_dead_spaces(&mut left);
        (most - left, more)
    }

    /// The first of a capability's descendants.
    fn descendant(&self, at: SlotRef) -> Option<SlotRef> {
        let link = self.link(at)?;
        let next = link.next?;
        (self.link(next)?.depth > link.depth).then_some(next)
    }

    /// Empties the spaces of dead domains, with all that derives from what they held; false if it has to stop before.
    pub(crate) fn empty_dead_spaces(&mut self, left: &mut u32) -> bool {
        while let Some(&domain) = self.dying.last() {
            let slot = self.domains.get_mut(domain as usize).and_then(|d| d.as_mut()?.capabilities.last());
            let Some(slot) = slot else {
                self.dying.pop();
                self.forget_domain(domain);
                continue;
            };
            if *left == 0 {
                return false;
            }
            let at = SlotRef { domain, slot };
            let next = self.descendant(at).unwrap_or(at);
            self.remove(next, left);
        }
        true
    }

    fn forget_domain(&mut self, domain: u32) {
        let Some(dead) = self.domains.get_mut(domain as usize).and_then(Option::take) else { return };
        self.contexts.remove(dead.context);
        if let Some(interactive) = dead.interactive {
            self.device.close(interactive.space);
        }
    }

    /// Deletes one capability, and its object if no other names it.
    fn remove(&mut self, at: SlotRef, left: &mut u32) {
        *left -= 1;
        let Some(link) = self.link(at).cloned() else { return };
        let removed = self.domains.get_mut(at.domain as usize).and_then(|d| d.as_mut()?.capabilities.remove(at.slot));
        let Some(capability) = removed else { return };
        if let Some(prev) = link.prev.and_then(|p| self.link_mut(p)) {
            prev.next = link.next;
        }
        if let Some(next) = link.next.and_then(|n| self.link_mut(n)) {
            next.prev = link.prev;
        }
        if let Some(entry) = self.objects.get_mut(capability.object) {
            entry.references -= 1;
        }
        self.destroy_if_unused(capability.object);
    }
}

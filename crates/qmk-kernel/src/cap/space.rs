//! One domain's capability space, and the links of the derivation list that runs through all spaces.
//!
//! All capabilities form one list in which each is followed by those derived from it, latest first, as in seL4's
//! mapping database: the descendants of a capability are the run of deeper entries behind it. Deleting is unlinking, so
//! a subtree can be taken down in bounded steps, and the list is well-formed between any two of them.

use crate::errors::{Broken, Checked};
use crate::ids::{DomainId, ObjectId};
use alloc::vec::Vec;
use qmk_abi::syscall::ObjectKind;
use qmk_abi::{Handle, Rights};

/// A slot of some domain's space, in use or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotRef {
    pub(crate) domain: DomainId,
    pub(crate) slot: u32,
}

/// The authority that a handle stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capability {
    pub(crate) object: ObjectId,
    pub(crate) rights: Rights,
    /// Kind of the object. It stays when the object is destroyed, so that a stale handle is refused as before.
    pub(crate) kind: ObjectKind,
}

/// The half of a slot that every call reads: small, so that many fit a cache line.
#[derive(Clone, Debug)]
struct Slot {
    /// Raised when the slot is emptied. A handle names the slot only as long as its own generation is this one, which
    /// is what keeps a revoked capability from being used.
    generation: u32,
    capability: Option<Capability>,
}

/// The half of a slot that only derivation and deletion read: its place in the derivation list.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Set once and inherited. The kernel gives it no meaning: a server tells its clients apart by it.
    pub(crate) badge: u64,
    /// Derivations from the first capability, which is the machine's at boot.
    pub(crate) depth: u32,
    pub(crate) prev: Option<SlotRef>,
    pub(crate) next: Option<SlotRef>,
}

/// A domain's capability space.
///
/// `slots` and `links` are of one length; `links` of an empty slot are stale. `free` holds the empty slots whose
/// generations are not used up, and `used` counts those with a capability.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    slots: Vec<Slot>,
    links: Vec<Link>,
    free: Vec<u32>,
    used: u32,
}

impl Space {
    #[inline]
    pub(crate) fn get(&self, handle: Handle) -> Option<Capability> {
        let slot = self.slots.get(handle.slot as usize)?;
        if slot.generation == handle.generation { slot.capability } else { None }
    }

    /// The authority and the badge behind a handle.
    #[inline]
    pub(crate) fn inspect(&self, handle: Handle) -> Option<(Capability, u64)> {
        Some((self.get(handle)?, self.links.get(handle.slot as usize)?.badge))
    }

    /// Slots with a capability.
    pub(crate) const fn used(&self) -> u32 {
        self.used
    }

    /// # Errors
    /// There is no such slot.
    pub(crate) fn link(&self, slot: u32) -> Checked<&Link> {
        self.links.get(slot as usize).ok_or_else(|| no_slot(slot))
    }

    /// # Errors
    /// There is no such slot.
    pub(crate) fn link_mut(&mut self, slot: u32) -> Checked<&mut Link> {
        self.links.get_mut(slot as usize).ok_or_else(|| no_slot(slot))
    }

    pub(crate) fn insert(&mut self, capability: Capability, link: Link) -> Handle {
        self.used += 1;
        if let Some(slot) = self.free.pop()
            && let (Some(s), Some(l)) = (self.slots.get_mut(slot as usize), self.links.get_mut(slot as usize))
        {
            (s.capability, *l) = (Some(capability), link);
            return Handle { slot, generation: s.generation };
        }
        self.slots.push(Slot { generation: 1, capability: Some(capability) });
        self.links.push(link);
        Handle { slot: self.slots.len() as u32 - 1, generation: 1 }
    }

    /// # Errors
    /// The slot is empty.
    pub(crate) fn remove(&mut self, slot: u32) -> Checked<Capability> {
        let entry = self.slots.get_mut(slot as usize).ok_or_else(|| no_slot(slot))?;
        let capability = entry.capability.take().ok_or_else(|| no_slot(slot))?;
        self.used -= 1;
        // A slot whose generations are used up is retired, so that no handle is ever valid twice.
        if let Some(generation) = entry.generation.checked_add(1) {
            entry.generation = generation;
            self.free.push(slot);
        }
        Ok(capability)
    }

    /// The last occupied slot. The empty ones behind it are forgotten, so that emptying a space takes time linear in
    /// its size. Only for the space of a dead domain: a forgotten slot loses its generation.
    pub(crate) fn last(&mut self) -> Option<u32> {
        while self.slots.last().is_some_and(|s| s.capability.is_none()) {
            self.slots.pop();
        }
        self.slots.len().checked_sub(1).map(|s| s as u32)
    }

    /// Handles and capabilities of the slots in use, by slot.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = (Handle, Capability)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((Handle { slot: i as u32, generation: s.generation }, s.capability?)))
    }
}

/// For the audit and its test.
#[cfg(any(test, feature = "audit"))]
impl Space {
    pub(crate) fn is_occupied(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(|s| s.capability.is_some())
    }

    /// Whether it counts its slots, and each slot that is free is empty.
    pub(crate) fn is_well_formed(&self) -> bool {
        let used = self.slots.iter().filter(|s| s.capability.is_some()).count();
        // Slots that `last` forgot stay in `free`.
        let empty = self.free.iter().all(|&slot| !self.is_occupied(slot));
        used == self.used as usize && empty && self.slots.len() <= self.links.len()
    }

    /// Breaks the count, for the test of the audit.
    #[cfg(test)]
    pub(crate) fn corrupt(&mut self) {
        self.used += 1;
    }
}

#[cold]
fn no_slot(slot: u32) -> Broken {
    Broken::met("a slot of a capability space names nothing", Some(slot))
}

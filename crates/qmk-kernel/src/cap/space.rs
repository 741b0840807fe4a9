//! Capability spaces, and the order of derivation that runs through them.
//!
//! All capabilities form one list in which each is followed by those derived from it, latest first, as in seL4's mapping
//! database: the descendants of a capability are the run of deeper entries behind it. Deleting is unlinking, so a subtree can
//! be taken down in bounded steps and is well-formed between any two of them.

use alloc::vec::Vec;
use qmk_abi::syscall::ObjectKind;
use qmk_abi::{Handle, Rights};

/// Names a domain to the embedding of the kernel. Ids are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainId(pub u32);

/// A slot of some domain's space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotRef {
    pub(crate) domain: u32,
    pub(crate) slot: u32,
}

/// What a handle gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capability {
    pub(crate) object: u32,
    pub(crate) rights: Rights,
    pub(crate) kind: ObjectKind,
}

/// What every call looks at.
#[derive(Clone, Debug)]
struct Slot {
    generation: u32,
    capability: Option<Capability>,
}

/// What derivation and deletion look at.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) badge: u64,
    pub(crate) depth: u32,
    pub(crate) prev: Option<SlotRef>,
    pub(crate) next: Option<SlotRef>,
}

/// A domain's capability space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    slots: Vec<Slot>,
    links: Vec<Link>,
    free: Vec<u32>,
    pub(crate) used: u32,
}

impl Space {
    #[inline]
    pub(crate) fn get(&self, handle: Handle) -> Option<Capability> {
        let slot = self.slots.get(handle.slot as usize)?;
        if slot.generation == handle.generation { slot.capability } else { None }
    }

    pub(crate) fn link(&self, slot: u32) -> Option<&Link> {
        self.links.get(slot as usize)
    }

    pub(crate) fn link_mut(&mut self, slot: u32) -> Option<&mut Link> {
        self.links.get_mut(slot as usize)
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

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Capability> {
        let entry = self.slots.get_mut(slot as usize)?;
        let capability = entry.capability.take()?;
        self.used -= 1;
        // A slot whose generations are used up is retired, so that no handle is ever valid twice.
        if let Some(generation) = entry.generation.checked_add(1) {
            entry.generation = generation;
            self.free.push(slot);
        }
        Some(capability)
    }

    /// The last occupied slot; the free ones behind it are forgotten, so that emptying a space is linear. Only for spaces
    /// that no one uses again.
    pub(crate) fn last(&mut self) -> Option<u32> {
        while self.slots.last().is_some_and(|s| s.capability.is_none()) {
            self.slots.pop();
        }
        self.slots.len().checked_sub(1).map(|s| s as u32)
    }

    pub(crate) fn occupied(&self) -> impl Iterator<Item = (Handle, Capability)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((Handle { slot: i as u32, generation: s.generation }, s.capability?)))
    }
}

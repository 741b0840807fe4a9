//! Capability spaces and the derivation tree.

use alloc::vec::Vec;
use qmk_abi::{Handle, Rights};

/// Names a domain to the embedding of the kernel. Domains are never renumbered while they exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainId(pub u32);

/// A slot of some domain's space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotRef {
    pub(crate) domain: u32,
    pub(crate) slot: u32,
}

/// A capability and its place in the derivation tree.
#[derive(Clone, Debug)]
pub(crate) struct Capability {
    pub(crate) object: u32,
    pub(crate) rights: Rights,
    pub(crate) badge: u64,
    pub(crate) parent: Option<SlotRef>,
    /// Most recently derived child; siblings form a doubly linked list.
    pub(crate) child: Option<SlotRef>,
    pub(crate) next: Option<SlotRef>,
    pub(crate) prev: Option<SlotRef>,
}

#[derive(Clone, Debug)]
struct Slot {
    generation: u32,
    capability: Option<Capability>,
}

/// A domain's capability space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    slots: Vec<Slot>,
    free: Vec<u32>,
    pub(crate) used: u32,
}

impl Space {
    pub(crate) fn get(&self, handle: Handle) -> Option<&Capability> {
        let slot = self.slots.get(handle.slot as usize)?;
        (slot.generation == handle.generation).then_some(slot.capability.as_ref())?
    }

    pub(crate) fn at(&self, slot: u32) -> Option<&Capability> {
        self.slots.get(slot as usize)?.capability.as_ref()
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut Capability> {
        self.slots.get_mut(slot as usize)?.capability.as_mut()
    }

    pub(crate) fn insert(&mut self, capability: Capability) -> Handle {
        self.used += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 1, capability: None });
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.capability = Some(capability);
        Handle { slot, generation: entry.generation }
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

    pub(crate) fn occupied(&self) -> impl Iterator<Item = (Handle, &Capability)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((Handle { slot: i as u32, generation: s.generation }, s.capability.as_ref()?)))
    }
}

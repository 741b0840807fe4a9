//! The model's state, and how things are found in it.

use qmk_kernel::DomainId;
use qmk_kernel::abi::syscall::{ChannelState, Quota};
use qmk_kernel::abi::{Handle, Rights};
use qmk_kernel::hal::Place;
use std::collections::{BTreeMap, BTreeSet};

/// A capability's place.
pub(super) type Key = (usize, Handle);

/// What a capability is for: the number is that of a domain, qubit or endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// The machine.
    Machine,
    /// A domain.
    Domain(usize),
    /// A qubit.
    Qubit(usize),
    /// An endpoint.
    End(usize),
}

/// A capability.
#[derive(Clone, Copy, Debug)]
pub struct Cap {
    /// What it names.
    pub thing: Thing,
    /// Its rights.
    pub rights: Rights,
    pub(super) parent: Option<Key>,
}

#[derive(Clone, Debug)]
pub(super) struct Qubit {
    pub(super) owner: usize,
    pub(super) place: Place,
    pub(super) channel: Option<usize>,
    /// Neither measured nor known.
    pub(super) dirty: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) state: ChannelState,
    pub(super) ready: bool,
    pub(super) domains: [usize; 2],
    pub(super) halves: [Option<usize>; 2],
    pub(super) ends: [usize; 2],
    pub(super) pairs: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Tenant {
    pub(super) id: DomainId,
    pub(super) quota: Quota,
    pub(super) alive: bool,
    pub(super) channels: u32,
    pub(super) qubits: u32,
    pub(super) pairs: u64,
}

/// The state of everything that has to do with channels.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) free: u32,
    pub(super) tenants: Vec<Tenant>,
    pub(super) caps: BTreeMap<Key, Cap>,
    pub(super) stale: BTreeSet<Key>,
    pub(super) qubits: Vec<Qubit>,
    /// Channel and side.
    pub(super) ends: Vec<(usize, usize)>,
    pub(super) channels: Vec<Channel>,
    pub(super) expected: Vec<String>,
}

impl Model {
    pub(super) fn cap(&self, d: usize, handle: Handle, need: Rights) -> Option<Thing> {
        self.caps.get(&(d, handle)).filter(|c| c.rights.contains(need)).map(|c| c.thing)
    }

    pub(super) fn end(&self, d: usize, handle: Handle, need: Rights) -> Option<(usize, usize)> {
        match self.cap(d, handle, need) {
            Some(Thing::End(e)) => Some(self.ends[e]),
            _ => None,
        }
    }

    /// Capabilities that a domain holds.
    pub fn held(&self, d: usize) -> impl Iterator<Item = (Handle, Cap)> {
        self.caps.iter().filter(move |(k, _)| k.0 == d).map(|(k, c)| (k.1, *c))
    }

    /// Every handle that is valid in some space, and a few that are valid no more.
    pub fn handles(&self) -> BTreeSet<Handle> {
        self.caps.keys().chain(self.stale.iter().rev().take(3)).map(|k| k.1).collect()
    }

    /// Domains, the root among them.
    pub fn tenants(&self) -> usize {
        self.tenants.len()
    }

    pub(super) fn add(&mut self, d: usize, handle: Handle, cap: Cap) {
        assert!(!self.stale.contains(&(d, handle)), "{handle} was valid before");
        assert!(self.caps.insert((d, handle), cap).is_none(), "{handle} is valid already");
    }
}

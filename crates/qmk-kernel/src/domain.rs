//! Domains: tenants, with their capability space, quota and accounts.

use crate::cap::space::Space;
use crate::errors::{Broken, Checked};
use crate::holding::Holding;
use crate::ids::{ContextId, DomainId};
use crate::interactive::register::Interactive;
use crate::time::Epoch;
use alloc::{boxed::Box, vec::Vec};
use qmk_abi::syscall::{DomainUsage, Quota};

/// One tenant. Its accounts are changed where its objects are made and destroyed.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) capabilities: Space,
    pub(crate) quota: Quota,
    /// Strands not destroyed, and qubits of its strands and interactive space.
    pub(crate) held: Holding,
    /// The other accounts. Strands, qubits, slots and epochs stay 0 here: they are counted in [`Domain::held`], in the
    /// space and in the context.
    pub(crate) used: DomainUsage,
    /// Window of the quota that `used.magic` counts.
    pub(crate) window_number: u64,
    /// The scheduling context of strands that name no other. It lives as long as the domain.
    pub(crate) context: ContextId,
    /// Space of the qubits that it holds one by one; `None` while it holds none.
    pub(crate) interactive: Option<Interactive>,
    /// Epoch in which the last of its ordered pairs is ready.
    pub(crate) link_until: Epoch,
    /// Raised when an interactive qubit is taken, freed or linked. A checkpoint of the qubits is valid for one version.
    pub(crate) qubits_version: u64,
    /// Turns that its strands had at the device, by which turns go around them.
    pub(crate) device_turns: usize,
    /// Device steps done for its strands, over its weight (start-time fair queueing).
    pub(crate) device_vtime: u64,
    /// Its last capability is gone, and its space is being emptied. No call of it succeeds.
    pub(crate) dead: bool,
}

impl Domain {
    /// A domain that holds nothing.
    pub(crate) fn new(quota: Quota, context: ContextId) -> Self {
        Domain {
            capabilities: Space::default(),
            quota,
            held: Holding::default(),
            used: DomainUsage::default(),
            window_number: 0,
            context,
            interactive: None,
            link_until: Epoch::BOOT,
            qubits_version: 0,
            device_turns: 0,
            device_vtime: 0,
            dead: false,
        }
    }

    /// Magic states left in the window of the quota that `now` lies in.
    pub(crate) fn magic_left(&mut self, now: Epoch) -> u64 {
        let number = now.window(self.quota.window);
        if number != self.window_number {
            (self.window_number, self.used.magic) = (number, 0);
        }
        self.quota.magic.saturating_sub(self.used.magic)
    }

    /// Counts magic states in the window last asked for, and for ever.
    pub(crate) fn charge_magic(&mut self, magic: u64) {
        self.used.magic = self.used.magic.saturating_add(magic);
        self.used.total_magic = self.used.total_magic.saturating_add(magic);
    }

    /// Whether the quota has room for more qubits of both kinds.
    pub(crate) fn fits(&self, part: Holding) -> bool {
        self.held
            .plus(part)
            .is_some_and(|sum| sum.qubits() <= self.quota.qubits && sum.physical() <= self.quota.physical_qubits)
    }
}

/// All domains by id. Ids are not used again, so one that is gone leaves a hole, in which its id is no one else's.
#[derive(Debug, Default)]
pub(crate) struct DomainTable(Vec<Option<Box<Domain>>>);

impl DomainTable {
    /// Adds a domain; `None` after 2^32 of them, as ids are not used again.
    pub(crate) fn add(&mut self, domain: Domain) -> Option<DomainId> {
        let id = u32::try_from(self.0.len()).ok()?;
        self.0.push(Some(Box::new(domain)));
        Some(DomainId(id))
    }

    /// The domain, if it exists. Callers of the kernel may ask with the id of one that is gone.
    #[inline]
    pub(crate) fn find(&self, id: DomainId) -> Option<&Domain> {
        self.0.get(id.0 as usize)?.as_deref()
    }

    #[inline]
    pub(crate) fn find_mut(&mut self, id: DomainId) -> Option<&mut Domain> {
        self.0.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// # Errors
    /// The domain is gone, although something of it is left.
    #[inline]
    pub(crate) fn get(&self, id: DomainId) -> Checked<&Domain> {
        self.find(id).ok_or_else(|| missing(id))
    }

    /// The domain, with other parts of the kernel free to be borrowed.
    ///
    /// # Errors
    /// The domain is gone, although something of it is left.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: DomainId) -> Checked<&mut Domain> {
        self.find_mut(id).ok_or_else(|| missing(id))
    }

    /// # Errors
    /// The domain is gone already.
    pub(crate) fn remove(&mut self, id: DomainId) -> Checked<Box<Domain>> {
        self.0.get_mut(id.0 as usize).and_then(Option::take).ok_or_else(|| missing(id))
    }

    /// Domains that exist, the dying ones included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (DomainId, &Domain)> {
        self.0.iter().enumerate().filter_map(|(i, d)| Some((DomainId(i as u32), d.as_deref()?)))
    }
}

#[cold]
fn missing(id: DomainId) -> Broken {
    Broken::met("the id of a domain names nothing", Some(id.0))
}

//! The model's state: a kernel, the capabilities and objects that it should have, and how they are found.

use super::object::{Account, Capability, Channel, Count, Object, Part, Strand, kind};
use qmk_kernel::abi::image::Image;
use qmk_kernel::abi::syscall::{ObjectKind, Quota, StrandStatus};
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;
use qmk_kernel::{DomainId, Kernel};
use std::collections::{BTreeMap, BTreeSet};

/// A kernel, and what it should be.
#[derive(Debug)]
pub struct Model<D> {
    /// The kernel. Calls that change what capabilities there are go through [`Model::call`].
    pub kernel: Kernel<D>,
    /// Quotas of the domains that are alive.
    pub quotas: BTreeMap<DomainId, Quota>,
    pub(super) capabilities: BTreeMap<usize, Capability>,
    pub(super) next: usize,
    /// Each object with the domain whose quota it counts against.
    pub(super) objects: Vec<(Object, DomainId)>,
    /// Objects that some capability names.
    pub(super) live: BTreeSet<usize>,
    pub(super) channels: Vec<Channel>,
    pub(super) accounts: BTreeMap<DomainId, Account>,
    pub(super) shared: Part,
    /// Magic states that each strand has cost, as last seen.
    pub(super) costs: BTreeMap<usize, u64>,
    /// Magic states of that which undid something, by strand.
    pub(super) undone: BTreeMap<usize, u64>,
    /// What a strand had cost when a checkpoint was taken: in all, and to undo something.
    pub(super) marks: BTreeMap<usize, (u64, u64)>,
    /// Every handle that was ever freed, by domain.
    pub(super) freed: BTreeSet<(DomainId, Handle)>,
    pub(super) machine_size: u32,
    pub(super) magic_rate: u64,
    /// Calls so far, by kind.
    pub counts: BTreeMap<&'static str, Count>,
    /// Calls so far.
    pub transitions: u64,
}

impl<D: Device> Model<D> {
    /// Boots a kernel with a root domain of this quota. Returns the root and its machine capability as well.
    pub fn boot_on(device: D, quota: Quota) -> (Self, DomainId, Handle) {
        let spec = device.spec();
        let shared = Part {
            qubits: spec.logical_qubits,
            routes: spec.routes_per_epoch,
            rate: spec.magic_per_epoch,
            buffer: if spec.magic_per_epoch == 0 { 0 } else { spec.magic_buffer },
        };
        let (kernel, root, machine) = Kernel::boot(device, 1, quota);
        let capability =
            Capability { domain: root, handle: machine, object: 0, rights: Rights::all(), badge: 0, parent: None };
        let model = Model {
            kernel,
            quotas: BTreeMap::from([(root, quota)]),
            capabilities: BTreeMap::from([(0, capability)]),
            next: 1,
            objects: vec![(Object::Machine { parent: None, depth: 0, budget: None, magic: 0 }, root)],
            live: BTreeSet::from([0]),
            channels: Vec::new(),
            accounts: BTreeMap::from([(root, Account::default())]),
            shared,
            costs: BTreeMap::new(),
            undone: BTreeMap::new(),
            marks: BTreeMap::new(),
            freed: BTreeSet::new(),
            machine_size: shared.qubits,
            magic_rate: shared.rate as u64,
            counts: BTreeMap::new(),
            transitions: 0,
        };
        (model, root, machine)
    }

    /// The same expectations of another kernel that went through the same calls.
    pub fn over(&self, kernel: Kernel<D>) -> Self {
        Model {
            kernel,
            quotas: self.quotas.clone(),
            capabilities: self.capabilities.clone(),
            next: self.next,
            objects: self.objects.clone(),
            live: self.live.clone(),
            channels: self.channels.clone(),
            accounts: self.accounts.clone(),
            shared: self.shared,
            costs: self.costs.clone(),
            undone: self.undone.clone(),
            marks: self.marks.clone(),
            freed: self.freed.clone(),
            machine_size: self.machine_size,
            magic_rate: self.magic_rate,
            counts: BTreeMap::new(),
            transitions: 0,
        }
    }

    /// Handles a domain holds, in order.
    pub fn held(&self, domain: DomainId) -> Vec<Handle> {
        let mut handles: Vec<_> = self.capabilities.values().filter(|c| c.domain == domain).map(|c| c.handle).collect();
        handles.sort();
        handles
    }

    /// Handles that were valid once.
    pub fn freed(&self) -> Vec<Handle> {
        self.freed.iter().map(|(_, h)| *h).collect()
    }

    /// Every domain that ever was.
    pub fn domains(&self) -> Vec<DomainId> {
        let made = self.objects.iter().filter_map(|(o, _)| if let Object::Domain(d) = o { Some(*d) } else { None });
        std::iter::once(DomainId(0)).chain(made).collect()
    }

    /// Numbers of live capabilities, of objects they name, and of domains.
    pub fn sizes(&self) -> [usize; 3] {
        [self.capabilities.len(), self.live.len(), self.quotas.len()]
    }

    /// The derivation tree, siblings by age, with domains and objects numbered as they are met: states that differ only
    /// in names have the same key.
    pub fn key(&self) -> Vec<u32> {
        let mut names: [Vec<u32>; 2] = [vec![0], Vec::new()];
        let mut name = |of: usize, id: u32| {
            let at = names[of].iter().position(|&n| n == id);
            at.unwrap_or_else(|| {
                names[of].push(id);
                names[of].len() - 1
            }) as u32
        };
        let mut key = Vec::new();
        let mut work = vec![(0, 0)];
        while let Some((i, depth)) = work.pop() {
            let Some(c) = self.capabilities.get(&i) else { continue };
            let target = match &self.objects[c.object].0 {
                Object::Domain(d) => name(0, d.0),
                _ => u32::MAX,
            };
            let holder = name(0, c.domain.0);
            key.extend([depth, holder, name(1, c.object as u32), target, c.rights.bits(), c.badge as u32]);
            work.extend(self.capabilities.iter().filter(|(_, c)| c.parent == Some(i)).map(|(&j, _)| (j, depth + 1)));
        }
        key
    }

    /// What a handle names, if anything.
    pub fn object_of(&self, domain: DomainId, handle: Handle) -> Option<usize> {
        self.find(domain, handle).map(|(_, c)| c.object)
    }

    pub(super) fn find(&self, domain: DomainId, handle: Handle) -> Option<(usize, &Capability)> {
        self.capabilities.iter().find(|(_, c)| c.domain == domain && c.handle == handle).map(|(i, c)| (*i, c))
    }

    /// A capability of this kind with these rights: its index, its object and its rights.
    pub(super) fn allowed(
        &self,
        d: DomainId,
        handle: Handle,
        wanted: ObjectKind,
        need: Rights,
    ) -> Option<(usize, usize, Rights)> {
        let (i, c) = self.find(d, handle)?;
        let fits = kind(&self.objects[c.object].0) == wanted && c.rights.contains(need);
        fits.then_some((i, c.object, c.rights))
    }

    pub(super) fn object(&self, object: usize) -> &Object {
        &self.objects[object].0
    }

    /// The image that a handle names, if any.
    pub fn image(&self, domain: DomainId, handle: Handle) -> Option<&Image> {
        match self.object(self.object_of(domain, handle)?) {
            Object::Image(image) => Some(image),
            _ => None,
        }
    }

    pub(super) fn owner(&self, object: usize) -> DomainId {
        self.objects[object].1
    }

    pub(super) fn live_strands(&self) -> Vec<(usize, DomainId, Strand)> {
        let strand = |&o: &usize| match self.object(o) {
            Object::Strand(s) => Some((o, self.owner(o), (**s).clone())),
            _ => None,
        };
        self.live.iter().filter_map(strand).collect()
    }

    pub(super) fn live_qubits(&self) -> impl Iterator<Item = (usize, usize)> {
        self.live.iter().filter_map(|&o| match self.object(o) {
            Object::Qubit { machine, .. } => Some((o, *machine)),
            _ => None,
        })
    }

    /// No strand exists, so that nothing depends on the schedule.
    pub(super) fn quiet(&self) -> bool {
        !self.live.iter().any(|&o| matches!(self.object(o), Object::Strand(_)))
    }

    /// Qubits of the shared part that are free, if no strand is there.
    pub(super) fn shared_free(&self) -> u32 {
        self.shared.qubits - self.live_qubits().count() as u32
    }

    /// No spaces ever met.
    pub(super) fn unlinked(&self) -> bool {
        self.accounts.values().all(|a| a.pairs == 0) && self.channels.iter().all(|c| c.ready_at == 0)
    }

    /// Some capability to an object that may read it. The first one that there was may, and all others derive from it.
    pub(super) fn reader(&self, object: usize) -> (DomainId, Handle) {
        let reader = self.capabilities.values().find(|c| c.object == object && c.rights.contains(Rights::READ));
        reader.map(|c| (c.domain, c.handle)).expect("an object that no one can read")
    }

    /// Status of a strand object, read by whoever may.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn status(&mut self, object: usize) -> StrandStatus {
        let (domain, strand) = self.reader(object);
        match self.kernel.syscall(domain, Syscall::Status { strand }) {
            Ok(Reply::Status(s)) => s,
            other => panic!("status of a held strand: {other:?}"),
        }
    }

    pub(super) fn add(&mut self, object: Object, owner: DomainId) -> usize {
        self.objects.push((object, owner));
        self.live.insert(self.objects.len() - 1);
        self.objects.len() - 1
    }

    pub(super) fn insert(
        &mut self,
        domain: DomainId,
        handle: Handle,
        object: usize,
        rights: Rights,
        badge: u64,
        parent: usize,
    ) {
        assert!(self.find(domain, handle).is_none(), "{handle} is in use");
        assert!(!self.freed.contains(&(domain, handle)), "{handle} was freed and came back");
        let c = Capability { domain, handle, object, rights, badge, parent: Some(parent) };
        self.capabilities.insert(self.next, c);
        self.next += 1;
    }

    pub(super) fn account(&mut self, d: DomainId) -> &mut Account {
        self.accounts.get_mut(&d).expect("a domain")
    }

    pub(super) fn account_of(&mut self, object: usize) -> &mut Account {
        self.account(self.owner(object))
    }
}

//! Objects, system-call dispatch and the epoch loop.

use crate::admit::{Admitted, Limits, admit};
use crate::capability::{Capability, DomainId, SlotRef, Space};
use crate::strand::{Budget, Strand};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_abi::image::{Image, Instr, Op};
use qmk_abi::syscall::{DomainUsage, Limit, ObjectKind, Quota, StrandState};
use qmk_abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_hal::{Device, SpaceId, SpaceSpec};

/// Largest reply to `Outcomes`.
const OUTCOME_BYTES: u64 = 1 << 20;
/// Most turns of one epoch, all strands together.
const TURNS: u64 = 8;
/// Device steps of a turn that are worth having more turns in an epoch.
const STEPS: u64 = 1 << 11;

#[derive(Debug)]
enum Object {
    Machine,
    Domain(u32),
    Image { owner: u32, image: Arc<Admitted> },
    Strand(Box<Strand>),
    Qubit { owner: u32, register: u32 },
}

impl Object {
    fn kind(&self) -> ObjectKind {
        match self {
            Object::Machine => ObjectKind::Machine,
            Object::Domain(_) => ObjectKind::Domain,
            Object::Image { .. } => ObjectKind::Image,
            Object::Strand(_) => ObjectKind::Strand,
            Object::Qubit { .. } => ObjectKind::Qubit,
        }
    }
}

#[derive(Debug)]
struct Entry {
    object: Object,
    /// Capabilities that name it.
    references: u32,
}

#[derive(Debug)]
struct Domain {
    capabilities: Space,
    quota: Quota,
    used: DomainUsage,
    /// Space of interactive qubits, opened on first use.
    interactive: Option<SpaceId>,
    free_registers: Vec<u32>,
    registers: u32,
    /// Turns at the device that its strands have had.
    turns: usize,
}

impl Domain {
    fn new(quota: Quota) -> Self {
        Domain {
            capabilities: Space::default(),
            quota,
            used: DomainUsage::default(),
            interactive: None,
            free_registers: Vec::new(),
            registers: 0,
            turns: 0,
        }
    }
}

/// A strand that runs or drains. Ids tell the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Running {
    owner: u32,
    priority: Reverse<i32>,
    id: u32,
}

/// What one epoch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochReport {
    /// Number of the epoch.
    pub epoch: u64,
    /// Instructions issued.
    pub issued: u32,
    /// Strands that ended in it.
    pub ended: u32,
    /// Turns that strands had at the device.
    pub turns: u32,
    /// Whether any strand still waits, runs or drains.
    pub busy: bool,
}

/// The kernel over a device.
#[derive(Debug)]
pub struct Kernel<D> {
    device: D,
    limits: Limits,
    seed: u64,
    epoch: u64,
    magic_stock: u32,
    free_qubits: u32,
    domains: BTreeMap<u32, Domain>,
    next_domain: u32,
    objects: BTreeMap<u32, Entry>,
    next_object: u32,
    /// Strands that have not started, in order of arrival.
    waiting: Vec<u32>,
    /// Strands that have started and not ended, sorted.
    running: Vec<Running>,
    /// Tenant that issued first in the last epoch.
    first: u32,
    /// Turns at the device that tenants have had.
    turns: usize,
    /// Device steps of one epoch.
    pace: u64,
    /// Domains destroyed by the deletion under way.
    dying: Vec<u32>,
}

impl<D: Device> Kernel<D> {
    /// Device steps of one epoch, at boot.
    pub const PACE: u64 = 1 << 18;

    /// Boots on a device. Returns the kernel, the root domain and its machine capability, which has every right.
    /// `seed` seeds interactive qubits; strands bring their own.
    pub fn boot(device: D, seed: u64, quota: Quota) -> (Self, DomainId, Handle) {
        let free_qubits = device.spec().logical_qubits;
        let mut kernel = Kernel {
            device,
            limits: Limits::default(),
            seed,
            epoch: 0,
            magic_stock: 0,
            free_qubits,
            domains: BTreeMap::from([(0, Domain::new(quota))]),
            next_domain: 1,
            objects: BTreeMap::new(),
            next_object: 0,
            waiting: Vec::new(),
            running: Vec::new(),
            first: 0,
            turns: 0,
            pace: Self::PACE,
            dying: Vec::new(),
        };
        let object = kernel.add_object(Object::Machine);
        let machine = kernel.insert(0, object, Rights::all(), 0, None);
        (kernel, DomainId(0), machine)
    }

    /// Sets the device steps of one epoch, which is how long it keeps callers waiting. What programs measure does not
    /// depend on it.
    pub fn set_pace(&mut self, steps: u64) {
        self.pace = steps.max(1);
    }

    /// Current epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Logical qubits no one holds.
    pub fn free_qubits(&self) -> u32 {
        self.free_qubits
    }

    /// The device, for inspection.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The domain a `Domain` capability of `caller` names.
    pub fn domain_of(&self, caller: DomainId, handle: Handle) -> Option<DomainId> {
        let capability = self.domains.get(&caller.0)?.capabilities.get(handle)?;
        match self.objects.get(&capability.object)?.object {
            Object::Domain(d) => Some(DomainId(d)),
            _ => None,
        }
    }

    /// Handles, kinds and rights in a domain's space, for audits and tests.
    pub fn capabilities(&self, domain: DomainId) -> Vec<(Handle, ObjectKind, Rights)> {
        let Some(domain) = self.domains.get(&domain.0) else { return Vec::new() };
        let kind = |object| self.objects.get(object).map(|e| e.object.kind());
        domain.capabilities.occupied().filter_map(|(h, c)| Some((h, kind(&c.object)?, c.rights))).collect()
    }

    /// Performs a system call for `caller`. A refused call changes nothing.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub fn syscall(&mut self, caller: DomainId, call: Syscall) -> Result<Reply, KernelError> {
        let d = caller.0;
        if !self.domains.contains_key(&d) {
            return Err(KernelError::NoCapability);
        }
        match call {
            Syscall::CreateDomain { machine, quota } => self.create_domain(d, machine, quota),
            Syscall::Derive { source, rights, badge, into } => self.derive(d, source, rights, badge, into),
            Syscall::Revoke { target } => {
                let slot = self.slot(d, target)?;
                Ok(Reply::Deleted(self.delete_tree(slot, false)))
            }
            Syscall::Delete { target } => {
                let slot = self.slot(d, target)?;
                Ok(Reply::Deleted(self.delete_tree(slot, true)))
            }
            Syscall::Inspect { target } => {
                let c = self.lookup(d, target)?;
                let kind = self.objects[&c.object].object.kind();
                Ok(Reply::Capability { kind, rights: c.rights, badge: c.badge })
            }
            Syscall::Admit { machine, image } => self.admit(d, machine, image),
            Syscall::Spawn { machine, image, shots, seed, priority } => {
                self.spawn(d, machine, image, shots, seed, priority)
            }
            Syscall::Status { strand } => Ok(Reply::Status(self.strand(d, strand)?.status())),
            Syscall::Outcomes { strand, first, count } => self.outcomes(d, strand, first, count),
            Syscall::TakeQubit { machine } => self.take_qubit(d, machine),
            Syscall::Apply { machine, op, qubits } => self.apply(d, machine, op, &qubits),
            Syscall::Usage => {
                let domain = &self.domains[&d];
                let used = DomainUsage { slots: domain.capabilities.used, ..domain.used };
                Ok(Reply::Usage { used, quota: domain.quota })
            }
        }
    }

    /// Runs one epoch: starts strands that fit, issues ready instructions under the epoch's resources, and lets the
    /// device finish shots.
    pub fn advance(&mut self) -> EpochReport {
        self.epoch += 1;
        self.start_waiting();
        let spec = self.device.spec();
        self.magic_stock = self.magic_stock.saturating_add(spec.magic_per_epoch).min(spec.magic_buffer);
        let mut budget = Budget { magic: self.magic_stock, routes: spec.routes_per_epoch };
        let mut report = EpochReport { epoch: self.epoch, ..EpochReport::default() };
        let first = self.first_to_issue();
        let mut all_issue = true;
        for at in (first..self.running.len()).chain(0..first) {
            let entry = self.objects.get_mut(&self.running[at].id);
            let Some(Entry { object: Object::Strand(strand), .. }) = entry else { continue };
            if strand.state == StrandState::Running {
                report.issued += strand.run_epoch(&mut self.device, self.epoch, &mut budget);
            }
            all_issue &= strand.state == StrandState::Running;
        }
        // A strand that issues neither drains nor ends.
        if !all_issue {
            report.turns = self.drain();
            report.ended = self.end();
        }
        self.magic_stock = budget.magic;
        report.busy = !(self.waiting.is_empty() && self.running.is_empty());
        report
    }

    /// Where among the running strands an epoch begins: the first turn goes around the tenants.
    fn first_to_issue(&mut self) -> usize {
        let after = self.running.partition_point(|r| r.owner <= self.first);
        let first = if after < self.running.len() { after } else { 0 };
        self.first = self.running.get(first).map_or(0, |r| r.owner);
        first
    }

    /// Takes out strands that have ended; returns their number.
    fn end(&mut self) -> u32 {
        let mut running = core::mem::take(&mut self.running);
        let before = running.len();
        running.retain(|r| {
            let Some(Entry { object: Object::Strand(strand), .. }) = self.objects.get(&r.id) else { return false };
            let ended = matches!(strand.state, StrandState::Done | StrandState::Faulted);
            if ended {
                self.return_qubits(r.owner, strand.image.peak_qubits);
            }
            !ended
        });
        self.running = running;
        (before - self.running.len()) as u32
    }

    /// Lets the device finish shots. Turns go around the tenants that have issued all of a program, and within a
    /// tenant around its strands, so that an epoch takes the same time however many there are.
    fn drain(&mut self) -> u32 {
        let mut draining: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut issuing = false;
        for r in &self.running {
            let Object::Strand(s) = &self.objects[&r.id].object else { continue };
            match s.state {
                StrandState::Draining => draining.entry(r.owner).or_default().push(r.id),
                StrandState::Running => issuing = true,
                _ => {}
            }
        }
        let mut owners: Vec<u32> = draining.keys().copied().collect();
        // A strand that still issues gets on by one epoch at a time, and must not wait long for the shots of others.
        let turns = (self.pace / STEPS).clamp(1, TURNS);
        let steps = (self.pace / turns).max(1);
        let most = if issuing { 1 } else { turns as u32 };
        for turn in 0..most {
            if owners.is_empty() {
                return turn;
            }
            self.turns = self.turns.wrapping_add(1);
            let at = self.turns % owners.len();
            let (Some(domain), Some(strands)) = (self.domains.get_mut(&owners[at]), draining.get_mut(&owners[at]))
            else {
                break;
            };
            domain.turns = domain.turns.wrapping_add(1);
            let next = domain.turns % strands.len();
            let Some(Entry { object: Object::Strand(strand), .. }) = self.objects.get_mut(&strands[next]) else {
                break;
            };
            strand.drain(&mut self.device, steps);
            if strand.state != StrandState::Draining {
                strands.remove(next);
                if strands.is_empty() {
                    owners.remove(at);
                }
            }
        }
        most
    }

    /// Starts waiting strands in order of arrival. A strand that waits for its own domain's quota holds up that
    /// domain only; one that waits for the machine holds up all behind it, so that none starves.
    fn start_waiting(&mut self) {
        let mut blocked: Vec<u32> = Vec::new();
        let mut full = false;
        for id in core::mem::take(&mut self.waiting) {
            let Some(Entry { object: Object::Strand(strand), .. }) = self.objects.get_mut(&id) else { continue };
            let (owner, peak) = (strand.owner, strand.image.peak_qubits);
            let Some(domain) = self.domains.get_mut(&owner) else { continue };
            if !full && !blocked.contains(&owner) {
                if peak > domain.quota.qubits.saturating_sub(domain.used.qubits) {
                    blocked.push(owner);
                } else {
                    full = peak > self.free_qubits;
                }
            }
            if full || blocked.contains(&owner) {
                self.waiting.push(id);
                continue;
            }
            let spec = SpaceSpec {
                image: strand.image.image.clone(),
                noise: Arc::default(),
                shots: strand.shots,
                seed: strand.seed,
                max_active: domain.quota.active,
            };
            self.free_qubits -= peak;
            domain.used.qubits += peak;
            match self.device.open(spec) {
                Ok(space) => strand.start(space, self.epoch),
                Err(e) => {
                    strand.fail(e, 0);
                }
            }
            let running = Running { owner, priority: Reverse(strand.priority), id };
            let at = self.running.partition_point(|r| *r < running);
            self.running.insert(at, running);
        }
    }

    fn return_qubits(&mut self, owner: u32, count: u32) {
        self.free_qubits += count;
        if let Some(domain) = self.domains.get_mut(&owner) {
            domain.used.qubits -= count;
        }
    }

    // Capability plumbing.

    fn lookup(&self, domain: u32, handle: Handle) -> Result<&Capability, KernelError> {
        self.domains[&domain].capabilities.get(handle).ok_or(KernelError::NoCapability)
    }

    fn slot(&self, domain: u32, handle: Handle) -> Result<SlotRef, KernelError> {
        self.lookup(domain, handle).map(|_| SlotRef { domain, slot: handle.slot })
    }

    /// The object and rights behind a handle, if it is of this kind and has these rights.
    fn require(&self, d: u32, handle: Handle, kind: ObjectKind, need: Rights) -> Result<(u32, Rights), KernelError> {
        let c = self.lookup(d, handle)?;
        if self.objects[&c.object].object.kind() != kind {
            return Err(KernelError::WrongKind);
        }
        if !c.rights.contains(need) {
            return Err(KernelError::Rights(need - c.rights));
        }
        Ok((c.object, c.rights))
    }

    fn check_slots(&self, domain: u32) -> Result<(), KernelError> {
        let d = &self.domains[&domain];
        if d.capabilities.used >= d.quota.slots { Err(KernelError::Quota(Limit::Slots)) } else { Ok(()) }
    }

    fn add_object(&mut self, object: Object) -> u32 {
        let id = self.next_object;
        self.next_object += 1;
        self.objects.insert(id, Entry { object, references: 0 });
        id
    }

    fn insert(&mut self, domain: u32, object: u32, rights: Rights, badge: u64, parent: Option<SlotRef>) -> Handle {
        self.objects.get_mut(&object).expect("object exists").references += 1;
        let next = parent.and_then(|p| self.capability_mut(p)).and_then(|p| p.child);
        let capability = Capability { object, rights, badge, parent, child: None, next, prev: None };
        let handle = self.domains.get_mut(&domain).expect("domain exists").capabilities.insert(capability);
        let me = SlotRef { domain, slot: handle.slot };
        if let Some(next) = next.and_then(|n| self.capability_mut(n)) {
            next.prev = Some(me);
        }
        if let Some(parent) = parent.and_then(|p| self.capability_mut(p)) {
            parent.child = Some(me);
        }
        handle
    }

    fn capability_mut(&mut self, at: SlotRef) -> Option<&mut Capability> {
        self.domains.get_mut(&at.domain)?.capabilities.at_mut(at.slot)
    }

    /// Deletes the descendants of a capability, and itself if asked. Destroying a domain's last capability deletes what its
    /// space holds in turn; a work list keeps the depth of the tree off the stack.
    fn delete_tree(&mut self, root: SlotRef, including_root: bool) -> u32 {
        let mut work = Vec::new();
        let children = |kernel: &Self, at: SlotRef, work: &mut Vec<SlotRef>| {
            let get = |at: SlotRef| kernel.domains.get(&at.domain)?.capabilities.at(at.slot);
            let mut child = get(at).and_then(|c| c.child);
            while let Some(c) = child {
                work.push(c);
                child = get(c).and_then(|c| c.next);
            }
        };
        if including_root {
            work.push(root);
        } else {
            children(self, root, &mut work);
        }
        let mut deleted = 0;
        while let Some(at) = work.pop() {
            children(self, at, &mut work);
            let Some(c) = self.domains.get_mut(&at.domain).and_then(|d| d.capabilities.remove(at.slot)) else {
                continue;
            };
            deleted += 1;
            // Unlink; children were queued and lose their parent with it.
            if let Some(prev) = c.prev.and_then(|p| self.capability_mut(p)) {
                prev.next = c.next;
            } else if let Some(parent) = c.parent.and_then(|p| self.capability_mut(p)) {
                parent.child = c.next;
            }
            if let Some(next) = c.next.and_then(|n| self.capability_mut(n)) {
                next.prev = c.prev;
            }
            let entry = self.objects.get_mut(&c.object).expect("a capability names an object");
            entry.references -= 1;
            if entry.references == 0 {
                let entry = self.objects.remove(&c.object).expect("looked up above");
                self.destroy(c.object, entry.object, &mut work);
            }
        }
        for domain in core::mem::take(&mut self.dying) {
            self.domains.remove(&domain);
        }
        deleted
    }

    fn destroy(&mut self, id: u32, object: Object, work: &mut Vec<SlotRef>) {
        match object {
            Object::Machine => {}
            Object::Domain(d) => {
                let Some(domain) = self.domains.get_mut(&d) else { return };
                // All it created derives from what its space holds, so nothing of it survives this.
                work.extend(domain.capabilities.occupied().map(|(h, _)| SlotRef { domain: d, slot: h.slot }));
                if let Some(space) = domain.interactive.take() {
                    self.device.close(space);
                }
                self.dying.push(d);
            }
            Object::Image { owner, image } => {
                if let Some(domain) = self.domains.get_mut(&owner) {
                    domain.used.instructions -= image.image.code.len() as u32;
                }
            }
            Object::Strand(strand) => {
                if let Some(space) = strand.space {
                    self.device.close(space);
                }
                let holds_qubits = matches!(strand.state, StrandState::Running | StrandState::Draining);
                if holds_qubits {
                    self.return_qubits(strand.owner, strand.image.peak_qubits);
                }
                self.waiting.retain(|&s| s != id);
                self.running.retain(|r| r.id != id);
                if let Some(domain) = self.domains.get_mut(&strand.owner) {
                    domain.used.strands -= 1;
                }
            }
            Object::Qubit { owner, register } => {
                self.return_qubits(owner, 1);
                if let Some(domain) = self.domains.get_mut(&owner) {
                    domain.free_registers.push(register);
                    if let Some(space) = domain.interactive {
                        // The only failure is a space that already faulted, whose states are lost anyway.
                        let _ = self.device.perform(space, Instr { op: Op::Free(register), cond: None });
                    }
                }
            }
        }
    }

    // System calls.

    fn create_domain(&mut self, d: u32, machine: Handle, quota: Quota) -> Result<Reply, KernelError> {
        self.require(d, machine, ObjectKind::Machine, Rights::ADMIN)?;
        self.check_slots(d)?;
        let id = self.next_domain;
        self.next_domain = id.checked_add(1).ok_or_else(|| KernelError::Argument("domain ids used up".into()))?;
        self.domains.insert(id, Domain::new(quota));
        let object = self.add_object(Object::Domain(id));
        let parent = SlotRef { domain: d, slot: machine.slot };
        Ok(Reply::Handle(self.insert(d, object, Rights::OBJECT, 0, Some(parent))))
    }

    fn derive(
        &mut self,
        d: u32,
        source: Handle,
        rights: Rights,
        badge: u64,
        into: Option<Handle>,
    ) -> Result<Reply, KernelError> {
        let c = self.lookup(d, source)?;
        let (object, held, old_badge) = (c.object, c.rights, c.badge);
        if !held.contains(rights) {
            return Err(KernelError::Rights(rights - held));
        }
        let target = match into {
            None => d,
            Some(handle) => {
                if !held.contains(Rights::GRANT) {
                    return Err(KernelError::Rights(Rights::GRANT));
                }
                let (object, _) = self.require(d, handle, ObjectKind::Domain, Rights::CONTROL)?;
                match self.objects[&object].object {
                    Object::Domain(t) => t,
                    _ => return Err(KernelError::WrongKind),
                }
            }
        };
        self.check_slots(target)?;
        // A badge, once set, stays.
        let badge = if old_badge != 0 { old_badge } else { badge };
        let parent = SlotRef { domain: d, slot: source.slot };
        Ok(Reply::Handle(self.insert(target, object, rights, badge, Some(parent))))
    }

    fn admit(&mut self, d: u32, machine: Handle, image: Image) -> Result<Reply, KernelError> {
        let (_, rights) = self.require(d, machine, ObjectKind::Machine, Rights::USE)?;
        self.check_slots(d)?;
        let domain = &self.domains[&d];
        let size = image.code.len() as u64 + domain.used.instructions as u64;
        if size > domain.quota.instructions as u64 {
            return Err(KernelError::Quota(Limit::Instructions));
        }
        let admitted = admit(image, rights, self.limits).map_err(KernelError::Image)?;
        let domain = self.domains.get_mut(&d).expect("caller exists");
        domain.used.instructions = size as u32;
        let object = self.add_object(Object::Image { owner: d, image: Arc::new(admitted) });
        let parent = SlotRef { domain: d, slot: machine.slot };
        Ok(Reply::Handle(self.insert(d, object, Rights::OBJECT, 0, Some(parent))))
    }

    fn spawn(
        &mut self,
        d: u32,
        machine: Handle,
        image: Handle,
        shots: u64,
        seed: u64,
        priority: i32,
    ) -> Result<Reply, KernelError> {
        let (_, rights) = self.require(d, machine, ObjectKind::Machine, Rights::USE)?;
        let (object, _) = self.require(d, image, ObjectKind::Image, Rights::USE)?;
        self.check_slots(d)?;
        let Object::Image { image, .. } = &self.objects[&object].object else { return Err(KernelError::WrongKind) };
        if !rights.contains(image.classes) {
            return Err(KernelError::Rights(image.classes - rights));
        }
        if shots == 0 {
            return Err(KernelError::Argument("shots must be at least 1".into()));
        }
        let domain = &self.domains[&d];
        let available = self.device.spec().logical_qubits;
        if image.peak_qubits > available {
            return Err(KernelError::Capacity { requested: image.peak_qubits, available });
        }
        if image.peak_qubits > domain.quota.qubits {
            return Err(KernelError::Quota(Limit::Qubits));
        }
        if domain.used.strands >= domain.quota.strands {
            return Err(KernelError::Quota(Limit::Strands));
        }
        let strand = Strand::new(d, image.clone(), shots, seed, priority);
        self.domains.get_mut(&d).expect("caller exists").used.strands += 1;
        let object = self.add_object(Object::Strand(Box::new(strand)));
        self.waiting.push(object);
        let parent = SlotRef { domain: d, slot: machine.slot };
        Ok(Reply::Handle(self.insert(d, object, Rights::OBJECT, 0, Some(parent))))
    }

    fn strand(&self, d: u32, handle: Handle) -> Result<&Strand, KernelError> {
        let (object, _) = self.require(d, handle, ObjectKind::Strand, Rights::READ)?;
        match &self.objects[&object].object {
            Object::Strand(s) => Ok(s),
            _ => Err(KernelError::WrongKind),
        }
    }

    fn outcomes(&self, d: u32, handle: Handle, first: u64, count: u32) -> Result<Reply, KernelError> {
        let strand = self.strand(d, handle)?;
        let (Some(space), true) = (strand.space, first < strand.shots_done()) else {
            return Err(KernelError::NotReady);
        };
        let stride = strand.image.image.events.div_ceil(8).max(1) as u64;
        let count = (count as u64).min(strand.shots_done() - first).min((OUTCOME_BYTES / stride).max(1));
        if strand.image.image.code.is_empty() {
            return Ok(Reply::Outcomes(alloc::vec![0; (count * stride) as usize]));
        }
        let mut bytes = Vec::with_capacity((count * stride) as usize);
        self.device.outcomes(space, first, count as u32, &mut bytes);
        Ok(Reply::Outcomes(bytes))
    }

    fn take_qubit(&mut self, d: u32, machine: Handle) -> Result<Reply, KernelError> {
        self.require(d, machine, ObjectKind::Machine, Rights::USE | Rights::ALLOC)?;
        self.check_slots(d)?;
        let available = self.device.spec().logical_qubits;
        let domain = self.domains.get_mut(&d).expect("caller exists");
        if domain.used.qubits >= domain.quota.qubits {
            return Err(KernelError::Quota(Limit::Qubits));
        }
        if self.free_qubits == 0 {
            return Err(KernelError::Capacity { requested: 1, available });
        }
        let device_error = |e: qmk_hal::DeviceError| KernelError::Device(e.to_string());
        let space = match domain.interactive {
            Some(space) => space,
            None => {
                let seed = self.seed ^ (d as u64) << 32;
                let spec = SpaceSpec {
                    image: Arc::default(),
                    noise: Arc::default(),
                    shots: 1,
                    seed,
                    max_active: domain.quota.active,
                };
                *domain.interactive.insert(self.device.open(spec).map_err(device_error)?)
            }
        };
        let register = domain.free_registers.last().copied().unwrap_or(domain.registers);
        self.device.perform(space, Instr { op: Op::Alloc(register), cond: None }).map_err(device_error)?;
        if domain.free_registers.pop().is_none() {
            domain.registers += 1;
        }
        domain.used.qubits += 1;
        self.free_qubits -= 1;
        let object = self.add_object(Object::Qubit { owner: d, register });
        let parent = SlotRef { domain: d, slot: machine.slot };
        Ok(Reply::Handle(self.insert(d, object, Rights::OBJECT, 0, Some(parent))))
    }

    fn apply(&mut self, d: u32, machine: Handle, op: Op, qubits: &[Handle]) -> Result<Reply, KernelError> {
        let bad = |what: &str| Err(KernelError::Argument(what.into()));
        self.require(d, machine, ObjectKind::Machine, Rights::USE | op.class())?;
        if matches!(op, Op::Alloc(_) | Op::Free(_) | Op::Fence) {
            return bad("this operation has a system call of its own");
        }
        if op.angle().is_some_and(|a| !a.is_finite()) {
            return bad("angle is not finite");
        }
        let mut registers: Vec<u32> = Vec::new();
        let mut owner = None;
        for index in op.qubits() {
            let Some(&handle) = qubits.get(index as usize) else { return bad("register beyond the qubits given") };
            let (object, _) = self.require(d, handle, ObjectKind::Qubit, Rights::USE)?;
            let Object::Qubit { owner: space, register } = self.objects[&object].object else {
                return Err(KernelError::WrongKind);
            };
            // The entanglement firewall: one operation, one space.
            if *owner.get_or_insert(space) != space {
                return bad("qubits of different spaces cannot meet in one operation");
            }
            if registers.contains(&register) {
                return bad("qubit named twice");
            }
            registers.push(register);
        }
        let Some(space) = owner.and_then(|o| self.domains.get(&o)?.interactive) else {
            return bad("the qubits' owner is gone");
        };
        let position = |q| op.qubits().position(|p| p == q).unwrap_or(0);
        let renamed = op.map_qubits(|q| registers[position(q)]);
        let renamed = match renamed {
            Op::Measure(p, q, _) => Op::Measure(p, q, 0),
            Op::MeasureAngle(a, q, _) => Op::MeasureAngle(a, q, 0),
            Op::MeasureBell(a, b, ..) => Op::MeasureBell(a, b, 0, 1),
            other => other,
        };
        self.device
            .perform(space, Instr { op: renamed, cond: None })
            .map_err(|e| KernelError::Device(e.to_string()))?;
        Ok(Reply::Applied(renamed.writes().map(|e| self.device.outcome(space, 0, e)).collect()))
    }
}

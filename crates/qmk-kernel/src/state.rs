//! The kernel's state, and the dispatch of system calls.

use crate::calls::channels::Channel;
use crate::calls::checkpoints::Checkpoint;
use crate::calls::qubits::{Interactive, Qubit};
use crate::cap::space::{Capability, DomainId, SlotRef, Space};
use crate::image::admit::{Admitted, Limits, admit};
use crate::image::dataflow::Flow;
use crate::image::profile::ImageProfile;
use crate::sched::epoch::{Seen, Turn};
use crate::sched::fair_queue::Context;
use crate::sched::region::Region;
use crate::slab::Slab;
use crate::strand::state::Strand;
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_abi::image::Image;
use qmk_abi::syscall::{Budget, DomainUsage, Limit, ObjectKind, Patch, Quota};
use qmk_abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_hal::{Device, DeviceError};

/// Deletions under way that derivations help along.
const MAX_DELETIONS: usize = 256;
/// Budgets within budgets.
const MAX_BUDGET_DEPTH: u32 = 16;

pub(crate) type Result<T> = core::result::Result<T, KernelError>;

#[derive(Debug)]
pub(crate) enum Object {
    Machine(Machine),
    Domain(u32),
    Image {
        owner: u32,
        image: Arc<Admitted>,
        size: u32,
        profile: Option<(Patch, ImageProfile)>,
        /// Made when first asked for.
        flow: Option<Arc<Flow>>,
    },
    Strand(Box<Strand>),
    Qubit(Qubit),
    Context(u32),
    Region(u32),
    Endpoint {
        channel: u32,
        side: u8,
    },
    Checkpoint(Box<Checkpoint>),
    /// Destroyed while capabilities to it were left.
    Gone,
}

/// The machine, or a budget of it.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// Object whose budget this one is part of.
    pub(crate) parent: Option<u32>,
    depth: u32,
    budget: Option<Budget>,
    strands: u32,
    qubits: u32,
    magic: u64,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) object: Object,
    /// Capabilities that name it.
    pub(crate) references: u32,
    /// Objects that need it.
    pub(crate) holds: u32,
}

impl Slab<Entry> {
    /// A strand, with other parts of the kernel free to be borrowed.
    #[inline]
    pub(crate) fn strand_mut(&mut self, id: u32) -> Option<&mut Strand> {
        match self.get_mut(id) {
            Some(Entry { object: Object::Strand(s), .. }) => Some(s),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) capabilities: Space,
    pub(crate) quota: Quota,
    pub(crate) used: DomainUsage,
    window_number: u64,
    /// Its own scheduling context.
    pub(crate) context: u32,
    /// Its interactive qubits, if it has any.
    pub(crate) interactive: Option<Interactive>,
    /// Epoch in which the last of its pairs is ready.
    pub(crate) link_until: u64,
    /// Counts changes of which interactive qubits there are.
    pub(crate) version: u64,
    /// Turns at the device that its strands have had.
    pub(crate) turns: usize,
    /// Steps of the device that it has had for its weight, or that it stands at since it came back for some.
    pub(crate) steps: u64,
    /// Its space is being emptied.
    pub(crate) dead: bool,
}

impl Domain {
    /// Magic states left in the window.
    pub(crate) fn magic_left(&mut self, now: u64) -> u64 {
        let number = now.checked_div(self.quota.window).unwrap_or(0);
        if number != self.window_number {
            (self.window_number, self.used.magic) = (number, 0);
        }
        self.quota.magic.saturating_sub(self.used.magic)
    }

    pub(crate) fn charge_magic(&mut self, magic: u64) {
        self.used.magic = self.used.magic.saturating_add(magic);
        self.used.total_magic = self.used.total_magic.saturating_add(magic);
    }
}

/// How the kernel waits for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The machine waits: shots are finished in the epoch in which the last instruction is. What a run does, and when, is
    /// then the same on any machine and any number of threads. For tests and replay.
    Lockstep,
    /// The machine goes on: each epoch gives the device about this many steps of work. For servers.
    FreeRunning {
        /// Device steps, at least 1.
        pace: u64,
    },
}

/// What one epoch did, or all those of one [`Kernel::advance_by`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochReport {
    /// Number of the epoch, the last if there were several.
    pub epoch: u64,
    /// Instructions issued.
    pub issued: u32,
    /// Strands that ended.
    pub ended: u32,
    /// Turns that strands had at the device.
    pub turns: u32,
    /// Whether any strand still waits, runs or drains.
    pub busy: bool,
}

/// The kernel over a device.
#[derive(Debug)]
pub struct Kernel<D> {
    pub(crate) device: D,
    limits: Limits,
    pub(crate) seed: u64,
    pub(crate) epoch: u64,
    pub(crate) clock: Clock,
    /// By id; those that are gone leave a hole.
    pub(crate) domains: Vec<Option<Box<Domain>>>,
    pub(crate) objects: Slab<Entry>,
    pub(crate) contexts: Slab<Context>,
    /// The first is shared.
    pub(crate) regions: Slab<Region>,
    pub(crate) channels: Slab<Channel>,
    /// Raw pairs that the link still has to make.
    pub(crate) pairs_due: u64,
    pub(crate) arrivals: u64,
    /// Steps of the device that the domain stood at that went first last.
    pub(crate) drained: u64,
    /// Domains whose spaces are being emptied.
    pub(crate) dying: Vec<u32>,
    /// Deletions that were begun by a call and are not at their end.
    pub(crate) deleting: Vec<(u32, Handle, bool)>,
    /// Memory of an epoch, kept for the next.
    pub(crate) seen: Vec<Seen>,
    pub(crate) queue: Vec<Reverse<Turn>>,
}

impl<D: Device> Kernel<D> {
    /// Device steps of one epoch, at boot.
    pub const PACE: u64 = 1 << 18;

    /// Boots on a device. Returns the kernel, the root domain and its machine capability, which has every right.
    /// `seed` seeds interactive qubits; strands bring their own.
    pub fn boot(device: D, seed: u64, quota: Quota) -> (Self, DomainId, Handle) {
        let spec = device.spec();
        let shared = Region::new(
            spec.logical_qubits,
            spec.routes_per_epoch,
            spec.magic_per_epoch,
            spec.magic_buffer,
            spec.decoded_per_epoch,
        );
        let mut kernel = Kernel {
            device,
            limits: Limits::default(),
            seed,
            epoch: 0,
            clock: Clock::FreeRunning { pace: Self::PACE },
            domains: Vec::new(),
            objects: Slab::new(),
            contexts: Slab::new(),
            regions: Slab::new(),
            channels: Slab::new(),
            pairs_due: 0,
            arrivals: 0,
            drained: 0,
            dying: Vec::new(),
            deleting: Vec::new(),
            seen: Vec::new(),
            queue: Vec::new(),
        };
        kernel.regions.insert(shared);
        let root = kernel.add_domain(quota);
        let object = kernel.add_object(Object::Machine(Machine::default()));
        let machine = kernel.insert(root, object, ObjectKind::Machine, Rights::all(), 0, None);
        (kernel, DomainId(root), machine.unwrap_or(Handle { slot: 0, generation: 1 }))
    }

    /// Sets how the kernel waits for the device. What programs measure does not depend on it.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Current epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Logical qubits of the machine that no one holds, regions that were taken out of it included.
    pub fn free_qubits(&self) -> u32 {
        self.regions.iter().map(|(_, r)| r.free).sum()
    }

    /// The device, for inspection.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The domain a `Domain` capability of `caller` names.
    pub fn domain_of(&self, caller: DomainId, handle: Handle) -> Option<DomainId> {
        let capability = self.domain(caller.0)?.capabilities.get(handle)?;
        match self.objects.get(capability.object)?.object {
            Object::Domain(d) => Some(DomainId(d)),
            _ => None,
        }
    }

    /// Handles, kinds and rights in a domain's space, for audits and tests.
    pub fn capabilities(&self, domain: DomainId) -> Vec<(Handle, ObjectKind, Rights)> {
        let Some(domain) = self.domain(domain.0).filter(|d| !d.dead) else { return Vec::new() };
        domain.capabilities.occupied().map(|(h, c)| (h, c.kind, c.rights)).collect()
    }

    /// Performs a system call for `caller`. A refused call changes nothing.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub fn syscall(&mut self, caller: DomainId, call: Syscall) -> Result<Reply> {
        let d = caller.0;
        if self.domain(d).is_none_or(|d| d.dead) {
            return Err(KernelError::NoCapability);
        }
        match call {
            Syscall::CreateDomain { machine, quota } => self.create_domain(d, machine, quota),
            Syscall::CreateContext { machine, weight, epochs, window } => {
                self.create_context(d, machine, Context::new(weight, epochs, window))
            }
            Syscall::CreateRegion { machine, qubits, routes, magic } => {
                self.create_region(d, machine, qubits, routes, magic)
            }
            Syscall::Derive { source, rights, badge, into, budget } => {
                self.derive(d, source, rights, badge, into, budget)
            }
            Syscall::Revoke { target } => self.delete_call(d, target, false),
            Syscall::Delete { target } => self.delete_call(d, target, true),
            Syscall::Inspect { target } => {
                let c = self.lookup(d, target)?;
                let badge = self.link(SlotRef { domain: d, slot: target.slot }).map_or(0, |l| l.badge);
                Ok(Reply::Capability { kind: c.kind, rights: c.rights, badge })
            }
            Syscall::Admit { machine, image } => self.admit(d, machine, image),
            Syscall::Spawn { machine, image, run } => self.spawn(d, machine, image, run),
            Syscall::Status { strand } => {
                let (_, strand) = self.strand(d, strand, Rights::READ)?;
                Ok(Reply::Status(strand.status(self.epoch)))
            }
            Syscall::Outcomes { strand, first, count } => self.outcomes(d, strand, first, count),
            Syscall::Pause { strand, paused } => self.pause(d, strand, paused),
            Syscall::Migrate { strand, region } => self.migrate(d, strand, region),
            Syscall::Rollback { machine, strand } => self.rollback(d, machine, strand),
            Syscall::Checkpoint { machine, strand } => self.checkpoint(d, machine, strand),
            Syscall::CheckpointStatus { checkpoint } => self.checkpoint_status(d, checkpoint),
            Syscall::Restore { checkpoint } => self.restore(d, checkpoint),
            Syscall::TakeQubit { machine } => self.take_qubit(d, machine),
            Syscall::FreeQubit { qubit, uncompute } => self.free_qubit(d, qubit, uncompute),
            Syscall::Apply { machine, op, qubits } => self.apply(d, machine, op, &qubits),
            Syscall::Offer { machine, qubit, to, fidelity } => self.offer(d, machine, qubit, to, fidelity),
            Syscall::Accept { machine, endpoint, qubit } => self.accept(d, machine, endpoint, qubit),
            Syscall::Teleport { machine, endpoint, qubit } => self.teleport(d, machine, endpoint, qubit),
            Syscall::SwapEntanglement { machine, endpoints } => self.swap_entanglement(d, machine, endpoints),
            Syscall::CloseChannel { endpoint } => self.close_channel(d, endpoint),
            Syscall::ChannelStatus { endpoint } => self.channel_status(d, endpoint),
            Syscall::Usage => {
                let now = self.epoch;
                let context = self.domain(d).map_or(0, |d| d.context);
                let epochs = self.contexts.get_mut(context).map_or(0, |c| c.epochs(now));
                let domain = self.domain_mut(d).ok_or(KernelError::NoCapability)?;
                domain.magic_left(now);
                let used = DomainUsage { slots: domain.capabilities.used, epochs, ..domain.used };
                Ok(Reply::Usage { used, quota: domain.quota })
            }
        }
    }

    // What calls are made of.

    #[inline]
    pub(crate) fn domain(&self, id: u32) -> Option<&Domain> {
        self.domains.get(id as usize)?.as_deref()
    }

    #[inline]
    pub(crate) fn domain_mut(&mut self, id: u32) -> Option<&mut Domain> {
        self.domains.get_mut(id as usize)?.as_deref_mut()
    }

    #[inline]
    fn lookup(&self, d: u32, handle: Handle) -> Result<Capability> {
        self.domain(d).and_then(|d| d.capabilities.get(handle)).ok_or(KernelError::NoCapability)
    }

    /// The object and rights behind a handle, if it is of this kind and has these rights.
    #[inline]
    pub(crate) fn require(&self, d: u32, handle: Handle, kind: ObjectKind, need: Rights) -> Result<(u32, Rights)> {
        let c = self.lookup(d, handle)?;
        if c.kind != kind {
            return Err(KernelError::WrongKind);
        }
        if !c.rights.contains(need) {
            return Err(KernelError::Rights(need - c.rights));
        }
        Ok((c.object, c.rights))
    }

    pub(crate) fn object(&self, id: u32) -> &Object {
        self.objects.get(id).map_or(&Object::Gone, |e| &e.object)
    }

    pub(crate) fn strand(&self, d: u32, handle: Handle, need: Rights) -> Result<(u32, &Strand)> {
        let (id, _) = self.require(d, handle, ObjectKind::Strand, need)?;
        match self.object(id) {
            Object::Strand(s) => Ok((id, s)),
            _ => Err(KernelError::WrongKind),
        }
    }

    pub(crate) fn strand_mut(&mut self, id: u32) -> Option<&mut Strand> {
        self.objects.strand_mut(id)
    }

    /// Whether a domain has this many slots left.
    pub(crate) fn check_slots(&self, domain: u32) -> Result<()> {
        match self.domain(domain) {
            Some(d) if d.capabilities.used < d.quota.slots => Ok(()),
            _ => Err(KernelError::Quota(Limit::Slots)),
        }
    }

    pub(crate) fn add_object(&mut self, object: Object) -> u32 {
        self.objects.insert(Entry { object, references: 0, holds: 0 })
    }

    /// A capability with all rights to a new object, derived from `parent`.
    pub(crate) fn give(&mut self, d: u32, object: Object, kind: ObjectKind, parent: Handle) -> Result<(u32, Handle)> {
        let id = self.add_object(object);
        let parent = SlotRef { domain: d, slot: parent.slot };
        let handle = self.insert(d, id, kind, Rights::OBJECT, 0, Some(parent)).ok_or(KernelError::NoCapability)?;
        Ok((id, handle))
    }

    fn add_domain(&mut self, quota: Quota) -> u32 {
        let context = self.contexts.insert(Context::new(quota.weight, quota.epochs, quota.window));
        self.domains.push(Some(Box::new(Domain {
            capabilities: Space::default(),
            quota,
            used: DomainUsage::default(),
            window_number: 0,
            context,
            interactive: None,
            link_until: 0,
            version: 0,
            turns: 0,
            steps: 0,
            dead: false,
        })));
        self.domains.len() as u32 - 1
    }

    /// Whether the budgets that a machine object is part of have this left.
    pub(crate) fn check_budget(&self, machine: u32, strands: u32, qubits: u32, magic: u64) -> Result<()> {
        for id in self.budgets(machine) {
            let Object::Machine(m) = self.object(id) else { continue };
            let Some(b) = &m.budget else { continue };
            let over = |limit| Err(KernelError::Budget(limit));
            if m.strands.checked_add(strands).is_none_or(|s| s > b.strands) {
                return over(Limit::Strands);
            }
            if m.qubits.checked_add(qubits).is_none_or(|q| q > b.qubits) {
                return over(Limit::Qubits);
            }
            if m.magic.saturating_add(magic) > b.magic {
                return over(Limit::Magic);
            }
        }
        Ok(())
    }

    pub(crate) fn charge_budget(&mut self, machine: u32, strands: u32, qubits: u32, magic: u64) {
        for id in self.budgets(machine) {
            if let Some(Entry { object: Object::Machine(m), .. }) = self.objects.get_mut(id) {
                m.strands += strands;
                m.qubits += qubits;
                m.magic = m.magic.saturating_add(magic);
            }
        }
    }

    /// Gives back what counts only while it exists.
    pub(crate) fn discharge(&mut self, machine: u32, strands: u32, qubits: u32) {
        for id in self.budgets(machine) {
            if let Some(Entry { object: Object::Machine(m), .. }) = self.objects.get_mut(id) {
                m.strands -= strands;
                m.qubits -= qubits;
            }
        }
    }

    /// Machine objects with a budget, from `machine` up.
    fn budgets(&self, machine: u32) -> Vec<u32> {
        let mut chain = Vec::new();
        let mut next = Some(machine);
        while let Some(id) = next {
            let Object::Machine(m) = self.object(id) else { break };
            if m.budget.is_some() {
                chain.push(id);
            }
            next = m.parent;
        }
        chain
    }

    // System calls about domains, contexts, capabilities and images.

    fn create_domain(&mut self, d: u32, machine: Handle, quota: Quota) -> Result<Reply> {
        self.require(d, machine, ObjectKind::Machine, Rights::ADMIN)?;
        self.check_slots(d)?;
        if self.domains.len() >= u32::MAX as usize {
            return argument("domain ids are used up");
        }
        let id = self.add_domain(quota);
        Ok(Reply::Handle(self.give(d, Object::Domain(id), ObjectKind::Domain, machine)?.1))
    }

    fn create_context(&mut self, d: u32, machine: Handle, context: Context) -> Result<Reply> {
        self.require(d, machine, ObjectKind::Machine, Rights::ADMIN)?;
        self.check_slots(d)?;
        let context = self.contexts.insert(context);
        Ok(Reply::Handle(self.give(d, Object::Context(context), ObjectKind::Context, machine)?.1))
    }

    fn derive(
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

    fn delete_call(&mut self, d: u32, target: Handle, itself: bool) -> Result<Reply> {
        self.lookup(d, target)?;
        let (count, more) = self.delete(d, target, itself);
        let known = self.deleting.iter().position(|&(domain, t, _)| (domain, t) == (d, target));
        match known {
            Some(at) if !more => _ = self.deleting.swap_remove(at),
            None if more && self.deleting.len() < MAX_DELETIONS => self.deleting.push((d, target, itself)),
            _ => {}
        }
        Ok(Reply::Deleted { count, more })
    }

    fn admit(&mut self, d: u32, machine: Handle, image: Image) -> Result<Reply> {
        let (_, rights) = self.require(d, machine, ObjectKind::Machine, Rights::USE)?;
        self.check_slots(d)?;
        let Some(domain) = self.domain(d) else { return Err(KernelError::NoCapability) };
        let left = domain.quota.instructions.saturating_sub(domain.used.instructions) as u64;
        let rest = image.code.len() as u64 + image.qubits as u64 + image.events as u64;
        let mut size = rest + image.terms.len() as u64;
        if size > left {
            return Err(KernelError::Quota(Limit::Instructions));
        }
        let image = Arc::new(admit(image, rights, self.limits).map_err(KernelError::Image)?);
        // Instructions may share terms, which does not make them cheaper to keep.
        size = size.max(rest + image.terms_read as u64);
        if size > left {
            return Err(KernelError::Quota(Limit::Instructions));
        }
        if let Some(domain) = self.domain_mut(d) {
            domain.used.instructions += size as u32;
        }
        let object = Object::Image { owner: d, image, size: size as u32, profile: None, flow: None };
        Ok(Reply::Handle(self.give(d, object, ObjectKind::Image, machine)?.1))
    }
}

pub(crate) fn argument<T>(what: &str) -> Result<T> {
    Err(KernelError::Argument(what.into()))
}

pub(crate) fn not_now<T>(what: &str) -> Result<T> {
    Err(KernelError::State(what.into()))
}

pub(crate) fn not_ready<T>(what: &str) -> Result<T> {
    Err(KernelError::NotReady(what.into()))
}

pub(crate) fn device_error(e: DeviceError) -> KernelError {
    KernelError::Device(e.to_string())
}

/// Refuses a deadline.
pub(crate) fn late<T>(asked: u64, why: &str) -> Result<T> {
    Err(KernelError::Deadline { asked, why: why.into() })
}

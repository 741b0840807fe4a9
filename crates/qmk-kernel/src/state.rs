//! The kernel's state, and the dispatch of system calls.

use crate::cap::space::{Capability, DomainId, SlotRef};
use crate::domain::Domain;
use crate::errors::Result;
use crate::image::admit::Limits;
use crate::interactive::channel::Channel;
use crate::object::{Entry, Machine, Object};
use crate::sched::fair_queue::SchedContext;
use crate::sched::region::Region;
use crate::sched::turn::{StrandView, Turn};
use crate::slab::Slab;
use crate::strand::state::Strand;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_abi::syscall::{DomainUsage, Limit, ObjectKind, Quota};
use qmk_abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_hal::Device;

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
    pub(crate) limits: Limits,
    pub(crate) seed: u64,
    pub(crate) epoch: u64,
    pub(crate) clock: Clock,
    /// By id; those that are gone leave a hole.
    pub(crate) domains: Vec<Option<Box<Domain>>>,
    pub(crate) objects: Slab<Entry>,
    pub(crate) contexts: Slab<SchedContext>,
    /// The first is shared.
    pub(crate) regions: Slab<Region>,
    pub(crate) channels: Slab<Channel>,
    /// Raw pairs that the link still has to make.
    pub(crate) pairs_due: u64,
    pub(crate) arrivals: u64,
    /// Steps of the device that the domain stood at that went first last.
    pub(crate) device_vtime: u64,
    /// Domains whose spaces are being emptied.
    pub(crate) dying: Vec<u32>,
    /// Deletions that were begun by a call and are not at their end.
    pub(crate) deletions: Vec<(u32, Handle, bool)>,
    /// Memory of an epoch, kept for the next.
    pub(crate) strand_views: Vec<StrandView>,
    pub(crate) turn_heap: Vec<Reverse<Turn>>,
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
            device_vtime: 0,
            dying: Vec::new(),
            deletions: Vec::new(),
            strand_views: Vec::new(),
            turn_heap: Vec::new(),
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
        self.regions.iter().map(|(_, r)| r.free_qubits).sum()
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
                self.create_context(d, machine, SchedContext::new(weight, epochs, window))
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
                let epochs = self.contexts.get_mut(context).map_or(0, |c| c.epochs_used(now));
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
    pub(crate) fn lookup(&self, d: u32, handle: Handle) -> Result<Capability> {
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
    pub(crate) fn create_object(
        &mut self,
        d: u32,
        object: Object,
        kind: ObjectKind,
        parent: Handle,
    ) -> Result<(u32, Handle)> {
        let id = self.add_object(object);
        let parent = SlotRef { domain: d, slot: parent.slot };
        let handle = self.insert(d, id, kind, Rights::OBJECT, 0, Some(parent)).ok_or(KernelError::NoCapability)?;
        Ok((id, handle))
    }
}

//! The kernel's state, and the dispatch of system calls.
//!
//! [`Kernel`] holds everything; [`Kernel::syscall`] finds the call's handler, in `calls`, and [`Kernel::advance`], in
//! `sched/epoch.rs`, runs the machine. This file names only files of data, and the files with handlers name this one.

use crate::cap::space::{Capability, SlotRef};
use crate::domain::DomainTable;
use crate::errors::{Checked, Result, broken, refuse_if};
use crate::ids::{DomainId, ObjectId, StrandId, kind};
use crate::image::admit::Limits;
use crate::interactive::channel::Channel;
use crate::object::{Entry, Machine, Object, Objects, wrong_kind};
use crate::sched::fair_queue::SchedContext;
use crate::sched::region::Region;
use crate::sched::turn::{StrandView, Turn};
use crate::slab::Slab;
use crate::strand::state::Strand;
use crate::time::Epoch;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_abi::syscall::{Limit, ObjectKind, Quota};
use qmk_abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_hal::Device;

/// How the kernel waits for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The machine waits: shots are finished in the epoch in which the last instruction is. What a run does, and when,
    /// is then the same on any machine and any number of threads. For tests and replay.
    Lockstep,
    /// The machine goes on: each epoch gives the device about this many steps of work. For servers.
    FreeRunning {
        /// Device steps, at least 1.
        pace: u64,
    },
}

/// The events of one epoch, or of all epochs of one [`Kernel::advance_by`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochReport {
    /// Number of the epoch, the last if there were several.
    pub epoch: u64,
    /// Instructions issued, by all strands together.
    pub issued: u32,
    /// Strands that are done or have faulted since the report before. Their qubits are free.
    pub ended: u32,
    /// Turns that strands had at the device.
    pub turns: u32,
    /// Whether any strand still waits, runs or drains.
    pub busy: bool,
    /// Whether the kernel has stopped, as [`Kernel::broken`] says. No epoch passes after that.
    pub broken: bool,
}

/// A deletion that a call began and that is not at its end. Derivations take it on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deletion {
    pub(crate) domain: DomainId,
    pub(crate) target: Handle,
    /// Whether the target goes as well, after all that derives from it.
    pub(crate) itself: bool,
}

/// The kernel over a device.
#[derive(Debug)]
pub struct Kernel<D> {
    pub(crate) device: D,
    /// Bounds of admission.
    pub(crate) limits: Limits,
    /// Seeds interactive spaces, together with the domain's id.
    pub(crate) seed: u64,
    /// The epoch that was run last.
    pub(crate) epoch: Epoch,
    pub(crate) clock: Clock,
    pub(crate) domains: DomainTable,
    pub(crate) objects: Objects,
    pub(crate) contexts: Slab<kind::Context, SchedContext>,
    /// [`RegionId::SHARED`](crate::ids::RegionId::SHARED) and those that were taken out of it.
    pub(crate) regions: Slab<kind::Region, Region>,
    pub(crate) channels: Slab<kind::Channel, Channel>,
    /// Raw pairs ordered from the link and not made yet.
    pub(crate) pairs_due: u64,
    /// Strands spawned so far, which numbers them in order of arrival.
    pub(crate) arrivals: u64,
    /// Device virtual time of the domain served most recently. A returning domain resumes from here, so idling earns no
    /// credit.
    pub(crate) device_vtime: u64,
    /// Dead domains whose spaces are being emptied, at most [`STEP`](crate::limits::STEP) capabilities at a time.
    pub(crate) dying: Vec<DomainId>,
    pub(crate) deletions: Vec<Deletion>,
    /// The story of the first invariant that did not hold. The kernel has stopped.
    pub(crate) broken: Option<String>,
    /// Buffers of one epoch, kept so that the next allocates nothing.
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
            epoch: Epoch::BOOT,
            clock: Clock::FreeRunning { pace: Self::PACE },
            domains: DomainTable::default(),
            objects: Slab::new(),
            contexts: Slab::new(),
            regions: Slab::new(),
            channels: Slab::new(),
            pairs_due: 0,
            arrivals: 0,
            device_vtime: 0,
            dying: Vec::new(),
            deletions: Vec::new(),
            broken: None,
            strand_views: Vec::new(),
            turn_heap: Vec::new(),
        };
        // The first region gets the number that `RegionId::SHARED` names.
        kernel.regions.insert(shared);
        let root = DomainId(0);
        let machine = kernel.boot_root(quota).unwrap_or_else(|broken| {
            kernel.stop(broken.to_string());
            Handle { slot: 0, generation: 0 }
        });
        (kernel, root, machine)
    }

    /// Makes the root domain and its machine capability, which is the head of the derivation list: all others derive
    /// from it.
    fn boot_root(&mut self, quota: Quota) -> Checked<Handle> {
        let root = self.add_domain(quota).ok_or_else(|| broken("there is no id for the root domain"))?;
        let object = self.add_object(Object::Machine(Machine::default()));
        self.insert_capability(root, object, ObjectKind::Machine, Rights::all(), 0, None)
    }

    /// Sets how the kernel waits for the device. What programs measure does not depend on it.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Current epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.number()
    }

    /// Logical qubits of the machine that no one holds, regions that were taken out of it included.
    pub fn free_qubits(&self) -> u32 {
        self.regions.iter().map(|(_, r)| r.free_qubits()).sum()
    }

    /// The device, for inspection.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The story of the invariant that did not hold, if the kernel has stopped.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// The domain a `Domain` capability of `caller` names.
    pub fn domain_of(&self, caller: DomainId, handle: Handle) -> Option<DomainId> {
        let capability = self.domains.find(caller)?.capabilities.get(handle)?;
        match self.objects.find(capability.object)?.object {
            Object::Domain(d) => Some(d),
            _ => None,
        }
    }

    /// Handles, kinds and rights in a domain's space, for audits and tests.
    pub fn capabilities(&self, domain: DomainId) -> Vec<(Handle, ObjectKind, Rights)> {
        let Some(domain) = self.domains.find(domain).filter(|d| !d.dead) else { return Vec::new() };
        domain.capabilities.occupied().map(|(h, c)| (h, c.kind, c.rights)).collect()
    }

    /// Performs a system call for `caller`. A refused call changes nothing.
    ///
    /// # Errors
    /// See [`KernelError`]. [`KernelError::Broken`] means that the kernel met an impossible case, now or in an
    /// earlier call, and has stopped.
    pub fn syscall(&mut self, caller: DomainId, call: Syscall) -> Result<Reply> {
        if let Some(story) = &self.broken {
            return Err(KernelError::Broken(story.clone()));
        }
        // A domain that is gone or dying calls no more.
        refuse_if(self.domains.find(caller).is_none_or(|d| d.dead), KernelError::NoCapability)?;
        match call {
            // Their replies are made where the caller wants them. One that is looked at is copied first, which would
            // double the time of these two; so they stop the kernel themselves.
            Syscall::Inspect { target } => self.inspect(caller, target),
            Syscall::Usage => self.usage(caller),
            call => self.perform_call(caller, call),
        }
    }

    /// Performs a call, and stops the kernel if it met an impossible case.
    #[inline(never)]
    fn perform_call(&mut self, caller: DomainId, call: Syscall) -> Result<Reply> {
        let reply = self.dispatch(caller, call);
        if let Err(KernelError::Broken(story)) = &reply {
            self.stop(story.clone());
        }
        reply
    }

    /// Stops the kernel: from here on, no call and no epoch changes anything.
    pub(crate) fn stop(&mut self, story: String) {
        self.broken.get_or_insert(story);
    }

    /// Finds the call's handler. Each handler is in the file of `calls` that is named after its kind of object.
    #[inline]
    fn dispatch(&mut self, caller: DomainId, call: Syscall) -> Result<Reply> {
        match call {
            Syscall::CreateDomain { machine, quota } => self.create_domain(caller, machine, quota),
            Syscall::CreateContext { machine, weight, epochs, window } => {
                self.create_context(caller, machine, SchedContext::new(weight, epochs, window))
            }
            Syscall::CreateRegion { machine, qubits, routes, magic } => {
                self.create_region(caller, machine, qubits, routes, magic)
            }
            Syscall::Derive { source, rights, badge, into, budget } => {
                self.derive(caller, source, rights, badge, into, budget)
            }
            Syscall::Revoke { target } => self.delete_call(caller, target, false),
            Syscall::Delete { target } => self.delete_call(caller, target, true),
            Syscall::Admit { machine, image } => self.admit(caller, machine, image),
            Syscall::Spawn { machine, image, run } => self.spawn(caller, machine, image, run),
            Syscall::Status { strand } => {
                let (_, strand) = self.strand(caller, strand, Rights::READ)?;
                Ok(Reply::Status(strand.status(self.epoch)))
            }
            Syscall::Outcomes { strand, first, count } => self.outcomes(caller, strand, first, count),
            Syscall::Pause { strand, paused } => self.pause(caller, strand, paused),
            Syscall::Migrate { strand, region } => self.migrate(caller, strand, region),
            Syscall::Rollback { machine, strand } => self.rollback(caller, machine, strand),
            Syscall::Checkpoint { machine, strand } => self.checkpoint(caller, machine, strand),
            Syscall::CheckpointStatus { checkpoint } => self.checkpoint_status(caller, checkpoint),
            Syscall::Restore { checkpoint } => self.restore(caller, checkpoint),
            Syscall::TakeQubit { machine } => self.take_qubit(caller, machine),
            Syscall::FreeQubit { qubit, uncompute } => self.free_qubit(caller, qubit, uncompute),
            Syscall::Apply { machine, op, qubits } => self.apply(caller, machine, op, &qubits),
            Syscall::Offer { machine, qubit, to, fidelity } => self.offer(caller, machine, qubit, to, fidelity),
            Syscall::Accept { machine, endpoint, qubit } => self.accept(caller, machine, endpoint, qubit),
            Syscall::Teleport { machine, endpoint, qubit } => self.teleport(caller, machine, endpoint, qubit),
            Syscall::SwapEntanglement { machine, endpoints } => self.swap_entanglement(caller, machine, endpoints),
            Syscall::CloseChannel { endpoint } => self.close_channel(caller, endpoint),
            Syscall::ChannelStatus { endpoint } => self.channel_status(caller, endpoint),
            Syscall::Inspect { .. } | Syscall::Usage => Err(broken("a call was answered already").into()),
        }
    }
}

// Steps that handlers share.
impl<D: Device> Kernel<D> {
    /// The capability behind a handle of the caller. A stale handle and one that never existed are refused alike.
    #[inline]
    pub(crate) fn lookup(&self, caller: DomainId, handle: Handle) -> Result<Capability> {
        self.domains.get(caller)?.capabilities.get(handle).ok_or(KernelError::NoCapability)
    }

    /// The object and rights behind a handle.
    ///
    /// # Errors
    /// The handle names nothing, an object of another kind, or a capability without the rights `need`.
    #[inline]
    pub(crate) fn require(
        &self,
        caller: DomainId,
        handle: Handle,
        kind: ObjectKind,
        need: Rights,
    ) -> Result<(ObjectId, Rights)> {
        let c = self.lookup(caller, handle)?;
        refuse_if(c.kind != kind, KernelError::WrongKind)?;
        refuse_if(!c.rights.contains(need), KernelError::Rights(need - c.rights))?;
        Ok((c.object, c.rights))
    }

    /// The object of a number that something keeps alive.
    pub(crate) fn object(&self, id: ObjectId) -> Checked<&Object> {
        Ok(&self.objects.get(id)?.object)
    }

    /// The strand behind a handle, with its number.
    ///
    /// # Errors
    /// As [`Kernel::require`].
    pub(crate) fn strand(&self, caller: DomainId, handle: Handle, need: Rights) -> Result<(StrandId, &Strand)> {
        let (object, _) = self.require(caller, handle, ObjectKind::Strand, need)?;
        let id = StrandId::of(object);
        Ok((id, self.objects.strand(id)?))
    }

    /// The domain behind a handle.
    ///
    /// # Errors
    /// As [`Kernel::require`].
    pub(crate) fn named_domain(&self, caller: DomainId, handle: Handle, need: Rights) -> Result<DomainId> {
        let (object, _) = self.require(caller, handle, ObjectKind::Domain, need)?;
        match self.object(object)? {
            Object::Domain(domain) => Ok(*domain),
            _ => Err(wrong_kind().into()),
        }
    }

    /// # Errors
    /// The domain's quota of slots is used up.
    pub(crate) fn check_slots(&self, domain: DomainId) -> Result<()> {
        let domain = self.domains.get(domain)?;
        refuse_if(domain.capabilities.used() >= domain.quota.slots, KernelError::Quota(Limit::Slots))?;
        Ok(())
    }

    /// Adds an object that nothing names yet.
    pub(crate) fn add_object(&mut self, object: Object) -> ObjectId {
        self.objects.insert(Entry { object, references: 0, holds: 0 })
    }

    /// Makes an object, and a capability to it with all object rights, which derives from the capability `parent` of
    /// `caller`.
    pub(crate) fn create_object(
        &mut self,
        caller: DomainId,
        object: Object,
        kind: ObjectKind,
        parent: Handle,
    ) -> Checked<(ObjectId, Handle)> {
        let id = self.add_object(object);
        let parent = SlotRef { domain: caller, slot: parent.slot };
        Ok((id, self.insert_capability(caller, id, kind, Rights::OBJECT, 0, Some(parent))?))
    }
}

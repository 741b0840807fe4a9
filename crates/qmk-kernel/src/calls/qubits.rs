//! Calls on qubits that domains hold one by one: `TakeQubit`, `FreeQubit`, `Apply`, and `Rollback` of them.
//!
//! They lie in one space of the device for each domain, its interactive space, and are taken out of the shared region.

use crate::errors::{Checked, Result, broken, device_error, lower, refuse, refuse_if};
use crate::holding::Holding;
use crate::ids::{DomainId, ObjectId, RegionId};
use crate::image::known::{Known, after};
use crate::image::uncompute::{Segment, inverse};
use crate::interactive::register::{Interactive, Qubit, Register};
use crate::limits::PATCH;
use crate::object::{Object, wrong_kind};
use crate::sched::fair_queue::Resource;
use crate::state::Kernel;
use crate::time::Epoch;
use alloc::vec::Vec;
use qmk_abi::image::{Instr, Op};
use qmk_abi::syscall::{BadArgument, Limit, NotYet, ObjectKind, Patch, WrongState};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::{Device, DeviceError, Inline, SpaceSpec};

/// Outcomes of an operation, unless the device refused it.
type Performed = core::result::Result<Vec<bool>, DeviceError>;

impl<D: Device> Kernel<D> {
    /// The qubit behind a handle.
    ///
    /// # Errors
    /// As [`Kernel::require`], or the qubit was freed and this handle is left.
    pub(crate) fn qubit(&self, caller: DomainId, handle: Handle, need: Rights) -> Result<(ObjectId, &Qubit)> {
        let (id, _) = self.require(caller, handle, ObjectKind::Qubit, need)?;
        match self.object(id)? {
            Object::Qubit(qubit) => Ok((id, qubit)),
            Object::Gone => refuse(WrongState::QubitFreed),
            _ => Err(wrong_kind().into()),
        }
    }

    /// The interactive space of a domain that has one.
    pub(crate) fn interactive(&self, owner: DomainId) -> Checked<&Interactive> {
        self.domains.get(owner)?.interactive.as_ref().ok_or_else(|| broken("a qubit's owner has no interactive space"))
    }

    /// As [`Kernel::interactive`].
    pub(crate) fn interactive_mut(&mut self, owner: DomainId) -> Checked<&mut Interactive> {
        self.domains
            .get_mut(owner)?
            .interactive
            .as_mut()
            .ok_or_else(|| broken("a qubit's owner has no interactive space"))
    }

    pub(crate) fn register(&self, owner: DomainId, register: u32) -> Checked<&Register> {
        self.interactive(owner)?.register(register)
    }

    pub(crate) fn register_mut(&mut self, owner: DomainId, register: u32) -> Checked<&mut Register> {
        self.interactive_mut(owner)?.register_mut(register)
    }

    /// One interactive qubit, on a patch of the default code and distance.
    fn one_qubit(&self) -> Holding {
        Holding::qubits_of(1, self.device.physical_qubits(Patch::default()).unwrap_or(1) as u64)
    }

    /// Takes a qubit out of the shared region into the caller's interactive space, in state |0>. Returns
    /// [`Reply::Handle`].
    ///
    /// # Errors
    /// A quota or budget is used up, no qubit is free, the decoders have deadlines to keep, a strand has
    /// waited too long for qubits, or the device refuses.
    pub(crate) fn take_qubit(&mut self, caller: DomainId, machine: Handle) -> Result<Reply> {
        let (machine_object, _) = self.require(caller, machine, ObjectKind::Machine, Rights::USE | Rights::ALLOC)?;
        self.check_slots(caller)?;
        let one = self.one_qubit();
        let available = self.device.spec().logical_qubits;
        let (domain, shared) = (self.domains.get(caller)?, self.regions.get(RegionId::SHARED)?);
        refuse_if(domain.held.qubits() >= domain.quota.qubits, KernelError::Quota(Limit::Qubits))?;
        refuse_if(!domain.fits(one), KernelError::Quota(Limit::PhysicalQubits))?;
        refuse_if(shared.free_qubits() == 0, KernelError::Capacity { requested: 1, available })?;
        if !shared.has_room(1, PATCH) {
            return refuse(NotYet::DecoderPromises);
        }
        for &id in &shared.waiting {
            if self.blocks_others(id)? {
                return refuse(NotYet::QubitsAwaited);
            }
        }
        // A domain may have one interactive space after another. The version tells their seeds apart.
        let (quota, seed) = (domain.quota, self.seed ^ (caller.0 as u64) << 32 ^ domain.qubits_version);
        let on_budget = Holding::qubits_of(1, 0);
        self.check_budget(machine_object, on_budget, 0)?;
        let register = self.allocate(caller, seed, quota.held_active)?;
        self.charge_budget(machine_object, on_budget, 0)?;
        self.hold(machine_object)?;
        self.regions.get_mut(RegionId::SHARED)?.take_interactive(one)?;
        let domain = self.domains.get_mut(caller)?;
        domain.held.take(one)?;
        domain.qubits_version += 1;
        let qubit = Qubit { owner: caller, register, machine: machine_object, root: None };
        let (id, handle) = self.create_object(caller, Object::Qubit(qubit), ObjectKind::Qubit, machine)?;
        if let Object::Qubit(qubit) = &mut self.objects.get_mut(id)?.object {
            qubit.root = Some(handle);
        }
        Ok(Reply::Handle(handle))
    }

    /// Allocates a register of a domain's interactive space, which is opened for the first. Returns its number.
    fn allocate(&mut self, owner: DomainId, seed: u64, active: u32) -> Result<u32> {
        let opened = self.domains.get(owner)?.interactive.is_none();
        if opened {
            // The one way to qubits: a device without them refuses here.
            self.device.qubits().map_err(device_error)?;
            let spec = SpaceSpec { shots: 1, seed, max_active: active, owner: owner.0, ..SpaceSpec::default() };
            let space = self.device.open(spec).map_err(device_error)?;
            let (registers, free, segment) = (Vec::new(), Vec::new(), Segment::default());
            self.domains.get_mut(owner)?.interactive = Some(Interactive { space, registers, free, live: 0, segment });
        }
        let interactive = self.interactive(owner)?;
        let space = interactive.space;
        let register = interactive.free.last().copied().unwrap_or(interactive.registers.len() as u32);
        let op = Op::Alloc(register);
        if let Err(e) = self.device.perform(space, Instr { op, cond: None }) {
            // A refused call changes nothing, so a space that was opened for this is closed again.
            if opened {
                self.device.close(space);
                self.domains.get_mut(owner)?.interactive = None;
            }
            return Err(device_error(e));
        }
        let interactive = self.interactive_mut(owner)?;
        let fresh = Register { known: Known::Basis, ..Register::default() };
        if interactive.free.pop().is_some() {
            *interactive.register_mut(register)? = fresh;
        } else {
            interactive.registers.push(fresh);
        }
        interactive.live += 1;
        interactive.segment.push(op);
        Ok(register)
    }

    /// Performs an operation in a domain's interactive space and notes its effects. Returns outcomes in the order in
    /// which the operation writes them.
    ///
    /// # Errors
    /// The device refuses it, and nothing has changed.
    pub(crate) fn perform(&mut self, owner: DomainId, op: Op) -> Result<Vec<bool>> {
        self.try_perform(owner, op)?.map_err(device_error)
    }

    /// As [`Kernel::perform`], for callers that go on when the device refuses.
    pub(crate) fn try_perform(&mut self, owner: DomainId, op: Op) -> Checked<Performed> {
        let space = self.interactive(owner)?.space;
        if let Err(e) = self.device.perform(space, Instr { op, cond: None }) {
            return Ok(Err(e));
        }
        let outcomes = op.writes().map(|e| self.device.outcome(space, 0, e)).collect();
        let interactive = self.interactive_mut(owner)?;
        update_known(interactive, &op)?;
        interactive.segment.push(op);
        Ok(Ok(outcomes))
    }

    /// Gives back a qubit whose object is gone.
    pub(crate) fn return_qubit(&mut self, qubit: &Qubit) -> Checked {
        // The device refuses only if the space has failed, whose states are lost anyway.
        let _ = self.try_perform(qubit.owner, Op::Free(qubit.register))?;
        let one = self.one_qubit();
        self.regions.get_mut(RegionId::SHARED)?.return_interactive(one)?;
        self.recheck_all_regions();
        let domain = self.domains.get_mut(qubit.owner)?;
        domain.held.give_back(one)?;
        domain.qubits_version += 1;
        let interactive = self.interactive_mut(qubit.owner)?;
        lower(&mut interactive.live, 1, "an interactive space has more qubits than registers in use")?;
        interactive.free.push(qubit.register);
        if interactive.live == 0 {
            let space = interactive.space;
            self.domains.get_mut(qubit.owner)?.interactive = None;
            self.device.close(space);
        }
        self.refund_budget(qubit.machine, Holding::qubits_of(1, 0))?;
        self.unhold(qubit.machine)
    }

    /// Frees a qubit. With `uncompute`, a machine capability, the operations on it are undone where that leaves the
    /// other qubits alone, so that it need not be reset. Returns [`Reply::Freed`]: whether it was reset, and how many
    /// operations were undone.
    ///
    /// # Errors
    /// The qubit waits for a pair, or undoing takes rights or magic states that are not there.
    pub(crate) fn free_qubit(&mut self, caller: DomainId, handle: Handle, uncompute: Option<Handle>) -> Result<Reply> {
        let (id, qubit) = self.qubit(caller, handle, Rights::CONTROL)?;
        let qubit = qubit.clone();
        let (owner, register) = (qubit.owner, qubit.register);
        self.check_usable(owner, &[register])?;
        let mut dirty = !self.register(owner, register)?.known.clean();
        let mut undone = 0;
        let uncompute = match uncompute {
            Some(machine) => Some(self.require(caller, machine, ObjectKind::Machine, Rights::USE)?),
            None => None,
        };
        if let (true, Some((machine, rights))) = (dirty, uncompute) {
            let segment = &self.interactive(owner)?.segment;
            if segment.origin(register).clean()
                && let Some(ops) = segment.uncompute(register)
            {
                check_classes(&ops, rights)?;
                let magic = self.check_magic(caller, machine, &ops)?;
                self.apply_all(owner, &ops)?;
                let segment = &mut self.interactive_mut(owner)?.segment;
                ops.iter().for_each(|op| segment.push(*op));
                self.spend_magic(caller, machine, magic)?;
                undone = ops.len() as u32;
                dirty = false;
            }
        }
        if dirty {
            self.perform(owner, Op::Reset(register))?;
        }
        // The channel goes first: it may reset the register, which must still be allocated.
        self.close_channel_of(owner, register)?;
        self.objects.get_mut(id)?.object = Object::Gone;
        self.return_qubit(&qubit)?;
        let root = qubit.root.ok_or_else(|| broken("a qubit has no first capability"))?;
        // More capabilities than one step deletes may be left. They name nothing, and go when their holders delete
        // them.
        self.delete(owner, root, true)?;
        Ok(Reply::Freed { dirty, undone })
    }

    /// # Errors
    /// One of the qubits waits for a pair to be ready.
    pub(crate) fn check_usable(&self, owner: DomainId, registers: &[u32]) -> Result<()> {
        for &register in registers {
            if self.register(owner, register)?.ready_at > self.epoch {
                return refuse(NotYet::QubitPairPending);
            }
        }
        Ok(())
    }

    /// The magic states that operations of the caller take.
    ///
    /// # Errors
    /// The caller's quota, the shared region's stock or the budget has fewer.
    pub(crate) fn check_magic(&mut self, caller: DomainId, machine: ObjectId, ops: &[Op]) -> Result<u64> {
        let magic: u64 = ops.iter().map(|op| self.device.cost(op, Patch::default()).magic as u64).sum();
        // Clifford operations are never refused for a quota that is used up.
        if magic == 0 {
            return Ok(0);
        }
        let now = self.epoch;
        refuse_if(magic > self.domains.get_mut(caller)?.magic_left(now), KernelError::Quota(Limit::Magic))?;
        if magic > self.regions.get(RegionId::SHARED)?.spare_magic() as u64 {
            return refuse(NotYet::NoMagic);
        }
        self.check_budget(machine, Holding::default(), magic)?;
        Ok(magic)
    }

    /// Takes magic states that [`Kernel::check_magic`] found from the shared region's stock, on the caller's accounts.
    pub(crate) fn spend_magic(&mut self, caller: DomainId, machine: ObjectId, magic: u64) -> Checked {
        if magic == 0 {
            return Ok(());
        }
        self.charge_budget(machine, Holding::default(), magic)?;
        let shared = self.regions.get_mut(RegionId::SHARED)?;
        shared.magic_stock = shared.magic_stock.saturating_sub(magic as u32);
        let rate = shared.magic_rate;
        let domain = self.domains.get_mut(caller)?;
        domain.charge_magic(magic);
        let context = domain.context;
        self.contexts.get_mut(context)?.charge(Resource::Magic, magic, rate);
        Ok(())
    }

    /// Applies an operation, whose register i is the i-th of `qubits`. Returns [`Reply::Applied`]: the outcomes, and
    /// the epoch in which the operation is over on the modelled machine.
    ///
    /// # Errors
    /// The operation has a call of its own, names a qubit twice or none, or qubits of two spaces; a pair or
    /// magic states are not ready; the device refuses it.
    pub(crate) fn apply(&mut self, caller: DomainId, machine: Handle, op: Op, qubits: &[Handle]) -> Result<Reply> {
        let (machine, _) = self.require(caller, machine, ObjectKind::Machine, Rights::USE | op.class())?;
        if matches!(op, Op::Alloc(_) | Op::Free(_)) {
            return refuse(BadArgument::OwnCall);
        }
        if op.angle().is_some_and(|a| !a.is_finite()) {
            return refuse(BadArgument::Angle);
        }
        // Handles become registers of one space. The caller may hold qubits of several domains.
        let mut registers: Vec<u32> = Vec::new();
        let mut owner = None;
        for index in op.qubits() {
            let Some(&handle) = qubits.get(index as usize) else { return refuse(BadArgument::RegisterRange) };
            let (_, qubit) = self.qubit(caller, handle, Rights::USE)?;
            // The entanglement firewall: one operation, one space.
            if *owner.get_or_insert(qubit.owner) != qubit.owner {
                return refuse(BadArgument::TwoSpaces);
            }
            if registers.contains(&qubit.register) {
                return refuse(BadArgument::SameQubit);
            }
            registers.push(qubit.register);
        }
        let Some(owner) = owner else { return refuse(BadArgument::NoQubit) };
        self.check_usable(owner, &registers)?;
        // Each operand was found above, so each has a position.
        let register = |q| op.qubits().position(|p| p == q).and_then(|i| registers.get(i).copied()).unwrap_or(0);
        // Events are numbered within the call: the outcomes are read back at once and replace those of earlier calls.
        let renamed = match op.map_qubits(register) {
            Op::Measure(p, q, _) => Op::Measure(p, q, 0),
            Op::MeasureAngle(a, q, _) => Op::MeasureAngle(a, q, 0),
            Op::MeasureBell(a, b, ..) => Op::MeasureBell(a, b, 0, 1),
            other => other,
        };
        let magic = self.check_magic(caller, machine, &[renamed])?;
        let outcomes = self.perform(owner, renamed)?;
        self.spend_magic(caller, machine, magic)?;
        let cycles = self.device.cost(&renamed, Patch::default()).cycles;
        let until = self.mark_busy(owner, &registers, cycles)?.number();
        Ok(Reply::Applied { outcomes, until })
    }

    /// Notes that qubits are busy for some cycles from when all of them are free. Returns the epoch in which that is
    /// over.
    pub(crate) fn mark_busy(&mut self, owner: DomainId, registers: &[u32], cycles: u32) -> Checked<Epoch> {
        // The modelled machine runs the operations on one qubit one after the other, although the device is done at
        // once.
        let mut free_at = self.epoch;
        for &register in registers {
            free_at = free_at.max(self.register(owner, register)?.busy_until);
        }
        let until = free_at.plus(cycles as u64);
        for &register in registers {
            self.register_mut(owner, register)?.busy_until = until;
        }
        Ok(until)
    }

    /// Undoes all operations on the caller's qubits since the last irreversible one. Returns [`Reply::RolledBack`] with
    /// their number.
    ///
    /// # Errors
    /// Undoing takes rights or magic states that are not there, or the device refuses.
    pub(crate) fn rollback_qubits(&mut self, caller: DomainId, machine: ObjectId, rights: Rights) -> Result<Reply> {
        let Some(interactive) = &self.domains.get(caller)?.interactive else { return Ok(Reply::RolledBack(0)) };
        let ops: Vec<Op> = interactive.segment.inverses().collect();
        check_classes(&ops, rights)?;
        let magic = self.check_magic(caller, machine, &ops)?;
        self.apply_all(caller, &ops)?;
        self.spend_magic(caller, machine, magic)?;
        for op in &ops {
            let registers: Vec<u32> = op.qubits().collect();
            let cycles = self.device.cost(op, Patch::default()).cycles;
            self.mark_busy(caller, &registers, cycles)?;
        }
        self.interactive_mut(caller)?.segment.undone();
        Ok(Reply::RolledBack(ops.len() as u32))
    }

    /// Applies operations that undo others: all of them or, if the device refuses one, none.
    fn apply_all(&mut self, owner: DomainId, ops: &[Op]) -> Result<()> {
        let space = self.interactive(owner)?.space;
        for (done, &op) in ops.iter().enumerate() {
            if let Err(e) = self.device.perform(space, Instr { op, cond: None }) {
                // The call must change nothing. These operations were accepted before, so the device accepts them
                // again.
                for op in ops.iter().take(done).rev().filter_map(inverse) {
                    let _ = self.device.perform(space, Instr { op, cond: None });
                }
                return Err(device_error(e));
            }
        }
        let interactive = self.interactive_mut(owner)?;
        for op in ops {
            update_known(interactive, op)?;
        }
        Ok(())
    }
}

/// Notes whether the qubits of an operation are in basis states after it, as far as the operation alone tells.
fn update_known(interactive: &mut Interactive, op: &Op) -> Checked {
    let mut before = [Known::Unknown; 3];
    for (known, q) in before.iter_mut().zip(op.qubits()) {
        *known = interactive.register(q)?.known;
    }
    for (q, known) in op.qubits().zip(after(op, &before)) {
        interactive.register_mut(q)?.known = known;
    }
    Ok(())
}

/// Undoing takes the rights that doing takes, whoever did it.
pub(crate) fn check_classes(ops: &[Op], rights: Rights) -> Result<()> {
    let missing = ops.iter().fold(Rights::empty(), |all, op| all | op.class()) - rights;
    if missing.is_empty() { Ok(()) } else { Err(KernelError::Rights(missing)) }
}

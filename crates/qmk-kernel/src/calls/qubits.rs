//! Qubits that domains hold one by one.

use crate::errors::{Result, argument, device_error, not_now, not_ready};
use crate::image::known::{Known, after};
use crate::image::uncompute::{Segment, inverse};
use crate::interactive::register::{Interactive, Qubit, Register};
use crate::limits::PATCH;
use crate::object::{Entry, Object};
use crate::sched::fair_queue::Resource;
use crate::state::Kernel;
use alloc::vec::Vec;
use qmk_abi::image::{Instr, Op};
use qmk_abi::syscall::{Limit, ObjectKind, Patch};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::{Device, SpaceSpec};

impl<D: Device> Kernel<D> {
    /// The qubit behind a handle.
    pub(crate) fn qubit(&self, d: u32, handle: Handle, need: Rights) -> Result<(u32, &Qubit)> {
        let (id, _) = self.require(d, handle, ObjectKind::Qubit, need)?;
        match self.object(id) {
            Object::Qubit(qubit) => Ok((id, qubit)),
            _ => not_now("the qubit was freed"),
        }
    }

    pub(crate) fn register(&self, owner: u32, register: u32) -> Option<&Register> {
        self.domain(owner)?.interactive.as_ref()?.registers.get(register as usize)
    }

    pub(crate) fn register_mut(&mut self, owner: u32, register: u32) -> Option<&mut Register> {
        self.domain_mut(owner)?.interactive.as_mut()?.registers.get_mut(register as usize)
    }

    pub(crate) fn take_qubit(&mut self, d: u32, machine: Handle) -> Result<Reply> {
        let (machine_object, _) = self.require(d, machine, ObjectKind::Machine, Rights::USE | Rights::ALLOC)?;
        self.check_slots(d)?;
        let physical = self.device.physical_qubits(Patch::default()).unwrap_or(1) as u64;
        let available = self.device.spec().logical_qubits;
        let (Some(domain), Some(shared)) = (self.domain(d), self.regions.get(0)) else {
            return Err(KernelError::NoCapability);
        };
        if domain.used.qubits >= domain.quota.qubits {
            return Err(KernelError::Quota(Limit::Qubits));
        }
        if domain.used.physical_qubits.saturating_add(physical) > domain.quota.physical_qubits {
            return Err(KernelError::Quota(Limit::PhysicalQubits));
        }
        if shared.free_qubits == 0 {
            return Err(KernelError::Capacity { requested: 1, available });
        }
        if !shared.has_room(1, PATCH) {
            return not_ready("the decoders have deadlines to keep");
        }
        if shared.waiting.iter().any(|&id| self.blocks_others(id)) {
            return not_ready("a strand has waited too long for qubits");
        }
        // A domain may have one space after another.
        let (quota, seed) = (domain.quota, self.seed ^ (d as u64) << 32 ^ domain.qubits_version);
        self.check_budget(machine_object, 0, 1, 0)?;
        self.allocate(d, seed, quota.held_active)?;
        self.charge_budget(machine_object, 0, 1, 0);
        let Some(register) = self.domain(d).and_then(|d| d.interactive.as_ref()?.free.last().copied()) else {
            return not_now("no register is free");
        };
        self.hold(machine_object);
        if let Some(shared) = self.regions.get_mut(0) {
            shared.free_qubits -= 1;
            shared.interactive += 1;
        }
        if let Some(domain) = self.domain_mut(d) {
            domain.used.qubits += 1;
            domain.used.physical_qubits += physical;
            domain.qubits_version += 1;
            if let Some(interactive) = &mut domain.interactive {
                interactive.free.pop();
                interactive.live += 1;
            }
        }
        let qubit = Qubit { owner: d, register, machine: machine_object, root: None };
        let (id, handle) = self.create_object(d, Object::Qubit(qubit), ObjectKind::Qubit, machine)?;
        if let Some(Entry { object: Object::Qubit(qubit), .. }) = self.objects.get_mut(id) {
            qubit.root = Some(handle);
        }
        Ok(Reply::Handle(handle))
    }

    /// Puts a register in use, which is then the last free one.
    fn allocate(&mut self, d: u32, seed: u64, active: u32) -> Result<()> {
        let opened = self.domain(d).is_some_and(|d| d.interactive.is_none());
        if opened {
            let spec = SpaceSpec { shots: 1, seed, max_active: active, ..SpaceSpec::default() };
            let space = self.device.open(spec).map_err(device_error)?;
            if let Some(domain) = self.domain_mut(d) {
                let (registers, free, segment) = (Vec::new(), Vec::new(), Segment::default());
                domain.interactive = Some(Interactive { space, registers, free, live: 0, segment });
            }
        }
        let Some(interactive) = self.domain_mut(d).and_then(|d| d.interactive.as_mut()) else {
            return Err(KernelError::NoCapability);
        };
        let space = interactive.space;
        let register = interactive.free.last().copied().unwrap_or(interactive.registers.len() as u32);
        let op = Op::Alloc(register);
        if let Err(e) = self.device.perform(space, Instr { op, cond: None }) {
            if opened {
                self.device.close(space);
                if let Some(domain) = self.domain_mut(d) {
                    domain.interactive = None;
                }
            }
            return Err(device_error(e));
        }
        if let Some(interactive) = self.domain_mut(d).and_then(|d| d.interactive.as_mut()) {
            if interactive.free.is_empty() {
                interactive.registers.push(Register::default());
                interactive.free.push(register);
            }
            if let Some(r) = interactive.registers.get_mut(register as usize) {
                *r = Register { known: Known::Basis, ..Register::default() };
            }
            interactive.segment.push(op);
        }
        Ok(())
    }

    /// Performs an operation in a domain's space and notes what it does. Outcomes are in the order it writes them.
    pub(crate) fn perform(&mut self, owner: u32, op: Op) -> Result<Vec<bool>> {
        let Some(interactive) = self.domain(owner).and_then(|d| d.interactive.as_ref()) else {
            return not_now("the qubits' owner is gone");
        };
        let space = interactive.space;
        self.device.perform(space, Instr { op, cond: None }).map_err(device_error)?;
        let outcomes = op.writes().map(|e| self.device.outcome(space, 0, e)).collect();
        self.update_known(owner, &op);
        if let Some(interactive) = self.domain_mut(owner).and_then(|d| d.interactive.as_mut()) {
            interactive.segment.push(op);
        }
        Ok(outcomes)
    }

    /// Gives back a qubit whose object is gone.
    pub(crate) fn return_qubit(&mut self, qubit: &Qubit) {
        // The only failure is a space that already failed, whose states are lost anyway.
        let _ = self.perform(qubit.owner, Op::Free(qubit.register));
        if let Some(shared) = self.regions.get_mut(0) {
            shared.free_qubits += 1;
            shared.interactive -= 1;
        }
        let physical = self.device.physical_qubits(Patch::default()).unwrap_or(1) as u64;
        self.recheck_all_regions();
        let mut empty = None;
        if let Some(domain) = self.domain_mut(qubit.owner) {
            domain.used.qubits -= 1;
            domain.used.physical_qubits -= physical;
            domain.qubits_version += 1;
            if let Some(interactive) = &mut domain.interactive {
                interactive.live -= 1;
                interactive.free.push(qubit.register);
                if interactive.live == 0 {
                    empty = domain.interactive.take().map(|i| i.space);
                }
            }
        }
        if let Some(space) = empty {
            self.device.close(space);
        }
        self.refund_budget(qubit.machine, 0, 1);
        self.unhold(qubit.machine);
    }

    pub(crate) fn free_qubit(&mut self, d: u32, handle: Handle, uncompute: Option<Handle>) -> Result<Reply> {
        let (id, qubit) = self.qubit(d, handle, Rights::CONTROL)?;
        let qubit = qubit.clone();
        let (owner, register) = (qubit.owner, qubit.register);
        self.check_usable(owner, &[register])?;
        let mut dirty = self.register(owner, register).is_none_or(|r| !r.known.clean());
        let mut undone = 0;
        let uncompute = match uncompute {
            Some(machine) => Some(self.require(d, machine, ObjectKind::Machine, Rights::USE)?),
            None => None,
        };
        if let (true, Some((machine, rights))) = (dirty, uncompute) {
            let segment = self.domain(owner).and_then(|d| d.interactive.as_ref()).map(|i| &i.segment);
            let ops = segment.filter(|s| s.origin(register).clean()).and_then(|s| s.uncompute(register));
            if let Some(ops) = ops {
                check_classes(&ops, rights)?;
                let magic = self.check_magic(d, machine, &ops)?;
                self.apply_inverses(owner, &ops)?;
                if let Some(interactive) = self.domain_mut(owner).and_then(|d| d.interactive.as_mut()) {
                    ops.iter().for_each(|op| interactive.segment.push(*op));
                }
                self.spend_magic(d, machine, magic);
                undone = ops.len() as u32;
                dirty = false;
            }
        }
        if dirty {
            self.perform(owner, Op::Reset(register))?;
        }
        self.close_channel_of(owner, register);
        if let Some(entry) = self.objects.get_mut(id) {
            entry.object = Object::Gone;
        }
        self.return_qubit(&qubit);
        if let Some(root) = qubit.root {
            // What this step leaves names nothing.
            self.delete(owner, root, true);
        }
        Ok(Reply::Freed { dirty, undone })
    }

    /// Whether qubits are not waiting for a pair to be ready.
    pub(crate) fn check_usable(&self, owner: u32, registers: &[u32]) -> Result<()> {
        let waits = |&r: &u32| self.register(owner, r).is_some_and(|r| r.ready_at > self.epoch);
        if registers.iter().any(waits) { not_ready("the pair of the qubit's channel is not ready") } else { Ok(()) }
    }

    /// The magic states that operations of `d` take, if they can be had.
    pub(crate) fn check_magic(&mut self, d: u32, machine: u32, ops: &[Op]) -> Result<u64> {
        let magic: u64 = ops.iter().map(|op| self.device.cost(op, Patch::default()).magic as u64).sum();
        if magic == 0 {
            return Ok(0);
        }
        let now = self.epoch;
        if self.domain_mut(d).is_none_or(|domain| magic > domain.magic_left(now)) {
            return Err(KernelError::Quota(Limit::Magic));
        }
        if self.regions.get(0).is_none_or(|shared| magic > shared.spare_magic() as u64) {
            return not_ready("there are not enough magic states in stock");
        }
        self.check_budget(machine, 0, 0, magic)?;
        Ok(magic)
    }

    /// Takes magic states from the stock of the shared region, where they have been seen.
    pub(crate) fn spend_magic(&mut self, d: u32, machine: u32, magic: u64) {
        if magic == 0 {
            return;
        }
        self.charge_budget(machine, 0, 0, magic);
        let mut rate = 1;
        if let Some(shared) = self.regions.get_mut(0) {
            shared.magic_stock = shared.magic_stock.saturating_sub(magic as u32);
            rate = shared.magic_rate;
        }
        let Some(domain) = self.domain_mut(d) else { return };
        domain.charge_magic(magic);
        let context = domain.context;
        if let Some(context) = self.contexts.get_mut(context) {
            context.charge(Resource::Magic, magic, rate);
        }
    }

    pub(crate) fn apply(&mut self, d: u32, machine: Handle, op: Op, qubits: &[Handle]) -> Result<Reply> {
        let (machine, _) = self.require(d, machine, ObjectKind::Machine, Rights::USE | op.class())?;
        if matches!(op, Op::Alloc(_) | Op::Free(_)) {
            return argument("this operation has a system call of its own");
        }
        if op.angle().is_some_and(|a| !a.is_finite()) {
            return argument("angle is not finite");
        }
        let mut registers: Vec<u32> = Vec::new();
        let mut owner = None;
        for index in op.qubits() {
            let Some(&handle) = qubits.get(index as usize) else { return argument("register beyond the qubits given") };
            let (_, qubit) = self.qubit(d, handle, Rights::USE)?;
            // The entanglement firewall: one operation, one space.
            if *owner.get_or_insert(qubit.owner) != qubit.owner {
                return argument("qubits of different spaces cannot meet in one operation");
            }
            if registers.contains(&qubit.register) {
                return argument("qubit named twice");
            }
            registers.push(qubit.register);
        }
        let Some(owner) = owner else { return argument("the operation names no qubit") };
        self.check_usable(owner, &registers)?;
        let register = |q| op.qubits().position(|p| p == q).and_then(|i| registers.get(i).copied()).unwrap_or(0);
        let renamed = match op.map_qubits(register) {
            Op::Measure(p, q, _) => Op::Measure(p, q, 0),
            Op::MeasureAngle(a, q, _) => Op::MeasureAngle(a, q, 0),
            Op::MeasureBell(a, b, ..) => Op::MeasureBell(a, b, 0, 1),
            other => other,
        };
        let magic = self.check_magic(d, machine, &[renamed])?;
        let outcomes = self.perform(owner, renamed)?;
        self.spend_magic(d, machine, magic);
        let cycles = self.device.cost(&renamed, Patch::default()).cycles;
        let until = self.mark_busy(owner, &registers, cycles);
        Ok(Reply::Applied { outcomes, until })
    }

    /// Notes that qubits are busy for some cycles from when all of them are free; returns the epoch of the end.
    pub(crate) fn mark_busy(&mut self, owner: u32, registers: &[u32], cycles: u32) -> u64 {
        let busy = registers.iter().filter_map(|&r| self.register(owner, r)).map(|r| r.busy_until);
        let until = busy.fold(self.epoch, u64::max) + cycles as u64;
        for &r in registers {
            if let Some(register) = self.register_mut(owner, r) {
                register.busy_until = until;
            }
        }
        until
    }

    /// Undoes what was done to the domain's qubits since the last irreversible operation.
    pub(crate) fn rollback_qubits(&mut self, d: u32, machine: u32, rights: Rights) -> Result<Reply> {
        let Some(interactive) = self.domain(d).and_then(|d| d.interactive.as_ref()) else {
            return Ok(Reply::RolledBack(0));
        };
        let ops: Vec<Op> = interactive.segment.inverses().collect();
        check_classes(&ops, rights)?;
        let magic = self.check_magic(d, machine, &ops)?;
        self.apply_inverses(d, &ops)?;
        self.spend_magic(d, machine, magic);
        for op in &ops {
            let registers: Vec<u32> = op.qubits().collect();
            let cycles = self.device.cost(op, Patch::default()).cycles;
            self.mark_busy(d, &registers, cycles);
        }
        if let Some(interactive) = self.domain_mut(d).and_then(|d| d.interactive.as_mut()) {
            interactive.segment.undone();
        }
        Ok(Reply::RolledBack(ops.len() as u32))
    }

    /// Performs what undoes other operations: all of it or, if the device refuses, nothing.
    fn apply_inverses(&mut self, owner: u32, ops: &[Op]) -> Result<()> {
        let Some(interactive) = self.domain(owner).and_then(|d| d.interactive.as_ref()) else {
            return not_now("the qubits' owner is gone");
        };
        let space = interactive.space;
        for (done, &op) in ops.iter().enumerate() {
            if let Err(e) = self.device.perform(space, Instr { op, cond: None }) {
                // What was undone must be done again, so that the call changes nothing; it was done before and fits.
                for op in ops.iter().take(done).rev().filter_map(inverse) {
                    let _ = self.device.perform(space, Instr { op, cond: None });
                }
                return Err(device_error(e));
            }
        }
        ops.iter().for_each(|op| self.update_known(owner, op));
        Ok(())
    }

    /// Notes what an operation tells of its qubits.
    fn update_known(&mut self, owner: u32, op: &Op) {
        let Some(interactive) = self.domain_mut(owner).and_then(|d| d.interactive.as_mut()) else { return };
        let registers = &mut interactive.registers;
        let known = |q: Option<u32>| q.and_then(|q| registers.get(q as usize)).map_or(Known::Unknown, |r| r.known);
        let mut qubits = op.qubits();
        let before = [known(qubits.next()), known(qubits.next()), known(qubits.next())];
        for (q, known) in op.qubits().zip(after(op, &before)) {
            if let Some(register) = registers.get_mut(q as usize) {
                register.known = known;
            }
        }
    }
}

/// Undoing takes the rights that doing takes, whoever did it.
pub(crate) fn check_classes(ops: &[Op], rights: Rights) -> Result<()> {
    let missing = ops.iter().fold(Rights::empty(), |all, op| all | op.class()) - rights;
    if missing.is_empty() { Ok(()) } else { Err(KernelError::Rights(missing)) }
}

//! Interactive qubits.

use crate::model::object::Object;
use crate::model::state::Model;
use crate::model::verdict::{Caller, Effect, Expected, certain_if};
use qmk_kernel::DomainId;
use qmk_kernel::abi::image::Op;
use qmk_kernel::abi::syscall::{ObjectKind, Patch};
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;

impl<D: Device> Model<D> {
    pub(super) fn expect_take(&self, caller: &Caller, machine: Handle) -> Expected {
        let need = Rights::USE | Rights::ALLOC;
        let (parent, machine, _) = self.allowed(caller.domain, machine, ObjectKind::Machine, need)?;
        let (used, quota) = (&caller.used, &caller.quota);
        let each = self.physical(Patch::default());
        let fits = used.qubits < quota.qubits
            && used.physical_qubits.saturating_add(each) <= quota.physical_qubits
            && self.within_budget(machine, 0, 1, 0);
        let quiet = self.quiet();
        let free = if quiet { self.shared_free() } else { self.kernel.free_qubits() };
        (caller.has_slot() && fits && free > 0).then_some(())?;
        certain_if(quiet, Effect::New(parent, Object::Qubit { machine, ready_at: 0 }))
    }

    pub(super) fn expect_free(&self, d: DomainId, qubit: Handle, uncompute: Option<Handle>) -> Expected {
        let (_, o, _) = self.allowed(d, qubit, ObjectKind::Qubit, Rights::CONTROL)?;
        (!self.waits(o)).then_some(())?;
        let machine = match uncompute {
            Some(machine) => Some(self.allowed(d, machine, ObjectKind::Machine, Rights::USE)?.1),
            None => None,
        };
        certain_if(machine.is_none(), Effect::Freed(o, machine))
    }

    pub(super) fn apply_free(
        &mut self,
        d: DomainId,
        qubit: usize,
        machine: Option<usize>,
        reply: &Reply,
        call: &Syscall,
    ) {
        let &Reply::Freed { dirty, undone } = reply else { panic!("{reply:?}") };
        assert!(undone == 0 || machine.is_some() && !dirty, "{call:?} {reply:?}");
        if let Some(machine) = machine {
            self.spend(d, machine, (undone == 0).then_some(0), call);
        }
        let root = self.capabilities.iter().find(|(_, c)| c.object == qubit).map(|(&i, _)| i);
        self.delete(root.expect("a capability to the qubit"), true);
        assert!(!self.live.contains(&qubit));
    }

    /// Whether a qubit waits for a pair.
    fn waits(&self, qubit: usize) -> bool {
        matches!(self.object(qubit), Object::Qubit { ready_at, .. } if *ready_at > self.kernel.epoch())
    }

    pub(super) fn expect_apply(&self, caller: &Caller, machine: Handle, op: &Op, qubits: &[Handle]) -> Expected {
        let d = caller.domain;
        let (_, machine, _) = self.allowed(d, machine, ObjectKind::Machine, Rights::USE | op.class())?;
        let mut named = Vec::new();
        for q in op.qubits() {
            let (_, o, _) = self.allowed(d, *qubits.get(q as usize)?, ObjectKind::Qubit, Rights::USE)?;
            named.push(o);
        }
        let one_space = named.iter().all(|&o| self.owner(o) == self.owner(named[0]));
        let distinct = (1..named.len()).all(|i| !named[..i].contains(&named[i]));
        let own_call = matches!(op, Op::Alloc(_) | Op::Free(_) | Op::Fence);
        let ready = named.iter().all(|&q| !self.waits(q));
        let sound = distinct && !own_call && !named.is_empty() && op.angle().is_none_or(f64::is_finite);
        let magic = self.magic(op, Patch::default());
        let left = caller.quota.magic.saturating_sub(caller.used.magic);
        let paid = magic == 0 || magic <= left && self.within_budget(machine, 0, 0, magic);
        (one_space && sound && ready && paid).then_some(())?;
        certain_if(magic == 0, Effect::Spent { machine, magic: Some(magic) })
    }
}

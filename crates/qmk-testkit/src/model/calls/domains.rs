//! Domains, contexts and regions, which take a machine capability with `ADMIN`.

use crate::model::object::{Account, Object, Part};
use crate::model::state::Model;
use crate::model::verdict::{Caller, Effect, Expected, always, certain_if, handle};
use qmk_kernel::DomainId;
use qmk_kernel::abi::syscall::{ObjectKind, Quota};
use qmk_kernel::abi::{Handle, Reply, Rights};
use qmk_kernel::hal::Device;

impl<D: Device> Model<D> {
    /// The place of a machine capability with `ADMIN`, if the caller has a slot for what is made through it.
    fn administered(&self, caller: &Caller, machine: Handle) -> Option<usize> {
        let (parent, ..) = self.allowed(caller.domain, machine, ObjectKind::Machine, Rights::ADMIN)?;
        caller.has_slot().then_some(parent)
    }

    pub(super) fn expect_domain(&self, caller: &Caller, machine: Handle, quota: Quota) -> Expected {
        always(Effect::NewDomain(self.administered(caller, machine)?, quota))
    }

    pub(super) fn apply_domain(&mut self, d: DomainId, parent: usize, quota: Quota, reply: &Reply) {
        let id = self.kernel.domain_of(d, handle(reply)).expect("the new domain");
        assert!(self.quotas.insert(id, quota).is_none(), "{id:?} came back");
        self.accounts.insert(id, Account::default());
        let object = self.add(Object::Domain(id), d);
        self.insert(d, handle(reply), object, Rights::OBJECT, 0, parent);
    }

    pub(super) fn expect_context(&self, caller: &Caller, machine: Handle) -> Expected {
        always(Effect::New(self.administered(caller, machine)?, Object::Context))
    }

    pub(super) fn expect_region(
        &self,
        caller: &Caller,
        machine: Handle,
        [qubits, routes, magic]: [u32; 3],
    ) -> Expected {
        let parent = self.administered(caller, machine)?;
        let Part { routes: all_routes, rate, buffer, .. } = self.shared;
        let quiet = self.quiet();
        let free = if quiet { self.shared_free() } else { self.kernel.free_qubits() };
        (qubits > 0 && qubits <= free && routes <= all_routes && magic <= rate).then_some(())?;
        let buffer = (buffer as u64 * magic as u64 / rate.max(1) as u64) as u32;
        let part = Part { qubits, routes, rate: magic, buffer };
        // Operations keep their routes to their end even when their strand is gone.
        certain_if(quiet && routes == 0, Effect::New(parent, Object::Region(part)))
    }
}

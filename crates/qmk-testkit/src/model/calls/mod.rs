//! What each call must do, one file per kind of call, as in the kernel's own folder of this name: `expect_...` decides
//! whether it is allowed, `apply_...` does it to the model and checks the reply.

use crate::model::object::Object;
use crate::model::state::Model;
use crate::model::verdict::{Caller, Effect, Expected, always, handle};
use qmk_kernel::DomainId;
use qmk_kernel::abi::{Reply, Rights, Syscall};
use qmk_kernel::hal::Device;

mod channels;
mod checkpoints;
mod derivation;
mod domains;
mod qubits;
mod strands;

impl<D: Device> Model<D> {
    /// `None` if the call must be refused.
    pub(in crate::model) fn expect(&mut self, d: DomainId, call: &Syscall) -> Expected {
        let quota = *self.quotas.get(&d)?;
        let caller = Caller { domain: d, quota, used: self.used(d) };
        match *call {
            Syscall::CreateDomain { machine, quota } => self.expect_domain(&caller, machine, quota),
            Syscall::CreateContext { machine, .. } => self.expect_context(&caller, machine),
            Syscall::CreateRegion { machine, qubits, routes, magic } => {
                self.expect_region(&caller, machine, [qubits, routes, magic])
            }
            Syscall::Derive { source, rights, badge, into, budget } => {
                self.expect_derive(d, source, rights, badge, into, budget)
            }
            Syscall::Revoke { target } => always(Effect::Delete(self.find(d, target)?.0, false)),
            Syscall::Delete { target } => always(Effect::Delete(self.find(d, target)?.0, true)),
            Syscall::Inspect { target } => self.expect_inspect(d, target),
            Syscall::Admit { machine, ref image } => self.expect_admit(&caller, machine, image),
            Syscall::Spawn { machine, image, run } => self.expect_spawn(&caller, machine, image, run),
            Syscall::Status { strand } => self.expect_status(d, strand),
            Syscall::Outcomes { strand, first, .. } => self.expect_outcomes(d, strand, first),
            Syscall::Pause { strand, .. } => self.movable(d, strand).and_then(|_| always(Effect::Nothing)),
            Syscall::Migrate { strand, region } => self.expect_migrate(d, strand, region),
            Syscall::Rollback { machine, strand } => self.expect_rollback(d, machine, strand),
            Syscall::Checkpoint { machine, strand } => self.expect_checkpoint(&caller, machine, strand),
            Syscall::CheckpointStatus { checkpoint } => self.expect_checkpoint_status(d, checkpoint),
            Syscall::Restore { checkpoint } => self.expect_restore(d, checkpoint),
            Syscall::TakeQubit { machine } => self.expect_take(&caller, machine),
            Syscall::FreeQubit { qubit, uncompute } => self.expect_free(d, qubit, uncompute),
            Syscall::Apply { machine, ref op, ref qubits } => self.expect_apply(&caller, machine, op, qubits),
            Syscall::Offer { machine, qubit, to, fidelity } => self.expect_offer(&caller, machine, qubit, to, fidelity),
            Syscall::Accept { machine, endpoint, qubit } => self.expect_accept(d, machine, endpoint, qubit),
            Syscall::Teleport { machine, endpoint, qubit } => self.expect_teleport(d, machine, endpoint, qubit),
            Syscall::SwapEntanglement { machine, endpoints } => self.expect_swap(d, machine, endpoints),
            Syscall::CloseChannel { endpoint } => self.expect_close(d, endpoint),
            Syscall::ChannelStatus { endpoint } => self.expect_channel_status(d, endpoint),
            Syscall::Usage => always(Effect::Exactly(Reply::Usage { used: caller.used, quota })),
        }
    }

    /// Checks the reply to a call that succeeded, and does the same to the model.
    pub(in crate::model) fn apply(&mut self, d: DomainId, effect: Effect, reply: &Reply, call: &Syscall) {
        match effect {
            Effect::Nothing => {}
            Effect::Exactly(expected) => assert_eq!(*reply, expected, "{call:?}"),
            Effect::New(parent, object) => self.apply_new(d, parent, object, reply),
            Effect::Spawned(parent, strand, magic) => self.apply_spawn(d, parent, *strand, magic, reply),
            Effect::Derived(derivation) => self.apply_derive(d, derivation, reply),
            Effect::NewDomain(parent, quota) => self.apply_domain(d, parent, quota, reply),
            Effect::Delete(root, too) => self.apply_delete(root, too, reply, call),
            Effect::TakenBack(strand, rights) => self.apply_rollback(strand, rights, call),
            Effect::Restored(strand, checkpoint, again) => self.apply_restore(strand, checkpoint, again),
            Effect::Spent { machine, magic } => self.spend(d, machine, magic, call),
            Effect::Freed(qubit, machine) => self.apply_free(d, qubit, machine, reply, call),
            Effect::Taken(of) => self.apply_checkpoint_status(of, reply),
            Effect::Offered(parent, to, qubit, asked) => self.apply_offer(d, parent, to, qubit, asked, reply),
            Effect::Accepted(channel, qubit) => self.apply_accept(channel, qubit, reply),
            Effect::Teleported(channel) => self.apply_teleport(channel, reply),
            Effect::Swapped(first, second) => self.apply_swap(d, first, second),
            Effect::Closed(channel) => self.close(channel),
            Effect::Channel(channel) => self.apply_channel_status(channel, reply, call),
        }
    }

    /// A new object with its first capability.
    fn apply_new(&mut self, d: DomainId, parent: usize, object: Object, reply: &Reply) {
        match &object {
            Object::Region(part) => self.shared.give(part),
            Object::Qubit { .. } => self.account(d).version += 1,
            _ => {}
        }
        let object = self.add(object, d);
        self.insert(d, handle(reply), object, Rights::OBJECT, 0, parent);
    }
}

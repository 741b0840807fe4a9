//! How long objects live.

use crate::object::{Entry, Object};
use crate::state::Kernel;
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    /// Destroys an object that nothing names and nothing holds any more.
    pub(crate) fn destroy_if_unused(&mut self, id: u32) {
        if self.objects.get(id).is_none_or(|e| e.references > 0 || e.holds > 0) {
            return;
        }
        if let Some(Entry { object, .. }) = self.objects.remove(id) {
            self.destroy(id, object);
        }
    }

    /// Keeps an object alive without a capability.
    pub(crate) fn hold(&mut self, id: u32) {
        if let Some(entry) = self.objects.get_mut(id) {
            entry.holds += 1;
        }
    }

    pub(crate) fn unhold(&mut self, id: u32) {
        if let Some(entry) = self.objects.get_mut(id) {
            entry.holds -= 1;
        }
        self.destroy_if_unused(id);
    }

    fn destroy(&mut self, id: u32, object: Object) {
        match object {
            Object::Machine(machine) => {
                if let Some(parent) = machine.parent {
                    self.unhold(parent);
                }
            }
            // All it created derives from what its space holds, so nothing of it survives this.
            Object::Domain(d) => {
                if let Some(domain) = self.domain_mut(d) {
                    domain.dead = true;
                    self.dying.push(d);
                }
            }
            Object::Image { owner, size, .. } => {
                if let Some(domain) = self.domain_mut(owner) {
                    domain.used.instructions -= size;
                }
            }
            Object::Strand(strand) => self.end_strand(id, *strand),
            Object::Qubit(qubit) => {
                self.close_channel_of(qubit.owner, qubit.register);
                self.return_qubit(&qubit);
            }
            Object::Context(context) => self.end_context(context),
            Object::Region(region) => self.end_region(region),
            Object::Endpoint { channel, side } => self.drop_endpoint(channel, side),
            Object::Checkpoint(checkpoint) => self.end_checkpoint(id, *checkpoint),
            Object::Gone => {}
        }
    }
}

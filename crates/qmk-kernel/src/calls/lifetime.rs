//! How long objects live. An object is destroyed when the last capability to it is gone and no other object needs it.
//!
//! Architecture invariant: `references` counts capabilities and `holds` counts objects, and nothing else raises or
//! lowers them. So an object that is destroyed is named by nothing, and its number may be given to the next.

use crate::errors::{Checked, lower};
use crate::ids::{ObjectId, StrandId};
use crate::object::Object;
use crate::state::Kernel;
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    /// A capability that named the object is gone.
    pub(crate) fn drop_reference(&mut self, id: ObjectId) -> Checked {
        lower(&mut self.objects.get_mut(id)?.references, 1, "an object has more capabilities than references")?;
        self.destroy_if_unused(id)
    }

    /// Keeps an object alive without a capability: a strand its image and its budget, a budget the one it is part of.
    pub(crate) fn hold(&mut self, id: ObjectId) -> Checked {
        self.objects.get_mut(id)?.holds += 1;
        Ok(())
    }

    /// The end of a [`Kernel::hold`].
    pub(crate) fn unhold(&mut self, id: ObjectId) -> Checked {
        lower(&mut self.objects.get_mut(id)?.holds, 1, "an object is held less often than let go")?;
        self.destroy_if_unused(id)
    }

    fn destroy_if_unused(&mut self, id: ObjectId) -> Checked {
        let entry = self.objects.get(id)?;
        if entry.references > 0 || entry.holds > 0 {
            return Ok(());
        }
        let object = self.objects.remove(id)?.object;
        self.destroy(id, object)
    }

    /// Gives back the holdings of an object, which is out of the table already.
    fn destroy(&mut self, id: ObjectId, object: Object) -> Checked {
        match object {
            // A budget inside this one, or a strand or qubit on it, would have held it.
            Object::Machine(machine) => match machine.parent {
                Some(parent) => self.unhold(parent),
                None => Ok(()),
            },
            // Its space is emptied in bounded steps, and with it go the objects that the domain made.
            Object::Domain(domain) => {
                self.domains.get_mut(domain)?.dead = true;
                self.dying.push(domain);
                Ok(())
            }
            // The strand of another domain may have kept it longer than its owner lived.
            Object::Image(image) => match self.domains.find_mut(image.owner) {
                Some(owner) => {
                    let used = &mut owner.used.instructions;
                    lower(used, image.size, "images are larger than their domain's account")
                }
                None => Ok(()),
            },
            Object::Strand(strand) => self.end_strand(StrandId::of(id), *strand),
            Object::Qubit(qubit) => {
                self.close_channel_of(qubit.owner, qubit.register)?;
                self.return_qubit(&qubit)
            }
            Object::Context(context) => self.end_context(context),
            Object::Region(region) => self.end_region(region),
            Object::Endpoint { channel, side } => self.drop_endpoint(channel, side),
            Object::Checkpoint(checkpoint) => self.end_checkpoint(id, *checkpoint),
            Object::Gone => Ok(()),
        }
    }
}

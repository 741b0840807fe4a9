//! Objects: what capabilities name. An object lives as long as a capability names it or another object needs it; the
//! end of that is in `calls/lifetime.rs`.

use crate::errors::{Broken, Checked, broken};
use crate::holding::Holding;
use crate::ids::{ChannelId, ContextId, DomainId, ObjectId, RegionId, StrandId, kind};
use crate::image::admit::Admitted;
use crate::image::dataflow::Flow;
use crate::image::profile::ImageProfile;
use crate::interactive::channel::Side;
use crate::interactive::register::Qubit;
use crate::slab::Slab;
use crate::strand::checkpoint::Checkpoint;
use crate::strand::state::Strand;
use alloc::{boxed::Box, sync::Arc};
use qmk_abi::syscall::{Budget, Patch};

/// An object of some kind. Those of domains, contexts, regions and endpoints only name an entry of another table, which
/// outlives no object that names it.
#[derive(Debug)]
pub(crate) enum Object {
    Machine(Machine),
    Domain(DomainId),
    Image(Image),
    Strand(Box<Strand>),
    Qubit(Qubit),
    Context(ContextId),
    Region(RegionId),
    Endpoint {
        channel: ChannelId,
        side: Side,
    },
    Checkpoint(Box<Checkpoint>),
    /// A qubit that `FreeQubit` destroyed before all capabilities to it were deleted.
    Gone,
}

/// The machine, or a budget of it.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// The machine object that this budget was derived from, and which it counts against as well.
    pub(crate) parent: Option<ObjectId>,
    /// Budgets from the machine down to this one, at most [`MAX_BUDGET_DEPTH`](crate::limits::MAX_BUDGET_DEPTH).
    pub(crate) depth: u32,
    /// `None` on the machine itself and on objects that only pass their parent's budget on.
    pub(crate) budget: Option<Budget>,
    /// Strands that exist, and qubits: held one by one, or those that strands hold at their peak. Within the budget.
    pub(crate) held: Holding,
    /// Magic states, all shots together. They are never given back.
    pub(crate) magic: u64,
}

/// An admitted image, with the tables that are derived from it on demand.
#[derive(Debug)]
pub(crate) struct Image {
    /// Whose quota its size counts against.
    pub(crate) owner: DomainId,
    pub(crate) admitted: Arc<Admitted>,
    /// Instructions, registers, events and condition terms, as the quota counts them.
    pub(crate) size: u32,
    /// Its profile on the patches that it was last spawned with.
    pub(crate) profile: Option<(Patch, ImageProfile)>,
    /// Made for the first strand that issues one instruction at a time.
    pub(crate) flow: Option<Arc<Flow>>,
}

/// An object and the reasons to keep it. It is destroyed when both counts are 0.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) object: Object,
    /// Capabilities that name it.
    pub(crate) references: u32,
    /// Objects that need it.
    pub(crate) holds: u32,
}

/// All objects. A capability's kind is that of its object, and so is the type of a number; the typed accessors rely on
/// it.
pub(crate) type Objects = Slab<kind::Object, Entry>;

/// Accessors for objects of one kind. Their error is that the object is gone or of another kind.
macro_rules! accessors {
    ($($get:ident, $get_mut:ident($id:ident): $kind:ident, $story:literal;)*) => {
        impl Objects {$(
            #[inline]
            pub(crate) fn $get(&self, id: $id) -> Checked<&$kind> {
                match self.find(id.object()) {
                    Some(Entry { object: Object::$kind(found), .. }) => {
                        let found: &$kind = found;
                        Ok(found)
                    }
                    _ => Err(Broken::met($story, Some(id.index()))),
                }
            }

            /// With other parts of the kernel free to be borrowed.
            #[inline]
            pub(crate) fn $get_mut(&mut self, id: $id) -> Checked<&mut $kind> {
                match self.find_mut(id.object()) {
                    Some(Entry { object: Object::$kind(found), .. }) => {
                        let found: &mut $kind = found;
                        Ok(found)
                    }
                    _ => Err(Broken::met($story, Some(id.index()))),
                }
            }
        )*}
    };
}

accessors! {
    strand, strand_mut(StrandId): Strand, "the number of a strand names none";
    machine, machine_mut(ObjectId): Machine, "the number of a machine names none";
    image, image_mut(ObjectId): Image, "the number of an image names none";
    checkpoint, checkpoint_mut(ObjectId): Checkpoint, "the number of a checkpoint names none";
}

/// An object of another kind than its capability's.
#[cold]
pub(crate) fn wrong_kind() -> Broken {
    broken("a capability is of another kind than its object")
}

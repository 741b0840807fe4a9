//! Objects, which capabilities name.

use crate::image::admit::Admitted;
use crate::image::dataflow::Flow;
use crate::image::profile::ImageProfile;
use crate::interactive::register::Qubit;
use crate::slab::Slab;
use crate::strand::checkpoint::Checkpoint;
use crate::strand::state::Strand;
use alloc::boxed::Box;
use alloc::sync::Arc;
use qmk_abi::syscall::{Budget, Patch};

#[derive(Debug)]
pub(crate) enum Object {
    Machine(Machine),
    Domain(u32),
    Image {
        owner: u32,
        image: Arc<Admitted>,
        size: u32,
        profile: Option<(Patch, ImageProfile)>,
        /// Made when first asked for.
        flow: Option<Arc<Flow>>,
    },
    Strand(Box<Strand>),
    Qubit(Qubit),
    Context(u32),
    Region(u32),
    Endpoint {
        channel: u32,
        side: u8,
    },
    Checkpoint(Box<Checkpoint>),
    /// Destroyed while capabilities to it were left.
    Gone,
}

/// The machine, or a budget of it.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// Object whose budget this one is part of.
    pub(crate) parent: Option<u32>,
    pub(crate) depth: u32,
    pub(crate) budget: Option<Budget>,
    pub(crate) strands: u32,
    pub(crate) qubits: u32,
    pub(crate) magic: u64,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) object: Object,
    /// Capabilities that name it.
    pub(crate) references: u32,
    /// Objects that need it.
    pub(crate) holds: u32,
}

impl Slab<Entry> {
    /// A strand, with other parts of the kernel free to be borrowed.
    #[inline]
    pub(crate) fn strand_mut(&mut self, id: u32) -> Option<&mut Strand> {
        match self.get_mut(id) {
            Some(Entry { object: Object::Strand(s), .. }) => Some(s),
            _ => None,
        }
    }
}

//! What the model knows of the objects that capabilities name, of channels, accounts and calls.

use qmk_kernel::DomainId;
use qmk_kernel::abi::image::Image;
use qmk_kernel::abi::syscall::{Budget, ChannelState, ObjectKind, Run, StrandState};
use qmk_kernel::abi::{Handle, Rights};

/// Resources of the shared part of the machine, or of a region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) qubits: u32,
    pub(super) routes: u32,
    pub(super) rate: u32,
    pub(super) buffer: u32,
}

impl Part {
    /// Gives a part of this part away.
    pub(super) fn give(&mut self, part: &Part) {
        self.qubits -= part.qubits;
        self.routes -= part.routes;
        self.rate -= part.rate;
        self.buffer -= part.buffer;
    }

    pub(super) fn take_back(&mut self, part: &Part) {
        self.qubits += part.qubits;
        self.routes += part.routes;
        self.rate += part.rate;
        self.buffer += part.buffer;
    }
}

#[derive(Clone, Debug)]
pub(super) struct Strand {
    pub(super) image: Image,
    /// Object that stays, and counts, as long as the strand does.
    pub(super) image_object: usize,
    pub(super) run: Run,
    pub(super) machine: usize,
    pub(super) region: Option<usize>,
    pub(super) spawned: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Object {
    Machine { parent: Option<usize>, depth: u32, budget: Option<Budget>, magic: u64 },
    Domain(DomainId),
    Image(Image),
    Strand(Box<Strand>),
    Qubit { machine: usize, ready_at: u64 },
    Context,
    Region(Part),
    Endpoint { channel: usize, side: usize },
    Checkpoint(Of),
}

/// What a checkpoint is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Strand(usize),
    /// Interactive qubits, when so many had been taken, freed or linked.
    Qubits(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Capability {
    pub(super) domain: DomainId,
    pub(super) handle: Handle,
    pub(super) object: usize,
    pub(super) rights: Rights,
    pub(super) badge: u64,
    pub(super) parent: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) domain: DomainId,
    pub(super) qubit: Option<usize>,
    pub(super) endpoint: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) ends: [End; 2],
    pub(super) state: ChannelState,
    pub(super) asked: f64,
    pub(super) ready_at: u64,
}

impl Channel {
    pub(super) fn is_open(&self) -> bool {
        self.state != ChannelState::Closed
    }
}

/// What is counted per domain for ever.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// Times that qubits were taken, freed or linked.
    pub(super) version: u64,
    pub(super) pairs: u64,
    /// Magic states, as last seen.
    pub(super) magic: u64,
    /// Those of interactive qubits, and of strands that are gone.
    pub(super) told: u64,
    /// A strand was taken back, so that what its status tells is not what it cost.
    pub(super) inexact: bool,
}

/// How often calls of one kind succeeded and were refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that were refused.
    pub refusals: u64,
}

pub(super) fn kind(object: &Object) -> ObjectKind {
    match object {
        Object::Machine { .. } => ObjectKind::Machine,
        Object::Domain(_) => ObjectKind::Domain,
        Object::Image(_) => ObjectKind::Image,
        Object::Strand(_) => ObjectKind::Strand,
        Object::Qubit { .. } => ObjectKind::Qubit,
        Object::Context => ObjectKind::Context,
        Object::Region(_) => ObjectKind::Region,
        Object::Endpoint { .. } => ObjectKind::Endpoint,
        Object::Checkpoint(_) => ObjectKind::Checkpoint,
    }
}

/// What quotas count as the size of an image.
pub(super) fn size(image: &Image) -> u64 {
    let terms: usize = image.code.iter().filter_map(|i| Some(image.cond_terms(i.cond?).len())).sum();
    image.code.len() as u64 + image.terms.len().max(terms) as u64 + image.qubits as u64 + image.events as u64
}

/// States in which a strand has not issued everything.
pub(super) fn issues(state: StrandState) -> bool {
    matches!(state, StrandState::Waiting | StrandState::Running | StrandState::Held)
}

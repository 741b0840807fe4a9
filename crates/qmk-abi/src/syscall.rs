//! Kernel system calls. Each names, by [`Handle`], the capability it uses; the caller is a domain whose
//! capability space those handles index.

use crate::caps::{Handle, Rights};
use crate::image::{Event, Image, ImageError, Op};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Limits of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Logical qubits live at once.
    pub qubits: u32,
    /// Strands not yet destroyed.
    pub strands: u32,
    /// Instructions of all admitted images together.
    pub instructions: u32,
    /// Occupied capability slots.
    pub slots: u32,
    /// Qubits carrying live magic at once, per space: the cost of simulating them is exponential in it.
    pub active: u32,
}

/// What a domain uses of its [`Quota`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainUsage {
    /// Logical qubits.
    pub qubits: u32,
    /// Strands.
    pub strands: u32,
    /// Instructions.
    pub instructions: u32,
    /// Slots.
    pub slots: u32,
}

/// Kinds of kernel object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ObjectKind {
    /// The machine: the right to admit and run programs.
    Machine,
    /// A domain, as seen by its creator.
    Domain,
    /// An admitted program image.
    Image,
    /// A running or finished program.
    Strand,
    /// A qubit held interactively.
    Qubit,
}

/// State of a strand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StrandState {
    /// Waiting for the machine to have enough free qubits.
    Waiting,
    /// Instructions are being issued.
    Running,
    /// All instructions are issued; the machine is finishing the shots.
    Draining,
    /// Outcomes can be read.
    Done,
    /// The machine refused an instruction; see [`StrandStatus::fault`].
    Faulted,
}

/// Reply to [`Syscall::Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrandStatus {
    /// State.
    pub state: StrandState,
    /// Epochs from start to the end of the first shot so far.
    pub epochs: u64,
    /// Instructions issued.
    pub issued: u32,
    /// Instructions of the image.
    pub instructions: u32,
    /// Shots whose outcomes are final.
    pub shots_done: u64,
    /// Shots in all.
    pub shots: u64,
    /// Magic states consumed by one shot.
    pub magic_states: u64,
    /// Largest number of active qubits so far.
    pub peak_active: u32,
    /// Instruction the machine refused, and why.
    pub fault: Option<(u32, String)>,
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Syscall {
    /// Creates a domain with an empty capability space. Needs `ADMIN` on a machine capability; the reply's
    /// handle names the domain in the caller's space.
    CreateDomain {
        /// Machine capability.
        machine: Handle,
        /// Limits of the new domain.
        quota: Quota,
    },
    /// Derives a capability with the same or fewer rights. `into` places it in another domain's space, which needs
    /// `GRANT` on the source; the reply's handle then indexes that space.
    Derive {
        /// Capability to derive from.
        source: Handle,
        /// Rights to keep; must be a subset.
        rights: Rights,
        /// Label the holder cannot change.
        badge: u64,
        /// Domain capability with `CONTROL`, or the caller's own space.
        into: Option<Handle>,
    },
    /// Deletes every capability derived from the target, in every domain. Objects left without a
    /// capability are destroyed.
    Revoke {
        /// Capability whose descendants are deleted; it stays.
        target: Handle,
    },
    /// Deletes one capability and its descendants.
    Delete {
        /// Capability to delete.
        target: Handle,
    },
    /// Describes a capability.
    Inspect {
        /// Capability to describe.
        target: Handle,
    },
    /// Checks an image against the capability's instruction classes and admits it.
    Admit {
        /// Machine capability with `USE`.
        machine: Handle,
        /// The image.
        image: Image,
    },
    /// Starts an image. The strand's capability is derived from the machine capability: revoking that kills it.
    Spawn {
        /// Machine capability with `USE` and every class the image needs.
        machine: Handle,
        /// Image capability with `USE`.
        image: Handle,
        /// Number of shots, at least 1.
        shots: u64,
        /// Seed of the strand's randomness.
        seed: u64,
        /// Higher issues first among the domain's strands.
        priority: i32,
    },
    /// How far a strand is. Needs `READ`.
    Status {
        /// Strand capability.
        strand: Handle,
    },
    /// Outcomes of finished shots, packed: for each shot, `ceil(events/8)` bytes, event 0 in the lowest bit. Needs `READ`.
    Outcomes {
        /// Strand capability.
        strand: Handle,
        /// First shot.
        first: u64,
        /// At most this many shots.
        count: u32,
    },
    /// Takes a qubit in |0> into the domain's interactive space.
    TakeQubit {
        /// Machine capability with `USE` and `ALLOC`.
        machine: Handle,
    },
    /// Applies an operation to interactive qubits: register `i` of `op` is `qubits[i]`; event registers are ignored and
    /// outcomes are in the reply. Not `Alloc`, `Free` or `Fence`.
    Apply {
        /// Machine capability with `USE` and the operation's class.
        machine: Handle,
        /// Operation over registers `0..qubits.len()`.
        op: Op,
        /// Qubit capabilities with `USE`.
        qubits: Vec<Handle>,
    },
    /// The caller's usage and quota.
    Usage,
}

/// Reply to a successful system call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// A new capability.
    Handle(Handle),
    /// How many capabilities were deleted.
    Deleted(u32),
    /// To `Inspect`.
    Capability {
        /// Kind of object.
        kind: ObjectKind,
        /// Rights.
        rights: Rights,
        /// Badge.
        badge: u64,
    },
    /// To `Status`.
    Status(StrandStatus),
    /// To `Outcomes`.
    Outcomes(Vec<u8>),
    /// To `Apply`: outcomes in the order the operation writes them.
    Applied(Vec<bool>),
    /// To `Usage`.
    Usage {
        /// Current use.
        used: DomainUsage,
        /// Limits.
        quota: Quota,
    },
}

/// Which limit a call would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Limit {
    /// Logical qubits.
    #[error("logical qubits")]
    Qubits,
    /// Strands.
    #[error("strands")]
    Strands,
    /// Instructions.
    #[error("instructions")]
    Instructions,
    /// Capability slots.
    #[error("capability slots")]
    Slots,
}

/// Why a system call was refused. A handle of someone else's and one that never existed look the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum KernelError {
    /// The handle names nothing in the caller's capability space.
    #[error("no such capability")]
    NoCapability,
    /// The capability is for another kind of object.
    #[error("capability is for another kind of object")]
    WrongKind,
    /// The capability lacks rights.
    #[error("capability lacks rights {0:?}")]
    Rights(Rights),
    /// The domain's quota would be exceeded.
    #[error("quota exceeded: {0}")]
    Quota(Limit),
    /// The machine does not have that many qubits.
    #[error("the machine has {available} logical qubits, {requested} were asked for")]
    Capacity {
        /// Qubits asked for.
        requested: u32,
        /// Qubits the machine has.
        available: u32,
    },
    /// The image was not admitted.
    #[error("{0}")]
    Image(ImageError),
    /// An argument is out of range.
    #[error("invalid argument: {0}")]
    Argument(String),
    /// Outcomes are not there yet.
    #[error("shots not finished")]
    NotReady,
    /// The machine failed.
    #[error("machine: {0}")]
    Device(String),
}

/// Event numbering helper type used by [`Syscall::Outcomes`] readers.
pub fn outcome_bit(bytes_of_shot: &[u8], event: Event) -> bool {
    bytes_of_shot.get(event as usize / 8).is_some_and(|b| b >> (event % 8) & 1 == 1)
}

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
    /// Physical qubits of those, at once.
    pub physical_qubits: u64,
    /// Strands not yet destroyed.
    pub strands: u32,
    /// Size of all admitted images together: instructions, registers, and condition terms as often as they are read.
    pub instructions: u32,
    /// Occupied capability slots.
    pub slots: u32,
    /// Channels offered, to it or by it, and not yet closed.
    pub channels: u32,
    /// Checkpoints not yet destroyed.
    pub checkpoints: u32,
    /// Qubits carrying live magic at once in a strand: the cost of simulating them is exponential in it.
    pub active: u32,
    /// The same of the qubits held one by one, whose operations are performed while the caller waits.
    pub held_active: u32,
    /// Magic states in one window; of strands, those of one shot each.
    pub magic: u64,
    /// Epochs in one window in which strands of the domain issue something, counted per strand.
    pub epochs: u64,
    /// Epochs of one window; 0 is one window without end.
    pub window: u64,
    /// Share of contended resources, relative to other domains'; at least 1.
    pub weight: u32,
}

impl Quota {
    /// No limit but that on live magic, and weight 1.
    pub const UNLIMITED: Quota = Quota {
        qubits: u32::MAX,
        physical_qubits: u64::MAX,
        strands: u32::MAX,
        instructions: u32::MAX,
        slots: u32::MAX,
        channels: u32::MAX,
        checkpoints: u32::MAX,
        active: 26,
        held_active: 26,
        magic: u64::MAX,
        epochs: u64::MAX,
        window: 0,
        weight: 1,
    };
}

/// What a domain uses of its [`Quota`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainUsage {
    /// Logical qubits.
    pub qubits: u32,
    /// Physical qubits.
    pub physical_qubits: u64,
    /// Strands.
    pub strands: u32,
    /// Size of admitted images.
    pub instructions: u32,
    /// Slots.
    pub slots: u32,
    /// Channels.
    pub channels: u32,
    /// Checkpoints.
    pub checkpoints: u32,
    /// Magic states in the current window.
    pub magic: u64,
    /// Epochs in the current window.
    pub epochs: u64,
    /// Magic states since the domain was made.
    pub total_magic: u64,
    /// Raw entangled pairs that went into its channels since the domain was made.
    pub total_pairs: u64,
}

/// What may be done through a machine capability that was derived with a budget, and through all that derive from
/// it. Strands and qubits count while they exist, magic states for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Strands not yet destroyed.
    pub strands: u32,
    /// Logical qubits: held, and those of strands not yet destroyed.
    pub qubits: u32,
    /// Magic states, those of all shots.
    pub magic: u64,
}

/// Families of quantum error correcting codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Code {
    /// Rotated surface code.
    #[default]
    Surface,
    /// Bacon-Shor.
    BaconShor,
    /// Subsystem hypergraph product simplex codes.
    Shyps,
    /// Honeycomb Floquet code.
    Floquet,
}

/// How a logical qubit is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Patch {
    /// Code.
    pub code: Code,
    /// Code distance.
    pub distance: u16,
}

impl Default for Patch {
    fn default() -> Self {
        Patch { code: Code::Surface, distance: 7 }
    }
}

/// Which errors the machine makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// None.
    #[default]
    Ideal,
    /// Each logical qubit fails with the logical rates of its patch.
    Logical,
    /// Syndrome rounds are sampled and decoded; what the decoder gets wrong hits the logical qubit.
    Physical,
}

/// The errors that a program is to run with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NoiseSpec {
    /// Which.
    pub level: Level,
    /// Physical error rate in parts per billion; 0 for the machine's own.
    pub ppb: u32,
}

/// Kinds of kernel object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ObjectKind {
    /// The machine, or a part of its budget: the right to admit and run programs. The root of a session.
    Machine,
    /// A domain, as seen by its creator.
    Domain,
    /// An admitted program image.
    Image,
    /// A running or finished program.
    Strand,
    /// A qubit held interactively.
    Qubit,
    /// A share of the machine that strands run under.
    Context,
    /// A part of the machine that is kept for those who hold it.
    Region,
    /// One end of a channel.
    Endpoint,
    /// A state to come back to.
    Checkpoint,
}

/// State of a strand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StrandState {
    /// Waiting for the machine to have enough free qubits.
    Waiting,
    /// Instructions are being issued.
    Running,
    /// Held at a fence: paused, or about to be moved or saved.
    Held,
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
    /// Epochs that it waited before it started.
    pub waited: u64,
    /// Instructions issued.
    pub issued: u32,
    /// Instructions of the image.
    pub instructions: u32,
    /// Shots whose outcomes are final.
    pub shots_done: u64,
    /// Shots in all.
    pub shots: u64,
    /// How much is done of what the machine must do for all shots before it runs the first, in millionths.
    pub prepared: u32,
    /// Magic states consumed by one shot.
    pub magic_states: u64,
    /// Largest number of active qubits so far.
    pub peak_active: u32,
    /// Instructions that free a qubit which is neither measured nor known to be in a basis state; they reset it first.
    pub dirty_frees: u32,
    /// Instruction the machine refused, and why.
    pub fault: Option<(u32, String)>,
}

/// How to run an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Number of shots, at least 1.
    pub shots: u64,
    /// Seed of the strand's randomness.
    pub seed: u64,
    /// Higher issues first among the strands of a context.
    pub priority: i32,
    /// Epochs, the next one first, within which all shots must fit, each as long as the first. Refused at once if that
    /// cannot be kept; if the domain's magic states or epochs are limited, or a context is named; and if the region has
    /// promised too much. Such a strand cannot be paused, moved, saved or rolled back.
    pub deadline: Option<u64>,
    /// Context with `USE` to run under; the domain's own if `None`.
    pub context: Option<Handle>,
    /// Region with `USE` to run in; the shared one if `None`.
    pub region: Option<Handle>,
    /// Encoding of its qubits.
    pub patch: Patch,
    /// Errors of its qubits.
    pub noise: NoiseSpec,
}

impl Default for Run {
    fn default() -> Self {
        let (patch, noise) = (Patch::default(), NoiseSpec::default());
        Run { shots: 1, seed: 0, priority: 0, deadline: None, context: None, region: None, patch, noise }
    }
}

/// State of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelState {
    /// Waits for the other side.
    Offered,
    /// Holds a pair.
    Linked,
    /// The pair has been used.
    Used,
    /// Closed by either side.
    Closed,
}

/// Reply to [`Syscall::Accept`] and [`Syscall::ChannelStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelInfo {
    /// State.
    pub state: ChannelState,
    /// Fidelity with the Bell state: asked for while offered, then that of the pair.
    pub fidelity: f64,
    /// Rounds of purification.
    pub rounds: u32,
    /// Raw pairs that go into it, on average.
    pub pairs: u64,
    /// Epoch from which on the pair can be used.
    pub ready_at: u64,
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Syscall {
    /// Creates a domain with an empty capability space: it can do nothing before `Derive` has placed a machine capability
    /// there. Needs `ADMIN` on a machine capability; the reply's handle names the domain in the caller's space, and
    /// `Kernel::domain_of` tells its id.
    CreateDomain {
        /// Machine capability.
        machine: Handle,
        /// Limits of the new domain.
        quota: Quota,
    },
    /// Creates a scheduling context: a share beside those of domains. Needs `ADMIN`.
    CreateContext {
        /// Machine capability.
        machine: Handle,
        /// Share, at least 1.
        weight: u32,
        /// Epochs in one window in which its strands may issue, counted per strand.
        epochs: u64,
        /// Epochs of one window; 0 is one window without end.
        window: u64,
    },
    /// Takes a region out of the shared part of the machine, with the part of the magic buffer that its magic states are of
    /// all, and the part of the decoders that its qubits are. Needs `ADMIN`, and a shared region without promises.
    CreateRegion {
        /// Machine capability.
        machine: Handle,
        /// Logical qubits, free at present.
        qubits: u32,
        /// Two-qubit operations routed at once.
        routes: u32,
        /// Magic states delivered per epoch.
        magic: u32,
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
        /// Limits what is done through it; for machine capabilities only.
        budget: Option<Budget>,
    },
    /// Deletes capabilities derived from the target, in every domain, in one bounded step. Call again while the reply
    /// says that there are more. Objects left without a capability are destroyed.
    Revoke {
        /// Capability whose descendants are deleted; it stays.
        target: Handle,
    },
    /// Deletes one capability and its descendants, in one bounded step; itself last. Call again while the reply says
    /// that there are more. Where the target was a domain's last capability and is gone, what its space still holds
    /// follows in the epochs to come.
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
        /// How.
        run: Run,
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
    /// Holds a strand at its next fence, or lets it go on.
    Pause {
        /// Strand capability with `CONTROL`.
        strand: Handle,
        /// Whether to hold it.
        paused: bool,
    },
    /// Moves a strand to another region at its next fence, once that has room; not if that has become too small for it.
    Migrate {
        /// Strand capability with `CONTROL`.
        strand: Handle,
        /// Region with `USE`; the shared one if `None`.
        region: Option<Handle>,
    },
    /// Undoes unitary operations back to the last irreversible one, by performing their inverses: those of a strand,
    /// or those on the domain's interactive qubits, by whomever. What a domain did to qubits of others is theirs to undo.
    Rollback {
        /// Machine capability with `USE`, `COMPUTE` and the classes of what is undone.
        machine: Handle,
        /// Strand capability with `CONTROL`.
        strand: Option<Handle>,
    },
    /// Takes a checkpoint: of a strand, at its next fence, or of the domain's interactive qubits, at once.
    Checkpoint {
        /// Machine capability with `USE` and `CHECKPOINT`.
        machine: Handle,
        /// Strand capability with `CONTROL`.
        strand: Option<Handle>,
    },
    /// Whether a checkpoint has been taken. Needs `READ`.
    CheckpointStatus {
        /// Checkpoint capability.
        checkpoint: Handle,
    },
    /// Goes back to a checkpoint. Needs `USE`.
    Restore {
        /// Checkpoint capability.
        checkpoint: Handle,
    },
    /// Takes a qubit in |0> into the domain's interactive space.
    TakeQubit {
        /// Machine capability with `USE` and `ALLOC`.
        machine: Handle,
    },
    /// Frees a qubit: deletes every capability to it. One that is neither measured nor known to be in a basis state is
    /// reset first, which the reply tells.
    FreeQubit {
        /// Qubit capability with `CONTROL`.
        qubit: Handle,
        /// Bring it back to a basis state by undoing what was done to it, where that leaves other qubits alone: a machine
        /// capability with `USE` and the classes of what is undone.
        uncompute: Option<Handle>,
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
    /// Offers a channel to another domain, whose space gets a capability to the far endpoint.
    Offer {
        /// Machine capability with `USE` and `LINK`.
        machine: Handle,
        /// Qubit of the domain, with `USE`, that will hold the near half; its state is lost.
        qubit: Handle,
        /// Domain capability with `OFFER`.
        to: Handle,
        /// Least fidelity with a Bell state, above 1/4 and at most 1.
        fidelity: f64,
    },
    /// Accepts an offered channel: a pair is made and purified.
    Accept {
        /// Machine capability with `USE` and `LINK`.
        machine: Handle,
        /// Endpoint capability with `USE`.
        endpoint: Handle,
        /// Qubit of the domain, with `USE`, that will hold the near half; its state is lost.
        qubit: Handle,
    },
    /// Teleports the state of a qubit to the far half of the channel's pair.
    Teleport {
        /// Machine capability with `USE`, `LINK` and `TELEPORT`.
        machine: Handle,
        /// Endpoint capability with `USE`.
        endpoint: Handle,
        /// Qubit of the domain, with `USE`; left in a basis state.
        qubit: Handle,
    },
    /// Joins two channels that end here into one between their far sides, which keep their endpoints.
    SwapEntanglement {
        /// Machine capability with `USE`, `LINK` and `TELEPORT`.
        machine: Handle,
        /// Endpoint capabilities with `USE`.
        endpoints: [Handle; 2],
    },
    /// Closes a channel for both sides; halves of a pair that was not used are reset. So does deleting an endpoint.
    CloseChannel {
        /// Endpoint capability with `CONTROL`.
        endpoint: Handle,
    },
    /// State of a channel. Needs `READ`.
    ChannelStatus {
        /// Endpoint capability.
        endpoint: Handle,
    },
    /// The caller's usage and quota.
    Usage,
}

/// Reply to a successful system call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing to tell.
    Done,
    /// A new capability.
    Handle(Handle),
    /// Capabilities deleted by this step, and whether there are more to delete.
    Deleted {
        /// Capabilities.
        count: u32,
        /// Call again.
        more: bool,
    },
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
    /// To `Apply`, `Teleport` and `SwapEntanglement`.
    Applied {
        /// Outcomes in the order the operation writes them.
        outcomes: Vec<bool>,
        /// Epoch at which the qubits would be free again on the modelled machine. For accounts: the next operation need
        /// not wait for it.
        until: u64,
    },
    /// To `FreeQubit`.
    Freed {
        /// The qubit was neither measured nor known to be in a basis state, and was reset.
        dirty: bool,
        /// Operations that were undone.
        undone: u32,
    },
    /// To `Rollback`: operations that were undone.
    RolledBack(u32),
    /// To `CheckpointStatus`: the epoch in which it was taken, if it was.
    Checkpoint(Option<u64>),
    /// To `Offer`.
    Offered {
        /// The near endpoint, in the caller's space.
        endpoint: Handle,
        /// The far endpoint, in the other domain's space.
        invitation: Handle,
    },
    /// To `Accept` and `ChannelStatus`.
    Channel(ChannelInfo),
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
    /// Physical qubits.
    #[error("physical qubits")]
    PhysicalQubits,
    /// Strands.
    #[error("strands")]
    Strands,
    /// Size of images.
    #[error("instructions")]
    Instructions,
    /// Capability slots.
    #[error("capability slots")]
    Slots,
    /// Channels.
    #[error("channels")]
    Channels,
    /// Checkpoints.
    #[error("checkpoints")]
    Checkpoints,
    /// Magic states.
    #[error("magic states")]
    Magic,
}

/// Why a system call was refused. A handle of someone else's and one that never existed look the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum KernelError {
    /// The handle names nothing in the caller's capability space.
    #[error("no such capability")]
    NoCapability,
    /// The capability is for another kind of object.
    #[error("capability is for another kind of object")]
    WrongKind,
    /// The capability lacks rights.
    #[error("capability lacks rights {0}")]
    Rights(Rights),
    /// The domain's quota would be exceeded.
    #[error("quota exceeded: {0}")]
    Quota(Limit),
    /// The budget of a machine capability would be exceeded.
    #[error("budget of the capability exceeded: {0}")]
    Budget(Limit),
    /// The machine, or the region, does not have that many qubits.
    #[error("{requested} logical qubits were asked for, there are {available}")]
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
    /// What was asked for is not there yet.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The object's state does not allow it.
    #[error("not possible: {0}")]
    State(String),
    /// The deadline cannot be kept.
    #[error("the deadline of {asked} epochs cannot be kept: {why}")]
    Deadline {
        /// Epochs asked for.
        asked: u64,
        /// Why.
        why: String,
    },
    /// The fidelity cannot be reached by purification.
    #[error("fidelity {asked} cannot be reached from raw pairs of fidelity {raw}; the best is {best}")]
    Fidelity {
        /// Fidelity asked for.
        asked: f64,
        /// Fidelity of raw pairs.
        raw: f64,
        /// Best fidelity.
        best: f64,
    },
    /// The machine failed.
    #[error("machine: {0}")]
    Device(String),
}

/// An event of one shot of [`Reply::Outcomes`].
pub fn outcome_bit(bytes_of_shot: &[u8], event: Event) -> bool {
    bytes_of_shot.get(event as usize / 8).is_some_and(|b| b >> (event % 8) & 1 == 1)
}

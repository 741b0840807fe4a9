//! The calls.

use super::quota::{Budget, Quota};
use super::strand::Run;
use crate::caps::{Handle, Rights};
use crate::image::{Image, Op};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A system call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Syscall {
    /// Creates a domain with an empty capability space: it can do nothing before `Derive` has placed a machine
    /// capability there. Needs `ADMIN` on a machine capability; the reply's handle names the domain in the caller's
    /// space, and `Kernel::domain_of` tells its id.
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
    /// Takes a region out of the shared part of the machine, with the part of the magic buffer that its magic states
    /// are of all, and the part of the decoders that its qubits are. Needs `ADMIN`, and a shared region without
    /// promises.
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
    /// Outcomes of finished shots, packed: each shot takes `ceil(events/8)` bytes, event 0 in the lowest bit.
    /// Needs `READ`.
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
    /// Undoes unitary operations back to the last irreversible one, by performing their inverses: those of a strand, or
    /// those on the domain's interactive qubits, by whomever. What a domain did to qubits of others is theirs to undo.
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
        /// Bring it back to a basis state by undoing what was done to it, where that leaves other qubits alone: a
        /// machine capability with `USE` and the classes of what is undone.
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

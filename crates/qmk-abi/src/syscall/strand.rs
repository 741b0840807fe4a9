//! How an image is run, and how far it is.

use super::patch::{NoiseSpec, Patch};
use crate::caps::Handle;
use alloc::string::String;
use serde::{Deserialize, Serialize};

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

/// Reply to [`Syscall::Status`](crate::Syscall::Status).
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

//! The part of the session protocol that handles qubits one by one, channels, checkpoints, and jobs under way.
//! `docs/guide/server.md` has an example of each method.
//!
//! [`Call`] and [`Answer`] have one variant for each method, tagged with its name.

use super::job::{JobRef, JobState};
use super::session::SessionRef;
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident $method:literal ($params:ty) -> $result:ty,)*) => {
        /// A request.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Call { $($(#[$doc])* #[serde(rename = $method)] $name($params),)* }
        /// The answer to the request of the same name.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Answer { $($(#[$doc])* #[serde(rename = $method)] $name($result),)* }
        impl Call {
            /// The names of all methods.
            pub const METHODS: &'static [&'static str] = &[$($method,)*];
            /// JSON-RPC method name.
            pub fn method(&self) -> &'static str { match self { $(Call::$name(_) => $method,)* } }
            /// The session it is made in.
            pub fn session(&self) -> &str { match self { $(Call::$name(p) => &p.session_id,)* } }
        }
    };
}
methods! {
    /// Takes qubits in |0>.
    Alloc "q_alloc" (Alloc) -> Allocated,
    /// Performs an operation.
    Apply "q_apply" (Apply) -> Applied,
    /// Measures a qubit.
    Measure "q_measure" (Measure) -> Measured,
    /// Gives qubits back.
    Release "q_release" (Release) -> Released,
    /// Undoes what can be undone: of a job, or of the tenant's qubits.
    Rollback "q_rollback" (Part) -> RolledBack,
    /// Offers a channel to another tenant.
    OpenChannel "q_open_chan" (OpenChannel) -> ChannelInfo,
    /// Accepts a channel that was offered.
    AcceptChannel "q_accept_chan" (AcceptChannel) -> ChannelInfo,
    /// Uses a channel's pair up.
    UseChannel "q_use_chan" (UseChannel) -> ChannelUsed,
    /// Closes a channel for both sides.
    CloseChannel "q_close_chan" (ChannelRef) -> ChannelClosed,
    /// State of a channel.
    ChannelStatus "q_chan_status" (ChannelRef) -> ChannelInfo,
    /// The tenant's channels, those it is offered among them.
    ChannelList "q_chan_list" (SessionRef) -> ChannelList,
    /// Takes a checkpoint: of a job, or of the tenant's qubits.
    Checkpoint "q_checkpoint" (Part) -> CheckpointInfo,
    /// Goes back to a checkpoint.
    Restore "q_restore" (CheckpointRef) -> Restored,
    /// Forgets a checkpoint.
    DropCheckpoint "q_drop_checkpoint" (CheckpointRef) -> Restored,
    /// Moves a job to another region of the machine.
    Migrate "q_migrate" (Migrate) -> Migrated,
    /// Where a job's qubits are.
    Mapping "q_get_mapping" (JobRef) -> Mapping,
    /// Runs a finished job again and compares.
    Replay "q_replay" (Replay) -> Replayed,
}

fn one() -> u32 {
    1
}

/// Parameters of `q_alloc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alloc {
    /// Session id.
    pub session_id: String,
    /// How many.
    #[serde(default = "one")]
    pub n: u32,
}

/// Result of `q_alloc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocated {
    /// Names of the qubits in this session.
    pub qubits: Vec<String>,
}

/// Parameters of `q_apply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Apply {
    /// Session id.
    pub session_id: String,
    /// QVM opcode, such as `APPLY_CNOT`.
    pub op: String,
    /// Operands, in order.
    pub qubits: Vec<String>,
    /// Angle in radians, for operations that have one.
    #[serde(default, alias = "angle")]
    pub theta: Option<f64>,
}

/// Result of `q_apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Outcomes, of an operation that measures.
    pub outcomes: Vec<u8>,
    /// Epoch from which on the qubits are free for the next operation.
    pub until_epoch: u64,
}

/// Parameters of `q_measure`. On the JSON wire `basis` may be the angle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Session id.
    pub session_id: String,
    /// What to measure.
    pub qubit: String,
    /// `z`, `x` or `y`; `z` if neither this nor an angle is given.
    #[serde(default)]
    pub basis: Option<String>,
    /// As of `MEASURE_ANGLE`, in radians.
    #[serde(default)]
    pub angle: Option<f64>,
}

/// Result of `q_measure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// 0 or 1.
    pub outcome: u8,
    /// Epoch from which on the qubit is free for the next operation.
    pub until_epoch: u64,
}

/// Parameters of `q_release`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Session id.
    pub session_id: String,
    /// Qubits to give back.
    pub qubits: Vec<String>,
    /// Bring them back to a basis state by undoing what was done to them, where that leaves other qubits alone.
    #[serde(default)]
    pub uncompute: bool,
}

/// Result of `q_release`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Qubits given back.
    pub released: Vec<String>,
    /// Those that were neither measured nor known to be in a basis state, and were reset.
    pub dirty: Vec<String>,
    /// Operations that were undone.
    pub undone: u64,
}

/// Parameters that name a job of a session, or the tenant's qubits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Session id.
    pub session_id: String,
    /// Job id; the qubits held one by one if absent.
    #[serde(default)]
    pub job_id: Option<String>,
}

/// Result of `q_rollback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// Operations that were undone.
    pub undone: u64,
}

/// Parameters of `q_open_chan`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenChannel {
    /// Session id.
    pub session_id: String,
    /// Will hold the near half of the pair; its state is lost.
    pub qubit: String,
    /// Tenant to offer it to.
    pub peer: String,
    /// Least fidelity of the pair.
    pub fidelity: f64,
    /// A label that both sides see.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
}

/// Parameters of `q_accept_chan`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcceptChannel {
    /// Session id.
    pub session_id: String,
    /// Channel id.
    pub channel_id: String,
    /// Will hold the near half of the pair; its state is lost.
    pub qubit: String,
}

/// State of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
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

/// Result of `q_open_chan`, `q_accept_chan` and `q_chan_status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelInfo {
    /// Channel id, the same for both sides.
    pub channel_id: String,
    /// State.
    pub state: ChannelState,
    /// The other side.
    pub peer: String,
    /// Whether this side is the one that may accept it.
    pub incoming: bool,
    /// Label.
    #[serde(rename = "type")]
    pub kind: String,
    /// Fidelity asked for.
    pub requested_fidelity: f64,
    /// Fidelity of the pair; 0 while there is none.
    pub actual_fidelity: f64,
    /// Rounds of purification.
    pub purification_rounds: u32,
    /// Raw pairs that go into it, on average.
    pub pairs: u64,
    /// Epoch from which on the pair can be used.
    pub ready_at_epoch: u64,
}

/// Parameters of `q_use_chan`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UseChannel {
    /// Session id.
    pub session_id: String,
    /// Channel id.
    pub channel_id: String,
    /// How.
    pub semantic: Semantic,
    /// Qubit to teleport.
    #[serde(default)]
    pub qubit: Option<String>,
    /// Channel to join with this one.
    #[serde(default)]
    pub other_channel_id: Option<String>,
}

/// How a channel is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Semantic {
    /// Teleports a qubit's state to the far half.
    Teleport,
    /// Joins two channels that end here into one between their far sides.
    Swap,
}

/// Result of `q_use_chan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelUsed {
    /// Channel id.
    pub channel_id: String,
    /// Outcomes of the Bell measurement; the far side is corrected already.
    pub outcomes: Vec<u8>,
    /// Epoch from which on the qubits are free for the next operation.
    pub until_epoch: u64,
}

/// Parameters that name a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelRef {
    /// Session id.
    pub session_id: String,
    /// Channel id.
    pub channel_id: String,
}

/// Result of `q_close_chan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelClosed {
    /// Channel id.
    pub channel_id: String,
    /// Always true.
    pub closed: bool,
}

/// Result of `q_chan_list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelList {
    /// Channels that are not closed.
    pub channels: Vec<ChannelInfo>,
}

/// Result of `q_checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// Checkpoint id.
    pub checkpoint_id: String,
    /// Epoch in which it was taken, if it was.
    pub taken_at_epoch: Option<u64>,
    /// It will be taken at the job's next fence.
    pub pending: bool,
}

/// Parameters that name a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// Session id.
    pub session_id: String,
    /// Checkpoint id.
    pub checkpoint_id: String,
}

/// Result of `q_restore` and `q_drop_checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Checkpoint id.
    pub checkpoint_id: String,
    /// Machine epoch at which it was done.
    pub at_epoch: u64,
}

/// Parameters of `q_migrate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Migrate {
    /// Session id.
    pub session_id: String,
    /// Job id.
    pub job_id: String,
    /// Where to; `shared` if absent.
    #[serde(default)]
    pub region: Option<String>,
}

/// Result of `q_migrate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    /// Job id.
    pub job_id: String,
    /// Where it is, or will be after its next fence.
    pub region: String,
}

/// Result of `q_get_mapping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Job id.
    pub job_id: String,
    /// State of the job.
    pub state: JobState,
    /// Logical register of each qubit of the program.
    pub qubits: BTreeMap<String, u32>,
    /// Part of the machine that the job runs in.
    pub region: String,
    /// Code that its qubits are encoded in.
    pub code: String,
    /// Code distance.
    pub distance: u32,
    /// Physical qubits of one of its logical qubits.
    pub physical_per_logical: u64,
    /// Most logical qubits that it holds at once.
    pub peak_logical_qubits: u32,
}

/// Parameters of `q_replay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// Session id.
    pub session_id: String,
    /// Job id of a completed job.
    pub job_id: String,
    /// Give up after this long.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// Result of `q_replay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Job id.
    pub job_id: String,
    /// Seed of both runs.
    pub seed: u64,
    /// Shots of both runs.
    pub shots: u64,
    /// Whether counts and last shot are the same.
    pub identical: bool,
    /// Outcomes whose numbers differ, some of them.
    pub differences: Vec<String>,
}

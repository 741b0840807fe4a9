//! Qubits one by one, channels, checkpoints, and jobs under way.

use crate::{ClientError, Job, Session, unexpected};
use qmk_abi::rpc::interactive::*;
use qmk_abi::rpc::{Reply, Request, SessionRef};

macro_rules! ask {
    ($client:expr, $name:ident($params:expr)) => {
        match $client.call(Request::Interactive(Call::$name($params)))? {
            Reply::Interactive(Answer::$name(answer)) => Ok(answer),
            other => unexpected(other),
        }
    };
}

/// Each fails as the machine refuses it: [`crate::ErrorCode`] says why.
#[allow(clippy::missing_errors_doc)]
impl Session {
    fn id(&self) -> String {
        self.info.session_id.clone()
    }

    /// Takes `n` qubits in |0>.
    pub fn alloc(&self, n: u32) -> Result<Vec<String>, ClientError> {
        ask!(self.client, Alloc(Alloc { session_id: self.id(), n })).map(|a| a.qubits)
    }

    /// Performs an operation, named as in a program.
    pub fn apply(&self, op: &str, qubits: &[&str]) -> Result<Applied, ClientError> {
        self.apply_with(op, qubits, None)
    }

    /// Performs an operation that has an angle.
    pub fn rotate(&self, op: &str, theta: f64, qubits: &[&str]) -> Result<Applied, ClientError> {
        self.apply_with(op, qubits, Some(theta))
    }

    fn apply_with(&self, op: &str, qubits: &[&str], theta: Option<f64>) -> Result<Applied, ClientError> {
        let qubits = names(qubits);
        ask!(self.client, Apply(Apply { session_id: self.id(), op: op.into(), qubits, theta }))
    }

    /// Measures a qubit in basis `z`, `x` or `y`.
    pub fn measure(&self, qubit: &str, basis: &str) -> Result<bool, ClientError> {
        let basis = Some(basis.into());
        let params = Measure { session_id: self.id(), qubit: qubit.into(), basis, angle: None };
        ask!(self.client, Measure(params)).map(|m| m.outcome == 1)
    }

    /// Measures a qubit as `MEASURE_ANGLE` does.
    pub fn measure_angle(&self, qubit: &str, angle: f64) -> Result<bool, ClientError> {
        let params = Measure { session_id: self.id(), qubit: qubit.into(), basis: None, angle: Some(angle) };
        ask!(self.client, Measure(params)).map(|m| m.outcome == 1)
    }

    /// Gives qubits back; with `uncompute` by undoing what was done to them, where that leaves others alone.
    pub fn release(&self, qubits: &[&str], uncompute: bool) -> Result<Released, ClientError> {
        ask!(self.client, Release(Release { session_id: self.id(), qubits: names(qubits), uncompute }))
    }

    /// Undoes what was done to the tenant's qubits since the last operation that cannot be undone.
    pub fn rollback(&self) -> Result<u64, ClientError> {
        ask!(self.client, Rollback(Part { session_id: self.id(), job_id: None })).map(|r| r.undone)
    }

    /// Offers a channel to another tenant.
    pub fn open_channel(&self, qubit: &str, peer: &str, fidelity: f64) -> Result<ChannelInfo, ClientError> {
        let (qubit, peer) = (qubit.into(), peer.into());
        ask!(self.client, OpenChannel(OpenChannel { session_id: self.id(), qubit, peer, fidelity, kind: None }))
    }

    /// The tenant's channels; those with `incoming` in state `Offered` can be accepted.
    pub fn channels(&self) -> Result<Vec<ChannelInfo>, ClientError> {
        ask!(self.client, ChannelList(SessionRef { session_id: self.id() })).map(|l| l.channels)
    }

    /// Accepts a channel.
    pub fn accept_channel(&self, channel: &str, qubit: &str) -> Result<ChannelInfo, ClientError> {
        let (channel_id, qubit) = (channel.into(), qubit.into());
        ask!(self.client, AcceptChannel(AcceptChannel { session_id: self.id(), channel_id, qubit }))
    }

    /// Teleports a qubit's state to the other side of a channel.
    pub fn teleport(&self, channel: &str, qubit: &str) -> Result<ChannelUsed, ClientError> {
        let (channel_id, qubit) = (channel.into(), Some(qubit.into()));
        let (semantic, other_channel_id) = (Semantic::Teleport, None);
        ask!(
            self.client,
            UseChannel(UseChannel { session_id: self.id(), channel_id, semantic, qubit, other_channel_id })
        )
    }

    /// Joins two channels that end here into one between their far sides.
    pub fn swap_channels(&self, channel: &str, other: &str) -> Result<ChannelUsed, ClientError> {
        let (channel_id, other_channel_id) = (channel.into(), Some(other.into()));
        let (semantic, qubit) = (Semantic::Swap, None);
        ask!(
            self.client,
            UseChannel(UseChannel { session_id: self.id(), channel_id, semantic, qubit, other_channel_id })
        )
    }

    /// State of a channel.
    pub fn channel(&self, channel: &str) -> Result<ChannelInfo, ClientError> {
        ask!(self.client, ChannelStatus(ChannelRef { session_id: self.id(), channel_id: channel.into() }))
    }

    /// Closes a channel for both sides.
    pub fn close_channel(&self, channel: &str) -> Result<(), ClientError> {
        ask!(self.client, CloseChannel(ChannelRef { session_id: self.id(), channel_id: channel.into() })).map(drop)
    }

    /// Takes a checkpoint of the tenant's qubits.
    pub fn checkpoint(&self) -> Result<CheckpointInfo, ClientError> {
        ask!(self.client, Checkpoint(Part { session_id: self.id(), job_id: None }))
    }

    /// Goes back to a checkpoint.
    pub fn restore(&self, checkpoint: &str) -> Result<(), ClientError> {
        let checkpoint_id = checkpoint.into();
        ask!(self.client, Restore(CheckpointRef { session_id: self.id(), checkpoint_id })).map(drop)
    }

    /// Forgets a checkpoint.
    pub fn drop_checkpoint(&self, checkpoint: &str) -> Result<(), ClientError> {
        let checkpoint_id = checkpoint.into();
        ask!(self.client, DropCheckpoint(CheckpointRef { session_id: self.id(), checkpoint_id })).map(drop)
    }
}

/// Each fails as the machine refuses it: [`crate::ErrorCode`] says why.
#[allow(clippy::missing_errors_doc)]
impl Job {
    fn part(&self) -> Part {
        let job_id = Some(self.reference.job_id.clone());
        Part { session_id: self.reference.session_id.clone(), job_id }
    }

    /// Takes a checkpoint at its next fence.
    pub fn checkpoint(&self) -> Result<CheckpointInfo, ClientError> {
        ask!(self.client, Checkpoint(self.part()))
    }

    /// Undoes what it did since its last operation that cannot be undone.
    pub fn rollback(&self) -> Result<u64, ClientError> {
        ask!(self.client, Rollback(self.part())).map(|r| r.undone)
    }

    /// Moves it to another region of the machine at its next fence.
    pub fn migrate(&self, region: Option<&str>) -> Result<Migrated, ClientError> {
        let (session_id, job_id) = (self.reference.session_id.clone(), self.reference.job_id.clone());
        ask!(self.client, Migrate(Migrate { session_id, job_id, region: region.map(Into::into) }))
    }

    /// Where its qubits are.
    pub fn mapping(&self) -> Result<Mapping, ClientError> {
        ask!(self.client, Mapping(self.reference.clone()))
    }

    /// Runs it again, once it has completed, and compares.
    pub fn replay(&self) -> Result<Replayed, ClientError> {
        let (session_id, job_id) = (self.reference.session_id.clone(), self.reference.job_id.clone());
        ask!(self.client, Replay(Replay { session_id, job_id, timeout_ms: None }))
    }
}

fn names(qubits: &[&str]) -> Vec<String> {
    qubits.iter().map(|q| (*q).into()).collect()
}

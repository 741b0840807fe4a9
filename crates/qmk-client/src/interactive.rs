//! Qubits one by one, channels, checkpoints, and jobs under way.

use crate::error::{ClientError, unexpected};
use crate::job::Job;
use crate::session::Session;
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

impl Session {
    fn id(&self) -> String {
        self.info.session_id.clone()
    }

    /// Takes `n` qubits in |0>.
    ///
    /// # Errors
    /// `INSUFFICIENT_CAPS`; `QUOTA_EXCEEDED` beyond the tenant's quota; `RESOURCE_EXHAUSTED` if the machine has none
    /// free.
    pub fn alloc(&self, n: u32) -> Result<Vec<String>, ClientError> {
        ask!(self.client, Alloc(Alloc { session_id: self.id(), n })).map(|a| a.qubits)
    }

    /// Performs an operation, named as in a program.
    ///
    /// # Errors
    /// `INSUFFICIENT_CAPS`; `INVALID_PARAMS` for an unknown operation or qubit; `RESOURCE_EXHAUSTED` without magic
    /// states or room.
    pub fn apply(&self, op: &str, qubits: &[&str]) -> Result<Applied, ClientError> {
        self.apply_with(op, qubits, None)
    }

    /// Performs an operation that has an angle.
    ///
    /// # Errors
    /// As [`Session::apply`].
    pub fn rotate(&self, op: &str, theta: f64, qubits: &[&str]) -> Result<Applied, ClientError> {
        self.apply_with(op, qubits, Some(theta))
    }

    fn apply_with(&self, op: &str, qubits: &[&str], theta: Option<f64>) -> Result<Applied, ClientError> {
        let qubits = names(qubits);
        ask!(self.client, Apply(Apply { session_id: self.id(), op: op.into(), qubits, theta }))
    }

    /// Measures a qubit in basis `z`, `x` or `y`.
    ///
    /// # Errors
    /// As [`Session::apply`]; `INVALID_PARAMS` for another basis.
    pub fn measure(&self, qubit: &str, basis: &str) -> Result<bool, ClientError> {
        let basis = Some(basis.into());
        let params = Measure { session_id: self.id(), qubit: qubit.into(), basis, angle: None };
        ask!(self.client, Measure(params)).map(|m| m.outcome == 1)
    }

    /// Measures a qubit as `MEASURE_ANGLE` does.
    ///
    /// # Errors
    /// As [`Session::apply`].
    pub fn measure_angle(&self, qubit: &str, angle: f64) -> Result<bool, ClientError> {
        let params = Measure { session_id: self.id(), qubit: qubit.into(), basis: None, angle: Some(angle) };
        ask!(self.client, Measure(params)).map(|m| m.outcome == 1)
    }

    /// Gives qubits back; with `uncompute` by undoing what was done to them, where that leaves others alone.
    ///
    /// # Errors
    /// `INVALID_PARAMS` for a qubit that the session does not hold, or one named twice. Qubits before it are released
    /// then.
    pub fn release(&self, qubits: &[&str], uncompute: bool) -> Result<Released, ClientError> {
        ask!(self.client, Release(Release { session_id: self.id(), qubits: names(qubits), uncompute }))
    }

    /// Undoes what was done to the tenant's qubits since the last operation that cannot be undone.
    ///
    /// # Errors
    /// `INSUFFICIENT_CAPS`; `ALREADY_COMPLETED` for an ended job.
    pub fn rollback(&self) -> Result<u64, ClientError> {
        ask!(self.client, Rollback(Part { session_id: self.id(), job_id: None })).map(|r| r.undone)
    }

    /// Offers a channel to another tenant.
    ///
    /// # Errors
    /// `INSUFFICIENT_CAPS`; `ACCESS_DENIED` if no channel to this tenant may be offered; `FIDELITY_UNAVAILABLE`;
    /// `QUOTA_EXCEEDED`.
    pub fn open_channel(&self, qubit: &str, peer: &str, fidelity: f64) -> Result<ChannelInfo, ClientError> {
        let (qubit, peer) = (qubit.into(), peer.into());
        ask!(self.client, OpenChannel(OpenChannel { session_id: self.id(), qubit, peer, fidelity, kind: None }))
    }

    /// The tenant's channels; those with `incoming` in state `Offered` can be accepted.
    ///
    /// # Errors
    /// `INSUFFICIENT_CAPS`.
    pub fn channels(&self) -> Result<Vec<ChannelInfo>, ClientError> {
        ask!(self.client, ChannelList(SessionRef { session_id: self.id() })).map(|l| l.channels)
    }

    /// Accepts a channel.
    ///
    /// # Errors
    /// `CHANNEL_NOT_FOUND`; `INVALID_PARAMS`; `RESOURCE_EXHAUSTED` while the pairs are not made.
    pub fn accept_channel(&self, channel: &str, qubit: &str) -> Result<ChannelInfo, ClientError> {
        let (channel_id, qubit) = (channel.into(), qubit.into());
        ask!(self.client, AcceptChannel(AcceptChannel { session_id: self.id(), channel_id, qubit }))
    }

    /// Teleports a qubit's state to the other side of a channel.
    ///
    /// # Errors
    /// `CHANNEL_NOT_FOUND`; `INVALID_PARAMS` before the other side has accepted; `RESOURCE_EXHAUSTED` while the pair is
    /// not ready.
    pub fn teleport(&self, channel: &str, qubit: &str) -> Result<ChannelUsed, ClientError> {
        let (channel_id, qubit) = (channel.into(), Some(qubit.into()));
        let (semantic, other_channel_id) = (Semantic::Teleport, None);
        ask!(
            self.client,
            UseChannel(UseChannel { session_id: self.id(), channel_id, semantic, qubit, other_channel_id })
        )
    }

    /// Joins two channels that end here into one between their far sides.
    ///
    /// # Errors
    /// As [`Session::teleport`]; `ACCESS_DENIED` if the far sides may not share a channel.
    pub fn swap_channels(&self, channel: &str, other: &str) -> Result<ChannelUsed, ClientError> {
        let (channel_id, other_channel_id) = (channel.into(), Some(other.into()));
        let (semantic, qubit) = (Semantic::Swap, None);
        ask!(
            self.client,
            UseChannel(UseChannel { session_id: self.id(), channel_id, semantic, qubit, other_channel_id })
        )
    }

    /// State of a channel.
    ///
    /// # Errors
    /// `CHANNEL_NOT_FOUND`.
    pub fn channel(&self, channel: &str) -> Result<ChannelInfo, ClientError> {
        ask!(self.client, ChannelStatus(ChannelRef { session_id: self.id(), channel_id: channel.into() }))
    }

    /// Closes a channel for both sides.
    ///
    /// # Errors
    /// `CHANNEL_NOT_FOUND`.
    pub fn close_channel(&self, channel: &str) -> Result<(), ClientError> {
        ask!(self.client, CloseChannel(ChannelRef { session_id: self.id(), channel_id: channel.into() })).map(drop)
    }

    /// Takes a checkpoint of the tenant's qubits.
    ///
    /// # Errors
    /// `INSUFFICIENT_CAPS`; `QUOTA_EXCEEDED`; `ALREADY_COMPLETED` for an ended job.
    pub fn checkpoint(&self) -> Result<CheckpointInfo, ClientError> {
        ask!(self.client, Checkpoint(Part { session_id: self.id(), job_id: None }))
    }

    /// Goes back to a checkpoint.
    ///
    /// # Errors
    /// `NO_CHECKPOINT`; `RESOURCE_EXHAUSTED` if there is no room for what it holds.
    pub fn restore(&self, checkpoint: &str) -> Result<(), ClientError> {
        let checkpoint_id = checkpoint.into();
        ask!(self.client, Restore(CheckpointRef { session_id: self.id(), checkpoint_id })).map(drop)
    }

    /// Forgets a checkpoint.
    ///
    /// # Errors
    /// `NO_CHECKPOINT`.
    pub fn drop_checkpoint(&self, checkpoint: &str) -> Result<(), ClientError> {
        let checkpoint_id = checkpoint.into();
        ask!(self.client, DropCheckpoint(CheckpointRef { session_id: self.id(), checkpoint_id })).map(drop)
    }
}

impl Job {
    fn part(&self) -> Part {
        let job_id = Some(self.reference.job_id.clone());
        Part { session_id: self.reference.session_id.clone(), job_id }
    }

    /// Takes a checkpoint at its next fence.
    ///
    /// # Errors
    /// `INSUFFICIENT_CAPS`; `QUOTA_EXCEEDED`; `ALREADY_COMPLETED` for an ended job.
    pub fn checkpoint(&self) -> Result<CheckpointInfo, ClientError> {
        ask!(self.client, Checkpoint(self.part()))
    }

    /// Undoes what it did since its last operation that cannot be undone.
    ///
    /// # Errors
    /// `INSUFFICIENT_CAPS`; `ALREADY_COMPLETED` for an ended job.
    pub fn rollback(&self) -> Result<u64, ClientError> {
        ask!(self.client, Rollback(self.part())).map(|r| r.undone)
    }

    /// Moves it to another region of the machine at its next fence.
    ///
    /// # Errors
    /// `ALREADY_COMPLETED`; `INVALID_PARAMS` for a region that the machine does not have.
    pub fn migrate(&self, region: Option<&str>) -> Result<Migrated, ClientError> {
        let (session_id, job_id) = (self.reference.session_id.clone(), self.reference.job_id.clone());
        ask!(self.client, Migrate(Migrate { session_id, job_id, region: region.map(Into::into) }))
    }

    /// Where its qubits are.
    ///
    /// # Errors
    /// `JOB_NOT_FOUND`; `RESOURCE_EXHAUSTED` if the program was not kept.
    pub fn mapping(&self) -> Result<Mapping, ClientError> {
        ask!(self.client, Mapping(self.reference.clone()))
    }

    /// Runs it again, once it has completed, and compares.
    ///
    /// # Errors
    /// `INVALID_PARAMS` unless the job has completed; `RESOURCE_EXHAUSTED` if the program was not kept; `TIMEOUT`.
    pub fn replay(&self) -> Result<Replayed, ClientError> {
        let (session_id, job_id) = (self.reference.session_id.clone(), self.reference.job_id.clone());
        ask!(self.client, Replay(Replay { session_id, job_id, timeout_ms: None }))
    }
}

fn names(qubits: &[&str]) -> Vec<String> {
    qubits.iter().map(|q| (*q).into()).collect()
}

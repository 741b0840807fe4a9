//! What those who watch a machine are told; part of the session protocol.

use super::job::{JobState, Progress};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Result of `qmk_job_list`: jobs of all sessions of the tenant, unfinished ones first, then the latest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobList {
    /// Tenant.
    pub tenant: String,
    /// The jobs.
    pub jobs: Vec<JobEntry>,
    /// Jobs that there was no room to list.
    pub more: u64,
}

/// A job of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobEntry {
    /// Its session.
    pub session_id: String,
    /// Job id.
    pub job_id: String,
    /// State.
    pub state: JobState,
    /// Shots asked for.
    pub shots: u64,
    /// Priority.
    pub priority: i32,
    /// Progress.
    pub progress: Progress,
    /// Milliseconds since it was submitted; once it has ended, those that it took.
    pub age_ms: u64,
}

/// Jobs by state: those under way now, and those that have ended since the count began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobCounts {
    /// Waiting for resources.
    pub queued: u64,
    /// Running.
    pub running: u64,
    /// Ended with a result.
    pub completed: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Ended by request, or with their session.
    pub cancelled: u64,
}

impl JobCounts {
    /// Counts a job in this state.
    pub fn add(&mut self, state: JobState) {
        *match state {
            JobState::Queued | JobState::Validating => &mut self.queued,
            JobState::Running => &mut self.running,
            JobState::Completed => &mut self.completed,
            JobState::Failed => &mut self.failed,
            JobState::Cancelled => &mut self.cancelled,
        } += 1;
    }

    /// The counts with the names of their states.
    pub fn by_state(&self) -> [(&'static str, u64); 5] {
        [
            ("queued", self.queued),
            ("running", self.running),
            ("completed", self.completed),
            ("failed", self.failed),
            ("cancelled", self.cancelled),
        ]
    }
}

/// Result of `qmk_machine_stats`: the whole machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineStats {
    /// Milliseconds since it was started.
    pub uptime_ms: u64,
    /// Current epoch.
    pub epoch: u64,
    /// Kernel instructions issued so far.
    pub instructions: u64,
    /// Logical qubits.
    pub logical_qubits: u64,
    /// Logical qubits that no one holds.
    pub logical_qubits_free: u64,
    /// Magic states in stock.
    pub magic_stock: u64,
    /// Magic states that can be kept.
    pub magic_buffer: u64,
    /// Magic states spent so far.
    pub magic_spent: u64,
    /// Patches and epochs that are not decoded yet.
    pub decoder_backlog: u64,
    /// Raw entangled pairs that the link still has to make.
    pub pairs_due: u64,
    /// Strands that have not started.
    pub strands_waiting: u64,
    /// Strands that issue instructions, or are held.
    pub strands_running: u64,
    /// Strands whose shots are being finished.
    pub strands_draining: u64,
    /// The tenants that the machine knows at present.
    pub tenants: Vec<TenantStats>,
}

/// One tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TenantStats {
    /// Name.
    pub tenant: String,
    /// Open sessions.
    pub sessions: u64,
    /// Logical qubits that it holds.
    pub logical_qubits: u64,
    /// Magic states that it has spent.
    pub magic_spent: u64,
    /// Raw pairs that went into its channels.
    pub pairs_spent: u64,
    /// Its jobs.
    pub jobs: JobCounts,
}

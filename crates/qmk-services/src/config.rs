//! How a machine is set up.

use crate::policy::SitePolicy;
use qmk_abi::syscall::Quota;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Limits of each tenant.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// Logical qubits a tenant may hold; the machine's if `None`.
    pub max_logical_qubits: Option<u32>,
    /// Physical qubits of a tenant's logical qubits; as many as they have on patches of the usual kind if `None`.
    pub max_physical_qubits: Option<u64>,
    /// Open channels of a tenant; as many as its logical qubits have pairs if `None`.
    pub max_channels: Option<u32>,
    /// Checkpoints of a tenant.
    pub max_checkpoints: u32,
    /// Unfinished jobs of a tenant.
    pub max_jobs: u32,
    /// Tenants. One more takes the place of the one that was used least recently among those that have nothing but
    /// sessions that may go.
    pub max_tenants: usize,
    /// Sessions of a tenant. One more closes the session that was used least recently, among those that no open
    /// connection is bound to and that have no unfinished job; without such a session it is refused.
    pub max_sessions: usize,
    /// Finished jobs a session keeps results of; the oldest go first.
    pub kept_jobs: usize,
    /// Bytes of the results that a tenant's sessions keep; the oldest go first. A job with more bytes of distinct
    /// outcomes fails.
    pub kept_bytes: usize,
    /// Ended jobs of a tenant that a machine which keeps its state keeps on disk; the oldest go first.
    pub stored_jobs: u64,
    /// Bytes that these may take.
    pub stored_bytes: u64,
    /// Shots of one job.
    pub max_shots: u64,
    /// Requests of a tenant; a second's worth may come at once. `None` for no limit.
    pub max_requests_per_second: Option<u32>,
    /// Nodes of one program, and instructions; `None` for as many as a tenant may have.
    pub max_nodes: Option<usize>,
    /// Bytes that the programs of a session's unfinished jobs take, about.
    pub max_session_bytes: usize,
    /// Qubits that may carry live magic at once in one job.
    pub max_active: u32,
    /// The same of the qubits that a tenant holds one by one, at most as many: all wait while one of those is operated on.
    pub max_active_held: u32,
    /// Seed of the outcomes of qubits that are held one by one; from the system's entropy if `None`. Jobs have their own.
    pub seed: Option<u64>,
    /// Whether shots are finished in the epoch in which their last instruction is, so that what a run does, and when, is
    /// the same on any machine. A long job then keeps callers waiting.
    pub lockstep: bool,
    /// Who may do what; without, all is the owner's.
    pub policy: Option<Arc<SitePolicy>>,
    /// Tells the time that tokens expire by, in Unix seconds.
    pub unix_time: fn() -> u64,
}

impl Default for MachineConfig {
    fn default() -> Self {
        MachineConfig {
            max_logical_qubits: None,
            max_physical_qubits: None,
            max_channels: None,
            max_checkpoints: 64,
            max_jobs: 1000,
            max_tenants: 1000,
            max_sessions: 1000,
            kept_jobs: 1000,
            kept_bytes: 256 << 20,
            stored_jobs: 100_000,
            stored_bytes: 1 << 30,
            max_shots: 100_000_000,
            max_requests_per_second: None,
            max_nodes: None,
            max_session_bytes: 256 << 20,
            max_active: Quota::UNLIMITED.active,
            max_active_held: 16,
            seed: None,
            lockstep: false,
            policy: None,
            unix_time,
        }
    }
}

/// By the system's clock.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

//! The limits of a machine and of its tenants.

use crate::policy::SitePolicy;
use qmk_abi::syscall::Quota;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Limits of each tenant, and how the machine runs.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// Maximum logical qubits per tenant. Default: all of the machine.
    pub max_logical_qubits: Option<u32>,
    /// Maximum physical qubits per tenant. Default: those of `max_logical_qubits` patches of the default code.
    pub max_physical_qubits: Option<u64>,
    /// Maximum logical qubits that a tenant holds one by one, whatever its quota: unlike those of programs, they come
    /// back only when it gives them back. Default: all of the machine.
    pub max_held_qubits: Option<u32>,
    /// Time without a call of a session after which the qubits and checkpoints that it holds are taken back. Default:
    /// never.
    pub held_idle: Option<Duration>,
    /// Maximum open channels per tenant. Default: half of `max_logical_qubits`.
    pub max_channels: Option<u32>,
    /// Maximum checkpoints per tenant.
    pub max_checkpoints: u32,
    /// Maximum unfinished jobs per tenant.
    pub max_jobs: u32,
    /// Maximum tenants. A further tenant replaces the least recently used one whose sessions are all idle.
    pub max_tenants: usize,
    /// Maximum sessions per tenant. A further session closes the least recently used idle one: bound to no open
    /// connection, and without unfinished jobs. It is refused if no session is idle.
    pub max_sessions: usize,
    /// Ended jobs per session whose results stay in memory. The oldest go first.
    pub kept_jobs: usize,
    /// Bytes of results per tenant that stay in memory. The oldest go first. A job whose distinct outcomes take more
    /// fails.
    pub kept_bytes: usize,
    /// Ended jobs per tenant in the store of a machine that has a directory. The oldest go first.
    pub stored_jobs: u64,
    /// Bytes of their accounts.
    pub stored_bytes: u64,
    /// Maximum shots per job.
    pub max_shots: u64,
    /// Maximum requests per second and tenant. A burst of one second's requests is served. `None`: no limit.
    pub max_requests_per_second: Option<u32>,
    /// Maximum nodes, and instructions, per program. `None`: bounded by the kernel's quota of instructions only.
    pub max_nodes: Option<usize>,
    /// Maximum bytes that the programs of a session's unfinished jobs take, estimated.
    pub max_session_bytes: usize,
    /// Maximum active qubits per job: those that carry live magic at one time.
    pub max_active: u32,
    /// Maximum active qubits among those that a tenant holds one by one; capped by `max_active`. All callers wait while
    /// one of these is operated on, so the default is small.
    pub max_active_held: u32,
    /// Seed of the outcomes of qubits that are held one by one. Default: entropy of the system. Jobs have seeds of
    /// their own.
    pub seed: Option<u64>,
    /// Whether all shots of a job end in the epoch of its last instruction. A run then does the same in the same epochs
    /// on any host, and a long job keeps callers waiting.
    pub lockstep: bool,
    /// The policy of the site. Default: the user who runs the machine owns everything.
    pub policy: Option<Arc<SitePolicy>>,
    /// The clock that tokens expire by, in Unix seconds.
    pub unix_time: fn() -> u64,
}

impl Default for MachineConfig {
    fn default() -> Self {
        MachineConfig {
            max_logical_qubits: None,
            max_physical_qubits: None,
            max_held_qubits: None,
            held_idle: None,
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

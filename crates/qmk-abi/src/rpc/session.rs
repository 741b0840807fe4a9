//! Sessions: how they are opened, as whom, and what they may hold.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Parameters of `qmk_session_create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionCreate {
    /// Capability names asked for, as in [`crate::Rights::CLASS_NAMES`]. If absent, all that the tenant's policy and
    /// the token allow; an empty list asks for none.
    #[serde(default, alias = "capabilities")]
    pub requested: Option<Vec<String>>,
    /// Tenant to act for; if absent, the token's or the caller's own.
    #[serde(default)]
    pub tenant_id: Option<String>,
    /// Token that says for whom, and what at most; if absent, the one that the connection has shown.
    #[serde(default)]
    pub token: Option<String>,
    /// Keep the session when the connection that opened it closes. Otherwise a session that was used
    /// again on that connection ends with it.
    #[serde(default)]
    pub detached: bool,
    /// Only look: the session holds no capabilities, ends with its connection, and is not recorded.
    #[serde(default)]
    pub observer: bool,
}

/// [`SessionCreate`] as older binary frames carry it: an empty list of capabilities asks for all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionCreateV1 {
    /// See [`SessionCreate::requested`].
    pub requested: Vec<String>,
    /// See [`SessionCreate::tenant_id`].
    pub tenant_id: Option<String>,
    /// See [`SessionCreate::token`].
    pub token: Option<String>,
    /// See [`SessionCreate::detached`].
    pub detached: bool,
    /// See [`SessionCreate::observer`].
    pub observer: bool,
}

impl From<SessionCreateV1> for SessionCreate {
    fn from(old: SessionCreateV1) -> Self {
        let SessionCreateV1 { requested, tenant_id, token, detached, observer } = old;
        let requested = Some(requested).filter(|names| !names.is_empty());
        SessionCreate { requested, tenant_id, token, detached, observer }
    }
}

/// Parameters of `qmk_authenticate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Authenticate {
    /// Token, as `qmk token issue` prints it.
    pub token: String,
}

/// Result of `qmk_authenticate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authenticated {
    /// Tenant that the connection now acts for.
    pub tenant_id: String,
    /// Id of the token, to revoke it by.
    pub token_id: String,
    /// Capabilities of sessions that it opens, at most.
    pub capabilities: Vec<String>,
    /// When the token expires, in Unix seconds.
    pub expires: u64,
}

/// Parameters that name a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRef {
    /// Session id.
    pub session_id: String,
}

/// Result of `qmk_session_create`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Session id.
    pub session_id: String,
    /// Capabilities the session holds.
    pub granted: Vec<String>,
    /// Capabilities asked for and refused.
    pub denied: Vec<String>,
    /// Limits of the tenant.
    pub quota: QuotaInfo,
}

/// Limits of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaInfo {
    /// Logical qubits live at once.
    pub max_logical_qubits: u64,
    /// Physical qubits live at once.
    pub max_physical_qubits: u64,
    /// Open channels between qubits of their own: two logical qubits each.
    pub max_channels: u64,
    /// Unfinished jobs.
    pub max_jobs: u64,
}

/// Result of `qmk_session_close`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Always true.
    pub closed: bool,
}

/// Result of `qmk_resource_query`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// The machine.
    pub machine: MachineInfo,
    /// The tenant's current use.
    pub usage: Usage,
    /// The tenant's limits.
    pub quota: QuotaInfo,
}

/// The whole machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// Logical qubits the machine has.
    pub logical_qubits: u64,
    /// Logical qubits not in use by anyone.
    pub logical_qubits_free: u64,
    /// Current epoch.
    pub epoch: u64,
    /// Length of an epoch in microseconds.
    pub epoch_us: f64,
}

/// What a tenant uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Logical qubits.
    pub logical_qubits: u64,
    /// Unfinished jobs.
    pub jobs: u64,
}

//! One side of a channel between two tenants.

use qmk_abi::Handle;

/// One side of a channel.
#[derive(Clone)]
pub(crate) struct ChannelEnd {
    /// The endpoint, in the tenant's space.
    pub(crate) handle: Handle,
    /// Session that holds the near half; `None` until the channel is accepted.
    pub(crate) session: Option<String>,
    /// Tenant on the other side, and the channel's id there.
    pub(crate) peer: (String, String),
    pub(crate) incoming: bool,
    pub(crate) kind: String,
    pub(crate) fidelity: f64,
}

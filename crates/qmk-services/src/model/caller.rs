//! Callers and their identities.

use crate::store::event::TokenRecord;
use qmk_abi::Rights;
use std::sync::Arc;

/// The process at the other end of a connection, by the word of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Unix user.
    pub uid: u32,
    /// Process.
    pub pid: u32,
}

/// A token that was accepted.
pub(crate) type Credential = TokenRecord;

/// The other end of a connection.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) connection: u64,
    /// `None` for a caller in the process of the machine.
    pub(crate) peer: Option<Peer>,
    /// The token that it has shown last.
    pub(crate) shown: Option<Arc<Credential>>,
}

impl Caller {
    pub(crate) fn uid(&self) -> Option<u32> {
        self.peer.map(|p| p.uid)
    }

    /// Whether it is the user who runs the machine, or root.
    pub(crate) fn owner(&self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        self.uid().is_none_or(|uid| uid == own || uid == 0)
    }
}

/// Tenant, rights and token that a session is opened with.
pub(crate) struct Identity {
    pub(crate) tenant: String,
    /// Instruction classes, at most.
    pub(crate) ceiling: Rights,
    pub(crate) token: Option<Arc<Credential>>,
}

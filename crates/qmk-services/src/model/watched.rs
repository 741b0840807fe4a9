//! Counters of a machine.

use std::time::Instant;

/// Counters of a machine, which never fall.
pub(crate) struct Watched {
    pub(crate) started: Instant,
    /// Instructions issued.
    pub(crate) issued: u64,
    /// Magic states spent by forgotten tenants.
    pub(crate) retired_magic: u64,
}

impl Default for Watched {
    fn default() -> Self {
        Watched { started: Instant::now(), issued: 0, retired_magic: 0 }
    }
}

/// A prefix of a session's id: enough to tell sessions apart in a log, too short to act in one.
pub(crate) fn brief(session: &str) -> &str {
    session.get(..13).unwrap_or(session)
}

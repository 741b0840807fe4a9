//! What is counted as the machine runs.

use std::time::Instant;

/// What is counted as the machine runs.
pub(crate) struct Watched {
    pub(crate) started: Instant,
    /// Instructions issued.
    pub(crate) issued: u64,
    /// Magic states spent by tenants that are forgotten.
    pub(crate) retired_magic: u64,
}

impl Default for Watched {
    fn default() -> Self {
        Watched { started: Instant::now(), issued: 0, retired_magic: 0 }
    }
}

/// Enough of a session's id to tell it from others in a log, too little to use it.
pub(crate) fn brief(session: &str) -> &str {
    session.get(..13).unwrap_or(session)
}

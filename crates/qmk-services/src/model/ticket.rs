//! The store's view of a job.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// An accepted job.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) tenant: String,
    pub(crate) session: u64,
    pub(crate) job: u64,
    pub(crate) shots: u64,
    pub(crate) priority: i32,
    pub(crate) started: Instant,
    /// Set once the journal has the submission. The job does not end before.
    pub(crate) recorded: Arc<AtomicBool>,
    /// Whether the journal has no entries of it.
    pub(crate) silent: bool,
}

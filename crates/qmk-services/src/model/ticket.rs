//! A job that was taken on, as the store knows it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// A job that was taken on.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) tenant: String,
    pub(crate) session: u64,
    pub(crate) job: u64,
    pub(crate) shots: u64,
    pub(crate) priority: i32,
    pub(crate) started: Instant,
    /// Set once the journal has it; before, it does not end.
    pub(crate) recorded: Arc<AtomicBool>,
    /// Whether nothing is recorded of it.
    pub(crate) silent: bool,
}

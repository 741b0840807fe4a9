//! The parts of a store that has a directory: the journal, and the index of its entries.

use super::error::StoreError;
use super::event::{Entry, Event};
use super::index::{Index, Retention};
use crate::notices::NOTICES;
use parking_lot::{Condvar, Mutex};
use qmk_journal::Journal;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::SystemTime;

pub(super) struct Inner {
    pub(super) secret: [u8; 32],
    /// None once closed.
    pub(super) journal: Mutex<Option<Journal>>,
    pub(super) index: Index,
    pub(super) retention: Retention,
    /// Entries that ended jobs, of those that are not settled.
    pub(super) ends: Mutex<BTreeMap<u64, u64>>,
    pub(super) next_session: AtomicU64,
    /// Held by whoever settles.
    pub(super) settling: Mutex<()>,
    /// Whether there is something to settle.
    pub(super) dirty: AtomicBool,
    pub(super) stopping: Mutex<bool>,
    pub(super) wake: Condvar,
    pub(super) settler: Mutex<Option<JoinHandle<()>>>,
    /// The last error that was reported.
    pub(super) complaint: Mutex<String>,
}

impl Inner {
    pub(super) fn record(&self, tenant: Option<&str>, event: Event<'_>) -> Result<u64, StoreError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let entry = Entry { at_ms, tenant, event }.encode().map_err(|_| StoreError::Corrupt)?;
        let index = self.journal.lock().as_mut().ok_or(StoreError::Closed)?.append(&entry)?;
        self.wake();
        Ok(index)
    }

    /// Has the settler look after things.
    pub(super) fn wake(&self) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            // Taken so that the settler is not between looking and waiting.
            drop(self.stopping.lock());
            self.wake.notify_all();
        }
    }

    /// Reports an error of the background, once per run of equal errors.
    pub(super) fn complain(&self, e: &StoreError) {
        let text = e.to_string();
        let mut last = self.complaint.lock();
        if *last != text && !matches!(e, StoreError::Closed) {
            tracing::warn!(target: NOTICES, "{text}");
            *last = text;
        }
    }
}

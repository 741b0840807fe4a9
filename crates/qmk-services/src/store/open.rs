//! How the store is opened and closed.

use super::dir_check;
use super::directory::{JOURNAL, SECRET, STORE, secret};
use super::error::StoreError;
use super::event::Event;
use super::handle::Store;
use super::index::{Index, Retention, Source};
use super::inner::Inner;
use crate::notices::NOTICES;
use parking_lot::{Condvar, Mutex};
use qmk_journal::{Check, Journal, Options};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

impl Store {
    /// Opens the store in a directory, which is made if need be, and brings it up to date with its journal.
    pub(crate) fn open(dir: &Path, retention: Retention) -> Result<Store, StoreError> {
        // A journal is as long as the machine is old; `qmk audit verify` reads all of it.
        let options = Options {
            check: Check::Tail,
            // Heads are the settler's.
            head_entries: u64::MAX,
            head_interval: Duration::MAX,
            ..Options::default()
        };
        dir_check::check(dir, "the directory")?;
        dir_check::check(&dir.join(JOURNAL), "the directory `journal` in it")?;
        // Makes the directory, too, and locks it.
        let (journal, recovered) = Journal::open_with(&dir.join(JOURNAL), options)?;
        if recovered.torn > 0 {
            let torn = recovered.torn;
            tracing::warn!(target: NOTICES, "the journal ended in {torn} bytes of an unfinished entry, which were cut off");
        }
        let root = |size| Ok(journal.root(size)?);
        let source = Source { origin: journal.public_key().origin(), entries: journal.len(), root: &root };
        let index = Index::open(&dir.join(STORE), &source)?;
        let (secret, made) = secret(dir)?;
        let inner = Arc::new(Inner {
            secret,
            journal: Mutex::new(Some(journal)),
            index,
            retention,
            ends: Mutex::default(),
            next_session: AtomicU64::new(0),
            settling: Mutex::default(),
            dirty: AtomicBool::new(false),
            stopping: Mutex::default(),
            wake: Condvar::new(),
            settler: Mutex::default(),
            complaint: Mutex::default(),
        });
        inner.record(None, Event::Booted { version: env!("CARGO_PKG_VERSION") })?;
        inner.settle()?;
        // Whatever comes next then follows a head, and its absence shows.
        inner.store_head()?;
        if made && !inner.index.sessions()?.is_empty() {
            let file = dir.join(SECRET);
            tracing::warn!(
                target: NOTICES,
                "{}: it was missing, and was made anew: ids of sessions that were given out before are not known any more",
                file.display()
            );
        }
        inner.next_session.store(inner.index.next().1, Ordering::Relaxed);
        let settler = inner.clone();
        let thread = std::thread::Builder::new().name("settle".into()).spawn(move || settler.run());
        *inner.settler.lock() = Some(thread.map_err(StoreError::io(dir))?);
        Ok(Store(Some(inner)))
    }

    /// Settles everything and closes the journal under a signed head.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        let Some(inner) = &self.0 else { return Ok(()) };
        *inner.stopping.lock() = true;
        inner.wake.notify_all();
        if let Some(settler) = inner.settler.lock().take() {
            // A panic of the settler has been reported by then; the journal has all that it has not settled.
            let _ = settler.join();
        }
        if let Err(e) = inner.settle() {
            // The next start takes in what the journal has.
            inner.complain(&e);
        }
        let journal = inner.journal.lock().take();
        journal.map_or(Ok(()), |journal| Ok(journal.close()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::tests::FULL;
    use super::super::settler::HEAD_ENTRIES;
    use super::*;
    use crate::model::ticket::Ticket;
    use qmk_abi::rpc::{Format, JobState, JobStatus, JobSubmit, Policy, Progress};
    use std::time::Instant;

    #[test]
    fn a_full_disk_stops_settling_until_there_is_room_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Retention { jobs: 10, bytes: 1 << 20 }).unwrap();
        let inner = store.0.as_ref().unwrap();
        store.opened("t", 1, None, &[], &[], None).unwrap();
        let started = Instant::now();
        let (recorded, priority) = (Arc::default(), 0);
        let ticket =
            Ticket { tenant: "t".into(), session: 1, job: 1, shots: 1, priority, started, recorded, silent: false };
        let submit =
            JobSubmit { session_id: String::new(), source: "x".into(), format: Format::Asm, policy: Policy::default() };
        store.submitted(&ticket, &submit).unwrap();
        let error = Some("why".to_string());
        let (job_id, state, progress) = ("job_1".into(), JobState::Failed, Progress::default());
        let status = JobStatus { job_id, state, progress, events: None, telemetry: None, error: error.clone() };
        store.try_ended(&ticket, status, None).unwrap();
        inner.settle().unwrap();

        FULL.store(true, Ordering::Relaxed);
        for session in 2..HEAD_ENTRIES + 2 {
            store.opened("t", session, None, &[], &[], None).unwrap();
        }
        let e = inner.settle().unwrap_err();
        assert!(matches!(e, StoreError::Database(_)), "{e}");
        // All is under a head, and what was settled is answered.
        assert!(inner.journal.lock().as_ref().unwrap().signed().0 > HEAD_ENTRIES);
        for _ in 0..3 {
            inner.settle().unwrap_err();
            assert_eq!(store.end(1, 1).unwrap().unwrap().status.error, error);
        }
        FULL.store(false, Ordering::Relaxed);
        inner.settle().unwrap();
        assert_eq!(inner.index.position(), store.entries());
        assert_eq!(store.sessions().unwrap().len() as u64, HEAD_ENTRIES + 1);
        // Only what is behind fails at the end, and a start makes up for it.
        store.closed("t", 7);
        FULL.store(true, Ordering::Relaxed);
        store.close().unwrap();
        FULL.store(false, Ordering::Relaxed);
        drop(store);
        let store = Store::open(dir.path(), Retention { jobs: 10, bytes: 1 << 20 }).unwrap();
        assert_eq!(store.sessions().unwrap().len() as u64, HEAD_ENTRIES);
        assert_eq!(store.end(1, 1).unwrap().unwrap().status.error, error);
        assert!(!dir.path().join("store.damaged").exists());
    }
}

//! The settler: takes the journal's entries into the index, and signs heads.

use super::error::StoreError;
use super::index::Source;
use super::inner::Inner;
use parking_lot::MutexGuard;
use qmk_journal::SignedHead;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long entries wait for others, to be settled together.
const BATCH: Duration = Duration::from_millis(50);
/// A head is stored after this many entries, or this long after an entry.
pub(super) const HEAD_ENTRIES: u64 = 1 << 16;
pub(super) const HEAD_INTERVAL: Duration = Duration::from_secs(10);
/// The settler tries again so long after a failure, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

impl Inner {
    /// The settler.
    pub(super) fn run(&self) {
        let mut stopping = self.stopping.lock();
        let mut pause = FIRST_PAUSE;
        while !*stopping {
            if !self.dirty.load(Ordering::Acquire) {
                let journal = self.journal.lock();
                let unsigned = journal.as_ref().is_some_and(|j| j.len() > j.signed().0);
                drop(journal);
                match unsigned {
                    true => _ = self.wake.wait_for(&mut stopping, HEAD_INTERVAL / 10),
                    false => self.wake.wait(&mut stopping),
                }
            }
            if *stopping {
                break;
            }
            // Others come while this waits; what wakes it before is the end.
            self.wake.wait_for(&mut stopping, BATCH);
            let settled = MutexGuard::unlocked(&mut stopping, || self.settle());
            let Err(e) = settled else {
                pause = FIRST_PAUSE;
                continue;
            };
            self.complain(&e);
            // Neither the journal nor memory has lost anything. It may be better later.
            self.dirty.store(true, Ordering::Release);
            let until = Instant::now() + pause;
            while !*stopping && !self.wake.wait_until(&mut stopping, until).timed_out() {}
            pause = (2 * pause).min(LAST_PAUSE);
        }
    }

    /// Takes what the journal has into the store, and stores a head if one is due.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let _one = self.settling.lock();
        self.dirty.store(false, Ordering::Release);
        let taken = self.take_in();
        // Heads are of the journal, whatever the store does.
        let signed = self.sign_if_due();
        taken.and(signed)
    }

    /// Brings the store up to date, and mends it before if it has to be.
    pub(super) fn take_in(&self) -> Result<(), StoreError> {
        let mut mended = false;
        loop {
            match self.catch_up() {
                Err(StoreError::Damaged(_)) if !mended => mended = true,
                done => return done,
            }
        }
    }

    pub(super) fn catch_up(&self) -> Result<(), StoreError> {
        let Some(target) = self.mend()? else { return Ok(()) };
        while self.index.position() < target {
            let (entries, syncer) = {
                let journal = self.journal.lock();
                let Some(journal) = journal.as_ref() else { return Ok(()) };
                (journal.entries(self.index.position())?, journal.syncer())
            };
            // The store must not know of what the journal may lose.
            let synced = syncer.sync();
            if synced.is_err()
                && let Some(journal) = self.journal.lock().as_mut()
            {
                journal.synced(synced)?;
            }
            let root = |size| Ok(self.journal.lock().as_ref().ok_or(StoreError::Closed)?.root(size)?);
            self.index.apply(entries, self.retention, &root)?;
            let position = self.index.position();
            self.ends.lock().retain(|_, entry| *entry >= position);
        }
        Ok(())
    }

    /// Makes the store's file usable again if it is not; returns the journal's length, if it is open.
    pub(super) fn mend(&self) -> Result<Option<u64>, StoreError> {
        let root = |size| Ok(self.journal.lock().as_ref().ok_or(StoreError::Closed)?.root(size)?);
        let source = {
            let journal = self.journal.lock();
            let Some(journal) = journal.as_ref() else { return Ok(None) };
            Source { origin: journal.public_key().origin(), entries: journal.len(), root: &root }
        };
        self.index.repair(&source)?;
        Ok(Some(source.entries))
    }

    pub(super) fn sign_if_due(&self) -> Result<(), StoreError> {
        let due = {
            let journal = self.journal.lock();
            journal.as_ref().is_some_and(|journal| {
                let (signed, ago) = journal.signed();
                let new = journal.len() - signed;
                new >= HEAD_ENTRIES || new > 0 && ago >= HEAD_INTERVAL
            })
        };
        if due { self.store_head().map(drop) } else { Ok(()) }
    }

    /// Stores a head of all entries without holding up whoever appends; returns it with the key that verifies it.
    pub(super) fn store_head(&self) -> Result<(SignedHead, String), StoreError> {
        let due = {
            let mut journal = self.journal.lock();
            let journal = journal.as_mut().ok_or(StoreError::Closed)?;
            match journal.begin_head()? {
                Some(due) => due,
                None => return Ok((journal.head(), journal.public_key().to_string())),
            }
        };
        let synced = due.sync();
        let mut journal = self.journal.lock();
        let journal = journal.as_mut().ok_or(StoreError::Closed)?;
        let head = due.head.clone();
        journal.finish_head(due, synced)?;
        Ok((head, journal.public_key().to_string()))
    }
}

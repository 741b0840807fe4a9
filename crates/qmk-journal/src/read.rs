//! Reading entries, roots and proofs of an open journal.

use crate::error::{Damage, JournalError};
use crate::frame::{Frame, Scan};
use crate::head::ProvenEntry;
use crate::journal::Journal;
use crate::layout::{LOG, OFFSETS, WRONG_OFFSET};
use crate::tree::{self, Hash};
use std::fs::File;
use std::sync::Arc;

/// Reads one entry.
#[derive(Debug)]
pub struct Reader {
    log: Arc<File>,
    index: u64,
    start: u64,
    end: u64,
}

impl Reader {
    /// The entry.
    ///
    /// # Errors
    ///
    /// [`JournalError::Damaged`], or if `log` cannot be read.
    pub fn read(&self) -> Result<Vec<u8>, JournalError> {
        read_entry(&self.log, self.index, self.start, self.end)
    }
}

/// Entries in order, each with its index and checked against its checksum. Ends after an error.
pub struct Entries {
    pub(crate) scan: Option<Scan>,
}

impl Iterator for Entries {
    type Item = Result<(u64, Vec<u8>), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let scan = self.scan.as_mut()?;
        let (index, offset) = (scan.index, scan.offset);
        let mut entry = Vec::new();
        let error = match scan.next(&mut entry) {
            Ok(Frame::Entry) => return Some(Ok((index, entry))),
            Ok(Frame::End) => None,
            Ok(Frame::Torn(_)) => Some(Damage::entry(LOG, offset, index, "the frame has been cut").into()),
            Err(error) => Some(error),
        };
        self.scan = None;
        error.map(Err)
    }
}

impl Journal {
    /// Streams the entries of now from the one at `from` on.
    ///
    /// # Errors
    ///
    /// If `offsets` cannot be read.
    pub fn entries(&self, from: u64) -> Result<Entries, JournalError> {
        let from = from.min(self.len());
        let offset = if from < self.len() { self.start(from)? } else { self.end };
        Ok(Entries { scan: Some(Scan::new(self.log.clone(), from, offset, self.end)) })
    }

    /// The root of the tree of the first `size` entries.
    ///
    /// # Errors
    ///
    /// [`JournalError::OutOfRange`], or if `tree` cannot be read.
    pub fn root(&self, size: u64) -> Result<Hash, JournalError> {
        self.has(size, self.len())?;
        tree::subtree(0, size, &|level, n| self.node(level, n))
    }

    /// The entry at `index`.
    ///
    /// # Errors
    ///
    /// [`JournalError::OutOfRange`], [`JournalError::Damaged`], or if a file cannot be read.
    pub fn read(&self, index: u64) -> Result<Vec<u8>, JournalError> {
        self.reader(index)?.read()
    }

    /// A reader of the entry at `index` that does not need the journal.
    ///
    /// # Errors
    ///
    /// [`JournalError::OutOfRange`], or if `offsets` cannot be read.
    pub fn reader(&self, index: u64) -> Result<Reader, JournalError> {
        self.has(index.saturating_add(1), self.len())?;
        let end = if index + 1 < self.len() { self.start(index + 1)? } else { self.end };
        Ok(Reader { log: self.log.clone(), index, start: self.start(index)?, end })
    }

    /// The proof that the tree of the first `size` entries has the one at `index`, for
    /// [`verify_inclusion`](crate::verify_inclusion).
    ///
    /// # Errors
    ///
    /// [`JournalError::OutOfRange`], or if `tree` cannot be read.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, JournalError> {
        self.has(size, self.len())?;
        self.has(index.saturating_add(1), size)?;
        tree::inclusion(index, size, &|level, n| self.node(level, n))
    }

    /// The proof that the tree of `new` entries continues that of `old` entries, for
    /// [`verify_consistency`](crate::verify_consistency).
    ///
    /// # Errors
    ///
    /// [`JournalError::OutOfRange`], or if `tree` cannot be read.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, JournalError> {
        self.has(new, self.len())?;
        self.has(old, new)?;
        tree::consistency(old, new, &|level, n| self.node(level, n))
    }

    /// An entry with the proof that it is in the log, under a head of now.
    ///
    /// # Errors
    ///
    /// As [`Journal::read`].
    pub fn prove(&self, index: u64) -> Result<ProvenEntry, JournalError> {
        let (entry, path) = (self.read(index)?, self.inclusion(index, self.len())?);
        Ok(ProvenEntry { index, entry, path, head: self.head() })
    }

    fn has(&self, asked: u64, entries: u64) -> Result<(), JournalError> {
        if asked > entries { Err(JournalError::OutOfRange { asked, entries }) } else { Ok(()) }
    }
}

/// Reads the entry whose frame is all of `start..end`.
fn read_entry(log: &Arc<File>, index: u64, start: u64, end: u64) -> Result<Vec<u8>, JournalError> {
    let mut scan = Scan::new(log.clone(), index, start, end);
    let mut entry = Vec::new();
    match scan.next(&mut entry)? {
        Frame::Entry if scan.offset == end => Ok(entry),
        _ => Err(Damage::entry(OFFSETS, 8 * index, index, WRONG_OFFSET).into()),
    }
}

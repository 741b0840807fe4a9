//! Errors of a journal.

use crate::layout::MAX_ENTRY;
use serde::Serialize;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Where a journal's files are not what they must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Name of the file in the journal's directory.
    pub file: &'static str,
    /// Byte in the file, or the start of the frame or line that is wrong.
    pub offset: u64,
    /// The entries that it concerns, where they are known.
    pub entries: Option<Range<u64>>,
    /// What is wrong.
    pub what: &'static str,
}

impl Damage {
    pub(crate) fn file(file: &'static str, offset: u64, what: &'static str) -> Damage {
        Damage { file, offset, entries: None, what }
    }

    pub(crate) fn entry(file: &'static str, offset: u64, index: u64, what: &'static str) -> Damage {
        Damage { file, offset, entries: Some(index..index.saturating_add(1)), what }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, byte {}", self.file, self.offset)?;
        match &self.entries {
            Some(e) if e.end.saturating_sub(e.start) == 1 => write!(f, ", entry {}", e.start)?,
            Some(e) => write!(f, ", entries {} to {}", e.start, e.end.saturating_sub(1))?,
            None => {}
        }
        write!(f, ": {}", self.what)
    }
}

impl core::error::Error for Damage {}

/// Errors of a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused.
    #[error("{file}: {source}")]
    Io {
        /// The file or directory.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The directory belongs to an open journal, of this process or another.
    #[error("{}: another server has this journal open", .0.display())]
    Locked(PathBuf),
    /// The files are not what they must be.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Entries have at most [`MAX_ENTRY`] bytes.
    #[error("an entry of {0} bytes, where {MAX_ENTRY} are allowed")]
    TooLarge(usize),
    /// There is no such entry or tree.
    #[error("no entry or tree {asked}: the journal has {entries} entries")]
    OutOfRange {
        /// Index or size that was asked for.
        asked: u64,
        /// Entries that there are.
        entries: u64,
    },
    /// A write failed, and what it left could not be taken back. Opening the journal again will.
    #[error("the journal takes no more entries since a write failed: {0}")]
    Poisoned(String),
}

impl JournalError {
    pub(crate) fn io(file: impl Into<String>) -> impl FnOnce(io::Error) -> JournalError {
        |source| JournalError::Io { file: file.into(), source }
    }
}

//! Opening a journal: a torn write is cut off, and files that lag behind the log are made anew.

use crate::access::{begin_log, length, open_file, read_node, read_offset, read_text, write_whole};
use crate::error::{Damage, JournalError};
use crate::frame::{Frame, Part, Scan};
use crate::head::{SecretKey, SignedHead, find_last_head};
use crate::journal::Journal;
use crate::layout::{HEADS, KEY, LOG, LOST_ENTRIES, MAGIC, OFFSETS, PUBLIC_KEY, TREE, WRONG_OFFSET};
use crate::options::{Check, Options};
use crate::read::Entries;
use crate::tree::{Peaks, stored_count, stored_index};
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Findings of [`Journal::open`].
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Entries in the log.
    pub entries: u64,
    /// Bytes of a torn write that were cut off the end of the log.
    pub torn: u64,
    /// Entries whose hashes and offsets were made anew.
    pub rebuilt: u64,
    log: Arc<File>,
    offsets: Arc<File>,
    end: u64,
}

impl Recovered {
    /// Streams the recovered entries from the one at `from` on.
    ///
    /// # Errors
    ///
    /// If `offsets` cannot be read.
    pub fn entries(&self, from: u64) -> Result<Entries, JournalError> {
        let from = from.min(self.entries);
        let offset = if from < self.entries { read_offset(&self.offsets, from)? } else { self.end };
        Ok(Entries { scan: Some(Scan::new(self.log.clone(), from, offset, self.end)) })
    }
}

impl Journal {
    /// Opens the journal in `dir` with the default [`Options`], or makes one.
    ///
    /// # Errors
    ///
    /// As [`Journal::open_with`].
    pub fn open(dir: &Path) -> Result<(Journal, Recovered), JournalError> {
        Journal::open_with(dir, Options::default())
    }

    /// Opens the journal in `dir`, or makes one: a directory of mode 0700 with files of mode 0600.
    ///
    /// A torn write at the end of `log` is cut off, and what lags behind the log is made anew. Nothing else is
    /// repaired.
    ///
    /// # Errors
    ///
    /// [`JournalError::Locked`] if it is open already, [`JournalError::Damaged`] if the files have been changed,
    /// [`JournalError::Io`].
    pub fn open_with(dir: &Path, options: Options) -> Result<(Journal, Recovered), JournalError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(JournalError::io(dir.display().to_string()))?;
        let log = open_file(dir, LOG)?;
        log.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::Locked(dir.into()),
            TryLockError::Error(source) => JournalError::io(LOG)(source),
        })?;
        let end = begin_log(&log)?;
        let (tree, offsets, heads) = (open_file(dir, TREE)?, open_file(dir, OFFSETS)?, open_file(dir, HEADS)?);
        // Making the keys syncs the directory, with all files in it.
        let secret = open_keys(dir, end == MAGIC.len() as u64)?;
        let public = secret.public();
        let (last, heads_end) = find_last_head(&heads, &public)?;
        heads.set_len(heads_end).map_err(JournalError::io(HEADS))?;
        let mut journal = Journal {
            dir: dir.into(),
            options,
            log: Arc::new(log),
            tree: Arc::new(tree),
            offsets: Arc::new(offsets),
            heads: Arc::new(heads),
            secret,
            public,
            end,
            peaks: Peaks::default(),
            settled: 0,
            hashes: Vec::new(),
            starts: Vec::new(),
            frame: Vec::new(),
            heads_end,
            signed: last.as_ref().map_or(0, |head| head.size),
            signed_at: Instant::now(),
            // Dropping it writes nothing, should the files turn out to be damaged.
            poison: Some("it has not been recovered".into()),
        };
        let (torn, rebuilt) = journal.recover(last.as_ref())?;
        journal.poison = None;
        let (log, offsets) = (open_file(dir, LOG)?, journal.offsets.clone());
        let recovered =
            Recovered { entries: journal.len(), torn, rebuilt, log: Arc::new(log), offsets, end: journal.end };
        Ok((journal, recovered))
    }

    /// Reads the log, cuts what is torn and rebuilds what lags; returns how much of each.
    fn recover(&mut self, last: Option<&SignedHead>) -> Result<(u64, u64), JournalError> {
        // Entries under a head were on disk before it. Later bytes may be anything after a loss of power.
        let (tree, offsets) = (length(&self.tree, TREE)?, length(&self.offsets, OFFSETS)?);
        let whole = tree >= 32 * stored_count(self.signed) && offsets >= 8 * self.signed;
        let base = if whole { self.signed } else { 0 };
        self.tree.set_len(32 * stored_count(base)).map_err(JournalError::io(TREE))?;
        self.offsets.set_len(8 * base).map_err(JournalError::io(OFFSETS))?;
        self.peaks = Peaks::read(base, |level, n| read_node(&self.tree, stored_index(level, n)))?;
        self.settled = base;
        let signed = last.map(|head| (head.size, head.root));
        if base > 0 && signed != Some((base, self.peaks.root())) {
            let what = "the hashes do not give the root that a head has signed";
            return Err(Damage { entries: Some(0..base), ..Damage::file(TREE, 0, what) }.into());
        }
        let mut scan = Scan::new(self.log.clone(), 0, MAGIC.len() as u64, self.end);
        if let (Check::Tail, 1..) = (self.options.check, base) {
            scan = Scan::new(self.log.clone(), base - 1, read_offset(&self.offsets, base - 1)?, self.end);
        }
        let mut stored = Part::new(self.offsets.clone(), 8 * scan.index, 8 * base);
        let mut entry = Vec::new();
        let torn = loop {
            let (index, offset) = (scan.index, scan.offset);
            match scan.next(&mut entry)? {
                Frame::End => break 0,
                Frame::Torn(bytes) => break bytes,
                Frame::Entry if index < base => {
                    let mut bytes = [0; 8];
                    stored.read_exact(&mut bytes).map_err(JournalError::io(OFFSETS))?;
                    if u64::from_le_bytes(bytes) != offset {
                        return Err(Damage::entry(OFFSETS, 8 * index, index, WRONG_OFFSET).into());
                    }
                }
                Frame::Entry => {
                    self.push(&entry, offset);
                    if self.starts.len() >= self.options.batch {
                        self.write_pending()?;
                    }
                    if signed.is_some_and(|(size, root)| size == self.len() && root != self.peaks.root()) {
                        let what = "the entries do not give the root that a head has signed";
                        return Err(Damage { entries: Some(0..self.len()), ..Damage::file(LOG, 0, what) }.into());
                    }
                }
            }
        };
        if scan.index < self.signed {
            let entries = Some(scan.index..self.signed);
            return Err(Damage { entries, ..Damage::file(LOG, scan.offset, LOST_ENTRIES) }.into());
        }
        self.end = scan.offset;
        if torn > 0 {
            self.log.set_len(self.end).map_err(JournalError::io(LOG))?;
        }
        self.write_pending()?;
        Ok((torn, self.len() - base))
    }
}

/// Reads the keys, or makes them for a journal without entries.
fn open_keys(dir: &Path, fresh: bool) -> Result<SecretKey, JournalError> {
    let secret = match read_text(dir, KEY)? {
        Some(text) => decode_secret(&text)?,
        None if fresh => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|e| JournalError::io(KEY)(io::Error::other(e.to_string())))?;
            let secret = SecretKey::new(seed);
            write_whole(dir, KEY, &secret.encode())?;
            secret
        }
        None => return Err(Damage::file(KEY, 0, "the key is missing, and there are entries").into()),
    };
    let public = secret.public().to_string();
    match read_text(dir, PUBLIC_KEY)? {
        Some(text) if text.strip_suffix('\n') == Some(public.as_str()) => {}
        Some(_) => return Err(Damage::file(PUBLIC_KEY, 0, "not the public half of the secret key").into()),
        None => write_whole(dir, PUBLIC_KEY, &public)?,
    }
    Ok(secret)
}

fn decode_secret(text: &str) -> Result<SecretKey, Damage> {
    text.strip_suffix('\n').and_then(SecretKey::decode).ok_or(Damage::file(KEY, 0, "not a secret key"))
}

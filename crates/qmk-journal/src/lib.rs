//! The journal: a durable log of events that is at the same time an append-only audit log.
//!
//! Entries are bytes. They are the leaves of the Merkle tree of [RFC 9162], section 2.1, whose root is signed from time
//! to time. Who has kept a [`SignedHead`] can check later that nothing before it was changed or taken out, and whether
//! an entry is in the log, without trusting whoever runs the machine.
//!
//! # Files
//!
//! | file | contents |
//! |---|---|
//! | `log` | the eight bytes `QMKLOG1\n`, then a frame for each entry; locked while a [`Journal`] is open |
//! | `tree` | hashes of 32 bytes: each leaf is followed by the complete subtrees that it ends, small ones first |
//! | `offsets` | where the frame of each entry starts in `log`, u64 |
//! | `heads` | [`SignedHead`]s, one line of JSON each, of growing size |
//! | `key` | the Ed25519 key that signs, in the encoding of Go's `note` package |
//! | `key.pub` | the same of its public half |
//!
//! Integers are little-endian. A frame is the length of the entry (u32), CRC-32 of the entry (u32), CRC-32 of these
//! eight bytes (u32), and the entry. The second checksum tells a damaged length from a write that was cut short.
//! `tree` has the layout of Go's [`tlog`], after [Crosby and Wallach], section 3.3.
//!
//! `tree` and `offsets` are made from `log`, and lag behind it. [`Journal::open`] makes them anew from the last signed
//! head on, or from the beginning where they are missing.
//!
//! # What survives
//!
//! - `kill -9`: every entry whose [`Journal::append`] has returned.
//! - Power loss: with [`Durability::Disk`] the same; otherwise what was appended before the last stored head or
//!   [`Journal::sync`]. A head is stored only after what it promises is on disk.
//! - A flipped bit: [`verify`] finds it in any file, and says where.
//! - An attacker who rewrites entries with their checksums and hashes is found by the next head, unless he has `key`
//!   also. He that has it, or cuts the log and `heads` back together, is found by heads that were kept elsewhere:
//!   [`verify_against`].
//!
//! [RFC 9162]: https://www.rfc-editor.org/rfc/rfc9162#section-2.1
//! [`tlog`]: https://pkg.go.dev/golang.org/x/mod/sumdb/tlog#StoredHashIndex
//! [Crosby and Wallach]: https://www.usenix.org/legacy/event/sec09/tech/full_papers/crosby.pdf
#![forbid(unsafe_code)]

pub mod files;
mod frame;
mod head;
mod tree;
mod verify;

pub use head::{NotAKey, ProvenEntry, PublicKey, SignedHead, verify_head};
pub use tree::{Hash, empty_root, leaf_hash, node_hash, verify_consistency, verify_inclusion};
pub use verify::{Progress, Verified, prove, scan, scan_from, verify, verify_against, verify_with};

use frame::{Frame, MAGIC, Part, Scan};
use head::SecretKey;
use serde::Serialize;
use std::fmt;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tree::{Peaks, stored_count, stored_index};

const LOG: &str = "log";
const TREE: &str = "tree";
const OFFSETS: &str = "offsets";
const HEADS: &str = "heads";
const KEY: &str = "key";
const PUBLIC_KEY: &str = "key.pub";

/// Bytes of the largest entry.
pub const MAX_ENTRY: usize = 32 << 20;
/// More than a line of `heads` has.
const MAX_LINE: u64 = 1 << 10;
/// A buffer for frames that is larger is given back.
const KEPT_BUFFER: usize = 1 << 16;

/// What an appended entry survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however sudden. An append costs one write.
    #[default]
    Process,
    /// Loss of power. An append waits for the disk.
    Disk,
}

/// What [`Journal::open`] reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// The whole log, checking all frames and offsets.
    #[default]
    All,
    /// What comes after the last signed head. Damage before it shows when it is read.
    Tail,
}

/// How a journal is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What an appended entry survives.
    pub durability: Durability,
    /// What opening checks.
    pub check: Check,
    /// Entries whose hashes and offsets wait in memory, at most.
    pub batch: usize,
    /// New entries after which [`Journal::settle`] stores a head.
    pub head_entries: u64,
    /// Time after which it stores a head of any new entries.
    pub head_interval: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            durability: Durability::Process,
            check: Check::All,
            batch: 4096,
            head_entries: 1 << 16,
            head_interval: Duration::from_secs(10),
        }
    }
}

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
    fn file(file: &'static str, offset: u64, what: &'static str) -> Damage {
        Damage { file, offset, entries: None, what }
    }

    fn entry(file: &'static str, offset: u64, index: u64, what: &'static str) -> Damage {
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

/// Why a journal did not do what it was asked to.
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
    fn io(file: impl Into<String>) -> impl FnOnce(io::Error) -> JournalError {
        |source| JournalError::Io { file: file.into(), source }
    }
}

/// An open journal. Only one can be open in a directory.
///
/// Dropping it does what [`Journal::close`] does, but does not tell of errors.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    options: Options,
    log: Arc<File>,
    tree: Arc<File>,
    offsets: Arc<File>,
    heads: Arc<File>,
    secret: SecretKey,
    public: PublicKey,
    /// Bytes of the log.
    end: u64,
    peaks: Peaks,
    /// Entries that `tree` and `offsets` cover.
    settled: u64,
    /// Of the later ones.
    hashes: Vec<[u8; 32]>,
    starts: Vec<u64>,
    frame: Vec<u8>,
    heads_end: u64,
    /// Size of the last stored head.
    signed: u64,
    signed_at: Instant,
    poison: Option<String>,
}

/// A head that is to be stored, and the files that must be on disk before it is.
#[derive(Debug)]
pub struct DueHead {
    /// The head.
    pub head: SignedHead,
    files: [Arc<File>; 4],
}

impl DueHead {
    /// Waits until what the head promises is on disk, and the head before it.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn sync(&self) -> Result<(), JournalError> {
        let files = self.files.iter().zip([LOG, TREE, OFFSETS, HEADS]);
        files.into_iter().try_for_each(|(file, name)| file.sync_data().map_err(JournalError::io(name)))
    }
}

/// Waits for the disk.
pub struct Syncer(Arc<File>);

impl Syncer {
    /// Waits until all that was appended before is on disk.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.0.sync_data().map_err(JournalError::io(LOG))
    }
}

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

/// What [`Journal::open`] found.
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

/// Entries in order, each with its index and checked against its checksum. Ends after an error.
pub struct Entries {
    scan: Option<Scan>,
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
    /// A torn write at the end of `log` is cut off, and what lags behind the log is made anew. Nothing else is repaired.
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
        // What a head covers was on disk before it. What is later may be anything after a loss of power.
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

    /// Adds an entry and returns its index. What it survives is the matter of [`Options::durability`].
    ///
    /// # Errors
    ///
    /// [`JournalError::TooLarge`]; [`JournalError::Io`] if a write fails. Nothing has been added then, unless it was the
    /// disk that failed to keep what was written: then opening the journal again may find the entry. Where the rest of
    /// a failed write cannot be taken back, all that follow are refused with [`JournalError::Poisoned`].
    pub fn append(&mut self, entry: &[u8]) -> Result<u64, JournalError> {
        if let Some(why) = &self.poison {
            return Err(JournalError::Poisoned(why.clone()));
        }
        if entry.len() > MAX_ENTRY {
            return Err(JournalError::TooLarge(entry.len()));
        }
        // Before the entry is written, since it could not be taken back for this.
        if self.starts.len() >= self.options.batch {
            self.settle()?;
        }
        if self.frame.capacity() > KEPT_BUFFER {
            self.frame = Vec::new();
        }
        self.frame.clear();
        frame::encode(entry, &mut self.frame);
        let mut written = self.log.write_all_at(&self.frame, self.end);
        let mut lasting = true;
        if written.is_ok() && self.options.durability == Durability::Disk {
            written = self.log.sync_data();
            // The kernel may have dropped what it could not write, and says so only once.
            lasting = written.is_ok();
        }
        if let Err(error) = written {
            if self.log.set_len(self.end).is_err() || !lasting {
                self.poison = Some(error.to_string());
            }
            return Err(JournalError::io(LOG)(error));
        }
        self.push(entry, self.end);
        self.end += self.frame.len() as u64;
        Ok(self.len() - 1)
    }

    fn push(&mut self, entry: &[u8], offset: u64) {
        self.peaks.push(leaf_hash(entry), |hash| self.hashes.push(hash.0));
        self.starts.push(offset);
    }

    /// Writes hashes and offsets that wait in memory, and stores a signed head if one is due ([`Options`]). That waits
    /// for the disk. The owner calls this from time to time; appending calls it when a batch is full.
    ///
    /// # Errors
    ///
    /// If a write fails; the next call tries again.
    pub fn settle(&mut self) -> Result<(), JournalError> {
        self.write_pending()?;
        let new = self.len() - self.signed;
        if new >= self.options.head_entries || new > 0 && self.signed_at.elapsed() >= self.options.head_interval {
            self.store_head()?;
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), JournalError> {
        if self.starts.is_empty() {
            return Ok(());
        }
        let at = 32 * stored_count(self.settled);
        self.tree.write_all_at(self.hashes.as_flattened(), at).map_err(JournalError::io(TREE))?;
        let starts: Vec<u8> = self.starts.iter().flat_map(|start| start.to_le_bytes()).collect();
        self.offsets.write_all_at(&starts, 8 * self.settled).map_err(JournalError::io(OFFSETS))?;
        self.settled = self.len();
        self.hashes.clear();
        self.starts.clear();
        Ok(())
    }

    fn store_head(&mut self) -> Result<(), JournalError> {
        // What is promised must not be lost, and recovery takes over what it covers.
        self.sync()?;
        self.tree.sync_data().map_err(JournalError::io(TREE))?;
        self.offsets.sync_data().map_err(JournalError::io(OFFSETS))?;
        self.write_head(&self.head())?;
        // So that at most one head is torn by a loss of power.
        self.heads.sync_data().map_err(JournalError::io(HEADS))
    }

    fn write_head(&mut self, head: &SignedHead) -> Result<(), JournalError> {
        let line = head.line().map_err(|e| JournalError::io(HEADS)(e.into()))? + "\n";
        if let Err(error) = self.heads.write_all_at(line.as_bytes(), self.heads_end) {
            // The next head goes to the same place. If this fails too, what is left is shorter than a head.
            let _ = self.heads.set_len(self.heads_end);
            return Err(JournalError::io(HEADS)(error));
        }
        self.heads_end += line.len() as u64;
        self.signed = head.size;
        self.signed_at = Instant::now();
        Ok(())
    }

    /// The first of three steps of storing a head, for owners that cannot have appending wait for the disk: writes what
    /// waits in memory and signs all entries, if any are new. Of the others, [`DueHead::sync`] does not need the
    /// journal, and [`Journal::finish_head`] is quick.
    ///
    /// # Errors
    ///
    /// If a write fails.
    pub fn begin_head(&mut self) -> Result<Option<DueHead>, JournalError> {
        if let Some(why) = &self.poison {
            return Err(JournalError::Poisoned(why.clone()));
        }
        self.write_pending()?;
        let files = [&self.log, &self.tree, &self.offsets, &self.heads].map(Arc::clone);
        Ok((self.len() > self.signed).then(|| DueHead { head: self.head(), files }))
    }

    /// Stores a head whose entries have been [synced](DueHead::sync), with what came of that, unless a later one has been
    /// stored meanwhile. It is on disk itself after the next one.
    ///
    /// # Errors
    ///
    /// If syncing failed, or a write does. The journal takes no more entries after the former.
    pub fn finish_head(&mut self, due: DueHead, synced: Result<(), JournalError>) -> Result<(), JournalError> {
        self.synced(synced)?;
        if due.head.size > self.signed { self.write_head(&due.head) } else { Ok(()) }
    }

    /// A handle that waits until the entries of now are on disk, without the journal.
    pub fn syncer(&self) -> Syncer {
        Syncer(self.log.clone())
    }

    /// Takes note of what came of [`Syncer::sync`], and passes it on.
    ///
    /// # Errors
    ///
    /// If it failed. The journal takes no more entries then: what the kernel could not write it may have dropped.
    pub fn synced(&mut self, synced: Result<(), JournalError>) -> Result<(), JournalError> {
        synced.inspect_err(|error| self.poison = Some(error.to_string()))
    }

    /// The last stored head's size, and how long ago that was.
    pub fn signed(&self) -> (u64, Duration) {
        (self.signed, self.signed_at.elapsed())
    }

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

    /// Waits until all entries are on disk.
    ///
    /// # Errors
    ///
    /// If the disk fails. The journal takes no more entries then.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        if let Some(why) = &self.poison {
            return Err(JournalError::Poisoned(why.clone()));
        }
        self.log.sync_data().map_err(|error| {
            self.poison = Some(error.to_string());
            JournalError::io(LOG)(error)
        })
    }

    /// Settles, stores a signed head of all entries, and gives the directory free.
    ///
    /// # Errors
    ///
    /// If a write fails. Entries are not lost by that.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), JournalError> {
        self.write_pending()?;
        if self.len() > self.signed { self.store_head() } else { Ok(()) }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Entries.
    pub fn len(&self) -> u64 {
        self.peaks.size
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key that verifies heads.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs the tree as it is. A head that is given away is a promise; if it is to outlast a loss of power, [`sync`]
    /// first.
    ///
    /// [`sync`]: Journal::sync
    pub fn head(&self) -> SignedHead {
        self.secret.sign(self.len(), self.peaks.root())
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

    /// What reads the entry at `index` without the journal.
    ///
    /// # Errors
    ///
    /// [`JournalError::OutOfRange`], or if `offsets` cannot be read.
    pub fn reader(&self, index: u64) -> Result<Reader, JournalError> {
        self.has(index.saturating_add(1), self.len())?;
        let end = if index + 1 < self.len() { self.start(index + 1)? } else { self.end };
        Ok(Reader { log: self.log.clone(), index, start: self.start(index)?, end })
    }

    /// The proof that the tree of the first `size` entries has the one at `index`, for [`verify_inclusion`].
    ///
    /// # Errors
    ///
    /// [`JournalError::OutOfRange`], or if `tree` cannot be read.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, JournalError> {
        self.has(size, self.len())?;
        self.has(index.saturating_add(1), size)?;
        tree::inclusion(index, size, &|level, n| self.node(level, n))
    }

    /// The proof that the tree of `new` entries continues that of `old` entries, for [`verify_consistency`].
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

    fn start(&self, index: u64) -> Result<u64, JournalError> {
        match index.checked_sub(self.settled).and_then(|at| self.starts.get(at as usize)) {
            Some(start) => Ok(*start),
            None => read_offset(&self.offsets, index),
        }
    }

    fn node(&self, level: u32, n: u64) -> Result<Hash, JournalError> {
        let index = stored_index(level, n);
        match index.checked_sub(stored_count(self.settled)).and_then(|at| self.hashes.get(at as usize)) {
            Some(hash) => Ok(Hash(*hash)),
            None => read_node(&self.tree, index),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.poison.is_none() {
            let _ = self.finish();
        }
    }
}

const WRONG_OFFSET: &str = "the offset is not that of the entry's frame";
const LOST_ENTRIES: &str = "the log ends before entries that a head has signed";

/// Opens a file for reading and writing, and makes it if need be.
fn open_file(dir: &Path, name: &str) -> Result<File, JournalError> {
    files::open_or_create(&dir.join(name)).map_err(JournalError::io(name))
}

fn length(file: &File, name: &str) -> Result<u64, JournalError> {
    Ok(file.metadata().map_err(JournalError::io(name))?.len())
}

fn read_node(tree: &File, index: u64) -> Result<Hash, JournalError> {
    let mut hash = [0; 32];
    tree.read_exact_at(&mut hash, 32 * index).map_err(JournalError::io(TREE))?;
    Ok(Hash(hash))
}

fn read_offset(offsets: &File, index: u64) -> Result<u64, JournalError> {
    let mut bytes = [0; 8];
    offsets.read_exact_at(&mut bytes, 8 * index).map_err(JournalError::io(OFFSETS))?;
    Ok(u64::from_le_bytes(bytes))
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

/// Checks how the log begins, and begins it if need be; returns its length.
fn begin_log(log: &File) -> Result<u64, JournalError> {
    let length = length(log, LOG)?;
    let mut start = [0; MAGIC.len()];
    let present = &mut start[..MAGIC.len().min(length as usize)];
    log.read_exact_at(present, 0).map_err(JournalError::io(LOG))?;
    check_magic(present)?;
    if length < MAGIC.len() as u64 {
        log.write_all_at(&MAGIC, 0).map_err(JournalError::io(LOG))?;
    }
    Ok(length.max(MAGIC.len() as u64))
}

/// Checks the beginning of the magic bytes.
fn check_magic(start: &[u8]) -> Result<(), Damage> {
    match start.iter().zip(MAGIC).position(|(byte, magic)| *byte != magic) {
        Some(at) => Err(Damage::file(LOG, at as u64, "not the log of a journal")),
        None => Ok(()),
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

/// The text of a small file, if there is one.
fn read_text(dir: &Path, name: &str) -> Result<Option<String>, JournalError> {
    let mut text = Vec::new();
    match File::open(dir.join(name)) {
        Ok(file) => file.take(MAX_LINE).read_to_end(&mut text).map_err(JournalError::io(name))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::io(name)(error)),
    };
    // Other bytes than text are found by whoever parses it.
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// Writes a line to a file that is there whole or not at all.
fn write_whole(dir: &Path, name: &str, line: &str) -> Result<(), JournalError> {
    let temporary = dir.join(format!("{name}.new"));
    let write = || {
        let mut file = files::create_new(&temporary)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, dir.join(name))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(JournalError::io(name))
}

/// The last stored head, and where it ends; a torn one may follow.
fn find_last_head(heads: &File, key: &PublicKey) -> Result<(Option<SignedHead>, u64), JournalError> {
    let length = length(heads, HEADS)?;
    let from = length.saturating_sub(2 * MAX_LINE);
    let mut tail = vec![0; (length - from) as usize];
    heads.read_exact_at(&mut tail, from).map_err(JournalError::io(HEADS))?;
    let (lines, torn) = head::split_torn(&tail, from)?;
    let end = length - torn.len() as u64;
    let Some((_, lines)) = lines.split_last() else {
        // Without a newline in so many bytes there is no head.
        return if from == 0 { Ok((None, end)) } else { Err(Damage::file(HEADS, from, "not a signed head").into()) };
    };
    let start = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok((Some(SignedHead::parse(&lines[start..], from + start as u64, key)?), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that cannot be written stand in for a disk that fails.
    #[test]
    fn failed_writes_are_not_followed_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let read_only = |name| Arc::new(File::open(dir.path().join(name)).unwrap());
        let (mut journal, _) = Journal::open_with(dir.path(), Options { batch: 2, ..Options::default() }).unwrap();
        journal.append(b"0").unwrap();
        journal.append(b"1").unwrap();
        // Hashes stay in memory, and with a full batch of them nothing is added.
        let tree = std::mem::replace(&mut journal.tree, read_only(TREE));
        assert!(matches!(journal.append(b"2"), Err(JournalError::Io { .. })));
        assert!(matches!(journal.settle(), Err(JournalError::Io { .. })));
        assert_eq!((journal.len(), journal.read(1).unwrap()), (2, b"1".to_vec()));
        journal.tree = tree;
        assert_eq!(journal.append(b"2").unwrap(), 2);
        // The log can neither be written nor cut.
        let log = std::mem::replace(&mut journal.log, read_only(LOG));
        assert!(matches!(journal.append(b"3"), Err(JournalError::Io { .. })));
        journal.log = log;
        assert!(matches!(journal.append(b"3"), Err(JournalError::Poisoned(_))));
        assert_eq!((journal.len(), journal.read(2).unwrap()), (3, b"2".to_vec()));
        drop(journal);
        let (mut journal, recovered) = Journal::open(dir.path()).unwrap();
        assert_eq!((recovered.entries, journal.append(b"3").unwrap()), (3, 3));
        journal.close().unwrap();
        assert_eq!(verify(dir.path()).unwrap().signed, 4);
    }
}

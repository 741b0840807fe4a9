//! An open journal: appending, settling and signing.

use crate::access::{read_node, read_offset};
use crate::error::JournalError;
use crate::frame;
use crate::head::{PublicKey, SecretKey, SignedHead};
use crate::layout::{HEADS, LOG, MAX_ENTRY, OFFSETS, TREE};
use crate::options::{Durability, Options};
use crate::tree::{Hash, Peaks, leaf_hash, stored_count, stored_index};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A buffer for frames that is larger is given back.
const KEPT_BUFFER: usize = 1 << 16;

/// An open journal. Only one can be open in a directory.
///
/// Dropping it does what [`Journal::close`] does, but does not tell of errors.
#[derive(Debug)]
pub struct Journal {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) log: Arc<File>,
    pub(crate) tree: Arc<File>,
    pub(crate) offsets: Arc<File>,
    pub(crate) heads: Arc<File>,
    pub(crate) secret: SecretKey,
    pub(crate) public: PublicKey,
    /// Bytes of the log.
    pub(crate) end: u64,
    pub(crate) peaks: Peaks,
    /// Entries that `tree` and `offsets` cover.
    pub(crate) settled: u64,
    /// Of the later ones.
    pub(crate) hashes: Vec<[u8; 32]>,
    pub(crate) starts: Vec<u64>,
    pub(crate) frame: Vec<u8>,
    pub(crate) heads_end: u64,
    /// Size of the last stored head.
    pub(crate) signed: u64,
    pub(crate) signed_at: Instant,
    pub(crate) poison: Option<String>,
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

impl Journal {
    /// Adds an entry and returns its index. It survives as [`Options::durability`] says.
    ///
    /// # Errors
    ///
    /// [`JournalError::TooLarge`]; [`JournalError::Io`] if a write fails. Nothing has been added then, unless it was
    /// the disk that failed to keep what was written: then opening the journal again may find the entry. Where the rest
    /// of a failed write cannot be taken back, all that follow are refused with [`JournalError::Poisoned`].
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

    pub(crate) fn push(&mut self, entry: &[u8], offset: u64) {
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

    pub(crate) fn write_pending(&mut self) -> Result<(), JournalError> {
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
        // A head promises its entries, so they go to disk first; recovery relies on the hashes and offsets under it.
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

    /// Stores a head whose entries have been [synced](DueHead::sync), with what came of that, unless a later one has
    /// been stored meanwhile. It is on disk itself after the next one.
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

    pub(crate) fn start(&self, index: u64) -> Result<u64, JournalError> {
        match index.checked_sub(self.settled).and_then(|at| self.starts.get(at as usize)) {
            Some(start) => Ok(*start),
            None => read_offset(&self.offsets, index),
        }
    }

    pub(crate) fn node(&self, level: u32, n: u64) -> Result<Hash, JournalError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::verify;

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

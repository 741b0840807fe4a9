//! Checking a journal without opening it.

use crate::access::{check_magic, length, read_node, read_offset, read_text};
use crate::error::{Damage, JournalError};
use crate::frame::{Frame, Part, Scan};
use crate::head::{ProvenEntry, PublicKey, SecretKey, SignedHead, find_last_head, split_torn, verify_head};
use crate::layout::{HEADS, KEY, LOG, LOST_ENTRIES, MAGIC, MAX_LINE, OFFSETS, PUBLIC_KEY, TREE, WRONG_OFFSET};
use crate::read::Entries;
use crate::tree::{Hash, Peaks, inclusion, leaf_hash, stored_index};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A journal without damage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Entries in the log.
    pub entries: u64,
    /// Signed heads in `heads`.
    pub heads: u64,
    /// Entries that the last of them covers. Later ones have checksums only.
    pub signed: u64,
    /// Bytes of a torn write at the end of the log.
    pub torn: u64,
    /// Root of the tree of all entries.
    pub root: Hash,
}

/// Checks all that can be checked in the directory of a journal: the log's checksums, the hash of each leaf and node
/// and each offset against the log, and each signed head. It takes no lock and writes nothing, so it works while the
/// journal is open. To copy a journal that is open, copy `log` last.
///
/// Memory does not grow with the log.
///
/// # Errors
///
/// [`JournalError::Damaged`] says what is wrong first, in the order of entries, and where. Entries that were
/// rewritten with their checksums and hashes are located between two heads.
pub fn verify(dir: &Path) -> Result<Verified, JournalError> {
    verify_with(dir, None, &[], &mut |_, _| {})
}

/// Told from time to time of the bytes of the log that have been checked, and of all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Does what [`verify`] does, or with a key [`verify_against`], and tells how far it is.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_with(
    dir: &Path,
    key: Option<&PublicKey>,
    heads: &[SignedHead],
    progress: Progress<'_>,
) -> Result<Verified, JournalError> {
    check(dir, key, heads, progress)
}

/// Streams the entries of a journal that may be open elsewhere, checking no more than their checksums.
///
/// # Errors
///
/// If `log` cannot be opened.
pub fn scan(dir: &Path) -> Result<Entries, JournalError> {
    let log = File::open(dir.join(LOG)).map_err(JournalError::io(LOG))?;
    let length = length(&log, LOG)?;
    Ok(Entries { scan: Some(Scan::new(Arc::new(log), 0, MAGIC.len() as u64, length)) })
}

/// Does what [`scan`] does from the entry at `from` on, or before it where `offsets` does not say where that is.
///
/// # Errors
///
/// If a file cannot be read.
pub fn scan_from(dir: &Path, from: u64) -> Result<Entries, JournalError> {
    let log = File::open(dir.join(LOG)).map_err(JournalError::io(LOG))?;
    let end = length(&log, LOG)?;
    let (index, offset) = match open(dir, OFFSETS)? {
        Some((offsets, length)) if length / 8 > from => (from, read_offset(&offsets, from)?),
        _ => (0, MAGIC.len() as u64),
    };
    Ok(Entries { scan: Some(Scan::new(Arc::new(log), index, offset, end)) })
}

/// Does what [`verify`] does with a key and heads that were kept elsewhere, so that not even the holder of the key
/// could have changed what those heads cover. `heads` may be in any order.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_against(dir: &Path, key: &PublicKey, heads: &[SignedHead]) -> Result<Verified, JournalError> {
    verify_with(dir, Some(key), heads, &mut |_, _| {})
}

/// The entry at `index` with the proof that it is in the log under the last stored head, taken from a journal that may
/// be open elsewhere.
///
/// # Errors
///
/// [`JournalError::OutOfRange`] if the last head does not cover it, [`JournalError::Damaged`], [`JournalError::Io`].
pub fn prove(dir: &Path, index: u64) -> Result<ProvenEntry, JournalError> {
    let file = |name| File::open(dir.join(name)).map_err(JournalError::io(name));
    let key = public_key(dir, None)?;
    let head = find_last_head(&file(HEADS)?, &key)?.0;
    let entries = head.as_ref().map_or(0, |head| head.size);
    let Some(head) = head.filter(|head| index < head.size) else {
        return Err(JournalError::OutOfRange { asked: index, entries });
    };
    let (log, tree, offsets) = (file(LOG)?, file(TREE)?, file(OFFSETS)?);
    let length = length(&log, LOG)?;
    let mut entry = Vec::new();
    Scan::new(Arc::new(log), index, read_offset(&offsets, index)?, length).next(&mut entry)?;
    let path = inclusion(index, head.size, &|level, n| read_node(&tree, stored_index(level, n)))?;
    let proven = ProvenEntry { index, entry, path, head };
    if !proven.verify(&key) {
        let what = "the stored hashes do not prove the entry under the last head";
        return Err(Damage::entry(TREE, 32 * stored_index(0, index), index, what).into());
    }
    Ok(proven)
}

fn check(
    dir: &Path,
    trusted: Option<&PublicKey>,
    known: &[SignedHead],
    progress: Progress<'_>,
) -> Result<Verified, JournalError> {
    let key = public_key(dir, trusted)?;
    let mut known = known.to_vec();
    known.sort_by_key(|head| head.size);
    if !known.iter().all(|head| verify_head(&key, head)) {
        return Err(Damage::file(PUBLIC_KEY, 0, "a head given was signed with another key").into());
    }
    // The log last: it is written first.
    let mut heads = Heads::open(dir, key)?;
    let mut tree = Stored::open(dir, TREE)?;
    let mut offsets = Stored::open(dir, OFFSETS)?;
    let log = File::open(dir.join(LOG)).map_err(JournalError::io(LOG))?;
    let length = length(&log, LOG)?;
    let mut start = [0; MAGIC.len()];
    let present = &mut start[..MAGIC.len().min(length as usize)];
    log.read_exact_at(present, 0).map_err(JournalError::io(LOG))?;
    check_magic(present)?;

    let mut scan = Scan::new(Arc::new(log), 0, MAGIC.len() as u64, length);
    let mut peaks = Peaks::default();
    let mut hashes = Vec::new();
    let mut entry = Vec::new();
    // The part of the log since the last head of either kind: entries, and where they start.
    let mut proven = (0, scan.offset);
    let mut known = known.into_iter().peekable();
    let mut next = heads.next()?;
    let torn = loop {
        let (index, offset) = (scan.index, scan.offset);
        if index.is_multiple_of(1 << 12) {
            progress(offset, length);
        }
        let mut covered = false;
        while let Some(head) = known.next_if(|head| head.size <= index) {
            covered = true;
            root_is(&peaks, &head, "the entries do not give the root of a head given", proven)?;
        }
        if let Some(head) = next.take_if(|head| head.size == index) {
            covered = true;
            root_is(&peaks, &head, "the entries do not give the root that a head has signed", proven)?;
            next = heads.next()?;
        }
        if covered {
            proven = (index, offset);
        }
        match scan.next(&mut entry)? {
            Frame::End => break 0,
            Frame::Torn(bytes) => break bytes,
            Frame::Entry => {}
        }
        offsets.compare(&offset.to_le_bytes(), index, WRONG_OFFSET)?;
        hashes.clear();
        peaks.push(leaf_hash(&entry), |hash| hashes.push(hash.0));
        tree.compare(hashes.as_flattened(), index, "a hash is not that of the log's entries")?;
    };
    if let Some(head) = next.or(known.next()) {
        let entries = Some(scan.index..head.size);
        return Err(Damage { entries, ..Damage::file(LOG, scan.offset, LOST_ENTRIES) }.into());
    }
    offsets.ends()?;
    tree.ends()?;
    Ok(Verified { entries: peaks.size, heads: heads.count, signed: heads.size, torn, root: peaks.root() })
}

/// The public key, if it is the trusted one and that of the secret key.
fn public_key(dir: &Path, trusted: Option<&PublicKey>) -> Result<PublicKey, JournalError> {
    let text = read_text(dir, PUBLIC_KEY)?.unwrap_or_default();
    let key = text.strip_suffix('\n').and_then(|line| line.parse().ok());
    let key: PublicKey = key.ok_or(Damage::file(PUBLIC_KEY, 0, "not a public key"))?;
    if trusted.is_some_and(|trusted| *trusted != key) {
        return Err(Damage::file(PUBLIC_KEY, 0, "not the key that was given").into());
    }
    // Auditors have no secret key, or may not read it.
    let secret = match read_text(dir, KEY) {
        Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => None,
        text => text?,
    };
    let is_ours = |line: &str| SecretKey::decode(line).is_some_and(|secret| secret.public() == key);
    if secret.is_some_and(|text| !text.strip_suffix('\n').is_some_and(is_ours)) {
        return Err(Damage::file(KEY, 0, "not the secret half of the public key").into());
    }
    Ok(key)
}

fn root_is(peaks: &Peaks, head: &SignedHead, what: &'static str, since: (u64, u64)) -> Result<(), Damage> {
    if head.root == peaks.root() {
        return Ok(());
    }
    Err(Damage { entries: Some(since.0..head.size), ..Damage::file(LOG, since.1, what) })
}

/// Opens a file that may be missing, with its length.
fn open(dir: &Path, name: &'static str) -> Result<Option<(File, u64)>, JournalError> {
    match File::open(dir.join(name)) {
        Ok(file) => {
            let length = length(&file, name)?;
            Ok(Some((file, length)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::io(name)(error)),
    }
}

/// A file that must be what is made from the log, as far as it goes.
struct Stored {
    name: &'static str,
    reader: Option<BufReader<Part>>,
    offset: u64,
    end: u64,
}

impl Stored {
    fn open(dir: &Path, name: &'static str) -> Result<Stored, JournalError> {
        let (reader, end) = match open(dir, name)? {
            Some((file, length)) => (Some(Part::new(Arc::new(file), 0, length)), length),
            None => (None, 0),
        };
        Ok(Stored { name, reader, offset: 0, end })
    }

    fn compare(&mut self, expected: &[u8], index: u64, what: &'static str) -> Result<(), JournalError> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let mut expected = expected;
        while !expected.is_empty() {
            let stored = reader.fill_buf().map_err(JournalError::io(self.name))?;
            let length = stored.len().min(expected.len());
            // It lags behind the log, and its last write may be torn.
            if length == 0 {
                break;
            }
            if let Some(at) = stored.iter().zip(expected).position(|(stored, expected)| stored != expected) {
                return Err(Damage::entry(self.name, self.offset + at as u64, index, what).into());
            }
            reader.consume(length);
            self.offset += length as u64;
            expected = &expected[length..];
        }
        Ok(())
    }

    fn ends(&self) -> Result<(), Damage> {
        if self.offset == self.end {
            return Ok(());
        }
        Err(Damage::file(self.name, self.offset, "goes beyond the end of the log"))
    }
}

/// The file of heads, in order.
struct Heads {
    reader: Option<BufReader<Part>>,
    key: PublicKey,
    offset: u64,
    count: u64,
    /// Of the last head read.
    size: u64,
}

impl Heads {
    fn open(dir: &Path, key: PublicKey) -> Result<Heads, JournalError> {
        let reader = open(dir, HEADS)?.map(|(file, length)| Part::new(Arc::new(file), 0, length));
        Ok(Heads { reader, key, offset: 0, count: 0, size: 0 })
    }

    fn next(&mut self) -> Result<Option<SignedHead>, JournalError> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let mut line = Vec::new();
        let read = reader.take(MAX_LINE).read_until(b'\n', &mut line).map_err(JournalError::io(HEADS))?;
        let Some(text) = line.strip_suffix(b"\n") else {
            if read as u64 == MAX_LINE {
                return Err(Damage::file(HEADS, self.offset, "not a signed head").into());
            }
            // Torn, or nothing.
            split_torn(&line, self.offset)?;
            return Ok(None);
        };
        let head = SignedHead::parse(text, self.offset, &self.key)?;
        if head.size <= self.size {
            return Err(Damage::file(HEADS, self.offset, "not larger than the head before").into());
        }
        self.offset += read as u64;
        self.count += 1;
        self.size = head.size;
        Ok(Some(head))
    }
}

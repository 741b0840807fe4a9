//! Reading and writing the files of a journal.

use crate::error::{Damage, JournalError};
use crate::files;
use crate::layout::{LOG, MAGIC, MAX_LINE, OFFSETS, TREE};
use crate::tree::Hash;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Opens a file for reading and writing, and makes it if need be.
pub(crate) fn open_file(dir: &Path, name: &str) -> Result<File, JournalError> {
    files::open_or_create(&dir.join(name)).map_err(JournalError::io(name))
}

pub(crate) fn length(file: &File, name: &str) -> Result<u64, JournalError> {
    Ok(file.metadata().map_err(JournalError::io(name))?.len())
}

pub(crate) fn read_node(tree: &File, index: u64) -> Result<Hash, JournalError> {
    let mut hash = [0; 32];
    tree.read_exact_at(&mut hash, 32 * index).map_err(JournalError::io(TREE))?;
    Ok(Hash(hash))
}

pub(crate) fn read_offset(offsets: &File, index: u64) -> Result<u64, JournalError> {
    let mut bytes = [0; 8];
    offsets.read_exact_at(&mut bytes, 8 * index).map_err(JournalError::io(OFFSETS))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Checks how the log begins, and begins it if need be; returns its length.
pub(crate) fn begin_log(log: &File) -> Result<u64, JournalError> {
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
pub(crate) fn check_magic(start: &[u8]) -> Result<(), Damage> {
    match start.iter().zip(MAGIC).position(|(byte, magic)| *byte != magic) {
        Some(at) => Err(Damage::file(LOG, at as u64, "not the log of a journal")),
        None => Ok(()),
    }
}

/// The text of a small file, if there is one.
pub(crate) fn read_text(dir: &Path, name: &str) -> Result<Option<String>, JournalError> {
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
pub(crate) fn write_whole(dir: &Path, name: &str, line: &str) -> Result<(), JournalError> {
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

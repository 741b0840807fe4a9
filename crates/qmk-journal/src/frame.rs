//! Frames of the log, and reading them in order.

use crate::error::{Damage, JournalError};
use crate::layout::{LOG, MAX_ENTRY};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes before an entry.
pub(crate) const HEADER: usize = 12;

/// Appends the frame of an entry of at most [`MAX_ENTRY`] bytes.
pub(crate) fn encode(entry: &[u8], frame: &mut Vec<u8>) {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&(entry.len() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&crc32fast::hash(entry).to_le_bytes());
    let check = crc32fast::hash(&header[..8]);
    header[8..].copy_from_slice(&check.to_le_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(entry);
}

/// A part of a file as a stream, without a cursor shared with other readers.
pub(crate) struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Part {
    pub(crate) fn new(file: Arc<File>, at: u64, end: u64) -> BufReader<Part> {
        BufReader::with_capacity(1 << 16, Part { file, at, end })
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..left], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A finding of a [`Scan`].
pub(crate) enum Frame {
    /// An entry, left in the buffer.
    Entry,
    /// The rest, this many bytes, is the beginning of a frame that was never written whole.
    Torn(u64),
    End,
}

/// Reads frames in order.
pub(crate) struct Scan {
    reader: BufReader<Part>,
    /// Of the next frame.
    pub(crate) index: u64,
    pub(crate) offset: u64,
    end: u64,
}

impl Scan {
    pub(crate) fn new(log: Arc<File>, index: u64, offset: u64, end: u64) -> Scan {
        Scan { reader: Part::new(log, offset, end), index, offset, end }
    }

    pub(crate) fn next(&mut self, entry: &mut Vec<u8>) -> Result<Frame, JournalError> {
        let left = self.end.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Frame::End);
        }
        if left < HEADER as u64 {
            return Ok(Frame::Torn(left));
        }
        let mut header = [0; HEADER];
        self.reader.read_exact(&mut header).map_err(JournalError::io(LOG))?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = word(0) as usize;
        if word(8) != crc32fast::hash(&header[..8]) || length > MAX_ENTRY {
            // A file system may have grown the file before a loss of power, and not filled it.
            if header == [0; HEADER] && self.only_zeros()? {
                return Ok(Frame::Torn(left));
            }
            let what = "the frame's header does not match its checksum";
            return Err(Damage::entry(LOG, self.offset, self.index, what).into());
        }
        if left - (HEADER as u64) < length as u64 {
            return Ok(Frame::Torn(left));
        }
        entry.resize(length, 0);
        self.reader.read_exact(entry).map_err(JournalError::io(LOG))?;
        if word(4) != crc32fast::hash(entry) {
            let what = "the entry does not match its checksum";
            return Err(Damage::entry(LOG, self.offset, self.index, what).into());
        }
        self.index += 1;
        self.offset += (HEADER + length) as u64;
        Ok(Frame::Entry)
    }

    fn only_zeros(&mut self) -> Result<bool, JournalError> {
        let mut bytes = [0; 4096];
        loop {
            match self.reader.read(&mut bytes) {
                Ok(0) => return Ok(true),
                Ok(read) if bytes[..read].iter().any(|byte| *byte != 0) => return Ok(false),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(JournalError::io(LOG)(e)),
            }
        }
    }
}

//! Names and bounds of a journal's files.

/// First bytes of the log.
pub(crate) const MAGIC: [u8; 8] = *b"QMKLOG1\n";

pub(crate) const LOG: &str = "log";
pub(crate) const TREE: &str = "tree";
pub(crate) const OFFSETS: &str = "offsets";
pub(crate) const HEADS: &str = "heads";
pub(crate) const KEY: &str = "key";
pub(crate) const PUBLIC_KEY: &str = "key.pub";
/// Bytes of the largest entry.
pub const MAX_ENTRY: usize = 32 << 20;
/// Bytes that no line of `heads` reaches.
pub(crate) const MAX_LINE: u64 = 1 << 10;
pub(crate) const WRONG_OFFSET: &str = "the offset is not that of the entry's frame";
pub(crate) const LOST_ENTRIES: &str = "the log ends before entries that a head has signed";

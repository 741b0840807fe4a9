//! Options of a journal.

use std::time::Duration;

/// What an appended entry survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however sudden. An append costs one write.
    #[default]
    Process,
    /// Loss of power. An append waits for the disk.
    Disk,
}

/// What [`Journal::open`](crate::Journal::open) reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// The whole log, checking all frames and offsets.
    #[default]
    All,
    /// The part after the last signed head. Damage before it shows when it is read.
    Tail,
}

/// Options of a journal.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What an appended entry survives.
    pub durability: Durability,
    /// What opening checks.
    pub check: Check,
    /// Entries whose hashes and offsets wait in memory, at most.
    pub batch: usize,
    /// New entries after which [`Journal::settle`](crate::Journal::settle) stores a head.
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

//! The journal: a durable log of events that is at the same time an append-only audit log.
//!
//! Entries are bytes. They are the leaves of the Merkle tree of [RFC 9162], section 2.1, whose root is signed from time
//! to time. The holder of a [`SignedHead`] can check later that nothing before it was changed or taken out, and whether
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
//! - An attacker who rewrites entries with their checksums and hashes is found by the next head, unless they have `key`
//!   also. An attacker who has it, or cuts the log and `heads` back together, is found by heads that were kept
//!   elsewhere: [`verify_against`].
//!
//! [RFC 9162]: https://www.rfc-editor.org/rfc/rfc9162#section-2.1
//! [`tlog`]: https://pkg.go.dev/golang.org/x/mod/sumdb/tlog#StoredHashIndex
//! [Crosby and Wallach]: https://www.usenix.org/legacy/event/sec09/tech/full_papers/crosby.pdf
#![forbid(unsafe_code)]

mod access;
mod error;
pub mod files;
mod frame;
mod head;
mod journal;
mod layout;
mod open;
mod options;
mod read;
mod tree;
mod verify;

pub use error::{Damage, JournalError};
pub use head::{NotAKey, ProvenEntry, PublicKey, SignedHead, verify_head};
pub use journal::{DueHead, Journal, Syncer};
pub use layout::MAX_ENTRY;
pub use open::Recovered;
pub use options::{Check, Durability, Options};
pub use read::{Entries, Reader};
pub use tree::{Hash, empty_root, leaf_hash, node_hash, verify_consistency, verify_inclusion};
pub use verify::{Progress, Verified, prove, scan, scan_from, verify, verify_against, verify_with};

//! The state that outlives a machine: jobs, results, sessions, and the audit log.
//!
//! Every event is an entry of the [journal](qmk_journal), appended before the client gets its reply. A
//! thread in the background takes the entries into a store of what is open, unfinished or ended, which is all that a
//! start reads, together with the few entries that the store has not taken in yet. Without the store it is made anew
//! from the journal.
//!
//! | in the directory | what |
//! |---|---|
//! | `journal/` | the journal |
//! | `store` | what its entries have led to |
//! | `sessions.key` | the secret that ids of sessions are made from |
//!
//! The id of a session is a hash of its number and the secret. So the journal, which auditors may read, has nothing
//! with which to act for another.

mod accounts;
mod dir_check;
pub(crate) mod directory;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod handle;
pub(crate) mod index;
mod inner;
mod open;
mod settler;
mod unsigned_tail;

pub use directory::{default_dir, journal_dir};
pub use error::StoreError;
pub use event::{Entry, Event, TokenRecord};
pub use unsigned_tail::unsigned_tail;

//! Why the store cannot be used.

use qmk_abi::rpc::{ErrorCode, RpcError};
use qmk_journal::JournalError;
use std::io;
use std::path::Path;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The journal failed.
    #[error("journal: {0}")]
    Journal(#[from] JournalError),
    /// The operating system refused.
    #[error("{file}: {source}")]
    Io {
        /// The file or directory.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The store's file failed.
    #[error("store: {0}")]
    Database(Box<redb::Error>),
    /// The store's file is not what it must be.
    #[error("store: {0}; it is made anew from the journal")]
    Damaged(String),
    /// The store's file is being made anew.
    #[error("store: it is being made anew from the journal; ask again later")]
    Remade,
    /// Something cannot be put into bytes, or made from what an entry has.
    #[error("a record of this cannot be made or read")]
    Corrupt,
    /// The store knows of entries that the journal does not have.
    #[error(
        "the store has taken in {settled} entries of the journal, which has only {entries}: the journal has been cut. \
         If that was intended, move the file `store` away"
    )]
    Ahead {
        /// Entries that the store has taken in.
        settled: u64,
        /// Entries that there are.
        entries: u64,
    },
    /// An entry that this version does not know.
    #[error("journal, entry {0}: written by another version of the server")]
    Version(u64),
    /// The directory is not the server's alone.
    #[error("{0}")]
    Unsafe(String),
    /// The machine is going down.
    #[error("the machine is going down")]
    Closed,
}

impl StoreError {
    pub(super) fn io(file: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let file = file.display().to_string();
        |source| StoreError::Io { file, source }
    }
}

macro_rules! database_errors {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for StoreError {
            fn from(e: redb::$error) -> Self {
                let e = redb::Error::from(e);
                if damaged(&e) { StoreError::Damaged(e.to_string()) } else { StoreError::Database(Box::new(e)) }
            }
        })*
    };
}

database_errors!(DatabaseError, StorageError, TableError, TransactionError, CommitError);

impl From<StoreError> for RpcError {
    fn from(e: StoreError) -> Self {
        RpcError::new(ErrorCode::Internal, format!("this cannot be recorded, and so is not done: {e}"))
    }
}

/// The store names an entry that is not what it should be.
pub(super) fn misled() -> StoreError {
    StoreError::Damaged("it is wrong about an entry".into())
}

/// Whether it is the contents of the file that are wrong.
fn damaged(e: &redb::Error) -> bool {
    match e {
        redb::Error::Io(e) => matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
        redb::Error::PreviousIo | redb::Error::Backend(_) | redb::Error::DatabaseAlreadyOpen => false,
        _ => true,
    }
}

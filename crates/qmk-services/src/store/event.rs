//! The events in the journal's entries. An entry is a byte for the version of its form, and an [`Entry`] as postcard.

use qmk_abi::rpc::{Format, JobResult, JobStatus};
use qmk_journal::MAX_ENTRY;
use qmk_token::Grant;
use serde::{Deserialize, Serialize};

/// Of the form of entries. Variants may be added at the end; anything else takes another version.
const VERSION: u8 = 2;

/// Bytes of an account that one entry takes.
pub(crate) const PART: usize = MAX_ENTRY / 2;

/// One event, and when and on whose behalf it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Milliseconds since 1970, by the machine's clock.
    pub at_ms: u64,
    /// Whose doing it was; none for the machine's own.
    #[serde(borrow)]
    pub tenant: Option<&'a str>,
    /// The event.
    pub event: Event<'a>,
}

/// An event. Sessions have numbers here: their ids, which let a reader act in them, stay out of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event<'a> {
    /// A server has opened the journal.
    Booted {
        /// Its version.
        version: &'a str,
    },
    /// A session was opened, and this was decided about the capabilities that it asked for.
    SessionOpened {
        /// Number of the session.
        session: u64,
        /// User id of the process that asked, where it is known.
        uid: Option<u32>,
        /// Capabilities that it holds.
        granted: Vec<String>,
        /// Capabilities that it was refused.
        denied: Vec<String>,
        /// The token that it was opened by, if it was.
        token: Option<TokenRecord>,
    },
    /// A session was closed, and what it had is gone.
    SessionClosed {
        /// Number of the session.
        session: u64,
    },
    /// A job was taken on.
    Submitted {
        /// Number of the job.
        job: u64,
        /// Number of its session.
        session: u64,
        /// Program text.
        source: &'a str,
        /// Language of the text.
        format: Format,
        /// How to run it, a [`qmk_abi::rpc::Policy`] in JSON.
        policy: &'a str,
    },
    /// A job's first instruction was issued.
    Started {
        /// Number of the job.
        job: u64,
    },
    /// The beginning of the account of a job whose end comes later: it is longer than an entry.
    Part {
        /// Number of the job.
        job: u64,
        /// Number of the part, from 0.
        part: u32,
        /// The part.
        text: &'a str,
    },
    /// A job has ended.
    Ended {
        /// Number of the job.
        job: u64,
        /// Number of its session.
        session: u64,
        /// Whether it was cancelled; no other end takes the place of this one.
        cancelled: bool,
        /// Entries that hold the parts of its account before the last.
        parts: Vec<u64>,
        /// The last part of its account, an `Account` in JSON.
        end: &'a str,
        /// Its line in a list of jobs, a [`qmk_abi::rpc::JobEntry`] in JSON.
        brief: &'a str,
    },
    /// A request was refused for want of a capability, a quota, resources or identity. The entry is a tenant's if
    /// whoever asked may act for it.
    Refused {
        /// Number of the session, if it had one.
        session: Option<u64>,
        /// Method.
        method: &'a str,
        /// Error code.
        code: i32,
        /// User id of the process that asked, where it is known.
        uid: Option<u32>,
        /// The beginning of the name of the tenant that it said it acts for.
        claimed: Option<&'a str>,
    },
    /// More requests of a user were refused than are recorded one by one.
    RefusalsLeftOut {
        /// User id of the process that asked, where it is known.
        uid: Option<u32>,
        /// How many have no entry.
        count: u64,
    },
}

/// A token, and the key that signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its grant.
    pub grant: Grant,
    /// [`Key::fingerprint`](qmk_token::Key::fingerprint) of its key.
    pub key: u64,
}

/// The account of a job that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Without the events, which the result has.
    pub(crate) status: JobStatus,
    pub(crate) result: Option<JobResult>,
}

impl<'a> Entry<'a> {
    /// The entry in the journal's bytes; none for one of another version.
    pub fn decode(bytes: &'a [u8]) -> Option<Entry<'a>> {
        let (version, entry) = bytes.split_first()?;
        (*version == VERSION).then(|| postcard::from_bytes(entry).ok()).flatten()
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_extend(self, vec![VERSION])
    }
}

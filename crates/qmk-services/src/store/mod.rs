//! What outlives the machine: jobs, their results, sessions, and an account of all that was asked and decided.
//!
//! Everything that happens is an entry of the [journal](qmk_journal), appended before whoever asked is told. A
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
//! The id of a session is a hash of its number and the secret. So the journal, which auditors may read, has nothing with
//! which to act for another.

mod event;
mod place;
mod settled;
mod unsigned;

pub(crate) use event::End;
pub use event::{Entry, Event, TokenRecord};
pub use unsigned::unsigned;

use crate::refusals::Refusee;
use crate::sessions::random_id;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::{Condvar, Mutex, MutexGuard};
use qmk_abi::rpc::*;
use qmk_journal::{Check, Journal, JournalError, MAX_ENTRY, Options, SignedHead, files};
pub(crate) use settled::SessionRecord;
use settled::{Settled, Source};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

const JOURNAL: &str = "journal";
const STORE: &str = "store";
const SECRET: &str = "sessions.key";

/// Bytes that are read for a list of jobs, about.
const LISTED_BYTES: usize = 16 << 20;

/// How long entries wait for others, to be settled together.
const BATCH: Duration = Duration::from_millis(50);
/// Heads are stored after so many entries, or so long after one.
const HEAD_ENTRIES: u64 = 1 << 16;
const HEAD_INTERVAL: Duration = Duration::from_secs(10);
/// The settler tries again so long after a failure, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of an account that one entry takes.
const PART: usize = MAX_ENTRY / 2;

/// Ended jobs that the store keeps of each tenant; the oldest go first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) jobs: u64,
    pub(crate) bytes: u64,
}

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
    fn io(file: &Path) -> impl FnOnce(io::Error) -> StoreError {
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

/// A job that was taken on.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) tenant: String,
    pub(crate) session: u64,
    pub(crate) job: u64,
    pub(crate) shots: u64,
    pub(crate) priority: i32,
    pub(crate) started: Instant,
    /// Set once the journal has it; before, it does not end.
    pub(crate) recorded: Arc<AtomicBool>,
    /// Whether nothing is recorded of it.
    pub(crate) silent: bool,
}

/// A job to be run again.
pub(crate) struct Unfinished {
    pub(crate) job: u64,
    pub(crate) session: u64,
    pub(crate) submit: JobSubmit,
}

/// The store of a machine, or nothing for a machine that keeps nothing.
#[derive(Clone, Default)]
pub(crate) struct Store(Option<Arc<Inner>>);

struct Inner {
    secret: [u8; 32],
    /// None once closed.
    journal: Mutex<Option<Journal>>,
    settled: Settled,
    retention: Retention,
    /// Entries that ended jobs, of those that are not settled.
    ends: Mutex<BTreeMap<u64, u64>>,
    next_session: AtomicU64,
    /// Held by whoever settles.
    settling: Mutex<()>,
    /// Whether there is something to settle.
    dirty: AtomicBool,
    stopping: Mutex<bool>,
    wake: Condvar,
    settler: Mutex<Option<JoinHandle<()>>>,
    /// What was last complained of.
    complaint: Mutex<String>,
}

impl Store {
    /// Opens the store in a directory, which is made if need be, and brings it up to date with its journal.
    pub(crate) fn open(dir: &Path, retention: Retention) -> Result<Store, StoreError> {
        // A journal is as long as the machine is old; `qmk audit verify` reads all of it.
        let options = Options {
            check: Check::Tail,
            // Heads are the settler's.
            head_entries: u64::MAX,
            head_interval: Duration::MAX,
            ..Options::default()
        };
        place::check(dir, "the directory")?;
        place::check(&dir.join(JOURNAL), "the directory `journal` in it")?;
        // Makes the directory, too, and locks it.
        let (journal, recovered) = Journal::open_with(&dir.join(JOURNAL), options)?;
        if recovered.torn > 0 {
            eprintln!("qmk: the journal ended in {} bytes of an unfinished entry, which were cut off", recovered.torn);
        }
        let root = |size| Ok(journal.root(size)?);
        let source = Source { origin: journal.public_key().origin(), entries: journal.len(), root: &root };
        let settled = Settled::open(&dir.join(STORE), &source)?;
        let (secret, made) = secret(dir)?;
        let inner = Arc::new(Inner {
            secret,
            journal: Mutex::new(Some(journal)),
            settled,
            retention,
            ends: Mutex::default(),
            next_session: AtomicU64::new(0),
            settling: Mutex::default(),
            dirty: AtomicBool::new(false),
            stopping: Mutex::default(),
            wake: Condvar::new(),
            settler: Mutex::default(),
            complaint: Mutex::default(),
        });
        inner.record(None, Event::Booted { version: env!("CARGO_PKG_VERSION") })?;
        inner.settle()?;
        // Whatever comes next then follows a head, and its absence shows.
        inner.store_head()?;
        if made && !inner.settled.sessions()?.is_empty() {
            let file = dir.join(SECRET);
            eprintln!(
                "qmk: {}: it was missing, and was made anew: ids of sessions that were given out before are not known any more",
                file.display()
            );
        }
        inner.next_session.store(inner.settled.next().1, Ordering::Relaxed);
        let settler = inner.clone();
        let thread = std::thread::Builder::new().name("settle".into()).spawn(move || settler.run());
        *inner.settler.lock() = Some(thread.map_err(StoreError::io(dir))?);
        Ok(Store(Some(inner)))
    }

    pub(crate) fn keeps(&self) -> bool {
        self.0.is_some()
    }

    /// Number and id of a new session.
    pub(crate) fn new_session(&self) -> Result<(u64, String), RpcError> {
        if let Some(inner) = &self.0 {
            let number = inner.next_session.fetch_add(1, Ordering::Relaxed);
            return Ok((number, self.session_id(number)));
        }
        Ok((0, random_id()?))
    }

    /// The id of the session of this number.
    pub(crate) fn session_id(&self, number: u64) -> String {
        let secret = self.0.as_ref().map_or([0; 32], |inner| inner.secret);
        let hash = Sha256::new().chain_update(secret).chain_update(number.to_le_bytes()).finalize();
        hash[..16].iter().fold("sess_".into(), |id, byte| format!("{id}{byte:02x}"))
    }

    fn record(&self, tenant: &str, event: Event<'_>) -> Result<(), StoreError> {
        self.0.as_ref().map_or(Ok(()), |inner| inner.record(Some(tenant), event).map(drop))
    }

    /// Records what cannot be refused for want of a record.
    fn note<'a>(&self, tenant: impl Into<Option<&'a str>>, event: Event<'_>) {
        let Some(inner) = &self.0 else { return };
        if let Err(e) = inner.record(tenant.into(), event) {
            inner.complain(&e);
        }
    }

    pub(crate) fn opened(
        &self,
        tenant: &str,
        session: u64,
        uid: Option<u32>,
        granted: &[String],
        denied: &[String],
        token: Option<&TokenRecord>,
    ) -> Result<(), StoreError> {
        let (granted, denied, token) = (granted.to_vec(), denied.to_vec(), token.cloned());
        self.record(tenant, Event::SessionOpened { session, uid, granted, denied, token })
    }

    /// Records that a session is to be closed.
    pub(crate) fn try_closed(&self, tenant: &str, session: u64) -> Result<(), StoreError> {
        self.record(tenant, Event::SessionClosed { session })
    }

    pub(crate) fn closed(&self, tenant: &str, session: u64) {
        self.note(tenant, Event::SessionClosed { session });
    }

    pub(crate) fn submitted(&self, ticket: &Ticket, p: &JobSubmit) -> Result<(), StoreError> {
        if self.keeps() {
            let policy = serde_json::to_string(&p.policy).map_err(|_| StoreError::Corrupt)?;
            let Ticket { job, session, .. } = *ticket;
            let (source, format) = (p.source.as_str(), p.format);
            self.record(&ticket.tenant, Event::Submitted { job, session, source, format, policy: &policy })?;
        }
        ticket.recorded.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn started(&self, ticket: &Ticket) {
        if !ticket.silent {
            self.note(ticket.tenant.as_str(), Event::Started { job: ticket.job });
        }
    }

    /// Records the end of a job. If that fails, the job runs again after a restart, to the same end.
    pub(crate) fn ended(&self, ticket: &Ticket, status: JobStatus, result: Option<&JobResult>) {
        let Some(inner) = &self.0 else { return };
        if let Err(e) = self.try_ended(ticket, status, result) {
            inner.complain(&e);
        }
    }

    pub(crate) fn try_ended(
        &self,
        ticket: &Ticket,
        mut status: JobStatus,
        result: Option<&JobResult>,
    ) -> Result<(), StoreError> {
        let Some(inner) = self.0.as_ref().filter(|_| !ticket.silent) else { return Ok(()) };
        let &Ticket { job, session, .. } = ticket;
        status.events = None;
        let cancelled = status.state == JobState::Cancelled;
        let brief = JobEntry {
            session_id: String::new(),
            job_id: status.job_id.clone(),
            state: status.state,
            shots: ticket.shots,
            priority: ticket.priority,
            progress: status.progress,
            age_ms: ticket.started.elapsed().as_millis() as u64,
        };
        let brief = serde_json::to_string(&brief).map_err(|_| StoreError::Corrupt)?;
        let account = serde_json::to_string(&EndRef { status: &status, result }).map_err(|_| StoreError::Corrupt)?;
        let (mut rest, mut parts) = (account.as_str(), Vec::new());
        while rest.len() > PART {
            let at = (0..=PART).rev().find(|&at| rest.is_char_boundary(at)).unwrap_or(0);
            let (text, more) = rest.split_at(at);
            let part = Event::Part { job, part: parts.len() as u32, text };
            parts.push(inner.record(Some(&ticket.tenant), part)?);
            rest = more;
        }
        let (end, brief) = (rest, brief.as_str());
        let ended = Event::Ended { job, session, cancelled, parts, end, brief };
        let entry = inner.record(Some(&ticket.tenant), ended)?;
        let mut ends = inner.ends.lock();
        if cancelled || !ends.contains_key(&job) {
            ends.insert(job, entry);
        }
        Ok(())
    }

    pub(crate) fn refused(
        &self,
        who: &Refusee,
        claimed: Option<&str>,
        session: Option<u64>,
        method: &str,
        code: ErrorCode,
    ) {
        let (uid, code) = (who.uid, code.code());
        self.note(who.tenant.as_deref(), Event::Refused { session, method, code, uid, claimed });
    }

    pub(crate) fn left_out(&self, who: &Refusee, count: u64) {
        self.note(who.tenant.as_deref(), Event::RefusalsLeftOut { uid: who.uid, count });
    }

    /// The account of an ended job of a session.
    pub(crate) fn end(&self, session: u64, job: u64) -> Result<Option<End>, StoreError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        let recent = inner.ends.lock().get(&job).copied();
        let account = match recent {
            Some(entry) => inner.account(session, job, entry)?,
            None => inner.settled_account(session, job)?,
        };
        let Some(account) = account else { return Ok(None) };
        let mut end: End = serde_json::from_str(&account).map_err(|_| StoreError::Corrupt)?;
        end.status.events = end.result.as_ref().map(|r| r.last_shot.clone());
        Ok(Some(end))
    }

    /// Sessions that were open.
    pub(crate) fn sessions(&self) -> Result<Vec<(u64, SessionRecord)>, StoreError> {
        self.0.as_ref().map_or(Ok(Vec::new()), |inner| inner.settled.sessions())
    }

    /// Whether a session has jobs, as far as they are settled.
    pub(crate) fn has_jobs(&self, session: u64) -> bool {
        // If it cannot be told, it is better to keep it.
        self.0.as_ref().is_some_and(|inner| {
            inner.settled.has_jobs(session).unwrap_or_else(|_| {
                inner.wake();
                true
            })
        })
    }

    /// Entries of the journal.
    pub(crate) fn entries(&self) -> u64 {
        self.0.as_ref().and_then(|inner| Some(inner.journal.lock().as_ref()?.len())).unwrap_or(0)
    }

    /// The latest ended jobs of a tenant, with the numbers of their sessions.
    pub(crate) fn recent(&self, tenant: &str, most: usize) -> Result<Vec<(u64, JobEntry)>, StoreError> {
        self.0.as_ref().map_or(Ok(Vec::new()), |inner| inner.recent(tenant, most))
    }

    /// Jobs that have not ended, each read when it is asked for.
    pub(crate) fn unfinished(&self) -> Result<impl Iterator<Item = Result<Unfinished, StoreError>>, StoreError> {
        let inner = self.0.clone();
        let jobs = inner.as_ref().map_or(Ok(Vec::new()), |inner| inner.settled.unfinished())?;
        let read = move |job| {
            let Some(entry) = inner.as_ref().map_or(Ok(None), |inner| inner.settled.program(job))? else {
                return Ok(None);
            };
            let Some(Entry { event: Event::Submitted { session, source, format, policy, .. }, .. }) =
                Entry::decode(&entry)
            else {
                return Err(StoreError::Corrupt);
            };
            let policy = serde_json::from_str(policy).map_err(|_| StoreError::Corrupt)?;
            let submit = JobSubmit { session_id: String::new(), source: source.into(), format, policy };
            Ok(Some(Unfinished { job, session, submit }))
        };
        Ok(jobs.into_iter().filter_map(move |job| read(job).transpose()))
    }

    /// A number that no job has had.
    pub(crate) fn next_job(&self) -> Result<u64, StoreError> {
        self.0.as_ref().map_or(Ok(1), |inner| Ok(inner.settled.next().0))
    }

    fn audited(&self) -> Result<&Inner, RpcError> {
        let message = "an audit log is not available on this machine; start qmk-server with --data-dir";
        self.0.as_deref().ok_or_else(|| RpcError::new(ErrorCode::MethodNotFound, message))
    }

    /// A head of all entries, which is on disk.
    pub(crate) fn head(&self) -> Result<AuditHead, RpcError> {
        let failed = |e: StoreError| RpcError::new(ErrorCode::Internal, format!("audit log: {e}"));
        let (head, key) = self.audited()?.store_head().map_err(failed)?;
        Ok(AuditHead {
            origin: head.origin.clone(),
            size: head.size,
            root: head.root.to_string(),
            signature: STANDARD.encode(head.signature),
            key,
        })
    }

    /// An entry of a tenant with the proof that the log has it. Others' entries are like those that there are not.
    pub(crate) fn prove(&self, tenant: &str, index: u64) -> Result<AuditProof, RpcError> {
        let none =
            || RpcError::new(ErrorCode::AccessDenied, format!("the tenant has no entry {index} in the audit log"));
        let failed = |e: JournalError| RpcError::new(ErrorCode::Internal, format!("audit log: {e}"));
        let inner = self.audited()?;
        let entry = {
            let journal = inner.journal.lock();
            let journal = journal.as_ref().ok_or_else(none)?;
            match journal.read(index) {
                Ok(entry) => entry,
                Err(JournalError::OutOfRange { .. }) => return Err(none()),
                Err(e) => return Err(failed(e)),
            }
        };
        if Entry::decode(&entry).and_then(|e| e.tenant) != Some(tenant) {
            return Err(none());
        }
        let (head, entry) = (self.head()?, STANDARD.encode(&entry));
        let journal = inner.journal.lock();
        let path = journal.as_ref().ok_or_else(none)?.inclusion(index, head.size).map_err(failed)?;
        let path = path.iter().map(ToString::to_string).collect();
        Ok(AuditProof { index, entry, path, head })
    }

    /// Settles everything and closes the journal under a signed head.
    pub(crate) fn close(&self) -> Result<(), StoreError> {
        let Some(inner) = &self.0 else { return Ok(()) };
        *inner.stopping.lock() = true;
        inner.wake.notify_all();
        if let Some(settler) = inner.settler.lock().take() {
            // A panic of the settler has been reported by then; the journal has all that it has not settled.
            let _ = settler.join();
        }
        if let Err(e) = inner.settle() {
            // The next start takes in what the journal has.
            inner.complain(&e);
        }
        let journal = inner.journal.lock().take();
        journal.map_or(Ok(()), |journal| Ok(journal.close()?))
    }
}

/// The account of an ended job.
#[derive(serde::Serialize)]
struct EndRef<'a> {
    status: &'a JobStatus,
    result: Option<&'a JobResult>,
}

impl Inner {
    fn record(&self, tenant: Option<&str>, event: Event<'_>) -> Result<u64, StoreError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let entry = Entry { at_ms, tenant, event }.encode().map_err(|_| StoreError::Corrupt)?;
        let index = self.journal.lock().as_mut().ok_or(StoreError::Closed)?.append(&entry)?;
        self.wake();
        Ok(index)
    }

    /// Has the settler look after things.
    fn wake(&self) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            // Taken so that the settler is not between looking and waiting.
            drop(self.stopping.lock());
            self.wake.notify_all();
        }
    }

    /// Says on standard error what goes wrong in the background, once for each kind.
    fn complain(&self, e: &StoreError) {
        let text = e.to_string();
        let mut last = self.complaint.lock();
        if *last != text && !matches!(e, StoreError::Closed) {
            eprintln!("qmk: {text}");
            *last = text;
        }
    }

    /// The settler.
    fn run(&self) {
        let mut stopping = self.stopping.lock();
        let mut pause = FIRST_PAUSE;
        while !*stopping {
            if !self.dirty.load(Ordering::Acquire) {
                let journal = self.journal.lock();
                let unsigned = journal.as_ref().is_some_and(|j| j.len() > j.signed().0);
                drop(journal);
                match unsigned {
                    true => _ = self.wake.wait_for(&mut stopping, HEAD_INTERVAL / 10),
                    false => self.wake.wait(&mut stopping),
                }
            }
            if *stopping {
                break;
            }
            // Others come while this waits; what wakes it before is the end.
            self.wake.wait_for(&mut stopping, BATCH);
            let settled = MutexGuard::unlocked(&mut stopping, || self.settle());
            let Err(e) = settled else {
                pause = FIRST_PAUSE;
                continue;
            };
            self.complain(&e);
            // Neither the journal nor memory has lost anything. It may be better later.
            self.dirty.store(true, Ordering::Release);
            let until = Instant::now() + pause;
            while !*stopping && !self.wake.wait_until(&mut stopping, until).timed_out() {}
            pause = (2 * pause).min(LAST_PAUSE);
        }
    }

    /// Takes what the journal has into the store, and stores a head if one is due.
    fn settle(&self) -> Result<(), StoreError> {
        let _one = self.settling.lock();
        self.dirty.store(false, Ordering::Release);
        let taken = self.take_in();
        // Heads are of the journal, whatever the store does.
        let signed = self.sign_if_due();
        taken.and(signed)
    }

    /// Brings the store up to date, and mends it before if it has to be.
    fn take_in(&self) -> Result<(), StoreError> {
        let mut mended = false;
        loop {
            match self.catch_up() {
                Err(StoreError::Damaged(_)) if !mended => mended = true,
                done => return done,
            }
        }
    }

    fn catch_up(&self) -> Result<(), StoreError> {
        let Some(target) = self.mend()? else { return Ok(()) };
        while self.settled.position() < target {
            let (entries, syncer) = {
                let journal = self.journal.lock();
                let Some(journal) = journal.as_ref() else { return Ok(()) };
                (journal.entries(self.settled.position())?, journal.syncer())
            };
            // The store must not know of what the journal may lose.
            let synced = syncer.sync();
            if synced.is_err()
                && let Some(journal) = self.journal.lock().as_mut()
            {
                journal.synced(synced)?;
            }
            let root = |size| Ok(self.journal.lock().as_ref().ok_or(StoreError::Closed)?.root(size)?);
            self.settled.apply(entries, self.retention, &root)?;
            let position = self.settled.position();
            self.ends.lock().retain(|_, entry| *entry >= position);
        }
        Ok(())
    }

    /// Makes the store's file usable again if it is not; returns the journal's length, if it is open.
    fn mend(&self) -> Result<Option<u64>, StoreError> {
        let root = |size| Ok(self.journal.lock().as_ref().ok_or(StoreError::Closed)?.root(size)?);
        let source = {
            let journal = self.journal.lock();
            let Some(journal) = journal.as_ref() else { return Ok(None) };
            Source { origin: journal.public_key().origin(), entries: journal.len(), root: &root }
        };
        self.settled.repair(&source)?;
        Ok(Some(source.entries))
    }

    fn sign_if_due(&self) -> Result<(), StoreError> {
        let due = {
            let journal = self.journal.lock();
            journal.as_ref().is_some_and(|journal| {
                let (signed, ago) = journal.signed();
                let new = journal.len() - signed;
                new >= HEAD_ENTRIES || new > 0 && ago >= HEAD_INTERVAL
            })
        };
        if due { self.store_head().map(drop) } else { Ok(()) }
    }

    /// Stores a head of all entries without holding up whoever appends; returns it with the key that verifies it.
    fn store_head(&self) -> Result<(SignedHead, String), StoreError> {
        let due = {
            let mut journal = self.journal.lock();
            let journal = journal.as_mut().ok_or(StoreError::Closed)?;
            match journal.begin_head()? {
                Some(due) => due,
                None => return Ok((journal.head(), journal.public_key().to_string())),
            }
        };
        let synced = due.sync();
        let mut journal = self.journal.lock();
        let journal = journal.as_mut().ok_or(StoreError::Closed)?;
        let head = due.head.clone();
        journal.finish_head(due, synced)?;
        Ok((head, journal.public_key().to_string()))
    }

    /// The account of an ended job of a session, found with the store's help. If that fails, it waits until the store
    /// has been mended.
    fn settled_account(&self, session: u64, job: u64) -> Result<Option<String>, StoreError> {
        let find = || match self.settled.end(session, job)? {
            Some(entry) => self.account(session, job, entry),
            None => Ok(None),
        };
        let mut found = find();
        for _ in 0..2 {
            match &found {
                Err(e @ (StoreError::Damaged(_) | StoreError::Database(_))) => {
                    self.settled.note(e);
                    let _one = self.settling.lock();
                    self.mend()?;
                }
                Err(StoreError::Remade) => self.settle()?,
                _ => break,
            }
            found = find();
        }
        found.inspect_err(|_| self.wake())
    }

    /// An entry that the store says there is.
    fn entry(&self, index: u64) -> Result<Vec<u8>, StoreError> {
        let reader = self.journal.lock().as_ref().ok_or(StoreError::Closed)?.reader(index);
        match reader {
            Err(JournalError::OutOfRange { .. }) => Err(misled()),
            reader => Ok(reader?.read()?),
        }
    }

    fn recent(&self, tenant: &str, most: usize) -> Result<Vec<(u64, JobEntry)>, StoreError> {
        let unsettled = self.ends.lock().values().copied().collect::<Vec<_>>();
        let settled = self.settled.recent(tenant, most)?;
        let entries: BTreeSet<u64> = unsettled.into_iter().chain(settled).collect();
        let (mut found, mut left) = (Vec::new(), LISTED_BYTES);
        for entry in entries.into_iter().rev() {
            let bytes = self.entry(entry)?;
            left = left.saturating_sub(bytes.len());
            let decoded = Entry::decode(&bytes).ok_or(StoreError::Version(entry))?;
            if let (Event::Ended { session, brief, .. }, true) = (decoded.event, decoded.tenant == Some(tenant)) {
                found.push((session, serde_json::from_str(brief).map_err(|_| StoreError::Corrupt)?));
            }
            if left == 0 || found.len() == most {
                break;
            }
        }
        Ok(found)
    }

    /// The account in the entry that ended a job of a session.
    fn account(&self, of: u64, ended: u64, entry: u64) -> Result<Option<String>, StoreError> {
        let bytes = self.entry(entry)?;
        let decoded = Entry::decode(&bytes).ok_or(StoreError::Version(entry))?;
        let Event::Ended { job, session, parts, end, .. } = decoded.event else { return Err(misled()) };
        if job != ended {
            return Err(misled());
        }
        if session != of {
            return Ok(None);
        }
        let mut account = String::new();
        for index in parts {
            let bytes = self.entry(index)?;
            let Some(Entry { event: Event::Part { text, .. }, .. }) = Entry::decode(&bytes) else {
                return Err(StoreError::Version(index));
            };
            account += text;
        }
        Ok(Some(account + end))
    }
}

/// The store names an entry that is not what it should be.
fn misled() -> StoreError {
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

/// Where a server that listens on this socket keeps its state unless it is told: a directory of the socket's own below
/// `$XDG_STATE_HOME/qmk`, else `~/.local/state/qmk`; none without a home.
pub fn default_dir(socket: &Path) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let socket = std::path::absolute(socket).ok()?;
    let hash = Sha256::digest(socket.as_os_str().as_encoded_bytes());
    Some(state.join("qmk").join(hash[..8].iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}"))))
}

/// The directory of a machine's journal, given that or the machine's.
pub fn journal_dir(dir: &Path) -> PathBuf {
    let inner = dir.join(JOURNAL);
    if inner.is_dir() { inner } else { dir.into() }
}

/// Reads the secret, or makes one; says whether it did.
fn secret(dir: &Path) -> Result<([u8; 32], bool), StoreError> {
    let path = dir.join(SECRET);
    match files::open(&path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(64).read_to_end(&mut bytes).map_err(StoreError::io(&path))?;
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not a secret of 32 bytes");
            Ok((bytes.try_into().map_err(|_| StoreError::io(&path)(wrong()))?, false))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut secret = [0; 32];
            let mut made = || {
                getrandom::fill(&mut secret).map_err(|e| io::Error::other(e.to_string()))?;
                let new = path.with_extension("new");
                let mut file = files::create_new(&new)?;
                file.write_all(&secret)?;
                file.sync_all()?;
                std::fs::rename(&new, &path)?;
                File::open(dir)?.sync_all()
            };
            made().map_err(StoreError::io(&path))?;
            Ok((secret, true))
        }
        Err(e) => Err(StoreError::io(&path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settled::tests::FULL;

    #[test]
    fn a_full_disk_stops_settling_until_there_is_room_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Retention { jobs: 10, bytes: 1 << 20 }).unwrap();
        let inner = store.0.as_ref().unwrap();
        store.opened("t", 1, None, &[], &[], None).unwrap();
        let started = Instant::now();
        let (recorded, priority) = (Arc::default(), 0);
        let ticket =
            Ticket { tenant: "t".into(), session: 1, job: 1, shots: 1, priority, started, recorded, silent: false };
        let submit =
            JobSubmit { session_id: String::new(), source: "x".into(), format: Format::Asm, policy: Policy::default() };
        store.submitted(&ticket, &submit).unwrap();
        let error = Some("why".to_string());
        let (job_id, state, progress) = ("job_1".into(), JobState::Failed, Progress::default());
        let status = JobStatus { job_id, state, progress, events: None, telemetry: None, error: error.clone() };
        store.try_ended(&ticket, status, None).unwrap();
        inner.settle().unwrap();

        FULL.store(true, Ordering::Relaxed);
        for session in 2..HEAD_ENTRIES + 2 {
            store.opened("t", session, None, &[], &[], None).unwrap();
        }
        let e = inner.settle().unwrap_err();
        assert!(matches!(e, StoreError::Database(_)), "{e}");
        // All is under a head, and what was settled is answered.
        assert!(inner.journal.lock().as_ref().unwrap().signed().0 > HEAD_ENTRIES);
        for _ in 0..3 {
            inner.settle().unwrap_err();
            assert_eq!(store.end(1, 1).unwrap().unwrap().status.error, error);
        }
        FULL.store(false, Ordering::Relaxed);
        inner.settle().unwrap();
        assert_eq!(inner.settled.position(), store.entries());
        assert_eq!(store.sessions().unwrap().len() as u64, HEAD_ENTRIES + 1);
        // Only what is behind fails at the end, and a start makes up for it.
        store.closed("t", 7);
        FULL.store(true, Ordering::Relaxed);
        store.close().unwrap();
        FULL.store(false, Ordering::Relaxed);
        drop(store);
        let store = Store::open(dir.path(), Retention { jobs: 10, bytes: 1 << 20 }).unwrap();
        assert_eq!(store.sessions().unwrap().len() as u64, HEAD_ENTRIES);
        assert_eq!(store.end(1, 1).unwrap().unwrap().status.error, error);
        assert!(!dir.path().join("store.damaged").exists());
    }
}

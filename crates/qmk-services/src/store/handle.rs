//! The store as the services see it.

use super::error::StoreError;
use super::event::{Account, Entry, Event, PART, TokenRecord};
use super::index::StoredSession;
use super::inner::Inner;
use crate::model::refusee::Refusee;
use crate::model::session::random_id;
use crate::model::ticket::Ticket;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qmk_abi::rpc::*;
use qmk_journal::JournalError;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A job to be run again.
pub(crate) struct Unfinished {
    pub(crate) job: u64,
    pub(crate) session: u64,
    pub(crate) submit: JobSubmit,
}

/// The store of a machine, or nothing for a machine that keeps nothing.
#[derive(Clone, Default)]
pub(crate) struct Store(pub(super) Option<Arc<Inner>>);

impl Store {
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

    /// Records an event that has happened already: a failure is reported, and changes nothing.
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
        let account =
            serde_json::to_string(&AccountRef { status: &status, result }).map_err(|_| StoreError::Corrupt)?;
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
    pub(crate) fn end(&self, session: u64, job: u64) -> Result<Option<Account>, StoreError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        let recent = inner.ends.lock().get(&job).copied();
        let account = match recent {
            Some(entry) => inner.account(session, job, entry)?,
            None => inner.settled_account(session, job)?,
        };
        let Some(account) = account else { return Ok(None) };
        let mut end: Account = serde_json::from_str(&account).map_err(|_| StoreError::Corrupt)?;
        end.status.events = end.result.as_ref().map(|r| r.last_shot.clone());
        Ok(Some(end))
    }

    /// Sessions that were open.
    pub(crate) fn sessions(&self) -> Result<Vec<(u64, StoredSession)>, StoreError> {
        self.0.as_ref().map_or(Ok(Vec::new()), |inner| inner.index.sessions())
    }

    /// Whether a session has jobs, as far as they are settled.
    pub(crate) fn has_jobs(&self, session: u64) -> bool {
        // If the index cannot be read, the session is kept.
        self.0.as_ref().is_some_and(|inner| {
            inner.index.has_jobs(session).unwrap_or_else(|_| {
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
        let jobs = inner.as_ref().map_or(Ok(Vec::new()), |inner| inner.index.unfinished())?;
        let read = move |job| {
            let Some(entry) = inner.as_ref().map_or(Ok(None), |inner| inner.index.program(job))? else {
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
        self.0.as_ref().map_or(Ok(1), |inner| Ok(inner.index.next().0))
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
}

/// The account of an ended job.
#[derive(serde::Serialize)]
struct AccountRef<'a> {
    status: &'a JobStatus,
    result: Option<&'a JobResult>,
}

//! What the journal's entries have led to, so that they need not be read again.

use super::event::{Entry, Event};
use super::{Retention, StoreError, brief};
use crate::journal::Entries;
use qmk_abi::rpc::JobEntry;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, Table, TableDefinition as Definition, WriteTransaction,
};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory for pages of the file.
const CACHE: usize = 16 << 20;
/// What one transaction takes in, about.
const BATCH_ENTRIES: usize = 1 << 13;
const BATCH_BYTES: usize = 32 << 20;

const META: Definition<'_, &str, u64> = Definition::new("meta");
/// Sessions that are open.
const SESSIONS: Definition<'_, u64, &[u8]> = Definition::new("sessions");
const JOBS: Definition<'_, u64, &[u8]> = Definition::new("jobs");
/// The entries that jobs without an end were submitted with.
const PROGRAMS: Definition<'_, u64, &[u8]> = Definition::new("programs");
/// Accounts of ended jobs, in parts.
const ENDS: Definition<'_, (u64, u32), &str> = Definition::new("ends");
/// Ended jobs of a tenant, by the entry that ended them.
const KEPT: Definition<'_, (&str, u64), u64> = Definition::new("kept");
/// How many those are, and the bytes of their accounts.
const USAGE: Definition<'_, &str, (u64, u64)> = Definition::new("usage");
/// Jobs of a session.
const OF_SESSION: Definition<'_, (u64, u64), ()> = Definition::new("of_session");

/// Entries from here on have not been taken in.
const SETTLED: &str = "settled";
const NEXT_JOB: &str = "next_job";
const NEXT_SESSION: &str = "next_session";

/// An open session.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    pub(crate) tenant: String,
    pub(crate) granted: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct JobRecord {
    session: u64,
    tenant: String,
    ended: Option<EndRecord>,
}

#[derive(Serialize, Deserialize)]
struct EndRecord {
    entry: u64,
    bytes: u64,
    cancelled: bool,
}

pub(crate) struct Settled {
    db: Database,
    position: AtomicU64,
}

type Outcome<T> = Result<T, StoreError>;

impl Settled {
    /// Opens the store, or makes an empty one.
    pub(crate) fn open(path: &Path) -> Outcome<Settled> {
        let new = path.with_extension("new");
        if !path.exists() {
            // Half a store, left by a sudden end, is none.
            let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
            made.map_err(StoreError::io(&new))?;
            let settled = Settled { db: Builder::new().create(&new)?, position: AtomicU64::new(0) };
            let transaction = settled.begin()?;
            Tables::open(&transaction)?;
            transaction.commit()?;
            drop(settled);
            std::fs::rename(&new, path).map_err(StoreError::io(path))?;
        }
        let settled = Settled { db: Builder::new().set_cache_size(CACHE).open(path)?, position: AtomicU64::new(0) };
        settled.position.store(settled.meta(SETTLED)?, Ordering::Release);
        Ok(settled)
    }

    fn begin(&self) -> Outcome<WriteTransaction> {
        let mut transaction = self.db.begin_write()?;
        // A sudden end is what it is for.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Entries that have been taken in.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    fn meta(&self, key: &str) -> Outcome<u64> {
        let table = self.db.begin_read()?.open_table(META)?;
        Ok(table.get(key)?.map_or(0, |v| v.value()))
    }

    /// Numbers that no job and no session has had: of settled ones.
    pub(crate) fn next(&self) -> Outcome<(u64, u64)> {
        Ok((self.meta(NEXT_JOB)?.max(1), self.meta(NEXT_SESSION)?.max(1)))
    }

    /// Takes in entries, as many as one transaction should. They must be on disk.
    pub(crate) fn apply(&self, entries: Entries, retention: Retention) -> Outcome<()> {
        let transaction = self.begin()?;
        let mut position = self.position();
        {
            let mut tables = Tables::open(&transaction)?;
            let mut bytes = 0;
            for (n, next) in entries.enumerate() {
                let (index, entry) = next?;
                tables.apply(index, &entry, retention)?;
                position = index + 1;
                bytes += entry.len();
                if n + 1 >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
                    break;
                }
            }
            tables.meta.insert(SETTLED, position)?;
        }
        transaction.commit()?;
        self.position.store(position, Ordering::Release);
        Ok(())
    }

    pub(crate) fn sessions(&self) -> Outcome<Vec<(u64, SessionRecord)>> {
        let table = self.db.begin_read()?.open_table(SESSIONS)?;
        let records = table.iter()?.map(|row| {
            let (number, record) = row?;
            Ok((number.value(), read(record.value())?))
        });
        records.collect()
    }

    pub(crate) fn unfinished(&self) -> Outcome<Vec<u64>> {
        let table = self.db.begin_read()?.open_table(PROGRAMS)?;
        table.iter()?.map(|row| Ok(row?.0.value())).collect()
    }

    pub(crate) fn has_jobs(&self, session: u64) -> Outcome<bool> {
        let table = self.db.begin_read()?.open_table(OF_SESSION)?;
        Ok(table.range((session, 0)..=(session, u64::MAX))?.next().transpose()?.is_some())
    }

    /// The newest ended jobs of a tenant, with the numbers of their sessions.
    pub(crate) fn recent(&self, tenant: &str, most: usize) -> Outcome<Vec<(u64, JobEntry)>> {
        let snapshot = self.db.begin_read()?;
        let (jobs, ends) = (snapshot.open_table(JOBS)?, snapshot.open_table(ENDS)?);
        let mut found = Vec::new();
        for row in snapshot.open_table(KEPT)?.range((tenant, 0)..=(tenant, u64::MAX))?.rev().take(most) {
            let job = row?.1.value();
            let Some(record) = jobs.get(job)? else { continue };
            let record: JobRecord = read(record.value())?;
            if let Some(entry) = ends.get((job, 0))?.and_then(|account| brief(account.value())) {
                found.push((record.session, entry));
            }
        }
        Ok(found)
    }

    /// The entry that a job without an end was submitted with.
    pub(crate) fn program(&self, job: u64) -> Outcome<Option<Vec<u8>>> {
        let table = self.db.begin_read()?.open_table(PROGRAMS)?;
        Ok(table.get(job)?.map(|entry| entry.value().to_vec()))
    }

    /// The account of an ended job of a session.
    pub(crate) fn end(&self, session: u64, job: u64) -> Outcome<Option<String>> {
        let snapshot = self.db.begin_read()?;
        let jobs = snapshot.open_table(JOBS)?;
        let Some(record) = jobs.get(job)? else { return Ok(None) };
        let record: JobRecord = read(record.value())?;
        if record.session != session || record.ended.is_none() {
            return Ok(None);
        }
        let mut end = String::new();
        for part in snapshot.open_table(ENDS)?.range((job, 0)..=(job, u32::MAX))? {
            end += part?.1.value();
        }
        Ok(Some(end))
    }
}

fn read<T: serde::de::DeserializeOwned>(record: &[u8]) -> Outcome<T> {
    postcard::from_bytes(record).map_err(|_| StoreError::Corrupt)
}

fn write(record: &impl Serialize) -> Outcome<Vec<u8>> {
    postcard::to_allocvec(record).map_err(|_| StoreError::Corrupt)
}

struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    sessions: Table<'t, u64, &'static [u8]>,
    jobs: Table<'t, u64, &'static [u8]>,
    programs: Table<'t, u64, &'static [u8]>,
    ends: Table<'t, (u64, u32), &'static str>,
    kept: Table<'t, (&'static str, u64), u64>,
    usage: Table<'t, &'static str, (u64, u64)>,
    of_session: Table<'t, (u64, u64), ()>,
}

impl<'t> Tables<'t> {
    fn open(t: &'t WriteTransaction) -> Outcome<Tables<'t>> {
        Ok(Tables {
            meta: t.open_table(META)?,
            sessions: t.open_table(SESSIONS)?,
            jobs: t.open_table(JOBS)?,
            programs: t.open_table(PROGRAMS)?,
            ends: t.open_table(ENDS)?,
            kept: t.open_table(KEPT)?,
            usage: t.open_table(USAGE)?,
            of_session: t.open_table(OF_SESSION)?,
        })
    }

    fn job(&self, job: u64) -> Outcome<Option<JobRecord>> {
        self.jobs.get(job)?.map(|record| read(record.value())).transpose()
    }

    fn used(&mut self, key: &'static str, number: u64) -> Outcome<()> {
        let next = self.meta.get(key)?.map_or(0, |v| v.value()).max(number + 1);
        self.meta.insert(key, next)?;
        Ok(())
    }

    /// Events of jobs and sessions that are not there (any more) change nothing.
    fn apply(&mut self, index: u64, bytes: &[u8], retention: Retention) -> Outcome<()> {
        let entry = Entry::decode(bytes).ok_or(StoreError::Version(index))?;
        let tenant = entry.tenant.unwrap_or_default();
        match entry.event {
            Event::SessionOpened { session, granted, .. } => {
                self.used(NEXT_SESSION, session)?;
                let record = SessionRecord { tenant: tenant.into(), granted };
                self.sessions.insert(session, write(&record)?.as_slice())?;
            }
            Event::SessionClosed { session } => {
                let range = self.of_session.range((session, 0)..=(session, u64::MAX))?;
                let jobs = range.map(|row| Ok(row?.0.value().1)).collect::<Outcome<Vec<u64>>>()?;
                for job in jobs {
                    self.forget(job)?;
                }
                self.sessions.remove(session)?;
            }
            Event::Submitted { job, session, .. } => {
                self.used(NEXT_JOB, job)?;
                if self.sessions.get(session)?.is_some() {
                    let record = JobRecord { session, tenant: tenant.into(), ended: None };
                    self.jobs.insert(job, write(&record)?.as_slice())?;
                    self.programs.insert(job, bytes)?;
                    self.of_session.insert((session, job), ())?;
                }
            }
            Event::Part { job, part, text } => {
                if self.job(job)?.is_some_and(|record| record.ended.is_none()) {
                    self.ends.insert((job, part), text)?;
                }
            }
            Event::Ended { job, cancelled, ref parts, end, .. } => {
                let Some(mut record) = self.job(job)? else { return Ok(()) };
                if record.ended.as_ref().is_some_and(|ended| ended.cancelled || !cancelled) {
                    return Ok(());
                }
                if cancelled {
                    self.unkeep(job, &record)?;
                    self.ends.retain_in((job, 0)..=(job, u32::MAX), |_, _| false)?;
                }
                self.ends.insert((job, parts.len() as u32), end)?;
                let mut bytes = 0;
                for part in self.ends.range((job, 0)..=(job, u32::MAX))? {
                    bytes += part?.1.value().len() as u64;
                }
                self.programs.remove(job)?;
                self.kept.insert((tenant, index), job)?;
                let (count, total) = self.usage.get(tenant)?.map_or((0, 0), |v| v.value());
                self.usage.insert(tenant, (count + 1, total + bytes))?;
                record.ended = Some(EndRecord { entry: index, bytes, cancelled });
                self.jobs.insert(job, write(&record)?.as_slice())?;
                self.make_room(tenant, index, retention)?;
            }
            Event::Booted { .. }
            | Event::Started { .. }
            | Event::Refused { .. }
            | Event::RefusedRequest { .. }
            | Event::RefusalsLeftOut { .. } => {}
        }
        Ok(())
    }

    /// Forgets the oldest ended jobs of a tenant that has too many, but not the last.
    fn make_room(&mut self, tenant: &str, last: u64, retention: Retention) -> Outcome<()> {
        loop {
            let (count, bytes) = self.usage.get(tenant)?.map_or((0, 0), |v| v.value());
            if count <= retention.jobs && bytes <= retention.bytes {
                return Ok(());
            }
            let oldest = self.kept.range((tenant, 0)..(tenant, last))?.next().transpose()?;
            let Some(job) = oldest.map(|(_, job)| job.value()) else { return Ok(()) };
            self.forget(job)?;
        }
    }

    fn unkeep(&mut self, job: u64, record: &JobRecord) -> Outcome<()> {
        let Some(ended) = &record.ended else { return Ok(()) };
        debug_assert!(self.kept.get((record.tenant.as_str(), ended.entry))?.is_some_and(|j| j.value() == job));
        self.kept.remove((record.tenant.as_str(), ended.entry))?;
        let (count, bytes) = self.usage.get(record.tenant.as_str())?.map_or((0, 0), |v| v.value());
        match count {
            0 | 1 => _ = self.usage.remove(record.tenant.as_str())?,
            _ => _ = self.usage.insert(record.tenant.as_str(), (count - 1, bytes.saturating_sub(ended.bytes)))?,
        }
        Ok(())
    }

    fn forget(&mut self, job: u64) -> Outcome<()> {
        let Some(record) = self.job(job)? else { return Ok(()) };
        self.unkeep(job, &record)?;
        self.ends.retain_in((job, 0)..=(job, u32::MAX), |_, _| false)?;
        self.programs.remove(job)?;
        self.of_session.remove((record.session, job))?;
        self.jobs.remove(job)?;
        Ok(())
    }
}

//! The index: open sessions and jobs by the journal's entries, so that a start need not read them all.
//!
//! Nothing in it is believed for being there. Opening it checks all its pages and that it was made from this journal;
//! records have checksums; accounts of ended jobs are not in it, but in the journal's entries, which it names. redb
//! panics where bytes under it change, so all calls of it are [guarded]. Whatever is wrong with it, it is moved away
//! and made anew.

use super::error::StoreError;
use super::event::{Entry, Event, PART, TokenRecord};
use crate::notices::NOTICES;
use parking_lot::{Mutex, RwLock};
use qmk_journal::{Entries, Hash, files};
use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition as Definition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Memory for pages of the file.
const CACHE: usize = 16 << 20;
/// Entries and bytes that one transaction takes in, roughly.
const BATCH_ENTRIES: usize = 1 << 13;
const BATCH_BYTES: usize = 32 << 20;

/// Of the form of the tables.
const VERSION: u32 = 1;

const STATE: Definition<'_, (), &[u8]> = Definition::new("state");
/// Sessions that are open.
const SESSIONS: Definition<'_, u64, &[u8]> = Definition::new("sessions");
const JOBS: Definition<'_, u64, &[u8]> = Definition::new("jobs");
/// The entries that jobs without an end were submitted with.
const PROGRAMS: Definition<'_, u64, &[u8]> = Definition::new("programs");
/// Ended jobs of a tenant, by the entry that ended them.
const KEPT: Definition<'_, (&str, u64), u64> = Definition::new("kept");
/// How many those are, and the bytes of their accounts.
const USAGE: Definition<'_, &str, (u64, u64)> = Definition::new("usage");
/// Jobs of a session.
const OF_SESSION: Definition<'_, (u64, u64), ()> = Definition::new("of_session");

/// Ended jobs that the store keeps of each tenant; the oldest go first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) jobs: u64,
    pub(crate) bytes: u64,
}

/// The journal that was taken in, and how far.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Meta {
    version: u32,
    /// Name of the journal.
    origin: String,
    /// Entries from here on have not been taken in.
    settled: u64,
    /// Root of the tree of those that have.
    root: [u8; 32],
    /// Numbers that none of their jobs and sessions have.
    next_job: u64,
    next_session: u64,
}

/// An open session.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredSession {
    pub(crate) tenant: String,
    pub(crate) granted: Vec<String>,
    pub(crate) uid: Option<u32>,
    pub(crate) token: Option<TokenRecord>,
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

/// The journal that it is made from.
pub(crate) struct Source<'a> {
    pub(crate) origin: String,
    pub(crate) entries: u64,
    pub(crate) root: &'a dyn Fn(u64) -> Outcome<Hash>,
}

/// Repairs of the file, which no call may use before.
const REOPEN: u8 = 1;
const REMAKE: u8 = 2;

pub(crate) struct Index {
    path: PathBuf,
    /// None while it is opened again.
    db: RwLock<Option<Database>>,
    /// As of the last commit.
    meta: Mutex<Meta>,
    position: AtomicU64,
    /// Entries that it had taken in before it was made anew. Until it has them again, it answers nothing.
    ready: AtomicU64,
    fault: AtomicU8,
}

pub(crate) type Outcome<T> = Result<T, StoreError>;

impl Index {
    /// Opens the store, or makes an empty one. One that is damaged or was made from another journal is moved away.
    pub(crate) fn open(path: &Path, source: &Source<'_>) -> Outcome<Index> {
        let (db, meta) = match load(path, source, true) {
            Err(StoreError::Damaged(what)) => {
                move_away(path, &what)?;
                load(path, source, true)?
            }
            loaded => loaded?,
        };
        Ok(Index {
            path: path.into(),
            db: RwLock::new(Some(db)),
            position: AtomicU64::new(meta.settled),
            meta: Mutex::new(meta),
            ready: AtomicU64::new(0),
            fault: AtomicU8::new(0),
        })
    }

    /// Opens the file again after an error of the disk, since redb does nothing more then, and makes it anew where it
    /// is damaged. Only one thread may do so, and not while it [applies](Index::apply).
    pub(crate) fn repair(&self, source: &Source<'_>) -> Outcome<()> {
        let fault = self.fault.load(Ordering::Acquire);
        if fault == 0 {
            return Ok(());
        }
        self.ready.fetch_max(self.position(), Ordering::AcqRel);
        let mut slot = self.db.write();
        let old = slot.take();
        // The database is given up, so a panic of its last act does no harm.
        let _ = guarded(|| {
            drop(old);
            Ok(())
        });
        let loaded = if fault == REOPEN { load(&self.path, source, false) } else { damaged("a record cannot be read") };
        let (db, meta) = match loaded {
            Err(StoreError::Damaged(what)) => {
                self.fault.store(REMAKE, Ordering::Release);
                move_away(&self.path, &what)?;
                load(&self.path, source, true)?
            }
            loaded => loaded?,
        };
        *slot = Some(db);
        self.position.store(meta.settled, Ordering::Release);
        *self.meta.lock() = meta;
        self.fault.store(0, Ordering::Release);
        Ok(())
    }

    /// Notes what an error means for the file.
    pub(crate) fn note(&self, e: &StoreError) {
        let fault = match e {
            StoreError::Damaged(_) => REMAKE,
            StoreError::Database(_) => REOPEN,
            _ => return,
        };
        self.fault.fetch_max(fault, Ordering::AcqRel);
    }

    /// Entries that have been taken in.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Numbers that no job and no session has had: of settled ones.
    pub(crate) fn next(&self) -> (u64, u64) {
        let meta = self.meta.lock();
        (meta.next_job, meta.next_session)
    }

    /// Takes in entries, as many as one transaction should. They must be on disk.
    pub(crate) fn apply(
        &self,
        entries: Entries,
        retention: Retention,
        root: &dyn Fn(u64) -> Outcome<Hash>,
    ) -> Outcome<()> {
        let mut meta = self.meta.lock().clone();
        let slot = self.db.read();
        let db = slot.as_ref().ok_or(StoreError::Remade)?;
        let applied = guarded(|| {
            let mut transaction = db.begin_write()?;
            // A sudden end is what it is for.
            transaction.set_quick_repair(true);
            {
                let mut tables = Tables::open(&transaction)?;
                let mut bytes = 0;
                for (n, next) in entries.enumerate() {
                    let (index, entry) = next?;
                    tables.apply(index, &entry, retention, &mut meta)?;
                    meta.settled = index + 1;
                    bytes += entry.len();
                    if n + 1 >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
                        break;
                    }
                }
                meta.root = root(meta.settled)?.0;
                tables.state.insert((), write(0, &meta)?.as_slice())?;
            }
            Ok(transaction.commit()?)
        });
        applied.inspect_err(|e| self.note(e))?;
        self.position.store(meta.settled, Ordering::Release);
        *self.meta.lock() = meta;
        Ok(())
    }

    fn look<T>(&self, read: impl FnOnce(&ReadTransaction) -> Outcome<T>) -> Outcome<T> {
        let slot = self.db.read();
        let db = slot.as_ref().filter(|_| self.position() >= self.ready.load(Ordering::Acquire));
        let db = db.ok_or(StoreError::Remade)?;
        guarded(|| read(&db.begin_read()?)).inspect_err(|e| self.note(e))
    }

    pub(crate) fn sessions(&self) -> Outcome<Vec<(u64, StoredSession)>> {
        self.look(|snapshot| {
            let table = snapshot.open_table(SESSIONS)?;
            let records = table.iter()?.map(|row| {
                let (number, record) = row?;
                let number = number.value();
                Ok((number, read(number, record.value())?))
            });
            records.collect()
        })
    }

    pub(crate) fn unfinished(&self) -> Outcome<Vec<u64>> {
        self.look(|snapshot| snapshot.open_table(PROGRAMS)?.iter()?.map(|row| Ok(row?.0.value())).collect())
    }

    pub(crate) fn has_jobs(&self, session: u64) -> Outcome<bool> {
        self.look(|snapshot| {
            let table = snapshot.open_table(OF_SESSION)?;
            Ok(table.range((session, 0)..=(session, u64::MAX))?.next().transpose()?.is_some())
        })
    }

    /// The entry that a job without an end was submitted with.
    pub(crate) fn program(&self, job: u64) -> Outcome<Option<Vec<u8>>> {
        self.look(|snapshot| {
            let entry = snapshot.open_table(PROGRAMS)?.get(job)?;
            entry.map(|entry| Ok(unseal(job, entry.value())?.to_vec())).transpose()
        })
    }

    /// The latest entries that ended jobs of a tenant.
    pub(crate) fn recent(&self, tenant: &str, most: usize) -> Outcome<Vec<u64>> {
        self.look(|snapshot| {
            let table = snapshot.open_table(KEPT)?;
            let rows = table.range((tenant, 0)..=(tenant, u64::MAX))?.rev().take(most);
            rows.map(|row| Ok(row?.0.value().1)).collect()
        })
    }

    /// The entry that ended a job of a session.
    pub(crate) fn end(&self, session: u64, job: u64) -> Outcome<Option<u64>> {
        self.look(|snapshot| {
            let Some(record) = snapshot.open_table(JOBS)?.get(job)? else { return Ok(None) };
            let record: JobRecord = read(job, record.value())?;
            Ok(record.ended.filter(|_| record.session == session).map(|ended| ended.entry))
        })
    }
}

fn damaged<T>(what: impl Into<String>) -> Outcome<T> {
    Err(StoreError::Damaged(what.into()))
}

/// Does something with redb, which takes it for granted that its file is as it wrote it.
fn guarded<T>(act: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| damaged("its pages make no sense"))
}

/// The file of another name beside the store's.
fn beside(path: &Path, extension: &str) -> PathBuf {
    path.with_extension(extension)
}

fn move_away(path: &Path, what: &str) -> Outcome<()> {
    let away = beside(path, "damaged");
    match std::fs::rename(path, &away) {
        Ok(()) => tracing::warn!(
            target: NOTICES,
            "{}: {what}; it was moved to {}, and is made anew from the journal",
            path.display(),
            away.display()
        ),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(StoreError::io(path)(e)),
    }
    Ok(())
}

/// Opens the file, or makes one, and checks that it was made from this journal. `check` reads all of its pages.
fn load(path: &Path, source: &Source<'_>, check: bool) -> Outcome<(Database, Meta)> {
    let file = match files::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make(path, source)?;
            files::open(path).map_err(StoreError::io(path))?
        }
        Err(e) => return Err(StoreError::io(path)(e)),
    };
    if file.metadata().map_err(StoreError::io(path))?.len() == 0 {
        return damaged("it is empty");
    }
    guarded(|| {
        let db = database(file, check)?;
        let meta: Meta = {
            let Some(meta) = db.begin_read()?.open_table(STATE)?.get(())? else {
                return damaged("it does not say what it was made from");
            };
            read(0, meta.value())?
        };
        if meta.version != VERSION {
            return damaged("it is of another version of the server");
        }
        if meta.origin != source.origin {
            return damaged("it was made from another journal");
        }
        if meta.settled > source.entries {
            return Err(StoreError::Ahead { settled: meta.settled, entries: source.entries });
        }
        if (source.root)(meta.settled)?.0 != meta.root {
            return damaged("it was made from other entries than the journal has");
        }
        Ok((db, meta))
    })
}

/// Makes an empty store. Half a one, left by a sudden end, is none.
fn make(path: &Path, source: &Source<'_>) -> Outcome<()> {
    let new = beside(path, "new");
    let file = files::create_new(&new).map_err(StoreError::io(&new))?;
    guarded(|| {
        let db = database(file, false)?;
        let transaction = db.begin_write()?;
        let root = qmk_journal::empty_root().0;
        let origin = source.origin.clone();
        let meta = Meta { version: VERSION, origin, settled: 0, root, next_job: 1, next_session: 1 };
        Tables::open(&transaction)?.state.insert((), write(0, &meta)?.as_slice())?;
        Ok(transaction.commit()?)
    })?;
    std::fs::rename(&new, path).map_err(StoreError::io(path))
}

fn database(file: File, check: bool) -> Outcome<Database> {
    let backend = FileBackend::new(file)?;
    #[cfg(test)]
    let backend = tests::Disk(backend);
    Ok(Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(check).create_with_backend(backend)?)
}

/// Puts a checksum of a record and its key behind it.
fn seal(key: u64, mut record: Vec<u8>) -> Vec<u8> {
    let sum = checksum(key, &record);
    record.extend_from_slice(&sum.to_le_bytes());
    record
}

fn unseal(key: u64, record: &[u8]) -> Outcome<&[u8]> {
    match record.split_last_chunk() {
        Some((record, sum)) if checksum(key, record) == u32::from_le_bytes(*sum) => Ok(record),
        _ => damaged("a record does not match its checksum"),
    }
}

fn checksum(key: u64, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&key.to_le_bytes());
    hasher.update(record);
    hasher.finalize()
}

fn read<T: serde::de::DeserializeOwned>(key: u64, record: &[u8]) -> Outcome<T> {
    postcard::from_bytes(unseal(key, record)?).or_else(|_| damaged("a record cannot be read"))
}

fn write(key: u64, record: &impl Serialize) -> Outcome<Vec<u8>> {
    Ok(seal(key, postcard::to_allocvec(record).map_err(|_| StoreError::Corrupt)?))
}

struct Tables<'t> {
    state: Table<'t, (), &'static [u8]>,
    sessions: Table<'t, u64, &'static [u8]>,
    jobs: Table<'t, u64, &'static [u8]>,
    programs: Table<'t, u64, &'static [u8]>,
    kept: Table<'t, (&'static str, u64), u64>,
    usage: Table<'t, &'static str, (u64, u64)>,
    of_session: Table<'t, (u64, u64), ()>,
}

impl<'t> Tables<'t> {
    fn open(t: &'t WriteTransaction) -> Outcome<Tables<'t>> {
        Ok(Tables {
            state: t.open_table(STATE)?,
            sessions: t.open_table(SESSIONS)?,
            jobs: t.open_table(JOBS)?,
            programs: t.open_table(PROGRAMS)?,
            kept: t.open_table(KEPT)?,
            usage: t.open_table(USAGE)?,
            of_session: t.open_table(OF_SESSION)?,
        })
    }

    fn job(&self, job: u64) -> Outcome<Option<JobRecord>> {
        self.jobs.get(job)?.map(|record| read(job, record.value())).transpose()
    }

    /// Events of jobs and sessions that are not there (any more) change nothing.
    fn apply(&mut self, index: u64, bytes: &[u8], retention: Retention, meta: &mut Meta) -> Outcome<()> {
        let entry = Entry::decode(bytes).ok_or(StoreError::Version(index))?;
        let tenant = entry.tenant.unwrap_or_default();
        match entry.event {
            Event::SessionOpened { session, granted, uid, token, .. } => {
                meta.next_session = meta.next_session.max(session.saturating_add(1));
                let record = StoredSession { tenant: tenant.into(), granted, uid, token };
                self.sessions.insert(session, write(session, &record)?.as_slice())?;
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
                meta.next_job = meta.next_job.max(job.saturating_add(1));
                if self.sessions.get(session)?.is_some() {
                    let record = JobRecord { session, tenant: tenant.into(), ended: None };
                    self.jobs.insert(job, write(job, &record)?.as_slice())?;
                    self.programs.insert(job, seal(job, bytes.to_vec()).as_slice())?;
                    self.of_session.insert((session, job), ())?;
                }
            }
            Event::Ended { job, cancelled, ref parts, end, .. } => {
                let Some(mut record) = self.job(job)? else { return Ok(()) };
                if record.ended.as_ref().is_some_and(|ended| ended.cancelled || !cancelled) {
                    return Ok(());
                }
                if cancelled {
                    self.unkeep(job, &record)?;
                }
                let bytes = (parts.len() * PART + end.len()) as u64;
                self.programs.remove(job)?;
                self.kept.insert((tenant, index), job)?;
                let (count, total) = self.usage.get(tenant)?.map_or((0, 0), |v| v.value());
                self.usage.insert(tenant, (count + 1, total + bytes))?;
                record.ended = Some(EndRecord { entry: index, bytes, cancelled });
                self.jobs.insert(job, write(job, &record)?.as_slice())?;
                self.make_room(tenant, index, retention)?;
            }
            Event::Booted { .. }
            | Event::Started { .. }
            | Event::Part { .. }
            | Event::Refused { .. }
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
        self.programs.remove(job)?;
        self.of_session.remove((record.session, job))?;
        self.jobs.remove(job)?;
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use redb::StorageBackend;
    use redb::backends::FileBackend;
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Whether there is no room on any [`Disk`] of this process, so that one test alone may use disks.
    pub(in crate::store) static FULL: AtomicBool = AtomicBool::new(false);

    /// A disk that may be full. The header is written over even then.
    #[derive(Debug)]
    pub(super) struct Disk(pub(super) FileBackend);

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            match FULL.load(Ordering::Relaxed) && offset >= 4096 {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => self.0.write(offset, data),
            }
        }

        fn close(&self) -> io::Result<()> {
            self.0.close()
        }
    }
}

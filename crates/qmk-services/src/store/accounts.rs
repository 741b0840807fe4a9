//! Accounts of ended jobs, read from the journal.

use super::error::{StoreError, misled};
use super::event::{Entry, Event};
use super::inner::Inner;
use qmk_abi::rpc::JobEntry;
use qmk_journal::JournalError;
use std::collections::BTreeSet;

/// Bytes that are read for a list of jobs, about.
const LISTED_BYTES: usize = 16 << 20;

impl Inner {
    /// The account of an ended job of a session, found with the store's help. If that fails, it waits until the store
    /// has been mended.
    pub(super) fn settled_account(&self, session: u64, job: u64) -> Result<Option<String>, StoreError> {
        let find = || match self.index.end(session, job)? {
            Some(entry) => self.account(session, job, entry),
            None => Ok(None),
        };
        let mut found = find();
        for _ in 0..2 {
            match &found {
                Err(e @ (StoreError::Damaged(_) | StoreError::Database(_))) => {
                    self.index.note(e);
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
    pub(super) fn entry(&self, index: u64) -> Result<Vec<u8>, StoreError> {
        let reader = self.journal.lock().as_ref().ok_or(StoreError::Closed)?.reader(index);
        match reader {
            Err(JournalError::OutOfRange { .. }) => Err(misled()),
            reader => Ok(reader?.read()?),
        }
    }

    pub(super) fn recent(&self, tenant: &str, most: usize) -> Result<Vec<(u64, JobEntry)>, StoreError> {
        let unsettled = self.ends.lock().values().copied().collect::<Vec<_>>();
        let settled = self.index.recent(tenant, most)?;
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
    pub(super) fn account(&self, of: u64, ended: u64, entry: u64) -> Result<Option<String>, StoreError> {
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

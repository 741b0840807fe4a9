//! Sessions: what a tenant does under the capabilities it asked for.

use super::caller::Credential;
use super::holdings::Holdings;
use super::job::Job;
use qmk_abi::rpc::{ErrorCode, RpcError};
use qmk_abi::{Handle, Rights};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a session is, with or without anything of it in memory.
pub(crate) struct SessionRecord {
    pub(crate) number: u64,
    pub(crate) tenant: String,
    pub(crate) granted: Rights,
    /// None for one that is taken up again after a restart.
    pub(crate) owner: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) token: Option<Arc<Credential>>,
    /// It has had jobs, whether the store has taken them in yet or not.
    pub(crate) worked: bool,
}

/// Sessions that were set aside: what they made is in the store, and they are opened again when they are named.
#[derive(Default)]
pub(crate) struct DormantSessions {
    records: BTreeMap<String, (u64, SessionRecord)>,
    /// Of each tenant, in the order in which they were set aside.
    of_tenant: BTreeMap<String, BTreeMap<u64, String>>,
    count: u64,
}

impl DormantSessions {
    pub(crate) fn insert(&mut self, id: String, record: SessionRecord) {
        self.count += 1;
        self.of_tenant.entry(record.tenant.clone()).or_default().insert(self.count, id.clone());
        self.records.insert(id, (self.count, record));
    }

    pub(crate) fn get(&self, id: &str) -> Option<&SessionRecord> {
        self.records.get(id).map(|(_, record)| record)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<SessionRecord> {
        let (order, record) = self.records.remove(id)?;
        if let Some(others) = self.of_tenant.get_mut(&record.tenant) {
            others.remove(&order);
            if others.is_empty() {
                self.of_tenant.remove(&record.tenant);
            }
        }
        Some(record)
    }

    /// The oldest of a tenant that has more than these.
    pub(crate) fn excess(&self, tenant: &str, most: u64) -> Option<&String> {
        let all = self.of_tenant.get(tenant).filter(|all| all.len() as u64 > most)?;
        all.values().next()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &SessionRecord)> {
        self.records.iter().map(|(id, (_, record))| (id, record))
    }
}

pub(crate) struct Session {
    /// What the journal calls it; 0 for one that it does not know.
    pub(crate) number: u64,
    pub(crate) tenant: String,
    /// User who opened it; `None` within this process.
    pub(crate) uid: Option<u32>,
    /// Token it was opened by.
    pub(crate) token: Option<Arc<Credential>>,
    /// Connection that created it, unless detached.
    pub(crate) owner: Option<u64>,
    /// Used again on that connection, and so bound to its life. A client that opens a connection per call never
    /// does this, and its session outlives the connection.
    pub(crate) bound: bool,
    /// It has had jobs that are not in memory.
    pub(crate) worked: bool,
    pub(crate) granted: Rights,
    /// When it was last used.
    pub(crate) used: u64,
    pub(crate) machine: Handle,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) held: Holdings,
}

/// A session id that has no number in the journal.
pub(crate) fn random_id() -> Result<String, RpcError> {
    let mut id = [0u8; 16];
    getrandom::fill(&mut id).map_err(|e| RpcError::new(ErrorCode::Internal, format!("no entropy: {e}")))?;
    Ok(format!("sess_{:032x}", u128::from_le_bytes(id)))
}

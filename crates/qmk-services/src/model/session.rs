//! Sessions, open and dormant.

use super::caller::Credential;
use super::holdings::Holdings;
use super::job::Job;
use qmk_abi::rpc::{ErrorCode, RpcError};
use qmk_abi::{Handle, Rights};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Identity and rights of a session: all that reopening it needs.
pub(crate) struct SessionRecord {
    pub(crate) number: u64,
    pub(crate) tenant: String,
    pub(crate) granted: Rights,
    /// Connection that opened it; `None` after a restart, and for a detached session.
    pub(crate) owner: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) token: Option<Arc<Credential>>,
    /// Whether it has had jobs. The store's index may lag behind.
    pub(crate) worked: bool,
}

/// Sessions without anything in memory: their jobs are in the store. A request that names one reopens it.
#[derive(Default)]
pub(crate) struct DormantSessions {
    records: BTreeMap<String, (u64, SessionRecord)>,
    /// Ids per tenant, in the order in which they became dormant.
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

    /// The oldest dormant session of a tenant that has more than `most`.
    pub(crate) fn excess(&self, tenant: &str, most: u64) -> Option<&String> {
        let all = self.of_tenant.get(tenant).filter(|all| all.len() as u64 > most)?;
        all.values().next()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &SessionRecord)> {
        self.records.iter().map(|(id, (_, record))| (id, record))
    }
}

pub(crate) struct Session {
    /// Number in the journal; 0 for a session without entries.
    pub(crate) number: u64,
    pub(crate) tenant: String,
    /// User who opened it; `None` within this process.
    pub(crate) uid: Option<u32>,
    /// Token it was opened by.
    pub(crate) token: Option<Arc<Credential>>,
    /// Connection that created it, unless detached.
    pub(crate) owner: Option<u64>,
    /// Whether the owner has used it again, which binds it to that connection. A client that opens a connection per
    /// call never does, so its session outlives the connection.
    pub(crate) bound: bool,
    /// Whether it has had jobs that are not in memory.
    pub(crate) worked: bool,
    pub(crate) granted: Rights,
    /// When it was last used.
    pub(crate) used: u64,
    pub(crate) called: Instant,
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

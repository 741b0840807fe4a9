//! Sessions: what a tenant does under the capabilities it asked for.

use crate::jobs::Job;
use crate::machine::{State, not_found};
use crate::tenants::Tenant;
use crate::watch::brief;
use qmk_abi::rpc::*;
use qmk_abi::{Handle, Rights, Syscall};
use qmk_kernel::hal::Device;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Session {
    pub(crate) tenant: String,
    /// Connection that created it, unless detached.
    pub(crate) owner: Option<u64>,
    /// Used again on that connection, and so bound to its life. A client that opens a connection per call never
    /// does this, and its session outlives the connection.
    pub(crate) bound: bool,
    pub(crate) granted: Rights,
    /// When it was last used.
    pub(crate) used: u64,
    pub(crate) machine: Handle,
    pub(crate) jobs: BTreeMap<u64, Job>,
}

impl<D: Device> State<D> {
    /// Notes that a request of a connection names a session.
    pub(crate) fn touch(&mut self, id: &str, connection: u64) {
        self.uses += 1;
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.used = self.uses;
        session.bound |= session.owner == Some(connection);
        if let Some(tenant) = self.tenants.get_mut(&session.tenant) {
            tenant.used = self.uses;
        }
    }

    /// Sessions of a tenant that may be closed to make room. Clients that open a connection for each call leave theirs
    /// behind, so not to have closed it cannot keep a session for ever.
    pub(crate) fn idle_sessions<'a>(&self, tenant: &'a Tenant) -> Vec<&'a String> {
        let busy: BTreeSet<&String> = self.unfinished.values().collect();
        tenant.sessions.iter().filter(|id| !self.sessions[*id].bound && !busy.contains(id)).collect()
    }

    /// Closes the idle session of a tenant that was used least recently; false if there is none.
    pub(crate) fn evict_session(&mut self, tenant: &str) -> Result<bool, RpcError> {
        let idle = self.idle_sessions(&self.tenants[tenant]);
        let Some(oldest) = idle.into_iter().min_by_key(|id| self.sessions[*id].used).cloned() else { return Ok(false) };
        self.close_session(&oldest).map(|closed| closed.closed)
    }

    pub(crate) fn create_session(&mut self, p: SessionCreate, connection: u64) -> Result<SessionInfo, RpcError> {
        let name = p.tenant_id.unwrap_or_else(|| "default".into());
        self.tenant(&name)?;
        if self.tenants[&name].sessions.len() >= self.config.max_sessions && !self.evict_session(&name)? {
            return Err(RpcError::new(ErrorCode::QuotaExceeded, "too many open sessions; close one"));
        }
        let available = Rights::CLASSES - Rights::ADMIN;
        let (mut granted, mut denied) = (Rights::empty(), Vec::new());
        for cap in &p.requested {
            match Rights::from_class_name(cap).filter(|r| available.contains(*r)) {
                Some(r) => granted |= r,
                None => denied.push(cap.clone()),
            }
        }
        if p.requested.is_empty() {
            granted = available;
        }
        let (domain, source) = (self.tenants[&name].domain, self.tenants[&name].machine);
        // The service, not the kernel, knows which graphs imply CAP_COMPUTE and CAP_MEASURE.
        let rights = granted | (Rights::OBJECT - Rights::GRANT) | Rights::COMPUTE | Rights::MEASURE;
        let machine = self.handle(domain, Syscall::Derive { source, rights, badge: 0, into: None, budget: None })?;
        let mut id = [0u8; 16];
        getrandom::fill(&mut id).map_err(|e| RpcError::new(ErrorCode::Internal, format!("no entropy: {e}")))?;
        let session_id = format!("sess_{:032x}", u128::from_le_bytes(id));
        let owner = (!p.detached).then_some(connection);
        self.uses += 1;
        if let Some(tenant) = self.tenants.get_mut(&name) {
            tenant.used = self.uses;
            tenant.sessions.insert(session_id.clone());
        }
        let (used, jobs) = (self.uses, BTreeMap::new());
        let caps = granted.class_names().join(" ");
        tracing::info!(session = brief(&session_id), tenant = name, caps, detached = p.detached, "session opened");
        let session = Session { tenant: name, owner, bound: false, granted, used, machine, jobs };
        self.sessions.insert(session_id.clone(), session);
        Ok(SessionInfo { session_id, granted: granted.class_names(), denied, quota: self.quota_info() })
    }

    pub(crate) fn session(&self, id: &str) -> Result<&Session, RpcError> {
        self.sessions.get(id).map_or_else(|| not_found(ErrorCode::SessionNotFound), Ok)
    }

    pub(crate) fn close_session(&mut self, id: &str) -> Result<Closed, RpcError> {
        let Some(session) = self.sessions.remove(id) else { return not_found(ErrorCode::SessionNotFound) };
        let Some(tenant) = self.tenants.get_mut(&session.tenant) else { return not_found(ErrorCode::SessionNotFound) };
        tenant.sessions.remove(id);
        for number in session.jobs.keys() {
            if self.unfinished.remove(number).is_some() {
                tenant.ended.cancelled += 1;
                tracing::info!(job = *number, tenant = session.tenant, "job cancelled with its session");
            }
            tenant.kept_bytes -= tenant.kept.remove(number).map_or(0, |(_, bytes)| bytes);
        }
        let domain = tenant.domain;
        tracing::info!(session = brief(id), tenant = session.tenant, "session closed");
        // Everything the session made derives from its machine capability.
        self.delete(domain, session.machine)?;
        Ok(Closed { closed: true })
    }
}

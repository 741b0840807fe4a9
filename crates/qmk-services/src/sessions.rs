//! Sessions: what a tenant does under the capabilities it asked for.

use crate::identity::{Caller, Credential, Identity};
use crate::interactive::Held;
use crate::jobs::Job;
use crate::machine::{State, not_found};
use crate::tenants::Tenant;
use crate::watch::brief;
use qmk_abi::rpc::*;
use qmk_abi::{Handle, Rights, Syscall};
use qmk_kernel::hal::Device;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Who opens a session; nobody for one that is taken up again after a restart.
#[derive(Default)]
pub(crate) struct Opener {
    pub(crate) owner: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) token: Option<Arc<Credential>>,
}

pub(crate) struct Session {
    /// What the journal calls it.
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
    pub(crate) granted: Rights,
    /// When it was last used.
    pub(crate) used: u64,
    pub(crate) machine: Handle,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) held: Held,
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

    pub(crate) fn create_session(&mut self, p: SessionCreate, caller: &Caller) -> Result<SessionInfo, RpcError> {
        let Identity { tenant: name, ceiling: available, token } = self.identify(&p, caller)?;
        self.tenant(&name)?;
        self.charge(&name)?;
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
        let (number, session_id) = self.store.new_session()?;
        let owner = (!p.detached).then_some(caller.connection);
        self.open_session(&name, number, session_id.clone(), granted, Opener { owner, uid: caller.uid(), token })?;
        if let Err(e) = self.store.opened(&name, number, caller.uid(), &granted.class_names(), &denied) {
            self.close_session(&session_id)?;
            return Err(e.into());
        }
        Ok(SessionInfo { session_id, granted: granted.class_names(), denied, quota: self.quota_info(&name) })
    }

    /// Opens a session of this number and id.
    pub(crate) fn open_session(
        &mut self,
        name: &str,
        number: u64,
        session_id: String,
        granted: Rights,
        by: Opener,
    ) -> Result<(), RpcError> {
        self.tenant(name)?;
        if self.tenants[name].sessions.len() >= self.max_sessions(name) && !self.evict_session(name)? {
            return Err(RpcError::new(ErrorCode::QuotaExceeded, "too many open sessions; close one"));
        }
        let (domain, source) = (self.tenants[name].domain, self.tenants[name].machine);
        // The service, not the kernel, knows which graphs imply CAP_COMPUTE and CAP_MEASURE.
        let rights = granted | (Rights::OBJECT - Rights::GRANT) | Rights::COMPUTE | Rights::MEASURE;
        let machine = self.handle(domain, Syscall::Derive { source, rights, badge: 0, into: None, budget: None })?;
        self.uses += 1;
        if let Some(tenant) = self.tenants.get_mut(name) {
            tenant.used = self.uses;
            tenant.sessions.insert(session_id.clone());
        }
        let (used, jobs) = (self.uses, BTreeMap::new());
        let Opener { owner, uid, token } = by;
        let caps = granted.class_names().join(" ");
        tracing::info!(session = brief(&session_id), tenant = name, caps, detached = owner.is_none(), "session opened");
        let tenant = name.into();
        let session = Session {
            number,
            tenant,
            uid,
            token,
            owner,
            bound: false,
            granted,
            used,
            machine,
            jobs,
            held: Held::default(),
        };
        self.sessions.insert(session_id, session);
        Ok(())
    }

    pub(crate) fn session(&self, id: &str) -> Result<&Session, RpcError> {
        self.sessions.get(id).map_or_else(|| not_found(ErrorCode::SessionNotFound), Ok)
    }

    pub(crate) fn close_session(&mut self, id: &str) -> Result<Closed, RpcError> {
        let Some(session) = self.sessions.remove(id) else { return not_found(ErrorCode::SessionNotFound) };
        let Some(tenant) = self.tenants.get_mut(&session.tenant) else { return not_found(ErrorCode::SessionNotFound) };
        tenant.sessions.remove(id);
        self.store.closed(&session.tenant, session.number);
        for (number, job) in &session.jobs {
            if self.unfinished.remove(number).is_some() && !job.silent {
                tenant.ended.cancelled += 1;
                tracing::info!(job = *number, tenant = session.tenant, "job cancelled with its session");
            }
            tenant.kept_bytes -= tenant.kept.remove(number).map_or(0, |(_, bytes)| bytes);
        }
        let domain = tenant.domain;
        self.leave_channels(&session.tenant, id);
        tracing::info!(session = brief(id), tenant = session.tenant, "session closed");
        // Everything the session made derives from its machine capability.
        self.delete(domain, session.machine)?;
        Ok(Closed { closed: true })
    }
}

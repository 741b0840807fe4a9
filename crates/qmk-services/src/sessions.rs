//! Sessions are opened, made dormant, reopened and closed.

use crate::errors::not_found;
use crate::model::caller::{Caller, Identity};
use crate::model::holdings::Holdings;
use crate::model::session::{Session, SessionRecord, random_id};
use crate::model::tenant::Tenant;
use crate::model::watched::brief;
use crate::state::State;
use qmk_abi::rpc::*;
use qmk_abi::{Rights, Syscall};
use qmk_kernel::hal::Device;
use std::collections::{BTreeMap, BTreeSet};

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

    /// Sets the idle session of a tenant aside that was used least recently; false if there is none.
    fn evict_session(&mut self, tenant: &str) -> Result<bool, RpcError> {
        let idle = self.idle_sessions(&self.tenants[tenant]);
        let Some(oldest) = idle.into_iter().min_by_key(|id| self.sessions[*id].used).cloned() else { return Ok(false) };
        let record = self.dormant_record(&oldest);
        self.close_session(&oldest)?;
        if let Some(record) = record {
            self.keep_dormant(oldest, record);
        }
        Ok(true)
    }

    /// The record of a session that is to be found again after it was closed: of one with jobs in the store. The close
    /// is then not recorded.
    pub(crate) fn dormant_record(&mut self, id: &str) -> Option<SessionRecord> {
        let session = self.sessions.get_mut(id)?;
        let kept = self.store.keeps() && session.number > 0;
        session.worked |= !session.jobs.is_empty();
        if !kept || !session.worked && !self.store.has_jobs(session.number) {
            return None;
        }
        let (tenant, granted, owner) = (session.tenant.clone(), session.granted, session.owner);
        let number = std::mem::take(&mut session.number);
        Some(SessionRecord {
            number,
            tenant,
            granted,
            owner,
            uid: session.uid,
            token: session.token.clone(),
            worked: true,
        })
    }

    /// Puts a session where it is found when it is named. A tenant has no more of them than jobs in the store.
    pub(crate) fn keep_dormant(&mut self, id: String, record: SessionRecord) {
        let tenant = record.tenant.clone();
        self.dormant.insert(id, record);
        while let Some(oldest) = self.dormant.excess(&tenant, self.config.stored_jobs).cloned() {
            self.close_dormant(&oldest);
        }
    }

    pub(crate) fn close_dormant(&mut self, id: &str) {
        if let Some(record) = self.dormant.remove(id) {
            self.store.closed(&record.tenant, record.number);
        }
    }

    /// Opens a session again that was set aside, if it is one.
    pub(crate) fn resume(&mut self, id: &str) -> Result<(), RpcError> {
        let Some(record) = self.dormant.remove(id) else { return Ok(()) };
        let SessionRecord { number, ref tenant, granted, owner, uid, ref token, worked } = record;
        let again = SessionRecord { number, tenant: tenant.clone(), granted, owner, uid, token: token.clone(), worked };
        if let Err(e) = self.open_session(again, id.into()) {
            self.keep_dormant(id.into(), record);
            return Err(e);
        }
        // No name of a qubit is given out twice, and what it has held is not known any more.
        if let Some(session) = self.sessions.get_mut(id) {
            session.held = Holdings::after(self.store.entries() << 32);
        }
        Ok(())
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
        if p.requested.is_empty() && !p.observer {
            granted = available;
        }
        if p.observer && (p.detached || !p.requested.is_empty()) {
            let message = "params: an observer holds no capabilities, and ends with its connection";
            return Err(RpcError::new(ErrorCode::InvalidParams, message));
        }
        let (number, session_id) = if p.observer { (0, random_id()?) } else { self.store.new_session()? };
        let (owner, uid) = ((!p.detached).then_some(caller.connection), caller.uid());
        let (tenant, worked) = (name.clone(), false);
        let record = SessionRecord { number, tenant, granted, owner, uid, token: token.clone(), worked };
        self.open_session(record, session_id.clone())?;
        if p.observer {
            self.sessions.get_mut(&session_id).into_iter().for_each(|s| s.bound = true);
        } else if let Err(e) = self.store.opened(&name, number, uid, &granted.class_names(), &denied, token.as_deref())
        {
            self.close_session(&session_id)?;
            return Err(e.into());
        }
        Ok(SessionInfo { session_id, granted: granted.class_names(), denied, quota: self.quota_info(&name) })
    }

    /// Opens a session of this id.
    fn open_session(&mut self, record: SessionRecord, session_id: String) -> Result<(), RpcError> {
        let SessionRecord { number, tenant, granted, owner, uid, token, worked } = record;
        let name = tenant.as_str();
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
        let caps = granted.class_names().join(" ");
        tracing::info!(session = brief(&session_id), tenant = name, caps, detached = owner.is_none(), "session opened");
        let session = Session {
            number,
            tenant,
            uid,
            token,
            owner,
            bound: false,
            worked,
            granted,
            used,
            machine,
            jobs,
            held: Holdings::default(),
        };
        self.sessions.insert(session_id, session);
        Ok(())
    }

    pub(crate) fn session(&self, id: &str) -> Result<&Session, RpcError> {
        self.sessions.get(id).map_or_else(|| not_found(ErrorCode::SessionNotFound), Ok)
    }

    /// Closes a session for a client. The close is recorded before the client gets its reply.
    pub(crate) fn close_on_request(&mut self, id: &str) -> Result<Closed, RpcError> {
        if let Some(session) = self.sessions.get_mut(id).filter(|session| session.number > 0) {
            self.store.try_closed(&session.tenant, session.number)?;
            session.number = 0;
        }
        self.close_session(id)
    }

    pub(crate) fn close_session(&mut self, id: &str) -> Result<Closed, RpcError> {
        let Some(session) = self.sessions.remove(id) else { return not_found(ErrorCode::SessionNotFound) };
        let Some(tenant) = self.tenants.get_mut(&session.tenant) else { return not_found(ErrorCode::SessionNotFound) };
        tenant.sessions.remove(id);
        if session.number > 0 {
            self.store.closed(&session.tenant, session.number);
        }
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

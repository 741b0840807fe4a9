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
use std::time::Instant;

/// The capabilities of these names that are available, and the names of the others.
fn grant(names: &[String], available: Rights) -> (Rights, Vec<String>) {
    let (mut granted, mut denied) = (Rights::empty(), Vec::new());
    for name in names {
        match Rights::from_class_name(name).filter(|r| available.contains(*r)) {
            Some(right) => granted |= right,
            None => denied.push(name.clone()),
        }
    }
    (granted, denied)
}

impl<D: Device> State<D> {
    /// Notes that a request of a connection names a session.
    pub(crate) fn touch(&mut self, id: &str, connection: u64) {
        self.uses += 1;
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.used = self.uses;
        session.called = Instant::now();
        session.bound |= session.owner == Some(connection);
        if let Some(tenant) = self.tenants.get_mut(&session.tenant) {
            tenant.used = self.uses;
        }
        self.take_back(Instant::now());
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
        let default = if p.observer { Rights::empty() } else { available };
        let (granted, denied) = p.requested.as_ref().map_or((default, Vec::new()), |names| grant(names, available));
        if p.observer && (p.detached || p.requested.as_ref().is_some_and(|names| !names.is_empty())) {
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
        let rights = granted | (Rights::OBJECT - Rights::GRANT);
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
            called: Instant::now(),
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

#[cfg(test)]
mod tests {
    use crate::config::MachineConfig;
    use crate::model::caller::Caller;
    use crate::state::State;
    use crate::store::handle::Store;
    use qmk_abi::image::{Clifford1, Clifford2, Image, Instr, Op, Pauli};
    use qmk_abi::rpc::SessionCreate;
    use qmk_abi::{KernelError, Reply, Rights, Syscall};
    use qmk_sim::SimDevice;

    /// Operations of each class, over the qubits 0, 1 and 2.
    const OPS: [Op; 13] = [
        Op::Pauli(Pauli::X, 0),
        Op::Clifford1(Clifford1::H, 0),
        Op::Clifford2(Clifford2::Cnot, 0, 1),
        Op::Reset(0),
        Op::TeleportCnot(0, 1),
        Op::T(0),
        Op::Tdg(0),
        Op::Rotate(Pauli::Z, 0, 0.3),
        Op::Ccz(0, 1, 2),
        Op::Toffoli(0, 1, 2),
        Op::InjectT(0),
        Op::Measure(Pauli::Z, 0, 0),
        Op::MeasureAngle(0.3, 0, 0),
    ];

    fn image(op: Op) -> Image {
        let ops = [Op::Alloc(0), Op::Alloc(1), Op::Alloc(2), op, Op::Free(0), Op::Free(1), Op::Free(2)];
        let code = ops.map(|op| Instr { op, cond: None }).to_vec();
        Image { qubits: 3, events: 1, code, terms: Vec::new() }
    }

    /// The kernel checks the session's handle, so a service that forgot to ask would gain nothing.
    #[test]
    fn the_kernel_handle_of_a_session_carries_what_the_session_holds() {
        let config = MachineConfig { lockstep: true, ..MachineConfig::default() };
        let mut state = State::boot(SimDevice::default(), config, Store::default());
        let caller = Caller { connection: 1, peer: None, shown: None };
        // All sets of the classes that operations are of.
        for bits in 0..32u32 {
            let classes = [Rights::ALLOC, Rights::COMPUTE, Rights::MEASURE, Rights::TELEPORT, Rights::MAGIC];
            let chosen = classes.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, class)| *class);
            let held = chosen.fold(Rights::empty(), |all, class| all | class);
            let create = SessionCreate { requested: Some(held.class_names()), ..SessionCreate::default() };
            let id = state.create_session(create, &caller).unwrap().session_id;
            let session = &state.sessions[&id];
            let (handle, tenant) = (session.machine, &state.tenants[&session.tenant]);
            let (domain, whole) = (tenant.domain, tenant.machine);
            let inspected = state.kernel.syscall(domain, Syscall::Inspect { target: handle });
            let Ok(Reply::Capability { rights, .. }) = inspected else { panic!("{inspected:?}") };
            assert_eq!(rights & Rights::CLASSES, held);

            let taken = state.kernel.syscall(domain, Syscall::TakeQubit { machine: handle });
            assert_eq!(taken.is_ok(), held.contains(Rights::ALLOC), "{taken:?} with {held}");
            for op in OPS {
                let allowed = held.contains(op.class() | Rights::ALLOC);
                let admitted = state.kernel.syscall(domain, Syscall::Admit { machine: handle, image: image(op) });
                assert_eq!(admitted.is_ok(), allowed, "{op:?} with {held}: {admitted:?}");
                let allowed = held.contains(op.class());
                let applied = one_by_one(&mut state, domain, whole, handle, op);
                assert_eq!(applied.is_ok(), allowed, "{op:?} one by one with {held}: {applied:?}");
            }
            state.close_session(&id).unwrap();
        }
    }

    /// Performs an operation through `machine` on qubits that are taken through `whole`.
    fn one_by_one(
        state: &mut State<SimDevice>,
        domain: qmk_kernel::DomainId,
        whole: qmk_abi::Handle,
        machine: qmk_abi::Handle,
        op: Op,
    ) -> Result<Reply, KernelError> {
        let mut qubits = Vec::new();
        for _ in op.qubits() {
            match state.kernel.syscall(domain, Syscall::TakeQubit { machine: whole }) {
                Ok(Reply::Handle(qubit)) => qubits.push(qubit),
                other => panic!("{other:?}"),
            }
        }
        let mut tries = 0;
        let applied = loop {
            let call = Syscall::Apply { machine, op, qubits: qubits.clone() };
            match state.kernel.syscall(domain, call) {
                // Magic states take epochs to come.
                Err(KernelError::NotReady(_)) if tries < 1000 => {
                    tries += 1;
                    state.kernel.advance();
                }
                reply => break reply,
            }
        };
        for qubit in qubits {
            while matches!(
                state.kernel.syscall(domain, Syscall::FreeQubit { qubit, uncompute: None }),
                Err(KernelError::NotReady(_))
            ) {
                state.kernel.advance();
            }
        }
        applied
    }
}

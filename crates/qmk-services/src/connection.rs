//! An endpoint of the session protocol.

use crate::driver::{Driving, Woken, has_work, turn};
use crate::errors::lost;
use crate::estimate;
use crate::model::caller::Caller;
use crate::model::job::{Job, ended, job_number, no_result};
use crate::model::refusee::Refusee;
use crate::program::Program;
use crate::state::Shared;
use crate::store::event::Account;
use parking_lot::Mutex;
use qmk_abi::Rights;
use qmk_abi::rpc::*;
use qmk_kernel::hal::Device;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time for which a caller's thread may advance the kernel.
const SETTLE: Duration = Duration::from_micros(500);

/// An endpoint of the session protocol. Dropping it closes the sessions that belong to it.
pub struct Connection<D: Device + Send + 'static> {
    pub(crate) shared: Arc<Shared<D>>,
    pub(crate) caller: Mutex<Caller>,
    /// Whether its owner calls [`Endpoint::settle`].
    pub(crate) settles: bool,
    /// Whether a job was submitted and the driver has not been woken.
    pub(crate) unsettled: AtomicBool,
    /// Whether its caller has acted for a tenant.
    pub(crate) authenticated: AtomicBool,
    pub(crate) built: Mutex<Option<Built>>,
}

/// The program that a connection submitted last.
pub(crate) struct Built {
    pub(crate) source: String,
    pub(crate) format: Format,
    pub(crate) policy: Policy,
    pub(crate) granted: Rights,
    pub(crate) program: Program,
}

impl<D: Device + Send + 'static> Connection<D> {
    /// For owners that call [`Endpoint::settle`] after a request: a job then starts on the thread that submitted it,
    /// without waking another.
    pub fn settling(mut self) -> Self {
        self.settles = true;
        self
    }

    /// The account of a job that is no longer in memory. `missing`, the error of looking there, comes back if there is
    /// none.
    pub(crate) fn stored(&self, missing: RpcError, session: &str, job: &str) -> Result<Account, RpcError> {
        let number = job_number(job).filter(|_| missing.code == ErrorCode::JobNotFound && self.shared.store.keeps());
        let Some(number) = number else { return Err(missing) };
        let session = self.shared.state.lock().session(session)?.number;
        self.shared.store.end(session, number).map_err(|e| lost(&e))?.ok_or(missing)
    }

    fn record_refusal(&self, audited: &Audited, caller: &Caller, e: &RpcError) {
        let (mut who, mut number) = (Refusee { uid: caller.uid(), tenant: None }, None);
        let state = self.shared.state.lock();
        // A caller who may not use a session gets the reply of one that does not exist, so the tenant is the caller's.
        if let Some(session) = audited.session.as_ref().and_then(|id| state.sessions.get(id)) {
            (who.tenant, number) = (Some(session.tenant.clone()), Some(session.number));
        } else if let Some(p) = &audited.asked {
            who.tenant = state.claim(p, caller).ok().map(|(tenant, _)| tenant);
        }
        drop(state);
        let claimed = audited.asked.as_ref().and_then(|p| p.tenant_id.as_deref());
        self.shared.audit_limit.record(&self.shared.store, &who, claimed, (audited.method, number), e);
    }

    pub(crate) fn wait(&self, p: &JobWait) -> Result<JobStatus, RpcError> {
        let deadline = p.timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        let mut state = self.shared.state.lock();
        loop {
            self.shared.check_running()?;
            let status = match state.status(&p.session_id, &p.job_id) {
                Ok(status) => status,
                Err(e) => {
                    drop(state);
                    return self.stored(e, &p.session_id, &p.job_id).map(|end| end.status);
                }
            };
            if status.state.ended() {
                return Ok(status);
            }
            let late = match deadline {
                Some(d) => self.shared.changed.wait_until(&mut state, d).timed_out(),
                None => {
                    self.shared.changed.wait(&mut state);
                    false
                }
            };
            if late {
                let message = format!("{} has not ended after {} ms", p.job_id, p.timeout_ms.unwrap_or(0));
                return Err(RpcError::new(ErrorCode::Timeout, message));
            }
        }
    }
}

impl<D: Device + Send + 'static> Endpoint for Connection<D> {
    fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed) || self.shared.state.lock().has_tenant(&self.caller.lock())
    }

    fn settle(&self) {
        if !self.unsettled.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut state = self.shared.state.lock();
        if state.driving || state.stopping {
            return;
        }
        let start = Instant::now();
        // If a turn panics, the driver goes on.
        let woken = Woken(&self.shared.work);
        let mut driving = Driving::begin(&mut state);
        while !driving.stopping && has_work(&driving) && start.elapsed() < SETTLE {
            turn(&self.shared, &mut driving);
        }
        drop(driving);
        std::mem::forget(woken);
        if has_work(&state) {
            // The driver takes over work that takes longer.
            self.shared.work.notify_all();
        }
    }

    fn call(&self, request: Request) -> Result<Reply, RpcError> {
        self.shared.check_running()?;
        self.settle();
        let request = request.current();
        let caller = self.caller.lock().clone();
        let session = request.session();
        let authorized = self.shared.state.lock().authorize(&request, session, &caller);
        if authorized.is_ok() && session.is_some() {
            self.authenticated.store(true, Ordering::Relaxed);
        }
        // The request is gone by the time it is refused, and the audit log records the refusal.
        let audited = self.shared.store.keeps().then(|| Audited::of(&request, session));
        let result = authorized.and_then(|()| self.perform(request, &caller));
        if let Err(e) = &result {
            if let Some(reason) = e.stop_reason() {
                self.shared.stop(reason);
            } else if let Some(audited) = audited {
                self.record_refusal(&audited, &caller, e);
            }
        }
        result
    }
}

/// The part of a request that the audit log records if it is refused.
struct Audited {
    method: &'static str,
    session: Option<String>,
    /// The parameters of a session that is asked for, without the capabilities, which may be long.
    asked: Option<SessionCreate>,
}

impl Audited {
    fn of(request: &Request, session: Option<&str>) -> Audited {
        let asked = match request {
            Request::SessionCreate(p) => Some(SessionCreate { requested: None, ..p.clone() }),
            _ => None,
        };
        Audited { method: request.method(), session: session.map(String::from), asked }
    }
}

impl<D: Device + Send + 'static> Connection<D> {
    /// Performs a request that is authorized.
    fn perform(&self, request: Request, caller: &Caller) -> Result<Reply, RpcError> {
        let state = || self.shared.state.lock();
        match request {
            Request::SessionCreateV1(old) => self.create_session(old.into(), caller).map(Reply::Session),
            Request::SessionCreate(p) => self.create_session(p, caller).map(Reply::Session),
            Request::SessionClose(p) => {
                let closed = state().close_on_request(&p.session_id);
                // Waiters on its jobs must learn of it.
                self.shared.changed.notify_all();
                closed.map(Reply::Closed)
            }
            Request::JobSubmit(p) => self.submit(p).map(Reply::Submitted),
            Request::JobStatus(p) => {
                let status = state().status(&p.session_id, &p.job_id);
                let stored = |e| self.stored(e, &p.session_id, &p.job_id).map(|end| end.status);
                status.or_else(stored).map(Reply::Status)
            }
            Request::JobWait(p) => {
                let (start, status) = (Instant::now(), self.wait(&p));
                state().charge_wait(&p.session_id, start.elapsed())?;
                status.map(Reply::Status)
            }
            Request::JobResult(p) => self.result(&p).map(Reply::Result),
            Request::JobCancel(p) => {
                let cancelled = state().cancel(&p.session_id, &p.job_id);
                self.shared.changed.notify_all();
                let ended = |e| match self.stored(e, &p.session_id, &p.job_id) {
                    Ok(_) => Err(ended(&p.job_id)),
                    Err(e) => Err(e),
                };
                cancelled.or_else(ended).map(Reply::Cancelled)
            }
            Request::Authenticate(p) => self.authenticate(&p, caller).map(Reply::Authenticated),
            Request::ResourceQuery(p) => state().resources(&p.session_id).map(Reply::Resources),
            Request::JobList(p) => self.job_list(&p.session_id).map(Reply::Jobs),
            Request::MachineStats(p) => state().machine_view(&p.session_id, caller).map(Reply::Machine),
            Request::Estimate(p) => {
                let (tenant, max_nodes) = {
                    let state = state();
                    (state.session(&p.session_id)?.tenant.clone(), state.config.max_nodes)
                };
                estimate::estimate(p, &self.shared.build_queue, &tenant, max_nodes).map(Reply::Estimate)
            }
            Request::Telemetry(p) => {
                let telemetry = state().job(&p.session_id, &p.job_id).map(Job::telemetry);
                let stored = |e| self.stored(e, &p.session_id, &p.job_id).map(|end| end.status.telemetry);
                telemetry.map(Some).or_else(stored).map(|t| Reply::Telemetry(t.unwrap_or_default()))
            }
            Request::AuditHead(_) => self.shared.store.head().map(Reply::AuditHead),
            Request::AuditProve(p) => {
                let tenant = state().session(&p.session_id)?.tenant.clone();
                self.shared.store.prove(&tenant, p.index).map(Reply::AuditProof)
            }
            Request::Interactive(call) => self.interactive(call).map(Reply::Interactive),
        }
    }

    fn create_session(&self, p: SessionCreate, caller: &Caller) -> Result<SessionInfo, RpcError> {
        let mut state = self.shared.state.lock();
        state.admit(caller)?;
        let created = state.create_session(p, caller);
        state.tried(caller, &created);
        self.authenticated.fetch_or(created.is_ok(), Ordering::Relaxed);
        created
    }

    fn authenticate(&self, p: &Authenticate, caller: &Caller) -> Result<Authenticated, RpcError> {
        let mut state = self.shared.state.lock();
        state.admit(caller)?;
        let shown = state.authenticate(p);
        state.tried(caller, &shown);
        drop(state);
        let (credential, info) = shown?;
        self.caller.lock().shown = Some(credential);
        self.authenticated.store(true, Ordering::Relaxed);
        Ok(info)
    }

    /// The result of a job: of memory, or else of the journal.
    fn result(&self, p: &JobRef) -> Result<Arc<JobResult>, RpcError> {
        let state = self.shared.state.lock();
        let (result, missing) = match state.job(&p.session_id, &p.job_id) {
            Ok(job) => (job.result.clone(), no_result(&p.job_id, job.state, job.error.as_deref())),
            Err(e) => (None, e),
        };
        drop(state);
        if let Some(result) = result {
            return Ok(result);
        }
        let Account { status, result } = self.stored(missing, &p.session_id, &p.job_id)?;
        result.map(Arc::new).ok_or_else(|| no_result(&p.job_id, status.state, status.error.as_deref()))
    }
}

impl<D: Device + Send + 'static> Drop for Connection<D> {
    fn drop(&mut self) {
        self.settle();
        if self.shared.leaving.load(Ordering::Relaxed) {
            return;
        }
        let id = self.caller.lock().connection;
        let mut state = self.shared.state.lock();
        let mine = state.sessions.iter().filter(|(_, s)| s.bound && s.owner == Some(id));
        for id in mine.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            // It was just listed.
            let _ = state.close_session(&id);
        }
        self.shared.changed.notify_all();
    }
}

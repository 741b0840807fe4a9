//! Identity: the tenant that a caller acts for.
//!
//! A connection is known by the Unix user at its other end, and by the token that it has shown, if any. Both stand for
//! tenants by the machine's policy. Another tenant's object gives the same reply as a missing one.

use crate::errors::not_found;
use crate::model::caller::{Caller, Credential, Identity};
use crate::policy::{SitePolicy, TenantPolicy};
use crate::state::State;
use qmk_abi::Rights;
use qmk_abi::rpc::*;
use qmk_kernel::hal::Device;
use qmk_token::Token;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum refusals of identity per user and second. Later attempts wait.
const TRIES: u32 = 10;
/// Rate limits kept before idle ones are dropped.
const STRANGERS: usize = 1024;

fn refused(message: impl Into<String>) -> RpcError {
    RpcError::new(ErrorCode::AuthFailed, message)
}

/// Whether a request only reads or ends what the session made. Such requests work after the token has expired.
fn looks_back(request: &Request) -> bool {
    use Request::*;
    use interactive::Call;
    matches!(
        request,
        SessionClose(_)
            | JobStatus(_)
            | JobWait(_)
            | JobResult(_)
            | JobCancel(_)
            | ResourceQuery(_)
            | JobList(_)
            | MachineStats(_)
            | Request::Telemetry(_)
            | Interactive(Call::ChannelStatus(_) | Call::ChannelList(_) | Call::Mapping(_))
    )
}

impl<D: Device> State<D> {
    /// The policy's entry of a tenant; `None` without a policy.
    pub(crate) fn rules(&self, tenant: &str) -> Option<&TenantPolicy> {
        self.config.policy.as_ref()?.tenants.get(tenant)
    }

    /// Checks a token that is shown. Tokens without a valid signature get one reply, whatever is wrong with them.
    pub(crate) fn credential(&self, text: &str) -> Result<Arc<Credential>, RpcError> {
        let unknown = || refused("the token is not valid on this machine");
        let policy = self.config.policy.as_ref().ok_or_else(unknown)?;
        let tokens = policy.tokens.as_ref().ok_or_else(unknown)?;
        let key = tokens.key.as_ref().ok_or_else(unknown)?;
        let token: Token = text.parse().map_err(|_| unknown())?;
        let grant = token.verify(key).map_err(|_| unknown())?.clone();
        if !policy.tenants.contains_key(&grant.tenant) {
            return Err(unknown());
        }
        if token.attenuations() > tokens.max_depth as usize {
            let (made, most) = (token.attenuations(), tokens.max_depth);
            return Err(refused(format!("the token was attenuated {made} times; this machine accepts {most}")));
        }
        let credential = Credential { grant, key: key.fingerprint() };
        self.check(&credential)?;
        Ok(Arc::new(credential))
    }

    /// Whether a token that was accepted before still is.
    fn check(&self, credential: &Credential) -> Result<(), RpcError> {
        let tokens = self.config.policy.as_ref().and_then(|p| p.tokens.as_ref());
        let tokens = tokens.filter(|t| t.key.as_ref().is_some_and(|k| k.fingerprint() == credential.key));
        let tokens = tokens.ok_or_else(|| refused("the token is not valid on this machine any more"))?;
        let checked = credential.grant.check((self.config.unix_time)(), &tokens.revoked);
        checked.map_err(|e| refused(format!("{e}; ask for another")))
    }

    /// Whether the caller acts for a tenant by the user it is.
    fn acts_for(&self, caller: &Caller, tenant: &str) -> bool {
        match &self.config.policy {
            None => caller.owner(),
            Some(policy) => policy.tenants.get(tenant).is_some_and(|t| {
                // The owner of the machine may write its policy, too.
                caller.owner() || caller.uid().is_some_and(|uid| t.uids.contains(&uid))
            }),
        }
    }

    fn check_suspended(&self, tenant: &str) -> Result<(), RpcError> {
        if self.rules(tenant).is_some_and(|t| t.suspended) {
            let message = format!("tenant {tenant:?} is suspended; ask the operator of this machine");
            return Err(RpcError::new(ErrorCode::TenantSuspended, message));
        }
        Ok(())
    }

    /// The tenant that a caller acts for if it names none.
    fn usual_tenant(&self, caller: &Caller) -> Result<String, RpcError> {
        const DEFAULT: &str = "default";
        let nobody = || {
            let who = caller.uid().map_or("this program".into(), |uid| format!("user {uid}"));
            refused(format!("{who} has no tenant on this machine; ask its operator, or show a token"))
        };
        let Some(policy) = &self.config.policy else {
            return if caller.owner() { Ok(DEFAULT.into()) } else { Err(nobody()) };
        };
        let mut mine: Vec<&str> = caller.uid().map_or(Vec::new(), |uid| policy.tenants_of(uid).collect());
        if mine.is_empty() && caller.owner() {
            mine = policy.tenants.keys().map(String::as_str).collect();
        }
        match mine.as_slice() {
            [] => Err(nobody()),
            [one] => Ok((*one).into()),
            several if several.contains(&DEFAULT) => Ok(DEFAULT.into()),
            several => {
                let names = several.iter().take(20).copied().collect::<Vec<_>>().join(", ");
                let message = format!("say which tenant you act for (tenant_id, qmk --tenant); yours: {names}");
                Err(RpcError::new(ErrorCode::InvalidParams, message))
            }
        }
    }

    /// The tenant that a session is asked for, if the caller may act for it, and the token that says so.
    pub(crate) fn claim(
        &self,
        p: &SessionCreate,
        caller: &Caller,
    ) -> Result<(String, Option<Arc<Credential>>), RpcError> {
        let token = match (&p.token, &caller.shown) {
            (Some(text), _) => Some(self.credential(text)?),
            (None, Some(shown)) => {
                self.check(shown)?;
                Some(shown.clone())
            }
            (None, None) => None,
        };
        let tenant = match (&token, &p.tenant_id) {
            (Some(token), named) if named.as_ref().is_none_or(|n| *n == token.grant.tenant) => {
                token.grant.tenant.clone()
            }
            (None, None) => self.usual_tenant(caller)?,
            (None, Some(named)) if self.acts_for(caller, named) => named.clone(),
            _ => return Err(refused("tenant_id: no such tenant, or not yours to act for")),
        };
        Ok((tenant, token))
    }

    /// Whether a caller acts for any tenant by the user it is.
    pub(crate) fn has_tenant(&self, caller: &Caller) -> bool {
        let of = |uid| self.config.policy.as_ref().is_some_and(|p| p.tenants_of(uid).next().is_some());
        caller.owner() || caller.uid().is_some_and(of)
    }

    /// Whether a user may try again to be known. The machine's own may try as often as it likes.
    pub(crate) fn admit(&mut self, caller: &Caller) -> Result<(), RpcError> {
        let Some(uid) = caller.uid().filter(|_| !caller.owner()) else { return Ok(()) };
        let now = Instant::now();
        let Some(wait) = self.strangers.get(&uid).and_then(|rate| rate.wait(TRIES, now)) else { return Ok(()) };
        let ms = wait.as_millis() as u64 + 1;
        let message = format!("user {uid} was refused more than {TRIES} times in a second; try again in {ms} ms");
        Err(RpcError { retry_after_ms: Some(ms), ..RpcError::new(ErrorCode::QuotaExceeded, message) })
    }

    /// Counts a refused identity against the user.
    pub(crate) fn tried<T>(&mut self, caller: &Caller, result: &Result<T, RpcError>) {
        let failed = result.as_ref().is_err_and(|e| e.code == ErrorCode::AuthFailed);
        let Some(uid) = caller.uid().filter(|_| failed && !caller.owner()) else { return };
        let now = Instant::now();
        if self.strangers.len() >= STRANGERS {
            self.strangers.retain(|_, rate| !rate.idle(now));
        }
        // It was admitted, so this is not too early.
        _ = self.strangers.entry(uid).or_default().charge(TRIES, now);
    }

    /// The identity that a session is opened with.
    pub(crate) fn identify(&self, p: &SessionCreate, caller: &Caller) -> Result<Identity, RpcError> {
        let (tenant, token) = self.claim(p, caller)?;
        self.check_suspended(&tenant)?;
        let all = Rights::CLASSES - Rights::ADMIN;
        let ceiling = match (self.rules(&tenant), &self.config.policy) {
            (Some(rules), _) => rules.capabilities,
            (None, None) => all,
            // Its token is older than the policy.
            (None, Some(_)) => return Err(refused("the token is not valid on this machine any more")),
        };
        let ceiling = all & ceiling & token.as_ref().map_or(all, |t| t.grant.capabilities);
        Ok(Identity { tenant, ceiling, token })
    }

    /// Whether a request may name the session it names, and is not one too many; notes the use of the session.
    pub(crate) fn authorize(
        &mut self,
        request: &Request,
        session: Option<&str>,
        caller: &Caller,
    ) -> Result<(), RpcError> {
        let Some(id) = session else { return Ok(()) };
        let open = self.sessions.get(id).map(|s| (&s.tenant, s.uid, &s.token));
        let record = open.or_else(|| self.dormant.get(id).map(|t| (&t.tenant, t.uid, &t.token)));
        let Some((tenant, uid, token)) = record else { return not_found(ErrorCode::SessionNotFound) };
        let tenant = tenant.clone();
        let shown = caller.shown.as_ref().is_some_and(|c| c.grant.tenant == tenant && self.check(c).is_ok());
        let known = shown || self.acts_for(caller, &tenant);
        // The id of a session opened by token is a secret of the user who opened it, so knowing it is enough.
        let made = token.is_some() && uid == caller.uid();
        if !known && !made {
            return not_found(ErrorCode::SessionNotFound);
        }
        self.check_suspended(&tenant)?;
        if let Some(token) = token.as_ref().filter(|_| !known || !looks_back(request)) {
            self.check(token)?;
        }
        if open.is_none() {
            self.resume(id)?;
        }
        if !matches!(request, Request::JobWait(_)) {
            self.charge(&tenant)?;
        }
        self.touch(id, caller.connection);
        Ok(())
    }

    /// Counts a request of a tenant.
    pub(crate) fn charge(&mut self, tenant: &str) -> Result<(), RpcError> {
        let given = self.rules(tenant).and_then(|t| t.quota.max_requests_per_second);
        let Some(most) = given.or(self.config.max_requests_per_second) else { return Ok(()) };
        let Some(tenant) = self.tenants.get_mut(tenant) else { return Ok(()) };
        tenant.rate.charge(most, Instant::now()).map_err(|wait| {
            let ms = wait.as_millis() as u64 + 1;
            let message = format!("more than the tenant's {most} requests in a second; try again in {ms} ms");
            RpcError { retry_after_ms: Some(ms), ..RpcError::new(ErrorCode::QuotaExceeded, message) }
        })
    }

    /// Counts a wait that did not take its time: the others slow their callers down by themselves.
    pub(crate) fn charge_wait(&mut self, session: &str, took: Duration) -> Result<(), RpcError> {
        const SLOW: Duration = Duration::from_millis(100);
        let tenant = self.sessions.get(session).filter(|_| took < SLOW).map(|s| s.tenant.clone());
        tenant.map_or(Ok(()), |tenant| self.charge(&tenant))
    }

    /// The token that a connection shows from now on.
    pub(crate) fn authenticate(&self, p: &Authenticate) -> Result<(Arc<Credential>, Authenticated), RpcError> {
        let credential = self.credential(&p.token)?;
        let grant = &credential.grant;
        self.check_suspended(&grant.tenant)?;
        let rules = self.rules(&grant.tenant).map_or(Rights::empty(), |t| t.capabilities);
        let info = Authenticated {
            tenant_id: grant.tenant.clone(),
            token_id: grant.id.to_string(),
            capabilities: (grant.capabilities & rules).class_names(),
            expires: grant.expires,
        };
        Ok((credential, info))
    }

    /// Whether the policy, if there is one, would grant this session.
    pub(crate) fn gives(&self, tenant: &str, granted: Rights, token: Option<&Credential>) -> bool {
        if self.config.policy.is_none() {
            return true;
        }
        // A token that has only expired closes no session: what it made can still be fetched.
        let expired = |c: &Credential| c.grant.expires <= (self.config.unix_time)();
        self.rules(tenant).is_some_and(|t| t.capabilities.contains(granted))
            && token.is_none_or(|c| expired(c) || self.check(c).is_ok())
    }

    /// Takes on a new policy, and closes the sessions that it would not give.
    pub(crate) fn set_policy(&mut self, policy: SitePolicy) {
        self.config.policy = Some(Arc::new(policy));
        let open = self.sessions.iter().map(|(id, s)| (id, &s.tenant, s.granted, &s.token));
        let all = open.chain(self.dormant.iter().map(|(id, t)| (id, &t.tenant, t.granted, &t.token)));
        let over = all.filter(|(_, tenant, granted, token)| !self.gives(tenant, *granted, token.as_deref()));
        for id in over.map(|(id, ..)| id.clone()).collect::<Vec<_>>() {
            self.close_dormant(&id);
            // If it was not aside, it is open.
            let _ = self.close_session(&id);
        }
    }
}

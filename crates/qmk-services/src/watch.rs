//! Figures of the machine and lists of jobs. Nothing here changes the machine.

use crate::connection::Connection;
use crate::model::caller::Caller;
use crate::model::session::Session;
use crate::model::tenant::Tenant;
use crate::state::State;
use qmk_abi::rpc::*;
use qmk_abi::syscall::DomainUsage;
use qmk_abi::{Rights, Syscall};
use qmk_kernel::DomainId;
use qmk_kernel::hal::Device;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

/// Maximum jobs in one reply.
const LISTED: usize = 1000;

impl<D: Device + Send + 'static> Connection<D> {
    /// Jobs of all sessions of the tenant: those in memory, and the latest of those in the store.
    pub(crate) fn job_list(&self, session: &str) -> Result<JobList, RpcError> {
        let (tenant, mut jobs) = {
            let state = self.shared.state.lock();
            let asking = state.session(session)?;
            (asking.tenant.clone(), state.jobs_in_memory(asking))
        };
        // The store is read without the lock.
        let stored = self.shared.store.recent(&tenant, LISTED).unwrap_or_default();
        if !stored.is_empty() {
            let known: BTreeSet<String> = jobs.iter().map(|j| j.job_id.clone()).collect();
            let state = self.shared.state.lock();
            let asking = state.session(session)?;
            for (number, mut job) in stored.into_iter().filter(|(_, j)| !known.contains(&j.job_id)) {
                job.session_id = self.shared.store.session_id(number);
                if state.visible(asking, &job.session_id) {
                    jobs.push(job);
                }
            }
        }
        let more = jobs.len().saturating_sub(LISTED) as u64;
        jobs.truncate(LISTED);
        Ok(JobList { tenant, jobs, more })
    }
}

impl<D: Device> State<D> {
    pub(crate) fn usage(&mut self, domain: DomainId) -> DomainUsage {
        match self.kernel.syscall(domain, Syscall::Usage) {
            Ok(qmk_abi::Reply::Usage { used, .. }) => used,
            _ => DomainUsage::default(),
        }
    }

    /// Remembers what a tenant spent, for a count never falls.
    pub(crate) fn retire(&mut self, tenant: &Tenant) {
        self.watched.retired_magic += self.usage(tenant.domain).total_magic;
    }

    /// Whether a session may learn of another: a name is enough to act in it, so one that was opened by token learns of
    /// none that may do more.
    fn visible(&self, asking: &Session, session: &str) -> bool {
        let open = self.sessions.get(session).map(|s| (&s.tenant, s.granted));
        let found = open.or_else(|| self.dormant.get(session).map(|t| (&t.tenant, t.granted)));
        found.is_some_and(|(tenant, granted)| {
            *tenant == asking.tenant && (asking.token.is_none() || asking.granted.contains(granted))
        })
    }

    /// Jobs in memory: unfinished ones in order of submission, then ended ones, the latest first.
    fn jobs_in_memory(&self, asking: &Session) -> Vec<JobEntry> {
        let tenant = &self.tenants[&asking.tenant];
        let of = |number: u64, session: &str| {
            let job = self.sessions.get(session)?.jobs.get(&number)?;
            (!job.silent && job.recorded.load(Ordering::Acquire)).then(|| JobEntry {
                session_id: session.into(),
                job_id: format!("job_{number}"),
                state: job.state,
                shots: job.policy.shots,
                priority: job.policy.priority,
                progress: job.progress(),
                age_ms: job.took.unwrap_or_else(|| job.started.elapsed()).as_millis() as u64,
            })
        };
        let unfinished = self.unfinished.iter().filter(|(_, s)| tenant.sessions.contains(*s));
        let ended = tenant.kept.iter().rev().map(|(n, (s, _))| (n, s));
        let all = unfinished.chain(ended).filter(|(_, s)| self.visible(asking, s));
        all.filter_map(|(&n, s)| of(n, s)).collect()
    }

    /// The whole machine, for its owner, and for a session that may see it.
    pub(crate) fn machine_view(&mut self, session: &str, caller: &Caller) -> Result<MachineStats, RpcError> {
        if self.session(session)?.granted.contains(Rights::ADMIN) || caller.owner() {
            return Ok(self.machine_stats());
        }
        let mut e = RpcError::new(
            ErrorCode::AccessDenied,
            "figures of the whole machine are for its owner, or need CAP_ADMIN; `qmk resources` and `qmk ps` \
             (qmk_resource_query, qmk_job_list) tell of the own tenant",
        );
        (e.required, e.missing) = (vec!["CAP_ADMIN".into()], vec!["CAP_ADMIN".into()]);
        Err(e)
    }

    pub(crate) fn machine_stats(&mut self) -> MachineStats {
        let kernel = self.kernel.stats();
        let mut counts: BTreeMap<&str, JobCounts> = BTreeMap::new();
        for (number, id) in &self.unfinished {
            let Some(session) = self.sessions.get(id) else { continue };
            let Some(job) = session.jobs.get(number) else { continue };
            counts.entry(&session.tenant).or_default().add(job.state);
        }
        let mut tenants: Vec<TenantStats> = Vec::with_capacity(self.tenants.len());
        let mut domains = Vec::with_capacity(self.tenants.len());
        for (name, tenant) in &self.tenants {
            let now = counts.get(name.as_str()).copied().unwrap_or_default();
            let jobs = JobCounts { queued: now.queued, running: now.running, ..tenant.ended };
            let sessions = tenant.sessions.len() as u64;
            tenants.push(TenantStats { tenant: name.clone(), sessions, jobs, ..TenantStats::default() });
            domains.push(tenant.domain);
        }
        for (tenant, domain) in tenants.iter_mut().zip(domains) {
            let used = self.usage(domain);
            tenant.logical_qubits = used.qubits as u64;
            (tenant.magic_spent, tenant.pairs_spent) = (used.total_magic, used.total_pairs);
        }
        let sum = |f: fn(&qmk_kernel::RegionStats) -> u64| kernel.regions.iter().map(f).sum();
        MachineStats {
            uptime_ms: self.watched.started.elapsed().as_millis() as u64,
            epoch: kernel.epoch,
            instructions: self.watched.issued,
            logical_qubits: sum(|r| r.qubits as u64),
            logical_qubits_free: sum(|r| r.qubits_free as u64),
            magic_stock: sum(|r| r.magic_stock as u64),
            magic_buffer: sum(|r| r.magic_buffer as u64),
            magic_spent: self.watched.retired_magic + tenants.iter().map(|t| t.magic_spent).sum::<u64>(),
            decoder_backlog: sum(|r| r.decoder_backlog),
            pairs_due: kernel.pairs_due,
            strands_waiting: sum(|r| r.strands_waiting as u64),
            strands_running: sum(|r| r.strands_running as u64),
            strands_draining: sum(|r| r.strands_draining as u64),
            tenants,
        }
    }
}

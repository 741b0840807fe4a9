//! Ends of jobs, and the results that are kept.

use crate::errors::not_found;
use crate::model::job::{Job, KEY_BYTES, Outcomes, bytes_of_params, ended, job_number};
use crate::state::State;
use qmk_abi::rpc::*;
use qmk_kernel::hal::Device;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl<D: Device> State<D> {
    /// Keeps the result of a finished job, unless it is gone by now.
    pub(crate) fn keep(&mut self, session: &str, number: u64, result: JobResult) {
        let job = self.sessions.get_mut(session).and_then(|s| s.jobs.get_mut(&number));
        let Some(job) = job.filter(|j| !j.state.ended()) else { return };
        let counts: usize = result.report.counts.keys().map(|k| k.len() + KEY_BYTES).sum();
        let names: usize = result.report.events.iter().map(|e| 2 * (e.len() + KEY_BYTES)).sum();
        job.state = JobState::Completed;
        job.result = Some(Arc::new(result));
        self.end(session, number, counts + names);
    }

    /// Gives back what an ended job held in the kernel, and forgets the oldest results of a tenant that keeps too much.
    pub(crate) fn end(&mut self, session: &str, number: u64, bytes: usize) {
        self.unfinished.remove(&number);
        let Some(owner) = self.sessions.get_mut(session) else { return };
        let (Some(tenant), Some(job)) = (self.tenants.get_mut(&owner.tenant), owner.jobs.get_mut(&number)) else {
            return;
        };
        if !job.silent {
            tenant.ended.add(job.state);
        }
        let ms = job.started.elapsed().as_millis() as u64;
        let state = job.state.name();
        tracing::info!(job = number, tenant = owner.tenant, state, epochs = job.status.epochs, ms, "job ended");
        job.took = Some(job.started.elapsed());
        job.program = None;
        job.outcomes = Outcomes::default();
        let bytes = bytes + job.source.as_ref().map_or(0, |(text, _)| text.len()) + bytes_of_params(&job.policy);
        let (domain, mut held) = (tenant.domain, vec![job.strand, job.image]);
        held.extend(owner.held.take_of_job(number));
        tenant.kept.insert(number, (session.into(), bytes));
        tenant.kept_bytes += bytes;
        let mut excess = tenant.kept_bytes.saturating_sub(self.config.kept_bytes);
        let mut old = Vec::new();
        for (&n, (session, bytes)) in tenant.kept.iter().filter(|(n, (_, bytes))| **n != number && *bytes > 0) {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(*bytes);
            old.push((session.clone(), n));
        }
        for target in held {
            // No one else holds them.
            let _ = self.delete(domain, target);
        }
        for (session, n) in old {
            self.forget(&session, n);
        }
    }

    /// Forgets an ended job.
    pub(crate) fn forget(&mut self, session: &str, number: u64) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        session.jobs.remove(&number);
        if let Some(tenant) = self.tenants.get_mut(&session.tenant) {
            tenant.kept_bytes -= tenant.kept.remove(&number).map_or(0, |(_, bytes)| bytes);
        }
    }

    pub(crate) fn job(&self, session: &str, job: &str) -> Result<&Job, RpcError> {
        let session = self.session(session)?;
        let job = job_number(job).and_then(|n| session.jobs.get(&n));
        job.filter(|j| j.recorded.load(Ordering::Acquire)).map_or_else(|| not_found(ErrorCode::JobNotFound), Ok)
    }

    pub(crate) fn status(&self, session: &str, id: &str) -> Result<JobStatus, RpcError> {
        Ok(self.job(session, id)?.report(id))
    }

    pub(crate) fn cancel(&mut self, session: &str, id: &str) -> Result<Cancelled, RpcError> {
        let job = self.job(session, id)?;
        if job.state.ended() {
            return Err(ended(id));
        }
        let owner = self.session(session)?;
        let status = JobStatus { state: JobState::Cancelled, ..job.report(id) };
        let ticket = job.ticket(owner.tenant.clone(), owner.number, job_number(id).unwrap_or(0));
        self.store.try_ended(&ticket, status, None)?;
        let epoch = self.kernel.epoch();
        if let Some(number) = job_number(id) {
            if let Some(job) = self.sessions.get_mut(session).and_then(|s| s.jobs.get_mut(&number)) {
                job.state = JobState::Cancelled;
            }
            self.end(session, number, 0);
        }
        Ok(Cancelled { job_id: id.into(), state: JobState::Cancelled, cancelled_at_epoch: epoch })
    }
}

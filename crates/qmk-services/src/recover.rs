//! Recovery: sessions and unfinished jobs of the directory that a machine is started on.

use crate::model::session::SessionRecord;
use crate::model::ticket::Ticket;
use crate::program::Program;
use crate::state::State;
use crate::store::error::StoreError;
use crate::store::index::StoredSession;
use qmk_abi::Rights;
use qmk_abi::rpc::*;
use qmk_kernel::hal::Device;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl<D: Device> State<D> {
    /// Takes up the sessions again that were open, and submits the jobs again that had not ended.
    pub(crate) fn recover(&mut self) -> Result<(), StoreError> {
        let store = self.store.clone();
        let mut tenants = BTreeMap::new();
        for (number, record) in store.sessions()? {
            let granted = record.granted.iter().filter_map(|c| Rights::from_class_name(c)).collect();
            let StoredSession { tenant, uid, token, .. } = record;
            // The policy may have changed meanwhile.
            if !self.gives(&tenant, granted, token.as_ref()) {
                store.closed(&tenant, number);
                continue;
            }
            tenants.insert(number, tenant.clone());
            let (owner, token, worked) = (None, token.map(Arc::new), false);
            let session = SessionRecord { number, tenant, granted, owner, uid, token, worked };
            self.dormant.insert(store.session_id(number), session);
        }
        for job in store.unfinished()? {
            let mut job = job?;
            let Some(tenant) = tenants.get(&job.session).cloned() else { continue };
            job.submit.session_id = store.session_id(job.session);
            self.next_job = job.job;
            let again = self.resume(&job.submit.session_id).and_then(|()| {
                let JobSubmit { session_id, source, format, policy } = &job.submit;
                let granted = self.session(session_id)?.granted;
                let program = Program::build(source, *format, &policy.params, policy.profile.as_deref(), granted)?;
                self.submit(&job.submit, program, false)
            });
            match again {
                Ok((_, ticket)) => ticket.recorded.store(true, Ordering::Release),
                // On a smaller machine.
                Err(e) => {
                    let error = Some(format!("after a restart of the server it could not be run again: {e}"));
                    let status = JobStatus {
                        job_id: format!("job_{}", job.job),
                        state: JobState::Failed,
                        progress: Progress::default(),
                        events: None,
                        telemetry: None,
                        error,
                    };
                    let Policy { shots, priority, .. } = job.submit.policy;
                    let (started, recorded) = (Instant::now(), Arc::default());
                    let (session, job) = (job.session, job.job);
                    let ticket = Ticket { tenant, session, job, shots, priority, started, recorded, silent: false };
                    store.try_ended(&ticket, status, None)?;
                }
            }
        }
        self.next_job = store.next_job()?;
        Ok(())
    }
}

//! An open session: programs are submitted in it.

use crate::client::Client;
use crate::error::{ClientError, unexpected};
use crate::job::Job;
use crate::program::Program;
use qmk_abi::Rights;
use qmk_abi::rpc::{
    EstimateRequest, JobList, JobRef, JobResult, JobSubmit, LogicalCounts, MachineStats, Policy, Reply, Request,
    Resources, SessionCreate, SessionInfo, SessionRef,
};
use std::collections::BTreeMap;

/// An open session; closed when dropped, unless it is detached.
pub struct Session {
    pub(crate) client: Client,
    pub(crate) info: SessionInfo,
    pub(crate) close_on_drop: bool,
}

impl Client {
    /// Opens a session that only looks: it holds no capabilities, and the machine does not record it.
    ///
    /// # Errors
    /// If the tenant may not.
    pub fn observe(&self, tenant_id: Option<&str>) -> Result<Session, ClientError> {
        let tenant_id = tenant_id.map(String::from);
        self.session_with(SessionCreate { tenant_id, observer: true, ..SessionCreate::default() })
    }

    /// Opens a session with all the capabilities that the tenant's policy and the token allow.
    ///
    /// # Errors
    /// If the tenant may not.
    pub fn session_default(&self) -> Result<Session, ClientError> {
        self.session_with(SessionCreate::default())
    }

    /// Opens a session with these capabilities and no others; [`SessionInfo::denied`] lists those it was not given.
    ///
    /// # Errors
    /// If the tenant may not.
    pub fn session(&self, caps: &[Rights]) -> Result<Session, ClientError> {
        let requested = Some(caps.iter().flat_map(|c| c.class_names()).collect());
        self.session_with(SessionCreate { requested, ..SessionCreate::default() })
    }

    /// Opens a session.
    ///
    /// # Errors
    /// If the tenant may not.
    pub fn session_with(&self, params: SessionCreate) -> Result<Session, ClientError> {
        let close_on_drop = !params.detached;
        match self.call(Request::SessionCreate(params))? {
            Reply::Session(info) => Ok(Session { client: self.clone(), info, close_on_drop }),
            other => unexpected(other),
        }
    }
}

impl Session {
    /// Id, granted and denied capabilities, quota.
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// Submits a program.
    ///
    /// # Errors
    /// Findings, missing capabilities, quotas.
    pub fn submit(&self, program: &Program, policy: Policy) -> Result<Job, ClientError> {
        let submit = JobSubmit {
            session_id: self.info.session_id.clone(),
            source: program.source.clone(),
            format: program.format,
            policy,
        };
        match self.client.call(Request::JobSubmit(submit))? {
            Reply::Submitted(s) => {
                let reference = JobRef { session_id: self.info.session_id.clone(), job_id: s.job_id };
                Ok(Job { client: self.client.clone(), reference, estimated_epochs: s.estimated_epochs })
            }
            other => unexpected(other),
        }
    }

    /// Submits a program and waits for its result.
    ///
    /// # Errors
    /// As [`Session::submit`] and [`Job::wait`].
    pub fn run(&self, program: &Program, policy: Policy) -> Result<JobResult, ClientError> {
        self.submit(program, policy)?.wait(None)
    }

    /// Physical resources of a program on a machine that `job_params` describe: JSON under the names of the Azure
    /// Quantum Resource Estimator, as is the report; empty for all defaults. `params` are values for `.param`
    /// directives.
    ///
    /// # Errors
    /// Findings, parameters out of range, constraints that no machine keeps.
    pub fn estimate(
        &self,
        program: &Program,
        params: BTreeMap<String, String>,
        job_params: &str,
    ) -> Result<String, ClientError> {
        let (source, format) = (Some(program.source.clone()), program.format);
        self.request_estimate(EstimateRequest { source, format, params, ..self.estimate_with(job_params) })
    }

    /// As [`Session::estimate`], of logical counts.
    ///
    /// # Errors
    /// As there.
    pub fn estimate_counts(&self, counts: LogicalCounts, job_params: &str) -> Result<String, ClientError> {
        self.request_estimate(EstimateRequest { counts: Some(counts), ..self.estimate_with(job_params) })
    }

    fn estimate_with(&self, job_params: &str) -> EstimateRequest {
        let (session_id, job_params) = (self.info.session_id.clone(), job_params.into());
        EstimateRequest { session_id, job_params, ..EstimateRequest::default() }
    }

    fn request_estimate(&self, request: EstimateRequest) -> Result<String, ClientError> {
        match self.client.call(Request::Estimate(request))? {
            Reply::Estimate(r) => Ok(r.report),
            other => unexpected(other),
        }
    }

    /// Machine inventory and the tenant's usage.
    ///
    /// # Errors
    /// If the session is closed.
    pub fn resources(&self) -> Result<Resources, ClientError> {
        match self.client.call(Request::ResourceQuery(SessionRef { session_id: self.info.session_id.clone() }))? {
            Reply::Resources(r) => Ok(r),
            other => unexpected(other),
        }
    }

    /// Jobs of all sessions of the tenant.
    ///
    /// # Errors
    /// If the session is closed.
    pub fn jobs(&self) -> Result<JobList, ClientError> {
        match self.client.call(Request::JobList(SessionRef { session_id: self.info.session_id.clone() }))? {
            Reply::Jobs(r) => Ok(r),
            other => unexpected(other),
        }
    }

    /// Figures of the whole machine.
    ///
    /// # Errors
    /// `ACCESS_DENIED` for sessions that may see their own tenant only.
    pub fn machine_stats(&self) -> Result<MachineStats, ClientError> {
        match self.client.call(Request::MachineStats(SessionRef { session_id: self.info.session_id.clone() }))? {
            Reply::Machine(r) => Ok(r),
            other => unexpected(other),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.close_on_drop {
            // The server closes it with the connection anyway.
            let _ = self.client.call(Request::SessionClose(SessionRef { session_id: self.info.session_id.clone() }));
        }
    }
}

//! A submitted job.

use crate::client::Client;
use crate::error::{ClientError, unexpected};
use qmk_abi::rpc::{ErrorCode, JobRef, JobResult, JobStatus, JobWait, Reply, Request, RpcError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A submitted job.
pub struct Job {
    pub(crate) client: Client,
    pub(crate) reference: JobRef,
    /// Lower bound on its epochs, all shots.
    pub estimated_epochs: u64,
}

impl Job {
    /// A job of an open session, by id.
    pub fn attach(client: &Client, reference: JobRef) -> Job {
        Job { client: client.clone(), reference, estimated_epochs: 0 }
    }

    /// The ids.
    pub fn reference(&self) -> &JobRef {
        &self.reference
    }

    /// How far it is.
    ///
    /// # Errors
    /// If the job or session is gone.
    pub fn status(&self) -> Result<JobStatus, ClientError> {
        match self.client.call(Request::JobStatus(self.reference.clone()))? {
            Reply::Status(s) => Ok(s),
            other => unexpected(other),
        }
    }

    /// Waits until it has ended and fetches the result. Waits in slices, so that other threads can use the same
    /// connection meanwhile.
    ///
    /// # Errors
    /// `TIMEOUT`, or why the job failed.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<JobResult, ClientError> {
        let start = Instant::now();
        loop {
            let left = timeout.map_or(Duration::from_millis(100), |t| t.saturating_sub(start.elapsed()));
            let slice = left.min(Duration::from_millis(100)).as_millis() as u64;
            let JobRef { session_id, job_id } = self.reference.clone();
            match self.client.call(Request::JobWait(JobWait { session_id, job_id, timeout_ms: Some(slice) })) {
                Ok(_) => return self.result(),
                Err(e) if e.code() == Some(ErrorCode::Timeout) => {
                    // The machine knows of the slice only.
                    if let Some(t) = timeout.filter(|t| start.elapsed() >= *t) {
                        return Err(self.timed_out(t));
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The error of a wait that was too short.
    pub fn timed_out(&self, after: Duration) -> ClientError {
        let message = format!("{} has not ended after {} ms", self.reference.job_id, after.as_millis());
        RpcError::new(ErrorCode::Timeout, message).into()
    }

    /// The result of a completed job.
    ///
    /// # Errors
    /// If it has not completed.
    pub fn result(&self) -> Result<JobResult, ClientError> {
        match self.client.call(Request::JobResult(self.reference.clone()))? {
            Reply::Result(r) => Ok(Arc::unwrap_or_clone(r)),
            other => unexpected(other),
        }
    }

    /// Cancels it.
    ///
    /// # Errors
    /// `ALREADY_COMPLETED`.
    pub fn cancel(&self) -> Result<(), ClientError> {
        self.client.call(Request::JobCancel(self.reference.clone())).map(drop)
    }
}

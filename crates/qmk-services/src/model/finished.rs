//! The findings of one round of collecting.

use super::job::Outcomes;
use super::ticket::Ticket;
use crate::program::{Program, count_outcomes};
use qmk_abi::rpc::{JobResult, RunReport};
use qmk_abi::syscall::StrandStatus;
use std::sync::Arc;

/// A job whose outcomes have all been read.
pub(crate) struct Finished {
    pub(crate) session: String,
    pub(crate) ticket: Ticket,
    pub(crate) status: StrandStatus,
    pub(crate) outcomes: Outcomes,
    pub(crate) program: Arc<Program>,
    pub(crate) report: RunReport,
}

/// The findings of one round of collecting.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) finished: Vec<Finished>,
    /// Jobs whose first instruction was issued.
    pub(crate) started: Vec<Ticket>,
    /// Whether any job ended.
    pub(crate) ended: bool,
    /// Whether outcomes are left to read.
    pub(crate) more: bool,
}

impl Finished {
    /// Whether its result is made within microseconds, so that no lock need be released for it.
    pub(crate) fn is_small(&self) -> bool {
        self.outcomes.counts.len().saturating_mul(self.program.width) + self.program.events.len() < 256
    }

    pub(crate) fn result(mut self) -> JobResult {
        self.report.counts = count_outcomes(&self.program.events, &self.outcomes.counts);
        let last_shot = self.program.values(&self.outcomes.last);
        JobResult { job_id: format!("job_{}", self.ticket.job), last_shot, report: self.report }
    }
}

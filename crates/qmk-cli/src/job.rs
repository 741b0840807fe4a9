//! Jobs: a verified program is submitted to a machine, and the command waits for it behind a progress bar.

use crate::args::{Input, PolicyArgs};
use crate::failure::{Failure, describe};
use crate::input;
use crate::progress::bar;
use indicatif::{ProgressBar, ProgressDrawTarget};
use qmk_client::{Client, ErrorCode, Job, JobResult, Policy, Program, Session, SessionCreate};
use qmk_qvm::Severity;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// A program that passed the verifier on this side, where its includes and its source lines are known.
pub(crate) struct VerifiedProgram {
    program: Program,
    params: BTreeMap<String, String>,
    /// Source line of each node.
    lines: HashMap<String, u32>,
    /// Warnings already printed, which the machine repeats in its report.
    pub(crate) warned: Vec<String>,
}

impl VerifiedProgram {
    /// Reads, parses and verifies a program, and prints its warnings.
    pub(crate) fn read(file: &Input) -> Result<Self, Failure> {
        let source = input::read(file, None)?;
        let graph = source.parse().map_err(|findings| Failure::invalid(&file.file, findings))?;
        let findings = qmk_qvm::verify(&graph);
        if findings.iter().any(|f| f.severity == Severity::Error) {
            return Err(Failure::invalid(&file.file, findings));
        }
        for f in &findings {
            eprintln!("{}", describe(&file.file, f));
        }
        let lines = graph.nodes.iter().filter_map(|n| Some((n.id.clone(), n.line?))).collect();
        // The machine gets the text and expands it itself: the graph may be a thousand times as long.
        let (program, params) = source.program();
        let warned = findings.into_iter().map(|f| f.message).collect();
        Ok(VerifiedProgram { program, params, lines, warned })
    }

    /// Submits the program; findings of the machine get their source lines here.
    pub(crate) fn submit(&self, session: &Session, policy: PolicyArgs) -> Result<Job, Failure> {
        let PolicyArgs { shots, seed, noise, deadline: deadline_epochs, profile } = policy;
        let params = self.params.clone();
        let policy = Policy { shots, seed, noise, deadline_epochs, profile, params, ..Policy::default() };
        let submitted = session.submit(&self.program, policy);
        submitted.map_err(|e| Failure::from(e).with_lines(|node| self.lines.get(node).copied()))
    }

    /// Submits the program in a session of its own and waits for its result.
    pub(crate) fn run(
        &self,
        client: &Client,
        tenant_id: Option<String>,
        policy: PolicyArgs,
        bar: bool,
    ) -> Result<JobResult, Failure> {
        let session = client.session_with(SessionCreate { tenant_id, ..SessionCreate::default() })?;
        let job = self.submit(&session, policy)?;
        wait_with_bar(&job, None, bar)
    }
}

/// Waits for a job. With `show`, a progress bar appears on a terminal after 0.3 seconds.
pub(crate) fn wait_with_bar(job: &Job, timeout: Option<Duration>, show: bool) -> Result<JobResult, Failure> {
    let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
    let mut shown: Option<ProgressBar> = None;
    let mut tick = Duration::from_millis(300);
    let ended = loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        match (job.wait(Some(left.map_or(tick, |l| l.min(tick)))), timeout) {
            (Err(e), Some(t)) if e.code() == Some(ErrorCode::Timeout) && left.is_some_and(|l| l <= tick) => {
                break Err(job.timed_out(t));
            }
            (Err(e), _) if e.code() == Some(ErrorCode::Timeout) => {}
            (done, _) => break done,
        }
        let p = job.status()?.progress;
        let shown = shown.get_or_insert_with(|| {
            let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
            bar(0, "{bar:40} {percent}% of {len} operations, {eta} left", target)
        });
        shown.set_length(p.nodes_total);
        shown.set_position(p.nodes_executed);
        tick = Duration::from_millis(200);
    };
    if let Some(shown) = shown {
        shown.finish_and_clear();
    }
    Ok(ended?)
}

//! `qmk run`.

use crate::failure::{Failure, describe};
use crate::{Input, PolicyArgs, input};
use indicatif::{ProgressBar, ProgressStyle};
use qmk_abi::rpc::RunReport;
use qmk_client::{Client, Job, JobResult, Policy, Program, Session};
use qmk_qvm::{Graph, Severity};
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimDevice;
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

/// Outcomes a histogram shows.
const ROWS: usize = 32;

pub(crate) fn run(file: &Input, policy: PolicyArgs, connect: Option<String>, json: bool) -> Result<(), Failure> {
    let checked = Checked::read(file)?;
    let result = match connect {
        Some(path) => checked.run(&Client::connect(&path)?, policy)?,
        None => {
            let machine = Machine::start(SimDevice::default(), MachineConfig::default());
            checked.run(&Client::over(machine.connect()), policy)?
        }
    };
    if json {
        return crate::print(&(serde_json::to_string(&result.report).unwrap_or_default() + "\n"));
    }
    crate::print(&histogram(&file.file.display().to_string(), &result.report))
}

/// A program that passed the verifier here, where its includes and its lines are known.
pub(crate) struct Checked {
    program: Program,
    lines: HashMap<String, u32>,
}

impl Checked {
    pub(crate) fn read(file: &Input) -> Result<Self, Failure> {
        let (graph, _) = input::read(file, None)?;
        let findings = qmk_qvm::verify(&graph);
        if findings.iter().any(|f| f.severity == Severity::Error) {
            return Err(Failure::invalid(&file.file, findings));
        }
        for f in &findings {
            eprintln!("{}", describe(&file.file, f));
        }
        let lines = graph.nodes.iter().filter_map(|n| Some((n.id.clone(), n.line?))).collect();
        Ok(Checked { program: to_program(&graph), lines })
    }

    pub(crate) fn submit(&self, session: &Session, policy: PolicyArgs) -> Result<Job, Failure> {
        let PolicyArgs { shots, seed, noise, profile } = policy;
        let policy = Policy { shots, seed, noise, profile, ..Policy::default() };
        let submitted = session.submit(&self.program, policy);
        submitted.map_err(|e| Failure::from(e).with_lines(|node| self.lines.get(node).copied()))
    }

    fn run(&self, client: &Client, policy: PolicyArgs) -> Result<JobResult, Failure> {
        let session = client.session(&[])?;
        let job = self.submit(&session, policy)?;
        watch(&job, None)
    }
}

fn to_program(graph: &Graph) -> Program {
    Program::json(graph.to_json().to_string())
}

/// Waits for a job behind a progress bar, which shows on a terminal once the wait is long enough to notice.
pub(crate) fn watch(job: &Job, timeout: Option<Duration>) -> Result<JobResult, Failure> {
    let first = Duration::from_millis(300);
    match job.wait(Some(timeout.map_or(first, |t| t.min(first)))) {
        Err(e) if e.code() == Some(qmk_client::ErrorCode::Timeout) && timeout.is_none_or(|t| t > first) => {}
        done => return Ok(done?),
    }
    let style = ProgressStyle::with_template("{bar:40} {percent}% of {len} operations, {eta} left");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let deadline = timeout.and_then(|t| std::time::Instant::now().checked_add(t - first));
    loop {
        let p = job.status()?.progress;
        bar.set_length(p.nodes_total);
        bar.set_position(p.nodes_executed);
        let tick = Duration::from_millis(200);
        let left = deadline.map(|d| d.saturating_duration_since(std::time::Instant::now()));
        match job.wait(Some(left.map_or(tick, |l| l.min(tick)))) {
            Err(e) if e.code() == Some(qmk_client::ErrorCode::Timeout) && left.is_none_or(|l| l > tick) => {}
            done => {
                bar.finish_and_clear();
                return Ok(done?);
            }
        }
    }
}

/// The outcomes as text, most frequent first if there are too many to show.
pub(crate) fn histogram(title: &str, r: &RunReport) -> String {
    let mut rows: Vec<(&String, &u64)> = r.counts.iter().collect();
    let hidden = rows.len().saturating_sub(ROWS);
    if hidden > 0 {
        rows.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        rows.truncate(ROWS);
    }
    let most = rows.iter().map(|r| *r.1).max().unwrap_or(0).max(1);
    let digits = most.to_string().len();
    let mut out = format!("{title}: {} shots, seed {}\n", r.shots, r.seed);
    if !r.events.is_empty() {
        let names = r.events.join(" ");
        _ = match r.events.len() {
            n if n > 40 => writeln!(out, "events: {} ... {} ({n})", r.events[0], r.events[n - 1]),
            _ => writeln!(out, "events: {names}"),
        };
    }
    for (key, &n) in rows {
        let shown = match key.len() {
            0 => "(no events)".into(),
            64.. => format!("{}...{}", &key[..28], &key[key.len() - 28..]),
            _ => key.clone(),
        };
        let bar = "#".repeat((n as f64 / most as f64 * 40.0).round() as usize);
        _ = writeln!(out, "  {shown}  {n:>digits$}  {:.4}  {bar}", n as f64 / r.shots.max(1) as f64);
    }
    if hidden > 0 {
        _ = writeln!(out, "  and {hidden} rarer outcomes; --json prints them all");
    }
    _ = writeln!(
        out,
        "{} epochs a shot, {:.3} us on the modelled machine; {} physical qubits; {} T states; {:.1} ms here",
        r.epochs.per_shot, r.logical_time_us, r.physical_qubits, r.t_states, r.wall_ms
    );
    out
}

//! `qmk run`.

use crate::failure::{Failure, describe};
use crate::{Input, PolicyArgs, input};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qmk_abi::rpc::RunReport;
use qmk_client::{Client, ErrorCode, Job, JobResult, Policy, Program, Session, SessionCreate};
use qmk_qec::device::Corrected;
use qmk_qvm::Severity;
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimConfig;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Outcomes a histogram shows.
const ROWS: usize = 32;

/// Where to run: on a server, under the token of a file, for a tenant, or on an embedded machine of which so many qubits may carry live magic.
pub(crate) enum Place {
    Server(String, Option<PathBuf>, Option<String>),
    Embedded(Option<u32>),
}

pub(crate) fn run(
    file: &Input,
    policy: PolicyArgs,
    place: Place,
    svg: Option<&Path>,
    json: bool,
) -> Result<(), Failure> {
    let checked = Checked::read(file)?;
    if let Some(path) = svg {
        // A run may be long, and would be lost with its picture.
        crate::write(Some(path), "")?;
    }
    let result = match place {
        Place::Server(path, token, tenant) => {
            checked.run(&crate::remote::client(&path, token.as_deref())?, tenant, policy, !json)?
        }
        Place::Embedded(max_active) => {
            let mut config = MachineConfig::default();
            config.max_active = max_active.unwrap_or(config.max_active);
            let machine = Machine::start(Corrected::simulated(SimConfig::default()), config);
            checked.run(&Client::over(machine.connect()), None, policy, !json)?
        }
    };
    if let Some(path) = svg {
        crate::write(Some(path), &crate::svg::histogram(&file.file.display().to_string(), &result.report))?;
    }
    if json {
        return crate::print(&(serde_json::to_string(&result.report).unwrap_or_default() + "\n"));
    }
    for w in result.report.warnings.iter().filter(|w| !checked.warned.contains(w)) {
        eprintln!("{}: warning: {w}", file.file.display());
    }
    crate::print(&histogram(&file.file.display().to_string(), &result.report))
}

/// A program that passed the verifier here, where its includes and its lines are known.
pub(crate) struct Checked {
    program: Program,
    params: BTreeMap<String, String>,
    lines: HashMap<String, u32>,
    /// What was warned of here.
    warned: Vec<String>,
}

impl Checked {
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
        // The text goes to the machine as it is: written out as a graph, it may be a thousand times as long.
        let (program, params) = source.program();
        let warned = findings.into_iter().map(|f| f.message).collect();
        Ok(Checked { program, params, lines, warned })
    }

    pub(crate) fn submit(&self, session: &Session, policy: PolicyArgs) -> Result<Job, Failure> {
        let PolicyArgs { shots, seed, noise, deadline: deadline_epochs, profile } = policy;
        let params = self.params.clone();
        let policy = Policy { shots, seed, noise, deadline_epochs, profile, params, ..Policy::default() };
        let submitted = session.submit(&self.program, policy);
        submitted.map_err(|e| Failure::from(e).with_lines(|node| self.lines.get(node).copied()))
    }

    fn run(
        &self,
        client: &Client,
        tenant_id: Option<String>,
        policy: PolicyArgs,
        bar: bool,
    ) -> Result<JobResult, Failure> {
        let session = client.session_with(SessionCreate { tenant_id, ..SessionCreate::default() })?;
        let job = self.submit(&session, policy)?;
        watch(&job, None, bar)
    }
}

/// Waits for a job behind a progress bar, if wanted, which shows on a terminal once the wait is long enough to notice.
pub(crate) fn watch(job: &Job, timeout: Option<Duration>, show: bool) -> Result<JobResult, Failure> {
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

/// A progress bar of this look.
pub(crate) fn bar(length: u64, template: &str, target: ProgressDrawTarget) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::with_draw_target(Some(length), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
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

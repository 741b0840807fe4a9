//! `qmk ps` and `qmk top`: jobs, tenants and figures of a running server.

use crate::args::{ServerArgs, job_name};
use crate::connect::observe;
use crate::failure::Failure;
use crate::output::print;
use qmk_abi::rpc::{JobEntry, JobList, JobRef, MachineStats};
use qmk_client::Session;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Table};
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between two samples.
const REFRESH: Duration = Duration::from_secs(1);

pub(crate) fn ps(server: &ServerArgs) -> Result<(), Failure> {
    let list = observe(server)?.jobs()?;
    if server.json {
        return print(&(serde_json::to_string(&list).unwrap_or_default() + "\n"));
    }
    let mut text = format!("{:<9} {:>5} {:>10} {:>10}  JOB\n", "STATE", "DONE", "SHOTS", "TIME");
    for job in &list.jobs {
        let reference = JobRef { session_id: job.session_id.clone(), job_id: job.job_id.clone() };
        let (state, age) = (job.state.name(), seconds(job.age_ms));
        _ = writeln!(text, "{state:<9} {:>4}% {:>10} {age:>10}  {}", percent(job), job.shots, job_name(&reference));
    }
    if list.more > 0 {
        _ = writeln!(text, "and {} older jobs", list.more);
    }
    print(&text)
}

fn percent(job: &JobEntry) -> u64 {
    match job.progress.nodes_total {
        _ if job.state == qmk_abi::rpc::JobState::Completed => 100,
        0 => 0,
        all => (job.progress.nodes_executed as u128 * 100 / all as u128).min(100) as u64,
    }
}

fn seconds(ms: u64) -> String {
    match ms {
        0..600_000 => format!("{:.1}s", ms as f64 / 1e3),
        _ => format!("{}m", ms / 60_000),
    }
}

/// The statistics of the machine at one moment.
struct Sample {
    stats: MachineStats,
    jobs: JobList,
    /// Epochs and instructions per second since the previous sample; in the first, since the machine started.
    epochs: f64,
    instructions: f64,
}

impl Sample {
    fn take(session: &Session, before: Option<&MachineStats>) -> Result<Sample, Failure> {
        let (stats, jobs) = (session.machine_stats()?, session.jobs()?);
        let zero = MachineStats::default();
        let before = before.unwrap_or(&zero);
        let time = stats.uptime_ms.saturating_sub(before.uptime_ms).max(1) as f64 / 1e3;
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / time;
        let epochs = rate(stats.epoch, before.epoch);
        let instructions = rate(stats.instructions, before.instructions);
        Ok(Sample { stats, jobs, epochs, instructions })
    }

    fn figures(&self) -> String {
        let s = &self.stats;
        format!(
            "up {}  epoch {} ({:.0}/s)  instructions {} ({:.0}/s)\n\
             strands {} waiting, {} running, {} draining  decoder backlog {}  pairs due {}  magic spent {}\n",
            seconds(s.uptime_ms),
            s.epoch,
            self.epochs,
            s.instructions,
            self.instructions,
            s.strands_waiting,
            s.strands_running,
            s.strands_draining,
            s.decoder_backlog,
            s.pairs_due,
            s.magic_spent
        )
    }

    /// Rows of the table of tenants, the most active tenants first.
    fn tenants(&self) -> Vec<[String; 9]> {
        let mut tenants: Vec<_> = self.stats.tenants.iter().collect();
        tenants.sort_by_key(|t| std::cmp::Reverse((t.jobs.queued + t.jobs.running, t.logical_qubits)));
        let row = |t: &&qmk_abi::rpc::TenantStats| {
            // A name may hold control characters, which would act on the terminal.
            let name: String = t.tenant.chars().take(24).map(|c| if c.is_control() { '?' } else { c }).collect();
            let j = &t.jobs;
            let figures = [t.sessions, t.logical_qubits, t.magic_spent, j.queued, j.running, j.completed, j.failed];
            let [a, b, c, d, e, f, g] = figures.map(|n| n.to_string());
            [name, a, b, c, d, e, f, g, j.cancelled.to_string()]
        };
        tenants.iter().map(row).collect()
    }

    fn text(&self) -> String {
        let s = &self.stats;
        let mut out = self.figures();
        let used = s.logical_qubits.saturating_sub(s.logical_qubits_free);
        _ = writeln!(out, "qubits {used}/{}  magic stock {}/{}", s.logical_qubits, s.magic_stock, s.magic_buffer);
        for row in std::iter::once(TENANT_HEAD.map(str::to_string)).chain(self.tenants()) {
            let [name, rest @ ..] = row;
            _ = write!(out, "{name:<24}");
            rest.iter().for_each(|cell| _ = write!(out, " {cell:>9}"));
            out.push('\n');
        }
        out
    }

    fn json(&self) -> String {
        let mut v = serde_json::to_value(&self.stats).unwrap_or_default();
        v["epochs_per_second"] = self.epochs.into();
        v["instructions_per_second"] = self.instructions.into();
        v.to_string() + "\n"
    }
}

const TENANT_HEAD: [&str; 9] =
    ["TENANT", "SESSIONS", "QUBITS", "MAGIC", "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"];

pub(crate) fn top(server: &ServerArgs, once: bool) -> Result<(), Failure> {
    let session = observe(server)?;
    let first = Sample::take(&session, None)?;
    if server.json {
        return print(&first.json());
    }
    if once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return print(&first.text());
    }
    let broken = |e: std::io::Error| Failure::new(4, "IO", format!("terminal: {e}; --once needs none"));
    // `try_init` also installs a panic hook that restores the terminal.
    let mut terminal = ratatui::try_init().map_err(broken)?;
    let ended = follow(&mut terminal, &session, first, broken);
    ratatui::restore();
    ended
}

fn follow(
    terminal: &mut ratatui::DefaultTerminal,
    session: &Session,
    mut sample: Sample,
    broken: impl Fn(std::io::Error) -> Failure,
) -> Result<(), Failure> {
    loop {
        terminal.draw(|frame| draw(frame, &sample)).map_err(&broken)?;
        let next = Instant::now() + REFRESH;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if !event::poll(left).map_err(&broken)? {
                continue;
            }
            match event::read().map_err(&broken)? {
                Event::Key(k) if k.kind == KeyEventKind::Press => match k.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if k.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    _ => {}
                },
                Event::Resize(..) => _ = terminal.draw(|frame| draw(frame, &sample)).map_err(&broken)?,
                _ => {}
            }
        }
        sample = Sample::take(session, Some(&sample.stats))?;
    }
}

fn draw(frame: &mut Frame<'_>, sample: &Sample) {
    let s = &sample.stats;
    let tenants = sample.tenants();
    let rows = [
        Constraint::Length(4),
        Constraint::Length(3),
        Constraint::Length((tenants.len() as u16).saturating_add(3).min(14)),
        Constraint::Min(3),
        Constraint::Length(1),
    ];
    let [head, gauges, table, jobs, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(sample.figures()).block(Block::bordered().title(" qmk top ")), head);
    let [qubits, magic] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(gauges);
    let gauge = |title: &'static str, part: u64, all: u64| {
        let ratio = if all == 0 { 0.0 } else { (part as f64 / all as f64).clamp(0.0, 1.0) };
        Gauge::default().block(Block::bordered().title(title)).ratio(ratio).label(format!("{part}/{all}"))
    };
    let used = s.logical_qubits.saturating_sub(s.logical_qubits_free);
    frame.render_widget(gauge(" qubits in use ", used, s.logical_qubits), qubits);
    frame.render_widget(gauge(" magic states in stock ", s.magic_stock, s.magic_buffer), magic);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut widths = vec![Constraint::Fill(1)];
    widths.extend([Constraint::Length(9); 8]);
    let tenants = Table::new(tenants.into_iter().map(Row::new), widths);
    frame.render_widget(
        tenants.header(Row::new(TENANT_HEAD).style(bold)).block(Block::bordered().title(" tenants ")),
        table,
    );
    let entry = |j: &JobEntry| {
        Row::new([
            j.job_id.clone(),
            j.state.name().into(),
            format!("{}%", percent(j)),
            j.shots.to_string(),
            seconds(j.age_ms),
        ])
    };
    let widths = [
        Constraint::Length(14),
        Constraint::Length(10),
        Constraint::Length(6),
        Constraint::Length(12),
        Constraint::Fill(1),
    ];
    let list = Table::new(sample.jobs.jobs.iter().take(jobs.height as usize).map(entry), widths)
        .header(Row::new(["JOB", "STATE", "DONE", "SHOTS", "TIME"]).style(bold))
        .block(Block::bordered().title(format!(" jobs of {} ", sample.jobs.tenant)));
    frame.render_widget(list, jobs);
    frame.render_widget(Paragraph::new("q quits"), foot);
}

#[cfg(test)]
mod tests {
    use super::{Sample, draw};
    use qmk_abi::rpc::{JobCounts, JobList, MachineStats, TenantStats};

    #[test]
    fn the_view_shows_the_figures_and_fits_any_terminal() {
        let jobs = JobCounts { running: 3, ..JobCounts::default() };
        let tenant = TenantStats { tenant: "al\u{1b}[2Jice".into(), jobs, ..TenantStats::default() };
        let stats =
            MachineStats { logical_qubits: 100, logical_qubits_free: 58, tenants: vec![tenant], ..Default::default() };
        let sample = Sample { stats, jobs: JobList::default(), epochs: 1234.0, instructions: 0.0 };
        for (width, height) in [(120, 40), (20, 5), (1, 1)] {
            let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, &sample)).unwrap();
            if width == 120 {
                let shown = format!("{}", terminal.backend());
                assert!(shown.contains("1234/s") && shown.contains("42/100") && shown.contains("al?[2Jice"), "{shown}");
            }
        }
        assert!(sample.text().contains("qubits 42/100") && !sample.text().contains('\u{1b}'));
    }
}

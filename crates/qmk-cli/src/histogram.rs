//! Histograms of outcomes as text. `svg` has those as pictures.

use qmk_abi::rpc::RunReport;
use std::fmt::Write;

/// Most outcomes that a histogram lists.
const ROWS: usize = 32;

/// One line per outcome, then the figures of the run. Of more than [`ROWS`] outcomes, only the most frequent are
/// listed.
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

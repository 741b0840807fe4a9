//! Two builds in turn: the same bench of this workspace and of another state of it.
//!
//! Runs alternate in pairs. A row is worse when the whole interval of the median ratio lies above its bound; so a noisy
//! computer makes rows undecided, and none worse.

mod checkout;
mod served;
mod whole;

use super::args::{Args, Suite};
use super::build::{build, build_in};
use super::results;
use super::statistics::{Comparison, Verdict};
use serde_json::{Value, json};
use std::path::Path;

/// Compares a suite of this workspace with that of `named`, a checkout or a git revision.
///
/// # Errors
/// A row is worse, or a build or a run fails.
pub(super) fn run(root: &Path, args: &Args, suite: Suite, named: &str) -> Result<(), String> {
    let other = checkout::root(root, named)?;
    let (package, bench) = suite.program();
    let theirs = build_in(&other, Some(&other.join("target")), package, bench)?;
    let ours = build(root, package, bench)?;
    let comparisons = match suite {
        Suite::Sim | Suite::Qec => served::compare(&ours, &theirs, args)?,
        Suite::Kernel | Suite::Sched | Suite::Rpc => whole::compare(&ours, &theirs, suite, args)?,
    };
    let worse = comparisons.iter().filter(|c| c.verdict() == Verdict::Worse).count();
    let rows: Vec<Value> = comparisons.iter().map(Comparison::json).collect();
    let report = json!({ "bench": bench, "against": named, "worse": worse, "rows": rows });
    results::write(root, &format!("{bench}-against"), &report)?;
    if args.json {
        println!("{report:#}");
    } else {
        print(&comparisons);
    }
    if worse == 0 { Ok(()) } else { Err(format!("{worse} of {} rows are worse than {named}", comparisons.len())) }
}

fn print(comparisons: &[Comparison]) {
    let width = comparisons.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    println!("{:width$} {:>14} {:>14} {:>7} {:>17} {:>5}", "row", "ours", "theirs", "ratio", "95 % interval", "pairs");
    for c in comparisons {
        let interval = c.interval.map_or("-".into(), |[low, high]| format!("{low:.3} to {high:.3}"));
        println!(
            "{:width$} {:>14} {:>14} {:>7.3} {interval:>17} {:>5}  {}",
            c.name,
            value(c.ours, c.unit),
            value(c.theirs, c.unit),
            c.ratio,
            c.pairs,
            format!("{:?}", c.verdict()).to_lowercase(),
        );
    }
}

fn value(value: f64, unit: &str) -> String {
    match unit {
        "ns" if value >= 1e6 => format!("{:.3} ms", value / 1e6),
        "ns" if value >= 1e3 => format!("{:.3} us", value / 1e3),
        "epochs" | "programs" => format!("{value} {unit}"),
        _ => format!("{value:.3} {unit}"),
    }
}

#[cfg(test)]
mod tests;

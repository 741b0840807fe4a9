//! Benches that run as a whole: runs of the two programs alternate, and each figure of theirs is a row.

use super::super::args::{Args, Suite};
use super::super::figures::{Figure, of_calls, of_costs, of_schedules};
use super::super::statistics::Comparison;
use std::path::Path;
use std::process::{Command, Stdio};

/// Pairs of runs of the kernel's costs and of the server's calls.
const PAIRS: u64 = 11;
/// Round trips of each call in one run.
const ROUND_TRIPS: &str = "300";

/// Compares the figures that both programs have.
pub(super) fn compare(ours: &Path, theirs: &Path, suite: Suite, args: &Args) -> Result<Vec<Comparison>, String> {
    let read = |program: &Path| figures(program, suite, args);
    if suite == Suite::Sched {
        let (ours, theirs) = (read(ours)?, read(theirs)?);
        let both = ours.into_iter().filter_map(|f| Some((theirs.iter().find(|t| t.name == f.name)?.value, f)));
        return Ok(both.map(|(value, f)| Comparison::exact(f.name, f.unit, f.value, value)).collect());
    }
    let mut rows: Vec<(Figure, Vec<(f64, f64)>)> = Vec::new();
    let pairs = args.runs.unwrap_or(PAIRS);
    for pair in 0..pairs {
        eprintln!("pair {} of {pairs}", pair + 1);
        // Which goes first alternates, so that neither always runs on what the other left.
        let (ours, theirs) = if pair % 2 == 0 {
            let first = read(ours)?;
            (first, read(theirs)?)
        } else {
            let first = read(theirs)?;
            (read(ours)?, first)
        };
        for figure in ours {
            let Some(other) = theirs.iter().find(|t| t.name == figure.name).map(|t| t.value) else { continue };
            let value = (figure.value, other);
            match rows.iter_mut().find(|(known, _)| known.name == figure.name) {
                Some((_, values)) => values.push(value),
                None => rows.push((figure, vec![value])),
            }
        }
    }
    Ok(rows.into_iter().filter_map(|(f, values)| Comparison::of(f.name, f.unit, &values)).collect())
}

/// Runs a program once. Goals that it misses on a busy computer do not matter here, as both builds may miss them.
fn figures(program: &Path, suite: Suite, args: &Args) -> Result<Vec<Figure>, String> {
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", program.display());
    let mut command = Command::new(program);
    match suite {
        Suite::Rpc => _ = command.args(["--json", "--only", "calls", "--pairs", ROUND_TRIPS]),
        Suite::Sched => _ = command.arg("--json"),
        _ => {}
    }
    let out = command.stderr(Stdio::inherit()).output().map_err(|e| failed(&e))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let json = || serde_json::from_str(&text).map_err(|e| failed(&e));
    let mut figures = match suite {
        Suite::Rpc => of_calls(&json()?),
        Suite::Sched => of_schedules(&json()?),
        _ => of_costs(&text),
    };
    figures.retain(|f| args.only.as_ref().is_none_or(|only| f.name.contains(only)));
    if figures.is_empty() { Err(failed(&"no figure has such a name")) } else { Ok(figures) }
}

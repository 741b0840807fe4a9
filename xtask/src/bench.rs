//! Benchmarks: our programs and their peers, or two builds of ours, alternate on the same workloads, and each figure is
//! printed as a ratio. Results are kept in `target/bench`.

mod against;
mod args;
mod build;
mod check;
mod figures;
mod peers;
mod python;
mod results;
mod row;
mod side;
mod statistics;

use crate::process;
pub(crate) use args::Args;
use args::Suite;
use build::build;
use peers::against_peers;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

/// Suites in the order in which they run.
const SUITES: [Suite; 5] = [Suite::Sim, Suite::Sched, Suite::Kernel, Suite::Rpc, Suite::Qec];

/// Runs a suite, or all of them.
///
/// # Errors
/// A program that cannot be built or run, or a goal that is missed.
pub(crate) fn run(root: &Path, args: &Args) -> Result<(), String> {
    match (args.suite, &args.against) {
        (Some(suite), Some(other)) => against::run(root, args, suite, other),
        (Some(suite), None) => alone(root, args, suite),
        (None, _) => SUITES.into_iter().try_for_each(|suite| alone(root, args, suite)),
    }
}

fn alone(root: &Path, args: &Args, suite: Suite) -> Result<(), String> {
    match suite {
        Suite::Qec if args.check && args.suite.is_some() => {
            Err("--check is for the suite sim; the tests of qmk-qec compare with Stim".into())
        }
        Suite::Sim | Suite::Qec => against_peers(root, args, suite),
        Suite::Kernel => kernel(root, args),
        Suite::Sched | Suite::Rpc => reporting(root, args, suite),
    }
}

/// Runs clients of all manners against a server, which must be as before in the end.
///
/// # Errors
/// It is not.
pub(crate) fn soak(root: &Path, minutes: f64) -> Result<(), String> {
    let seconds = (minutes.clamp(0.0, 1e6) * 60.0) as u64;
    process::run(Command::new(build(root, "qmk-tests", "rpc")?).args(["soak", &seconds.to_string()]))
}

/// Runs a bench that writes its results by itself.
fn reporting(root: &Path, args: &Args, suite: Suite) -> Result<(), String> {
    let (package, bench) = suite.program();
    let mut command = Command::new(build(root, package, bench)?);
    command.arg("--out").arg(results::file(root, bench)?);
    if suite == Suite::Rpc {
        command.args(["--jobs", &args.jobs.to_string()]);
        if let Some(runs) = args.runs {
            command.args(["--pairs", &runs.to_string()]);
        }
    }
    if let Some(only) = &args.only {
        command.args(["--only", only]);
    }
    if args.json {
        command.arg("--json");
    }
    process::run(&mut command)
}

/// Runs the bench of the kernel's costs, whose results are its table.
fn kernel(root: &Path, args: &Args) -> Result<(), String> {
    let (package, bench) = Suite::Kernel.program();
    let mut command = Command::new(build(root, package, bench)?);
    eprintln!("$ {command:?}");
    let out = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let table = String::from_utf8_lossy(&out.stdout);
    let rows =
        figures::of_costs(&table).into_iter().map(|f| json!({ "row": f.name, "value": f.value, "unit": f.unit }));
    let rows = Value::Array(rows.collect());
    results::write(root, bench, &rows)?;
    if args.json {
        println!("{rows:#}");
    } else {
        print!("{table}");
    }
    if out.status.success() { Ok(()) } else { Err(format!("{command:?} failed: {}", out.status)) }
}

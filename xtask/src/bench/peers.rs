//! Times our side and its peers in turn, on the same workloads.
//!
//! Times are in nanoseconds.

use super::args::{Args, Suite};
use super::build::{build, keep_memory};
use super::row::{Row, is_ours, rows};
use super::side::Side;
use super::statistics::median;
use super::{check, python, results};
use crate::process::run;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A run longer than this is not warmed up, and repeated little.
const SLOW: f64 = 5e9;
/// A run longer than this is done once.
const VERY_SLOW: f64 = 30e9;
/// Fast rows are repeated for about this long.
const SPEND: f64 = 2e9;
/// A run shorter than this is repeated in place, so that waking up does not count.
const SHORT: f64 = 20e6;

/// Times of pairs of runs, one right after the other. A side that failed has none.
#[derive(Default)]
struct Pairs {
    ours: Vec<f64>,
    theirs: Vec<f64>,
    compile: Vec<f64>,
    instructions: f64,
}

/// Times a bench of the tests' crate against the peers that its script runs.
pub(super) fn against_peers(root: &Path, args: &Args, suite: Suite) -> Result<(), String> {
    let (package, bench) = suite.program();
    let program = build(root, package, bench)?;
    let text = root.join("target/peers-text").join(bench);
    // Text of an earlier build must not be taken for this one's.
    _ = std::fs::remove_dir_all(&text);
    run(Command::new(&program).arg("export").arg(&text))?;
    let rows = rows(&program, args)?;

    let limit = Duration::from_secs(args.limit);
    let mut serve = Command::new(&program);
    serve.arg("serve");
    keep_memory(&mut serve);
    let mut ours = Side::new(serve, limit);
    let script = root.join("tests/benches").join(bench).join("peers.py");
    let mut theirs = None;
    let mut versions = Vec::new();
    if !args.no_peers && rows.iter().flat_map(|r| &r.peers).any(|p| !is_ours(p)) {
        if let Some(python) = python::find(root) {
            let mut command = Command::new(python);
            command.arg(script).arg(&text);
            keep_memory(&mut command);
            let mut side = Side::new(command, limit);
            match side.greeting() {
                Ok(line) => versions = line.split_whitespace().skip(1).map(String::from).collect(),
                Err(e) => eprintln!("{e}"),
            }
            theirs = Some(side);
        }
        eprintln!("peers: {}", if versions.is_empty() { "none".into() } else { versions.join(" ") });
    }
    let version = |peer: &str| versions.iter().find_map(|v| v.strip_prefix(peer)?.strip_prefix('='));

    if args.check {
        return check::run(&rows, &mut ours, theirs.as_mut(), |peer| version(peer).is_some());
    }
    let mut records = Vec::new();
    if !args.json {
        println!(
            "{:26} {:>7}  {:>8} {:>11}  {:>9} {:>11} {:>11} {:>8} {:>5}",
            "workload", "shots", "ours", "time", "peer", "time", "compiles", "ratio", "pairs"
        );
    }
    for row in &rows {
        let present: Vec<&str> =
            row.peers.iter().map(String::as_str).filter(|p| is_ours(p) || version(p).is_some()).collect();
        // A row without its peers still has our figure.
        let compared = if present.is_empty() { vec![None] } else { present.into_iter().map(Some).collect() };
        let mut failed = false;
        for peer in compared {
            eprintln!("{} x{}: {} and {}", row.name, row.shots, row.ours, peer.unwrap_or("-"));
            let pairs = measure(row, peer, args.runs, &mut ours, theirs.as_mut(), &mut failed);
            if !args.json {
                print(row, peer, &pairs);
            }
            records.push(record(row, peer, peer.and_then(version), &pairs));
        }
    }
    let records = Value::Array(records);
    results::write(root, bench, &records)?;
    if args.json {
        println!("{records:#}");
    }
    Ok(())
}

/// Whether a row shows the costs of the kernel.
fn is_through_kernel(ours: &str) -> bool {
    matches!(ours, "kernel" | "admitted" | "apply")
}

/// Runs ours and theirs in turn. `failed` is set once our side has failed on this row, which is not tried again.
fn measure(
    row: &Row,
    peer: Option<&str>,
    runs: Option<u64>,
    ours: &mut Side,
    mut theirs: Option<&mut Side>,
    failed: &mut bool,
) -> Pairs {
    let mut pairs = Pairs::default();
    let mut broken = false;
    let (mut round, mut wanted, mut repeats) = (0, 1, 1);
    while round < wanted {
        let (mut shortest, mut spent): (f64, f64) = (SHORT, 0.0);
        let mut run = |side: &mut Side, how: &str, failed: &mut bool| {
            if *failed {
                return None;
            }
            match side.time(how, row.shots, repeats, &row.name) {
                Ok((time, other)) => {
                    shortest = shortest.min(time);
                    spent = spent.max(time);
                    Some((time, other))
                }
                Err(e) => {
                    eprintln!("  {e}");
                    *failed = true;
                    None
                }
            }
        };
        if let Some((time, instructions)) = run(ours, &row.ours, failed) {
            pairs.ours.push(time);
            pairs.instructions = instructions;
        }
        if let Some(peer) = peer {
            let side = if is_ours(peer) { Some(&mut *ours) } else { theirs.as_deref_mut() };
            if let Some((time, compile)) = side.and_then(|side| run(side, peer, &mut broken)) {
                pairs.theirs.push(time);
                if !is_ours(peer) {
                    pairs.compile.push(compile);
                }
            }
        }
        if round == 0 && spent > 0.0 {
            let warm = spent < SLOW;
            wanted = runs.unwrap_or(match spent {
                s if s < SLOW => (SPEND / s.max(SHORT)).clamp(5.0, 51.0) as u64 | 1,
                s if s < VERY_SLOW => 3,
                _ => 1,
            });
            repeats = (SHORT / shortest) as u64;
            if warm {
                (pairs.ours, pairs.theirs, pairs.compile) = Default::default();
                wanted += 1;
            }
        }
        round += 1;
    }
    pairs
}

impl Pairs {
    /// Median of the ratios of the pairs.
    fn ratio(&self) -> Option<f64> {
        let complete = self.ours.len() == self.theirs.len();
        complete.then(|| median(self.ours.iter().zip(&self.theirs).map(|(a, b)| a / b).collect()))?
    }

    /// Time that ours takes longer, per instruction and shot.
    fn excess(&self, shots: u64) -> Option<f64> {
        let excess = median(self.ours.iter().zip(&self.theirs).map(|(a, b)| a - b).collect())?;
        Some(excess / self.instructions / shots as f64)
    }
}

fn print(row: &Row, peer: Option<&str>, pairs: &Pairs) {
    let time = |t: Option<f64>| t.map_or("-".into(), |t| format!("{:.3} ms", t / 1e6));
    print!(
        "{:26} {:>7}  {:>8} {:>11}  {:>9} {:>11} {:>11} {:>8} {:>5}",
        row.name,
        row.shots,
        row.ours,
        time(median(pairs.ours.clone())),
        peer.unwrap_or("-"),
        time(median(pairs.theirs.clone())),
        time(median(pairs.compile.clone()).filter(|&c| c > 0.0)),
        pairs.ratio().map_or("-".into(), |r| format!("{r:.3}")),
        pairs.ours.len().max(pairs.theirs.len()),
    );
    match pairs.excess(row.shots).filter(|_| is_through_kernel(&row.ours)) {
        Some(excess) => println!("  {excess:+.1} ns per instruction and shot"),
        None => println!(),
    }
}

fn record(row: &Row, peer: Option<&str>, version: Option<&str>, pairs: &Pairs) -> Value {
    json!({
        "workload": row.name,
        "shots": row.shots,
        "ours": row.ours,
        "ours_ns": median(pairs.ours.clone()),
        "instructions": pairs.instructions,
        "peer": peer,
        "peer_version": version,
        "peer_ns": median(pairs.theirs.clone()),
        "peer_compile_ns": median(pairs.compile.clone()),
        "ratio": pairs.ratio(),
        "excess_ns_per_instruction": pairs.excess(row.shots).filter(|_| is_through_kernel(&row.ours)),
        "pairs": pairs.ours.len().max(pairs.theirs.len()),
    })
}

//! Benchmarks: our simulator and its peers alternate on the same workloads, and each figure is printed as a ratio.

mod check;
mod python;
mod side;

use cargo_metadata::Message;
use serde_json::{Value, json};
use side::Side;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A run longer than this is not warmed up, and repeated little.
const SLOW: f64 = 5e9;
/// A run longer than this is done once.
const VERY_SLOW: f64 = 30e9;
/// Fast rows are repeated for about this long.
const SPEND: f64 = 2e9;
/// A run shorter than this is repeated in place, so that waking up does not count.
const SHORT: f64 = 20e6;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Suite to run; all if absent
    suite: Option<Suite>,
    /// Only the rows whose workload contains this, or that our side runs in this way (such as `kernel`)
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Pairs of runs per row; otherwise at least 5, fewer where a run takes longer than 5 s
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// Lowers the shots of every row to this, on both sides
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_shots: Option<u64>,
    /// Gives up on a run after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    limit: u64,
    /// Only our own figures
    #[arg(long)]
    no_peers: bool,
    /// Compares outcomes of small workloads with the peers' instead of times
    #[arg(long, conflicts_with_all = ["runs", "no_peers", "json"])]
    check: bool,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
    /// rpc: jobs that the server must run without growing
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    jobs: u64,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Suite {
    /// The simulator against its peers, and the kernel against the bare device
    Sim,
    /// The scheduler against lower bounds, on modelled machines
    Sched,
    /// What the kernel's calls and epochs cost
    Kernel,
    /// The server's socket against a bare echo
    Rpc,
    /// Sampling and decoding of surface codes against Stim and PyMatching
    Qec,
}

/// One line of `sim list`.
struct Row {
    name: String,
    shots: u64,
    ours: String,
    peers: Vec<String>,
}

/// Nanoseconds of pairs of runs that followed each other. A side that failed has none.
#[derive(Default)]
struct Pairs {
    ours: Vec<f64>,
    theirs: Vec<f64>,
    compile: Vec<f64>,
    instructions: f64,
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<(), String> {
    match args.suite {
        None => {
            against_peers(root, args, "sim")?;
            sched(root, args)?;
            kernel(root)?;
            rpc(root, args)?;
            against_peers(root, args, "qec")
        }
        Some(Suite::Sim) => against_peers(root, args, "sim"),
        Some(Suite::Sched) => sched(root, args),
        Some(Suite::Kernel) => kernel(root),
        Some(Suite::Rpc) => rpc(root, args),
        Some(Suite::Qec) if args.check => {
            Err("--check is for the suite sim; the tests of qmk-qec compare with Stim".into())
        }
        Some(Suite::Qec) => against_peers(root, args, "qec"),
    }
}

fn sched(root: &Path, args: &Args) -> Result<(), String> {
    let mut command = Command::new(build(root, "qmk-kernel", "sched")?);
    if let Some(only) = &args.only {
        command.args(["--only", only]);
    }
    if args.json {
        command.arg("--json");
    }
    crate::process::run(&mut command)
}

/// Runs clients of all manners against a server, which must be as before in the end.
pub(crate) fn soak(root: &Path, minutes: f64) -> Result<(), String> {
    let seconds = (minutes.clamp(0.0, 1e6) * 60.0) as u64;
    crate::process::run(Command::new(build(root, "qmk-tests", "rpc")?).args(["soak", &seconds.to_string()]))
}

fn rpc(root: &Path, args: &Args) -> Result<(), String> {
    let mut command = Command::new(build(root, "qmk-tests", "rpc")?);
    command.args(["--jobs", &args.jobs.to_string()]);
    if let Some(runs) = args.runs {
        command.args(["--pairs", &runs.to_string()]);
    }
    if let Some(only) = &args.only {
        command.args(["--only", only]);
    }
    if args.json {
        command.arg("--json");
    }
    crate::process::run(&mut command)
}

fn kernel(root: &Path) -> Result<(), String> {
    crate::process::run(&mut Command::new(build(root, "qmk-kernel", "cost")?))
}

/// Times a bench of the tests' crate against the peers that its script runs.
fn against_peers(root: &Path, args: &Args, bench: &str) -> Result<(), String> {
    let program = build(root, "qmk-tests", bench)?;
    let text = root.join("target/peers-text").join(bench);
    // Text of an earlier build must not be taken for this one's.
    _ = std::fs::remove_dir_all(&text);
    crate::process::run(Command::new(&program).arg("export").arg(&text))?;
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
    if args.json {
        println!("{:#}", Value::Array(records));
    }
    Ok(())
}

/// Peers that live in our own program.
fn is_ours(peer: &str) -> bool {
    matches!(peer, "device" | "perform" | "reference")
}

/// Whether a row tells what the kernel costs.
fn is_through_kernel(ours: &str) -> bool {
    matches!(ours, "kernel" | "admitted" | "apply")
}

/// Lets glibc keep the memory of a process. Else it depends on where the top of the heap happens to be whether every run pays
/// for fresh pages.
fn keep_memory(command: &mut Command) {
    command.env("MALLOC_TRIM_THRESHOLD_", "1073741824").env("MALLOC_MMAP_THRESHOLD_", "1073741824");
}

/// Builds the bench program and says where it is.
fn build(root: &Path, package: &str, bench: &str) -> Result<PathBuf, String> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["bench", "-p", package, "--bench", bench, "--no-run", "--message-format=json-render-diagnostics"]);
    eprintln!("$ {command:?}");
    let mut child =
        command.current_dir(root).stdout(Stdio::piped()).spawn().map_err(|e| format!("cargo bench: {e}"))?;
    let stdout = child.stdout.take().ok_or("cargo bench: no output")?;
    let mut program = None;
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message.map_err(|e| format!("cargo bench: {e}"))? {
            program = artifact.executable.map(PathBuf::from).or(program);
        }
    }
    let status = child.wait().map_err(|e| format!("cargo bench: {e}"))?;
    program.filter(|_| status.success()).ok_or_else(|| format!("cargo bench: {status}"))
}

fn rows(program: &Path, args: &Args) -> Result<Vec<Row>, String> {
    let list = if args.check { "list-check" } else { "list" };
    let out = Command::new(program).arg(list).output().map_err(|e| format!("{}: {e}", program.display()))?;
    let parse = |line: &str| {
        let mut words = line.split(' ').map(String::from);
        Some(Row {
            name: words.next()?,
            shots: words.next()?.parse().ok()?,
            ours: words.next()?,
            peers: words.next()?.split(',').map(String::from).collect(),
        })
    };
    let mut rows = Vec::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let mut row = parse(line).ok_or_else(|| format!("not understood: {line}"))?;
        row.shots = row.shots.min(args.max_shots.unwrap_or(u64::MAX));
        let twice = rows.iter().any(|r: &Row| (&r.name, r.shots, &r.ours) == (&row.name, row.shots, &row.ours));
        if !twice && args.only.as_ref().is_none_or(|only| row.name.contains(only) || row.ours == *only) {
            rows.push(row);
        }
    }
    if rows.is_empty() { Err("no row has such a name".into()) } else { Ok(rows) }
}

/// Runs ours and theirs in turn. `failed` says that our side failed before on this row, so it is not tried again.
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

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

impl Pairs {
    /// Median of the ratios of the pairs.
    fn ratio(&self) -> Option<f64> {
        let complete = self.ours.len() == self.theirs.len();
        complete.then(|| median(self.ours.iter().zip(&self.theirs).map(|(a, b)| a / b).collect()))?
    }

    /// Nanoseconds per instruction of a shot that ours takes longer.
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

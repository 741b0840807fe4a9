//! `qmk qec sweep`: a code at many distances and physical error rates.

use crate::failure::Failure;
use crate::plot::{self, Curve, Labels};
use crate::qec::{self, NoiseArgs, Progress, Work, usage};
use crate::{Output, print, seed, shots};
use qmk_abi::image::Pauli;
use qmk_qec::experiment::{self, Experiment, MAX_ROUNDS, Stop};
use qmk_qec::memory::{Memory, Tally, wilson};
use qmk_qec::threshold::{Point, threshold};
use qmk_sim::rng::philox2x64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const HELP: &str = "Examples:\n  \
    qmk qec sweep --code surface_code --distances 3,5,7 --p 4e-3:1e-2:7 -o sweep\n  \
    qmk qec sweep --code bacon_shor --distances 3,5,7,9 --p 2e-4,5e-4,1e-3 --basis both -o bacon_shor\n  \
    qmk qec sweep --code surface_code --distances 3,5 --p 1e-3:1e-2:5 --rounds 3d --target-error 0.05 -o points.jsonl\n\n\
    A sweep that was killed goes on where it was when it is started again. The same seed gives the same counts on any \
    number of threads.";

/// Most points of a sweep.
const MAX_POINTS: usize = 10_000;
/// How often an unfinished point is written down.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// Steps of the progress bar for a point.
const STEPS: f64 = 1000.0;

#[derive(clap::Args)]
pub(crate) struct SweepArgs {
    /// The code
    #[arg(long, value_name = "CODE", value_parser = qec::code)]
    code: String,
    /// Code distances
    #[arg(long, value_name = "D,D,...", value_delimiter = ',', required = true)]
    distances: Vec<u32>,
    /// Physical error rates: P,P,... or LOW:HIGH:N, N of them with equal ratios
    #[arg(long, value_name = "P,P,...|LOW:HIGH:N", value_parser = rates)]
    p: Rates,
    /// Rounds of syndrome extraction: a number, or a multiple of the distance such as 3d
    #[arg(long, value_name = "R|Kd", default_value = "d", value_parser = rounds)]
    rounds: Rounds,
    /// Eigenstates to keep: those of Z show logical X errors, those of X logical Z errors; both counts either
    #[arg(long, default_value = "both", value_parser = ["z", "x", "both"])]
    basis: String,
    #[command(flatten)]
    noise: NoiseArgs,
    /// Relative standard error of the logical error rate at which a point is done; 0.1 takes 100 failures
    #[arg(long, value_name = "E", default_value_t = 0.1)]
    target_error: f64,
    /// Fewest shots of a point
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = shots)]
    min_shots: u64,
    /// Most shots of a point
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = shots)]
    max_shots: u64,
    /// Seed of all randomness
    #[arg(long, default_value_t = 0, value_name = "S", value_parser = seed)]
    seed: u64,
    #[command(flatten)]
    work: Work,
    /// Directory for points.jsonl and plot.svg, or FILE.jsonl, beside which FILE.svg is put
    #[arg(short, long, value_name = "DIR|FILE.jsonl")]
    out: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// Physical error rates, ascending.
#[derive(Clone)]
struct Rates(Vec<f64>);

fn rates(text: &str) -> Result<Rates, String> {
    let number = |t: &str| {
        let p = t.trim().parse::<f64>().ok().filter(|p| p.is_finite() && *p >= 0.0);
        p.ok_or_else(|| format!("{t:?} is not a physical error rate"))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let mut all = match parts[..] {
        [list] => list.split(',').map(number).collect::<Result<Vec<f64>, _>>()?,
        [low, high, n] => {
            let (low, high) = (number(low)?, number(high)?);
            let n = n.trim().parse::<u32>().ok().filter(|n| (2..=1000).contains(n));
            let n = n.ok_or("LOW:HIGH:N takes N from 2 to 1000")?;
            if low <= 0.0 || low >= high {
                return Err("LOW:HIGH:N takes 0 < LOW < HIGH".into());
            }
            let at = |i: u32| low * (high / low).powf(i as f64 / (n - 1) as f64);
            // Numbers that a person can type again.
            (0..n).map(|i| format!("{:.3e}", at(i)).parse().unwrap_or(at(i))).collect()
        }
        _ => return Err("expected P,P,... or LOW:HIGH:N".into()),
    };
    all.sort_by(f64::total_cmp);
    all.dedup();
    Ok(Rates(all))
}

/// Rounds for each distance.
#[derive(Clone, Copy)]
enum Rounds {
    Fixed(u32),
    PerDistance(u32),
}

fn rounds(text: &str) -> Result<Rounds, String> {
    let number = |t: &str| t.parse::<u32>().ok().filter(|n| (1..=MAX_ROUNDS).contains(n));
    let parsed = match text.strip_suffix('d') {
        Some("") => Some(Rounds::PerDistance(1)),
        Some(times) => number(times).map(Rounds::PerDistance),
        None => number(text).map(Rounds::Fixed),
    };
    parsed.ok_or_else(|| format!("expected a number from 1 to {MAX_ROUNDS}, or that times the distance, such as 3d"))
}

/// A point of a sweep, as in its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    code: String,
    distance: u32,
    rounds: u32,
    basis: String,
    p: f64,
    noise: String,
    set: Vec<(String, f64)>,
    decoder: String,
    seed: u64,
    shots: u64,
    failures: u64,
    logical_qubits: u32,
    logical_error_per_shot: f64,
    ci95: [f64; 2],
    logical_error_per_round: f64,
    us_per_round: f64,
    /// Whether there are shots enough.
    done: bool,
}

impl Row {
    fn is(&self, other: &Row) -> bool {
        let what = |r: &Row| (r.distance, r.rounds, r.p.to_bits(), r.basis.clone(), r.seed);
        what(self) == what(other)
    }

    fn count(&mut self, tally: &Tally) {
        (self.shots, self.failures) = (tally.shots, tally.failures);
        self.logical_error_per_shot = tally.per_shot();
        self.ci95 = wilson(tally.failures, tally.shots, 1.96);
        self.logical_error_per_round =
            experiment::any_per_round(self.logical_error_per_shot, self.rounds as f64, self.logical_qubits);
        self.us_per_round = tally.us_per_round(self.rounds);
    }

    fn tally(&self) -> Tally {
        let us = self.us_per_round * self.shots as f64 * self.rounds as f64;
        let decoding = Duration::try_from_secs_f64(us / 1e6).unwrap_or_default();
        Tally { shots: self.shots, failures: self.failures, decoding }
    }
}

/// The file of a sweep: what it is, then a line for each point as it was when the line was written. Later lines count.
struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Opens or begins a file; returns the rows that are in it.
    fn open(path: &Path, sweep: &Value) -> Result<(Log, Vec<Row>), Failure> {
        let failed = |e: std::io::Error| Failure::new(1, "IO", format!("{}: {e}", path.display()));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        file.try_lock()
            .map_err(|_| Failure::new(1, "IO", format!("{}: another sweep is writing to it", path.display())))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let mut log = Log { file, path: path.into() };
        let wrong =
            |line: usize, what: String| Failure::new(1, "E-PARSE", format!("{}:{line}: {what}", path.display()));
        let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
        let (mut rows, mut good) = (Vec::new(), 0);
        for (i, line) in lines.iter().enumerate() {
            // A kill in the middle of a write leaves a part of a line.
            let cut = i + 1 == lines.len() && !(line.ends_with(b"\n") && serde_json::from_slice::<Value>(line).is_ok());
            if cut {
                if i == 0 && !serde_json::to_vec(&sweep).unwrap_or_default().starts_with(line) {
                    return Err(wrong(1, "not the file of a sweep".into()));
                }
                break;
            }
            if i == 0 {
                let found: Value = serde_json::from_slice(line).map_err(|e| wrong(1, format!("not a sweep: {e}")))?;
                if found != *sweep {
                    return Err(Failure::new(2, "USAGE", differ(path, &found, sweep)));
                }
            } else {
                let row: Row = serde_json::from_slice(line).map_err(|e| wrong(i + 1, format!("not a point: {e}")))?;
                if row.failures > row.shots {
                    return Err(wrong(i + 1, format!("{} failures in {} shots", row.failures, row.shots)));
                }
                rows.push(row);
            }
            good += line.len() as u64;
        }
        log.file.set_len(good).and_then(|()| log.file.seek(SeekFrom::End(0))).map_err(failed)?;
        if good == 0 {
            log.line(sweep)?;
        }
        Ok((log, rows))
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).unwrap_or_default() + "\n";
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|e| Failure::new(1, "IO", format!("{}: {e}", self.path.display())))
    }
}

/// What tells two sweeps apart.
fn differ(path: &Path, found: &Value, asked: &Value) -> String {
    let mut what = format!("{} holds a different sweep", path.display());
    let (found, asked) = (&found["sweep"], &asked["sweep"]);
    for (name, value) in asked.as_object().into_iter().flatten() {
        if found[name] != *value {
            _ = write!(what, "; {name} is {} there and {value} here", found[name]);
        }
    }
    what + "; choose another place with -o, or ask for the same"
}

/// A seed for each point, so that points do not share their luck.
fn seed_of(seed: u64, distance: u32, p: f64, basis: Pauli) -> u64 {
    philox2x64([(distance as u64) << 2 | basis as u64, p.to_bits()], seed)[0]
}

pub(crate) fn run(args: &SweepArgs) -> Result<(), Failure> {
    if !(args.target_error > 0.0 && args.target_error <= 1.0) {
        return Err(usage(format!("--target-error {} is not above 0 and at most 1", args.target_error)));
    }
    if args.min_shots > args.max_shots {
        let (min, max) = (args.min_shots, args.max_shots);
        return Err(usage(format!("--min-shots {min} is above --max-shots {max}")));
    }
    let stop = Stop { target: args.target_error, min_shots: args.min_shots, max_shots: args.max_shots };
    let mut distances = args.distances.clone();
    distances.sort_unstable();
    distances.dedup();
    let bases: &[Pauli] = match args.basis.as_str() {
        "z" => &[Pauli::Z],
        "x" => &[Pauli::X],
        _ => &[Pauli::Z, Pauli::X],
    };
    let mut points = Vec::new();
    for &distance in &distances {
        let rounds = match args.rounds {
            Rounds::Fixed(n) => n,
            Rounds::PerDistance(k) => k.saturating_mul(distance),
        };
        for &p in &args.p.0 {
            for &basis in bases {
                let (noise, set) = (args.noise.noise_model.clone(), args.noise.set.clone());
                points.push(Experiment { code: args.code.clone(), distance, rounds, basis, p, noise, set });
            }
        }
    }
    if points.len() > MAX_POINTS {
        return Err(usage(format!("{} points are more than {MAX_POINTS}", points.len())));
    }
    points.iter().try_for_each(|e| e.check().map(|_| ())).map_err(usage)?;
    let sweep = json!({"sweep": {
        "code": args.code, "distances": distances, "p": args.p.0,
        "rounds": points.iter().map(|e| e.rounds).fold(Vec::new(), |mut all, r| { if all.last() != Some(&r) { all.push(r) } all }),
        "basis": args.basis, "noise": args.noise.noise_model, "set": args.noise.set, "decoder": args.work.decoder,
        "target_error": args.target_error, "min_shots": args.min_shots, "max_shots": args.max_shots, "seed": args.seed,
        "version": env!("CARGO_PKG_VERSION"),
    }});
    let (file, picture) = match args.out.extension().is_some_and(|e| e == "jsonl") {
        true => (args.out.clone(), args.out.with_extension("svg")),
        false => {
            let failed = |e: std::io::Error| Failure::new(1, "IO", format!("{}: {e}", args.out.display()));
            std::fs::create_dir_all(&args.out).map_err(failed)?;
            (args.out.join("points.jsonl"), args.out.join("plot.svg"))
        }
    };
    let (mut log, known) = Log::open(&file, &sweep)?;
    let bar =
        Progress::new((STEPS * points.len() as f64) as u64, "{bar:40} {percent}% of the sweep, {msg}, {eta} left");
    let mut rows = Vec::with_capacity(points.len());
    for (i, point) in points.iter().enumerate() {
        rows.push(measure(point, args, stop, &known, &mut log, &|part, what| {
            bar.at((STEPS * (i as f64 + part)) as u64, what);
        })?);
    }
    drop(bar);
    report(args, &rows, &file, &picture)
}

/// One point, from what is known of it.
fn measure(
    point: &Experiment,
    args: &SweepArgs,
    stop: Stop,
    known: &[Row],
    log: &mut Log,
    show: &(dyn Fn(f64, &dyn Fn() -> String) + Sync),
) -> Result<Row, Failure> {
    let mut row = Row {
        code: point.code.clone(),
        distance: point.distance,
        rounds: point.rounds,
        basis: if point.basis == Pauli::Z { "z".into() } else { "x".into() },
        p: point.p,
        noise: point.noise.clone(),
        set: point.set.clone(),
        decoder: String::new(),
        seed: seed_of(args.seed, point.distance, point.p, point.basis),
        shots: 0,
        failures: 0,
        logical_qubits: 0,
        logical_error_per_shot: 0.0,
        ci95: [0.0, 1.0],
        logical_error_per_round: 0.0,
        us_per_round: 0.0,
        done: false,
    };
    let before = known.iter().rev().find(|k| k.is(&row));
    if let Some(done) = before.filter(|k| k.done) {
        return Ok(done.clone());
    }
    let mut tally = before.map_or_else(Tally::default, Row::tally);
    let (code, circuit) = point.build().map_err(usage)?;
    let memory = Memory::new(&circuit).map_err(|e| Failure::new(1, "E-ARG", e))?;
    drop(circuit);
    let decoder = experiment::decoder(&args.work.decoder, memory.model(), code.is_matchable())
        .map_err(|e| Failure::new(1, "E-ARG", e))?;
    row.decoder = decoder.name().into();
    row.logical_qubits = memory.model().observables;
    let go_on = |t: &Tally| {
        let failures = t.failures as f64 * stop.target.powi(2);
        let part = failures.max(t.shots as f64 / stop.max_shots as f64).min(1.0);
        show(part, &|| format!("d={} p={}: {} failures in {} shots", point.distance, point.p, t.failures, t.shots));
        true
    };
    let seed = row.seed;
    let mut written = Instant::now();
    let mut failed = None;
    let mut done = |t: &Tally| {
        if written.elapsed() > WRITE_EVERY {
            row.count(t);
            failed = failed.take().or_else(|| log.line(&row).err());
            written = Instant::now();
        }
    };
    let how = (seed, stop, args.work.threads());
    experiment::until(&memory, decoder.as_ref(), how, &mut tally, &go_on, &mut done);
    if let Some(failure) = failed {
        return Err(failure);
    }
    row.count(&tally);
    row.done = true;
    log.line(&row)?;
    Ok(row)
}

/// Either of the bases, at each distance and physical error rate.
fn combined(rows: &[Row]) -> Vec<(Point, [f64; 2], f64)> {
    let mut all: Vec<(Point, [f64; 2], f64)> = Vec::new();
    for row in rows {
        // An interval of one standard deviation has a width also where nothing failed.
        let [low, high] = wilson(row.failures, row.shots, 1.0);
        let (failure, error) = (row.logical_error_per_shot, (high - low) / 2.0);
        let last = all.last_mut().filter(|l| l.0.distance == row.distance && l.0.p == row.p);
        match last {
            None => {
                all.push((
                    Point { distance: row.distance, p: row.p, failure, error },
                    row.ci95,
                    row.logical_error_per_round,
                ));
            }
            Some((point, ci95, round)) => {
                let either = |a: f64, b: f64| 1.0 - (1.0 - a) * (1.0 - b);
                let both = either(point.failure, failure);
                // Deviations of independent counts add in squares.
                let side = |i: usize| ((ci95[i] - point.failure).powi(2) + (row.ci95[i] - failure).powi(2)).sqrt();
                *ci95 = [(both - side(0)).max(0.0), (both + side(1)).min(1.0)];
                (point.failure, point.error) = (both, point.error.hypot(error));
                *round = either(*round, row.logical_error_per_round);
            }
        }
    }
    all
}

fn report(args: &SweepArgs, rows: &[Row], file: &Path, picture: &Path) -> Result<(), Failure> {
    let points = combined(rows);
    let has_threshold = args.code != "bacon_shor";
    let only: Vec<Point> = points.iter().map(|p| p.0).collect();
    let found = if has_threshold { threshold(&only) } else { Err("Bacon-Shor codes have no threshold".into()) };
    // Of each physical error rate, the distance that loses least in a round, and why a larger one may lose less.
    let known = |q: &Point| q.failure > 0.0 && q.error < 0.35 * q.failure;
    let optimal: Vec<(f64, u32, f64, &str)> = args
        .p
        .0
        .iter()
        .filter_map(|&p| {
            let here = || points.iter().filter(|q| q.0.p == p);
            let best = here().filter(|q| known(&q.0)).min_by(|a, b| a.2.total_cmp(&b.2))?;
            let larger = || here().filter(|q| q.0.distance > best.0.distance);
            let more = if larger().next().is_none() {
                " or larger, it is the largest asked for"
            } else if larger().any(|q| !known(&q.0)) {
                " or larger, where too few failures were seen to tell"
            } else {
                ""
            };
            Some((p, best.0.distance, best.2, more))
        })
        .collect();
    let curve = |d: u32| Curve {
        name: format!("d = {d}"),
        points: points
            .iter()
            .filter(|q| q.0.distance == d && q.0.failure > 0.0 && q.0.p > 0.0)
            .map(|q| (q.0.p, q.0.failure, q.1))
            .collect(),
    };
    let mut distances: Vec<u32> = rows.iter().map(|r| r.distance).collect();
    distances.dedup();
    let what = match args.basis.as_str() {
        "z" => "logical X error",
        "x" => "logical Z error",
        _ => "logical X or Z error",
    };
    let rounds = match args.rounds {
        Rounds::Fixed(n) => format!("{n} rounds"),
        Rounds::PerDistance(1) => "d rounds".into(),
        Rounds::PerDistance(k) => format!("{k}d rounds"),
    };
    let decoder = rows.first().map_or("", |r| &r.decoder);
    let labels = Labels {
        title: format!("{}, {} noise, {decoder}", args.code, args.noise.noise_model),
        x: "physical error rate".into(),
        y: format!("{what} in {rounds}"),
        threshold: found.as_ref().ok().map(|t| (t.p, t.interval)),
    };
    let curves: Vec<Curve> = distances.iter().map(|&d| curve(d)).collect();
    let svg = plot::log_log(&labels, &curves).map_err(|e| Failure::new(4, "INTERNAL", e))?;
    crate::write(Some(picture), &svg)?;
    if args.output.json {
        let threshold = found.as_ref().map_or_else(
            |reason| json!({"found": false, "reason": reason}),
            |t| json!({"found": true, "p": t.p, "ci95": t.interval, "nu": t.nu, "chi2_per_dof": t.chi2, "points": t.points}),
        );
        let mut document = json!({"points": rows, "threshold": threshold, "file": file, "plot": picture});
        if !has_threshold {
            let size = |&(p, d, e, more): &(f64, u32, f64, &str)| json!({"p": p, "distance": d, "or_larger": !more.is_empty(), "logical_error_per_round": e});
            document["optimal_size"] = optimal.iter().map(size).collect();
        }
        return print(&(document.to_string() + "\n"));
    }
    let mut text = format!("{}, {} noise, {decoder}, seed {}\n", args.code, args.noise.noise_model, args.seed);
    text +=
        "   d          p  basis  rounds      shots  failures   per shot  (95 %)                  per round  us/round\n";
    for r in rows {
        _ = writeln!(
            text,
            "{:>4}  {:>9.3e}  {:>5}  {:>6}  {:>9}  {:>8}  {:>9.3e}  ({:.2e} to {:.2e})  {:>9.3e}  {:>8.3}",
            r.distance,
            r.p,
            r.basis,
            r.rounds,
            r.shots,
            r.failures,
            r.logical_error_per_shot,
            r.ci95[0],
            r.ci95[1],
            r.logical_error_per_round,
            r.us_per_round
        );
    }
    match &found {
        Ok(t) => {
            _ = writeln!(
                text,
                "threshold {:.3e} (95 %: {:.3e} to {:.3e}), nu {:.2}, chi2 {:.2} a degree of freedom, {} points",
                t.p, t.interval[0], t.interval[1], t.nu, t.chi2, t.points
            );
        }
        Err(reason) => _ = writeln!(text, "{reason}"),
    }
    if !has_threshold {
        for (p, d, e, more) in &optimal {
            _ = writeln!(text, "optimal size at p = {p:.3e}: d = {d} ({e:.3e} a round){more}");
        }
    }
    _ = writeln!(text, "{} and {}", file.display(), picture.display());
    print(&text)
}

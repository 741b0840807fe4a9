//! `qmk qec sweep`: memory experiments of a code at many distances and physical error rates. `run` below measures the
//! points, `log` keeps them in a file from which a killed sweep resumes, and `report` prints and plots them.

mod args;
mod log;
mod report;

pub(super) use args::{HELP, SweepArgs};

use crate::failure::Failure;
use crate::progress::Progress;
use crate::qec::args::usage;
use args::Rounds;
use log::{PointRecord, SweepLog};
use qmk_abi::image::Pauli;
use qmk_qec::experiment::memory::{Memory, Tally};
use qmk_qec::experiment::{self, Experiment, StoppingRule};
use qmk_sim::rng::philox2x64;
use report::report;
use serde_json::json;
use std::time::{Duration, Instant};

/// Most points of a sweep.
const MAX_POINTS: usize = 10_000;
/// How often the counts of an unfinished point are appended to the file.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// Steps of the progress bar for a point.
const STEPS: f64 = 1000.0;

/// A seed of its own for each point, so that the points are statistically independent.
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
    let stop = StoppingRule { target: args.target_error, min_shots: args.min_shots, max_shots: args.max_shots };
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
    let (mut log, known) = SweepLog::open(&file, &sweep)?;
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

/// Measures one point. It resumes from the counts in `known`, and appends the new counts to the log.
fn measure(
    point: &Experiment,
    args: &SweepArgs,
    stop: StoppingRule,
    known: &[PointRecord],
    log: &mut SweepLog,
    show: &(dyn Fn(f64, &dyn Fn() -> String) + Sync),
) -> Result<PointRecord, Failure> {
    let mut row = PointRecord {
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
    let mut tally = before.map_or_else(Tally::default, PointRecord::tally);
    let (code, circuit) = point.build().map_err(usage)?;
    let memory = Memory::new(&circuit).map_err(|e| Failure::new(1, "E-ARG", e.to_string()))?;
    drop(circuit);
    let decoder = experiment::decoder(&args.work.decoder, memory.model(), code.is_matchable())
        .map_err(|e| Failure::new(1, "E-ARG", e.to_string()))?;
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
    experiment::sample_until(&memory, decoder.as_ref(), how, &mut tally, &go_on, &mut done);
    if let Some(failure) = failed {
        return Err(failure);
    }
    row.count(&tally);
    row.done = true;
    log.line(&row)?;
    Ok(row)
}

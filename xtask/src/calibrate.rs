//! Measures the logical error rates that are built into `qmk-qec`.

use qmk_abi::image::Pauli;
use qmk_qec::QecError;
use qmk_qec::calibration::{Counts, Fit, NOISE, Row, Table};
use qmk_qec::experiment::memory::{Memory, Tally};
use qmk_qec::experiment::{self, Experiment, StoppingRule};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of `cargo xtask calibrate`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Takes a quarter of the shots
    #[arg(long)]
    quick: bool,
    /// Measures nothing and fits the rows of the table again
    #[arg(long, conflicts_with_all = ["quick", "seed"])]
    refit: bool,
    /// Seed of all randomness
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to write the table [default: that of the crate]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Codes and their distances.
const CODES: [(&str, &[u32]); 4] =
    [("surface_code", &[3, 5, 7, 9]), ("bacon_shor", &[3, 5, 7]), ("honeycomb_ancillas", &[3, 5, 7]), ("shyps", &[4])];
/// Physical error rates, descending; a code is left when its failures become too rare to count.
const RATES: [f64; 9] = [8e-3, 5.6e-3, 4e-3, 2.8e-3, 2e-3, 1.4e-3, 1e-3, 7e-4, 5e-4];
/// Qubits times rounds times shots of a measurement, at most.
const WORK: u64 = 1 << 30;
/// Time of belief propagation over that of matching.
const SLOW: u64 = 100;
/// Least failures of the long experiment of a row that is kept.
const FAILURES: u64 = 100;

pub(crate) fn run(root: &Path, args: &Args) -> Result<(), String> {
    let began = Instant::now();
    let path = args.out.clone().unwrap_or(root.join("crates/qmk-qec/calibration.tsv"));
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    if args.refit {
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let mut table = Table::parse(&text).map_err(|e| e.to_string())?;
        for fit in &mut table.fits {
            let rows: Vec<&Row> = table.rows.iter().filter(|r| r.code == fit.code && r.error == fit.error).collect();
            *fit = Fit::of(&rows).map_err(|e| e.to_string())?;
            println!("{fit:?}");
        }
        let head: String = text.lines().filter(|l| l.starts_with("# ")).map(|l| format!("{l}\n")).collect();
        return std::fs::write(&path, head + &table.to_string()).map_err(failed);
    }
    let mut table = Table::default();
    for (code, distances) in CODES {
        for (error, basis) in [('x', Pauli::Z), ('z', Pauli::X)] {
            for &distance in distances {
                for p in RATES {
                    let Some(row) = measure(code, distance, p, basis, error, args).map_err(|e| e.to_string())? else {
                        continue;
                    };
                    let few = row.counts[1].failures < if args.quick { FAILURES / 4 } else { FAILURES };
                    let (rate, [low, high]) = row.rate();
                    eprintln!(
                        "{:5.0} s  {code} d={distance} {error} p={p}: {rate:.3e} ({low:.3e} to {high:.3e})",
                        began.elapsed().as_secs_f64()
                    );
                    if few {
                        break;
                    }
                    if rate < 0.25 && low > 0.0 {
                        table.rows.push(row);
                    }
                }
            }
            let rows: Vec<&Row> = table.rows.iter().filter(|r| r.code == code && r.error == error).collect();
            table.fits.push(Fit::of(&rows).map_err(|e| e.to_string())?);
        }
    }
    let (quick, seed) = (if args.quick { " --quick" } else { "" }, args.seed);
    let mut text = String::from("# Logical error rates of a round of syndrome extraction, per logical qubit.\n");
    _ = writeln!(text, "# cargo xtask calibrate{quick} --seed {seed}");
    _ = writeln!(text, "# version {}, noise model {NOISE}, decoder best, one thread", env!("CARGO_PKG_VERSION"));
    text += "# The meaning of the columns is in src/calibration/table.rs. us_per_round is measured time; all else follows from the seed.\n";
    std::fs::write(&path, text + &table.to_string()).map_err(failed)?;
    println!("{}: {} rows in {:.0} s", path.display(), table.rows.len(), began.elapsed().as_secs_f64());
    for fit in &table.fits {
        println!("{fit:?}");
    }
    Ok(())
}

/// Measures one row; `None` where logical qubits are lost before the end of the long experiment.
fn measure(code: &str, distance: u32, p: f64, basis: Pauli, error: char, args: &Args) -> Result<Option<Row>, QecError> {
    let mut row = Row {
        code: code.into(),
        error,
        distance,
        p,
        logical_qubits: 1,
        counts: [Counts { rounds: 0, shots: 0, failures: 0 }; 2],
        us_per_round: 0.0,
    };
    for (i, rounds) in [(0, distance), (1, 3 * distance)] {
        let (code, noise) = (code.to_string(), NOISE.to_string());
        let experiment = Experiment { code, distance, rounds, basis, p, noise, set: Vec::new() };
        let (built, circuit) = experiment.build()?;
        let memory = Memory::new(&circuit)?;
        let decoder = experiment::decoder("best", memory.model(), built.is_matchable())?;
        let slow = if built.is_matchable() { 1 } else { SLOW };
        let most = WORK / slow / (built.physical_qubits() as u64 * rounds as u64) / if args.quick { 4 } else { 1 };
        let stop = StoppingRule { target: 0.03, min_shots: 1024, max_shots: most.clamp(1024, 1 << 22) };
        let mut tally = Tally::default();
        // Each experiment has a seed of its own.
        let seed = args.seed << 32
            | (distance as u64) << 16
            | (i as u64) << 8
            | RATES.iter().position(|r| *r == p).unwrap_or(0) as u64;
        experiment::sample_until(&memory, decoder.as_ref(), (seed, stop, 1), &mut tally, &|_| true, &mut |_| {});
        row.logical_qubits = memory.model().observables;
        row.counts[i] = Counts { rounds, shots: tally.shots, failures: tally.failures };
        row.us_per_round = tally.us_per_round(rounds);
        let lost = experiment::per_observable(tally.per_shot(), row.logical_qubits);
        if lost > 0.4 {
            return Ok(None);
        }
    }
    Ok(Some(row))
}

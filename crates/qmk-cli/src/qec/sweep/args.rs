//! Options of a sweep, and the lists and multiples among their values.

use crate::args::{Output, seed, shots};
use crate::qec::args::{self, NoiseArgs, Work};
use qmk_qec::experiment::MAX_ROUNDS;
use std::path::PathBuf;

pub(crate) const HELP: &str = "Examples:\n  \
    qmk qec sweep --code surface_code --distances 3,5,7 --p 4e-3:1e-2:7 -o sweep\n  \
    qmk qec sweep --code bacon_shor --distances 3,5,7,9 --p 2e-4,5e-4,1e-3 --basis both -o bacon_shor\n  \
    qmk qec sweep --code surface_code --distances 3,5 --p 1e-3:1e-2:5 --rounds 3d --target-error 0.05 -o points.jsonl\n\n\
    A sweep that was killed goes on where it was when it is started again. The same seed gives the same counts on any \
    number of threads.";

#[derive(clap::Args)]
pub(crate) struct SweepArgs {
    /// The code
    #[arg(long, value_name = "CODE", value_parser = args::code)]
    pub(super) code: String,
    /// Code distances
    #[arg(long, value_name = "D,D,...", value_delimiter = ',', required = true)]
    pub(super) distances: Vec<u32>,
    /// Physical error rates: P,P,... or LOW:HIGH:N, N of them with equal ratios
    #[arg(long, value_name = "P,P,...|LOW:HIGH:N", value_parser = rates)]
    pub(super) p: Rates,
    /// Rounds of syndrome extraction: a number, or a multiple of the distance such as 3d
    #[arg(long, value_name = "R|Kd", default_value = "d", value_parser = rounds)]
    pub(super) rounds: Rounds,
    /// Eigenstates to keep: those of Z show logical X errors, those of X logical Z errors; both counts either
    #[arg(long, default_value = "both", value_parser = ["z", "x", "both"])]
    pub(super) basis: String,
    #[command(flatten)]
    pub(super) noise: NoiseArgs,
    /// Relative standard error of the logical error rate at which a point is done; 0.1 takes 100 failures
    #[arg(long, value_name = "E", default_value_t = 0.1)]
    pub(super) target_error: f64,
    /// Fewest shots of a point
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = shots)]
    pub(super) min_shots: u64,
    /// Most shots of a point
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = shots)]
    pub(super) max_shots: u64,
    /// Seed of all randomness
    #[arg(long, default_value_t = 0, value_name = "S", value_parser = seed)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) work: Work,
    /// Directory for points.jsonl and plot.svg, or FILE.jsonl, beside which FILE.svg is put
    #[arg(short, long, value_name = "DIR|FILE.jsonl")]
    pub(super) out: PathBuf,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Physical error rates, ascending.
#[derive(Clone)]
pub(super) struct Rates(pub(super) Vec<f64>);

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
            // Four digits, so that a reader can type the rate again.
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
pub(super) enum Rounds {
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

//! Benches that serve runs on request: single runs of the two builds alternate.

use super::super::args::Args;
use super::super::build::keep_memory;
use super::super::row::{Row, rows};
use super::super::side::Side;
use super::super::statistics::Comparison;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Pairs of a row are run for about this long, in nanoseconds, but as often as below.
const SPEND: f64 = 8e9;
/// Pairs of a row. Fewer than six give no interval.
const PAIRS: (f64, f64) = (9.0, 61.0);
/// A run shorter than this is repeated in place, so that waking up does not count.
const SHORT: f64 = 20e6;

/// Compares the rows that both programs have.
pub(super) fn compare(ours: &Path, theirs: &Path, args: &Args) -> Result<Vec<Comparison>, String> {
    let (wanted, known) = (rows(ours, args)?, rows(theirs, args)?);
    let side = |program: &Path| {
        let mut command = Command::new(program);
        command.arg("serve");
        keep_memory(&mut command);
        Side::new(command, Duration::from_secs(args.limit))
    };
    let mut sides = [side(ours), side(theirs)];
    let mut comparisons = Vec::new();
    for row in wanted {
        let name = format!("{} x{} {}", row.name, row.shots, row.ours);
        if !known.iter().any(|k| (&k.name, k.shots, &k.ours) == (&row.name, row.shots, &row.ours)) {
            eprintln!("{name}: the other build has no such row");
            continue;
        }
        eprintln!("{name}");
        // Admission is what a program takes beyond one that was admitted before.
        let with_admission = row.ours == "kernel" && row.shots == 1;
        let ways: &[&str] = if with_admission { &["kernel", "admitted"] } else { &[&row.ours] };
        let pairs = measure(&row, ways, args.runs, &mut sides)?;
        comparisons.extend(Comparison::of(name, "ns", &pairs[0]));
        if let [whole, admitted] = &pairs[..] {
            let admission: Vec<(f64, f64)> = whole.iter().zip(admitted).map(|(w, a)| (w.0 - a.0, w.1 - a.1)).collect();
            if admission.iter().all(|(ours, theirs)| *ours > 0.0 && *theirs > 0.0) {
                comparisons.extend(Comparison::of(format!("{} x1 admission", row.name), "ns", &admission));
            }
        }
    }
    Ok(comparisons)
}

/// Nanoseconds of pairs of runs, ours first, for each of the ways to run a row.
fn measure(row: &Row, ways: &[&str], runs: Option<u64>, sides: &mut [Side; 2]) -> Result<Vec<Vec<(f64, f64)>>, String> {
    let mut round = |repeats: u64, first: usize| -> Result<Vec<[f64; 2]>, String> {
        let mut times = vec![[0.0; 2]; ways.len()];
        for (way, times) in ways.iter().zip(&mut times) {
            for side in [first, 1 - first] {
                times[side] = sides[side].time(way, row.shots, repeats, &row.name)?.0;
            }
        }
        Ok(times)
    };
    // The first warms up, and tells how long a run takes.
    let warm = round(1, 0)?.concat();
    let shortest = warm.iter().copied().fold(SHORT, f64::min).max(1.0);
    let repeats = (SHORT / shortest) as u64;
    let spent: f64 = warm.iter().map(|time| time * repeats as f64).sum();
    let wanted = runs.unwrap_or((SPEND / spent.max(1.0)).clamp(PAIRS.0, PAIRS.1) as u64 | 1);
    let mut pairs = vec![Vec::new(); ways.len()];
    for i in 0..wanted {
        // Which goes first alternates, so that neither always runs on what the other left.
        for (pairs, [ours, theirs]) in pairs.iter_mut().zip(round(repeats, i as usize % 2)?) {
            pairs.push((ours, theirs));
        }
    }
    Ok(pairs)
}

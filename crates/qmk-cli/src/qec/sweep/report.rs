//! What a sweep found: table, plot, threshold.

use super::args::{Rounds, SweepArgs};
use super::log::Row;
use crate::failure::Failure;
use crate::output::{print, write};
use crate::qec::plot::{self, Curve, Labels};
use qmk_qec::experiment::memory::wilson;
use qmk_qec::experiment::threshold::{Point, threshold};
use serde_json::json;
use std::fmt::Write;
use std::path::Path;

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

pub(super) fn report(args: &SweepArgs, rows: &[Row], file: &Path, picture: &Path) -> Result<(), Failure> {
    let points = combined(rows);
    let has_threshold = args.code != "bacon_shor";
    let only: Vec<Point> = points.iter().map(|p| p.0).collect();
    let found = if has_threshold {
        threshold(&only).map_err(|e| e.to_string())
    } else {
        Err("Bacon-Shor codes have no threshold".into())
    };
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
    write(Some(picture), &svg)?;
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

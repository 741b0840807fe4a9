//! The report of a sweep: table or JSON, plot, and the threshold or the best sizes.

use super::args::{Rounds, SweepArgs};
use super::log::PointRecord;
use crate::failure::Failure;
use crate::output::{print, write};
use crate::qec::plot::{self, Curve, Labels};
use qmk_qec::experiment::memory::wilson;
use qmk_qec::experiment::threshold::{Point, Threshold, threshold};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// The probability of an error in either basis, at each distance and physical error rate.
fn combined(rows: &[PointRecord]) -> Vec<(Point, [f64; 2], f64)> {
    let mut all: Vec<(Point, [f64; 2], f64)> = Vec::new();
    for row in rows {
        // Wilson's interval of one standard deviation has a width even where nothing failed.
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
                // The bases are counted independently, so their deviations add in quadrature.
                let side = |i: usize| ((ci95[i] - point.failure).powi(2) + (row.ci95[i] - failure).powi(2)).sqrt();
                *ci95 = [(both - side(0)).max(0.0), (both + side(1)).min(1.0)];
                (point.failure, point.error) = (both, point.error.hypot(error));
                *round = either(*round, row.logical_error_per_round);
            }
        }
    }
    all
}

/// The distance with the smallest error per round at a physical error rate.
struct OptimalSize {
    p: f64,
    distance: u32,
    error_per_round: f64,
    /// Why a larger distance may be better; empty if none is.
    or_larger: &'static str,
}

fn optimal_sizes(rates: &[f64], points: &[(Point, [f64; 2], f64)]) -> Vec<OptimalSize> {
    let known = |q: &Point| q.failure > 0.0 && q.error < 0.35 * q.failure;
    let optimal = |&p: &f64| {
        let here = || points.iter().filter(|q| q.0.p == p);
        let best = here().filter(|q| known(&q.0)).min_by(|a, b| a.2.total_cmp(&b.2))?;
        let larger = || here().filter(|q| q.0.distance > best.0.distance);
        let or_larger = if larger().next().is_none() {
            " or larger, it is the largest asked for"
        } else if larger().any(|q| !known(&q.0)) {
            " or larger, where too few failures were seen to tell"
        } else {
            ""
        };
        Some(OptimalSize { p, distance: best.0.distance, error_per_round: best.2, or_larger })
    };
    rates.iter().filter_map(optimal).collect()
}

/// The points of a sweep with all that is derived from them.
struct SweepReport<'a> {
    args: &'a SweepArgs,
    rows: &'a [PointRecord],
    points: Vec<(Point, [f64; 2], f64)>,
    threshold: Result<Threshold, String>,
    /// Best sizes of a code that has no threshold.
    optimal: Option<Vec<OptimalSize>>,
    decoder: &'a str,
}

impl SweepReport<'_> {
    fn title(&self) -> String {
        format!("{}, {} noise, {}", self.args.code, self.args.noise.noise_model, self.decoder)
    }

    fn plot(&self) -> Result<String, String> {
        let curve = |d: u32| Curve {
            name: format!("d = {d}"),
            points: self
                .points
                .iter()
                .filter(|q| q.0.distance == d && q.0.failure > 0.0 && q.0.p > 0.0)
                .map(|q| (q.0.p, q.0.failure, q.1))
                .collect(),
        };
        let mut distances: Vec<u32> = self.rows.iter().map(|r| r.distance).collect();
        distances.dedup();
        let what = match self.args.basis.as_str() {
            "z" => "logical X error",
            "x" => "logical Z error",
            _ => "logical X or Z error",
        };
        let rounds = match self.args.rounds {
            Rounds::Fixed(n) => format!("{n} rounds"),
            Rounds::PerDistance(1) => "d rounds".into(),
            Rounds::PerDistance(k) => format!("{k}d rounds"),
        };
        let labels = Labels {
            title: self.title(),
            x: "physical error rate".into(),
            y: format!("{what} in {rounds}"),
            threshold: self.threshold.as_ref().ok().map(|t| (t.p, t.interval)),
        };
        let curves: Vec<Curve> = distances.iter().map(|&d| curve(d)).collect();
        plot::log_log(&labels, &curves)
    }

    fn json(&self, file: &Path, picture: &Path) -> Value {
        let threshold = self.threshold.as_ref().map_or_else(
            |reason| json!({"found": false, "reason": reason}),
            |t| json!({"found": true, "p": t.p, "ci95": t.interval, "nu": t.nu, "chi2_per_dof": t.chi2, "points": t.points}),
        );
        let mut document = json!({"points": self.rows, "threshold": threshold, "file": file, "plot": picture});
        if let Some(optimal) = &self.optimal {
            let size = |s: &OptimalSize| {
                json!({
                    "p": s.p, "distance": s.distance, "or_larger": !s.or_larger.is_empty(),
                    "logical_error_per_round": s.error_per_round,
                })
            };
            document["optimal_size"] = optimal.iter().map(size).collect();
        }
        document
    }

    fn table(&self, file: &Path, picture: &Path) -> String {
        let mut text = format!("{}, seed {}\n", self.title(), self.args.seed);
        text += "   d          p  basis  rounds      shots  failures   per shot  (95 %)                  per round  us/round\n";
        for r in self.rows {
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
        match &self.threshold {
            Ok(t) => {
                _ = writeln!(
                    text,
                    "threshold {:.3e} (95 %: {:.3e} to {:.3e}), nu {:.2}, chi2 {:.2} a degree of freedom, {} points",
                    t.p, t.interval[0], t.interval[1], t.nu, t.chi2, t.points
                );
            }
            Err(reason) => _ = writeln!(text, "{reason}"),
        }
        for OptimalSize { p, distance, error_per_round, or_larger } in self.optimal.iter().flatten() {
            _ = writeln!(
                text,
                "optimal size at p = {p:.3e}: d = {distance} ({error_per_round:.3e} a round){or_larger}"
            );
        }
        _ = writeln!(text, "{} and {}", file.display(), picture.display());
        text
    }
}

pub(super) fn report(args: &SweepArgs, rows: &[PointRecord], file: &Path, picture: &Path) -> Result<(), Failure> {
    let points = combined(rows);
    let only: Vec<Point> = points.iter().map(|p| p.0).collect();
    let has_threshold = args.code != "bacon_shor";
    let found = SweepReport {
        args,
        rows,
        threshold: if has_threshold {
            threshold(&only).map_err(|e| e.to_string())
        } else {
            Err("Bacon-Shor codes have no threshold".into())
        },
        optimal: (!has_threshold).then(|| optimal_sizes(&args.p.0, &points)),
        points,
        decoder: rows.first().map_or("", |r| &r.decoder),
    };
    let svg = found.plot().map_err(|e| Failure::new(4, "INTERNAL", e))?;
    write(Some(picture), &svg)?;
    if args.output.json {
        return print(&(found.json(file, picture).to_string() + "\n"));
    }
    print(&found.table(file, picture))
}

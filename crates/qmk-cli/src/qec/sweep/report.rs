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

/// A distance and a physical error rate, with the errors in both bases together.
struct CombinedPoint {
    /// Error per shot.
    point: Point,
    /// Interval of 95 % of the error per shot.
    ci95: [f64; 2],
    error_per_round: f64,
}

impl CombinedPoint {
    fn new(row: &PointRecord) -> CombinedPoint {
        // Wilson's interval of one standard deviation has a width even where nothing failed.
        let [low, high] = wilson(row.failures, row.shots, 1.0);
        let (failure, error) = (row.logical_error_per_shot, (high - low) / 2.0);
        let point = Point { distance: row.distance, p: row.p, failure, error };
        CombinedPoint { point, ci95: row.ci95, error_per_round: row.logical_error_per_round }
    }

    /// Adds the errors of the other basis, which are independent.
    fn add(&mut self, other: &CombinedPoint) {
        let either = |a: f64, b: f64| 1.0 - (1.0 - a) * (1.0 - b);
        let (mine, its) = (self.point.failure, other.point.failure);
        let both = either(mine, its);
        // Deviations of independent counts add in quadrature.
        let side = |i: usize| ((self.ci95[i] - mine).powi(2) + (other.ci95[i] - its).powi(2)).sqrt();
        self.ci95 = [(both - side(0)).max(0.0), (both + side(1)).min(1.0)];
        (self.point.failure, self.point.error) = (both, self.point.error.hypot(other.point.error));
        self.error_per_round = either(self.error_per_round, other.error_per_round);
    }

    /// Whether enough failures were seen to compare the point with others.
    fn is_known(&self) -> bool {
        self.point.failure > 0.0 && self.point.error < 0.35 * self.point.failure
    }
}

/// One point for each distance and physical error rate; `rows` has those of both bases side by side.
fn combined(rows: &[PointRecord]) -> Vec<CombinedPoint> {
    let mut all: Vec<CombinedPoint> = Vec::new();
    for new in rows.iter().map(CombinedPoint::new) {
        let last = all.last_mut();
        match last.filter(|l| l.point.distance == new.point.distance && l.point.p == new.point.p) {
            None => all.push(new),
            Some(last) => last.add(&new),
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

fn optimal_sizes(rates: &[f64], points: &[CombinedPoint]) -> Vec<OptimalSize> {
    let optimal = |&p: &f64| {
        let here = || points.iter().filter(|q| q.point.p == p);
        let known = here().filter(|q| q.is_known());
        let best = known.min_by(|a, b| a.error_per_round.total_cmp(&b.error_per_round))?;
        let distance = best.point.distance;
        let larger = || here().filter(|q| q.point.distance > distance);
        let or_larger = if larger().next().is_none() {
            " or larger, it is the largest asked for"
        } else if larger().any(|q| !q.is_known()) {
            " or larger, where too few failures were seen to tell"
        } else {
            ""
        };
        Some(OptimalSize { p, distance, error_per_round: best.error_per_round, or_larger })
    };
    rates.iter().filter_map(optimal).collect()
}

/// The points of a sweep with all that is derived from them.
struct SweepReport<'a> {
    args: &'a SweepArgs,
    rows: &'a [PointRecord],
    points: Vec<CombinedPoint>,
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
                .filter(|q| q.point.distance == d && q.point.failure > 0.0 && q.point.p > 0.0)
                .map(|q| (q.point.p, q.point.failure, q.ci95))
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
    let only: Vec<Point> = points.iter().map(|p| p.point).collect();
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

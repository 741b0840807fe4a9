//! Logical error rates that were measured, and what follows from them elsewhere.
//!
//! `calibration.tsv` is written by `cargo xtask calibrate`. Its rows are memory experiments of two lengths each: the error rate of a round is
//! what the longer one adds, so that errors of preparation and of the last measurement cancel. Its fits are suppression laws through the rows
//! below threshold.

use crate::experiment::fit::linear;
use crate::experiment::memory::wilson;
use crate::experiment::per_observable;
use qmk_abi::syscall::Code;
use std::fmt::{self, Display};
use std::sync::LazyLock;

/// The noise model of the table: standard circuit noise with errors of waiting qubits.
pub const NOISE: &str = "sd6";
/// Physical error rates below this are not extrapolated to.
pub const MIN_P: f64 = 1e-6;

/// What one round of syndrome extraction does to a logical qubit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Probability of a logical X error in one round.
    pub x: f64,
    /// Probability of a logical Z error in one round.
    pub z: f64,
    /// Mean time that decoding one round of one patch took, in microseconds.
    pub us_per_round: f64,
    /// Whether the rates come from the fit, outside of what was measured.
    pub extrapolated: bool,
}

/// Counts of a memory experiment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    /// Rounds.
    pub rounds: u32,
    /// Shots.
    pub shots: u64,
    /// Shots in which some logical qubit failed.
    pub failures: u64,
}

/// What was measured at one distance and physical error rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Name of the code.
    pub code: String,
    /// `x` or `z`: which logical errors.
    pub error: char,
    /// Code distance.
    pub distance: u32,
    /// Physical error rate.
    pub p: f64,
    /// Logical qubits, which are taken to fail alike and independently.
    pub logical_qubits: u32,
    /// The short experiment and the long one.
    pub counts: [Counts; 2],
    /// Mean decoding time of a round, in microseconds.
    pub us_per_round: f64,
}

impl Row {
    /// Error rate of one logical qubit in one round, and its interval of 95 %: `(1 - 2 p₂)/(1 - 2 p₁) = (1 - 2e)^(r₂ - r₁)`, with errors
    /// of both counts added in squares. Counts that fail half of the time have no answer and give NaN.
    pub fn rate(&self) -> (f64, [f64; 2]) {
        let log = self.counts.map(|c| {
            let any = c.failures as f64 / c.shots.max(1) as f64;
            let [low, high] =
                wilson(c.failures, c.shots, 1.0).map(|p| (-2.0 * per_observable(p, self.logical_qubits)).ln_1p());
            ((-2.0 * per_observable(any, self.logical_qubits)).ln_1p(), (low - high) / 2.0)
        });
        let rounds = self.counts[1].rounds as f64 - self.counts[0].rounds as f64;
        let slope = (log[1].0 - log[0].0) / rounds;
        let side = 1.96 * log[0].1.hypot(log[1].1) / rounds;
        let e = |slope: f64| -f64::exp_m1(slope) / 2.0;
        (e(slope), [e((slope + side).min(0.0)), e(slope - side)])
    }
}

/// A suppression law: with `h = (d + 1)/2`, `ln e = a + h (b ln q + c) + g ln q`, where q is p, or d·p if each of d checks in a line can go wrong
/// unseen by the others, as in Bacon-Shor codes. That is `A (p/p_th)^(b (d+1)/2)` with `p_th = exp(-c/b)`, times `p^g`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Name of the code.
    pub code: String,
    /// `x` or `z`: which logical errors.
    pub error: char,
    /// Whether q is d·p.
    pub scaled: bool,
    /// a, b, c and g. Of a code with one distance, c is 0 and b the exponent of p over h.
    pub law: [f64; 4],
    /// Largest physical error rate of the rows that were fitted.
    pub max_p: f64,
    /// Rows that were fitted.
    pub rows: usize,
    /// Root of the mean square of `ln(measured / law)`.
    pub rms: f64,
    /// The largest of them, without sign.
    pub worst: f64,
}

impl Fit {
    /// The law.
    pub fn at(&self, distance: u32, p: f64) -> f64 {
        let (h, q) = basis(self.scaled, distance, p);
        let [a, b, c, g] = self.law;
        (a + h * (b * q + c) + g * q).exp().min(0.5)
    }

    /// Fits the rows of one code and error: of laws with and without scaling by d (of Bacon-Shor codes) and the factor `p^g`, the one that Akaike's criterion
    /// prefers. `b` is at most 1: rates must not fall faster than the least weight of a fatal error allows. Rows weigh by their intervals, which are taken to be 3 % wide at least, since no law is exact.
    ///
    /// # Errors
    /// If there are too few rows, or none below threshold.
    pub fn of(rows: &[&Row]) -> Result<Fit, String> {
        let first = rows.first().ok_or("there are no rows to fit")?;
        let name = || format!("{} {}", first.code, first.error);
        let mut distances: Vec<u32> = rows.iter().map(|r| r.distance).collect();
        distances.sort_unstable();
        distances.dedup();
        let at = |d: u32, p: f64| rows.iter().find(|r| r.distance == d && r.p == p).map(|r| r.rate().0);
        // Below threshold a larger distance is better, at all distances that were measured.
        let below = |p: f64| {
            let seen: Vec<f64> = distances.iter().filter_map(|&d| at(d, p)).collect();
            seen.windows(2).all(|w| w[1] < w[0]) && (seen.len() > 1 || distances.len() == 1)
        };
        let largest = rows.iter().map(|r| r.p).filter(|&p| below(p)).fold(0.0, f64::max);
        let fitted: Vec<&&Row> = rows.iter().filter(|r| r.p <= largest && r.rate().0 < 0.03).collect();
        if fitted.len() < 3 {
            return Err(format!("{}: {} rows below threshold are too few for a fit", name(), fitted.len()));
        }
        let mut best: Option<(f64, Fit)> = None;
        let one = distances.len() == 1;
        for (scaled, offset) in [(false, false), (true, false), (false, true), (true, true)] {
            // Other codes have a threshold that does not fall with the distance.
            if scaled && first.code != "bacon_shor" {
                continue;
            }
            let weighed = |r: &Row| {
                let (e, [low, high]) = r.rate();
                (e.ln(), 1.0 / (((high - low) / (3.92 * e)).powi(2) + 0.03f64.powi(2)))
            };
            // Rows of (1, h ln q, h, ln q).
            let terms: Vec<([f64; 4], f64, f64)> = fitted
                .iter()
                .map(|r| {
                    let ((h, q), (y, w)) = (basis(scaled, r.distance, r.p), weighed(r));
                    ([1.0, h * q, h, q], y, w)
                })
                .collect();
            let three = |b: Option<f64>| match (one, b) {
                (true, None) => {
                    linear(&terms.iter().map(|&([i, hq, ..], y, w)| ([i, hq], y, w)).collect::<Vec<_>>(), 0.0)
                        .map(|[a, b]| [a, b, 0.0, 0.0])
                }
                (true, Some(b)) => {
                    linear(&terms.iter().map(|&([i, hq, ..], y, w)| ([i], y - b * hq, w)).collect::<Vec<_>>(), 0.0)
                        .map(|[a]| [a, b, 0.0, 0.0])
                }
                (false, None) => {
                    linear(&terms.iter().map(|&([i, hq, h, _], y, w)| ([i, hq, h], y, w)).collect::<Vec<_>>(), 0.0)
                        .map(|[a, b, c]| [a, b, c, 0.0])
                }
                (false, Some(b)) => {
                    linear(&terms.iter().map(|&([i, hq, h, _], y, w)| ([i, h], y - b * hq, w)).collect::<Vec<_>>(), 0.0)
                        .map(|[a, c]| [a, b, c, 0.0])
                }
            };
            // The least errors that break a code of distance d are (d + 1)/2, rounded down: where p is small, rates fall no faster.
            let steepest =
                if one { first.distance.div_ceil(2) as f64 / basis(false, first.distance, 1.0).0 } else { 1.0 };
            let law = match offset {
                true if one || terms.len() < 6 => None,
                true => linear(&terms, 0.0).filter(|l| l[1] <= steepest && l[3] >= 0.0),
                false => three(None).and_then(|l| if l[1] > steepest { three(Some(steepest)) } else { Some(l) }),
            };
            let Some(law) = law.filter(|l| l[1] > 0.0) else { continue };
            let mut fit = Fit {
                code: first.code.clone(),
                error: first.error,
                scaled,
                law,
                max_p: fitted.iter().map(|r| r.p).fold(0.0, f64::max),
                rows: fitted.len(),
                rms: 0.0,
                worst: 0.0,
            };
            let rest: Vec<(f64, f64)> = fitted
                .iter()
                .map(|r| {
                    let (y, w) = weighed(r);
                    (y - fit.at(r.distance, r.p).ln(), w)
                })
                .collect();
            fit.rms = (rest.iter().map(|r| r.0 * r.0).sum::<f64>() / rest.len() as f64).sqrt();
            fit.worst = rest.iter().map(|r| r.0.abs()).fold(0.0, f64::max);
            let parameters = if one {
                2.0
            } else if offset {
                4.0
            } else {
                3.0
            };
            let criterion = rest.iter().map(|(r, w)| w * r * r).sum::<f64>() + 2.0 * parameters;
            if best.as_ref().is_none_or(|b| criterion < b.0) {
                best = Some((criterion, fit));
            }
        }
        best.map(|b| b.1).ok_or_else(|| format!("{}: no law fits", name()))
    }
}

/// `(d + 1)/2` and the logarithm of q.
fn basis(scaled: bool, distance: u32, p: f64) -> (f64, f64) {
    let d = distance as f64;
    ((d + 1.0) / 2.0, if scaled { (d * p).ln() } else { p.ln() })
}

/// Rows and fits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// What was measured.
    pub rows: Vec<Row>,
    /// Laws through it.
    pub fits: Vec<Fit>,
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "#row\tcode\terror\tdistance\tp\tlogical_qubits\trounds1\tshots1\tfailures1\trounds2\tshots2\tfailures2\t\
             rate\tlow\thigh\tus_per_round"
        )?;
        for r in &self.rows {
            let (rate, [low, high]) = r.rate();
            write!(f, "row\t{}\t{}\t{}\t{}\t{}", r.code, r.error, r.distance, r.p, r.logical_qubits)?;
            for c in r.counts {
                write!(f, "\t{}\t{}\t{}", c.rounds, c.shots, c.failures)?;
            }
            writeln!(f, "\t{rate:.4e}\t{low:.4e}\t{high:.4e}\t{:.4}", r.us_per_round)?;
        }
        writeln!(f, "#fit\tcode\terror\tq\ta\tb\tc\tg\tmax_p\trows\trms\tworst")?;
        for t in &self.fits {
            let q = if t.scaled { "d*p" } else { "p" };
            let [a, b, c, g] = t.law;
            let (rms, worst) = (t.rms, t.worst);
            writeln!(
                f,
                "fit\t{}\t{}\t{q}\t{a}\t{b}\t{c}\t{g}\t{}\t{}\t{rms:.4}\t{worst:.4}",
                t.code, t.error, t.max_p, t.rows
            )?;
        }
        Ok(())
    }
}

impl Table {
    /// Reads a table as [`Display`] writes it. Rates and intervals of rows follow from their counts and are not read.
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Table, String> {
        fn number<T: std::str::FromStr>(text: Option<&&str>) -> Option<T> {
            text?.parse().ok()
        }
        let row = |f: &[&str]| {
            let counts = |i: usize| {
                Some(Counts {
                    rounds: number(f.get(i))?,
                    shots: number(f.get(i + 1))?,
                    failures: number(f.get(i + 2))?,
                })
            };
            Some(Row {
                code: f.get(1)?.to_string(),
                error: number(f.get(2))?,
                distance: number(f.get(3))?,
                p: number(f.get(4))?,
                logical_qubits: number(f.get(5))?,
                counts: [counts(6)?, counts(9)?],
                us_per_round: number(f.get(15))?,
            })
        };
        let fit = |f: &[&str]| {
            Some(Fit {
                code: f.get(1)?.to_string(),
                error: number(f.get(2))?,
                scaled: *f.get(3)? == "d*p",
                law: [number(f.get(4))?, number(f.get(5))?, number(f.get(6))?, number(f.get(7))?],
                max_p: number(f.get(8))?,
                rows: number(f.get(9))?,
                rms: number(f.get(10))?,
                worst: number(f.get(11))?,
            })
        };
        let mut table = Table::default();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let read = match fields[0] {
                "row" => row(&fields).map(|r| table.rows.push(r)),
                "fit" => fit(&fields).map(|f| table.fits.push(f)),
                _ => None,
            };
            read.ok_or_else(|| format!("line {}: neither a row nor a fit: {line:?}", i + 1))?;
        }
        Ok(table)
    }

    /// Rows of a code and error, ascending by distance and physical error rate.
    fn of(&self, code: &str, error: char) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().filter(|r| r.code == code && r.error == error).collect();
        rows.sort_by(|a, b| a.distance.cmp(&b.distance).then(a.p.total_cmp(&b.p)));
        rows
    }

    /// Rate of one kind of error, and whether it is extrapolated.
    fn rate(&self, code: &str, error: char, distance: u32, p: f64) -> Result<(f64, bool), String> {
        let rows = self.of(code, error);
        let fit = self.fits.iter().find(|f| f.code == code && f.error == error);
        let fit = fit.ok_or_else(|| format!("{code} is not calibrated"))?;
        let here: Vec<&&Row> = rows.iter().filter(|r| r.distance == distance).collect();
        let most = here.last().map_or(fit.max_p, |r| r.p.max(fit.max_p));
        if !(MIN_P..=most).contains(&p) {
            return Err(format!(
                "physical error rate {p} of {code} at distance {distance} is not between {MIN_P:e} and {most:e}, \
                 below the threshold"
            ));
        }
        if let Some(w) = here.windows(2).find(|w| w[0].p <= p && p <= w[1].p) {
            let [a, b] = [w[0], w[1]].map(|r| (r.p.ln(), r.rate().0.ln()));
            return Ok(((a.1 + (b.1 - a.1) * (p.ln() - a.0) / (b.0 - a.0)).exp(), false));
        }
        // Beyond what was measured at this distance the law goes on from there, so that nothing jumps.
        let edge = here.first().filter(|r| p < r.p).or(here.last());
        let anchor = edge.map_or(1.0, |r| r.rate().0 / fit.at(distance, r.p));
        Ok(((anchor * fit.at(distance, p)).min(0.5), true))
    }
}

/// The name of a code in the table, and the distances that are answered for.
fn family(code: Code) -> (&'static str, std::ops::RangeInclusive<u32>) {
    match code {
        Code::Surface => ("surface_code", 3..=51),
        Code::BaconShor => ("bacon_shor", 3..=15),
        Code::Floquet => ("honeycomb_ancillas", 3..=31),
        // The code with r = 3 serves who asks for distance 3, too.
        Code::Shyps => ("shyps", 3..=4),
    }
}

/// The checked-in table.
static TABLE: LazyLock<Result<Table, String>> =
    LazyLock::new(|| Table::parse(include_str!("../calibration.tsv")).map_err(|e| format!("calibration table: {e}")));

/// Rates of a code at a distance and physical error rate under circuit noise ([`NOISE`]), per logical qubit and round of syndrome extraction:
/// between measured physical error rates by a straight line between logarithms, elsewhere by the fitted law.
///
/// # Errors
/// What is out of range, and the range.
pub fn rates(code: Code, distance: u32, p: f64) -> Result<Rates, String> {
    let table = TABLE.as_ref().map_err(Clone::clone)?;
    let (name, distances) = family(code);
    if !distances.contains(&distance) {
        let (low, high) = (distances.start(), distances.end());
        return Err(format!(
            "distance {distance} of {name} is not between {low} and {high}, for which there are rates"
        ));
    }
    let distance = if code == Code::Shyps { 4 } else { distance };
    let (x, x_beyond) = table.rate(name, 'x', distance, p)?;
    let (z, z_beyond) = table.rate(name, 'z', distance, p)?;
    // Decoding takes time in proportion to the qubits of a round; the nearest row tells how much.
    let far = |r: &&Row| ((r.distance as f64).ln() - (distance as f64).ln()).abs() * 1e3 + (r.p.ln() - p.ln()).abs();
    let nearest = table.rows.iter().filter(|r| r.code == name).min_by(|a, b| far(a).total_cmp(&far(b)));
    let us = nearest.map(|r| r.us_per_round * (distance as f64 / r.distance as f64).powi(2));
    let us_per_round = us.ok_or_else(|| format!("{name} is not calibrated"))?;
    Ok(Rates { x, z, us_per_round, extrapolated: x_beyond || z_beyond })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: [Code; 4] = [Code::Surface, Code::BaconShor, Code::Floquet, Code::Shyps];

    fn table() -> &'static Table {
        TABLE.as_ref().unwrap()
    }

    #[test]
    fn the_table_holds_what_follows_from_its_counts() {
        let text = include_str!("../calibration.tsv");
        let body: String = text.lines().filter(|l| !l.starts_with("# ")).map(|l| format!("{l}\n")).collect();
        assert_eq!(table().to_string(), body);
        for head in ["cargo xtask calibrate", "seed", NOISE, "version"] {
            assert!(text.lines().any(|l| l.starts_with("# ") && l.contains(head)), "{head}");
        }
        for row in &table().rows {
            let (rate, [low, high]) = row.rate();
            assert!(0.0 < low && low < rate && rate < high && high < 0.5, "{row:?}");
        }
        for fit in &table().fits {
            let rows = table().of(&fit.code, fit.error);
            assert_eq!(Fit::of(&rows).unwrap().law.map(|v| format!("{v:.6e}")), fit.law.map(|v| format!("{v:.6e}")));
            let near = rows.iter().filter(|r| (r.rate().0 / fit.at(r.distance, r.p)).ln().abs() <= fit.worst + 1e-4);
            assert!(near.count() >= fit.rows && fit.worst < 1.0, "{fit:?}");
        }
        assert_eq!(table().fits.len(), 8);
    }

    #[test]
    fn rates_rise_with_p_and_fall_with_distance() {
        for code in CODES {
            let (name, distances) = family(code);
            for d in [3, 4, 5, 7, 11, 15].into_iter().filter(|d| distances.contains(d)) {
                let at = |i: i32| rates(code, d, 1e-6 * 10f64.powf(f64::from(i) / 20.0));
                let seen: Vec<Rates> = (0..80).map_while(|i| at(i).ok()).collect();
                assert!(seen.len() > 55, "{name} d={d}: {}", seen.len());
                assert!(seen.windows(2).all(|w| w[0].x < w[1].x && w[0].z < w[1].z), "{name} d={d}");
                assert!(seen.iter().all(|r| r.us_per_round > 0.0 && r.x > 0.0 && r.x <= 0.5));
                assert!(seen[0].extrapolated);
            }
        }
        let at = |d| rates(Code::Surface, d, 1e-3).unwrap();
        assert!((1..20).all(|i| at(2 * i + 3).x < at(2 * i + 1).x && at(2 * i + 3).z < at(2 * i + 1).z));
        assert!(!at(3).extrapolated && at(25).extrapolated);
    }

    #[test]
    fn out_of_range_is_refused_with_the_range() {
        let says = |code, d, p, word: &str| {
            let error = rates(code, d, p).unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        says(Code::Surface, 2, 1e-3, "between 3 and 51");
        says(Code::Shyps, 7, 1e-3, "between 3 and 4");
        says(Code::Surface, 5, 1e-7, "between 1e-6");
        says(Code::Surface, 5, 0.1, "between 1e-6");
        says(Code::Floquet, 25, 0.01, "between 1e-6");
        says(Code::BaconShor, 5, f64::NAN, "between 1e-6");
    }

    #[test]
    fn a_row_is_what_the_long_experiment_adds() {
        // 1 % to begin with, then 0.2 % a round.
        let after = |rounds: i32| (1.0 - 0.98 * 0.996f64.powi(rounds)) / 2.0;
        let counts =
            |rounds: u32| Counts { rounds, shots: 1_000_000_000, failures: (1e9 * after(rounds as i32)) as u64 };
        let row = Row {
            code: "surface_code".into(),
            error: 'x',
            distance: 5,
            p: 1e-3,
            logical_qubits: 1,
            counts: [counts(5), counts(15)],
            us_per_round: 1.0,
        };
        let (rate, [low, high]) = row.rate();
        assert!((rate - 0.002).abs() < 1e-6 && low < rate && rate < high && high - low < 1e-5, "{rate}");
    }

    #[test]
    fn a_known_law_is_found() {
        for (scaled, law) in [(false, [-2.0, 0.9, 4.5, 0.0]), (true, [-3.0, 1.0, 3.0, 0.3])] {
            let code = if scaled { "bacon_shor" } else { "surface_code" }.to_string();
            let truth = Fit { code, error: 'x', scaled, law, max_p: 1.0, rows: 0, rms: 0.0, worst: 0.0 };
            let shots = 1u64 << 50;
            let counts = |rounds: u32, e: f64| {
                let p = (1.0 - (1.0 - 2.0 * e).powi(rounds as i32)) / 2.0;
                Counts { rounds, shots, failures: (p * shots as f64) as u64 }
            };
            let mut rows = Vec::new();
            for distance in [3, 5, 7] {
                for p in [5e-4, 1e-3, 2e-3, 3e-3] {
                    let e = truth.at(distance, p);
                    let counts = [counts(distance, e), counts(3 * distance, e)];
                    let (code, error) = (truth.code.clone(), 'x');
                    rows.push(Row { code, error, distance, p, logical_qubits: 1, counts, us_per_round: 1.0 });
                }
            }
            let fit = Fit::of(&rows.iter().collect::<Vec<_>>()).unwrap();
            assert!(fit.scaled == scaled && fit.worst < 1e-3, "{fit:?}");
            assert!(fit.law.iter().zip(law).all(|(a, b)| (a - b).abs() < 1e-2), "{fit:?}");
        }
    }
}

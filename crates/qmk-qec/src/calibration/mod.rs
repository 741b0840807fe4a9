//! Measured logical error rates, and the rates between and beyond the measured points.
//!
//! `calibration.tsv` is written by `cargo xtask calibrate`. Its rows are memory experiments of two lengths each: the
//! error rate of a round follows from the difference of the two, so that errors of preparation and of the last
//! measurement cancel. Its fits are suppression laws through the rows below threshold.

mod fit;
mod row;
mod table;

pub use fit::Fit;
pub use row::{Counts, Row};
pub use table::{MIN_P, Table};

use crate::error::{CalibrationError, DistanceError, QecError};
use qmk_abi::syscall::Code;
use std::sync::LazyLock;

/// The noise model of the table: standard circuit noise with errors of waiting qubits.
pub const NOISE: &str = "sd6";

/// Logical error rates of one round of syndrome extraction, and the time that it takes to decode the round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Probability of a logical X error in one round.
    pub x: f64,
    /// Probability of a logical Z error in one round.
    pub z: f64,
    /// Mean time that decoding one round of one patch took, in microseconds.
    pub us_per_round: f64,
    /// Whether the rates are extrapolated by the fitted law.
    pub extrapolated: bool,
}

/// The name of a code in the table, and the distances for which there are rates.
fn calibrated_code(code: Code) -> (&'static str, std::ops::RangeInclusive<u32>) {
    match code {
        Code::Surface => ("surface_code", 3..=51),
        Code::BaconShor => ("bacon_shor", 3..=15),
        Code::Floquet => ("honeycomb_ancillas", 3..=31),
        // The code with r = 3, of distance 4, also serves profiles of distance 3.
        Code::Shyps => ("shyps", 3..=4),
    }
}

/// The checked-in table.
static TABLE: LazyLock<Result<Table, CalibrationError>> = LazyLock::new(|| {
    Table::parse(include_str!("../../calibration.tsv")).map_err(|e| CalibrationError::Table(Box::new(e)))
});

/// Rates of a code at a distance and physical error rate under circuit noise ([`NOISE`]), per logical qubit and round
/// of syndrome extraction: between measured physical error rates by a straight line between logarithms, elsewhere by
/// the fitted law.
///
/// # Errors
/// [`QecError::Distance`] or [`QecError::Calibration`] if a parameter is out of range, with the range.
pub fn rates(code: Code, distance: u32, p: f64) -> Result<Rates, QecError> {
    let table = TABLE.as_ref().map_err(Clone::clone)?;
    let (name, distances) = calibrated_code(code);
    if !distances.contains(&distance) {
        let (low, high) = distances.into_inner();
        return Err(DistanceError::NotCalibrated { code: name, distance, low, high }.into());
    }
    let distance = if code == Code::Shyps { 4 } else { distance };
    let (x, x_beyond) = table.rate(name, 'x', distance, p)?;
    let (z, z_beyond) = table.rate(name, 'z', distance, p)?;
    // Decoding takes time in proportion to the qubits of a round; the nearest row gives the factor.
    let far = |r: &&Row| ((r.distance as f64).ln() - (distance as f64).ln()).abs() * 1e3 + (r.p.ln() - p.ln()).abs();
    let nearest = table.rows.iter().filter(|r| r.code == name).min_by(|a, b| far(a).total_cmp(&far(b)));
    let us = nearest.map(|r| r.us_per_round * (distance as f64 / r.distance as f64).powi(2));
    let us_per_round = us.ok_or_else(|| CalibrationError::Code(name.into()))?;
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
        let text = include_str!("../../calibration.tsv");
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
            let (name, distances) = calibrated_code(code);
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
            let error = rates(code, d, p).unwrap_err().to_string();
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

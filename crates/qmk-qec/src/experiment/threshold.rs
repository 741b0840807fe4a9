//! Thresholds from curves of logical over physical error rate at several distances.

use crate::error::{Side, ThresholdError};
use crate::experiment::fit;
use qmk_sim::rng::philox2x64;
use std::f64::consts::TAU;

/// The failure probability at one code distance and physical error rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Code distance.
    pub distance: u32,
    /// Physical error rate.
    pub p: f64,
    /// Failure probability.
    pub failure: f64,
    /// Standard error of the failure probability.
    pub error: f64,
}

/// A threshold, and the curve through the points near it: `A + B x + C x²` with `x = (p - p_th) d^(1/ν)` (Wang,
/// Harrington & Preskill, arXiv:quant-ph/0207088, eq. 43).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// The physical error rate at which curves cross.
    pub p: f64,
    /// Interval of 95 % by resampling the points; only statistical.
    pub interval: [f64; 2],
    /// The exponent ν.
    pub nu: f64,
    /// A, B and C.
    pub curve: [f64; 3],
    /// χ² per degree of freedom. Far above one, the points are too far from the threshold or the distances too small
    /// for this form.
    pub chi2: f64,
    /// Points that were fitted.
    pub points: usize,
}

/// Physical error rates that are fitted lie within this factor of the crossing.
const FIT_WINDOW: f64 = 1.6;
/// Times that the points are resampled.
const RESAMPLES: u64 = 400;

/// Estimates the threshold.
///
/// # Errors
/// [`ThresholdError`] if there are too few points, if curves do not cross, or if the points do not determine the
/// crossing.
pub fn threshold(points: &[Point]) -> Result<Threshold, ThresholdError> {
    let mut distances: Vec<u32> = points.iter().map(|p| p.distance).collect();
    distances.sort_unstable();
    distances.dedup();
    if distances.len() < 2 {
        return Err(ThresholdError::FewDistances);
    }
    let mut crossings = Vec::new();
    let (mut below, mut above) = (false, false);
    for pair in distances.windows(2) {
        // Logarithm of the ratio of failure probabilities, by physical error rate.
        let mut ratios: Vec<(f64, f64)> = Vec::new();
        for a in points.iter().filter(|a| a.distance == pair[0] && a.failure > 0.0) {
            let same = points.iter().find(|b| b.distance == pair[1] && b.p == a.p && b.failure > 0.0);
            ratios.extend(same.map(|b| (a.p.ln(), (b.failure / a.failure).ln())));
        }
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        below |= ratios.iter().any(|r| r.1 < 0.0);
        above |= ratios.iter().any(|r| r.1 > 0.0);
        // Where both fail half of the time, noise makes curves cross many times; the true crossing comes first.
        let first = ratios.windows(2).find(|w| w[0].1 < 0.0 && w[1].1 >= 0.0);
        crossings.extend(first.map(|w| w[0].0 - w[0].1 * (w[1].0 - w[0].0) / (w[1].1 - w[0].1)));
    }
    if crossings.is_empty() {
        let p = points.iter().map(|p| p.p);
        let (low, high) = (p.clone().fold(f64::INFINITY, f64::min), p.fold(0.0, f64::max));
        let side = match (below, above) {
            (true, false) => Side::Below,
            (false, true) => Side::Above,
            _ => Side::Both,
        };
        return Err(ThresholdError::NoCrossing { low, high, side });
    }
    crossings.sort_by(f64::total_cmp);
    let centre = crossings[crossings.len() / 2].exp();
    let near: Vec<Point> = points
        .iter()
        .copied()
        .filter(|q| q.p <= centre * FIT_WINDOW && q.p >= centre / FIT_WINDOW && q.error > 0.0 && q.failure < 0.5)
        .collect();
    if near.len() < 6 {
        return Err(ThresholdError::FewPoints { crossing: centre, points: near.len(), factor: FIT_WINDOW });
    }
    let (x, chi2) = fit_scaling(&near, [centre, 1.0]).ok_or(ThresholdError::NoCurve)?;
    let mut found: Vec<f64> = Vec::new();
    for round in 0..RESAMPLES {
        let again = near.iter().enumerate().map(|(i, q)| {
            // Box & Muller, Ann. Math. Stat. 29, 610 (1958).
            let [a, b] = philox2x64([round, i as u64], 0).map(|bits| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64);
            Point { failure: q.failure + q.error * (-2.0 * a.ln()).sqrt() * (TAU * b).cos(), ..*q }
        });
        let again: Vec<Point> = again.collect();
        found.extend(fit_scaling(&again, [x[0], x[1]]).map(|(x, _)| x[0]).filter(|p| *p > 0.0));
    }
    found.sort_by(f64::total_cmp);
    let (low, high) = (found.len() / 40, found.len().saturating_sub(1 + found.len() / 40));
    let interval = [low, high].map(|i| found.get(i).copied().unwrap_or(x[0]));
    // The window is about the crossing that was seen; a fit outside of it is a straight line through noise.
    if !(centre / FIT_WINDOW..=centre * FIT_WINDOW).contains(&x[0]) || found.len() < RESAMPLES as usize / 2 {
        return Err(ThresholdError::Undetermined { crossing: centre });
    }
    Ok(Threshold {
        p: x[0],
        interval,
        nu: 1.0 / x[1],
        curve: [x[2], x[3], x[4]],
        chi2: chi2 / (near.len() - 5) as f64,
        points: near.len(),
    })
}

/// Fits (p_th, 1/ν, A, B, C); returns them and χ².
fn fit_scaling(points: &[Point], [p, inverse]: [f64; 2]) -> Option<([f64; 5], f64)> {
    let x = |q: &Point, p: f64, inverse: f64| (q.p - p) * (q.distance as f64).powf(inverse);
    let rows: Vec<_> = points
        .iter()
        .map(|q| {
            let x = x(q, p, inverse);
            ([1.0, x, x * x], q.failure, q.error.powi(-2))
        })
        .collect();
    let [a, b, c] = fit::weighted_least_squares(&rows, 0.0)?;
    let model = |v: &[f64; 5]| {
        let [p, inverse, a, b, c] = *v;
        let at = |q: &Point| {
            let scale = (q.distance as f64).powf(inverse);
            let x = (q.p - p) * scale;
            let slope = b + 2.0 * c * x;
            let by = [-slope * scale, slope * x * (q.distance as f64).ln(), 1.0, x, x * x];
            ((a + b * x + c * x * x - q.failure) / q.error, by.map(|d| d / q.error))
        };
        points.iter().map(at).collect()
    };
    let (v, chi2) = fit::levenberg_marquardt([p, inverse, a, b, c], &model);
    v.iter().all(|v| v.is_finite()).then_some((v, chi2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points of a code with a known threshold, with noise of `relative` standard errors.
    fn points(p_th: f64, nu: f64, ps: &[f64], relative: f64, seed: u64) -> Vec<Point> {
        let mut all = Vec::new();
        for distance in [3u32, 5, 7, 9] {
            for &p in ps {
                let x = (p - p_th) * f64::from(distance).powf(1.0 / nu);
                let truth = 0.1 + 9.0 * x + 200.0 * x * x;
                let [a, b] =
                    philox2x64([all.len() as u64, 1], seed).map(|r| ((r >> 11) as f64 + 0.5) / (1u64 << 53) as f64);
                let noise = (-2.0 * a.ln()).sqrt() * (TAU * b).cos();
                let error = relative * truth;
                all.push(Point { distance, p, failure: truth + error * noise, error });
            }
        }
        all
    }

    #[test]
    fn a_known_threshold_is_found() {
        let ps: Vec<f64> = (0..9).map(|i| 0.005 + 0.0005 * f64::from(i)).collect();
        let exact = threshold(&points(0.0071, 1.4, &ps, 1e-9, 1)).unwrap();
        assert!((exact.p - 0.0071).abs() < 1e-8 && (exact.nu - 1.4).abs() < 1e-4, "{exact:?}");
        // Of 40 intervals of 95 %, fewer than 33 hold the truth with probability 1e-3.
        let fits: Vec<Threshold> =
            (0..40).map(|seed| threshold(&points(0.0071, 1.4, &ps, 0.03, seed)).unwrap()).collect();
        let held = fits.iter().filter(|t| (t.interval[0]..=t.interval[1]).contains(&0.0071)).count();
        assert!(held >= 33, "{held}");
        let chi2 = fits.iter().map(|t| t.chi2).sum::<f64>() / 40.0;
        // Mean of 40 χ² of 31 degrees of freedom: standard deviation 0.04.
        assert!((0.84..1.16).contains(&chi2), "{chi2}");
    }

    #[test]
    fn where_there_is_no_threshold_that_is_said() {
        let below = points(0.02, 1.4, &[0.015, 0.016, 0.017], 1e-3, 1);
        assert!(threshold(&below).unwrap_err().to_string().contains("below"), "{:?}", threshold(&below));
        let above = points(0.005, 1.4, &[0.006, 0.007, 0.008], 1e-3, 1);
        assert!(threshold(&above).unwrap_err().to_string().contains("above"));
        let few = points(0.0071, 1.4, &[0.003, 0.012], 1e-3, 1);
        assert!(threshold(&few).is_err());
        assert!(threshold(&few[..2]).unwrap_err().to_string().contains("two distances"));
    }
}

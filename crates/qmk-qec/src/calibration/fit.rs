//! Suppression laws through measured error rates.

use super::row::Row;
use crate::error::CalibrationError;
use crate::experiment::fit::weighted_least_squares;

/// A suppression law: with `h = (d + 1)/2`, `ln e = a + h (b ln q + c) + g ln q`. Here q is p; or d·p, if a stabilizer
/// is the product of d gauges that can each be measured wrongly, as in Bacon-Shor codes. That is
/// `A (p/p_th)^(b (d+1)/2)` with `p_th = exp(-c/b)`, times `p^g`.
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
    /// Largest `|ln(measured / law)|`.
    pub worst: f64,
}

impl Fit {
    /// The logical error rate of a round by the law.
    pub fn at(&self, distance: u32, p: f64) -> f64 {
        let (h, q) = basis(self.scaled, distance, p);
        let [a, b, c, g] = self.law;
        (a + h * (b * q + c) + g * q).exp().min(0.5)
    }

    /// Fits the rows of one code and error. Laws with and without scaling by d (of Bacon-Shor codes), and with and
    /// without the factor `p^g`, are compared by Akaike's information criterion (IEEE Trans. Autom. Control 19, 716
    /// (1974)). `b` is at most 1: rates must not fall faster than the least weight of a fatal error allows.
    ///
    /// # Errors
    /// [`CalibrationError`] if there are too few rows below threshold, or no law fits.
    pub fn of(rows: &[&Row]) -> Result<Fit, CalibrationError> {
        let first = rows.first().ok_or(CalibrationError::NoRows)?;
        let mut distances: Vec<u32> = rows.iter().map(|r| r.distance).collect();
        distances.sort_unstable();
        distances.dedup();
        let fitted = below_threshold(rows, &distances);
        let (code, error) = (first.code.clone(), first.error);
        if fitted.len() < 3 {
            return Err(CalibrationError::FewRows { code, error, rows: fitted.len() });
        }
        let mut best: Option<(f64, Fit)> = None;
        for (scaled, offset) in [(false, false), (true, false), (false, true), (true, true)] {
            // Other codes have a threshold that does not fall with the distance.
            if scaled && code != "bacon_shor" {
                continue;
            }
            let Some(next) = Fit::of_kind(&fitted, distances.len() == 1, scaled, offset) else { continue };
            if best.as_ref().is_none_or(|b| next.0 < b.0) {
                best = Some(next);
            }
        }
        best.map(|b| b.1).ok_or(CalibrationError::NoLaw { code, error })
    }

    /// Fits the law with or without the factor `p^g` (`offset`) and scaling by d; returns it with the value of Akaike's
    /// criterion.
    fn of_kind(rows: &[&Row], one_distance: bool, scaled: bool, offset: bool) -> Option<(f64, Fit)> {
        let first = rows.first()?;
        // Rows of (1, h ln q, h, ln q).
        let term = |r: &&Row| {
            let ((h, q), (y, w)) = (basis(scaled, r.distance, r.p), log_rate(r));
            ([1.0, h * q, h, q], y, w)
        };
        let terms: Vec<Term> = rows.iter().map(term).collect();
        // At least (d + 1)/2 errors, rounded down, break a code of distance d: where p is small, rates fall no faster.
        let steepest = match one_distance {
            true => first.distance.div_ceil(2) as f64 / basis(false, first.distance, 1.0).0,
            false => 1.0,
        };
        let law = match offset {
            true if one_distance || terms.len() < 6 => None,
            true => weighted_least_squares(&terms, 0.0).filter(|l| l[1] <= steepest && l[3] >= 0.0),
            false => match without_offset(&terms, one_distance, None)? {
                l if l[1] > steepest => without_offset(&terms, one_distance, Some(steepest)),
                l => Some(l),
            },
        };
        let mut fit = Fit {
            code: first.code.clone(),
            error: first.error,
            scaled,
            law: law.filter(|l| l[1] > 0.0)?,
            max_p: rows.iter().map(|r| r.p).fold(0.0, f64::max),
            rows: rows.len(),
            rms: 0.0,
            worst: 0.0,
        };
        let residual = |r: &&Row| {
            let (y, w) = log_rate(r);
            (y - fit.at(r.distance, r.p).ln(), w)
        };
        let residuals: Vec<(f64, f64)> = rows.iter().map(residual).collect();
        fit.rms = (residuals.iter().map(|r| r.0 * r.0).sum::<f64>() / residuals.len() as f64).sqrt();
        fit.worst = residuals.iter().map(|r| r.0.abs()).fold(0.0, f64::max);
        let parameters = match (one_distance, offset) {
            (true, _) => 2.0,
            (false, true) => 4.0,
            (false, false) => 3.0,
        };
        Some((residuals.iter().map(|(r, w)| w * r * r).sum::<f64>() + 2.0 * parameters, fit))
    }
}

/// A row of a linear fit: the factors of a, b, c and g, the logarithm of the rate, and its weight.
type Term = ([f64; 4], f64, f64);

/// The rows at physical error rates at which a larger distance is better, for all distances that were measured there.
fn below_threshold<'a>(rows: &[&'a Row], distances: &[u32]) -> Vec<&'a Row> {
    let at = |d: u32, p: f64| rows.iter().find(|r| r.distance == d && r.p == p).map(|r| r.rate().0);
    let below = |p: f64| {
        let seen: Vec<f64> = distances.iter().filter_map(|&d| at(d, p)).collect();
        seen.windows(2).all(|w| w[1] < w[0]) && (seen.len() > 1 || distances.len() == 1)
    };
    let largest = rows.iter().map(|r| r.p).filter(|&p| below(p)).fold(0.0, f64::max);
    rows.iter().copied().filter(|r| r.p <= largest && r.rate().0 < 0.03).collect()
}

/// The logarithm of a row's rate and the weight of the row: the inverse variance of the logarithm, plus the 3 % by
/// which no law is exact.
fn log_rate(r: &Row) -> (f64, f64) {
    let (e, [low, high]) = r.rate();
    (e.ln(), 1.0 / (((high - low) / (3.92 * e)).powi(2) + 0.03f64.powi(2)))
}

/// The law with g = 0 that fits best, for a given b if there is one. Of one distance c cannot be told from a and is 0.
fn without_offset(terms: &[Term], one_distance: bool, b: Option<f64>) -> Option<[f64; 4]> {
    fn rows<const N: usize>(terms: &[Term], row: impl Fn(&Term) -> ([f64; N], f64, f64)) -> Option<[f64; N]> {
        weighted_least_squares(&terms.iter().map(row).collect::<Vec<_>>(), 0.0)
    }
    match (one_distance, b) {
        (true, None) => rows(terms, |&([i, hq, ..], y, w)| ([i, hq], y, w)).map(|[a, b]| [a, b, 0.0, 0.0]),
        (true, Some(b)) => rows(terms, |&([i, hq, ..], y, w)| ([i], y - b * hq, w)).map(|[a]| [a, b, 0.0, 0.0]),
        (false, None) => rows(terms, |&([i, hq, h, _], y, w)| ([i, hq, h], y, w)).map(|[a, b, c]| [a, b, c, 0.0]),
        (false, Some(b)) => rows(terms, |&([i, hq, h, _], y, w)| ([i, h], y - b * hq, w)).map(|[a, c]| [a, b, c, 0.0]),
    }
}

/// `(d + 1)/2` and the logarithm of q.
fn basis(scaled: bool, distance: u32, p: f64) -> (f64, f64) {
    let d = distance as f64;
    ((d + 1.0) / 2.0, if scaled { (d * p).ln() } else { p.ln() })
}

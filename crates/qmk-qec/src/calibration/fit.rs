//! Suppression laws through measured error rates.

use super::row::Row;
use crate::error::CalibrationError;
use crate::experiment::fit::weighted_least_squares;

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
    pub fn of(rows: &[&Row]) -> Result<Fit, CalibrationError> {
        let first = rows.first().ok_or(CalibrationError::NoRows)?;
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
            return Err(CalibrationError::FewRows { code: first.code.clone(), error: first.error, rows: fitted.len() });
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
                (true, None) => weighted_least_squares(
                    &terms.iter().map(|&([i, hq, ..], y, w)| ([i, hq], y, w)).collect::<Vec<_>>(),
                    0.0,
                )
                .map(|[a, b]| [a, b, 0.0, 0.0]),
                (true, Some(b)) => weighted_least_squares(
                    &terms.iter().map(|&([i, hq, ..], y, w)| ([i], y - b * hq, w)).collect::<Vec<_>>(),
                    0.0,
                )
                .map(|[a]| [a, b, 0.0, 0.0]),
                (false, None) => weighted_least_squares(
                    &terms.iter().map(|&([i, hq, h, _], y, w)| ([i, hq, h], y, w)).collect::<Vec<_>>(),
                    0.0,
                )
                .map(|[a, b, c]| [a, b, c, 0.0]),
                (false, Some(b)) => weighted_least_squares(
                    &terms.iter().map(|&([i, hq, h, _], y, w)| ([i, h], y - b * hq, w)).collect::<Vec<_>>(),
                    0.0,
                )
                .map(|[a, c]| [a, b, c, 0.0]),
            };
            // The least errors that break a code of distance d are (d + 1)/2, rounded down: where p is small, rates fall no faster.
            let steepest =
                if one { first.distance.div_ceil(2) as f64 / basis(false, first.distance, 1.0).0 } else { 1.0 };
            let law = match offset {
                true if one || terms.len() < 6 => None,
                true => weighted_least_squares(&terms, 0.0).filter(|l| l[1] <= steepest && l[3] >= 0.0),
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
        best.map(|b| b.1).ok_or_else(|| CalibrationError::NoLaw { code: first.code.clone(), error: first.error })
    }
}

/// `(d + 1)/2` and the logarithm of q.
fn basis(scaled: bool, distance: u32, p: f64) -> (f64, f64) {
    let d = distance as f64;
    ((d + 1.0) / 2.0, if scaled { (d * p).ln() } else { p.ln() })
}

//! Goodness of fit.

use statrs::distribution::{ChiSquared, ContinuousCDF};
use std::collections::BTreeMap;

/// Pearson chi-square p-value of observed counts against exact probabilities. Outcomes expected fewer than five times
/// are pooled; an observed outcome of probability zero gives 0.
pub fn chi_square_p(counts: &BTreeMap<String, u64>, exact: &BTreeMap<String, f64>) -> f64 {
    let shots: u64 = counts.values().sum();
    if counts.keys().any(|k| exact.get(k).is_none_or(|&p| p < 1e-12)) {
        return 0.0;
    }
    let (mut statistic, mut cells) = (0.0, 0);
    let mut cell = |observed: f64, expected: f64| {
        statistic += (observed - expected).powi(2) / expected;
        cells += 1;
    };
    let (mut rest_observed, mut rest_expected) = (0.0, 0.0);
    for (key, &p) in exact {
        let observed = counts.get(key).copied().unwrap_or(0) as f64;
        let expected = p * shots as f64;
        if expected >= 5.0 {
            cell(observed, expected);
        } else {
            rest_observed += observed;
            rest_expected += expected;
        }
    }
    if rest_expected >= 1e-6 {
        cell(rest_observed, rest_expected.max(1e-6));
    }
    if cells < 2 {
        return 1.0;
    }
    1.0 - ChiSquared::new((cells - 1) as f64).expect("positive degrees of freedom").cdf(statistic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map<T: Copy>(pairs: &[(&str, T)]) -> BTreeMap<String, T> {
        pairs.iter().map(|&(k, v)| (k.to_string(), v)).collect()
    }

    #[test]
    fn sees_a_bias_and_accepts_a_fair_coin() {
        let fair = map(&[("0", 0.5), ("1", 0.5)]);
        assert!(chi_square_p(&map(&[("0", 5100), ("1", 4900)]), &fair) > 1e-3);
        assert!(chi_square_p(&map(&[("0", 5400), ("1", 4600)]), &fair) < 1e-6);
        assert_eq!(chi_square_p(&map(&[("0", 1), ("2", 1)]), &fair), 0.0);
    }
}

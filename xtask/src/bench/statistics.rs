//! Statistics of pairs of runs.

use serde_json::{Value, json};

/// A row may be slower by this factor.
pub(super) const BOUND: f64 = 1.05;
/// Bound of rows that time the admission of programs.
pub(super) const ADMISSION_BOUND: f64 = 1.10;
/// Probability that the interval of a median lies wholly on one side of it.
const MISSED: f64 = 0.025;

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

/// One row of two builds: what each took, and the ratio of the pairs of runs.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) name: String,
    pub(super) unit: &'static str,
    /// Medians.
    pub(super) ours: f64,
    pub(super) theirs: f64,
    /// Median of the ratios of pairs, ours over theirs.
    pub(super) ratio: f64,
    /// Interval of the median ratio, of 95 % at least; `None` of too few pairs.
    pub(super) interval: Option<[f64; 2]>,
    pub(super) pairs: usize,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The whole interval lies above the bound.
    Worse,
    /// The whole interval lies below 1.
    Better,
    Same,
    /// There are too few pairs for an interval.
    Unknown,
}

impl Comparison {
    /// Compares pairs of runs, ours first. `None` without any.
    pub(super) fn of(name: String, unit: &'static str, pairs: &[(f64, f64)]) -> Option<Comparison> {
        let mut ratios: Vec<f64> = pairs.iter().map(|&(ours, theirs)| ratio(ours, theirs)).collect();
        ratios.sort_by(f64::total_cmp);
        let bound = if name.ends_with("admission") { ADMISSION_BOUND } else { BOUND };
        Some(Comparison {
            name,
            unit,
            ours: median(pairs.iter().map(|p| p.0).collect())?,
            theirs: median(pairs.iter().map(|p| p.1).collect())?,
            interval: interval(&ratios),
            pairs: ratios.len(),
            ratio: median(ratios)?,
            bound,
        })
    }

    /// Compares figures that are the same in each run of a build.
    pub(super) fn exact(name: String, unit: &'static str, ours: f64, theirs: f64) -> Comparison {
        let ratio = ratio(ours, theirs);
        Comparison { name, unit, ours, theirs, ratio, interval: Some([ratio; 2]), pairs: 1, bound: BOUND }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.interval {
            None => Verdict::Unknown,
            Some([low, _]) if low > self.bound => Verdict::Worse,
            Some([_, high]) if high < 1.0 => Verdict::Better,
            Some(_) => Verdict::Same,
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "row": self.name, "unit": self.unit, "ours": self.ours, "theirs": self.theirs, "ratio": self.ratio,
            "interval": self.interval, "bound": self.bound, "pairs": self.pairs,
            "verdict": format!("{:?}", self.verdict()).to_lowercase(),
        })
    }
}

fn ratio(ours: f64, theirs: f64) -> f64 {
    if ours == theirs { 1.0 } else { ours / theirs }
}

/// Order statistics between which the median lies with a probability of 95 % at least, whatever the distribution: of
/// `n` values the k-th least is above it with the probability that a fair coin shows heads less than k times of n.
fn interval(sorted: &[f64]) -> Option<[f64; 2]> {
    let n = sorted.len();
    let mut exactly = 0.5f64.powi(n as i32);
    let mut fewer = exactly;
    let mut k = 0;
    while fewer <= MISSED {
        k += 1;
        exactly *= (n - k + 1) as f64 / k as f64;
        fewer += exactly;
    }
    Some([*sorted.get(k.checked_sub(1)?)?, *sorted.get(n - k)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A build that takes `factor` times as long, under noise of a few percent with rare long runs.
    fn pairs(factor: f64, count: usize, seed: u64) -> Vec<(f64, f64)> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut uniform = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        let mut time = |mean: f64| {
            let slow = if uniform() < 0.05 { 2.0 } else { 1.0 };
            mean * slow * (0.97 + 0.06 * uniform())
        };
        (0..count).map(|_| (time(100.0 * factor), time(100.0))).collect()
    }

    fn verdicts(name: &str, factor: f64) -> Vec<Verdict> {
        let of = |seed| Comparison::of(name.into(), "ns", &pairs(factor, 31, seed)).unwrap().verdict();
        (0..200).map(of).collect()
    }

    #[test]
    fn a_planted_slowdown_is_found() {
        assert!(verdicts("run", 1.12).iter().all(|v| *v == Verdict::Worse));
        assert!(verdicts("ghz admission", 1.18).iter().all(|v| *v == Verdict::Worse));
    }

    #[test]
    fn a_slowdown_within_its_bound_is_none() {
        assert!(!verdicts("run", 1.0).contains(&Verdict::Worse));
        assert!(!verdicts("run", 1.03).contains(&Verdict::Worse));
        assert!(!verdicts("ghz admission", 1.08).contains(&Verdict::Worse));
    }

    #[test]
    fn a_speed_up_is_told() {
        assert!(verdicts("run", 0.9).iter().all(|v| *v == Verdict::Better));
    }

    #[test]
    fn intervals_hold_the_median_as_often_as_they_say() {
        for count in [6, 11, 31] {
            let holds = |seed: u64| {
                let c = Comparison::of("run".into(), "ns", &pairs(1.0, count, 1000 * count as u64 + seed)).unwrap();
                c.interval.is_some_and(|[low, high]| low <= 1.0 && 1.0 <= high)
            };
            let held = (0..2000).filter(|&seed| holds(seed)).count();
            assert!(held >= 1880, "{count}: {held} of 2000");
        }
    }

    #[test]
    fn intervals_are_order_statistics() {
        let sorted = |n: usize| (1..=n).map(|i| i as f64).collect::<Vec<_>>();
        // Tables of the sign test.
        for (n, expected) in [(6, [1.0, 6.0]), (9, [2.0, 8.0]), (11, [2.0, 10.0]), (31, [10.0, 22.0])] {
            assert_eq!(interval(&sorted(n)), Some(expected), "{n}");
        }
        assert!(interval(&sorted(5)).is_none() && interval(&[]).is_none());
    }

    #[test]
    fn exact_figures_need_one_run() {
        let verdict = |ours, theirs| Comparison::exact("mix".into(), "epochs", ours, theirs).verdict();
        assert_eq!(verdict(0.0, 0.0), Verdict::Same);
        assert_eq!(verdict(1.0, 0.0), Verdict::Worse);
        assert_eq!(verdict(100.0, 100.0), Verdict::Same);
        assert_eq!(verdict(106.0, 100.0), Verdict::Worse);
        assert_eq!(verdict(99.0, 100.0), Verdict::Better);
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}

//! T factories: rounds of distillation units, and the search for the cheapest (appendix C of arXiv:2211.07629).

use crate::error::{EstimateError, Result};
use crate::params::{JobParams, Patch};

/// Probability that a factory makes fewer T states than it should.
const FAILURE: f64 = 0.01;
/// Most rounds, tried if no factory within `maxDistillationRounds` is good enough.
const MAX_ROUNDS: usize = 4;
/// Most units of one round.
const MAX_UNITS: u64 = 1_000_000;
/// Factories that are kept before dominated ones are removed.
const MAX_FOUND: usize = 1000;
/// Most work of all searches of one estimate, in factories tried and terms of sums. It takes about a second, ten times
/// as long as any predefined qubit and code.
const WORK: u64 = 50_000_000;

/// A way to distil one T state from fifteen (Table VII of arXiv:2211.07629). Its two forms differ in what they take:
/// qubits and cycles, on physical qubits (where a cycle is a T gate) and on logical ones.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Unit {
    name: &'static str,
    physical: (u64, u64),
    logical: (u64, u64),
}

const UNITS: [Unit; 2] = [
    Unit { name: "15-to-1 RM prep", physical: (31, 24), logical: (31, 11) },
    Unit { name: "15-to-1 space efficient", physical: (12, 45), logical: (20, 13) },
];
const INPUTS: u64 = 15;

/// Error rate of the output for the error rates of the inputs and of Clifford gates
/// (arXiv:2211.07629, Table VII, after arXiv:1905.06903).
fn output_error_rate(input: f64, clifford: f64) -> f64 {
    35.0 * input.powi(3) + 7.1 * clifford
}

/// Probability that a unit fails, for the error rates of the inputs and of Clifford gates (the same table).
fn failure_probability(input: f64, clifford: f64) -> f64 {
    15.0 * input + 356.0 * clifford
}

/// Whether a unit makes T states better with Clifford gates of this error rate.
fn useful(clifford: f64, t: f64) -> bool {
    clifford <= 0.1 * t
}

/// One round of a factory: copies of one unit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Round {
    pub(crate) name: &'static str,
    /// Code distance; 1 on physical qubits.
    pub(crate) distance: u64,
    pub(crate) units: u64,
    pub(crate) inputs: u64,
    /// Physical qubits of all units.
    pub(crate) physical_qubits: u64,
    /// Nanoseconds.
    pub(crate) duration: u64,
}

/// A factory that makes one T state a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Factory {
    pub(crate) rounds: Vec<Round>,
    /// Rounds follow each other on the same qubits.
    pub(crate) physical_qubits: u64,
    /// Nanoseconds.
    pub(crate) duration: u64,
    pub(crate) error_rate: f64,
}

impl Factory {
    /// T states of a run: a last round of one unit makes one.
    pub(crate) const OUTPUTS: u64 = 1;

    fn new(rounds: Vec<Round>, error_rate: f64) -> Self {
        let physical_qubits = rounds.iter().map(|r| r.physical_qubits).max().unwrap_or(0);
        let duration = rounds.iter().map(|r| r.duration).sum();
        Factory { rounds, physical_qubits, duration, error_rate }
    }

    /// Qubits times time for a T state, by which factories are compared.
    pub(crate) fn volume(&self) -> f64 {
        (self.physical_qubits as u128 * self.duration as u128) as f64
    }

    /// Distance of the last round, whose qubits meet those of the program.
    pub(crate) fn last_distance(&self) -> u64 {
        self.rounds.last().map_or(0, |r| r.distance)
    }

    /// T states that go into a run.
    pub(crate) fn inputs(&self) -> u64 {
        self.rounds.first().map_or(0, |r| r.inputs * r.units)
    }

    fn dominates(&self, other: &Factory) -> bool {
        let (q, t) = (self.physical_qubits, self.duration);
        q <= other.physical_qubits && t <= other.duration && (q, t) != (other.physical_qubits, other.duration)
    }
}

/// Removes dominated factories. Of factories of the same cost, the search takes the first; the order that this leaves
/// is the estimator's.
fn prune(found: &mut Vec<Factory>) {
    let mut at = 0;
    while let Some(factory) = found.get(at) {
        if found.iter().any(|f| f.dominates(factory)) {
            found.swap_remove(at);
        } else {
            at += 1;
        }
    }
}

/// The result of building a factory.
enum Attempt {
    Built(Factory),
    /// A larger code distance may help.
    TooNoisy,
    /// A larger code distance cannot help.
    Perfect,
}

/// A search for factories.
pub(crate) struct Search<'a> {
    params: &'a JobParams,
    work: u64,
}

/// A sequence of units, one for each round, and bounds on their code distances.
struct Sequence<'a> {
    units: &'a [usize],
    least: Vec<usize>,
    most: usize,
    patches: &'a [Option<Patch>],
    required: f64,
}

impl<'a> Search<'a> {
    pub(crate) fn new(params: &'a JobParams) -> Self {
        Search { params, work: WORK }
    }

    fn spend(&mut self, n: u64) -> Result<()> {
        self.work = self.work.checked_sub(n).ok_or_else(|| {
            let message = "the search for T factories takes too much work; lower qecScheme.maxCodeDistance or \
                           constraints.maxDistillationRounds";
            EstimateError::no_solution(message)
        })?;
        Ok(())
    }

    /// Factories with at most this error rate and these code distances that are not dominated in qubits and time. Those
    /// with the most qubits come first.
    ///
    /// # Errors
    /// [`EstimateError`] of kind `NoSolution` if the search takes more than [`WORK`].
    pub(crate) fn factories(&mut self, required: f64, max_distance: u64) -> Result<Vec<Factory>> {
        let (qubit, code) = (&self.params.qubit, &self.params.code);
        if required > qubit.t_error_rate {
            // T states are good enough as they are; they are only moved to logical qubits.
            let moved = code.patch(max_distance).map(|p| {
                let (physical_qubits, duration) = (p.physical_qubits, p.cycle_time);
                let name = "trivial 1-to-1";
                let round = Round { name, distance: p.distance, units: 1, inputs: 1, physical_qubits, duration };
                Factory::new(vec![round], qubit.t_error_rate)
            });
            return Ok(moved.into_iter().collect());
        }
        let patches: Vec<Option<Patch>> = (1..=max_distance).step_by(2).map(|d| code.patch(d).copied()).collect();
        let t = qubit.t_error_rate;
        let first_logical = patches.iter().position(|p| p.is_some_and(|p| useful(p.error_rate, t)));
        let first = useful(qubit.clifford_error_rate, t).then_some(0);
        let mut found = Vec::new();
        for rounds in 1..=MAX_ROUNDS {
            // Beyond `maxDistillationRounds` more rounds are tried only if nothing was found.
            if rounds == self.params.constraints.max_distillation_rounds as usize + 1 && !found.is_empty() {
                break;
            }
            for number in 0..UNITS.len().pow(rounds as u32) {
                // The last round's unit changes fastest.
                let unit = |round: usize| number / UNITS.len().pow((rounds - 1 - round) as u32) % UNITS.len();
                let units: Vec<usize> = (0..rounds).map(unit).collect();
                let Some(start) = first.or_else(|| Some(first_logical?.max(1))) else { continue };
                // Rounds after the first are on logical qubits.
                let Some(logical) = first_logical.or((rounds == 1).then_some(0)) else { continue };
                let least = (0..rounds).map(|r| if r == 0 { start } else { start.max(logical) }).collect();
                let most = patches.len() - 1;
                let sequence = Sequence { units: &units, least, most, patches: &patches, required };
                if sequence.least.iter().all(|&i| i <= most) {
                    self.distances(&sequence, &mut found)?;
                }
            }
        }
        prune(&mut found);
        found.sort_by_key(|f| std::cmp::Reverse((f.physical_qubits, f.duration)));
        Ok(found)
    }

    /// Tries code distances that never fall from round to round: one by one, the last round's first. Distances that are
    /// all at least as large as a good enough combination are skipped.
    fn distances(&mut self, s: &Sequence<'_>, found: &mut Vec<Factory>) -> Result<()> {
        let rounds = s.units.len();
        let mut at = vec![s.most; rounds];
        // Either the largest distances are not good enough, or the least ones are.
        if self.could_improve(s, &at, found)? || !self.could_improve(s, &s.least, found)? {
            return Ok(());
        }
        // Each round in turn as small as the later ones allow at their largest.
        for round in 0..rounds {
            let mut low = if round == 0 { s.least[0] } else { at[round - 1] };
            let mut high = s.most;
            while low < high {
                at[round] = (low + high) / 2;
                if self.could_improve(s, &at, found)? {
                    low = at[round] + 1;
                } else {
                    high = at[round];
                }
            }
            at[round] = high;
        }
        for (i, least) in at.iter_mut().zip(&s.least) {
            *i = (*i).max(*least);
        }
        let mut enough = true;
        loop {
            if enough {
                // Larger distances of the last rounds cost more; go on with a larger one before them.
                let raise = (1..rounds).rev().find(|&j| at[j] > at[j - 1] + 1 && at[j - 1] < s.most);
                let Some(j) = raise else { return Ok(()) };
                at[j - 1] += 1;
                for r in j..rounds {
                    at[r] = at[r - 1].max(s.least[r]);
                }
            } else {
                let Some(j) = (0..rounds).rev().find(|&j| at[j] < s.most) else { return Ok(()) };
                at[j] += 1;
                for r in j + 1..rounds {
                    at[r] = at[r - 1].max(s.least[r]);
                }
            }
            enough = !self.could_improve(s, &at, found)?;
        }
    }

    /// Tries code distances, and keeps the factory if it is good enough and not worse than one that was found. Returns
    /// whether larger distances might be better.
    fn could_improve(&mut self, s: &Sequence<'_>, at: &[usize], found: &mut Vec<Factory>) -> Result<bool> {
        Ok(match self.build(s, at)? {
            Attempt::TooNoisy => true,
            Attempt::Perfect => false,
            Attempt::Built(factory) => {
                let enough = factory.error_rate <= s.required;
                self.spend(found.len() as u64)?;
                let dominated = found.iter().any(|f| f.dominates(&factory));
                if enough && !dominated {
                    found.push(factory);
                    if found.len() > MAX_FOUND {
                        prune(found);
                    }
                }
                !enough && !dominated
            }
        })
    }

    fn build(&mut self, s: &Sequence<'_>, at: &[usize]) -> Result<Attempt> {
        self.spend(10)?;
        let qubit = &self.params.qubit;
        let rounds = s.units.len();
        let mut error_rate = qubit.t_error_rate;
        let mut failures = Vec::with_capacity(rounds);
        let mut made = Vec::with_capacity(rounds);
        for (round, (&unit, &at)) in s.units.iter().zip(at).enumerate() {
            let unit = &UNITS[unit];
            let (distance, clifford, qubits, cycle_time, (size, cycles)) = if round == 0 && at == 0 {
                (1, qubit.clifford_error_rate, 1, qubit.t_time, unit.physical)
            } else {
                let Some(p) = s.patches.get(at).copied().flatten() else { return Ok(Attempt::TooNoisy) };
                (p.distance, p.error_rate, p.physical_qubits, p.cycle_time, unit.logical)
            };
            let output = output_error_rate(error_rate, clifford);
            if output > error_rate {
                return Ok(Attempt::TooNoisy);
            }
            failures.push(failure_probability(error_rate, clifford));
            error_rate = output;
            made.push(Round {
                name: unit.name,
                distance,
                units: 1,
                inputs: INPUTS,
                physical_qubits: size * qubits,
                duration: cycles * cycle_time,
            });
        }
        // The last round makes one state. Each round before it makes the inputs of the next.
        let mut needed = Factory::OUTPUTS;
        for (round, failure) in made.iter_mut().zip(failures).rev() {
            if failure <= 0.0 {
                return Ok(Attempt::Perfect);
            }
            if failure >= 1.0 {
                return Ok(Attempt::TooNoisy);
            }
            let Some(units) = self.units_for(needed, failure, rounds)? else {
                return Ok(Attempt::TooNoisy);
            };
            round.units = units;
            round.physical_qubits *= units;
            needed = units * round.inputs;
        }
        Ok(Attempt::Built(Factory::new(made, error_rate)))
    }

    /// The least number of units of which at least `needed` succeed, but for a probability of 1 % over all rounds,
    /// where each fails with probability `failure`; `None` above [`MAX_UNITS`].
    fn units_for(&mut self, needed: u64, failure: f64, rounds: usize) -> Result<Option<u64>> {
        let mut high = needed.max(1);
        while self.too_few(high, needed, failure, rounds)? {
            high *= 2;
            if high > MAX_UNITS {
                return Ok(None);
            }
        }
        let mut low = high / 2;
        while low < high {
            let middle = (low + high) / 2;
            if self.too_few(middle, needed, failure, rounds)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(Some(high))
    }

    /// Whether fewer than `needed` of `n` units succeed with a probability of 1 % over all rounds, or more.
    ///
    /// From 1000 units on this follows the estimator's approximation, so that figures agree.
    fn too_few(&mut self, n: u64, needed: u64, failure: f64, rounds: usize) -> Result<bool> {
        let risk = FAILURE / rounds as f64;
        let (size, success) = (n as f64, 1.0 - failure);
        let mode = ((size + 1.0) * success).floor().min(size) as u64;
        let variance = size * success * failure;
        if n >= 1000 && variance > 80.0 {
            return Ok(expansion(size * success, variance, success, NORMAL[rounds - 1]) < needed as f64);
        }
        if n >= 1000 {
            // Newton's method from the mode on, to the nearest integer.
            let mut at = mode;
            for _ in 0..100 {
                let (below, here) = self.at_most(at, n, failure)?;
                let step = (risk - below) / here;
                if step.abs() < 0.5 {
                    return Ok(at < needed);
                }
                let next = at as f64 + step.round();
                if !(0.0..=size).contains(&next) {
                    break;
                }
                at = next as u64;
            }
        }
        // At most the mode of successes has a probability of about a half.
        Ok(needed > mode || (needed > 0 && self.at_most(needed - 1, n, failure)?.0 >= risk))
    }

    /// Probabilities that at most `k` of `n` units succeed, and that exactly `k` do.
    fn at_most(&mut self, k: u64, n: u64, failure: f64) -> Result<(f64, f64)> {
        let (size, success, mut i) = (n as f64, 1.0 - failure, k as f64);
        let log = ln_factorial(size) - ln_factorial(i) - ln_factorial(size - i);
        let here = (log + i * success.ln() + (size - i) * failure.ln()).exp();
        let (mut term, mut sum, mut terms) = (here, here, 1);
        while i > 0.0 && term > sum * 1e-17 {
            term *= i / (size - i + 1.0) * (failure / success);
            sum += term;
            i -= 1.0;
            terms += 1;
        }
        self.spend(terms)?;
        Ok((sum, here))
    }
}

/// Quantiles of the standard normal distribution at 1 %, 1/2 %, 1/3 % and 1/4 %.
const NORMAL: [f64; MAX_ROUNDS] = [-2.3263478740408408, -2.5758293035489, -2.7130518884727173, -2.8070337683438042];

/// Quantile of a binomial distribution, expanded around that of the normal one, `w`, to the fourth order in 1/σ
/// (Moorhead, "Efficient evaluation of the inverse binomial cumulative distribution function where the number of trials
/// is large", Oxford, 2013). In the term of 1/σ^2 only the constant is divided by 1620, as the estimator has it.
fn expansion(mean: f64, variance: f64, p: f64, w: f64) -> f64 {
    let s = variance.sqrt();
    let skew = 2.0 * p - 1.0;
    let poly = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    let (w2, w3, w4) = (w * w, w.powi(3), w.powi(4));
    let first = w3 * poly(&[2.0, -2.0, -1.0], p) / 72.0;
    let even = w * poly(&[7.0, -7.0, 1.0], p) / 36.0;
    let second = skew * (p + 1.0) * (p - 2.0) * (3.0 * w4 + 7.0 * w2 - 16.0 / 1620.0);
    let third = w.powi(5) * poly(&[4.0, -8.0, -48.0, 52.0, -23.0], p) / 17280.0
        + w3 * poly(&[256.0, -512.0, -147.0, 403.0, -137.0], p) / 38880.0
        - w * poly(&[433.0, -866.0, -921.0, 1354.0, -671.0], p) / 38880.0;
    let fourth = w.powi(6) * skew * poly(&[1.0, -1.0, 1.0], p) * poly(&[1.0, -1.0, 19.0], p) / 34020.0
        + w4 * skew * poly(&[9.0, -18.0, -35.0, 44.0, -25.0], p) / 15120.0
        + w2 * skew * poly(&[923.0, -1846.0, 5271.0, -4348.0, 5189.0], p) / 408_240.0
        - 4.0 * skew * (p + 1.0) * (p - 2.0) * poly(&[23.0, -23.0, 2.0], p) / 25515.0;
    let near = mean + s * w + (p + 1.0) / 3.0 - skew * w2 / 6.0;
    (near + first / s - even + second / variance + third / (variance * s) + fourth / (variance * variance)).floor()
}

/// ln n!, by Stirling's series from 20.5 on.
fn ln_factorial(n: f64) -> f64 {
    if n < 20.5 {
        return (2..=n as u64).map(|i| i as f64).product::<f64>().ln();
    }
    let r = 1.0 / (n * n);
    let series = (1.0 / 12.0 - r * (1.0 / 360.0 - r * (1.0 / 1260.0 - r / 1680.0))) / n;
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factorials() {
        let mut exact = 0.0;
        for n in 1..300 {
            exact += f64::from(n).ln();
            assert!((ln_factorial(f64::from(n)) - exact).abs() < 1e-11 * (1.0 + exact), "{n}");
        }
    }

    /// Probabilities summed up from all of Pascal's triangle.
    #[test]
    fn units_are_the_fewest_that_are_enough() {
        let params = JobParams::parse("").unwrap();
        let mut search = Search::new(&params);
        for failure in [1e-4, 0.015, 0.1, 0.5, 0.8] {
            for needed in [1usize, 2, 15, 30, 120] {
                let mut row = vec![1.0];
                let fewest = loop {
                    let missed: f64 = row.iter().take(needed).sum();
                    if row.len() > needed && missed < 0.005 {
                        break row.len() as u64 - 1;
                    }
                    let next = |k: usize| {
                        let up = if k > 0 { row[k - 1] * (1.0 - failure) } else { 0.0 };
                        up + row.get(k).map_or(0.0, |p| p * failure)
                    };
                    row = (0..=row.len()).map(next).collect();
                };
                assert_eq!(search.units_for(needed as u64, failure, 2).unwrap(), Some(fewest), "{needed} {failure}");
            }
        }
        assert_eq!(search.units_for(15, 1.0 - 1e-9, 2).unwrap(), None);
    }
}

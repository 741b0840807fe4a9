//! Memory experiments: how well a code keeps its logical qubits.
//!
//! [`Experiment`] names the parts of an experiment and checks them. [`memory::Memory`] samples and decodes a noisy
//! circuit. [`sample_until`] goes on until a [`StoppingRule`] is met. [`threshold`] fits the crossing of curves.

pub(crate) mod fit;
pub mod memory;
pub mod threshold;

use crate::circuit::Circuit;
use crate::codes::{self, Code};
use crate::decoder::{self, Decoder};
use crate::dem::DetectorErrorModel;
use crate::error::QecError;
use crate::experiment::memory::{BLOCK, Memory, Tally, per_round};
use crate::noise::NoiseModel;
use qmk_abi::image::Pauli;

/// Most rounds of an experiment.
pub const MAX_ROUNDS: u32 = 10_000;
/// Most physical qubits times rounds of an experiment; each takes some kilobytes of memory.
pub const MAX_QUBIT_ROUNDS: u64 = 1 << 18;
/// Names of decoders.
pub const DECODERS: [&str; 3] = ["best", "matching", "bp_osd"];

/// A memory experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// One of [`codes::NAMES`].
    pub code: String,
    /// Code distance.
    pub distance: u32,
    /// Rounds of syndrome extraction, 1 to [`MAX_ROUNDS`].
    pub rounds: u32,
    /// X or Z: the eigenstates that are kept.
    pub basis: Pauli,
    /// Physical error rate.
    pub p: f64,
    /// One of [`crate::noise::MODELS`].
    pub noise: String,
    /// Parameters that replace those of the noise model, by name.
    pub set: Vec<(String, f64)>,
}

impl Experiment {
    /// Checks all parameters, without building the circuit.
    ///
    /// # Errors
    /// The first parameter that is unknown or out of range, with its range.
    pub fn check(&self) -> Result<(Box<dyn Code>, NoiseModel), QecError> {
        let code = codes::by_name(&self.code, self.distance)?;
        if !(1..=MAX_ROUNDS).contains(&self.rounds) {
            return Err(QecError::Rounds { rounds: self.rounds, most: MAX_ROUNDS });
        }
        let qubits = code.physical_qubits() as u64;
        if qubits * self.rounds as u64 > MAX_QUBIT_ROUNDS {
            return Err(QecError::QubitRounds { qubits, rounds: self.rounds, most: MAX_QUBIT_ROUNDS });
        }
        let mut noise = NoiseModel::named(&self.noise, self.p)?;
        for (name, value) in &self.set {
            noise.set(name, *value)?;
        }
        noise.check()?;
        Ok((code, noise))
    }

    /// The code and the noisy circuit.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub fn build(&self) -> Result<(Box<dyn Code>, Circuit), QecError> {
        let (code, noise) = self.check()?;
        let circuit = noise.apply(&code.memory(self.basis, self.rounds));
        Ok((code, circuit))
    }
}

/// A decoder by name, for a model. `best` is matching if the model is `matchable` and each mechanism is an edge or made
/// of edges, else BP-OSD.
///
/// # Errors
/// An unknown name, or a model that the decoder cannot decode.
pub fn decoder(name: &str, model: &DetectorErrorModel, matchable: bool) -> Result<Box<dyn Decoder>, QecError> {
    match name {
        "best" if matchable => decoder::best(model, true).or_else(|_| decoder::best(model, false)),
        "matching" => decoder::best(model, true).map_err(|e| QecError::NotMatchable(Box::new(e))),
        "best" | "bp_osd" => decoder::best(model, false),
        _ => Err(QecError::UnknownName { kind: "decoder", name: name.into(), known: &DECODERS }),
    }
}

/// Failure probability of one of `observables` logical qubits, given that of any of them, if they fail independently
/// and alike: `1 - (1 - p)^(1/k)`.
pub fn per_observable(p: f64, observables: u32) -> f64 {
    -((-p).ln_1p() / observables.max(1) as f64).exp_m1()
}

/// Probability that a round breaks any of the logical qubits, given that all `rounds` rounds together did so with
/// probability `p`.
pub fn any_per_round(p: f64, rounds: f64, observables: u32) -> f64 {
    let each = per_round(per_observable(p, observables), rounds);
    -((-each).ln_1p() * observables.max(1) as f64).exp_m1()
}

/// The rule by which sampling of a point stops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoppingRule {
    /// Standard error of the failure probability, relative to it, that suffices.
    pub target: f64,
    /// Fewest shots.
    pub min_shots: u64,
    /// Most shots.
    pub max_shots: u64,
}

impl StoppingRule {
    /// Shots of the next batch; 0 when there are enough. It depends on the tally alone, so neither threads nor
    /// interruptions between batches change where a point stops.
    pub fn next_batch(&self, seen: &Tally) -> u64 {
        let left = self.max_shots.saturating_sub(seen.shots);
        let first = self.min_shots.max(1).saturating_sub(seen.shots);
        if first > 0 {
            return first.min(left);
        }
        // The variance of the mean of n bits is p (1 - p) / n.
        let p = seen.failures as f64 / seen.shots.max(1) as f64;
        let needed = (1.0 - p) / self.target.powi(2);
        if seen.failures as f64 >= needed {
            return 0;
        }
        let guess = (needed - seen.failures as f64) / p.max(0.5 / seen.shots as f64);
        // At most as many shots as before: an estimate from few failures is poor, and an interrupted batch is lost.
        let batch = (guess as u64).clamp(1, seen.shots.min(32 * BLOCK));
        batch.next_multiple_of(BLOCK).min(left)
    }
}

/// Samples a point from where `tally` left off until the rule is met. `go_on` is called after each block, with the
/// tally so far, and ends the point early if it returns false. `done` is called after each batch, from which a later
/// run can go on.
///
/// Returns whether the point is finished; if not, `tally` is that of the last finished batch.
pub fn sample_until(
    memory: &Memory,
    decoder: &dyn Decoder,
    (seed, stop, threads): (u64, StoppingRule, usize),
    tally: &mut Tally,
    go_on: &(dyn Fn(&Tally) -> bool + Sync),
    done: &mut dyn FnMut(&Tally),
) -> bool {
    loop {
        let batch = stop.next_batch(tally);
        if batch == 0 {
            return true;
        }
        let before = *tally;
        let so_far = |t: &Tally| {
            let mut sum = before;
            sum.add(*t);
            go_on(&sum)
        };
        let more = memory.run(decoder, (seed, tally.shots, batch), threads, &so_far);
        if more.shots < batch {
            return false;
        }
        tally.add(more);
        done(tally);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_stop_when_the_error_bar_is_small_or_shots_run_out() {
        let stop = StoppingRule { target: 0.1, min_shots: 1024, max_shots: 1 << 20 };
        let run = |p: f64, stop: StoppingRule| {
            let mut seen = Tally::default();
            loop {
                let batch = stop.next_batch(&seen);
                if batch == 0 {
                    return seen;
                }
                seen.shots += batch;
                seen.failures = (p * seen.shots as f64) as u64;
            }
        };
        for p in [0.05, 0.01, 0.001] {
            let seen = run(p, stop);
            let needed = (1.0 - p) / 0.01;
            assert!(seen.failures as f64 >= needed && (seen.failures as f64) < 2.5 * needed, "{p}: {seen:?}");
        }
        assert_eq!(run(0.0, stop).shots, 1 << 20);
        assert_eq!(run(1e-5, StoppingRule { max_shots: 5000, ..stop }).shots, 5000);
        assert_eq!(run(0.0, StoppingRule { max_shots: 7, ..stop }).shots, 7);
    }

    #[test]
    fn any_of_many_observables() {
        assert!((per_observable(1.0 - 0.9f64.powi(9), 9) - 0.1).abs() < 1e-12);
        assert!((any_per_round(0.02, 1.0, 9) - 0.02).abs() < 1e-12);
        assert!((any_per_round(0.02, 5.0, 1) - per_round(0.02, 5.0)).abs() < 1e-15);
    }

    #[test]
    fn what_is_out_of_range_is_refused_with_the_range() {
        let good = Experiment {
            code: "surface_code".into(),
            distance: 3,
            rounds: 3,
            basis: Pauli::Z,
            p: 0.01,
            noise: "uniform".into(),
            set: vec![("gate2".into(), 0.02)],
        };
        assert!(good.build().is_ok());
        let cases = [
            (Experiment { code: "toric".into(), ..good.clone() }, "known: surface_code"),
            (Experiment { distance: 1, ..good.clone() }, "between 2 and 51"),
            (Experiment { rounds: 0, ..good.clone() }, "between 1 and 10000"),
            (Experiment { rounds: 10_001, ..good.clone() }, "between 1 and 10000"),
            (Experiment { rounds: 10_000, distance: 21, ..good.clone() }, "at most 297 rounds"),
            (Experiment { p: -0.1, ..good.clone() }, "between 0 and 0.5"),
            (Experiment { p: f64::NAN, ..good.clone() }, "between 0 and 0.5"),
            (Experiment { noise: "loud".into(), ..good.clone() }, "known: uniform"),
            (Experiment { set: vec![("gate3".into(), 0.1)], ..good.clone() }, "known: gate1"),
            (Experiment { set: vec![("gate2".into(), 2.0)], ..good.clone() }, "between 0 and 0.9375"),
        ];
        for (experiment, says) in cases {
            let error = experiment.build().err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}

//! Counts of memory experiments, and the error rates that follow from them.

use crate::experiment::memory::wilson;
use crate::experiment::per_observable;

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

/// A measured logical error rate: two memory experiments at one distance and physical error rate.
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
    /// Error rate of one logical qubit in one round, and its interval of 95 %:
    /// `(1 - 2 p₂)/(1 - 2 p₁) = (1 - 2e)^(r₂ - r₁)`, with errors of both counts added in squares. Counts that fail half
    /// of the time have no answer and give NaN.
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

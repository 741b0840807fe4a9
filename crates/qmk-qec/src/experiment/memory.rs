//! Sampling and decoding of a noisy circuit: how often a code and its decoder lose a logical qubit.

use crate::circuit::Circuit;
use crate::decoder::Decoder;
use crate::dem::{DetectorErrorModel, parities};
use crate::error::QecError;
use qmk_sim::DetectorSampler;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shots that are sampled at a time. Results do not depend on how blocks are shared out.
pub const BLOCK: u64 = 1024;

/// A noisy circuit ready to be sampled and decoded.
pub struct Memory {
    parities: DetectorSampler,
    model: DetectorErrorModel,
}

/// Counts of a memory experiment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Shots.
    pub shots: u64,
    /// Shots in which at least one observable was mispredicted.
    pub failures: u64,
    /// Time that decoding took, over all threads.
    pub decoding: Duration,
}

impl Tally {
    /// Share of the shots that failed; 0 if there are none.
    pub fn per_shot(&self) -> f64 {
        self.failures as f64 / self.shots.max(1) as f64
    }

    /// Mean time of decoding one of `rounds` rounds, in microseconds; 0 if there are no shots.
    pub fn us_per_round(&self, rounds: u32) -> f64 {
        self.decoding.as_secs_f64() * 1e6 / (self.shots.max(1) as f64 * rounds as f64)
    }

    /// Adds another tally.
    pub fn add(&mut self, other: Tally) {
        self.shots += other.shots;
        self.failures += other.failures;
        self.decoding += other.decoding;
    }
}

impl Memory {
    /// Prepares a circuit.
    ///
    /// # Errors
    /// Those of [`parities`].
    pub fn new(circuit: &Circuit) -> Result<Self, QecError> {
        let parities = parities(circuit)?;
        Ok(Memory { model: DetectorErrorModel::new(circuit, &parities), parities })
    }

    /// The detector error model.
    pub fn model(&self) -> &DetectorErrorModel {
        &self.model
    }

    /// The sampler: detectors, then observables.
    pub fn parities(&self) -> &DetectorSampler {
        &self.parities
    }

    /// Samples one block of at most [`BLOCK`] shots: detectors that fired, ascending, and observables that were
    /// flipped, by shot.
    pub fn sample(&self, seed: u64, first: u64, count: usize, into: &mut Samples) {
        self.parities.sample(seed, first, count, &mut into.rows);
        into.fired.resize_with(count, Vec::new);
        into.fired.iter_mut().for_each(Vec::clear);
        into.observables.clear();
        into.observables.resize(count, 0);
        let width = count.div_ceil(64);
        for (row, words) in into.rows.chunks(width).enumerate() {
            for (w, &word) in words.iter().enumerate() {
                let mut bits = word;
                while bits != 0 {
                    let shot = 64 * w + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    match (row as u32).checked_sub(self.model.detectors) {
                        None => into.fired[shot].push(row as u32),
                        Some(observable) => into.observables[shot] |= 1 << observable,
                    }
                }
            }
        }
    }

    /// Samples and decodes shots `first..first + shots` of a seed on several threads, until `go_on` says no; it is
    /// asked after each block with the tally so far. Without a stop the result does not depend on the number of
    /// threads.
    pub fn run(
        &self,
        decoder: &dyn Decoder,
        (seed, first, shots): (u64, u64, u64),
        threads: usize,
        go_on: &(dyn Fn(&Tally) -> bool + Sync),
    ) -> Tally {
        let next = AtomicU64::new(0);
        let total = std::sync::Mutex::new(Tally::default());
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                let mut decoder = decoder.another();
                let (next, total) = (&next, &total);
                scope.spawn(move || {
                    let mut samples = Samples::default();
                    loop {
                        let from = next.fetch_add(BLOCK, Ordering::Relaxed);
                        if from >= shots {
                            return;
                        }
                        let count = BLOCK.min(shots - from);
                        self.sample(seed, first + from, count as usize, &mut samples);
                        let began = Instant::now();
                        let wrong =
                            samples.fired.iter().zip(&samples.observables).filter(|(f, o)| decoder.decode(f) != **o);
                        let failures = wrong.count() as u64;
                        let tally = Tally { shots: count, failures, decoding: began.elapsed() };
                        let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        total.add(tally);
                        if !go_on(&total) {
                            next.store(shots, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Samples of one block, kept from block to block.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    rows: Vec<u64>,
    /// Detectors that fired, by shot.
    pub fired: Vec<Vec<u32>>,
    /// Observables that were flipped, by shot.
    pub observables: Vec<u64>,
}

/// Wilson's score interval of a probability, with `z` standard deviations (Wilson, J. Am. Stat. Assoc. 22, 209 (1927)).
pub fn wilson(failures: u64, shots: u64, z: f64) -> [f64; 2] {
    if shots == 0 {
        return [0.0, 1.0];
    }
    let (n, p) = (shots as f64, failures as f64 / shots as f64);
    let scale = 1.0 / (1.0 + z * z / n);
    let middle = (p + z * z / (2.0 * n)) * scale;
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt() * scale;
    [
        if failures == 0 { 0.0 } else { (middle - half).max(0.0) },
        if failures == shots { 1.0 } else { (middle + half).min(1.0) },
    ]
}

/// Error probability of one of `rounds` rounds of which each flips one logical qubit independently, given that of all
/// of them: `(1 - (1 - 2p)^(1/n))/2`. Half and above have no answer below half and give half.
pub fn per_round(p: f64, rounds: f64) -> f64 {
    -((-2.0 * p.min(0.5)).ln_1p() / rounds).exp_m1() / 2.0
}

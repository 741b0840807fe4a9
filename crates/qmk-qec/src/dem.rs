//! Detector error models: which detectors and logical observables each independent error flips.

use crate::circuit::Circuit;
use crate::error::QecError;
use qmk_hal::Channel;
use qmk_sim::{DetectorSampler, ParityError, channel_errors};
use std::collections::BTreeMap;

/// An error mechanism: with probability `p` it flips its detectors and observables.
#[derive(Clone, Debug, PartialEq)]
pub struct Mechanism {
    /// Probability.
    pub p: f64,
    /// Detectors that it flips, ascending.
    pub detectors: Vec<u32>,
    /// Observables that it flips, one bit each.
    pub observables: u64,
}

/// Independent error mechanisms over detectors and observables (as in Stim's detector error models, Gidney,
/// arXiv:2103.02202).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DetectorErrorModel {
    /// Number of detectors.
    pub detectors: u32,
    /// Number of observables, at most 64.
    pub observables: u32,
    /// The mechanisms, ordered by detectors, then observables, without repetition.
    pub mechanisms: Vec<Mechanism>,
    /// Place of each detector in space and time.
    pub coordinates: Vec<[f64; 3]>,
}

/// Probability that one of two independent events happens without the other.
pub(crate) fn exactly_one(a: f64, b: f64) -> f64 {
    a + (b - 2.0 * a * b)
}

/// Mechanisms on the way into a model. Two mechanisms that flip the same detectors and observables are merged into one.
#[derive(Default)]
pub(crate) struct MergedMechanisms(BTreeMap<(Vec<u32>, u64), f64>);

impl MergedMechanisms {
    /// Adds a mechanism, given its detectors, ascending, its observables and its probability.
    pub(crate) fn add(&mut self, detectors: Vec<u32>, observables: u64, p: f64) {
        let merged = self.0.entry((detectors, observables)).or_insert(0.0);
        *merged = exactly_one(*merged, p);
    }

    /// The mechanisms that can happen, in the order of a model.
    pub(crate) fn mechanisms(self) -> Vec<Mechanism> {
        let all = self.0.into_iter().filter(|(_, p)| *p > 0.0);
        all.map(|((detectors, observables), p)| Mechanism { p, detectors, observables }).collect()
    }
}

/// Prepares a circuit for sampling: its detectors are parities `0..detectors`, its observables follow.
///
/// # Errors
/// [`QecError::RandomDetector`] or [`QecError::RandomObservable`] if a parity is random without noise;
/// [`QecError::Parity`] if the simulator cannot sample the circuit.
pub fn parities(circuit: &Circuit) -> Result<DetectorSampler, QecError> {
    let (image, noise) = circuit.lower();
    let mut parities = circuit.detector_records();
    parities.extend(circuit.observable_records());
    DetectorSampler::new(&image, &noise, &parities).map_err(|e| match e {
        ParityError::Random(i) if (i as u32) < circuit.detectors() => QecError::RandomDetector(i as u32),
        ParityError::Random(i) => QecError::RandomObservable(i as u32 - circuit.detectors()),
        unfit => QecError::Parity(unfit),
    })
}

impl DetectorErrorModel {
    /// The model of a circuit: each of its errors is propagated to the detectors and observables.
    ///
    /// # Errors
    /// Those of [`parities`].
    pub fn of(circuit: &Circuit) -> Result<Self, QecError> {
        Ok(Self::new(circuit, &parities(circuit)?))
    }

    /// The model of a circuit, by its [`parities`].
    pub(crate) fn new(circuit: &Circuit, parities: &DetectorSampler) -> Self {
        let detectors = circuit.detectors();
        let mut found = MergedMechanisms::default();
        for (index, channel) in parities.channels().iter().enumerate() {
            let (errors, product) = independent_errors(channel);
            let mut of_channel: BTreeMap<&[u32], f64> = BTreeMap::new();
            for (error, p) in errors {
                let flips = parities.flips(index, error);
                if p > 0.0 && !flips.is_empty() {
                    let q = of_channel.entry(flips).or_insert(0.0);
                    // Errors of which at most one happens add up.
                    *q = if product { exactly_one(*q, p) } else { *q + p };
                }
            }
            for (flips, p) in of_channel {
                let (fired, hit) = flips.split_at(flips.partition_point(|&f| f < detectors));
                let observables = hit.iter().fold(0, |m, o| m | 1 << (o - detectors));
                found.add(fired.to_vec(), observables, p);
            }
        }
        let mechanisms = found.mechanisms();
        let coordinates = circuit.detector_coordinates();
        DetectorErrorModel { detectors, observables: circuit.observables(), mechanisms, coordinates }
    }
}

/// Independent errors whose product is a channel, numbered as in [`DetectorSampler::flips`], and whether the product is
/// exact.
///
/// The characters of the distribution over products of X and Z parts are
/// `f_j = Σ_k (-1)^<j,k> p_k = Π_k (1 - 2 q_k)^<j,k>`. Their logarithms are linear in those of `1 - 2 q_k`, which a
/// Walsh-Hadamard transform gives. Where a channel is not a product of independent errors, they are taken as they are,
/// wrong to second order in their probabilities.
fn independent_errors(channel: &Channel) -> (Vec<(u8, f64)>, bool) {
    if let Channel::Flip { p, .. } = channel {
        return (vec![(1, *p)], true);
    }
    let mut p = vec![0.0];
    p.resize(1 + channel_errors(channel).count(), 0.0);
    channel_errors(channel).for_each(|(error, q)| p[error as usize] = q);
    p[0] = 1.0 - p[1..].iter().sum::<f64>();
    let sign = |j: usize, k: usize| if (j & k).count_ones() % 2 == 1 { -1.0 } else { 1.0 };
    let n = p.len();
    let log: Vec<f64> = (0..n).map(|j| p.iter().enumerate().map(|(k, p)| sign(j, k) * p).sum::<f64>().ln()).collect();
    let each = |k: usize| {
        let a: f64 = (0..n).map(|j| sign(j, k) * log[j]).sum::<f64>() * -2.0 / n as f64;
        -a.exp_m1() / 2.0
    };
    let q: Vec<f64> = (1..n).map(each).collect();
    let is_product = q.iter().all(|q| q.is_finite() && *q > -1e-12);
    let q = if is_product { &q } else { &p[1..] };
    // Rounding leaves tiny probabilities where the exact value is 0.
    (q.iter().zip(1..).filter(|(q, _)| **q > 1e-12).map(|(q, k)| (k, *q)).collect(), is_product)
}

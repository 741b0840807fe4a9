//! Decoders: from the detectors that fired to the logical observables that were flipped.
//!
//! [`Decoder`] is the contract. [`graph`] turns a detector error model into a matching graph, [`matching`] decodes it
//! exactly, [`window`] decodes long memories window by window, and [`bp_osd`] decodes models whose errors are not
//! edges. [`best`] chooses.

mod blossom;
pub mod bp_osd;
mod decode;
pub mod graph;
pub mod matching;
pub mod window;

pub use decode::Decoder;

use crate::dem::DetectorErrorModel;
use crate::error::QecError;

/// The decoder to use for a model: matching if its errors are `matchable` (see [`graph::Graph::new`]), else belief
/// propagation with ordered statistics.
///
/// # Errors
/// [`QecError::Decoder`]: those of [`matching::Matching::new`] and [`bp_osd::BpOsd::new`].
pub fn best(model: &DetectorErrorModel, matchable: bool) -> Result<Box<dyn Decoder>, QecError> {
    Ok(match matchable {
        true => Box::new(matching::Matching::new(model)?),
        false => Box::new(bp_osd::BpOsd::new(model, bp_osd::Options::default())?),
    })
}

#[cfg(test)]
mod fixtures {
    use crate::dem::{DetectorErrorModel, Mechanism};

    /// A reproducible source of random numbers.
    pub(super) struct Random(pub(super) u64);

    impl Random {
        /// Uniform in [0, 1).
        pub(super) fn real(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let mut x = self.0;
            x = (x ^ x >> 32).wrapping_mul(0xd6e8feb86659fd93);
            ((x ^ x >> 32) >> 11) as f64 / (1u64 << 53) as f64
        }

        /// Detectors and observables of a shot.
        pub(super) fn shot(&mut self, model: &DetectorErrorModel) -> (Vec<u32>, u64) {
            let mut fired = vec![false; model.detectors as usize];
            let mut flipped = 0;
            for m in &model.mechanisms {
                if self.real() < m.p {
                    m.detectors.iter().for_each(|d| fired[*d as usize] ^= true);
                    flipped ^= m.observables;
                }
            }
            ((0..model.detectors).filter(|d| fired[*d as usize]).collect(), flipped)
        }
    }

    /// Rotated surface code of distance 3, 3 rounds, 0.5 % circuit noise (Stim's `surface_code:rotated_memory_z`).
    pub(super) fn surface() -> DetectorErrorModel {
        let mut model = DetectorErrorModel { detectors: 24, observables: 1, ..Default::default() };
        model.coordinates = vec![[0.0; 3]; 24];
        for line in include_str!("surface_d3.dem").lines() {
            let (head, targets) = line.split_once(')').unwrap();
            let (kind, numbers) = head.split_once('(').unwrap();
            let numbers: Vec<f64> = numbers.split(',').map(|x| x.trim().parse().unwrap()).collect();
            let mut detectors: Vec<u32> =
                targets.split_whitespace().filter_map(|t| t.strip_prefix('D')).map(|d| d.parse().unwrap()).collect();
            detectors.sort();
            if kind == "detector" {
                model.coordinates[detectors[0] as usize] = [numbers[0], numbers[1], numbers[2]];
            } else {
                let observables = targets.contains("L0") as u64;
                model.mechanisms.push(Mechanism { p: numbers[0], detectors, observables });
            }
        }
        model
    }

    /// Repetition code under bit flips and wrong measurements of equal probability, its last round read perfectly.
    pub(super) fn repetition(distance: u32, rounds: u32, p: f64) -> DetectorErrorModel {
        let checks = distance - 1;
        let mut mechanisms = Vec::new();
        for t in 0..=rounds {
            for q in 0..distance {
                let near = [q.checked_sub(1), (q < checks).then_some(q)];
                let detectors = near.into_iter().flatten().map(|c| t * checks + c).collect();
                mechanisms.push(Mechanism { p, detectors, observables: (q == 0) as u64 });
            }
            if t < rounds {
                let again = (0..checks).map(|c| vec![t * checks + c, (t + 1) * checks + c]);
                mechanisms.extend(again.map(|detectors| Mechanism { p, detectors, observables: 0 }));
            }
        }
        mechanisms.sort_by(|a, b| a.detectors.cmp(&b.detectors));
        let places = (0..=rounds).flat_map(|t| (0..checks).map(move |c| [c as f64, 0.0, t as f64]));
        let coordinates = places.collect();
        DetectorErrorModel { detectors: (rounds + 1) * checks, observables: 1, mechanisms, coordinates }
    }
}

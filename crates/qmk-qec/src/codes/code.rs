//! The contract of a code.

use crate::circuit::Circuit;
use crate::error::{DistanceError, QecError};
use qmk_abi::image::{Pauli, Qubit};

/// A product of Paulis, ascending by qubit.
pub type PauliProduct = Vec<(Pauli, Qubit)>;

/// The checks and logical operators of a code, as products of Paulis on its data qubits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checks {
    /// Data qubits.
    pub data: Vec<Qubit>,
    /// Generators of the stabilizer group; of a Floquet code, of its instantaneous group after the last round of its
    /// cycle.
    pub stabilizers: Vec<PauliProduct>,
    /// Generators of the gauge group, for subsystem and Floquet codes: the measured operators.
    pub gauges: Vec<PauliProduct>,
    /// X and Z of each logical qubit.
    pub logicals: Vec<[PauliProduct; 2]>,
}

/// A code and how its checks are measured.
pub trait Code: Send + Sync {
    /// Name, as in `--code`.
    fn name(&self) -> &'static str;

    /// Code distance.
    fn distance(&self) -> u32;

    /// Physical qubits with ancillas.
    fn physical_qubits(&self) -> u32;

    /// Checks and logical operators.
    fn checks(&self) -> Checks;

    /// Whether each error (X or Z part) flips at most two detectors, so that matching decodes it.
    fn is_matchable(&self) -> bool;

    /// A noiseless memory experiment: prepare all logical qubits in the +1 eigenstate of `basis` (X or Z), extract the
    /// syndrome `rounds >= 1` times, measure all data qubits. Observable `i` is that of logical qubit `i`.
    /// [`Step::Round`](crate::circuit::Step::Round) begins each round, [`Step::Tick`](crate::circuit::Step::Tick) ends
    /// each layer. Every deterministic parity of `basis` is a detector; parities of the other basis, too, from their
    /// second measurement on.
    fn memory(&self, basis: Pauli, rounds: u32) -> Circuit;
}

/// Checks the distance of a code.
///
/// # Errors
/// [`DistanceError::OutOfRange`] with the range.
pub(crate) fn check_distance(
    code: &'static str,
    distance: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<(), QecError> {
    let (low, high) = range.into_inner();
    match (low..=high).contains(&distance) {
        true => Ok(()),
        false => Err(DistanceError::OutOfRange { code, distance, low, high }.into()),
    }
}

//! Codes: geometry, checks, logical operators and circuits.

mod bacon_shor;
mod honeycomb;
mod shyps;
mod subsystem;
pub mod surface;

pub use honeycomb::Honeycomb;
pub use subsystem::Subsystem;
pub use surface::RotatedSurface;

use crate::circuit::Circuit;
use qmk_abi::image::{Pauli, Qubit};

/// A product of Paulis, ascending by qubit.
pub type PauliProduct = Vec<(Pauli, Qubit)>;

/// What a code is, over its data qubits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checks {
    /// Data qubits.
    pub data: Vec<Qubit>,
    /// Generators of the stabilizer group; of a Floquet code, of its instantaneous group after the last round of its cycle.
    pub stabilizers: Vec<PauliProduct>,
    /// Generators of the gauge group, for subsystem and Floquet codes: what is measured.
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

    /// A noiseless memory experiment: prepare all logical qubits in the +1 eigenstate of `basis` (X or Z), extract the syndrome
    /// `rounds >= 1` times, measure all data qubits. Observable `i` is that of logical qubit `i`. [`Step::Round`](crate::circuit::Step::Round) begins each round,
    /// [`Step::Tick`](crate::circuit::Step::Tick) ends each layer. Every deterministic parity of `basis` is a detector; parities of the other basis, too, from their
    /// second measurement on.
    fn memory(&self, basis: Pauli, rounds: u32) -> Circuit;
}

/// Whether a distance is one of those of a code.
///
/// # Errors
/// The range.
pub(crate) fn check_distance(code: &str, distance: u32, range: std::ops::RangeInclusive<u32>) -> Result<(), String> {
    match range.contains(&distance) {
        true => Ok(()),
        false => Err(format!("distance {distance} of {code} is not between {} and {}", range.start(), range.end())),
    }
}

/// Names of the codes.
pub const NAMES: [&str; 5] = ["surface_code", "bacon_shor", "honeycomb", "honeycomb_ancillas", "shyps"];

/// The code of a name (as in `--code`) and distance.
///
/// # Errors
/// Which names there are, or which distances the code can have.
pub fn by_name(name: &str, distance: u32) -> Result<Box<dyn Code>, String> {
    match name {
        "surface_code" | "surface" => Ok(Box::new(RotatedSurface::new(distance)?)),
        "bacon_shor" => Ok(Box::new(Subsystem::bacon_shor(distance)?)),
        "honeycomb" => Ok(Box::new(Honeycomb::pairs(distance)?)),
        "honeycomb_ancillas" => Ok(Box::new(Honeycomb::ancillas(distance)?)),
        "shyps" => match distance {
            4 => Ok(Box::new(Subsystem::shyps(3)?)),
            8 => Ok(Box::new(Subsystem::shyps(4)?)),
            16 => Ok(Box::new(Subsystem::shyps(5)?)),
            _ => Err(format!("SHYPS codes have distance 4, 8 or 16, not {distance}")),
        },
        _ => Err(format!("unknown code {name:?}; known: {}", NAMES.join(", "))),
    }
}

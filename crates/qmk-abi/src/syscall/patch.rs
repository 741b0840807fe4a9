//! How logical qubits are encoded, and which errors they have.

use serde::{Deserialize, Serialize};

/// Families of quantum error correcting codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Code {
    /// Rotated surface code.
    #[default]
    Surface,
    /// Bacon-Shor.
    BaconShor,
    /// Subsystem hypergraph product simplex codes.
    Shyps,
    /// Honeycomb Floquet code.
    Floquet,
}

/// How a logical qubit is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Patch {
    /// Code.
    pub code: Code,
    /// Code distance.
    pub distance: u16,
}

impl Default for Patch {
    fn default() -> Self {
        Patch { code: Code::Surface, distance: 7 }
    }
}

/// Which errors the machine makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// None.
    #[default]
    Ideal,
    /// Each logical qubit fails with the logical rates of its patch.
    Logical,
    /// Syndrome rounds are sampled and decoded; what the decoder gets wrong hits the logical qubit.
    Physical,
}

/// The errors that a program is to run with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NoiseSpec {
    /// Which.
    pub level: Level,
    /// Physical error rate in parts per billion; 0 for the machine's own.
    pub ppb: u32,
}

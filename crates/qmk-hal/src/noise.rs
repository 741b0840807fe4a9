//! Errors of instructions, as channels, and of patches, as the kernel accounts for them.

use alloc::string::String;
use alloc::vec::Vec;
use qmk_abi::image::{Event, Qubit};

/// A Pauli error channel that acts right after an instruction, whether or not its condition held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Index of the instruction.
    pub after: u32,
    /// The errors and their probabilities.
    pub channel: Channel,
}

/// The errors of a noise channel and their probabilities, which add up to at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Channel {
    /// X, Y or Z on one register, with these probabilities.
    Pauli1 {
        /// Register, allocated at that point.
        qubit: Qubit,
        /// Probabilities of X, Y, Z.
        p: [f64; 3],
    },
    /// One of the fifteen products of two Paulis. Product `(a, b)` with I, X, Y, Z numbered 0 to 3 has probability
    /// `p[4a + b - 1]`.
    Pauli2 {
        /// Distinct registers, allocated at that point.
        qubits: [Qubit; 2],
        /// Probabilities of IX, IY, IZ, XI, XX and so on.
        p: [f64; 15],
    },
    /// The recorded value of an event is wrong. The state is what the true outcome made it.
    Flip {
        /// Event written by the instruction.
        event: Event,
        /// Probability.
        p: f64,
    },
    /// The Paulis of a column of [`Device::give`](crate::Device::give), shot by shot.
    Given {
        /// Register, allocated at that point.
        qubit: Qubit,
        /// Number of the column.
        column: u32,
    },
}

impl Channel {
    /// Uniform depolarizing of one register: each Pauli with probability p/3.
    pub fn depolarize1(qubit: Qubit, p: f64) -> Self {
        Channel::Pauli1 { qubit, p: [p / 3.0; 3] }
    }

    /// Uniform depolarizing of two registers: each product with probability p/15.
    pub fn depolarize2(a: Qubit, b: Qubit, p: f64) -> Self {
        Channel::Pauli2 { qubits: [a, b], p: [p / 15.0; 15] }
    }
}

/// Paulis on one register that are known for each shot: bit `i % 64` of word `i / 64` is that of shot `i`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Whether it has an X part.
    pub x: Vec<u64>,
    /// Whether it has a Z part.
    pub z: Vec<u64>,
}

/// The cost of decoding patches of a kind, and a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// Thousandths of an epoch that one decoder needs for the syndrome of one patch and one epoch. The machine has
    /// [`MachineSpec::decoded_per_epoch`](crate::MachineSpec::decoded_per_epoch) decoders.
    pub decoding: u32,
    /// A warning for the user who runs a program with these errors.
    pub warning: Option<String>,
}

impl Default for Errors {
    fn default() -> Self {
        Errors { decoding: 1000, warning: None }
    }
}

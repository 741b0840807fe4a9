//! The simulated logical-qubit machine.
//!
//! The state of a space of n qubits is kept as `F U (|φ> ⊗ |0…0>)`: `U` a Clifford stored as its inverse
//! tableau, `φ` a dense vector over the few *active* virtual qubits that carry magic, every other virtual
//! qubit *dormant* in |0>, and `F` a Pauli frame. Exact for every circuit, polynomial in n, exponential only
//! in the number of active qubits.
//!
//! [`State`] is the engine for one shot; [`SimDevice`] runs program images on it under the
//! contract of `qmk-hal`.
#![deny(unsafe_code)]

mod bits;
mod cost;
mod device;
mod direct;
mod expr;
mod joint;
mod lanes;
mod noise;
mod parity;
mod plan;
mod program;
mod register;
pub mod rng;
mod rotations;
pub mod sets;
mod simd;
mod state;
mod structure;
mod tableau;
#[cfg(test)]
mod twins;

pub use device::{SimConfig, SimDevice};
pub use noise::channel_errors;
pub use parity::{Parities, ParityError};
pub use register::Register;
pub use state::State;
pub use structure::Refusal;

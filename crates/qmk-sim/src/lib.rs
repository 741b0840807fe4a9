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

mod batch;
mod device;
#[cfg(test)]
mod dice;
mod engine;
mod noise;
#[cfg(test)]
mod planned_vs_direct;
mod program;
mod register;
pub mod rng;
pub mod sets;
mod simd;
mod single_shot;

pub use batch::detectors::{DetectorSampler, ParityError};
pub use device::{SimConfig, SimDevice, SimWork};
pub use engine::refusal::Refusal;
pub use engine::state::State;
pub use noise::channel_errors;
pub use register::Register;

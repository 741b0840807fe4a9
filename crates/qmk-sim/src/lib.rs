//! The simulated logical-qubit machine.
//!
//! A state of n qubits is kept as `U F R (|φ> ⊗ |0…0>)`. `U` is a Clifford, stored as its inverse tableau. `F` is a
//! Pauli frame, `R` a list of rotations that are deferred. `φ` is a dense vector over the few *active* virtual qubits
//! that carry magic; every other virtual qubit is *dormant* in |0>. The result is exact for every circuit. The cost is
//! polynomial in n and exponential only in the number of active qubits.
//!
//! Where to start:
//! * `device` is the machine behind the contract of `qmk-hal`: [`SimDevice`].
//! * `program` cuts an image into components; `single_shot` runs one shot of it, `batch` many at once.
//! * `engine` is the state itself ([`State`]), `register` its dense part.
//! * [`rng`] has the draws, `noise` the errors of channels, `simd` the vector code.
//!
//! # Examples
//!
//! One shot, operation by operation:
//!
//! ```
//! use qmk_abi::image::{Clifford1, Clifford2, Op, Pauli};
//! use qmk_sim::{Refusal, State};
//!
//! # fn main() -> Result<(), Refusal> {
//! let mut state = State::new(2, 7, 0, 10);
//! let ops = [
//!     Op::Clifford1(Clifford1::H, 0),
//!     Op::T(0),
//!     Op::Clifford2(Clifford2::Cnot, 0, 1),
//!     Op::Measure(Pauli::Z, 0, 0),
//!     Op::Measure(Pauli::Z, 1, 1),
//! ];
//! let mut outcomes = Vec::new();
//! for (at, op) in (0..).zip(&ops) {
//!     state.perform(op, at, |bit| outcomes.push(bit))?;
//! }
//! assert_eq!(outcomes[0], outcomes[1]);
//! assert_eq!(state.peak_active(), 0, "no measurement depends on the T gate");
//! # Ok(())
//! # }
//! ```
//!
//! All shots of a program, through the contract:
//!
//! ```
//! use qmk_abi::image::{Image, Instr, Op, Pauli};
//! use qmk_hal::{Device, DeviceError, Inline, SpaceSpec};
//! use qmk_sim::SimDevice;
//!
//! # fn main() -> Result<(), DeviceError> {
//! let code = [Op::Alloc(0), Op::Measure(Pauli::X, 0, 0), Op::Free(0)].map(|op| Instr { op, cond: None });
//! let image = Image { qubits: 1, events: 1, code: code.to_vec(), terms: Vec::new() };
//! let mut device = SimDevice::default();
//! let space = device.open(SpaceSpec { image: image.into(), shots: 1000, seed: 5, ..SpaceSpec::default() })?;
//! device.issue_range(space, 0..3)?;
//! while device.work(space, 1 << 16)?.shots_done < 1000 {}
//! let ones = (0..1000).filter(|&shot| device.outcome(space, shot, 0)).count();
//! assert!((400..600).contains(&ones), "a fair coin");
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

mod batch;
mod device;
mod engine;
mod ledger;
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
pub use ledger::Shortage;
pub use noise::channel_errors;
pub use register::Register;

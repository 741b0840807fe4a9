//! Quantum error correction: codes, noise, detector error models, decoders, and experiments that measure logical error
//! rates.
//!
//! A [`codes::Code`] gives geometry, checks, logical operators and a [`Circuit`] that keeps a logical qubit for some
//! rounds. A [`noise::NoiseModel`] adds errors to the circuit. A [`dem::DetectorErrorModel`] lists the detectors and
//! logical observables that each error flips. A [`decoder::Decoder`] infers, from the detectors that fired, which
//! logical observables were flipped. [`experiment`] counts how often it is wrong, [`calibration`] holds the measured
//! rates, and [`machine::NoisyDevice`] lets the logical qubits of a machine err at them.
//!
//! A memory experiment of the surface code:
//!
//! ```
//! use qmk_abi::image::Pauli;
//! use qmk_qec::codes::{Code, RotatedSurface};
//! use qmk_qec::decoder::matching::Matching;
//! use qmk_qec::experiment::memory::{Memory, per_round};
//! use qmk_qec::noise::NoiseModel;
//!
//! let (distance, rounds) = (3, 3);
//! let code = RotatedSurface::new(distance)?;
//! let circuit = NoiseModel::named("uniform", 5e-3)?.apply(&code.memory(Pauli::Z, rounds));
//! let memory = Memory::new(&circuit)?;
//! let decoder = Matching::new(memory.model())?;
//! let (seed, first_shot, shots, threads) = (1, 0, 4096, 2);
//! let tally = memory.run(&decoder, (seed, first_shot, shots), threads, &|_| true);
//! let rate = per_round(tally.per_shot(), rounds.into());
//! assert!(rate > 0.001 && rate < 0.02, "{rate}");
//! # Ok::<(), qmk_qec::QecError>(())
//! ```
//!
//! Functions fail with [`QecError`]; its text is what `qmk qec` prints.
#![forbid(unsafe_code)]

pub mod calibration;
pub mod circuit;
pub mod codes;
pub mod decoder;
pub mod dem;
pub mod distance;
pub mod error;
pub mod experiment;
pub mod gf2;
pub mod machine;
pub mod noise;
pub mod stim;

pub use circuit::Circuit;
pub use error::QecError;

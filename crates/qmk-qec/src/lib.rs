//! Quantum error correction: codes, noise, detector error models, decoders, and experiments that measure what they do.
//!
//! A [`codes::Code`] gives geometry, checks, logical operators and a [`Circuit`] that keeps a logical qubit for some rounds. A
//! [`noise::NoiseModel`] adds errors to it. [`dem::DetectorErrorModel`] lists what each error does to the detectors, and a
//! [`decoder::Decoder`] tells from the detectors that fired which logical observables were flipped.
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

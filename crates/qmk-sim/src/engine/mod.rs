//! The state of one shot, or of all shots at once: a Clifford tableau, a Pauli frame, and deferred rotations.
//!
//! Start at [`frame_state`], the state and what the other files need of it. [`rotations`] and [`measurement`] are the
//! two ways in which it meets the register, [`operations`] what each instruction does. [`backend`] is what differs
//! between one shot ([`shot`], [`state`]) and a plan for all (`batch`). [`tableau`] and [`bits`] keep the Clifford,
//! [`charge`] counts the bytes.

mod amplitudes;
pub(crate) mod backend;
mod bits;
mod charge;
pub(crate) mod frame_state;
mod measurement;
mod operations;
pub(crate) mod refusal;
mod rotations;
pub(crate) mod shot;
pub(crate) mod state;
pub(crate) mod tableau;

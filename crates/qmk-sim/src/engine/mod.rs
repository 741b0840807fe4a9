//! The state of one shot, or of all shots at once: a Clifford tableau, a Pauli frame and rotations that wait. `frame_state` is
//! where to start.

mod amplitudes;
pub(crate) mod backend;
mod bits;
pub(crate) mod frame_state;
mod measurement;
mod operations;
pub(crate) mod refusal;
mod rotations;
pub(crate) mod shot;
pub(crate) mod state;
pub(crate) mod tableau;

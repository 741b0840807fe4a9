//! The system calls, one file per kind of call.

pub(crate) mod channels;
pub(crate) mod checkpoints;
pub(crate) mod derivation;
pub(crate) mod qubits;
pub(crate) mod stats;
pub(crate) mod strands;

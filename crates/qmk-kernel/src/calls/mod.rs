//! The system calls, one file per kind of call.

pub(crate) mod budgets;
pub(crate) mod channels;
pub(crate) mod checkpoints;
pub(crate) mod derivation;
pub(crate) mod domains;
pub(crate) mod images;
pub(crate) mod lifetime;
pub(crate) mod qubits;
pub(crate) mod regions;
pub(crate) mod stats;
pub(crate) mod strands;

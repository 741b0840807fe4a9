//! Interactive qubits and the channels between them.

pub(crate) mod purify;

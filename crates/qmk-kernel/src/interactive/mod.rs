//! Interactive qubits and the channels between them.

pub(crate) mod channel;
pub(crate) mod purify;
pub(crate) mod register;

//! Data of qubits that domains hold one by one, and of the channels between them. Where to start:
//! [`register::Interactive`], the space of one domain's qubits; then [`channel::Channel`], and [`purify`] for what a
//! pair costs. The calls are in `calls/qubits.rs` and `calls/channels.rs`.

pub(crate) mod channel;
pub(crate) mod purify;
pub(crate) mod register;

//! Qubits that sessions hold one by one, checkpoints, and calls on jobs under way.

mod calls;
mod held;
mod operations;
mod replay;

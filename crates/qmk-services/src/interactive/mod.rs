//! Qubits that sessions hold one by one, checkpoints, and calls on jobs under way. Start at [`calls`], which waits for
//! epochs and retries; [`held`] makes one attempt.

mod calls;
mod held;
mod operations;
mod replay;

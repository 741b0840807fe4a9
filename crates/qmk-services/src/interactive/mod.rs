//! Qubits that sessions hold one by one, checkpoints, and calls on jobs under way. Start at [`calls`], which waits for
//! epochs and retries; [`held`] makes one attempt. [`left_behind`] takes back what
//! no one uses.

mod calls;
mod held;
mod left_behind;
mod operations;
mod replay;

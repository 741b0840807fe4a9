//! The QMK kernel: a deterministic state machine over a logical-qubit machine.
//!
//! Two entries: [`Kernel::syscall`] and [`Kernel::advance`], which runs one epoch (one logical cycle). The kernel
//! holds capability spaces, admits program images and schedules strands. It has no clock, threads, I/O or randomness
//! of its own, so the same calls with the same seeds give the same replies.
//!
//! Invariants, each carried by `tests/state_machine.rs`:
//! * a call succeeds only through a capability its caller was given, with the rights it needs;
//! * a derived capability never has more rights than its source;
//! * revoking empties the whole derivation subtree, in every domain;
//! * a stale handle never names a newer object;
//! * usage equals what is held, and never exceeds a quota or the machine;
//! * an admitted image never makes the machine fail, except for the stated limit on live magic.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)
)]

extern crate alloc;

mod admit;
mod capability;
mod channel;
mod checkpoint;
mod deadline;
mod epoch;
mod frontier;
mod kernel;
mod purify;
mod qubits;
mod region;
mod reverse;
mod share;
mod slab;
mod stats;
mod strand;
mod strands;
mod tree;

pub use admit::{Admitted, Limits, admit};
pub use capability::DomainId;
pub use kernel::{Clock, EpochReport, Kernel};
pub use qmk_abi as abi;
pub use qmk_hal as hal;
pub use stats::{KernelStats, RegionStats};

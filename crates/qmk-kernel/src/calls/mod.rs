//! The handlers of system calls, one file per kind of call: what the callers of
//! [`Kernel::syscall`](crate::Kernel::syscall) may do. Each handler checks everything first and changes nothing until
//! it can no longer be refused. Where to start: `derivation`, by which authority spreads and is taken back, then
//! `strands`. A new call gets its variant in `qmk-abi`, its arm in `state.rs` and its handler here.
//!
//! `lifetime` is the end of every object, `budgets` the accounts of sessions, and `images` keeps what is worked out of
//! an image.

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

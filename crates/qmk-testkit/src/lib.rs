//! Test support of QMK, for its own tests and for those of others.
//!
//! The core needs the kernel and its contract alone. [`model::Model`] is a kernel that is compared with a slow
//! reference at each call, on any [`Device`](qmk_kernel::hal::Device): on one of yours, or on [`NullDevice`], which
//! keeps nothing. [`Checked`] wraps a device and panics where the kernel breaks the contract. [`programs`] makes
//! programs that are admitted, [`judge`] says which ones are, and [`channels`] is a second model, of channels between
//! tenants. [`Rng`] makes the choices.
//!
//! Features add the rest:
//!
//! * `proptest`: `strategies` for images and `tenants` for system calls of several tenants; start with
//!   `tenants::World`.
//! * `dense`: a state-vector simulator that is written for clarity, to compare with.
//! * `statistics`: chi-square tests with a stated rate of false alarms.
//! * `fuzz`: targets for fuzzers, which can be driven without one.
//! * `server`, `cli`: the server as a process and the command as a user meets it.
#![forbid(unsafe_code)]

mod checked;
mod null;
mod rng;

pub mod channels;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "dense")]
pub mod dense;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod judge;
pub mod model;
pub mod pairs;
pub mod programs;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "statistics")]
pub mod statistics;
#[cfg(feature = "proptest")]
pub mod strategies;
#[cfg(feature = "proptest")]
pub mod tenants;

pub use checked::Checked;
pub use null::NullDevice;
pub use rng::Rng;

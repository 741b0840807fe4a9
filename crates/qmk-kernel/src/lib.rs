//! The QMK kernel: a deterministic state machine over a logical-qubit machine.
//!
//! It has two entries: [`Kernel::syscall`] and [`Kernel::advance`], which runs one epoch (one logical cycle);
//! [`Kernel::advance_by`] runs several at once where that comes to the same. The kernel holds capability spaces, admits
//! program images and schedules strands. It has no clock, threads, I/O or randomness of its own, so the same calls with
//! the same seeds give the same replies.
//!
//! Where to start: `state.rs`, the state and the dispatch of calls. `calls` has their handlers, `sched` the epochs,
//! `image` the checks of programs, `strand` the running ones, `interactive` the qubits held one by one, and `cap` the
//! capability spaces.
//!
//! An impossible case stops the kernel: every later call answers [`KernelError::Broken`](abi::KernelError::Broken) with
//! its story. With the feature `audit`, `Kernel::audit` checks all invariants of the tables at any time; tests turn it
//! on.
//!
//! `docs/internals/kernel.md` says what it promises and which test carries each promise.
//!
//! ```
//! use qmk_sim::SimDevice;
//! use qmk_kernel::abi::image::{Image, Instr, Op, Pauli};
//! use qmk_kernel::abi::syscall::{Quota, Run};
//! use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
//! use qmk_kernel::{Clock, DomainId, Kernel};
//!
//! # fn main() -> Result<(), KernelError> {
//! let (mut kernel, root, machine) = Kernel::boot(SimDevice::default(), 0, Quota::UNLIMITED);
//! kernel.set_clock(Clock::Lockstep);
//! let mut handle = |kernel: &mut Kernel<_>, who: DomainId, call| match kernel.syscall(who, call)? {
//!     Reply::Handle(handle) => Ok::<Handle, KernelError>(handle),
//!     other => unreachable!("{other:?}"),
//! };
//! // A tenant, and what it may use of the machine.
//! let control = handle(&mut kernel, root, Syscall::CreateDomain { machine, quota: Quota::UNLIMITED })?;
//! let tenant = kernel.domain_of(root, control).expect("it was just made");
//! let rights = Rights::all() - Rights::ADMIN;
//! let derive = Syscall::Derive { source: machine, rights, badge: 1, into: Some(control), budget: None };
//! let machine = handle(&mut kernel, root, derive)?;
//! // A coin.
//! let code = [Op::Alloc(0), Op::Measure(Pauli::X, 0, 0), Op::Free(0)].map(|op| Instr { op, cond: None });
//! let image = Image { qubits: 1, events: 1, code: code.into(), terms: vec![] };
//! let image = handle(&mut kernel, tenant, Syscall::Admit { machine, image })?;
//! let run = Run { shots: 1000, ..Run::default() };
//! let strand = handle(&mut kernel, tenant, Syscall::Spawn { machine, image, run })?;
//! while kernel.advance().busy {}
//! let Reply::Outcomes(shots) = kernel.syscall(tenant, Syscall::Outcomes { strand, first: 0, count: 1000 })? else {
//!     unreachable!()
//! };
//! println!("{} of 1000", shots.iter().filter(|&&shot| shot == 1).count());
//! # Ok(())
//! # }
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)
)]

extern crate alloc;

#[cfg(any(test, feature = "audit"))]
mod audit;
mod calls;
mod cap;
mod domain;
mod errors;
mod holding;
mod ids;
mod image;
mod interactive;
mod limits;
mod object;
mod sched;
mod slab;
mod state;
mod strand;
#[cfg(test)]
mod tests;
mod time;

pub use calls::stats::{KernelStats, RegionStats};
pub use errors::Broken;
pub use ids::DomainId;
pub use image::admit::{Admitted, Limits, admit};
pub use qmk_abi as abi;
pub use qmk_hal as hal;
pub use state::{Clock, EpochReport, Kernel};

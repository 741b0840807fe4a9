//! User-mode services over the kernel's system calls: sessions, jobs, the executor and its accounts.
//!
//! [`Machine`] owns a kernel and a thread that advances it; [`Machine::connect`] gives an endpoint of the
//! session protocol. Policy lives here, never in the kernel.
//!
//! ```
//! # fn main() -> Result<(), qmk_client::ClientError> {
//! use qmk_client::{Client, Policy, Program};
//! use qmk_services::{Machine, MachineConfig};
//! use qmk_sim::SimDevice;
//!
//! let machine = Machine::start(SimDevice::default(), MachineConfig::default());
//! let session = Client::over(machine.connect()).session(&[])?;
//! let coin = Program::asm("ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a");
//! println!("{:?}", session.run(&coin, Policy { shots: 100, ..Policy::default() })?.report.counts);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod jobs;
pub mod journal;
mod machine;
mod program;
pub mod replay;
mod sessions;
mod tenants;
mod watch;

pub use machine::{Connection, Machine, MachineConfig};
pub use program::{Program, count_outcomes};
pub use qmk_kernel::hal;

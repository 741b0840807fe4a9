//! User-mode services over the kernel's system calls: sessions, jobs, the executor and its accounts.
//!
//! [`Machine`] owns a kernel and a thread that advances it; [`Machine::connect`] gives an endpoint of the
//! session protocol. Policy lives here, never in the kernel.
#![forbid(unsafe_code)]

mod machine;
mod program;

pub use machine::{Connection, Machine, MachineConfig};
pub use program::{Program, count_outcomes};
pub use qmk_kernel::hal;

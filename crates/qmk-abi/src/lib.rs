//! The vocabulary every layer of QMK shares: capability handles and rights, kernel system calls and
//! their replies, program images, and the session protocol spoken between clients and services.
//! Types only; the rules live in `qmk-kernel` (system calls) and `qmk-services` (sessions).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod caps;
pub mod image;
pub mod rpc;
pub mod syscall;

pub use caps::{Handle, Rights};
pub use image::{Image, Instr, Op};
pub use syscall::{KernelError, Reply, Syscall};

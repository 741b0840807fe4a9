//! Program images: what the kernel admits and the machine executes.
//!
//! An image is a flat list of instructions over qubit registers `0..qubits` and one-bit event registers
//! `0..events`. Program order is list order. Each instruction may carry a condition over events
//! already written; an instruction whose condition is false does nothing, and an event that is never
//! written reads 0.

mod condition;
mod error;
mod op;
mod patches;
mod program;
mod schedule;

pub use condition::{Cond, CondTerm};
pub use error::{ImageError, ImageErrorKind};
pub use op::{Clifford1, Clifford2, Event, Op, Pauli, Qubit};
pub use patches::Patches;
pub use program::{Image, Instr};
pub use schedule::{Span, Timed};

//! The assembler: expanded lines to a graph.
//!
//! `label: OPCODE operands, key=value -> outputs if guard [CAPS]`

mod assembler;
mod cursor;

pub use assembler::assemble;

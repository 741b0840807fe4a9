//! The assembler: expanded lines to a graph. `assembler` reads labels, opcodes and directives, and keeps the graph;
//! `cursor` reads the rest of a line.
//!
//! `label: OPCODE operands, key=value -> outputs if guard [CAPS]`

mod assembler;
mod cursor;

pub use assembler::assemble;

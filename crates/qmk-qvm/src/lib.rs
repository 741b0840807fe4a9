//! QVM graphs: the JSON format, the verifier, the assembly language, and lowering to program images.
//!
//! Text becomes a [`Graph`] by [`parse`], [`verify`] reports every finding, [`lower`] makes a `qmk_abi::Image`.
#![forbid(unsafe_code)]

mod asm;
mod disasm;
mod expr;
mod facts;
mod findings;
mod graph;
mod json;
mod lex;
mod limits;
mod lower;
mod macros;
mod opcode;
mod options;
mod parse;
mod profile;
mod segments;
mod verify;

pub use asm::assemble;
pub use disasm::disassemble;
pub use findings::TooLarge;
pub use graph::{Graph, Guard, Node, Resources};
pub use json::parse_json;
pub use lower::{EventBits, Lowered, lower};
pub use macros::flatten;
pub use opcode::Opcode;
pub use options::ParseOptions;
pub use parse::{detect_format, parse};
pub use profile::Profile;
pub use qmk_abi::rpc::{Finding, Format, Severity};
pub use segments::{Segment, segments};
pub use verify::{required_caps, verify, verify_with};

//! `qmk-qvm` turns the text of a program into the image that a kernel admits: it reads JSON and assembly, verifies the
//! graph, and lowers it.
//!
//! [`parse`] makes a [`Graph`] from a text in either language, [`verify`] reports every finding of the graph, and
//! [`lower`] makes a [`qmk_abi::Image`] of one without errors. [`disassemble`] and [`Graph::to_json`] write a graph as
//! text again, and [`segments`] finds the parts of it that can be undone.
//!
//! ```
//! use qmk_abi::image::{Clifford2, Op};
//! use qmk_qvm::{Format, ParseOptions, lower, parse, verify};
//!
//! let text = "ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_CNOT a, b\nMEASURE_Z a -> x\nMEASURE_Z b -> y\n";
//! let graph = parse(text, Format::Asm, &ParseOptions::default()).expect("no findings of the parser");
//! assert!(verify(&graph).is_empty());
//!
//! let lowered = lower(&graph).expect("no errors");
//! assert_eq!((lowered.image.qubits, lowered.image.events), (2, 2));
//! assert_eq!(lowered.image.code[3].op, Op::Clifford2(Clifford2::Cnot, 0, 1));
//!
//! // Each finding has a code, a message and, if it concerns a node, that node's id and line.
//! let graph = parse("n: APPLY_H q", Format::Asm, &ParseOptions::default()).expect("a graph, though a wrong one");
//! let finding = &verify(&graph)[0];
//! assert_eq!((finding.code.as_str(), finding.line), ("E-LINEAR", Some(1)));
//! ```
//!
//! The text of a program passes through these files, in this order: `macros` (with `expr`) expands assembly to plain
//! lines, `asm` reads these; `json` reads the other form; both make a `graph`; `verify` checks it with the `facts` of
//! its nodes; `lower` makes the image. `opcode` is the table of operations, `limits` bounds everything.
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

//! QVM graphs: the JSON format, the verifier, the assembly language, and lowering to program images.
//!
//! Text becomes a [`Graph`] by [`parse`], [`verify`] reports every finding, [`lower`] makes a `qmk_abi::Image`.
#![forbid(unsafe_code)]

mod asm;
mod disasm;
mod expr;
mod graph;
mod lower;
mod macros;
mod opcode;
mod profile;
mod verify;

pub use asm::assemble;
pub use disasm::disassemble;
pub use graph::{Graph, Guard, Node, Resources, parse_json};
pub use lower::{EventBits, Lowered, lower};
pub use opcode::Opcode;
pub use profile::Profile;
pub use qmk_abi::rpc::{Finding, Format, Severity};
pub use verify::{required_caps, verify, verify_with};

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bounds on input, so that a small text cannot ask for much memory.
pub(crate) mod limits {
    pub(crate) const SOURCE_BYTES: usize = 16 << 20;
    pub(crate) const NODES: usize = 1_000_000;
    pub(crate) const LIST: usize = 1_000_000;
    pub(crate) const DEPTH: usize = 64;
    pub(crate) const STRING: usize = 1 << 20;
    /// Lines and bytes a macro expansion may produce.
    pub(crate) const EXPANDED_BYTES: usize = 256 << 20;
}

/// How to read a text.
#[derive(Clone, Debug, Default)]
pub struct ParseOptions {
    /// Values for `.param` names.
    pub params: BTreeMap<String, String>,
    /// Where the text came from; relative includes start there.
    pub file: Option<PathBuf>,
    /// Directory that includes must stay inside; `None` refuses them.
    pub include_root: Option<PathBuf>,
}

/// Parses a program text.
///
/// # Errors
/// Every `E-PARSE`, `E-SCHEMA` and `E-LIMIT` finding.
pub fn parse(text: &str, format: Format, options: &ParseOptions) -> Result<Graph, Vec<Finding>> {
    match format {
        Format::Json => parse_json(text),
        Format::Asm => assemble(text, options),
    }
}

/// Guesses the language of a text: by the path's extension, else by its first character.
pub fn detect_format(path: &str, text: &str) -> Format {
    let lower = path.to_ascii_lowercase();
    if lower.ends_with(".json") {
        Format::Json
    } else if lower.ends_with(".qvm") || lower.ends_with(".asm") || !text.trim_start().starts_with('{') {
        Format::Asm
    } else {
        Format::Json
    }
}

pub(crate) fn finding(code: &str, node: Option<&str>, line: Option<u32>, message: impl Into<String>) -> Finding {
    let severity = if code.starts_with('W') { Severity::Warning } else { Severity::Error };
    Finding { code: code.into(), severity, node: node.map(str::to_string), line, message: message.into() }
}

/// Whether an id matches `[A-Za-z_][A-Za-z0-9_]*`.
pub(crate) fn is_id(s: &str) -> bool {
    let mut chars = s.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

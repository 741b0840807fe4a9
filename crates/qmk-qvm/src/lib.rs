//! QVM graphs: the JSON format, the verifier, the assembly language, and lowering to program images.
//!
//! Text becomes a [`Graph`] by [`parse`], [`verify`] reports every finding, [`lower`] makes a `qmk_abi::Image`.
#![forbid(unsafe_code)]

mod asm;
mod disasm;
mod expr;
mod graph;
mod lex;
mod lower;
mod macros;
mod opcode;
mod profile;
mod rev;
mod verify;

pub use asm::assemble;
pub use disasm::disassemble;
pub use graph::{Graph, Guard, Node, Resources, parse_json};
pub use lower::{EventBits, Lowered, lower};
pub use macros::flatten;
pub use opcode::Opcode;
pub use profile::Profile;
pub use qmk_abi::rpc::{Finding, Format, Severity};
pub use rev::{Segment, segments};
pub use verify::{required_caps, verify, verify_with};

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bounds on input, so that a small text cannot ask for much time or memory.
pub(crate) mod limits {
    pub(crate) const SOURCE_BYTES: usize = 16 << 20;
    /// Characters of an id.
    pub(crate) const ID: usize = 255;
    pub(crate) const NODES: usize = 1_000_000;
    /// Lines and bytes that macros may expand to: the nodes and some directives.
    pub(crate) const LINES: usize = NODES + 1000;
    pub(crate) const EXPANDED_BYTES: usize = 64 << 20;
    /// Tokens of all lines: ids cost many times their length.
    pub(crate) const TOKENS: usize = 16_000_000;
    /// Work of the macro language: expressions evaluated, elements copied, 16 characters read.
    pub(crate) const STEPS: usize = 20_000_000;
    pub(crate) const LIST: usize = 1_000_000;
    pub(crate) const STRING: usize = 1 << 20;
    /// Nesting of blocks, expressions, lists and JSON values. serde_json stops at twice this.
    pub(crate) const DEPTH: usize = 64;
    /// Nesting of guards, each level of which is two of JSON.
    pub(crate) const GUARD_DEPTH: usize = 32;
    /// Findings after which a text is read no further.
    pub(crate) const FINDINGS: usize = 1000;
    /// Instructions, registers, events and condition terms of an image: what the kernel admits.
    pub(crate) const IMAGE: u64 = 1 << 22;
    /// Condition terms of one node.
    pub(crate) const CONDITION: u64 = 1 << 16;
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
    /// Most nodes; a program is read no further, and [`TooLarge`] says so. As many as the language has if `None`.
    pub max_nodes: Option<usize>,
    /// Most work of the macro language: expressions, elements copied, 16 characters each. The usual if `None`.
    pub max_steps: Option<usize>,
}

impl ParseOptions {
    fn nodes(&self) -> usize {
        self.max_nodes.map_or(limits::NODES, |most| most.min(limits::NODES))
    }

    fn steps(&self) -> usize {
        self.max_steps.map_or(limits::STEPS, |most| most.min(limits::STEPS))
    }
}

/// That a program has more nodes than are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub usize);

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the program has more than {} nodes", self.0)
    }
}

impl TooLarge {
    /// Whether this is what the findings say.
    pub fn found_in(self, findings: &[Finding]) -> bool {
        findings.iter().any(|f| f.code == "E-LIMIT" && f.message.ends_with(&self.to_string()))
    }
}

/// Parses a program text.
///
/// # Errors
/// Every `E-PARSE`, `E-SCHEMA` and `E-LIMIT` finding, and `E-ARG` for parameters that the program does not have.
pub fn parse(text: &str, format: Format, options: &ParseOptions) -> Result<Graph, Vec<Finding>> {
    match format {
        Format::Json if !options.params.is_empty() => Err(unknown_params(options.params.keys(), &[])),
        Format::Json => graph::read(text, options.nodes()),
        Format::Asm => assemble(text, options),
    }
}

/// Guesses the language of a text: by the path's extension, else by its first character.
pub fn detect_format(path: &str, text: &str) -> Format {
    let (lower, text) = (path.to_ascii_lowercase(), without_mark(text));
    if lower.ends_with(".json") {
        Format::Json
    } else if lower.ends_with(".qvm") || lower.ends_with(".asm") || !text.trim_start().starts_with('{') {
        Format::Asm
    } else {
        Format::Json
    }
}

/// A text without its byte order mark.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Findings for parameters that a program does not have.
pub(crate) fn unknown_params<'a>(unknown: impl Iterator<Item = &'a String>, known: &[&str]) -> Vec<Finding> {
    let has = if known.is_empty() { "none".to_string() } else { known.join(", ") };
    let message = |name: &String| format!("the program has no parameter {:?}; it has {has}", lex::clip(name));
    unknown.take(limits::FINDINGS).map(|name| finding("E-ARG", None, None, message(name))).collect()
}

pub(crate) fn finding(code: &str, node: Option<&str>, line: Option<u32>, message: impl Into<String>) -> Finding {
    let severity = if code.starts_with('W') { Severity::Warning } else { Severity::Error };
    let mut message = message.into();
    // Messages quote the program, which may be long.
    if let Some((end, _)) = message.char_indices().nth(1000) {
        message.truncate(end);
        message.push_str("...");
    }
    Finding { code: code.into(), severity, node: node.map(str::to_string), line, message }
}

/// The finding of a source that is too long.
pub(crate) fn too_long(text: &str) -> Option<Finding> {
    let message = || format!("the program is {} bytes long; at most {} are read", text.len(), limits::SOURCE_BYTES);
    (text.len() > limits::SOURCE_BYTES).then(|| finding("E-LIMIT", None, None, message()))
}

/// Ends a list of findings that was cut short.
pub(crate) fn note_cut(found: &mut Vec<Finding>, most: usize) {
    if found.len() >= most {
        found.truncate(most);
        found.push(finding("E-LIMIT", None, None, format!("reading stopped after {most} findings")));
    }
}

/// Whether an id matches `[A-Za-z_][A-Za-z0-9_]*` and is not too long.
pub(crate) fn is_id(s: &str) -> bool {
    let mut bytes = s.bytes();
    s.len() <= limits::ID
        && bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// Whether a JSON value nests deeper than the text forms can carry.
pub(crate) fn nests_too_deep(v: &serde_json::Value, left: usize) -> bool {
    use serde_json::Value::{Array, Object};
    match v {
        Array(_) | Object(_) if left == 0 => true,
        Array(items) => items.iter().any(|v| nests_too_deep(v, left - 1)),
        Object(m) => m.values().any(|v| nests_too_deep(v, left - 1)),
        _ => false,
    }
}

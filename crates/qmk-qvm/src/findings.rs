//! Findings: the messages of the parsers and the verifier, and the limits on their number and length.

use crate::lex::clip;
use crate::limits;
use qmk_abi::rpc::{Finding, Severity};

/// The message that a program has more nodes than [`ParseOptions::max_nodes`](crate::ParseOptions::max_nodes), the
/// number in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub usize);

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the program has more than {} nodes", self.0)
    }
}

impl TooLarge {
    /// Whether the findings hold this message.
    pub fn found_in(self, findings: &[Finding]) -> bool {
        findings.iter().any(|f| f.code == "E-LIMIT" && f.message.ends_with(&self.to_string()))
    }
}

/// Findings for parameters that a program does not have.
pub(crate) fn unknown_params<'a>(unknown: impl Iterator<Item = &'a String>, known: &[&str]) -> Vec<Finding> {
    let has = if known.is_empty() { "none".to_string() } else { known.join(", ") };
    let message = |name: &String| format!("the program has no parameter {:?}; it has {has}", clip(name));
    unknown.take(limits::FINDINGS).map(|name| finding("E-ARG", None, None, message(name))).collect()
}

/// A finding. Codes that begin with `W` are warnings, all others are errors.
pub(crate) fn finding(code: &str, node: Option<&str>, line: Option<u32>, message: impl Into<String>) -> Finding {
    let severity = if code.starts_with('W') { Severity::Warning } else { Severity::Error };
    let mut message = message.into();
    // A message may quote the program, whose names and strings may be long.
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

/// Ends a list of `most` findings with one that says so.
pub(crate) fn end_cut_list(found: &mut Vec<Finding>, most: usize) {
    if found.len() >= most {
        found.truncate(most);
        found.push(finding("E-LIMIT", None, None, format!("reading stopped after {most} findings")));
    }
}

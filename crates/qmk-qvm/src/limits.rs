//! Bounds on input, so that a small text cannot ask for much time or memory.

pub(crate) const SOURCE_BYTES: usize = 16 << 20;
/// Bytes of an id.
pub(crate) const ID: usize = 255;
pub(crate) const NODES: usize = 1_000_000;
/// Lines that macros may expand to: the nodes and some directives.
pub(crate) const LINES: usize = NODES + 1000;
pub(crate) const EXPANDED_BYTES: usize = 64 << 20;
/// Tokens of all lines, because a token takes many times the memory of its text.
pub(crate) const TOKENS: usize = 16_000_000;
/// Steps of the macro language: an expression, a copied element or 16 characters each.
pub(crate) const STEPS: usize = 20_000_000;
pub(crate) const LIST: usize = 1_000_000;
pub(crate) const STRING: usize = 1 << 20;
/// Nesting of blocks, expressions, lists and JSON values. It is half of the depth at which serde_json stops.
pub(crate) const DEPTH: usize = 64;
/// Nesting of guards. Each level is two levels of JSON.
pub(crate) const GUARD_DEPTH: usize = 32;
/// Findings after which a text is read no further.
pub(crate) const FINDINGS: usize = 1000;
/// Instructions, registers, events and condition terms of an image, each. The kernel admits no more.
pub(crate) const IMAGE: u64 = 1 << 22;
/// Condition terms of one node.
pub(crate) const CONDITION: u64 = 1 << 16;

/// Whether a JSON value nests deeper than `left` levels.
pub(crate) fn nests_too_deep(v: &serde_json::Value, left: usize) -> bool {
    use serde_json::Value::{Array, Object};
    match v {
        Array(_) | Object(_) if left == 0 => true,
        Array(items) => items.iter().any(|v| nests_too_deep(v, left - 1)),
        Object(m) => m.values().any(|v| nests_too_deep(v, left - 1)),
        _ => false,
    }
}

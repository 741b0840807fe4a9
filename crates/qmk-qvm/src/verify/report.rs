//! The verifier's state: the graph and the findings so far.

use crate::findings::finding;
use crate::graph::{Graph, Node};
use qmk_abi::rpc::Finding;

/// Most findings of one graph.
pub(super) const MAX_FINDINGS: usize = 10_000;

pub(super) struct Verifier<'a> {
    pub(super) graph: &'a Graph,
    pub(super) found: Vec<Finding>,
}

impl Verifier<'_> {
    pub(super) fn report(&mut self, code: &str, node: Option<&Node>, message: impl Into<String>) {
        if self.found.len() < MAX_FINDINGS {
            let (id, line) = node.map_or((None, None), |n| (Some(n.id.as_str()), n.line));
            self.found.push(finding(code, id, line, message));
        }
    }
}

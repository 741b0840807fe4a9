//! Capabilities: those that nodes declare, those that they need, and those that the session holds.

use super::report::Verifier;
use crate::facts::angle;
use crate::graph::{Graph, Node};
use crate::opcode::quarter_turns;
use qmk_abi::Rights;

/// Capability classes that a session needs to run a graph.
pub fn required_caps(graph: &Graph) -> Rights {
    graph.nodes.iter().fold(Rights::empty(), |r, n| r | needs(n))
}

fn needs(node: &Node) -> Rights {
    node.op.needs(angle(node).and_then(quarter_turns))
}

impl Verifier<'_> {
    pub(super) fn capabilities(&mut self, node: &Node, held: Option<Rights>) {
        for cap in &node.caps {
            if Rights::from_class_name(cap).is_none() {
                self.report("E-CAP", Some(node), format!("{cap} is not a capability; known: {}", known_caps()));
            } else if !self.graph.caps.is_empty() && !self.graph.caps.contains(cap) {
                self.report("E-CAP", Some(node), format!("{cap} is not in the graph's caps"));
            }
        }
        if let Some(missing) = held.map(|h| needs(node) - h).filter(|m| !m.is_empty()) {
            let names = missing.class_names().join(", ");
            self.report(
                "E-CAP",
                Some(node),
                format!("{} needs {names}, which the session does not hold", node.op.name()),
            );
        }
    }
}

pub(super) fn known_caps() -> String {
    Rights::CLASS_NAMES.map(|(n, _)| n).join(", ")
}

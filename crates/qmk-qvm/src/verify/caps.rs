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
    /// The graph's own list, which narrows what the program may do if it names every class that the program uses.
    pub(super) fn declared_capabilities(&mut self) {
        let mut declared = Some(Rights::empty());
        for cap in &self.graph.caps {
            let class = self.class(None, cap);
            declared = declared.zip(class).map(|(declared, class)| declared | class);
        }
        let left_out = declared.map(|declared| required_caps(self.graph) - declared);
        if let Some(left_out) = left_out.filter(|left_out| !self.graph.caps.is_empty() && !left_out.is_empty()) {
            let names = left_out.class_names().join(", ");
            let message = format!("caps is ignored: it leaves out {names}, which the program uses");
            self.report("W-IGNORED", None, message);
        }
    }

    /// The class of a name, which is reported if there is none.
    fn class(&mut self, node: Option<&Node>, cap: &str) -> Option<Rights> {
        let class = Rights::from_class_name(cap);
        if class.is_none() {
            let known = Rights::CLASS_NAMES.map(|(name, _)| name).join(", ");
            self.report("E-CAP", node, format!("{cap} is not a capability; known: {known}"));
        }
        class
    }

    pub(super) fn capabilities(&mut self, node: &Node, held: Option<Rights>) {
        for cap in &node.caps {
            let class = self.class(Some(node), cap);
            if class.is_some() && !self.graph.caps.is_empty() && !self.graph.caps.contains(cap) {
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

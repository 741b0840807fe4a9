//! Channels: opened before use, and closed at the end.

use super::report::Verifier;
use crate::graph::Node;
use crate::opcode::Kind;
use foldhash::{HashMap, HashMapExt};

impl Verifier<'_> {
    pub(super) fn channels(&mut self) {
        let graph = self.graph;
        let mut open: HashMap<&str, &Node> = HashMap::new();
        for node in &graph.nodes {
            for ch in node.chs.iter().map(String::as_str) {
                let (wrong, what) = match node.op.kind() {
                    Kind::OpenChan => (open.insert(ch, node).is_some(), "already"),
                    Kind::CloseChan => (open.remove(ch).is_none(), "not"),
                    _ => (!open.contains_key(ch), "not"),
                };
                if wrong {
                    self.report("E-LINEAR", Some(node), format!("channel {ch} is {what} open"));
                }
            }
        }
        let mut left: Vec<_> = open.into_iter().collect();
        left.sort_by_key(|(ch, _)| *ch);
        for (ch, node) in left {
            self.report("E-LEAK", Some(node), format!("channel {ch} is opened here and never closed"));
        }
    }
}

//! Events: each is produced once, and before it is read.

use super::dependencies::topological_order;
use super::report::Verifier;
use crate::facts::{bell_events, reads};
use foldhash::{HashMap, HashMapExt, HashSet};

impl Verifier<'_> {
    /// Checks events, and returns the node indices in an order that respects all dependencies; empty if there is none.
    pub(super) fn order(&mut self) -> Vec<usize> {
        let graph = self.graph;
        let bell = bell_events(graph);
        let declared: HashSet<&str> = graph.resources.events.iter().map(String::as_str).collect();
        let mut producer: HashMap<&str, usize> = HashMap::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            for e in &node.produces {
                if producer.insert(e, i).is_some() {
                    self.report("E-GUARD", Some(node), format!("event {e} is produced twice"));
                }
            }
        }
        for node in &graph.nodes {
            for e in reads(node) {
                // An undeclared event has a finding already.
                if !producer.contains_key(e) && declared.contains(e) {
                    self.report("E-GUARD", Some(node), format!("event {e} is read but never produced"));
                }
            }
            for e in node.inputs.iter().filter(|e| bell.contains(e.as_str())) {
                self.report(
                    "E-ARG",
                    Some(node),
                    format!("event {e} holds a Bell index, not a bit; give MEASURE_BELL two outputs"),
                );
            }
        }
        let cycles = match topological_order(graph) {
            Ok(order) => return order,
            Err(cycles) => cycles,
        };
        for cycle in cycles {
            let members: Vec<&str> = cycle.iter().take(8).map(|&i| graph.nodes[i].id.as_str()).collect();
            let more = if cycle.len() > 8 { ", ..." } else { "" };
            let first = &graph.nodes[cycle[0]];
            self.report("E-CYCLE", Some(first), format!("nodes wait for each other: {}{more}", members.join(", ")));
            for &i in &cycle {
                let node = &graph.nodes[i];
                // In a cycle, only an event can lead back in the text: all else follows textual order.
                for e in reads(node) {
                    if producer.get(e).is_some_and(|&p| p >= i && cycle.binary_search(&p).is_ok()) {
                        self.report("E-GUARD", Some(node), format!("event {e} is read before it can be produced"));
                    }
                }
            }
        }
        Vec::new()
    }
}

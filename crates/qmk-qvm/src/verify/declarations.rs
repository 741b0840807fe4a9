//! Ids: resources and nodes have distinct ids, and nodes name declared resources.

use super::report::Verifier;
use crate::facts::reads;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

impl Verifier<'_> {
    pub(super) fn declarations(&mut self) {
        let graph = self.graph;
        let r = &graph.resources;
        let mut declared = HashMap::new();
        for (what, list) in [("a qubit", &r.vqs), ("a channel", &r.chs), ("an event", &r.events)] {
            for id in list {
                match declared.insert(id.as_str(), what) {
                    None => {}
                    Some(before) if before == what => {
                        self.report("E-DUP-ID", None, format!("resource {id} is declared twice"));
                    }
                    Some(before) => self.report("E-DUP-ID", None, format!("{id} is {before} as well as {what}")),
                }
            }
        }
        let sets = [&r.vqs, &r.chs, &r.events].map(|l| l.iter().map(String::as_str).collect::<HashSet<_>>());
        let produced: HashSet<&str> = graph.nodes.iter().flat_map(|n| &n.produces).map(String::as_str).collect();
        let mut ids = HashSet::new();
        for node in &graph.nodes {
            if !ids.insert(node.id.as_str()) {
                self.report("E-DUP-ID", Some(node), format!("node id {} is used twice", node.id));
            }
            let events: Vec<&str> = node.produces.iter().map(String::as_str).chain(reads(node)).collect();
            let named = [
                ("qubit", "vqs", node.vqs.iter().map(String::as_str).collect()),
                ("channel", "chs", node.chs.iter().map(String::as_str).collect()),
                ("event", "events", events),
            ];
            for ((what, list, used), set) in named.into_iter().zip(&sets) {
                let mut seen = HashSet::new();
                for id in used.into_iter().filter(|id| !set.contains(id)) {
                    if seen.insert(id) {
                        let never = what == "event" && !produced.contains(id);
                        let never = if never { ", and nothing produces it" } else { "" };
                        self.report(
                            "E-UNDECLARED",
                            Some(node),
                            format!("{what} {id} is not in resources.{list}{never}"),
                        );
                    }
                }
            }
        }
    }
}

//! Qubits: allocated once, used while they live, and kept in their spaces.

use super::report::Verifier;
use crate::facts::endpoints;
use crate::opcode::Kind;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use serde_json::Value;

impl Verifier<'_> {
    pub(super) fn linearity(&mut self) {
        #[derive(Clone, Copy, PartialEq)]
        enum Life {
            Live,
            Freed,
        }
        struct Qubit<'a> {
            life: Life,
            fresh: bool,
            space: &'a str,
            last: Kind,
        }
        let graph = self.graph;
        let mut qubits: HashMap<&str, Qubit<'_>> = HashMap::new();
        let ends = endpoints(graph);
        for (node, ends) in graph.nodes.iter().zip(ends) {
            let kind = node.op.kind();
            for q in ends.iter().map(String::as_str).filter(|_| kind == Kind::UseChan) {
                let Some(qubit) = qubits.get_mut(q) else { continue };
                qubit.fresh = false;
                if qubit.life == Life::Freed {
                    self.report("E-LINEAR", Some(node), format!("qubit {q}, an end of the channel, was freed"));
                }
            }
            let mut seen = HashSet::new();
            let (mut space, mut spaces) = (None, 0);
            for q in node.vqs.iter().map(String::as_str) {
                if node.vqs.len() > 1 && !seen.insert(q) {
                    self.report("E-LINEAR", Some(node), format!("qubit {q} is named twice in one node"));
                    continue;
                }
                let qubit = qubits.get_mut(q);
                let now = qubit.as_ref().map(|q| q.life);
                if kind == Kind::Alloc {
                    if now.is_some() {
                        let what = if now == Some(Life::Live) {
                            "is already allocated"
                        } else {
                            "was allocated before; take a new id"
                        };
                        self.report("E-LINEAR", Some(node), format!("qubit {q} {what}"));
                    }
                    let space = node.args.get("space").and_then(Value::as_str).unwrap_or("");
                    qubits.insert(q, Qubit { life: Life::Live, fresh: true, space, last: kind });
                    continue;
                }
                let Some(qubit) = qubit else {
                    self.report("E-LINEAR", Some(node), format!("qubit {q} is used before it is allocated"));
                    continue;
                };
                if space != Some(qubit.space) {
                    (space, spaces) = (Some(qubit.space), spaces + 1);
                }
                match qubit.life {
                    Life::Freed => self.report("E-LINEAR", Some(node), format!("qubit {q} is used after it was freed")),
                    Life::Live if kind == Kind::Free => qubit.life = Life::Freed,
                    Life::Live if kind == Kind::InjectT && !qubit.fresh => {
                        self.report(
                            "E-LINEAR",
                            Some(node),
                            format!("qubit {q} must be fresh or reset before INJECT_T_STATE"),
                        );
                    }
                    _ => {}
                }
                // A guarded reset may not have happened.
                qubit.fresh = kind == Kind::Reset && node.guard.is_none();
                qubit.last = kind;
            }
            let joins =
                node.vqs.len() > 1 && !matches!(kind, Kind::Alloc | Kind::Free | Kind::CondPauli | Kind::OpenChan);
            if joins && spaces > 1 {
                self.report(
                    "E-FIREWALL",
                    Some(node),
                    format!("{} joins qubits of different spaces; open a channel between them", node.op.name()),
                );
            }
        }
        let left = |q: &&str| {
            let measured = |q: &Qubit<'_>| matches!(q.last, Kind::Measure(_) | Kind::MeasureAngle | Kind::MeasureBell);
            qubits.get(q).is_some_and(|q| q.life == Life::Live && !measured(q))
        };
        let open: Vec<&str> = graph.resources.vqs.iter().map(String::as_str).filter(left).collect();
        if !open.is_empty() {
            let shown = open.iter().take(8).copied().collect::<Vec<_>>().join(", ");
            let more = if open.len() > 8 { format!(" and {} more", open.len() - 8) } else { String::new() };
            self.report(
                "W-UNFREED",
                None,
                format!("neither measured nor freed at the end: {shown}{more}; freed implicitly"),
            );
        }
    }
}

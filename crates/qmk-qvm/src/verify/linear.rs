//! Qubits are linear: allocated once, used while they live, and joined only within one space.

use super::report::Verifier;
use crate::facts::endpoints;
use crate::graph::Node;
use crate::opcode::Kind;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use serde_json::Value;

#[derive(Clone, Copy, PartialEq)]
enum Life {
    Live,
    Freed,
}

/// A qubit that was allocated, after the last node so far.
struct Qubit<'a> {
    life: Life,
    /// In |0>: allocated or reset, and not used since.
    fresh: bool,
    space: &'a str,
    last: Kind,
}

/// Qubits by their ids.
type Qubits<'a> = HashMap<&'a str, Qubit<'a>>;

impl Verifier<'_> {
    pub(super) fn linearity(&mut self) {
        let graph = self.graph;
        let mut qubits = Qubits::new();
        for (node, ends) in graph.nodes.iter().zip(endpoints(graph)) {
            if node.op.kind() == Kind::UseChan {
                self.use_ends(node, ends, &mut qubits);
            }
            self.use_qubits(node, &mut qubits);
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

    /// Checks the qubits at the ends of a channel in use.
    fn use_ends(&mut self, node: &Node, ends: &[String], qubits: &mut Qubits<'_>) {
        for q in ends {
            let Some(qubit) = qubits.get_mut(q.as_str()) else { continue };
            qubit.fresh = false;
            if qubit.life == Life::Freed {
                self.report("E-LINEAR", Some(node), format!("qubit {q}, an end of the channel, was freed"));
            }
        }
    }

    /// Checks and updates the qubits that a node names.
    fn use_qubits<'a>(&mut self, node: &'a Node, qubits: &mut Qubits<'a>) {
        let kind = node.op.kind();
        let mut seen = HashSet::new();
        let (mut space, mut spaces) = (None, 0);
        for q in node.vqs.iter().map(String::as_str) {
            if node.vqs.len() > 1 && !seen.insert(q) {
                self.report("E-LINEAR", Some(node), format!("qubit {q} is named twice in one node"));
                continue;
            }
            if kind == Kind::Alloc {
                self.allocate(node, q, qubits);
                continue;
            }
            let Some(qubit) = qubits.get_mut(q) else {
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
                    let message = format!("qubit {q} must be fresh or reset before INJECT_T_STATE");
                    self.report("E-LINEAR", Some(node), message);
                }
                _ => {}
            }
            // A guarded reset may be skipped, so the qubit is not known to be fresh.
            qubit.fresh = kind == Kind::Reset && node.guard.is_none();
            qubit.last = kind;
        }
        let joins = node.vqs.len() > 1 && !matches!(kind, Kind::Alloc | Kind::Free | Kind::CondPauli | Kind::OpenChan);
        if joins && spaces > 1 {
            let message = format!("{} joins qubits of different spaces; open a channel between them", node.op.name());
            self.report("E-FIREWALL", Some(node), message);
        }
    }

    fn allocate<'a>(&mut self, node: &'a Node, q: &'a str, qubits: &mut Qubits<'a>) {
        let space = node.args.get("space").and_then(Value::as_str).unwrap_or("");
        let before = qubits.insert(q, Qubit { life: Life::Live, fresh: true, space, last: Kind::Alloc });
        if let Some(before) = before {
            let what = match before.life {
                Life::Live => "is already allocated",
                Life::Freed => "was allocated before; take a new id",
            };
            self.report("E-LINEAR", Some(node), format!("qubit {q} {what}"));
        }
    }
}

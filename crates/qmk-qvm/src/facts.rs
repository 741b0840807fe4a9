//! Facts derived from nodes and graphs, which both the verifier and the lowering need: angles, masks, events read, and
//! the qubits behind channels.

use crate::graph::{Graph, Node};
use crate::opcode::Kind;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

/// The angle of a node in radians, if it has a finite one.
pub(crate) fn angle(node: &Node) -> Option<f64> {
    let key = match node.op.kind() {
        Kind::Rotate(_) => "theta",
        Kind::MeasureAngle => "angle",
        _ => return None,
    };
    node.args.get(key)?.as_f64().filter(|a| a.is_finite())
}

/// The Pauli letters of a `COND_PAULI`, one per qubit.
pub(crate) fn mask(node: &Node) -> Option<&str> {
    node.args.get("mask").or_else(|| node.args.get("pauli"))?.as_str()
}

/// Names of the events that hold a Bell index: the one output of a `MEASURE_BELL`, which takes two bits.
pub(crate) fn bell_events(graph: &Graph) -> HashSet<&str> {
    let single = |n: &&Node| n.op.kind() == Kind::MeasureBell && n.produces.len() == 1;
    graph.nodes.iter().filter(single).map(|n| n.produces[0].as_str()).collect()
}

/// For each node, the qubits that it reaches through a channel: those between which the channel was last opened.
pub(crate) fn endpoints(graph: &Graph) -> Vec<&[String]> {
    let mut open: HashMap<&str, &[String]> = HashMap::new();
    let ends = graph.nodes.iter().map(|n| {
        let Some(ch) = n.chs.first().map(String::as_str) else { return &[][..] };
        match n.op.kind() {
            Kind::OpenChan => {
                open.insert(ch, &n.vqs);
                &[]
            }
            Kind::CloseChan => open.remove(ch).unwrap_or(&[]),
            _ => open.get(ch).copied().unwrap_or(&[]),
        }
    });
    ends.collect()
}

/// Events that a node reads, in its inputs or its guard, each once.
pub(crate) fn reads<'a>(node: &'a Node) -> Vec<&'a str> {
    let mut events: Vec<&'a str> = node.inputs.iter().map(String::as_str).collect();
    if let Some(g) = &node.guard {
        g.events(&mut |e| events.push(e));
    }
    if events.len() > 1 {
        let mut seen = HashSet::new();
        events.retain(|e| seen.insert(*e));
    }
    events
}

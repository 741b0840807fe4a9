//! What follows from a node or a graph: angles, masks, events and qubits that are not named where they are used.

use crate::graph::{Graph, Node};
use crate::opcode::Kind;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

/// The angle argument of a node, if it has a finite one.
pub(crate) fn angle(node: &Node) -> Option<f64> {
    let key = match node.op.kind() {
        Kind::Rotate(_) => "theta",
        Kind::MeasureAngle => "angle",
        _ => return None,
    };
    node.args.get(key)?.as_f64().filter(|a| a.is_finite())
}

/// The Pauli letters of a COND_PAULI.
pub(crate) fn mask(node: &Node) -> Option<&str> {
    node.args.get("mask").or_else(|| node.args.get("pauli"))?.as_str()
}

/// Events that hold a Bell index, by name.
pub(crate) fn bell_events(graph: &Graph) -> HashSet<&str> {
    let single = |n: &&Node| n.op.kind() == Kind::MeasureBell && n.produces.len() == 1;
    graph.nodes.iter().filter(single).map(|n| n.produces[0].as_str()).collect()
}

/// Qubits that each node acts on through a channel: those its channel was last opened between.
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

/// Events a node reads, each once.
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

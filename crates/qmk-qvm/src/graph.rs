//! Graphs: nodes, their guards, and the resources that they declare. A graph may be wrong; the verifier tells.

use crate::opcode::Opcode;
use foldhash::{HashSet, HashSetExt};
use serde_json::{Map, Value};

/// A QVM graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Name of the program.
    pub name: Option<String>,
    /// Description of the program.
    pub description: Option<String>,
    /// Free-form metadata.
    pub metadata: Map<String, Value>,
    /// Nodes in textual order.
    pub nodes: Vec<Node>,
    /// Declared resources.
    pub resources: Resources,
    /// Capabilities the graph asks for.
    pub caps: Vec<String>,
}

/// Declared ids, in order. Outcomes list events in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Qubits.
    pub vqs: Vec<String>,
    /// Channels.
    pub chs: Vec<String>,
    /// Events.
    pub events: Vec<String>,
}

/// The resources that a program without declarations declares: all ids, in order of first appearance.
pub(crate) fn natural_resources(nodes: &[Node]) -> Resources {
    fn unique<'a>(ids: impl Iterator<Item = &'a String>) -> Vec<String> {
        let mut seen = HashSet::new();
        ids.filter(|id| seen.insert(id.as_str())).cloned().collect()
    }
    Resources {
        vqs: unique(nodes.iter().flat_map(|n| &n.vqs)),
        chs: unique(nodes.iter().flat_map(|n| &n.chs)),
        events: unique(nodes.iter().flat_map(|n| &n.produces)),
    }
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Id, unique in the graph.
    pub id: String,
    /// Operation.
    pub op: Opcode,
    /// Arguments by name.
    pub args: Map<String, Value>,
    /// Qubits that the node acts on, in the order of the operation.
    pub vqs: Vec<String>,
    /// Channels that it opens, uses or closes.
    pub chs: Vec<String>,
    /// Events read besides those of the guard: a `COND_PAULI` acts if their XOR is 1.
    pub inputs: Vec<String>,
    /// Events written, in the order of the outcomes.
    pub produces: Vec<String>,
    /// Capabilities that the node declares.
    pub caps: Vec<String>,
    /// Condition under which the node acts.
    pub guard: Option<Guard>,
    /// Line of the source, from 1. It does not count when nodes are compared.
    pub line: Option<u32>,
}

impl PartialEq for Node {
    fn eq(&self, o: &Node) -> bool {
        (&self.id, self.op, &self.args, &self.vqs, &self.chs, &self.inputs, &self.produces, &self.caps, &self.guard)
            == (&o.id, o.op, &o.args, &o.vqs, &o.chs, &o.inputs, &o.produces, &o.caps, &o.guard)
    }
}

/// A condition on events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The event has this value.
    Equals(String, u8),
    /// All of them hold.
    And(Vec<Guard>),
    /// At least one of them holds.
    Or(Vec<Guard>),
}

impl Guard {
    /// Calls `f` for each event read.
    pub fn events<'a>(&'a self, f: &mut impl FnMut(&'a str)) {
        match self {
            Guard::Equals(e, _) => f(e),
            Guard::And(c) | Guard::Or(c) => c.iter().for_each(|g| g.events(f)),
        }
    }

    /// Depth of nested groups; 0 for a comparison.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Guard::Equals(..) => 0,
            Guard::And(c) | Guard::Or(c) => 1 + c.iter().map(Guard::depth).max().unwrap_or(0),
        }
    }
}

//! The size of the image that a graph is lowered to, against the kernel's limits.

use super::report::Verifier;
use crate::facts::bell_events;
use crate::graph::{Guard, Node};
use crate::limits;
use crate::opcode::Kind;
use foldhash::HashSet;

/// Most instructions that a node is lowered to.
fn instructions(node: &Node) -> u64 {
    match node.op.kind() {
        Kind::Alloc | Kind::Free | Kind::CondPauli => node.vqs.len() as u64,
        Kind::OpenChan => 4,
        Kind::MeasureAngle => 3,
        Kind::UseChan | Kind::Rotate(_) => 2,
        _ => 1,
    }
}

/// Terms that a guard is lowered to. `bell` are the events that hold an index of two bits.
fn terms(guard: &Guard, bell: &HashSet<&str>) -> u64 {
    match guard {
        Guard::Equals(e, value) => (if bell.contains(e.as_str()) { 4 } else { 1 }) + (*value == 0) as u64,
        Guard::And(parts) | Guard::Or(parts) => parts.iter().fold(1, |n, g| n + terms(g, bell)),
    }
}

impl Verifier<'_> {
    /// Reports a program whose image the kernel would refuse for its size, at the node that exceeds the limit.
    pub(super) fn size(&mut self) {
        let graph = self.graph;
        let r = &graph.resources;
        let bell = bell_events(graph);
        let (mut code, mut stored, mut read) = (r.vqs.len() as u64, 0u64, 0u64);
        let registers = r.vqs.len().max(2 * r.events.len()) as u64;
        let mut fits = registers <= limits::IMAGE;
        if !fits {
            self.report("E-LIMIT", None, format!("the program declares more than {} registers", limits::IMAGE));
        }
        for node in &graph.nodes {
            let inputs = node.inputs.len() as u64;
            let joins = (inputs > 0) as u64 * (1 + node.guard.is_some() as u64);
            let terms = node.guard.as_ref().map_or(0, |g| terms(g, &bell)) + inputs + joins;
            if terms > limits::CONDITION {
                let message = format!("a condition of {terms} terms is longer than {}", limits::CONDITION);
                self.report("E-LIMIT", Some(node), message);
            }
            code += instructions(node);
            // The instructions of a node share its condition, and the kernel's pass reads it once for each.
            (stored, read) = (stored + terms, read + terms * instructions(node));
            if fits && (code > limits::IMAGE || stored > limits::IMAGE || read > 4 * limits::IMAGE) {
                fits = false;
                let message = format!("here the program exceeds {} instructions or condition terms", limits::IMAGE);
                self.report("E-LIMIT", Some(node), message);
            }
        }
    }
}

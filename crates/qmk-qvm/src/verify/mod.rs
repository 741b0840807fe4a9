//! The verifier: every finding of a graph, not only the first. Start at `check` below, which calls one file per class
//! of rules; `report` collects the findings.

mod caps;
mod channels;
mod declarations;
mod dependencies;
mod events;
mod linear;
mod report;
mod shape;
mod size;

pub use caps::required_caps;

use crate::findings::end_cut_list;
use crate::graph::Graph;
use crate::limits;
use qmk_abi::Rights;
use qmk_abi::rpc::Finding;
use report::{MAX_FINDINGS, Verifier};

/// All findings of a graph, by line. Errors have codes `E-*`, warnings `W-*`.
pub fn verify(graph: &Graph) -> Vec<Finding> {
    verify_with(graph, None)
}

/// As [`verify`]. With `held`, each node that needs a capability outside of it has an `E-CAP` finding too.
pub fn verify_with(graph: &Graph, held: Option<Rights>) -> Vec<Finding> {
    check(graph, held).0
}

/// The findings. If none is an error, also the node indices in an order that respects all dependencies.
pub(crate) fn check(graph: &Graph, held: Option<Rights>) -> (Vec<Finding>, Vec<usize>) {
    let mut v = Verifier { graph, found: Vec::new() };
    if graph.nodes.len() > limits::NODES {
        v.report("E-LIMIT", None, format!("more than {} nodes", limits::NODES));
        return (v.found, Vec::new());
    }
    if graph.nodes.is_empty() {
        v.report("W-EMPTY", None, "the program has no operations");
    }
    v.declarations();
    v.declared_capabilities();
    for node in &graph.nodes {
        v.shape(node);
        v.capabilities(node, held);
    }
    v.linearity();
    v.channels();
    let order = v.order();
    v.size();
    v.found.sort_by_key(|f| f.line.unwrap_or(u32::MAX));
    end_cut_list(&mut v.found, MAX_FINDINGS);
    (v.found, order)
}

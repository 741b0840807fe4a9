//! Dependencies between nodes, by qubits, channels, events and fences, and the order or the cycles that they make.

use crate::facts::{endpoints, reads};
use crate::graph::Graph;
use crate::opcode::Kind;
use foldhash::{HashMap, HashMapExt};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Dependencies of a graph: successor lists and predecessor counts.
struct Dependencies {
    successors: Vec<Vec<u32>>,
    predecessors: Vec<u32>,
}

impl Dependencies {
    fn of(graph: &Graph) -> Self {
        let n = graph.nodes.len();
        let mut d = Dependencies { successors: vec![Vec::new(); n], predecessors: vec![0; n] };
        let ends = endpoints(graph);
        let mut last: HashMap<&str, usize> = HashMap::new();
        let mut producer: HashMap<&str, usize> = HashMap::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            for e in &node.produces {
                producer.entry(e).or_insert(i);
            }
        }
        let (mut fence, mut since_fence) = (None, Vec::new());
        for (i, node) in graph.nodes.iter().enumerate() {
            // A node that uses a channel acts on the qubits at its ends.
            for q in node.vqs.iter().chain(ends[i]).chain(&node.chs) {
                // A node that names a qubit twice does not depend on itself; the repetition has a finding.
                if let Some(before) = last.insert(q, i).filter(|before| *before != i) {
                    d.edge(before, i);
                }
            }
            for e in reads(node) {
                if let Some(&p) = producer.get(e) {
                    d.edge(p, i);
                }
            }
            if let Some(f) = fence {
                d.edge(f, i);
            }
            if node.op.kind() == Kind::Fence {
                for before in std::mem::take(&mut since_fence) {
                    d.edge(before, i);
                }
                fence = Some(i);
            } else {
                since_fence.push(i);
            }
        }
        d
    }

    fn edge(&mut self, from: usize, to: usize) {
        self.successors[from].push(to as u32);
        self.predecessors[to] += 1;
    }
}

/// Node indices in an order that respects all dependencies, textual where possible.
///
/// # Errors
/// The cycles, if there is no such order.
pub(super) fn topological_order(graph: &Graph) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let mut d = Dependencies::of(graph);
    let n = graph.nodes.len();
    let mut ready: BinaryHeap<_> = (0..n).filter(|&i| d.predecessors[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(n);
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &s in &d.successors[i] {
            d.predecessors[s as usize] -= 1;
            if d.predecessors[s as usize] == 0 {
                ready.push(Reverse(s as usize));
            }
        }
    }
    if order.len() == n { Ok(order) } else { Err(cycles(&d.successors)) }
}

/// Strongly connected components of more than one node, or of a node that waits for itself, in textual order. This is
/// Tarjan's algorithm (SIAM J. Comput. 1, 146, 1972) with a stack of its own in place of recursion.
fn cycles(successors: &[Vec<u32>]) -> Vec<Vec<usize>> {
    const NONE: usize = usize::MAX;
    let n = successors.len();
    let (mut index, mut low, mut on_stack) = (vec![NONE; n], vec![0; n], vec![false; n]);
    let (mut stack, mut calls, mut next, mut found) = (Vec::new(), Vec::new(), 0, Vec::new());
    for root in 0..n {
        if index[root] != NONE {
            continue;
        }
        calls.push((root, 0));
        while let Some((v, edge)) = calls.pop() {
            if edge == 0 {
                (index[v], low[v], on_stack[v]) = (next, next, true);
                next += 1;
                stack.push(v);
            } else {
                let w = successors[v][edge - 1] as usize;
                low[v] = low[v].min(low[w]);
            }
            let mut edge = edge;
            let deeper = loop {
                let Some(&w) = successors[v].get(edge) else { break None };
                let w = w as usize;
                edge += 1;
                if index[w] == NONE {
                    break Some(w);
                }
                if on_stack[w] {
                    low[v] = low[v].min(index[w]);
                }
            };
            if let Some(w) = deeper {
                calls.push((v, edge));
                calls.push((w, 0));
            } else if low[v] == index[v] {
                let start = stack.iter().rposition(|&w| w == v).unwrap_or(0);
                let mut set = stack.split_off(start);
                set.iter().for_each(|&w| on_stack[w] = false);
                set.sort_unstable();
                if set.len() > 1 || successors[v].contains(&(v as u32)) {
                    found.push(set);
                }
            }
        }
    }
    found.sort_unstable();
    found
}

//! Dijkstra's algorithm on the arcs of a matching graph.

use crate::decoder::blossom::{BOUNDARY, UNREACHABLE};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The slot of a node where a search began: no arc leads back from it.
pub(super) const NO_ARC: u16 = u16::MAX;

/// An edge of the graph, seen from one of its ends.
#[derive(Clone, Copy)]
pub(super) struct GraphArc {
    /// The node at the other end, or [`BOUNDARY`].
    pub(super) to: u32,
    /// Even integer weight.
    pub(super) weight: i32,
    /// Number of the edge.
    pub(super) edge: u32,
    /// Observables that the edge flips, one bit each.
    pub(super) observables: u64,
}

/// The arcs of each node.
pub(super) struct Adjacency {
    /// Arcs of node `v` are `arcs[starts[v]..starts[v + 1]]`.
    pub(super) starts: Vec<u32>,
    pub(super) arcs: Vec<GraphArc>,
}

impl Adjacency {
    /// Number of nodes.
    pub(super) fn nodes(&self) -> usize {
        self.starts.len() - 1
    }

    /// The arcs of a node.
    pub(super) fn of(&self, node: u32) -> &[GraphArc] {
        &self.arcs[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }

    /// The slot, among the arcs of `node`, of the arc to a neighbour.
    pub(super) fn slot(&self, node: u32, neighbour: u32) -> u16 {
        self.of(node).iter().position(|a| a.to == neighbour).unwrap_or(0) as u16
    }
}

/// Work space of a search, kept from one to the next.
#[derive(Clone, Default)]
pub(super) struct Search {
    /// Distance of each node from the start, or [`UNREACHABLE`].
    pub(super) distance: Vec<i32>,
    /// Slot of the arc that leads back towards the start.
    pub(super) back: Vec<u16>,
    /// Nodes whose distance is known.
    pub(super) touched: Vec<u32>,
    queue: BinaryHeap<Reverse<(i32, u32)>>,
}

impl Search {
    /// Finds the nodes up to a distance from `from`, or until `target` is reached. Ties are decided by the start alone.
    pub(super) fn run(&mut self, graph: &Adjacency, from: u32, radius: i32, target: u32) {
        for v in self.touched.drain(..) {
            self.distance[v as usize] = UNREACHABLE;
        }
        self.queue.clear();
        self.distance.resize(graph.nodes(), UNREACHABLE);
        self.back.resize(graph.nodes(), NO_ARC);
        self.distance[from as usize] = 0;
        self.back[from as usize] = NO_ARC;
        self.touched.push(from);
        self.queue.push(Reverse((0, from)));
        while let Some(Reverse((d, v))) = self.queue.pop() {
            if v == target || d > radius {
                return;
            }
            if d > self.distance[v as usize] {
                continue;
            }
            for arc in graph.of(v) {
                if arc.to == BOUNDARY {
                    continue;
                }
                let to = arc.to as usize;
                let next = d + arc.weight;
                if next < self.distance[to] {
                    if self.distance[to] == UNREACHABLE {
                        self.touched.push(arc.to);
                    }
                    self.distance[to] = next;
                    self.back[to] = graph.slot(arc.to, v);
                    self.queue.push(Reverse((next, arc.to)));
                }
            }
        }
    }
}

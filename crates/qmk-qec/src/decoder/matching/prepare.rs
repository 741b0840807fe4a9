//! The matching graph as all shots use it: integer weights, distances to the boundary, and a table of short distances.

use super::search::{Adjacency, GraphArc, NO_ARC, Search};
use crate::decoder::blossom::{BOUNDARY, UNREACHABLE};
use crate::decoder::graph::Graph;
use crate::error::{DecoderError, QecError};
use qmk_sim::sets::find;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Integer weight of the longest distances. Sums of four of them fit an `i32`.
const LONGEST_DISTANCE: f64 = (1 << 25) as f64;

/// Where the distances from a node begin in the table, and the range of nodes that they lead to.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) at: usize,
    pub(super) first: u32,
    pub(super) end: u32,
}

/// The shortest path from a node to the boundary.
#[derive(Clone, Copy)]
pub(super) struct ToBoundary {
    pub(super) distance: i32,
    /// Slot of the first arc of the path.
    pub(super) slot: u16,
    /// Observables that the path flips.
    pub(super) observables: u64,
}

/// A matching graph that is ready to decode. Nodes are the detectors, renumbered so that each component is a range.
pub(super) struct Prepared {
    pub(super) graph: Graph,
    /// Node of each detector.
    pub(super) node: Vec<u32>,
    /// Component of each node.
    pub(super) component: Vec<u32>,
    pub(super) adjacency: Adjacency,
    /// Path from each node to the boundary.
    pub(super) boundary: Vec<ToBoundary>,
    /// Largest distance to the boundary, of each component.
    pub(super) farthest_boundary: Vec<i32>,
    /// Rows of the table, by node. Empty if the table would be too large.
    pub(super) rows: Vec<Row>,
    /// Tabled distances; [`UNREACHABLE`] where two nodes are nearer to the boundary than to each other.
    pub(super) distance: Vec<i32>,
    /// For each tabled distance, the slot of the arc back towards the node of the row.
    pub(super) back: Vec<u16>,
    /// The weight ln((1-p)/p) of one integer unit.
    pub(super) unit: f64,
}

/// Detectors as nodes, in the order of their components.
struct Nodes {
    /// Detector of each node.
    order: Vec<usize>,
    /// Node of each detector.
    node: Vec<u32>,
    /// Component of each node.
    component: Vec<u32>,
}

impl Nodes {
    fn new(graph: &Graph) -> Self {
        let n = graph.detectors as usize;
        let mut root: Vec<u32> = (0..graph.detectors).collect();
        for e in &graph.edges {
            if let Some(to) = e.to {
                let (a, b) = (find(&mut root, e.from), find(&mut root, to));
                root[a.max(b) as usize] = a.min(b);
            }
        }
        let roots: Vec<u32> = (0..graph.detectors).map(|d| find(&mut root, d)).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|d| (roots[*d], *d));
        let mut node = vec![0; n];
        let mut component = vec![0u32; n];
        for (v, &d) in order.iter().enumerate() {
            node[d] = v as u32;
            component[v] = match v {
                0 => 0,
                v => component[v - 1] + (roots[d] != roots[order[v - 1]]) as u32,
            };
        }
        Nodes { order, node, component }
    }

    /// Both directions of each edge as (from, to, edge), ascending.
    fn directed(&self, graph: &Graph) -> Vec<(u32, u32, u32)> {
        let mut ends = Vec::with_capacity(2 * graph.edges.len());
        for (k, e) in graph.edges.iter().enumerate() {
            let from = self.node[e.from as usize];
            let to = e.to.map_or(BOUNDARY, |d| self.node[d as usize]);
            ends.push((from, to, k as u32));
            if to != BOUNDARY {
                ends.push((to, from, k as u32));
            }
        }
        ends.sort_unstable();
        ends
    }

    /// Where the arcs of each node start.
    fn starts(&self, ends: &[(u32, u32, u32)]) -> Result<Vec<u32>, QecError> {
        let n = self.node.len();
        let mut degree = vec![0u32; n + 1];
        ends.iter().for_each(|e| degree[e.0 as usize] += 1);
        if let Some(v) = degree.iter().position(|d| *d >= NO_ARC as u32) {
            return Err(DecoderError::Degree { detector: self.order[v], edges: degree[v], most: NO_ARC - 1 }.into());
        }
        let mut starts = vec![0u32; n + 1];
        for v in 0..n {
            starts[v + 1] = starts[v] + degree[v];
        }
        Ok(starts)
    }
}

/// Arcs whose weights are integers: `scale` times those of the edges, doubled so that halves are integers, too.
fn arcs(graph: &Graph, ends: &[(u32, u32, u32)], scale: f64) -> Vec<GraphArc> {
    let arc = |&(_, to, edge): &(u32, u32, u32)| {
        let e = &graph.edges[edge as usize];
        GraphArc { to, weight: 2 * (e.weight() * scale).round() as i32, edge, observables: e.observables }
    };
    ends.iter().map(arc).collect()
}

/// The largest scale at which no distance exceeds [`LONGEST_DISTANCE`], and the arcs at that scale.
fn scaled(
    graph: &Graph,
    nodes: &Nodes,
    ends: &[(u32, u32, u32)],
    starts: Vec<u32>,
    search: &mut Search,
) -> (f64, Adjacency) {
    let n = graph.detectors as usize;
    // A path has fewer edges than there are nodes, which bounds the coarse scale. It hardly ever has more than the
    // graph is wide, so the coarse distances give a much finer scale.
    let heaviest = graph.edges.iter().map(|e| e.weight()).fold(1e-9, f64::max);
    let coarse = arcs(graph, ends, LONGEST_DISTANCE / 2.0 / heaviest / (n.max(1) as f64));
    let coarse = Adjacency { starts, arcs: coarse };
    let mut widest = 1;
    let mut v = 0;
    while v < n {
        search.run(&coarse, v as u32, UNREACHABLE, BOUNDARY);
        widest = search.touched.iter().map(|u| search.distance[*u as usize]).fold(widest, i32::max);
        let c = nodes.component[v];
        v += nodes.component[v..].iter().take_while(|d| **d == c).count();
    }
    // Paths are at most twice as long as the longest from one node, plus the edge to the boundary.
    let longest = 2.0 * heaviest + widest as f64 / LONGEST_DISTANCE * heaviest * n as f64 * 2.0;
    let scale = (LONGEST_DISTANCE / 2.0 / longest).min(65536.0);
    (scale, Adjacency { starts: coarse.starts, arcs: arcs(graph, ends, scale) })
}

/// Shortest paths to the boundary: Dijkstra's algorithm from the boundary.
fn boundary_paths(adjacency: &Adjacency) -> Vec<ToBoundary> {
    let n = adjacency.nodes();
    let mut paths = vec![ToBoundary { distance: UNREACHABLE, slot: NO_ARC, observables: 0 }; n];
    let mut queue = BinaryHeap::new();
    for v in 0..n as u32 {
        for (slot, a) in adjacency.of(v).iter().enumerate() {
            let path = &mut paths[v as usize];
            if a.to == BOUNDARY && a.weight < path.distance {
                *path = ToBoundary { distance: a.weight, slot: slot as u16, observables: a.observables };
                queue.push(Reverse((a.weight, v)));
            }
        }
    }
    while let Some(Reverse((d, v))) = queue.pop() {
        let ToBoundary { distance, observables, .. } = paths[v as usize];
        if d > distance {
            continue;
        }
        for a in adjacency.of(v) {
            let next = d + a.weight;
            if a.to != BOUNDARY && next < paths[a.to as usize].distance {
                let (slot, observables) = (adjacency.slot(a.to, v), observables ^ a.observables);
                paths[a.to as usize] = ToBoundary { distance: next, slot, observables };
                queue.push(Reverse((next, a.to)));
            }
        }
    }
    paths
}

impl Prepared {
    /// Prepares a graph, with a table of at most `limit` distances.
    ///
    /// # Errors
    /// A detector with too many edges.
    pub(super) fn new(graph: Graph, search: &mut Search, limit: usize) -> Result<Self, QecError> {
        let nodes = Nodes::new(&graph);
        let ends = nodes.directed(&graph);
        let starts = nodes.starts(&ends)?;
        let (scale, adjacency) = scaled(&graph, &nodes, &ends, starts, search);
        let boundary = boundary_paths(&adjacency);
        let Nodes { node, component, .. } = nodes;
        let mut farthest_boundary = vec![0; component.last().map_or(0, |c| *c as usize + 1)];
        for (path, &c) in boundary.iter().zip(&component) {
            let farthest = &mut farthest_boundary[c as usize];
            *farthest = path.distance.max(*farthest);
        }
        let mut prepared = Self {
            graph,
            node,
            component,
            adjacency,
            boundary,
            farthest_boundary,
            rows: Vec::new(),
            distance: Vec::new(),
            back: Vec::new(),
            unit: 1.0 / (2.0 * scale),
        };
        prepared.table(search, limit);
        Ok(prepared)
    }

    /// Distance of a node to the boundary, and the largest distance of a node that can be nearer to it than both to the
    /// boundary.
    pub(super) fn reach(&self, u: u32) -> (i32, i32) {
        let own = self.boundary[u as usize].distance;
        (own, own.saturating_add(self.farthest_boundary[self.component[u as usize] as usize]))
    }

    /// Tables the distances between nodes that are nearer to each other than to the boundary, if there are not too
    /// many.
    fn table(&mut self, search: &mut Search, limit: usize) {
        for u in 0..self.graph.detectors {
            let (own, radius) = self.reach(u);
            search.run(&self.adjacency, u, radius, BOUNDARY);
            let keeps =
                |v: u32| search.distance[v as usize] < (own + self.boundary[v as usize].distance).min(UNREACHABLE);
            let kept = search.touched.iter().filter(|v| keeps(**v));
            let (first, end) = kept.fold((u, u + 1), |(a, b), v| (a.min(*v), b.max(v + 1)));
            let at = self.distance.len();
            if at + (end - first) as usize > limit {
                (self.rows, self.distance, self.back) = Default::default();
                return;
            }
            self.distance
                .extend((first..end).map(|v| if keeps(v) { search.distance[v as usize] } else { UNREACHABLE }));
            self.back.extend_from_slice(&search.back[first as usize..end as usize]);
            self.rows.push(Row { at, first, end });
        }
    }

    /// Visits the arcs of the shortest path from the smaller of two nodes to the other, or from a node to the boundary.
    pub(super) fn walk(&self, search: &mut Search, u: u32, v: u32, mut visit: impl FnMut(&GraphArc)) {
        if v == BOUNDARY {
            let mut at = u;
            while at != BOUNDARY {
                let arc = &self.adjacency.of(at)[self.boundary[at as usize].slot as usize];
                visit(arc);
                at = arc.to;
            }
            return;
        }
        let row = self.rows.get(u as usize);
        if row.is_none() {
            search.run(&self.adjacency, u, UNREACHABLE, v);
        }
        let mut at = v;
        while at != u {
            let slot = match row {
                Some(row) => self.back[row.at + (at - row.first) as usize],
                None => search.back[at as usize],
            };
            let arc = &self.adjacency.of(at)[slot as usize];
            visit(arc);
            at = arc.to;
        }
    }
}

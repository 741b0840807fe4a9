//! What is the same for all shots of a graph.

use super::search::{GraphArc, NO_ARC, Search};
use crate::decoder::blossom::{BOUNDARY, UNREACHABLE};
use crate::decoder::graph::Graph;
use crate::error::{DecoderError, QecError};
use qmk_sim::sets::find;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Integer weight of the longest distances.
const LONGEST_DISTANCE: f64 = (1 << 25) as f64;

/// Where the distances from a node begin in the table, and the nodes they lead to.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) at: usize,
    pub(super) first: u32,
    pub(super) end: u32,
}

/// What is the same for all shots. Nodes are detectors, connected ones next to each other.
pub(super) struct Prepared {
    pub(super) graph: Graph,
    pub(super) node: Vec<u32>,
    pub(super) component: Vec<u32>,
    /// Ranges of `arcs`.
    pub(super) starts: Vec<u32>,
    pub(super) arcs: Vec<GraphArc>,
    /// Distance to the boundary, the arc that leads there, and the observables on the way.
    pub(super) boundary: Vec<(i32, u16, u64)>,
    /// Largest distance to the boundary, of each component.
    pub(super) farthest_boundary: Vec<i32>,
    /// Empty if the table would be too large.
    pub(super) rows: Vec<Row>,
    pub(super) distance: Vec<i32>,
    /// The arc back towards the start of the row.
    pub(super) back: Vec<u16>,
    /// Weight of one unit.
    pub(super) unit: f64,
}

impl Prepared {
    pub(super) fn new(graph: Graph, search: &mut Search, limit: usize) -> Result<Self, QecError> {
        let n = graph.detectors as usize;
        // Components, and nodes in their order.
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
        // Arcs with weights that are integers, even so that halves are integers too.
        let mut degree = vec![0u32; n + 1];
        let mut ends = Vec::with_capacity(2 * graph.edges.len());
        for (k, e) in graph.edges.iter().enumerate() {
            let from = node[e.from as usize];
            let to = e.to.map_or(BOUNDARY, |d| node[d as usize]);
            ends.push((from, to, k as u32));
            if to != BOUNDARY {
                ends.push((to, from, k as u32));
            }
        }
        ends.sort_unstable();
        ends.iter().for_each(|e| degree[e.0 as usize] += 1);
        if let Some(v) = degree.iter().position(|d| *d >= NO_ARC as u32) {
            return Err(DecoderError::Degree { detector: order[v], edges: degree[v], most: NO_ARC - 1 }.into());
        }
        let mut starts = vec![0u32; n + 1];
        for v in 0..n {
            starts[v + 1] = starts[v] + degree[v];
        }
        // The longest way has fewer edges than the largest component has nodes, and hardly ever more than the graph is wide.
        let heaviest = graph.edges.iter().map(|e| e.weight()).fold(1e-9, f64::max);
        let arc = |scale: f64| {
            let graph = &graph;
            move |&(_, to, edge): &(u32, u32, u32)| {
                let e = &graph.edges[edge as usize];
                GraphArc { to, weight: 2 * (e.weight() * scale).round() as i32, edge, observables: e.observables }
            }
        };
        let coarse: Vec<GraphArc> =
            ends.iter().map(arc(LONGEST_DISTANCE / 2.0 / heaviest / (n.max(1) as f64))).collect();
        let mut widest = 1;
        let mut v = 0;
        while v < n {
            search.run(&starts, &coarse, v as u32, UNREACHABLE, BOUNDARY);
            widest = search.touched.iter().map(|u| search.distance[*u as usize]).fold(widest, i32::max);
            let c = component[v];
            v += component[v..].iter().take_while(|d| **d == c).count();
        }
        // Ways are at most twice as long as the longest from one node, plus the edge to the boundary.
        let longest = 2.0 * heaviest + widest as f64 / LONGEST_DISTANCE * heaviest * n as f64 * 2.0;
        let scale = (LONGEST_DISTANCE / 2.0 / longest).min(65536.0);
        let arcs: Vec<GraphArc> = ends.iter().map(arc(scale)).collect();
        // Distances to the boundary, from it.
        let mut boundary = vec![(UNREACHABLE, NO_ARC, 0u64); n];
        let mut queue = BinaryHeap::new();
        for v in 0..n {
            for (slot, a) in arcs[starts[v] as usize..starts[v + 1] as usize].iter().enumerate() {
                if a.to == BOUNDARY && a.weight < boundary[v].0 {
                    boundary[v] = (a.weight, slot as u16, a.observables);
                    queue.push(Reverse((a.weight, v as u32)));
                }
            }
        }
        while let Some(Reverse((d, v))) = queue.pop() {
            let (best, _, mask) = boundary[v as usize];
            if d > best {
                continue;
            }
            for a in &arcs[starts[v as usize] as usize..starts[v as usize + 1] as usize] {
                if a.to == BOUNDARY {
                    continue;
                }
                let to = a.to as usize;
                if d + a.weight < boundary[to].0 {
                    let back = arcs[starts[to] as usize..starts[to + 1] as usize].iter().position(|b| b.to == v);
                    boundary[to] = (d + a.weight, back.unwrap_or(0) as u16, mask ^ a.observables);
                    queue.push(Reverse((d + a.weight, a.to)));
                }
            }
        }
        let mut farthest_boundary = vec![0; component.last().map_or(0, |c| *c as usize + 1)];
        for v in 0..n {
            let f = &mut farthest_boundary[component[v] as usize];
            *f = boundary[v].0.max(*f);
        }
        let mut prepared = Self {
            graph,
            node,
            component,
            starts,
            arcs,
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

    /// Tables distances, if there are not too many.
    fn table(&mut self, search: &mut Search, limit: usize) {
        for u in 0..self.graph.detectors {
            let own = self.boundary[u as usize].0;
            let radius = own.saturating_add(self.farthest_boundary[self.component[u as usize] as usize]);
            search.run(&self.starts, &self.arcs, u, radius, BOUNDARY);
            let keeps = |v: u32| search.distance[v as usize] < (own + self.boundary[v as usize].0).min(UNREACHABLE);
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

    /// Visits the arcs of the shortest way from the smaller of two nodes to the other, or from a node to the boundary.
    pub(super) fn walk(&self, search: &mut Search, u: u32, v: u32, mut visit: impl FnMut(&GraphArc)) {
        if v == BOUNDARY {
            let mut at = u;
            while at != BOUNDARY {
                let arc = &self.arcs[self.starts[at as usize] as usize + self.boundary[at as usize].1 as usize];
                visit(arc);
                at = arc.to;
            }
            return;
        }
        let row = self.rows.get(u as usize);
        if row.is_none() {
            search.run(&self.starts, &self.arcs, u, UNREACHABLE, v);
        }
        let mut at = v;
        while at != u {
            let slot = match row {
                Some(row) => self.back[row.at + (at - row.first) as usize],
                None => search.back[at as usize],
            };
            let arc = &self.arcs[self.starts[at as usize] as usize + slot as usize];
            visit(arc);
            at = arc.to;
        }
    }
}

//! Exact minimum-weight perfect matching.
//!
//! Between detectors that are nearer to each other than to the boundary (together), distances are tabled once; of each shot only the
//! detectors that fired are looked at. Those that no such pair links are matched apart from each other (Higgott and Gidney,
//! arXiv:2303.15933, Wu and Zhong, arXiv:2305.08307, find the same matchings without tables).

use super::Decoder;
use super::blossom::{ALONE, BOUNDARY, Blossom, NEVER};
use super::graph::{Edge, Graph};
use crate::dem::DetectorErrorModel;
use qmk_sim::sets::{drop_pairs, find};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Most distances that are tabled; larger graphs are searched shot by shot.
const TABLE: usize = 1 << 24;
/// Integer weight of the longest distances.
const LONGEST: f64 = (1 << 25) as f64;
/// Slot of where a search began.
const START: u16 = u16::MAX;

/// Minimum-weight perfect matching decoder.
#[derive(Clone)]
pub struct Matching {
    prepared: Arc<Prepared>,
    work: Work,
}

#[derive(Clone, Copy)]
struct Step {
    to: u32,
    weight: i32,
    edge: u32,
    observables: u64,
}

/// Where the distances from a node begin in the table, and the nodes they lead to.
#[derive(Clone, Copy)]
struct Row {
    at: usize,
    first: u32,
    end: u32,
}

/// What is the same for all shots. Nodes are detectors, connected ones next to each other.
struct Prepared {
    graph: Graph,
    node: Vec<u32>,
    component: Vec<u32>,
    /// Ranges of `arcs`.
    starts: Vec<u32>,
    arcs: Vec<Step>,
    /// Distance to the boundary, the arc that leads there, and the observables on the way.
    boundary: Vec<(i32, u16, u64)>,
    /// Largest distance to the boundary, of each component.
    farthest: Vec<i32>,
    /// Empty if the table would be too large.
    rows: Vec<Row>,
    distance: Vec<i32>,
    /// The arc back towards the start of the row.
    back: Vec<u16>,
    /// Weight of one unit.
    unit: f64,
}

#[derive(Clone, Default)]
struct Work {
    search: Search,
    blossom: Blossom,
    nodes: Vec<u32>,
    near: Vec<(u32, u32, i32)>,
    /// Union of linked nodes, then cluster and place in it.
    root: Vec<u32>,
    cluster: Vec<(u32, u32)>,
    /// Size, place of the matrix, place of the members.
    clusters: Vec<(u32, u32, u32)>,
    members: Vec<u32>,
    weight: Vec<i32>,
    far: Vec<i32>,
    pairs: Vec<(u32, u32)>,
}

/// Dijkstra's algorithm.
#[derive(Clone, Default)]
struct Search {
    distance: Vec<i32>,
    back: Vec<u16>,
    touched: Vec<u32>,
    queue: BinaryHeap<Reverse<(i32, u32)>>,
}

impl Search {
    /// Finds nodes up to a distance, or until `target` is reached. Ties are decided by the start alone.
    fn run(&mut self, starts: &[u32], arcs: &[Step], from: u32, radius: i32, target: u32) {
        for v in self.touched.drain(..) {
            self.distance[v as usize] = NEVER;
        }
        self.queue.clear();
        self.distance.resize(starts.len() - 1, NEVER);
        self.back.resize(starts.len() - 1, START);
        self.distance[from as usize] = 0;
        self.back[from as usize] = START;
        self.touched.push(from);
        self.queue.push(Reverse((0, from)));
        while let Some(Reverse((d, v))) = self.queue.pop() {
            if v == target || d > radius {
                return;
            }
            if d > self.distance[v as usize] {
                continue;
            }
            for arc in &arcs[starts[v as usize] as usize..starts[v as usize + 1] as usize] {
                if arc.to == BOUNDARY {
                    continue;
                }
                let to = arc.to as usize;
                let next = d + arc.weight;
                if next < self.distance[to] {
                    if self.distance[to] == NEVER {
                        self.touched.push(arc.to);
                    }
                    self.distance[to] = next;
                    let arcs = &arcs[starts[to] as usize..starts[to + 1] as usize];
                    self.back[to] = arcs.iter().position(|a| a.to == v).unwrap_or(0) as u16;
                    self.queue.push(Reverse((next, arc.to)));
                }
            }
        }
    }
}

impl Matching {
    /// The decoder of a model.
    ///
    /// # Errors
    /// Those of [`Graph::new`].
    pub fn new(model: &DetectorErrorModel) -> Result<Self, String> {
        Self::of(Graph::new(model)?)
    }

    /// The decoder of a graph.
    ///
    /// # Errors
    /// Edges with detectors out of range, in another order than [`Graph::edges`] has, or of probability outside of 0 < p <= 0.5;
    /// a detector with more than 65534 edges.
    pub fn of(graph: Graph) -> Result<Self, String> {
        let ends = |e: &Edge| (e.from, e.to.unwrap_or(BOUNDARY));
        for (k, e) in graph.edges.iter().enumerate() {
            if e.from >= graph.detectors || e.to.is_some_and(|d| d >= graph.detectors || d <= e.from) {
                return Err(format!(
                    "edge {k}: {:?} to {:?} is not between {} detectors",
                    e.from, e.to, graph.detectors
                ));
            }
            if k > 0 && ends(&graph.edges[k - 1]) >= ends(e) {
                return Err(format!("edge {k}: it comes before the edge before it, or is the same"));
            }
            if !(e.p > 0.0 && e.p <= 0.5) {
                return Err(format!("edge {k}: probability {} is not above 0, at most 0.5", e.p));
            }
        }
        Self::with_table(graph, TABLE)
    }

    /// The decoder of a graph that tables no more than so many distances.
    fn with_table(graph: Graph, limit: usize) -> Result<Self, String> {
        let mut work = Work::default();
        let prepared = Arc::new(Prepared::new(graph, &mut work.search, limit)?);
        Ok(Self { prepared, work })
    }

    /// The graph that is matched.
    pub fn graph(&self) -> &Graph {
        &self.prepared.graph
    }

    /// Numbers of the edges (in [`Graph::edges`]) of the correction, replacing `out`; in ascending order, none twice.
    pub fn decode_edges(&mut self, fired: &[u32], out: &mut Vec<u32>) {
        out.clear();
        self.pair(fired);
        let p = &*self.prepared;
        for &(u, v) in &self.work.pairs {
            p.walk(&mut self.work.search, u, v, |arc| out.push(arc.edge));
        }
        out.sort_unstable();
        // Edges that are taken twice are not taken.
        drop_pairs(out);
    }

    /// Total weight of the matching of the detectors that fired, as sum of ln((1-p)/p), rounded as the decoder rounds.
    pub fn weight(&mut self, fired: &[u32]) -> f64 {
        self.pair(fired);
        let p = &*self.prepared;
        let mut total = 0;
        for &(u, v) in &self.work.pairs {
            p.walk(&mut self.work.search, u, v, |arc| total += arc.weight as i64);
        }
        total as f64 * p.unit
    }

    /// Pairs the nodes that fired.
    fn pair(&mut self, fired: &[u32]) {
        let (p, work) = (&*self.prepared, &mut self.work);
        work.pairs.clear();
        work.nodes.clear();
        work.nodes.extend(fired.iter().filter_map(|d| p.node.get(*d as usize)));
        work.nodes.sort_unstable();
        work.near.clear();
        work.root.clear();
        work.root.extend(0..work.nodes.len() as u32);
        for i in 0..work.nodes.len() {
            let u = work.nodes[i] as usize;
            let mut link = |j: usize, w: i32| {
                work.near.push((i as u32, j as u32, w));
                let (a, b) = (find(&mut work.root, i as u32), find(&mut work.root, j as u32));
                work.root[b as usize] = a;
            };
            if let Some(row) = p.rows.get(u) {
                let table = &p.distance[row.at..][..(row.end - row.first) as usize];
                for (j, &v) in work.nodes.iter().enumerate().skip(i + 1) {
                    if v >= row.end {
                        break;
                    }
                    let w = table[(v - row.first) as usize];
                    if w < NEVER {
                        link(j, w);
                    }
                }
            } else {
                let own = p.boundary[u].0;
                let radius = own.saturating_add(p.farthest[p.component[u] as usize]);
                work.search.run(&p.starts, &p.arcs, u as u32, radius, BOUNDARY);
                for (j, &v) in work.nodes.iter().enumerate().skip(i + 1) {
                    let w = work.search.distance[v as usize];
                    if w < NEVER && w < own + p.boundary[v as usize].0 {
                        link(j, w);
                    }
                }
            }
        }
        // Clusters, numbered by their first nodes.
        work.clusters.clear();
        work.cluster.clear();
        work.cluster.resize(work.nodes.len(), (u32::MAX, 0));
        for i in 0..work.nodes.len() {
            let r = find(&mut work.root, i as u32) as usize;
            if work.cluster[r].0 == u32::MAX {
                work.cluster[r].0 = work.clusters.len() as u32;
                work.clusters.push((0, 0, 0));
            }
            let c = work.cluster[r].0;
            let size = &mut work.clusters[c as usize].0;
            work.cluster[i] = (c, *size);
            *size += 1;
        }
        let (mut cells, mut members) = (0, 0);
        for c in &mut work.clusters {
            (c.1, c.2) = (cells, members);
            cells += if c.0 > 1 { c.0 * c.0 } else { 0 };
            members += c.0;
        }
        work.weight.clear();
        work.weight.resize(cells as usize, NEVER);
        work.members.resize(work.nodes.len(), 0);
        work.far.resize(work.nodes.len(), 0);
        for (&v, &(c, k)) in work.nodes.iter().zip(&work.cluster) {
            let at = (work.clusters[c as usize].2 + k) as usize;
            work.members[at] = v;
            work.far[at] = p.boundary[v as usize].0;
        }
        for &(i, j, w) in &work.near {
            let ((c, i), (_, j)) = (work.cluster[i as usize], work.cluster[j as usize]);
            let (n, at, _) = work.clusters[c as usize];
            work.weight[(at + i * n + j) as usize] = w;
            work.weight[(at + j * n + i) as usize] = w;
        }
        for &(n, at, first) in &work.clusters {
            let n = n as usize;
            let (members, far) = (&work.members[first as usize..][..n], &work.far[first as usize..][..n]);
            let weight = &work.weight[at as usize..][..if n > 1 { n * n } else { 0 }];
            let pairs = &mut work.pairs;
            let mut to_boundary = |k: usize| {
                if far[k] < NEVER {
                    pairs.push((members[k], BOUNDARY));
                }
            };
            match n {
                1 => to_boundary(0),
                // Linked pairs are nearer to each other than to the boundary.
                2 => pairs.push((members[0], members[1])),
                3 => {
                    let total = |k: usize| weight[(k + 1) % 3 * 3 + (k + 2) % 3].saturating_add(far[k]);
                    let k = (0..3).min_by_key(|k| total(*k)).unwrap_or(0);
                    to_boundary(k);
                    let (a, b) = ((k + 1) % 3, (k + 2) % 3);
                    pairs.push((members[a.min(b)], members[a.max(b)]));
                }
                _ => {
                    for (k, &mate) in work.blossom.solve(weight, far).iter().enumerate() {
                        if mate == BOUNDARY {
                            pairs.push((members[k], BOUNDARY));
                        } else if mate != ALONE && mate as usize > k {
                            pairs.push((members[k], members[mate as usize]));
                        }
                    }
                }
            }
        }
    }
}

impl Prepared {
    fn new(graph: Graph, search: &mut Search, limit: usize) -> Result<Self, String> {
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
        if let Some(v) = degree.iter().position(|d| *d >= START as u32) {
            return Err(format!("detector {} has {} edges; at most {} are possible", order[v], degree[v], START - 1));
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
                Step { to, weight: 2 * (e.weight() * scale).round() as i32, edge, observables: e.observables }
            }
        };
        let coarse: Vec<Step> = ends.iter().map(arc(LONGEST / 2.0 / heaviest / (n.max(1) as f64))).collect();
        let mut widest = 1;
        let mut v = 0;
        while v < n {
            search.run(&starts, &coarse, v as u32, NEVER, BOUNDARY);
            widest = search.touched.iter().map(|u| search.distance[*u as usize]).fold(widest, i32::max);
            let c = component[v];
            v += component[v..].iter().take_while(|d| **d == c).count();
        }
        // Ways are at most twice as long as the longest from one node, plus the edge to the boundary.
        let longest = 2.0 * heaviest + widest as f64 / LONGEST * heaviest * n as f64 * 2.0;
        let scale = (LONGEST / 2.0 / longest).min(65536.0);
        let arcs: Vec<Step> = ends.iter().map(arc(scale)).collect();
        // Distances to the boundary, from it.
        let mut boundary = vec![(NEVER, START, 0u64); n];
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
        let mut farthest = vec![0; component.last().map_or(0, |c| *c as usize + 1)];
        for v in 0..n {
            let f = &mut farthest[component[v] as usize];
            *f = boundary[v].0.max(*f);
        }
        let mut prepared = Self {
            graph,
            node,
            component,
            starts,
            arcs,
            boundary,
            farthest,
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
            let radius = own.saturating_add(self.farthest[self.component[u as usize] as usize]);
            search.run(&self.starts, &self.arcs, u, radius, BOUNDARY);
            let keeps = |v: u32| search.distance[v as usize] < (own + self.boundary[v as usize].0).min(NEVER);
            let kept = search.touched.iter().filter(|v| keeps(**v));
            let (first, end) = kept.fold((u, u + 1), |(a, b), v| (a.min(*v), b.max(v + 1)));
            let at = self.distance.len();
            if at + (end - first) as usize > limit {
                (self.rows, self.distance, self.back) = Default::default();
                return;
            }
            self.distance.extend((first..end).map(|v| if keeps(v) { search.distance[v as usize] } else { NEVER }));
            self.back.extend_from_slice(&search.back[first as usize..end as usize]);
            self.rows.push(Row { at, first, end });
        }
    }

    /// Visits the arcs of the shortest way from the smaller of two nodes to the other, or from a node to the boundary.
    fn walk(&self, search: &mut Search, u: u32, v: u32, mut visit: impl FnMut(&Step)) {
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
            search.run(&self.starts, &self.arcs, u, NEVER, v);
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

impl Decoder for Matching {
    fn decode(&mut self, fired: &[u32]) -> u64 {
        if fired.is_empty() {
            return 0;
        }
        self.pair(fired);
        let p = &*self.prepared;
        let mut flipped = 0;
        for &(u, v) in &self.work.pairs {
            if v == BOUNDARY {
                flipped ^= p.boundary[u as usize].2;
            } else {
                p.walk(&mut self.work.search, u, v, |arc| flipped ^= arc.observables);
            }
        }
        flipped
    }

    fn another(&self) -> Box<dyn Decoder> {
        Box::new(Self { prepared: self.prepared.clone(), work: Work::default() })
    }

    fn name(&self) -> &'static str {
        "matching"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::fixtures::*;

    /// Least weight over all pairings of the detectors that fired, by Floyd and Warshall's distances.
    fn exhaustive(graph: &Graph, fired: &[u32]) -> f64 {
        let n = graph.detectors as usize + 1;
        let mut d = vec![f64::INFINITY; n * n];
        for e in &graph.edges {
            let (a, b) = (e.from as usize, e.to.map_or(n - 1, |b| b as usize));
            (d[a * n + b], d[b * n + a]) = (e.weight(), e.weight());
        }
        for k in 0..n {
            for i in 0..n {
                for j in 0..n {
                    d[i * n + j] = d[i * n + j].min(d[i * n + k] + d[k * n + j]);
                }
            }
        }
        let mut best = vec![0.0; 1 << fired.len()];
        for set in 1usize..best.len() {
            let v = set.trailing_zeros() as usize;
            let (rest, row) = (set & (set - 1), &d[fired[v] as usize * n..][..n]);
            let pairs = (v + 1..fired.len()).filter(|u| rest >> u & 1 == 1);
            let paired = pairs.map(|u| row[fired[u] as usize] + best[rest & !(1 << u)]);
            best[set] = paired.fold(row[n - 1] + best[rest], f64::min);
        }
        best[best.len() - 1]
    }

    #[test]
    fn matchings_are_of_least_weight_and_cancel_the_syndrome() {
        for model in [surface(), repetition(5, 6, 0.03)] {
            let graph = Graph::new(&model).unwrap();
            let mut tabled = Matching::of(graph.clone()).unwrap();
            let mut searched = Matching::with_table(graph.clone(), 0).unwrap();
            assert!(!tabled.prepared.rows.is_empty() && searched.prepared.rows.is_empty());
            let mut random = Random(5);
            let mut edges = Vec::new();
            for shot in 0..200 {
                let chance = 0.05 + 0.15 * (shot % 3) as f64;
                let mut fired: Vec<u32> = (0..model.detectors).filter(|_| random.real() < chance).collect();
                fired.truncate(11);
                let want = exhaustive(&graph, &fired);
                for decoder in [&mut tabled, &mut searched] {
                    let got = decoder.weight(&fired);
                    assert!((got - want).abs() < 1e-3, "shot {shot}: {got}, not {want}, of {fired:?}");
                    decoder.decode_edges(&fired, &mut edges);
                    let chosen: Vec<_> = edges.iter().map(|e| graph.edges[*e as usize]).collect();
                    let mut left = vec![false; model.detectors as usize];
                    chosen.iter().for_each(|e| {
                        left[e.from as usize] ^= true;
                        e.to.into_iter().for_each(|d| left[d as usize] ^= true);
                    });
                    let left: Vec<u32> = (0..model.detectors).filter(|d| left[*d as usize]).collect();
                    assert_eq!(left, fired, "shot {shot}");
                    let flipped = chosen.iter().fold(0, |a, e| a ^ e.observables);
                    assert_eq!(flipped, decoder.decode(&fired), "shot {shot}");
                }
            }
        }
    }

    #[test]
    fn graphs_without_boundary_and_odd_syndromes_are_decoded_as_far_as_possible() {
        // A ring of five detectors, and one that nothing flips.
        let edge = |a: u32, b: u32, observables| crate::dem::Mechanism { p: 0.01, detectors: vec![a, b], observables };
        let mechanisms = vec![edge(0, 1, 0), edge(0, 4, 1), edge(1, 2, 0), edge(2, 3, 0), edge(3, 4, 0)];
        let model = DetectorErrorModel { detectors: 6, observables: 1, mechanisms, coordinates: Vec::new() };
        let mut decoder = Matching::new(&model).unwrap();
        let mut edges = Vec::new();
        for (fired, want) in
            [(&[0u32, 3][..], &[1u32, 4][..]), (&[5], &[]), (&[0, 1, 5], &[0]), (&[0, 1, 2, 3], &[0, 3])]
        {
            decoder.decode_edges(fired, &mut edges);
            assert_eq!(edges, want, "{fired:?}");
        }
        decoder.decode_edges(&[0, 1, 2], &mut edges);
        assert_eq!(edges.len(), 1);
        assert_eq!(decoder.decode(&[0, 4]), 1);
        assert_eq!(decoder.decode(&[7, 1_000_000]), 0);
        let graph = Graph::new(&model).unwrap();
        for spoil in [|e: &mut Edge| e.from = 6, |e: &mut Edge| e.to = Some(0), |e: &mut Edge| e.p = 0.0] {
            let mut graph = graph.clone();
            spoil(&mut graph.edges[2]);
            assert!(Matching::of(graph).err().is_some_and(|e| e.contains("edge 2")));
        }
    }
}

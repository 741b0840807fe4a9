//! Exact minimum-weight perfect matching.
//!
//! Distances between detectors that are nearer to each other than to the boundary (together) are tabled once
//! (`prepare`, `search`). In each shot the detectors that fired fall into clusters, which are matched apart from each
//! other (`cluster`; Higgott and Gidney, arXiv:2303.15933, Wu and Zhong, arXiv:2305.08307, find the same matchings
//! without tables).

mod cluster;
mod prepare;
mod search;

use super::blossom::BOUNDARY;
use super::decode::Decoder;
use super::graph::{Edge, Graph};
use crate::dem::DetectorErrorModel;
use crate::error::{DecoderError, QecError};
use cluster::Workspace;
use prepare::Prepared;
use qmk_sim::sets::drop_pairs;
use std::sync::Arc;

/// Most distances in the table. Larger graphs are searched in each shot.
const MAX_TABLED: usize = 1 << 24;

/// Minimum-weight perfect matching decoder.
#[derive(Clone)]
pub struct Matching {
    prepared: Arc<Prepared>,
    work: Workspace,
}

impl Matching {
    /// The decoder of a model.
    ///
    /// # Errors
    /// Those of [`Graph::new`] and [`of`](Self::of).
    pub fn new(model: &DetectorErrorModel) -> Result<Self, QecError> {
        Self::of(Graph::new(model)?)
    }

    /// The decoder of a graph.
    ///
    /// # Errors
    /// [`QecError::Decoder`]: edges with detectors out of range, in another order than [`Graph::edges`] has, or of
    /// probability outside of 0 < p <= 0.5; a detector with more than 65534 edges.
    pub fn of(graph: Graph) -> Result<Self, QecError> {
        let ends = |e: &Edge| (e.from, e.to.unwrap_or(BOUNDARY));
        for (k, e) in graph.edges.iter().enumerate() {
            if e.from >= graph.detectors || e.to.is_some_and(|d| d >= graph.detectors || d <= e.from) {
                let (from, to, detectors) = (e.from, e.to, graph.detectors);
                return Err(DecoderError::EdgeEnds { edge: k, from, to, detectors }.into());
            }
            if k > 0 && ends(&graph.edges[k - 1]) >= ends(e) {
                return Err(DecoderError::EdgeOrder(k).into());
            }
            if !(e.p > 0.0 && e.p <= 0.5) {
                return Err(DecoderError::EdgeProbability { edge: k, p: e.p }.into());
            }
        }
        Self::with_table(graph, MAX_TABLED)
    }

    /// The decoder of a graph, with a table of at most `limit` distances.
    fn with_table(graph: Graph, limit: usize) -> Result<Self, QecError> {
        let mut work = Workspace::default();
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
        let p = &*self.prepared;
        self.work.match_nodes(p, fired);
        for &(u, v) in &self.work.pairs {
            p.walk(&mut self.work.search, u, v, |arc| out.push(arc.edge));
        }
        out.sort_unstable();
        // An edge that two paths share cancels.
        drop_pairs(out);
    }

    /// Total weight of the matching of the detectors that fired, as sum of ln((1-p)/p), rounded as the decoder rounds.
    pub fn weight(&mut self, fired: &[u32]) -> f64 {
        let p = &*self.prepared;
        self.work.match_nodes(p, fired);
        let mut total = 0;
        for &(u, v) in &self.work.pairs {
            p.walk(&mut self.work.search, u, v, |arc| total += arc.weight as i64);
        }
        total as f64 * p.unit
    }
}

impl Decoder for Matching {
    fn decode(&mut self, fired: &[u32]) -> u64 {
        if fired.is_empty() {
            return 0;
        }
        let p = &*self.prepared;
        self.work.match_nodes(p, fired);
        let mut flipped = 0;
        for &(u, v) in &self.work.pairs {
            if v == BOUNDARY {
                flipped ^= p.boundary[u as usize].observables;
            } else {
                p.walk(&mut self.work.search, u, v, |arc| flipped ^= arc.observables);
            }
        }
        flipped
    }

    fn another(&self) -> Box<dyn Decoder> {
        Box::new(Self { prepared: self.prepared.clone(), work: Workspace::default() })
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
            assert!(Matching::of(graph).err().is_some_and(|e| e.to_string().contains("edge 2")));
        }
    }
}

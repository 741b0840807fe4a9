//! Matching graphs: detector error models whose errors are edges.

use super::blossom::BOUNDARY;
use crate::dem::{DetectorErrorModel, Mechanism};
use crate::error::{DecoderError, MechanismError, QecError};
use std::collections::BTreeMap;

/// An edge between two detectors, or a detector and the boundary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// The detector of the smaller number.
    pub from: u32,
    /// The other detector; `None` is the boundary.
    pub to: Option<u32>,
    /// Probability.
    pub p: f64,
    /// Observables that it flips, one bit each.
    pub observables: u64,
}

impl Edge {
    /// ln((1-p)/p): edges of least total weight are the most probable.
    pub fn weight(&self) -> f64 {
        ((1.0 - self.p) / self.p).ln()
    }
}

/// A matching graph. Between two detectors there is one edge at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Number of detectors.
    pub detectors: u32,
    /// Edges, ordered by their detectors, the boundary last.
    pub edges: Vec<Edge>,
}

/// Most detectors of a mechanism that is decomposed: the number of pairings grows as a factorial.
const MAX_DETECTORS: usize = 12;

type Ends = (u32, u32);
/// Edges and the observables that they flip.
type Parts = Vec<(Ends, u64)>;
/// Edges that mechanisms give: probability for each set of observables.
type KnownEdges = BTreeMap<Ends, Vec<(u64, f64)>>;

impl Graph {
    /// The graph of a model. A mechanism that flips more than two detectors counts as several edges at once, as with
    /// Stim's `decompose_errors`: mechanisms of one or two detectors that flip the same observables together, if some
    /// do; otherwise such mechanisms and one more edge that is left. A mechanism that flips an X check and a Z check is
    /// decomposed, too. Parallel edges with the same observables act independently. Of parallel edges with different
    /// observables only the most probable stays: two of them together are an undetected logical error of two faults.
    ///
    /// # Errors
    /// [`QecError::Decoder`]: a mechanism that is neither an edge nor a combination of edges, that flips observables
    /// alone, whose probability is not in 0 ..= 0.5, or whose detectors are out of range.
    pub fn new(model: &DetectorErrorModel) -> Result<Self, QecError> {
        for m in &model.mechanisms {
            if !(0.0..=0.5).contains(&m.p) {
                return Err(refused(m, MechanismError::Probability));
            }
            if let Some(d) = m.detectors.iter().find(|d| **d >= model.detectors) {
                return Err(refused(m, MechanismError::Detector { detector: *d, detectors: model.detectors }));
            }
            if m.detectors.is_empty() && m.observables != 0 && m.p > 0.0 {
                return Err(refused(m, MechanismError::Undetected));
            }
        }
        let split = split_pairs(model);
        let mut known = KnownEdges::new();
        let mut composite = Vec::new();
        for (m, split) in model.mechanisms.iter().zip(split) {
            let ends = match m.detectors[..] {
                [a] => (a, BOUNDARY),
                [a, b] if !split => (a, b),
                [] => continue,
                _ => {
                    composite.push(m);
                    continue;
                }
            };
            if m.p > 0.0 {
                add_edge(&mut known, ends, m.observables, m.p);
            }
        }
        let mut all = known.clone();
        for m in composite.into_iter().filter(|m| m.p > 0.0) {
            if m.detectors.len() > MAX_DETECTORS {
                return Err(refused(m, MechanismError::TooManyDetectors(MAX_DETECTORS)));
            }
            let mut decomposition = Decomposition { known: &known, parts: Vec::new(), best: None, remnant: None };
            decomposition.run(&m.detectors, m.observables, 0.0);
            if decomposition.best.is_none() {
                let n = m.detectors.len();
                for (i, &first) in m.detectors.iter().enumerate() {
                    for j in i + 1..=n {
                        decomposition.remnant = Some((first, *m.detectors.get(j).unwrap_or(&BOUNDARY)));
                        let rest = m.detectors.iter().enumerate().filter(|(k, _)| *k != i && *k != j);
                        let rest: Vec<u32> = rest.map(|(_, d)| *d).collect();
                        decomposition.run(&rest, m.observables, 0.0);
                    }
                }
            }
            let (.., parts) = decomposition.best.ok_or_else(|| refused(m, MechanismError::NotEdges))?;
            for (ends, observables) in parts {
                add_edge(&mut all, ends, observables, m.p);
            }
        }
        let edges = all.into_iter().map(|((from, to), options)| {
            let best = options.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a });
            let (observables, p) = best.unwrap_or_default();
            Edge { from, to: (to != BOUNDARY).then_some(to), p, observables }
        });
        Ok(Self { detectors: model.detectors, edges: edges.collect() })
    }
}

/// The error of a mechanism that is named as in Stim's format.
fn refused(m: &Mechanism, reason: MechanismError) -> QecError {
    let detectors = m.detectors.iter().map(|d| format!(" D{d}"));
    let observables = (0..64).filter(|o| m.observables >> o & 1 == 1).map(|o| format!(" L{o}"));
    let targets: String = detectors.chain(observables).collect();
    DecoderError::Mechanism { mechanism: format!("error({}){targets}", m.p), reason }.into()
}

fn add_edge(edges: &mut KnownEdges, ends: Ends, observables: u64, p: f64) {
    let options = edges.entry(ends).or_default();
    match options.iter_mut().find(|o| o.0 == observables) {
        Some((_, q)) => *q = *q * (1.0 - p) + p * (1.0 - *q),
        None => options.push((observables, p)),
    }
}

/// Search for the best set of edges that makes up a mechanism.
struct Decomposition<'a> {
    known: &'a KnownEdges,
    parts: Parts,
    /// Whether observables differ, number of parts, weight, parts.
    best: Option<(bool, usize, f64, Parts)>,
    /// An edge that is not known. It flips the observables that the other edges leave.
    remnant: Option<Ends>,
}

impl Decomposition<'_> {
    fn run(&mut self, detectors: &[u32], observables: u64, weight: f64) {
        let Some((&first, rest)) = detectors.split_first() else {
            let (differ, parts) = (observables != 0 && self.remnant.is_none(), self.parts.len());
            if self.best.as_ref().is_none_or(|b| (differ, parts, weight) < (b.0, b.1, b.2)) {
                let remnant = self.remnant.map(|ends| (ends, observables));
                self.best = Some((differ, parts, weight, self.parts.iter().copied().chain(remnant).collect()));
            }
            return;
        };
        let known = self.known;
        for (k, &other) in rest.iter().enumerate() {
            if let Some(options) = known.get(&(first, other)) {
                let mut left = rest.to_vec();
                left.remove(k);
                self.choose((first, other), options, &left, observables, weight);
            }
        }
        if let Some(options) = known.get(&(first, BOUNDARY)) {
            self.choose((first, BOUNDARY), options, rest, observables, weight);
        }
    }

    fn choose(&mut self, ends: Ends, options: &[(u64, f64)], left: &[u32], observables: u64, weight: f64) {
        for &(o, p) in options {
            self.parts.push((ends, o));
            self.run(left, observables ^ o, weight - p.ln());
            self.parts.pop();
        }
    }
}

/// For each mechanism, whether it flips two detectors of different types that can each be flipped alone, with the same
/// observables together. An example is a Y error at a corner, which is an edge of neither type's graph.
fn split_pairs(model: &DetectorErrorModel) -> Vec<bool> {
    let mut alone = BTreeMap::<u32, Vec<u64>>::new();
    for m in &model.mechanisms {
        if let [d] = m.detectors[..] {
            alone.entry(d).or_default().push(m.observables);
        }
    }
    let splits = |m: &Mechanism| match m.detectors[..] {
        [a, b] => match (alone.get(&a), alone.get(&b)) {
            (Some(a), Some(b)) => a.iter().any(|a| b.contains(&(a ^ m.observables))),
            _ => false,
        },
        _ => false,
    };
    let candidate: Vec<bool> = model.mechanisms.iter().map(splits).collect();
    let Some(mut types) = detector_types(model, &candidate, true).or_else(|| detector_types(model, &candidate, false))
    else {
        return vec![false; candidate.len()];
    };
    let pairs = model.mechanisms.iter().zip(candidate);
    pairs.map(|(m, c)| c && types.relation(m.detectors[0], m.detectors[1]) == Some(true)).collect()
}

/// Tells detectors of two types apart, X and Z checks of a code, as far as the model shows: an error flips at most two
/// of each; two that an error flips are of one type, unless the error is two others at once; and so are, if `at_place`,
/// two detectors at one place in space at different times. `None` if these rules contradict each other.
fn detector_types(model: &DetectorErrorModel, candidate: &[bool], at_place: bool) -> Option<DetectorTypes> {
    let mut types = DetectorTypes((0..model.detectors).map(|d| (d, false)).collect());
    if at_place && model.coordinates.len() == model.detectors as usize {
        let mut last = BTreeMap::new();
        for (d, [x, y, _]) in model.coordinates.iter().enumerate() {
            if let Some(e) = last.insert([x.to_bits(), y.to_bits()], d as u32) {
                types.relate(d as u32, e, false)?;
            }
        }
    }
    let mut open = Vec::new();
    for (m, &candidate) in model.mechanisms.iter().zip(candidate) {
        match m.detectors[..] {
            [a, b] if !candidate => _ = types.relate(a, b, false)?,
            [_, _, _] | [_, _, _, _] => open.push(&m.detectors[..]),
            _ if m.detectors.len() > 4 => return None,
            _ => {}
        }
    }
    loop {
        let mut changed = false;
        for d in &open {
            for i in 0..d.len() {
                for j in 0..i {
                    let Some(differ) = types.relation(d[i], d[j]) else { continue };
                    let mut rest = (0..d.len()).filter(|k| *k != i && *k != j);
                    if !differ {
                        for k in rest {
                            changed |= types.relate(d[i], d[k], true)?;
                        }
                    } else if let (Some(k), Some(l)) = (rest.next(), rest.next()) {
                        changed |= types.relate(d[k], d[l], true)?;
                    }
                }
            }
        }
        if !changed {
            return Some(types);
        }
    }
}

/// Disjoint sets of detectors whose types are known relative to each other. Each detector has another one of its set,
/// and whether that one is of the other type.
struct DetectorTypes(Vec<(u32, bool)>);

impl DetectorTypes {
    fn find(&mut self, d: u32) -> (u32, bool) {
        let (mut root, mut differ) = (d, false);
        while self.0[root as usize].0 != root {
            let (up, other) = self.0[root as usize];
            (root, differ) = (up, differ ^ other);
        }
        self.0[d as usize] = (root, differ);
        (root, differ)
    }

    /// Whether two detectors are of different types, if known.
    fn relation(&mut self, a: u32, b: u32) -> Option<bool> {
        let ((a, x), (b, y)) = (self.find(a), self.find(b));
        (a == b).then_some(x ^ y)
    }

    /// Records that two detectors are of different types or of one; returns whether that was new. `None` if the
    /// contrary is known.
    fn relate(&mut self, a: u32, b: u32, differ: bool) -> Option<bool> {
        let ((a, x), (b, y)) = (self.find(a), self.find(b));
        if a != b {
            self.0[a as usize] = (b, x ^ y ^ differ);
            return Some(true);
        }
        (x ^ y == differ).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::fixtures::surface;

    #[test]
    fn errors_of_the_surface_code_are_edges_of_two_graphs() {
        let model = surface();
        let graph = Graph::new(&model).unwrap();
        // The edges of Stim's decomposed model, read by PyMatching.
        assert_eq!(graph.edges.len(), 78);
        // 16 detectors are of Z checks, 8 of X checks, which are not known in the first and last round.
        let mut reached = vec![false; graph.detectors as usize];
        reached[0] = true;
        for _ in 0..graph.detectors {
            for e in &graph.edges {
                if let Some(to) = e.to {
                    let any = reached[e.from as usize] || reached[to as usize];
                    (reached[e.from as usize], reached[to as usize]) = (any, any);
                }
            }
        }
        assert!([8, 16].contains(&reached.iter().filter(|r| **r).count()));
    }

    #[test]
    fn parallel_edges_are_one_and_others_are_named() {
        let error = |p, detectors: &[u32], observables| Mechanism { p, detectors: detectors.to_vec(), observables };
        let model =
            |mechanisms| DetectorErrorModel { detectors: 5, observables: 2, mechanisms, coordinates: Vec::new() };
        let parts = [error(0.1, &[0], 1), error(0.2, &[0], 0), error(0.1, &[0, 1], 0), error(0.2, &[2, 3], 2)];
        let with = |more: Mechanism| Graph::new(&model(parts.iter().cloned().chain([more]).collect()));
        let graph = with(error(0.1, &[0, 1, 2, 3], 2)).unwrap();
        let edges: Vec<_> = graph.edges.iter().map(|e| (e.from, e.to, e.observables)).collect();
        assert_eq!(edges, [(0, Some(1), 0), (0, None, 0), (2, Some(3), 2)]);
        assert!((graph.edges[0].p - 0.18).abs() < 1e-12 && (graph.edges[2].p - 0.26).abs() < 1e-12);
        // What is left of a mechanism without its known part is an edge.
        let graph = with(error(0.1, &[1, 2, 3], 1)).unwrap();
        assert!(graph.edges.iter().any(|e| (e.from, e.to, e.observables, e.p) == (1, None, 3, 0.1)), "{graph:?}");
        // The boundary edge with the observables that fit is taken, though it is less probable.
        let graph = with(error(0.15, &[0, 2, 3], 3)).unwrap();
        assert_eq!((graph.edges[1].observables, graph.edges[1].p), (1, 0.1 * 0.85 + 0.15 * 0.9));
        for (bad, named) in [
            (error(0.1, &[1, 3, 4], 0), "error(0.1) D1 D3 D4"),
            (error(0.6, &[1], 3), "error(0.6) D1 L0 L1"),
            (error(0.1, &[5], 0), "D5"),
            (error(0.1, &[], 1), "error(0.1) L0"),
        ] {
            let error = with(bad).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}

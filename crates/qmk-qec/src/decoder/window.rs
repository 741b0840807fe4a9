//! Sliding-window matching of long memories (Dennis et al., J. Math. Phys. 43, 4452 (2002), section VI B; Skoric et
//! al., Nat. Commun. 14, 7040 (2023)).

use super::decode::Decoder;
use super::graph::{Edge, Graph};
use super::matching::Matching;
use crate::dem::DetectorErrorModel;
use crate::error::{DecoderError, QecError};
use qmk_sim::sets::drop_pairs;
use std::sync::Arc;

/// Matching, window by window. A window matches `commit + buffer` rounds and commits the errors of the first `commit`
/// rounds. The detectors that the committed errors do not explain go to the next window. The last window commits all
/// errors.
#[derive(Clone)]
pub struct SlidingWindow {
    plan: Arc<Plan>,
    matchings: Vec<Matching>,
    /// Detectors that fired and are not explained yet, in the numbers of the whole graph and of the window.
    open: Vec<u32>,
    seen: Vec<u32>,
    chosen: Vec<u32>,
    fired: Vec<u32>,
}

struct Plan {
    graph: Graph,
    round: Vec<i64>,
    windows: Vec<WindowView>,
}

/// One window of the graph.
struct WindowView {
    /// Errors that touch rounds before this one are committed. The window ends before round `end`.
    commit: i64,
    end: i64,
    matching: usize,
    /// Detectors and edges in the numbers of the whole graph.
    detectors: Vec<u32>,
    edges: Vec<u32>,
}

/// The errors that a window committed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Committed<'a> {
    /// All errors that touch detectors of earlier rounds than this are committed.
    pub before: i64,
    /// Observables that the errors flip, one bit each.
    pub observables: u64,
    /// The errors: numbers of edges in [`Graph::edges`] of [`SlidingWindow::graph`].
    pub edges: &'a [u32],
}

impl SlidingWindow {
    /// The decoder of a model, with sizes in rounds. The third coordinate of a detector, rounded down, is its round.
    ///
    /// # Errors
    /// [`QecError::Decoder`]: those of [`Matching::new`]; a commit region of no round; coordinates that are missing or
    /// no rounds.
    pub fn new(model: &DetectorErrorModel, commit: u32, buffer: u32) -> Result<Self, QecError> {
        if commit == 0 {
            return Err(DecoderError::NoCommitRegion.into());
        }
        if model.coordinates.len() != model.detectors as usize {
            let (detectors, coordinates) = (model.detectors, model.coordinates.len());
            return Err(DecoderError::Coordinates { detectors, coordinates }.into());
        }
        if let Some(d) = model.coordinates.iter().position(|c| c[2].is_nan() || c[2].abs() > (1u64 << 52) as f64) {
            return Err(DecoderError::Round { detector: d, time: model.coordinates[d][2] }.into());
        }
        let graph = Graph::new(model)?;
        let round: Vec<i64> = model.coordinates.iter().map(|c| c[2].floor() as i64).collect();
        let (first, last) = (round.iter().min().copied().unwrap_or(0), round.iter().max().copied().unwrap_or(0));
        let mut by_round: Vec<u32> = (0..model.detectors).collect();
        by_round.sort_by_key(|d| round[*d as usize]);
        let earliest =
            |e: &Edge| e.to.map_or(round[e.from as usize], |d| round[d as usize].min(round[e.from as usize]));
        let mut edges_by_round: Vec<u32> = (0..graph.edges.len() as u32).collect();
        edges_by_round.sort_by_key(|e| earliest(&graph.edges[*e as usize]));
        let (mut windows, mut matchings) = (Vec::new(), Vec::<Matching>::new());
        let mut start = first;
        loop {
            let mut end = start + commit as i64 + buffer as i64;
            let mut until = start + commit as i64;
            if end > last {
                (until, end) = (last + 1, last + 1);
            }
            let from = by_round.partition_point(|d| round[*d as usize] < start);
            let to = by_round.partition_point(|d| round[*d as usize] < end);
            let mut detectors = by_round[from..to].to_vec();
            detectors.sort_unstable();
            // Edges to earlier rounds are committed. An edge to a later round leads to the boundary of the window.
            let from = edges_by_round.partition_point(|e| earliest(&graph.edges[*e as usize]) < start);
            let to = edges_by_round.partition_point(|e| earliest(&graph.edges[*e as usize]) < end);
            let mut near: Vec<(Edge, u32)> = Vec::with_capacity(to - from);
            for &k in &edges_by_round[from..to] {
                let e = graph.edges[k as usize];
                let mut seen = [Some(e.from), e.to].map(|d| detectors.binary_search(&d?).ok().map(|d| d as u32));
                seen.sort_by_key(|d| d.is_none());
                if let [Some(from), to] = seen {
                    near.push((Edge { from, to, ..e }, k));
                }
            }
            // Of several edges that now lead to the boundary the most probable stands for all.
            near.sort_by(|(a, _), (b, _)| {
                let ends = |e: &Edge| (e.from, e.to.unwrap_or(u32::MAX));
                ends(a).cmp(&ends(b)).then(b.p.total_cmp(&a.p))
            });
            near.dedup_by_key(|(e, _)| (e.from, e.to));
            let (local, edges) = near.into_iter().unzip();
            let local = Graph { detectors: detectors.len() as u32, edges: local };
            let matching = match matchings.iter().position(|m| equal_but_for_rounding(m.graph(), &local)) {
                Some(matching) => matching,
                None => {
                    matchings.push(Matching::of(local)?);
                    matchings.len() - 1
                }
            };
            windows.push(WindowView { commit: until, end, matching, detectors, edges });
            if until > last {
                break;
            }
            start = until;
        }
        let plan = Arc::new(Plan { graph, round, windows });
        Ok(Self { plan, matchings, open: Vec::new(), seen: Vec::new(), chosen: Vec::new(), fired: Vec::new() })
    }

    /// The graph of the whole history.
    pub fn graph(&self) -> &Graph {
        &self.plan.graph
    }

    /// Decodes a history, given the detectors that fired, ascending, and reports each window in order of time.
    pub fn commit(&mut self, fired: &[u32], mut report: impl FnMut(Committed<'_>)) {
        let plan = &*self.plan;
        let round = |d: &u32| plan.round[*d as usize];
        self.fired.clear();
        self.fired.extend(fired.iter().filter(|d| **d < plan.graph.detectors));
        if !self.fired.is_sorted_by_key(round) {
            self.fired.sort_by_key(round);
        }
        self.open.clear();
        let mut next = 0;
        for view in &plan.windows {
            let more = self.fired[next..].iter().take_while(|d| round(d) < view.end);
            let before = self.open.len();
            self.open.extend(more);
            next += self.open.len() - before;
            self.open.sort_unstable();
            drop_pairs(&mut self.open);
            self.seen.clear();
            let local = self.open.iter().filter_map(|d| view.detectors.binary_search(d).ok());
            self.seen.extend(local.map(|d| d as u32));
            self.open.retain(|d| round(d) >= view.commit);
            self.chosen.clear();
            if !self.seen.is_empty() {
                self.matchings[view.matching].decode_edges(&self.seen, &mut self.chosen);
            }
            let mut observables = 0;
            self.chosen.retain_mut(|k| {
                *k = view.edges[*k as usize];
                let e = &plan.graph.edges[*k as usize];
                let ends = [Some(e.from), e.to].into_iter().flatten();
                let decided = ends.clone().any(|d| round(&d) < view.commit);
                if decided {
                    observables ^= e.observables;
                    self.open.extend(ends.filter(|d| round(d) >= view.commit));
                }
                decided
            });
            report(Committed { before: view.commit, observables, edges: &self.chosen });
        }
    }
}

/// Whether graphs are equal but for rounding.
fn equal_but_for_rounding(a: &Graph, b: &Graph) -> bool {
    let same = |(a, b): (&Edge, &Edge)| {
        (a.from, a.to, a.observables) == (b.from, b.to, b.observables) && (a.p - b.p).abs() <= 1e-9 * a.p
    };
    a.detectors == b.detectors && a.edges.len() == b.edges.len() && a.edges.iter().zip(&b.edges).all(same)
}

impl Decoder for SlidingWindow {
    fn decode(&mut self, fired: &[u32]) -> u64 {
        let mut flipped = 0;
        if !fired.is_empty() {
            self.commit(fired, |c| flipped ^= c.observables);
        }
        flipped
    }

    fn another(&self) -> Box<dyn Decoder> {
        Box::new(self.clone())
    }

    fn name(&self) -> &'static str {
        "sliding-window matching"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::fixtures::*;

    #[test]
    fn windows_decode_as_well_as_the_whole_history() {
        let model = repetition(5, 60, 0.03);
        let mut whole = Matching::new(&model).unwrap();
        let mut windows = SlidingWindow::new(&model, 5, 5).unwrap();
        assert_eq!(windows.plan.windows.len(), 12);
        assert!(windows.matchings.len() <= 3, "windows within the history are alike");
        let mut blind = SlidingWindow::new(&model, 1, 0).unwrap();
        let mut random = Random(11);
        let (mut better, mut worse, mut failed, mut blindly) = (0u32, 0u32, 0, 0);
        for _ in 0..6000 {
            let (fired, flipped) = random.shot(&model);
            let a = whole.decode(&fired) != flipped;
            let b = windows.decode(&fired) != flipped;
            better += (a && !b) as u32;
            worse += (b && !a) as u32;
            failed += a as u32;
            blindly += (blind.decode(&fired) != flipped) as u32;
        }
        // False alarm below 1e-4 if neither is better: then each shot on which they differ is a fair coin.
        assert!(
            worse.abs_diff(better) as f64 <= 4.0 * ((worse + better) as f64).sqrt(),
            "{worse} worse, {better} better"
        );
        assert!(failed > 50 && worse + better < failed, "{failed} failed, {worse} worse, {better} better");
        // Without a buffer it is otherwise.
        assert!(blindly > 2 * failed, "{blindly} against {failed}");
    }

    #[test]
    fn one_window_is_the_whole_and_errors_decided_upon_explain_all() {
        for model in [surface(), repetition(4, 9, 0.05)] {
            let mut whole = Matching::new(&model).unwrap();
            let mut one = SlidingWindow::new(&model, 1, 20).unwrap();
            let mut edges = Vec::new();
            let mut random = Random(3);
            for (commit, buffer) in [(1, 0), (1, 1), (2, 0), (2, 3)] {
                let mut windows = SlidingWindow::new(&model, commit, buffer).unwrap();
                for _ in 0..200 {
                    let (fired, _) = random.shot(&model);
                    whole.decode_edges(&fired, &mut edges);
                    one.commit(&fired, |c| assert_eq!(c.edges, edges));
                    assert_eq!(one.decode(&fired), whole.decode(&fired));
                    let mut left = fired.clone();
                    let mut flipped = 0;
                    let graph = windows.graph().clone();
                    let mut last = i64::MIN;
                    windows.commit(&fired, |c| {
                        assert!(c.before > last);
                        last = c.before;
                        let chosen = c.edges.iter().map(|e| graph.edges[*e as usize]);
                        assert_eq!(chosen.clone().fold(0, |a, e| a ^ e.observables), c.observables);
                        chosen.for_each(|e| left.extend([Some(e.from), e.to].into_iter().flatten()));
                        left.sort();
                        drop_pairs(&mut left);
                        let early = left.iter().filter(|d| (model.coordinates[**d as usize][2] as i64) < last);
                        assert_eq!(early.count(), 0, "nothing before the border is left open");
                        flipped ^= c.observables;
                    });
                    assert!(left.is_empty());
                    assert_eq!(windows.decode(&fired), flipped);
                }
            }
        }
    }

    #[test]
    fn bad_sizes_and_places_are_refused() {
        let mut model = repetition(3, 3, 0.01);
        assert!(SlidingWindow::new(&model, 0, 3).is_err());
        model.coordinates[4][2] = f64::NAN;
        assert!(SlidingWindow::new(&model, 1, 3).err().is_some_and(|e| e.to_string().contains("detector 4")));
        model.coordinates.pop();
        assert!(SlidingWindow::new(&model, 1, 3).is_err());
    }
}

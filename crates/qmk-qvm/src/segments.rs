//! Reversible segments: the parts of a graph that can be undone as a whole.

use crate::graph::Graph;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

/// Most steps of all path searches together. A graph that needs more gets smaller segments than it could have.
const STEPS: usize = 20_000_000;

/// A maximal set of reversible nodes that qubits connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Indices of nodes, in textual order.
    pub nodes: Vec<usize>,
    /// Qubits that they act on, in order of first use.
    pub qubits: Vec<String>,
}

/// The reversible segments of a valid graph, in order of their first nodes.
///
/// No dependency path leaves a segment and returns to it, so a segment can be undone without undoing any other node.
/// Nodes without qubits, such as fences, belong to no segment.
pub fn segments(graph: &Graph) -> Vec<Segment> {
    let mut search = Search::new(graph);
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for q in &node.vqs {
            let before = last.insert(q, i);
            if let Some(before) = before.filter(|&b| b != i) {
                search.link(before, i);
            }
        }
        if !node.op.is_unitary() {
            continue;
        }
        search.segment[i] = Some(search.members.len());
        search.members.push(vec![i]);
        search.spans.push((i, i));
        let before = search.before[i].clone();
        for b in before {
            if let (Some(s), Some(mine)) = (search.segment[b], search.segment[i])
                && s != mine
                && search.may_join(s, mine)
            {
                search.join(s, mine);
            }
        }
    }
    let mut found: Vec<Segment> = Vec::new();
    for mut nodes in search.members.into_iter().filter(|m| !m.is_empty()) {
        nodes.sort_unstable();
        let mut qubits: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        for q in nodes.iter().flat_map(|&n| &graph.nodes[n].vqs) {
            if seen.insert(q.as_str()) {
                qubits.push(q.clone());
            }
        }
        found.push(Segment { nodes, qubits });
    }
    found.sort_by_key(|s| s.nodes[0]);
    found
}

/// The segments so far, and the dependencies between nodes.
struct Search {
    /// Nodes that each node depends on directly.
    before: Vec<Vec<usize>>,
    /// Nodes that depend on it directly, among those read so far.
    after: Vec<Vec<usize>>,
    /// Segment of each node, if it is in one.
    segment: Vec<Option<usize>>,
    /// Nodes of each segment; empty once it was joined to another.
    members: Vec<Vec<usize>>,
    /// First and last node of each segment, in textual order.
    spans: Vec<(usize, usize)>,
    /// Whether every node stands behind its dependencies in the text.
    ordered: bool,
    /// Round of the search that visited each node last.
    seen: Vec<usize>,
    round: usize,
    steps: usize,
}

impl Search {
    fn new(graph: &Graph) -> Search {
        let n = graph.nodes.len();
        let mut search = Search {
            before: vec![Vec::new(); n],
            after: vec![Vec::new(); n],
            segment: vec![None; n],
            members: Vec::new(),
            spans: Vec::new(),
            ordered: true,
            seen: vec![0; n],
            round: 0,
            steps: 0,
        };
        let mut writer: HashMap<&str, usize> = HashMap::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            node.produces.iter().for_each(|e| _ = writer.insert(e, i));
        }
        // A channel orders the nodes that use it, as a qubit does.
        let mut channels: HashMap<&str, usize> = HashMap::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            let mut read = |e: &str| {
                if let Some(&w) = writer.get(e) {
                    search.link(w, i);
                    search.ordered &= w < i;
                }
            };
            node.inputs.iter().for_each(|e| read(e));
            if let Some(guard) = &node.guard {
                guard.events(&mut |e| read(e));
            }
            for c in &node.chs {
                if let Some(w) = channels.insert(c, i) {
                    search.link(w, i);
                }
            }
        }
        search
    }

    fn link(&mut self, before: usize, after: usize) {
        self.before[after].push(before);
        self.after[before].push(after);
    }

    /// Whether no path leaves the union of two segments and returns to it. Such a path starts or ends in the smaller
    /// segment, so the search starts there, in both directions.
    fn may_join(&mut self, a: usize, b: usize) -> bool {
        let (small, large) = if self.members[a].len() < self.members[b].len() { (a, b) } else { (b, a) };
        let spans = (self.spans[large].0.min(self.spans[small].0), self.spans[large].1.max(self.spans[small].1));
        !self.has_path(small, large, spans, false) && !self.has_path(small, large, spans, true)
    }

    /// Whether a path leads from segment `from` through other nodes to either segment, along or against the
    /// dependencies. A search that runs out of steps answers yes.
    fn has_path(&mut self, from: usize, to: usize, (first, last): (usize, usize), forwards: bool) -> bool {
        self.round += 1;
        let next = if forwards { &self.after } else { &self.before };
        let inside = |n: usize| self.segment[n] == Some(from) || self.segment[n] == Some(to);
        let mut open: Vec<usize> = Vec::new();
        for &n in &self.members[from] {
            self.steps += 1 + next[n].len();
            open.extend(next[n].iter().filter(|&&p| !inside(p)));
        }
        while let Some(n) = open.pop() {
            self.steps += 1;
            if self.steps > STEPS {
                return true;
            }
            if self.seen[n] == self.round || (self.ordered && (n < first || n > last)) {
                continue;
            }
            self.seen[n] = self.round;
            for &p in &next[n] {
                if inside(p) {
                    return true;
                }
                open.push(p);
            }
        }
        false
    }

    /// Moves the smaller segment into the larger.
    fn join(&mut self, a: usize, b: usize) {
        let (into, from) = if self.members[a].len() >= self.members[b].len() { (a, b) } else { (b, a) };
        let moved = std::mem::take(&mut self.members[from]);
        for &n in &moved {
            self.segment[n] = Some(into);
        }
        self.members[into].extend(moved);
        let (a, b) = (self.spans[into], self.spans[from]);
        self.spans[into] = (a.0.min(b.0), a.1.max(b.1));
    }
}

#[cfg(test)]
mod tests {
    use super::segments;
    use crate::{Format, ParseOptions, parse};

    /// Ids of the nodes of each segment.
    fn of(text: &str) -> Vec<String> {
        let graph = parse(text, Format::Asm, &ParseOptions::default()).unwrap();
        let ids = |s: super::Segment| s.nodes.iter().map(|&n| graph.nodes[n].id.clone()).collect::<Vec<_>>().join(" ");
        segments(&graph).into_iter().map(ids).collect()
    }

    const ALLOC: &str = "al: ALLOC_LQ -> a, b, c\n";

    #[test]
    fn qubits_connect_and_measurements_part() {
        let text =
            format!("{ALLOC}h: APPLY_H a\ncx: APPLY_CNOT a, b\nm: MEASURE_Z a -> e\nx: APPLY_X a\ny: APPLY_Y c\n");
        assert_eq!(of(&text), ["h cx", "x", "y"]);
    }

    #[test]
    fn a_segment_has_no_way_around_through_a_measurement() {
        // x depends on the outcome of a qubit that cx acted on.
        let text = format!("{ALLOC}cx: APPLY_CNOT a, b\nm: MEASURE_Z a -> e\nx: APPLY_X b if e == 1\n");
        assert_eq!(of(&text), ["cx", "x"]);
        // The same without the outcome.
        let text = format!("{ALLOC}cx: APPLY_CNOT a, b\nm: MEASURE_Z a -> e\nx: APPLY_X b\n");
        assert_eq!(of(&text), ["cx x"]);
        // Two halves that meet again, one of which was reset meanwhile.
        let text = format!("{ALLOC}one: APPLY_CNOT a, b\nr: RESET b\nh: APPLY_H b\ntwo: APPLY_CNOT a, b\n");
        assert_eq!(of(&text), ["one", "h two"]);
        // What was reset has nothing to do with the other half.
        let text = format!("{ALLOC}g: APPLY_H a\nr: RESET b\nh: APPLY_H b\ntwo: APPLY_CNOT a, b\n");
        assert_eq!(of(&text), ["g h two"]);
    }

    #[test]
    fn many_nodes_do_not_take_long() {
        let mut text = String::from("ALLOC_LQ -> a, b\n");
        for i in 0..20_000 {
            text += &format!("APPLY_CNOT a, b\nMEASURE_Z a -> e{i}\nAPPLY_X b if e{i} == 1\n");
        }
        let graph = parse(&text, Format::Asm, &ParseOptions::default()).unwrap();
        let start = std::time::Instant::now();
        assert_eq!(segments(&graph).len(), 20_001);
        // One segment of many qubits, each of which had a gate of its own before.
        let mut text =
            format!("ALLOC_LQ n=20000 -> {}\n", (0..20_000).map(|i| format!("q{i}")).collect::<Vec<_>>().join(", "));
        (0..20_000).for_each(|i| text += &format!("APPLY_H q{i}\n"));
        (1..20_000).for_each(|i| text += &format!("APPLY_CNOT q0, q{i}\n"));
        let graph = parse(&text, Format::Asm, &ParseOptions::default()).unwrap();
        assert_eq!(segments(&graph).iter().map(|s| s.nodes.len()).collect::<Vec<_>>(), [39_999]);
        assert!(start.elapsed().as_secs() < 20);
    }
}

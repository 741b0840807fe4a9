//! Minimum-weight matching of a few nodes, each to another or to the boundary.
//!
//! Edmonds' blossom algorithm (Can. J. Math. 17, 449 (1965)) grown from one free node at a time, with Galil's
//! bookkeeping (ACM Comput. Surv. 18, 23 (1986)): a dual that changes as the tree grows is stored as its value at time
//! 0, so that a step costs one pass over the nodes. The boundary is a node of dual 0 that takes any number of partners.

/// Partner of a node that is matched to the boundary.
pub(super) const BOUNDARY: u32 = u32::MAX;
/// Partner of a node that cannot be matched.
pub(super) const UNMATCHED: u32 = u32::MAX - 1;
/// Weight of an absent edge. Sums of four stay in range.
pub(super) const UNREACHABLE: i32 = i32::MAX / 4;

const NONE: u32 = u32::MAX;
const OUTSIDE: (u32, u32) = (NONE, NONE);

#[derive(Clone, Copy, PartialEq)]
enum Label {
    Free,
    /// Even distance from the root: its dual grows.
    Outer,
    /// Odd distance from the root: its dual shrinks.
    Inner,
}

/// A node or a blossom.
#[derive(Clone)]
struct Node {
    label: Label,
    /// Edge towards the root of the tree: the node outside, the node inside.
    up: (u32, u32),
    /// The node whose partner is outside.
    base: u32,
    parent: u32,
    /// Dual; of a labelled blossom, its value at time 0.
    dual: i32,
    /// Nodes inside.
    leaves: Vec<u32>,
    /// Odd cycle of nodes and blossoms, the one with the base first.
    children: Vec<u32>,
    /// Edges between a child and the next.
    cycle_edges: Vec<(u32, u32)>,
}

/// Work space of the algorithm.
#[derive(Clone, Default)]
pub(super) struct Blossom {
    nodes: Vec<Node>,
    unused: Vec<u32>,
    /// Outermost blossom of each node.
    top: Vec<u32>,
    mate: Vec<u32>,
    /// Sum of the duals of a node and all blossoms around it; of a node in the tree, its value at time 0.
    dual_sum: Vec<i32>,
    /// Time at which the nearest outer node is reached, and that node. Of inner nodes, the slack towards it, which does
    /// not change.
    reach: Vec<i32>,
    from: Vec<u32>,
    /// 0 if free, else the largest number.
    taken: Vec<i32>,
    /// Outer nodes in the order in which they became so, with twice the time when one meets an earlier one, and that
    /// one.
    outer: Vec<(u32, i32, u32)>,
    /// Time at which an outer node first reaches the boundary, and that node.
    edge: (i32, u32),
}

impl Blossom {
    /// Partners of `boundary.len()` nodes: other nodes, [`BOUNDARY`] or [`UNMATCHED`], of least total weight. `weight`
    /// is the symmetric matrix of even weights, row by row, with [`UNREACHABLE`] on the diagonal and where there is no
    /// edge.
    pub(super) fn solve(&mut self, weight: &[i32], boundary: &[i32]) -> &[u32] {
        let n = boundary.len();
        for v in self.nodes.len()..2 * n {
            let node = Node {
                label: Label::Free,
                up: OUTSIDE,
                base: v as u32,
                parent: NONE,
                dual: 0,
                leaves: vec![v as u32],
                children: Vec::new(),
                cycle_edges: Vec::new(),
            };
            self.nodes.push(node);
        }
        for (v, node) in self.nodes[..n].iter_mut().enumerate() {
            (node.label, node.base, node.parent, node.dual) = (Label::Free, v as u32, NONE, 0);
            node.leaves.clear();
            node.leaves.push(v as u32);
        }
        self.unused.clear();
        self.unused.extend(n as u32..2 * n as u32);
        self.top.clear();
        self.top.extend(0..n as u32);
        self.mate.clear();
        self.mate.resize(n, UNMATCHED);
        self.taken.clear();
        self.taken.resize(n, 0);
        self.from.resize(n, 0);
        self.reach.resize(n, 0);
        // Duals grow to half of the nearest weight, then as far as each can; most nodes find their partner so.
        self.dual_sum.clear();
        self.dual_sum.extend(weight.chunks_exact(n).zip(boundary).map(|(row, b)| {
            let nearest = row.iter().fold(UNREACHABLE, |a, w| a.min(*w));
            (nearest / 2).min(*b)
        }));
        for v in 0..n {
            if self.mate[v] != UNMATCHED {
                continue;
            }
            let row = &weight[v * n..][..n];
            let slack = row.iter().zip(&self.dual_sum).fold(UNREACHABLE, |a, (w, y)| a.min(w - y));
            self.dual_sum[v] = slack.min(boundary[v]);
            if boundary[v] <= slack {
                if boundary[v] < UNREACHABLE {
                    self.mate[v] = BOUNDARY;
                }
            } else if let Some(u) = (0..n).find(|&u| row[u] - self.dual_sum[u] == slack && self.mate[u] >= UNMATCHED) {
                (self.mate[v], self.mate[u]) = (u as u32, v as u32);
            }
        }
        for root in 0..n {
            if self.mate[root] == UNMATCHED {
                self.grow(root, weight, boundary);
            }
        }
        &self.mate
    }

    /// Grows a tree from a node without partner until it finds one.
    fn grow(&mut self, root: usize, weight: &[i32], boundary: &[i32]) {
        let n = boundary.len();
        self.reach.fill(UNREACHABLE);
        self.outer.clear();
        self.edge = (UNREACHABLE, NONE);
        let s = self.top[root];
        self.nodes[s as usize].up = OUTSIDE;
        self.make_outer(s, 0, weight, boundary);
        let mut now = 0;
        loop {
            let nearest = self.reach[..n].iter().zip(&self.taken).fold(i32::MAX, |a, (t, taken)| a.min(*t.max(taken)));
            let meeting = self.first_meeting(weight, n);
            let burst = self.first_burst(n);
            let next = nearest.min(meeting.0).min(self.edge.0).min(burst.0);
            if next >= UNREACHABLE / 2 {
                break;
            }
            now = next;
            if self.edge.0 == now {
                self.augment(self.edge.1, BOUNDARY);
                break;
            }
            if nearest == now {
                let at = (0..n).find(|&v| self.reach[v].max(self.taken[v]) == now);
                let Some(v) = at else { break };
                let (u, t) = (self.from[v], self.top[v]);
                let base = self.nodes[t as usize].base;
                let mate = self.mate[base as usize];
                if mate >= UNMATCHED {
                    self.rotate(t, v as u32);
                    self.mate[v] = u;
                    self.augment(u, v as u32);
                    break;
                }
                self.nodes[t as usize].up = (u, v as u32);
                self.make_inner(t, now);
                let s = self.top[mate as usize];
                self.nodes[s as usize].up = (base, mate);
                self.make_outer(s, now, weight, boundary);
            } else if meeting.0 == now {
                self.shrink(meeting.1, meeting.2, now, weight, boundary);
            } else {
                self.expand(burst.1, now, weight, boundary);
            }
        }
        self.clear_tree(now, n);
    }

    /// When two outer nodes of different blossoms meet first, and which: the edge becomes part of the matching or
    /// closes a cycle.
    fn first_meeting(&mut self, weight: &[i32], n: usize) -> (i32, u32, u32) {
        loop {
            let first = self.outer.iter().enumerate().min_by_key(|(_, o)| o.1);
            let Some((k, &(x, twice, with))) = first.filter(|(_, o)| o.1 < UNREACHABLE / 2) else {
                return (UNREACHABLE, NONE, NONE);
            };
            if self.top[x as usize] != self.top[with as usize] {
                return (twice / 2, x, with);
            }
            // They have come into one blossom since.
            self.outer[k] = self.meeting(x, k, weight, n);
        }
    }

    /// When the dual of an inner blossom becomes 0 first, and of which.
    fn first_burst(&self, n: usize) -> (i32, u32) {
        let mut burst = (UNREACHABLE, NONE);
        for b in n..self.nodes.len().min(2 * n) {
            let node = &self.nodes[b];
            if node.label == Label::Inner && node.parent == NONE && node.dual < burst.0 {
                burst = (node.dual, b as u32);
            }
        }
        burst
    }

    /// Takes all nodes out of the tree. Their duals, kept as they were at time 0, become those of the time `now`.
    fn clear_tree(&mut self, now: i32, n: usize) {
        for v in 0..n {
            let top = self.top[v] as usize;
            match self.nodes[top].label {
                Label::Free => {}
                Label::Outer => self.dual_sum[v] += now,
                Label::Inner => self.dual_sum[v] -= now,
            }
            self.taken[v] = 0;
        }
        for node in &mut self.nodes[..2 * n] {
            node.dual += match node.label {
                Label::Free => 0,
                Label::Outer => now,
                Label::Inner => -now,
            };
            node.label = Label::Free;
        }
    }

    /// Takes a free node or blossom into the tree, at odd distance.
    fn make_inner(&mut self, t: u32, now: i32) {
        let node = &mut self.nodes[t as usize];
        node.label = Label::Inner;
        node.dual += now;
        for &x in &node.leaves {
            let x = x as usize;
            self.dual_sum[x] += now;
            self.reach[x] -= now;
            self.taken[x] = i32::MAX;
        }
    }

    /// Takes a free node or blossom into the tree, at even distance.
    fn make_outer(&mut self, s: u32, now: i32, weight: &[i32], boundary: &[i32]) {
        let node = &mut self.nodes[s as usize];
        node.label = Label::Outer;
        node.dual -= now;
        let leaves = std::mem::take(&mut node.leaves);
        for &x in &leaves {
            self.dual_sum[x as usize] -= now;
            self.taken[x as usize] = i32::MAX;
        }
        leaves.iter().for_each(|&x| self.scan(x, weight, boundary));
        self.nodes[s as usize].leaves = leaves;
    }

    /// Records when a node that has become outer reaches the others.
    fn scan(&mut self, x: u32, weight: &[i32], boundary: &[i32]) {
        let (n, at) = (boundary.len(), x as usize);
        let y = self.dual_sum[at];
        if boundary[at] - y < self.edge.0 {
            self.edge = (boundary[at] - y, x);
        }
        let row = &weight[at * n..][..n];
        for (((w, v), reach), from) in
            row.iter().zip(&self.dual_sum[..n]).zip(&mut self.reach[..n]).zip(&mut self.from[..n])
        {
            let time = w - y - v;
            *from = if time < *reach { x } else { *from };
            *reach = time.min(*reach);
        }
        let first = self.meeting(x, self.outer.len(), weight, n);
        self.outer.push(first);
    }

    /// When an outer node meets the first of the `earlier` ones outside of its blossom.
    fn meeting(&self, x: u32, earlier: usize, weight: &[i32], n: usize) -> (u32, i32, u32) {
        let (row, top) = (&weight[x as usize * n..][..n], self.top[x as usize]);
        let mut first = (x, UNREACHABLE, NONE);
        for &(o, ..) in &self.outer[..earlier] {
            let twice = row[o as usize] - self.dual_sum[x as usize] - self.dual_sum[o as usize];
            if twice < first.1 && self.top[o as usize] != top {
                first = (x, twice, o);
            }
        }
        first
    }

    /// Makes a blossom of the cycle that an edge between two outer nodes closes.
    fn shrink(&mut self, u: u32, v: u32, now: i32, weight: &[i32], boundary: &[i32]) {
        let climb = |nodes: &[Node], top: &[u32], mut at: u32| {
            let mut path = vec![(at, OUTSIDE)];
            while nodes[at as usize].up != OUTSIDE {
                let up = nodes[at as usize].up;
                at = top[up.0 as usize];
                path.push((at, up));
            }
            path
        };
        let mut left = climb(&self.nodes, &self.top, self.top[u as usize]);
        let mut right = climb(&self.nodes, &self.top, self.top[v as usize]);
        while left.len() > 1 && right.len() > 1 && left[left.len() - 2].0 == right[right.len() - 2].0 {
            left.pop();
            right.pop();
        }
        let Some(b) = self.unused.pop() else { return };
        // From the common ancestor down to u, over to v, and up again.
        let node = &mut self.nodes[b as usize];
        let [mut leaves, mut children] = [&mut node.leaves, &mut node.children].map(std::mem::take);
        let mut cycle_edges = std::mem::take(&mut node.cycle_edges);
        leaves.clear();
        children.clear();
        cycle_edges.clear();
        for &(child, up) in left.iter().rev() {
            children.push(child);
            if up != OUTSIDE {
                cycle_edges.push(up);
            }
        }
        cycle_edges.push((u, v));
        for pair in right.windows(2) {
            children.push(pair[0].0);
            cycle_edges.push((pair[1].1.1, pair[1].1.0));
        }
        let mut fresh = Vec::new();
        for &child in &children {
            let child = &mut self.nodes[child as usize];
            child.parent = b;
            for &x in &child.leaves {
                self.top[x as usize] = b;
                if child.label == Label::Inner {
                    self.dual_sum[x as usize] -= 2 * now;
                    fresh.push(x);
                }
            }
            child.dual += if child.label == Label::Inner { -now } else { now };
            child.label = Label::Free;
            leaves.extend_from_slice(&child.leaves);
        }
        let ancestor = &self.nodes[children[0] as usize];
        let (up, base) = (ancestor.up, ancestor.base);
        self.nodes[b as usize] =
            Node { label: Label::Outer, up, base, parent: NONE, dual: -now, leaves, children, cycle_edges };
        fresh.iter().for_each(|&x| self.scan(x, weight, boundary));
    }

    /// Dissolves an inner blossom of dual 0.
    fn expand(&mut self, b: u32, now: i32, weight: &[i32], boundary: &[i32]) {
        let node = &mut self.nodes[b as usize];
        node.label = Label::Free;
        let up = node.up;
        let children = std::mem::take(&mut node.children);
        let cycle_edges = std::mem::take(&mut node.cycle_edges);
        for &child in &children {
            self.nodes[child as usize].parent = NONE;
            for &x in &self.nodes[child as usize].leaves {
                self.top[x as usize] = child;
            }
        }
        // The way of even length from where the tree enters to the base stays in the tree.
        let entry = self.top[up.1 as usize];
        let Some(mut at) = children.iter().position(|&k| k == entry) else { return };
        let forward = at % 2 == 1;
        let mut reached = up;
        let mut outer = Vec::new();
        let mut inner = true;
        loop {
            let child = &mut self.nodes[children[at] as usize];
            child.up = reached;
            if inner {
                child.label = Label::Inner;
                child.dual += now;
            } else {
                child.label = Label::Outer;
                outer.push(children[at]);
            }
            if at == 0 {
                break;
            }
            if forward {
                reached = cycle_edges[at];
                at = (at + 1) % children.len();
            } else {
                at -= 1;
                reached = (cycle_edges[at].1, cycle_edges[at].0);
            }
            inner = !inner;
        }
        for &child in &children {
            let node = &self.nodes[child as usize];
            if node.label == Label::Inner {
                continue;
            }
            for &x in &node.leaves {
                let x = x as usize;
                self.dual_sum[x] -= now;
                self.reach[x] += now;
                self.taken[x] = 0;
            }
        }
        for child in outer {
            self.make_outer(child, now, weight, boundary);
        }
        let node = &mut self.nodes[b as usize];
        (node.children, node.cycle_edges) = (children, cycle_edges);
        self.unused.push(b);
    }

    /// Gives an outer node a new partner, and changes partners on the way to the root.
    fn augment(&mut self, mut v: u32, mut partner: u32) {
        loop {
            let s = self.top[v as usize];
            self.rotate(s, v);
            self.mate[v as usize] = partner;
            let up = self.nodes[s as usize].up;
            if up == OUTSIDE {
                return;
            }
            let t = self.top[up.0 as usize];
            let (u, inside) = self.nodes[t as usize].up;
            self.rotate(t, inside);
            self.mate[inside as usize] = u;
            (v, partner) = (u, inside);
        }
    }

    /// Makes a node the base of a blossom.
    fn rotate(&mut self, b: u32, v: u32) {
        if self.nodes[b as usize].base == v {
            return;
        }
        let mut child = v;
        while self.nodes[child as usize].parent != b {
            child = self.nodes[child as usize].parent;
        }
        self.rotate(child, v);
        let node = &mut self.nodes[b as usize];
        node.base = v;
        let mut children = std::mem::take(&mut node.children);
        let mut cycle_edges = std::mem::take(&mut node.cycle_edges);
        let at = children.iter().position(|&k| k == child).unwrap_or(0);
        let pairs = if at % 2 == 1 { at + 1..children.len() } else { 0..at };
        for j in pairs.step_by(2) {
            let (x, y) = cycle_edges[j];
            self.rotate(children[j], x);
            self.rotate(children[(j + 1) % children.len()], y);
            (self.mate[x as usize], self.mate[y as usize]) = (y, x);
        }
        children.rotate_left(at);
        cycle_edges.rotate_left(at);
        let node = &mut self.nodes[b as usize];
        (node.children, node.cycle_edges) = (children, cycle_edges);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Least weight over all ways to pair nodes or send them to the boundary.
    fn exhaustive(weight: &[i32], boundary: &[i32]) -> i64 {
        let n = boundary.len();
        let mut best = vec![0i64; 1 << n];
        for set in 1usize..1 << n {
            let v = set.trailing_zeros() as usize;
            let rest = set & (set - 1);
            let pairs = (v + 1..n).filter(|u| rest >> u & 1 == 1 && weight[v * n + u] < UNREACHABLE);
            let paired = pairs.map(|u| weight[v * n + u] as i64 + best[rest & !(1 << u)]).min();
            best[set] = paired.unwrap_or(i64::MAX / 4).min(boundary[v] as i64 + best[rest]);
        }
        best[(1 << n) - 1]
    }

    #[test]
    fn weights_are_least() {
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let mut blossom = Blossom::default();
        for case in 0..30_000 {
            let n = 1 + next(13) as usize;
            let range = [3, 10, 1000][case % 3];
            let missing = next(8);
            let mut weight = vec![UNREACHABLE; n * n];
            for u in 0..n {
                for v in 0..u {
                    if next(8) >= missing {
                        let w = 2 * next(range) as i32;
                        (weight[u * n + v], weight[v * n + u]) = (w, w);
                    }
                }
            }
            let none = case % 5 == 0 && n.is_multiple_of(2) && missing == 0;
            let far = 1 + next(3);
            let boundary: Vec<i32> = (0..n)
                .map(|_| if none { UNREACHABLE } else { (next(range * far) + range / 2 * (case as u64 % 2)) as i32 })
                .collect();
            let mates = blossom.solve(&weight, &boundary);
            let mut total = 0i64;
            for (v, &mate) in mates.iter().enumerate() {
                if mate == BOUNDARY {
                    total += boundary[v] as i64;
                } else {
                    assert_eq!(mates[mate as usize] as usize, v, "case {case}: partners agree");
                    total += if (mate as usize) < v { weight[v * n + mate as usize] as i64 } else { 0 };
                }
            }
            assert_eq!(total, exhaustive(&weight, &boundary), "case {case}: {n} nodes {weight:?} {boundary:?}");
        }
    }

    #[test]
    fn an_odd_node_without_boundary_stays_alone() {
        let weight = [UNREACHABLE, 2, 4, 2, UNREACHABLE, 6, 4, 6, UNREACHABLE];
        let mates = Blossom::default().solve(&weight, &[UNREACHABLE; 3]).to_vec();
        assert_eq!(mates.iter().filter(|m| **m == UNMATCHED).count(), 1);
    }
}

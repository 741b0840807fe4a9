//! Shortest undetected logical errors.

use crate::dem::DetectorErrorModel;
use std::collections::VecDeque;

/// The least number of mechanisms, each of at most two detectors, that flip an observable and no detector; `None` if no
/// set of mechanisms does. Mechanisms of more detectors are left out, as in Stim's `shortest_graphlike_error`.
pub fn graphlike_distance(model: &DetectorErrorModel) -> Option<u32> {
    let boundary = model.detectors as usize;
    let mut edges: Vec<Vec<(usize, u64)>> = vec![Vec::new(); boundary + 1];
    let mut flipping = Vec::new();
    for m in &model.mechanisms {
        let (a, b) = match m.detectors[..] {
            [] if m.observables != 0 => return Some(1),
            [a] => (a as usize, boundary),
            [a, b] => (a as usize, b as usize),
            _ => continue,
        };
        edges[a].push((b, m.observables));
        edges[b].push((a, m.observables));
        flipping.extend((m.observables != 0).then_some((a, m.observables)));
    }
    flipping.sort_unstable();
    flipping.dedup();
    let mut best: Option<u32> = None;
    let mut queue = VecDeque::new();
    for observable in 0..model.observables {
        let mut starts: Vec<usize> = flipping.iter().filter(|f| f.1 >> observable & 1 == 1).map(|f| f.0).collect();
        starts.dedup();
        // Any such error is a closed walk through an edge that flips the observable: from one end, an odd number of
        // flips leads back.
        for start in starts {
            let mut steps = vec![[u32::MAX; 2]; edges.len()];
            steps[start][0] = 0;
            queue.clear();
            queue.push_back((start, 0));
            while let Some((node, parity)) = queue.pop_front() {
                let next = steps[node][parity] + 1;
                if best.is_some_and(|b| next >= b) {
                    break;
                }
                for &(other, observables) in &edges[node] {
                    let parity = parity ^ (observables >> observable & 1) as usize;
                    if steps[other][parity] == u32::MAX {
                        steps[other][parity] = next;
                        queue.push_back((other, parity));
                    }
                }
            }
            if steps[start][1] != u32::MAX {
                best = Some(best.map_or(steps[start][1], |b| b.min(steps[start][1])));
            }
        }
    }
    best
}

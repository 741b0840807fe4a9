//! Dijkstra's algorithm on the arcs of a matching graph.

use crate::decoder::blossom::{BOUNDARY, UNREACHABLE};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Slot of where a search began.
pub(super) const NO_ARC: u16 = u16::MAX;

#[derive(Clone, Copy)]
pub(super) struct GraphArc {
    pub(super) to: u32,
    pub(super) weight: i32,
    pub(super) edge: u32,
    pub(super) observables: u64,
}

/// Dijkstra's algorithm.
#[derive(Clone, Default)]
pub(super) struct Search {
    pub(super) distance: Vec<i32>,
    pub(super) back: Vec<u16>,
    pub(super) touched: Vec<u32>,
    pub(super) queue: BinaryHeap<Reverse<(i32, u32)>>,
}

impl Search {
    /// Finds nodes up to a distance, or until `target` is reached. Ties are decided by the start alone.
    pub(super) fn run(&mut self, starts: &[u32], arcs: &[GraphArc], from: u32, radius: i32, target: u32) {
        for v in self.touched.drain(..) {
            self.distance[v as usize] = UNREACHABLE;
        }
        self.queue.clear();
        self.distance.resize(starts.len() - 1, UNREACHABLE);
        self.back.resize(starts.len() - 1, NO_ARC);
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
            for arc in &arcs[starts[v as usize] as usize..starts[v as usize + 1] as usize] {
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
                    let arcs = &arcs[starts[to] as usize..starts[to + 1] as usize];
                    self.back[to] = arcs.iter().position(|a| a.to == v).unwrap_or(0) as u16;
                    self.queue.push(Reverse((next, arc.to)));
                }
            }
        }
    }
}

//! Which instructions of a program may be issued: a dataflow frontier.

use crate::image::dataflow::Flow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BinaryHeap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use qmk_abi::image::Op;

/// Ready instructions by what they may have to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing.
    Plain = 0,
    /// Routing.
    Routed = 1,
    /// Magic states, and maybe routing.
    Magic = 2,
}

impl Class {
    fn of(op: &Op) -> Class {
        match op {
            Op::T(_) | Op::Tdg(_) | Op::Rotate(..) | Op::Ccz(..) | Op::Toffoli(..) | Op::InjectT(_) => Class::Magic,
            Op::MeasureAngle(..) => Class::Magic,
            Op::Clifford2(..) | Op::TeleportCnot(..) | Op::MeasureBell(..) => Class::Routed,
            _ => Class::Plain,
        }
    }
}

/// Those of the longest remaining path first, then in program order.
type Ranked = BinaryHeap<(u32, Reverse<u32>)>;

/// Where resources are short, the order of issue decides how long a program takes; elsewhere order costs more than it
/// brings.
#[derive(Debug)]
struct Ranking {
    heights: Arc<Vec<u32>>,
    queues: Box<[Ranked; 3]>,
}

fn queue_mut([plain, routed, magic]: &mut [Ranked; 3], class: Class) -> &mut Ranked {
    match class {
        Class::Plain => plain,
        Class::Routed => routed,
        Class::Magic => magic,
    }
}

/// Instructions that are under way, by the epoch in which they complete: the next one first.
#[derive(Debug, Default)]
pub(crate) struct InFlight(VecDeque<Vec<u32>>);

impl InFlight {
    /// An instruction that completes after so many epochs, at once if they are none.
    #[inline]
    pub(crate) fn launch(&mut self, frontier: &mut Frontier, flow: &Flow, index: u32, cycles: usize) {
        let Some(last) = cycles.checked_sub(1) else { return frontier.complete(flow, index) };
        if self.0.len() < cycles {
            self.0.resize_with(cycles, Vec::new);
        }
        if let Some(due) = self.0.get_mut(last) {
            due.push(index);
        }
    }

    /// Begins an epoch: completes what is due in it.
    #[inline]
    pub(crate) fn land(&mut self, frontier: &mut Frontier, flow: &Flow) {
        if let Some(mut due) = self.0.pop_front() {
            due.drain(..).for_each(|index| frontier.complete(flow, index));
            // Its memory is used again.
            self.0.push_back(due);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flatten().copied()
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        for due in &mut self.0 {
            due.retain(|&index| keep(index));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Frontier {
    /// How many completions each instruction still waits for.
    waiting_for: Vec<u32>,
    /// Ready, in order of readiness; with a ranking, by rank instead.
    pub(crate) fifo: Vec<u32>,
    ranking: Option<Ranking>,
    /// Ready but behind a fence, by segment.
    parked: BTreeMap<usize, Vec<u32>>,
    segment: usize,
    segment_end: u32,
    pub(crate) completed: u32,
    /// Whether to stop at the next fence.
    hold: bool,
}

impl Frontier {
    /// The frontier once all before a fence segment is complete, held there if asked. With `heights`, instructions are
    /// ranked.
    pub(crate) fn new(flow: &Flow, heights: Option<Arc<Vec<u32>>>, segment: usize, hold: bool) -> Self {
        let ranking = heights.map(|heights| Ranking { heights, queues: Box::default() });
        let (start, segment) = match segment.checked_sub(1) {
            Some(before) => (flow.segment_end(before).unwrap_or(0), before),
            None => (0, 0),
        };
        let mut frontier = Frontier {
            waiting_for: flow.predecessors.clone(),
            fifo: Vec::new(),
            ranking,
            parked: BTreeMap::new(),
            segment,
            segment_end: flow.segment_end(segment).unwrap_or(0),
            completed: start,
            hold,
        };
        for i in 0..start {
            flow.for_each_successor(i, |next| frontier.satisfy(next));
        }
        for i in start..flow.image.code.len() as u32 {
            if frontier.waiting_for.get(i as usize) == Some(&0) {
                frontier.make_ready(flow, i);
            }
        }
        frontier.pass_fences(flow);
        frontier
    }

    #[inline]
    fn satisfy(&mut self, index: u32) {
        if let Some(left) = self.waiting_for.get_mut(index as usize) {
            *left -= 1;
        }
    }

    #[inline]
    fn make_ready(&mut self, flow: &Flow, index: u32) {
        // Nothing before the current segment is left.
        if index >= self.segment_end {
            self.parked.entry(flow.segment(index)).or_default().push(index);
            return;
        }
        match &mut self.ranking {
            None => self.fifo.push(index),
            Some(Ranking { heights, queues }) => {
                let class = flow.image.code.get(index as usize).map_or(Class::Plain, |i| Class::of(&i.op));
                let height = heights.get(index as usize).copied().unwrap_or(0);
                queue_mut(queues, class).push((height, Reverse(index)));
            }
        }
    }

    #[inline]
    fn pass_fences(&mut self, flow: &Flow) {
        if self.completed == self.segment_end {
            self.pass(flow);
        }
    }

    #[cold]
    fn pass(&mut self, flow: &Flow) {
        while self.completed == self.segment_end {
            let Some(end) = flow.segment_end(self.segment + 1) else { return };
            if self.hold {
                return;
            }
            self.segment += 1;
            self.segment_end = end;
            for index in self.parked.remove(&self.segment).into_iter().flatten() {
                self.make_ready(flow, index);
            }
        }
    }

    #[inline]
    pub(crate) fn complete(&mut self, flow: &Flow, index: u32) {
        flow.for_each_successor(index, |next| {
            if let Some(left) = self.waiting_for.get_mut(next as usize) {
                *left -= 1;
                if *left == 0 {
                    self.make_ready(flow, next);
                }
            }
        });
        self.completed += 1;
        self.pass_fences(flow);
    }

    /// Stops at the next fence, or goes on.
    pub(crate) fn set_hold(&mut self, flow: &Flow, hold: bool) {
        self.hold = hold;
        self.pass_fences(flow);
    }

    /// The segment behind the fence that it is held at.
    pub(crate) fn held_at(&self, flow: &Flow) -> Option<usize> {
        let next = self.segment + 1;
        (self.hold && self.completed == self.segment_end && flow.segment_end(next).is_some()).then_some(next)
    }

    pub(crate) fn is_done(&self, flow: &Flow) -> bool {
        self.completed as usize == flow.image.code.len()
    }

    pub(crate) fn is_ranked(&self) -> bool {
        self.ranking.is_some()
    }

    /// Whether anything is ready.
    pub(crate) fn is_ready(&self) -> bool {
        !self.fifo.is_empty() || self.ranking.as_ref().is_some_and(|r| r.queues.iter().any(|q| !q.is_empty()))
    }

    /// Longest remaining path of what is ready, if that is known.
    pub(crate) fn height(&self) -> Option<u32> {
        let queues = &self.ranking.as_ref()?.queues;
        Some(queues.iter().filter_map(|q| Some(q.peek()?.0)).fold(0, u32::max))
    }

    /// The first ready instruction of a class by rank, with its height.
    #[inline]
    pub(crate) fn first(&self, class: Class) -> Option<(u32, u32)> {
        let [plain, routed, magic] = &*self.ranking.as_ref()?.queues;
        let queue = match class {
            Class::Plain => plain,
            Class::Routed => routed,
            Class::Magic => magic,
        };
        queue.peek().map(|&(height, Reverse(index))| (height, index))
    }

    /// Takes out what [`Frontier::first`] shows.
    #[inline]
    pub(crate) fn take(&mut self, class: Class) {
        if let Some(ranking) = &mut self.ranking {
            queue_mut(&mut ranking.queues, class).pop();
        }
    }

    /// Takes issued instructions back, the last one first. `flying` tells which of them were not complete.
    pub(crate) fn take_back(&mut self, flow: &Flow, issued: &[u32], flying: &[u32]) {
        for &index in issued {
            if flying.binary_search(&index).is_err() {
                flow.for_each_successor(index, |next| {
                    if let Some(left) = self.waiting_for.get_mut(next as usize) {
                        *left += 1;
                    }
                });
                self.completed -= 1;
            }
        }
        let start = |segment: usize| segment.checked_sub(1).and_then(|s| flow.segment_end(s)).unwrap_or(0);
        while self.completed < start(self.segment) {
            self.segment -= 1;
        }
        self.segment_end = flow.segment_end(self.segment).unwrap_or(0);
        // What was ready may wait again, and what was issued is ready if nothing before it was taken back.
        let mut ready: Vec<u32> = issued.to_vec();
        ready.extend(core::mem::take(&mut self.parked).into_values().flatten());
        ready.append(&mut self.fifo);
        let queues = self.ranking.iter_mut().flat_map(|r| r.queues.iter_mut());
        ready.extend(queues.flat_map(|q| q.drain()).map(|(_, Reverse(index))| index));
        ready.sort_unstable();
        for index in ready {
            if self.waiting_for.get(index as usize) == Some(&0) {
                self.make_ready(flow, index);
            }
        }
        self.pass_fences(flow);
    }
}

//! The schedule of an image against its dataflow, by which instructions are issued.

extern crate std;

use super::epochs_at_once::program;
use crate::image::dataflow::Flow;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use qmk_abi::image::{Image, Op, Span};
use qmk_testkit::Rng;

/// Cycles that differ between operations and between registers.
fn cycles(op: &Op) -> u32 {
    match op {
        Op::Fence => 0,
        _ => op.operands().0.iter().sum::<u32>() % 4,
    }
}

/// The schedule by the edges of the dataflow and the fences.
fn by_dataflow(image: &Image, flow: &Flow) -> Vec<Span> {
    let mut start = vec![0; image.code.len()];
    let (mut fence, mut last) = (0, 0);
    let mut spans = Vec::new();
    for (at, instr) in image.code.iter().enumerate() {
        if instr.op == Op::Fence {
            fence = last;
        }
        let from = fence.max(start[at]);
        let end = from + cycles(&instr.op);
        flow.for_each_successor(at as u32, |next| start[next as usize] = end.max(start[next as usize]));
        last = last.max(end);
        spans.push(Span { start: from, end });
    }
    spans
}

/// Longest remaining paths by the edges of the dataflow and the fences.
fn heights_by_dataflow(image: &Image, flow: &Flow) -> Vec<u32> {
    let mut heights = vec![0; image.code.len()];
    let (mut behind, mut highest) = (0, 0);
    for (at, instr) in image.code.iter().enumerate().rev() {
        if instr.op == Op::Fence {
            behind = highest;
        }
        let mut height = behind;
        flow.for_each_successor(at as u32, |next| height = height.max(heights[next as usize]));
        heights[at] = height + cycles(&instr.op);
        highest = highest.max(heights[at]);
    }
    heights
}

#[test]
fn the_schedule_is_that_of_the_dataflow() {
    let mut dice = Rng::new(11);
    let (mut waited_for_patch, mut conditional) = (0, 0);
    for _ in 0..20_000 {
        let image = Arc::new(program(&mut dice));
        let patches = image.peak_qubits();
        let flow = Flow::new(image.clone(), patches);
        let mut spans = Vec::new();
        let path = image.schedule(patches, cycles, |_, _, span, _| spans.push(span));
        assert_eq!(spans, by_dataflow(&image, &flow), "{image:?}");
        assert_eq!(path, spans.iter().map(|span| span.end).max().unwrap_or(0));
        let heights = image.heights(patches, cycles);
        assert_eq!(heights, heights_by_dataflow(&image, &flow), "{image:?}");
        // Seen from either end, the longest path is the same.
        assert_eq!(heights.iter().copied().max().unwrap_or(0), path);
        waited_for_patch += usize::from(image.critical_path(u32::MAX, cycles) < path);
        conditional += usize::from(image.code.iter().any(|instr| instr.cond.is_some()));
    }
    assert!(waited_for_patch > 100 && conditional > 100, "{waited_for_patch} {conditional}");
}

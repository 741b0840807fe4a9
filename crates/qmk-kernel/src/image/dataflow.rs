//! What waits for what in an admitted image.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use qmk_abi::image::{CondTerm, Event, Image, Op, Patches};

const NONE: u32 = u32::MAX;

/// Dataflow of an admitted image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow {
    pub(crate) image: Arc<Image>,
    /// How often each instruction is the successor of another.
    pub(crate) predecessors: Vec<u32>,
    /// For each operand of an instruction, the next instruction on that register, or [`NONE`]. For a free, in second
    /// place, the allocation that takes its patch.
    next: Vec<[u32; 3]>,
    /// Conditions of `readers[offsets[e]..offsets[e + 1]]` read event e; one that reads it twice is there twice.
    readers: Vec<u32>,
    offsets: Vec<u32>,
    /// Fences cut the program into segments. A fence is the first instruction of the segment it opens.
    fences: Vec<u32>,
}

impl Flow {
    /// Of an admitted image, which holds so many patches.
    pub(crate) fn new(image: Arc<Image>, patches: u32) -> Self {
        // The instruction that named a register last, and as which operand. A register's users wait in line.
        let mut last = vec![(NONE, 0); image.qubits as usize];
        let mut predecessors = Vec::with_capacity(image.code.len());
        let mut next = vec![[NONE; 3]; image.code.len()];
        let mut reads: Vec<(Event, u32)> = Vec::new();
        let mut fences = Vec::new();
        let mut free = Patches::new(patches);
        for (at, instr) in image.code.iter().enumerate() {
            let at = at as u32;
            let mut waits_for = 0u32;
            for (operand, q) in instr.op.qubits().enumerate() {
                let Some(last) = last.get_mut(q as usize) else { continue };
                let (before, as_operand) = core::mem::replace(last, (at, operand));
                if let Some(next) = next.get_mut(before as usize).and_then(|n| n.get_mut(as_operand)) {
                    *next = at;
                    waits_for += 1;
                }
            }
            match instr.op {
                Op::Free(_) => free.give(at),
                Op::Alloc(_) => {
                    if let Some(next) = free.take().and_then(|free| next.get_mut(free as usize)) {
                        next[1] = at;
                        waits_for += 1;
                    }
                }
                _ => {}
            }
            for term in instr.cond.map_or(&[][..], |c| image.cond_terms(c)) {
                if let CondTerm::Event(e) = *term {
                    reads.push((e, at));
                    waits_for += 1;
                }
            }
            if instr.op == Op::Fence {
                fences.push(at);
            }
            predecessors.push(waits_for);
        }
        let (offsets, readers) = group(&reads, image.events as usize);
        Flow { image, predecessors, next, readers, offsets, fences }
    }

    /// Visits the instructions that wait for this one, as often as they do.
    #[inline]
    pub(crate) fn for_each_successor(&self, index: u32, mut visit: impl FnMut(u32)) {
        let next = self.next.get(index as usize).into_iter().flatten();
        next.copied().filter(|&next| next != NONE).for_each(&mut visit);
        // Most programs have no conditions, and then the instruction itself need not be looked at.
        if !self.readers.is_empty()
            && let Some(instr) = self.image.code.get(index as usize)
        {
            for e in instr.op.writes() {
                let Some(&[from, to]) = self.offsets.get(e as usize..e as usize + 2) else { continue };
                let readers = self.readers.get(from as usize..to as usize).unwrap_or_default();
                readers.iter().copied().for_each(&mut visit);
            }
        }
    }

    /// Fence segment of an instruction.
    pub(crate) fn segment(&self, index: u32) -> usize {
        self.fences.partition_point(|&fence| fence <= index)
    }

    /// One past the last instruction of a fence segment; `None` if there is no such segment.
    pub(crate) fn segment_end(&self, segment: usize) -> Option<u32> {
        match self.fences.get(segment) {
            Some(&fence) => Some(fence),
            None => (segment == self.fences.len()).then_some(self.image.code.len() as u32),
        }
    }
}

/// Values by key, in their order: those of key k are `values[offsets[k]..offsets[k + 1]]`.
fn group(pairs: &[(u32, u32)], keys: usize) -> (Vec<u32>, Vec<u32>) {
    let mut offsets = vec![0u32; keys + 1];
    for &(key, _) in pairs {
        if let Some(count) = offsets.get_mut(key as usize + 1) {
            *count += 1;
        }
    }
    let mut total = 0;
    for offset in &mut offsets {
        total += *offset;
        *offset = total;
    }
    let mut fill = offsets.clone();
    let mut values = vec![0u32; pairs.len()];
    for &(key, value) in pairs {
        let Some(at) = fill.get_mut(key as usize) else { continue };
        if let Some(v) = values.get_mut(*at as usize) {
            *v = value;
        }
        *at += 1;
    }
    (offsets, values)
}

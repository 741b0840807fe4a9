//! Admission: one O(n) pass over an untrusted image, which also computes its dataflow.

use crate::reverse::{Known, after};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use qmk_abi::Rights;
use qmk_abi::image::{CondTerm, Event, Image, ImageError, ImageErrorKind as Kind, Instr, Op};

/// Bounds on what is admitted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Instructions, registers, events and condition terms, each.
    pub size: u32,
    /// Operand depth of a condition.
    pub cond_depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { size: 1 << 22, cond_depth: 1 << 16 }
    }
}

/// An admitted image and its dataflow.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The image, shared with the device.
    pub image: Arc<Image>,
    /// Instruction classes it needs.
    pub classes: Rights,
    /// Most registers allocated at once.
    pub peak_qubits: u32,
    /// Condition terms, counted as often as instructions read them.
    pub terms_read: u32,
    /// Instructions that free a register which is neither measured nor known to be in a basis state.
    pub dirty_frees: u32,
    /// How often each instruction is the successor of another.
    pub(crate) predecessors: Vec<u32>,
    /// For each operand of an instruction, the next instruction on that register, or [`NONE`]. A register's users wait
    /// in line, so the one pass of admission can fill this in as it goes.
    next: Vec<[u32; 3]>,
    /// Conditions of `readers[offsets[e]..offsets[e + 1]]` read event e; one that reads it twice is there twice.
    readers: Vec<u32>,
    offsets: Vec<u32>,
    /// Fences cut the program into segments. A fence is the first instruction of the segment it opens.
    fences: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Admitted {
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

/// What admission knows of a register.
#[derive(Clone, Copy)]
struct Register {
    allocated: bool,
    known: Known,
    /// The instruction that named it last, and as which operand.
    last: u32,
    operand: u8,
}

/// Checks an image against the classes a capability holds.
///
/// # Errors
/// The first violation in program order.
pub fn admit(image: Image, held: Rights, limits: Limits) -> Result<Admitted, ImageError> {
    let n = image.code.len();
    let size = limits.size as usize;
    let too_large = n > size || image.terms.len() > size || image.qubits > limits.size || image.events > limits.size;
    if too_large {
        return Err(ImageError { at: 0, kind: Kind::TooLarge });
    }
    let mut registers =
        vec![Register { allocated: false, known: Known::Basis, last: NONE, operand: 0 }; image.qubits as usize];
    let mut writer = vec![NONE; image.events as usize];
    let mut predecessors = Vec::with_capacity(n);
    let mut next = vec![[NONE; 3]; n];
    let mut reads: Vec<(Event, u32)> = Vec::new();
    let mut fences = Vec::new();
    let (mut allocated, mut peak, mut dirty_frees, mut classes) = (0u32, 0u32, 0u32, Rights::empty());
    let mut terms_read = 0usize;
    for (at, &Instr { op, cond }) in image.code.iter().enumerate() {
        let at = at as u32;
        let fail = |kind| Err(ImageError { at, kind });
        if !held.contains(op.class()) {
            return fail(Kind::Class);
        }
        classes |= op.class();
        if op.angle().is_some_and(|a| !a.is_finite()) {
            return fail(Kind::BadAngle);
        }
        let mut waits_for = 0u32;
        let mut before = [Known::Unknown; 3];
        for (operand, q) in op.qubits().enumerate() {
            let Some(register) = registers.get_mut(q as usize) else { return fail(Kind::QubitRange) };
            if register.last == at {
                return fail(Kind::Duplicate);
            }
            match (op, register.allocated) {
                (Op::Alloc(_), true) => return fail(Kind::AlreadyAllocated),
                (Op::Alloc(_), false) => {
                    register.allocated = true;
                    allocated += 1;
                    peak = peak.max(allocated);
                }
                (_, false) => return fail(Kind::NotAllocated),
                (Op::Free(_), true) => {
                    register.allocated = false;
                    allocated -= 1;
                    dirty_frees += !register.known.clean() as u32;
                }
                _ => {}
            }
            let previous = next.get_mut(register.last as usize).and_then(|n| n.get_mut(register.operand as usize));
            if let Some(next) = previous {
                *next = at;
                waits_for += 1;
            }
            (register.last, register.operand) = (at, operand as u8);
            if let Some(known) = before.get_mut(operand) {
                *known = register.known;
            }
        }
        let then = after(&op, &before);
        if then != before {
            for ((q, before), then) in op.qubits().zip(before).zip(then) {
                if let Some(register) = registers.get_mut(q as usize) {
                    // A conditional one may happen or not.
                    register.known = if cond.is_none() { then } else { then.min(before) };
                }
            }
        }
        if let Some(cond) = cond {
            if matches!(op, Op::Alloc(_) | Op::Free(_) | Op::Fence) {
                return fail(Kind::CannotBeConditional);
            }
            let terms = image.cond_terms(cond);
            // Instructions may share terms; reading them must stay linear all the same.
            terms_read += terms.len();
            if terms_read > 4 * size {
                return fail(Kind::TooLarge);
            }
            let mut depth = 0u32;
            for term in terms {
                match *term {
                    CondTerm::Event(e) => {
                        let Some(&w) = writer.get(e as usize) else { return fail(Kind::EventRange) };
                        if w == NONE {
                            return fail(Kind::ReadBeforeWrite);
                        }
                        reads.push((e, at));
                        waits_for += 1;
                        depth += 1;
                    }
                    CondTerm::Not if depth >= 1 => {}
                    CondTerm::And(k) | CondTerm::Or(k) | CondTerm::Xor(k) if k >= 1 && k <= depth => depth -= k - 1,
                    _ => return fail(Kind::BadCondition),
                }
                if depth > limits.cond_depth {
                    return fail(Kind::TooLarge);
                }
            }
            if depth != 1 {
                return fail(Kind::BadCondition);
            }
        }
        for e in op.writes() {
            match writer.get_mut(e as usize) {
                None => return fail(Kind::EventRange),
                Some(w) if *w == at => return fail(Kind::Duplicate),
                Some(w) if *w != NONE => return fail(Kind::WrittenTwice),
                Some(w) => *w = at,
            }
        }
        if op == Op::Fence {
            fences.push(at);
        }
        predecessors.push(waits_for);
    }
    let (offsets, readers) = group(&reads, image.events as usize);
    Ok(Admitted {
        image: Arc::new(image),
        classes,
        peak_qubits: peak,
        terms_read: terms_read as u32,
        dirty_frees,
        predecessors,
        next,
        readers,
        offsets,
        fences,
    })
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

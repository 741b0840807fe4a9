//! Admission: one O(n) pass over an untrusted image, which also computes its dataflow.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use qmk_abi::Rights;
use qmk_abi::image::{CondTerm, Image, ImageError, ImageErrorKind as Kind, Instr, Op};

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
        Limits { size: 1 << 22, cond_depth: 64 }
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
    /// Number of predecessors of each instruction.
    pub predecessors: Vec<u32>,
    /// Successors of instruction i are `successors[offsets[i]..offsets[i + 1]]`.
    pub offsets: Vec<u32>,
    /// Concatenated successor lists.
    pub successors: Vec<u32>,
    /// Fence segment of each instruction; a fence is the first of the segment it opens.
    pub segment: Vec<u32>,
    /// Instructions in each segment.
    pub segment_sizes: Vec<u32>,
}

const UNWRITTEN: u32 = u32::MAX;

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
    let mut live = vec![false; image.qubits as usize];
    let mut last_use = vec![UNWRITTEN; image.qubits as usize];
    let mut writer = vec![UNWRITTEN; image.events as usize];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let (mut alive, mut peak, mut classes) = (0u32, 0u32, Rights::empty());
    let (mut segment, mut segment_sizes) = (Vec::with_capacity(n), vec![0u32]);
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
        for (i, q) in op.qubits().enumerate() {
            let Some(&is_live) = live.get(q as usize) else { return fail(Kind::QubitRange) };
            if op.qubits().take(i).any(|p| p == q) {
                return fail(Kind::Duplicate);
            }
            match (op, is_live) {
                (Op::Alloc(_), true) => return fail(Kind::AlreadyAllocated),
                (Op::Alloc(_), false) => {
                    live[q as usize] = true;
                    alive += 1;
                    peak = peak.max(alive);
                }
                (_, false) => return fail(Kind::NotAllocated),
                (Op::Free(_), true) => {
                    live[q as usize] = false;
                    alive -= 1;
                }
                _ => {}
            }
            if last_use[q as usize] != UNWRITTEN {
                edges.push((last_use[q as usize], at));
            }
            last_use[q as usize] = at;
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
                        if w == UNWRITTEN {
                            return fail(Kind::ReadBeforeWrite);
                        }
                        edges.push((w, at));
                        depth += 1;
                    }
                    CondTerm::Not if depth >= 1 => {}
                    CondTerm::And(k) | CondTerm::Or(k) | CondTerm::Xor(k) if k >= 1 && k <= depth => depth -= k - 1,
                    _ => return fail(Kind::BadCondition),
                }
                if depth > limits.cond_depth.max(1) * 1024 {
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
                Some(w) if *w != UNWRITTEN => return fail(Kind::WrittenTwice),
                Some(w) => *w = at,
            }
        }
        if op == Op::Fence {
            segment_sizes.push(0);
        }
        segment.push(segment_sizes.len() as u32 - 1);
        *segment_sizes.last_mut().expect("never empty") += 1;
    }
    let mut predecessors = vec![0u32; n];
    let mut offsets = vec![0u32; n + 1];
    for &(from, to) in &edges {
        predecessors[to as usize] += 1;
        offsets[from as usize + 1] += 1;
    }
    for i in 0..n {
        offsets[i + 1] += offsets[i];
    }
    let mut fill = offsets.clone();
    let mut successors = vec![0u32; edges.len()];
    for (from, to) in edges {
        successors[fill[from as usize] as usize] = to;
        fill[from as usize] += 1;
    }
    Ok(Admitted {
        image: Arc::new(image),
        classes,
        peak_qubits: peak,
        predecessors,
        offsets,
        successors,
        segment,
        segment_sizes,
    })
}

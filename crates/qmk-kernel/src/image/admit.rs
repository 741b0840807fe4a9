//! Admission: one O(n) pass over an untrusted image.

use crate::image::known::{Known, after};
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
        Limits { size: 1 << 22, cond_depth: 1 << 16 }
    }
}

/// An admitted image.
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
    // What is known of each register in use.
    let mut registers: Vec<Option<Known>> = vec![None; image.qubits as usize];
    let mut written = vec![false; image.events as usize];
    let (mut allocated, mut peak, mut dirty_frees, mut classes) = (0u32, 0u32, 0u32, Rights::empty());
    let mut terms_read = 0usize;
    for (at, &Instr { op, cond }) in image.code.iter().enumerate() {
        // Most of most programs, in short. What is not as it should be is found out below.
        let mut short = || {
            if cond.is_some() || !held.contains(op.class()) {
                return None;
            }
            match op {
                Op::Clifford1(_, q) => {
                    let known = registers.get_mut(q as usize)?.as_mut()?;
                    [*known, ..] = after(&op, &[*known, Known::Unknown, Known::Unknown]);
                }
                Op::Clifford2(_, a, b) if a != b => {
                    let known = |q: u32| registers.get(q as usize).copied()?;
                    let [first, second, _] = after(&op, &[known(a)?, known(b)?, Known::Unknown]);
                    *registers.get_mut(a as usize)? = Some(first);
                    *registers.get_mut(b as usize)? = Some(second);
                }
                Op::Alloc(q) => {
                    let register = registers.get_mut(q as usize).filter(|r| r.is_none())?;
                    *register = Some(Known::Basis);
                    allocated += 1;
                    peak = peak.max(allocated);
                }
                Op::Free(q) => {
                    let known = registers.get_mut(q as usize)?.take()?;
                    allocated -= 1;
                    dirty_frees += !known.clean() as u32;
                }
                Op::Measure(_, q, e) => {
                    let known = registers.get_mut(q as usize)?.as_mut()?;
                    let written = written.get_mut(e as usize).filter(|w| !**w)?;
                    [*known, ..] = after(&op, &[*known, Known::Unknown, Known::Unknown]);
                    *written = true;
                }
                _ => return None,
            }
            classes |= op.class();
            Some(())
        };
        if short().is_some() {
            continue;
        }
        let at = at as u32;
        let fail = |kind| Err(ImageError { at, kind });
        if !held.contains(op.class()) {
            return fail(Kind::Class);
        }
        classes |= op.class();
        if op.angle().is_some_and(|a| !a.is_finite()) {
            return fail(Kind::BadAngle);
        }
        let allocates = matches!(op, Op::Alloc(_));
        let known = |q: u32, others: &[u32]| match registers.get(q as usize) {
            None => Err(ImageError { at, kind: Kind::QubitRange }),
            Some(_) if others.contains(&q) => Err(ImageError { at, kind: Kind::Duplicate }),
            Some(Some(_)) if allocates => Err(ImageError { at, kind: Kind::AlreadyAllocated }),
            Some(None) if !allocates => Err(ImageError { at, kind: Kind::NotAllocated }),
            Some(known) => Ok(known.unwrap_or(Known::Basis)),
        };
        let ([a, b, c], count) = op.operands();
        let unknown = Known::Unknown;
        let before = match count {
            0 => [unknown; 3],
            1 => [known(a, &[])?, unknown, unknown],
            2 => [known(a, &[])?, known(b, &[a])?, unknown],
            _ => [known(a, &[])?, known(b, &[a])?, known(c, &[a, b])?],
        };
        let then = after(&op, &before);
        let mut learn = |q: u32, before: Known, then: Known| {
            if let Some(register) = registers.get_mut(q as usize) {
                // A conditional one may happen or not.
                *register = Some(if cond.is_some() { then.min(before) } else { then });
            }
        };
        if count > 0 {
            learn(a, before[0], then[0]);
        }
        if count > 1 {
            learn(b, before[1], then[1]);
        }
        if count > 2 {
            learn(c, before[2], then[2]);
        }
        if let Some(cond) = cond {
            // The first two come here only if they are.
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
                    CondTerm::Event(e) => match written.get(e as usize) {
                        None => return fail(Kind::EventRange),
                        Some(false) => return fail(Kind::ReadBeforeWrite),
                        Some(true) => depth += 1,
                    },
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
        let (results, count) = op.results();
        for (i, &e) in results.iter().enumerate().take(count) {
            match written.get_mut(e as usize) {
                None => return fail(Kind::EventRange),
                Some(true) if i == 1 && results == [e; 2] => return fail(Kind::Duplicate),
                Some(true) => return fail(Kind::WrittenTwice),
                Some(w) => *w = true,
            }
        }
    }
    let image = Arc::new(image);
    Ok(Admitted { image, classes, peak_qubits: peak, terms_read: terms_read as u32, dirty_frees })
}

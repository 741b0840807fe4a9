//! Admission: one O(n) pass over an untrusted image.

use crate::image::known::{Known, after};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use qmk_abi::Rights;
use qmk_abi::image::{Cond, CondTerm, Image, ImageError, ImageErrorKind as Kind, Instr, Op, Qubit};

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
    let size = limits.size as usize;
    let counts = [image.code.len(), image.terms.len(), image.qubits as usize, image.events as usize];
    if counts.iter().any(|&count| count > size) {
        return Err(ImageError { at: 0, kind: Kind::TooLarge });
    }
    let mut verifier = Verifier::new(&image, held, limits);
    for (at, instr) in (0u32..).zip(&image.code) {
        if let Err(kind) = verifier.check(instr) {
            return Err(ImageError { at, kind });
        }
    }
    let Verifier { classes, peak, terms_read, dirty_frees, .. } = verifier;
    let image = Arc::new(image);
    Ok(Admitted { image, classes, peak_qubits: peak, terms_read: terms_read as u32, dirty_frees })
}

/// What admission knows between two instructions.
struct Verifier<'a> {
    image: &'a Image,
    held: Rights,
    limits: Limits,
    /// State of each register; `None` if it is not allocated.
    registers: Vec<Option<Known>>,
    /// Whether each event is written.
    written: Vec<bool>,
    classes: Rights,
    /// Registers that are allocated, and the most that were.
    allocated: u32,
    peak: u32,
    terms_read: usize,
    dirty_frees: u32,
}

impl<'a> Verifier<'a> {
    fn new(image: &'a Image, held: Rights, limits: Limits) -> Self {
        Verifier {
            image,
            held,
            limits,
            registers: vec![None; image.qubits as usize],
            written: vec![false; image.events as usize],
            classes: Rights::empty(),
            allocated: 0,
            peak: 0,
            terms_read: 0,
            dirty_frees: 0,
        }
    }

    /// Checks an instruction, and takes note of what it does. The kinds that programs are full of are told apart once,
    /// and the rules compiled for each, as in the walk of `Image::schedule`.
    #[inline(always)]
    fn check(&mut self, instr: &Instr) -> Result<(), Kind> {
        match (instr.op, instr.cond) {
            (op @ Op::Clifford1(_, q), cond) => self.check_on(&op, cond, [q]),
            (op @ Op::Clifford2(_, a, b), cond) => self.check_on(&op, cond, [a, b]),
            (op @ Op::Measure(_, q, _), cond) => self.check_on(&op, cond, [q]),
            (op @ (Op::Alloc(q) | Op::Free(q)), cond) => self.check_on(&op, cond, [q]),
            (op, cond) => match op.operands() {
                (_, 0) => self.check_on(&op, cond, []),
                ([a, ..], 1) => self.check_on(&op, cond, [a]),
                ([a, b, _], 2) => self.check_on(&op, cond, [a, b]),
                (operands, _) => self.check_on(&op, cond, operands),
            },
        }
    }

    /// The rules, for an operation on this many registers, in the order in which violations are reported.
    #[inline(always)]
    fn check_on<const N: usize>(&mut self, op: &Op, cond: Option<Cond>, operands: [Qubit; N]) -> Result<(), Kind> {
        let class = op.class();
        if !self.held.contains(class) {
            return Err(Kind::Class);
        }
        self.classes |= class;
        if op.angle().is_some_and(|angle| !angle.is_finite()) {
            return Err(Kind::BadAngle);
        }
        let allocates = N == 1 && matches!(op, Op::Alloc(_));
        let frees = N == 1 && matches!(op, Op::Free(_));
        // Operands are registers of the image, distinct, and in use; that of an allocation is not.
        let mut before = [Known::Unknown; 3];
        for (i, (&q, before)) in operands.iter().zip(&mut before).enumerate() {
            let Some(register) = self.registers.get(q as usize) else { return Err(Kind::QubitRange) };
            if operands.iter().take(i).any(|&other| other == q) {
                return Err(Kind::Duplicate);
            }
            *before = match register {
                Some(_) if allocates => return Err(Kind::AlreadyAllocated),
                None if !allocates => return Err(Kind::NotAllocated),
                state => state.unwrap_or(Known::Basis),
            };
        }
        if let Some(cond) = cond {
            self.condition(op, cond)?;
        }
        self.results(op)?;
        if allocates {
            self.allocated += 1;
            self.peak = self.peak.max(self.allocated);
        }
        if frees {
            self.allocated -= 1;
            self.dirty_frees += !before[0].clean() as u32;
        }
        let then = after(op, &before);
        for (&q, (then, before)) in operands.iter().zip(then.into_iter().zip(before)) {
            // A conditional operation may happen or not.
            let then = if cond.is_some() { then.min(before) } else { then };
            if let Some(register) = self.registers.get_mut(q as usize) {
                *register = (!frees).then_some(then);
            }
        }
        Ok(())
    }

    /// A condition is well formed, of bounded depth, and reads only events that are written.
    fn condition(&mut self, op: &Op, cond: Cond) -> Result<(), Kind> {
        if matches!(op, Op::Alloc(_) | Op::Free(_) | Op::Fence) {
            return Err(Kind::CannotBeConditional);
        }
        let terms = self.image.cond_terms(cond);
        // Instructions may share terms, and admission must stay linear in the size of the image.
        self.terms_read += terms.len();
        if self.terms_read > 4 * self.limits.size as usize {
            return Err(Kind::TooLarge);
        }
        let mut depth = 0u32;
        for term in terms {
            match *term {
                CondTerm::Event(e) => match self.written.get(e as usize) {
                    None => return Err(Kind::EventRange),
                    Some(false) => return Err(Kind::ReadBeforeWrite),
                    Some(true) => depth += 1,
                },
                CondTerm::Not if depth >= 1 => {}
                CondTerm::And(k) | CondTerm::Or(k) | CondTerm::Xor(k) if k >= 1 && k <= depth => depth -= k - 1,
                _ => return Err(Kind::BadCondition),
            }
            if depth > self.limits.cond_depth {
                return Err(Kind::TooLarge);
            }
        }
        if depth == 1 { Ok(()) } else { Err(Kind::BadCondition) }
    }

    /// Results are events of the image that nothing wrote before.
    #[inline(always)]
    fn results(&mut self, op: &Op) -> Result<(), Kind> {
        let (results, count) = op.results();
        for (i, &e) in results.iter().enumerate().take(count) {
            match self.written.get_mut(e as usize) {
                None => return Err(Kind::EventRange),
                Some(true) if i == 1 && results == [e; 2] => return Err(Kind::Duplicate),
                Some(true) => return Err(Kind::WrittenTwice),
                Some(written) => *written = true,
            }
        }
        Ok(())
    }
}

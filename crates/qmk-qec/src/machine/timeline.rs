//! When the operations of a program take place, and how long each patch lives.
//!
//! Operations begin as soon as they can ([`Image::schedule`]). A machine that lacks routes or magic states runs them
//! later; the time that a patch waits for these is not charged.
//!
//! A patch lives from its first operation on, for a compiler makes it no earlier, and until it is measured, reset or
//! freed for the last time. Operations on several patches are done by lattice surgery over one more, the *ancilla
//! patch*, which lives as long as the operation. The effects of its errors are those of Litinski (arXiv:1808.02892):
//!
//! | operation | an X error of the ancilla patch | a Z error |
//! |---|---|---|
//! | CNOT | X on the target: it flips the last outcome, which corrects it | Z on the control, by the outcome of XX |
//! | CZ | Z on the second operand: a CNOT between Hadamard gates | Z on the first |
//! | SWAP, which moves the second operand through it | X on the second operand | Z on the second operand |
//! | Bell measurement | flips the outcome of ZZ: X on the second operand, before | flips that of XX: Z, before |
//! | T, injected T | Z on the operand | Z on the operand |
//! | rotation about P | P on the operand | P on the operand |
//! | measurement at an angle, a rotation about Y first | Y on the operand, before | Y on the operand, before |
//! | CCZ and Toffoli, with a magic patch for each operand | Z on it; X on the target of Toffoli | the same |
//!
//! For magic states the ancilla is the patch that holds them; errors made in the factory are not counted. An X there
//! flips the outcome that a Clifford gate corrects, so it does a rotation by twice the angle: to call that the Pauli is
//! the worst case.

use qmk_abi::image::{Clifford2, Image, Instr, Op, Pauli, Qubit, Span};

/// A Pauli that acts on a register.
pub type RegisterPauli = (Pauli, Qubit);

/// A part of a patch's life. Its errors act at one point of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Index of the instruction right after which its errors act.
    pub after: u32,
    /// Logical cycles, at least 1.
    pub cycles: u32,
    /// The Pauli that an X error of the patch becomes, and the one that a Z error becomes.
    pub effect: [RegisterPauli; 2],
}

/// The schedule of a program, and the lives of its patches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Cycle in which each instruction begins, and that in which its operands are free again.
    pub spans: Vec<[u32; 2]>,
    /// The stretches of each patch's life, one after the other. A stretch after the last operation of a register is
    /// left out: nothing could notice its errors.
    pub lives: Vec<Vec<Stretch>>,
}

/// A register in use.
#[derive(Clone, Debug, Default)]
struct Patch {
    life: Vec<Stretch>,
    /// Cycles that are not in a stretch yet.
    due: u32,
    /// Cycle in which its last operation ended, if it has had one.
    until: Option<u32>,
}

impl Timeline {
    /// The timeline of an admitted image. `cycles` gives the duration of an operation in logical cycles.
    pub fn new(image: &Image, cycles: impl Fn(&Op) -> u32) -> Self {
        let mut timeline = Timeline { spans: Vec::with_capacity(image.code.len()), lives: Vec::new() };
        let mut patches = vec![Patch::default(); image.qubits as usize];
        image.schedule(image.peak_qubits(), cycles, |at, Instr { op, .. }, Span { start, end: done }, took| {
            let op = *op;
            timeline.spans.push([start, done]);
            let measures = op.writes().next().is_some();
            let before = at.saturating_sub(1);
            for q in op.qubits() {
                let patch = &mut patches[q as usize];
                if matches!(op, Op::Alloc(_) | Op::Free(_) | Op::Reset(_) | Op::InjectT(_)) {
                    // These discard the state, so errors since its last operation have no effect.
                    let old = std::mem::take(patch);
                    timeline.lives.extend(Some(old.life).filter(|life| !life.is_empty()));
                    if let Op::InjectT(_) = op {
                        *patch = Patch { due: took, until: Some(done), ..Patch::default() };
                    }
                    continue;
                }
                patch.due = patch.due.saturating_add(start - patch.until.unwrap_or(start));
                // Errors during a measurement flip its outcome, so they act before it.
                let (now, later) = if measures { (patch.due.saturating_add(took), 0) } else { (patch.due, took) };
                if now > 0 {
                    patch.life.push(Stretch { after: before, cycles: now, effect: [(Pauli::X, q), (Pauli::Z, q)] });
                }
                (patch.due, patch.until) = (later, Some(done));
            }
            if took > 0 {
                let after = if measures { before } else { at };
                let ancillas = ancillas(&op).into_iter().flatten();
                timeline.lives.extend(ancillas.map(|effect| vec![Stretch { after, cycles: took, effect }]));
            }
        });
        timeline.lives.extend(patches.into_iter().map(|p| p.life).filter(|life| !life.is_empty()));
        timeline
    }

    /// All stretches of all lives.
    pub fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.lives.iter().flatten()
    }
}

/// The ancilla patches of an operation, each with the effect of its X and of its Z errors.
fn ancillas(op: &Op) -> [Option<[RegisterPauli; 2]>; 3] {
    use Pauli::{X, Y, Z};
    let one = |x, z| [Some([x, z]), None, None];
    let magic = |p, q| Some([(p, q); 2]);
    match *op {
        Op::Clifford2(Clifford2::Cnot, control, target) | Op::TeleportCnot(control, target) => {
            one((X, target), (Z, control))
        }
        Op::Clifford2(Clifford2::Cz, a, b) => one((Z, b), (Z, a)),
        Op::Clifford2(Clifford2::Swap, _, b) | Op::MeasureBell(_, b, ..) => one((X, b), (Z, b)),
        Op::T(q) | Op::Tdg(q) | Op::InjectT(q) => [magic(Z, q), None, None],
        Op::Rotate(p, q, _) => [magic(p, q), None, None],
        Op::MeasureAngle(_, q, _) => [magic(Y, q), None, None],
        Op::Ccz(a, b, c) => [a, b, c].map(|q| magic(Z, q)),
        Op::Toffoli(a, b, target) => [magic(Z, a), magic(Z, b), magic(X, target)],
        Op::Alloc(_) | Op::Free(_) | Op::Fence | Op::Pauli(..) | Op::Clifford1(..) | Op::Reset(_) | Op::Measure(..) => {
            [None; 3]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmk_abi::image::{Clifford1, Cond, CondTerm};
    use qmk_hal::Device;
    use qmk_sim::SimDevice;

    fn timeline(image: &Image) -> Timeline {
        let device = SimDevice::default();
        Timeline::new(image, |op| device.cost(op, Default::default()).cycles)
    }

    fn image(qubits: u32, events: u32, code: &[Op]) -> Image {
        let code = code.iter().map(|&op| Instr { op, cond: None }).collect();
        Image { qubits, events, code, terms: Vec::new() }
    }

    fn own(after: u32, cycles: u32, q: Qubit) -> Stretch {
        Stretch { after, cycles, effect: [(Pauli::X, q), (Pauli::Z, q)] }
    }

    const MEASURE: fn(Qubit) -> Op = |q| Op::Measure(Pauli::Z, q, q);

    #[test]
    fn a_patch_lives_from_its_first_operation_and_is_charged_before_the_next() {
        let h = |q| Op::Clifford1(Clifford1::H, q);
        let cnot = Op::Clifford2(Clifford2::Cnot, 0, 1);
        // H takes 3 cycles, a CNOT 2. Register 1 waits in |0> before the CNOT, register 0 afterwards, for H on 1 and
        // the fence.
        let code = [Op::Alloc(0), Op::Alloc(1), h(0), cnot, h(1), Op::Fence, MEASURE(0), MEASURE(1), Op::Free(0)];
        let t = timeline(&image(2, 2, &code));
        assert_eq!(t.spans, [[0, 0], [0, 0], [0, 3], [3, 5], [5, 8], [8, 8], [8, 8], [8, 8], [8, 8]]);
        let ancilla = Stretch { after: 3, cycles: 2, effect: [(Pauli::X, 1), (Pauli::Z, 0)] };
        let lives = [vec![ancilla], vec![own(2, 3, 0), own(5, 5, 0)], vec![own(3, 2, 1), own(6, 3, 1)]];
        assert_eq!(t.lives, lives);
    }

    #[test]
    fn conditions_wait_for_events_and_resets_begin_new_lives() {
        let code = [
            Op::Alloc(0),
            Op::Alloc(1),
            Op::Measure(Pauli::Y, 0, 0),
            Op::Reset(0),
            Op::Clifford1(Clifford1::S, 0),
            Op::Clifford1(Clifford1::S, 1),
            Op::Pauli(Pauli::X, 1),
            MEASURE(1),
        ];
        let mut image = image(2, 2, &code);
        image.terms = vec![CondTerm::Event(0)];
        image.code[6].cond = Some(Cond { start: 0, end: 1 });
        let t = timeline(&image);
        // A Y measurement takes 2 cycles and is flipped by what happens in them.
        assert_eq!(t.spans[2], [0, 2]);
        assert_eq!(t.spans[6], [2, 2]);
        // S on 0 is followed by nothing that could tell.
        assert_eq!(t.lives, [vec![own(1, 2, 0)], vec![own(5, 2, 1)]]);
    }

    #[test]
    fn errors_of_ancilla_patches_come_where_the_outcome_is_decided() {
        let code =
            [Op::Alloc(0), Op::Alloc(1), Op::Alloc(2), Op::Toffoli(0, 1, 2), Op::MeasureBell(0, 1, 0, 1), Op::T(2)];
        let t = timeline(&image(3, 2, &code));
        let magic = |after, cycles, p, q| Stretch { after, cycles, effect: [(p, q); 2] };
        let ancillas: Vec<_> = t.lives.iter().filter(|l| l.len() == 1).map(|l| l[0].clone()).collect();
        assert_eq!(ancillas[..3], [(Pauli::Z, 0), (Pauli::Z, 1), (Pauli::X, 2)].map(|(p, q)| magic(3, 4, p, q)));
        assert_eq!(ancillas[3..5], [own(3, 1, 1), magic(5, 2, Pauli::Z, 2)]);
        // Both operands of the measurement live through it, and then nobody asks.
        assert_eq!(ancillas[5..], [own(3, 5, 0), own(3, 5, 1), own(4, 4, 2)]);
    }
}

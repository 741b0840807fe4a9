//! Against a dense state vector.

extern crate std;

use super::*;
use qmk_testkit::Rng;
use qmk_testkit::dense::{Dense, c};
use std::vec;

/// Three different registers below n.
fn registers(n: usize, dice: &mut Rng) -> [Qubit; 3] {
    loop {
        let r = [(); 3].map(|()| dice.below(n) as u32);
        if r[0] != r[1] && r[0] != r[2] && r[1] != r[2] {
            return r;
        }
    }
}

/// Every unitary.
fn unitaries([a, b, c]: [Qubit; 3], dice: &mut Rng) -> Vec<Op> {
    let mut ops = vec![Op::Fence, Op::TeleportCnot(a, b), Op::T(a), Op::Tdg(a)];
    for p in [Pauli::X, Pauli::Y, Pauli::Z] {
        ops.extend([Op::Pauli(p, a), Op::Rotate(p, a, dice.unit() * 13.0 - 6.0)]);
    }
    use Clifford1::*;
    ops.extend([H, S, Sdg, Sx, Sxdg].map(|g| Op::Clifford1(g, a)));
    ops.extend([Clifford2::Cnot, Clifford2::Cz, Clifford2::Swap].map(|g| Op::Clifford2(g, a, b)));
    ops.extend([Op::Ccz(a, b, c), Op::Toffoli(a, b, c)]);
    ops
}

fn irreversible([a, b, _]: [Qubit; 3], dice: &mut Rng) -> Vec<Op> {
    let mut ops = vec![Op::Alloc(a), Op::Reset(a), Op::InjectT(a), Op::MeasureAngle(dice.unit() * 6.0, a, 0)];
    ops.extend([Pauli::X, Pauli::Y, Pauli::Z].map(|p| Op::Measure(p, a, 0)));
    ops.push(Op::MeasureBell(a, b, 0, 1));
    ops
}

fn pick(ops: Vec<Op>, dice: &mut Rng) -> Op {
    ops[dice.below(ops.len())]
}

fn same(a: &Dense, b: &Dense) -> bool {
    (a.fidelity(&b.amps) - 1.0).abs() < 1e-9
}

#[test]
fn inverses_undo() {
    let mut dice = Rng::new(1);
    for _ in 0..50 {
        let r = registers(4, &mut dice);
        for op in unitaries(r, &mut dice) {
            let before = Dense::random(4, &mut dice);
            let mut d = before.clone();
            d.unitary(&op);
            d.unitary(&inverse(&op).unwrap());
            assert!(same(&before, &d), "{op:?}");
            assert_eq!(inverse(&inverse(&op).unwrap()), Some(op));
        }
        for op in irreversible(r, &mut dice).into_iter().chain([Op::Free(0)]) {
            assert_eq!(inverse(&op), None);
        }
    }
}

#[test]
fn diagonal_means_commuting_with_z() {
    let mut dice = Rng::new(2);
    for _ in 0..20 {
        let r = registers(3, &mut dice);
        for op in unitaries(r, &mut dice) {
            for q in op.qubits() {
                let mut a = Dense::random(3, &mut dice);
                let mut b = a.clone();
                let z = Op::Pauli(Pauli::Z, q);
                a.unitary(&z);
                a.unitary(&op);
                b.unitary(&op);
                b.unitary(&z);
                // X and Y anticommute with Z: same up to a phase, yet not diagonal.
                let flip = matches!(op, Op::Pauli(Pauli::X | Pauli::Y, _));
                assert_eq!(diagonal(&op, q), same(&a, &b) && !flip, "{op:?} {q}");
            }
        }
    }
}

#[test]
fn segments_restore() {
    let mut dice = Rng::new(3);
    for _ in 0..100 {
        let mut segment = Segment::default();
        let mut d = Dense::random(4, &mut dice);
        let mut saved = d.clone();
        let mut since = 0;
        for _ in 0..dice.below(60) {
            let r = registers(4, &mut dice);
            let op = match dice.below(20) {
                0 => pick(irreversible(r, &mut dice), &mut dice),
                _ => pick(unitaries(r, &mut dice), &mut dice),
            };
            d.perform(&op, &mut |p| dice.unit() < p);
            segment.push(op);
            since += 1;
            if inverse(&op).is_none() {
                (saved, since) = (d.clone(), 0);
            }
            assert_eq!((segment.len(), segment.is_empty()), (since, since == 0));
        }
        assert_eq!(segment.inverses().count(), since);
        segment.inverses().for_each(|op| d.unitary(&op));
        assert!(same(&d, &saved));
        segment.undone();
        assert!(segment.is_empty() && segment.inverses().next().is_none());
        segment.clear();
        assert!(segment.history.is_empty());
    }
}

#[test]
fn segments_are_bounded() {
    let mut segment = Segment::default();
    segment.push(Op::Alloc(0));
    segment.push(Op::Alloc(1));
    for i in 0..Segment::MAX + 10 {
        segment.push(Op::Rotate(Pauli::X, 0, i as f64));
        assert!(segment.len() <= Segment::MAX);
    }
    assert_eq!(segment.len(), Segment::MAX / 2 + 12);
    assert_eq!(segment.inverses().next(), Some(Op::Rotate(Pauli::X, 0, -((Segment::MAX + 9) as f64))));
    // It brings the qubit back, but to where is forgotten.
    assert_eq!(segment.origin(0), Known::Unknown);
    assert_eq!(segment.uncompute(0).unwrap().len(), segment.len());
}

/// What uncomputes `q` after `ops`.
fn uncompute(ops: &[Op], q: Qubit) -> Option<Vec<Op>> {
    let mut segment = Segment::default();
    ops.iter().for_each(|op| segment.push(*op));
    segment.uncompute(q)
}

fn cnot(c: Qubit, t: Qubit) -> Op {
    Op::Clifford2(Clifford2::Cnot, c, t)
}

#[test]
fn patterns_are_uncomputed() {
    let h = |q| Op::Clifford1(Clifford1::H, q);
    let z = Op::Pauli(Pauli::Z, 2);
    let and = Op::Toffoli(0, 1, 2);
    let y = |q| Op::Pauli(Pauli::Y, q);
    let x = |q| Op::Pauli(Pauli::X, q);
    let cz = |a, b| Op::Clifford2(Clifford2::Cz, a, b);
    let some = |ops: &[Op]| Some(ops.to_vec());
    // Compute, copy, uncompute, though other qubits are allocated and measured meanwhile.
    assert_eq!(uncompute(&[Op::Alloc(2), and, Op::Alloc(3), cnot(2, 3)], 2), some(&[and]));
    assert_eq!(uncompute(&[Op::Reset(2), and, Op::Measure(Pauli::Z, 0, 0)], 2), some(&[and]));
    // A phase oracle keeps its phase, also that in Y.
    assert_eq!(uncompute(&[Op::Alloc(2), and, z, Op::T(2)], 2), some(&[and]));
    assert_eq!(uncompute(&[Op::Alloc(2), and, y(2)], 2), some(&[x(2), and]));
    // Several flips, last first.
    let teleported = Op::TeleportCnot(1, 2);
    assert_eq!(uncompute(&[Op::Alloc(2), cnot(0, 2), x(2), teleported], 2), some(&[teleported, x(2), cnot(0, 2)]));
    // Controls may be used, not changed.
    assert_eq!(uncompute(&[Op::Alloc(2), and, cnot(0, 3), cz(1, 3), Op::T(0)], 2), some(&[and]));
    for change in [h(0), x(1), Op::Reset(0), Op::Free(0), cnot(2, 1), cnot(3, 0), Op::Measure(Pauli::X, 1, 0)] {
        assert_eq!(uncompute(&[Op::Alloc(2), and, change], 2), None, "{change:?}");
    }
    // They may have been changed before, and other qubits always.
    assert_eq!(uncompute(&[Op::Alloc(2), h(0), x(1), and, h(3)], 2), some(&[and]));
    // Superpositions of its own: all of it goes.
    assert_eq!(uncompute(&[Op::Alloc(2), h(2), cz(0, 2), Op::T(2)], 2), some(&[Op::Tdg(2), cz(0, 2), h(2)]));
    assert_eq!(uncompute(&[Op::Alloc(2), h(2), cnot(2, 0)], 2), None);
    // Likewise if it was not in a basis state to begin with.
    assert_eq!(uncompute(&[and, z], 2), some(&[z, and]));
    assert_eq!(uncompute(&[and, cnot(2, 3)], 2), None);
    // Only what was done since its own last irreversible operation counts.
    assert_eq!(uncompute(&[h(2), cnot(2, 0), Op::Measure(Pauli::Z, 2, 0), x(2)], 2), some(&[x(2)]));
    assert_eq!(uncompute(&[and, h(0)], 3), some(&[]));
    assert_eq!(uncompute(&[Op::Clifford2(Clifford2::Swap, 2, 3)], 2), None);
}

/// Registers of the circuits below, the first of which is uncomputed.
const N: usize = 4;

/// Operations, many of them on qubit 0, which is in a basis state at first if `computes`.
fn circuit(computes: bool, dice: &mut Rng) -> Vec<Op> {
    let mut ops = vec![];
    if computes {
        ops.push(pick(vec![Op::Alloc(0), Op::Measure(Pauli::Z, 0, 0)], dice));
    }
    for _ in 0..2 + dice.below(7) {
        let r = registers(N, dice);
        let op = match dice.below(12) {
            0 => pick(irreversible(r, dice), dice),
            1..=5 => {
                let (c, e) = loop {
                    let [c, e, _] = registers(N, dice);
                    if c != 0 && e != 0 {
                        break (c, e);
                    }
                };
                pick(vec![cnot(c, 0), Op::Toffoli(c, e, 0), Op::Pauli(Pauli::Y, 0), cnot(0, c)], dice)
            }
            _ => pick(unitaries(r, dice), dice),
        };
        ops.push(op);
    }
    ops
}

/// A circuit that was performed: its operations, the first state, the last one, and the outcomes in between.
struct Performed {
    ops: Vec<Op>,
    initial: Dense,
    last: Dense,
    outcomes: Vec<bool>,
}

impl Performed {
    fn new(ops: Vec<Op>, initial: Dense, dice: &mut Rng) -> Self {
        let (mut last, mut outcomes) = (initial.clone(), vec![]);
        for op in &ops {
            last.perform(op, &mut |p| {
                let value = dice.unit() < p;
                outcomes.push(value);
                value
            });
        }
        Performed { ops, initial, last, outcomes }
    }

    /// The index of the last irreversible operation on qubit 0.
    fn origin(&self) -> Option<usize> {
        self.ops.iter().rposition(|op| inverse(op).is_none() && op.qubits().any(|r| r == 0))
    }

    /// Operations on qubit 0 since.
    fn life(&self) -> impl Iterator<Item = &Op> {
        self.ops.iter().skip(self.origin().map_or(0, |i| i + 1)).filter(|op| op.qubits().any(|r| r == 0))
    }

    /// The state once the value of qubit 0 is erased: there is one value of it per value of the rest, and that
    /// amplitude stays, with qubit 0 at its origin.
    fn erased(&self) -> Dense {
        let mut at = self.initial.clone();
        let mut replay = self.outcomes.iter();
        let origin = self.origin().expect("it was in a basis state");
        self.ops.iter().take(origin + 1).for_each(|op| at.perform(op, &mut |_| *replay.next().unwrap()));
        let value = usize::from(at.probability_of_one(0) > 0.5);
        let mut want = Dense { amps: vec![c(0.0, 0.0); 1 << N] };
        for (i, a) in self.last.amps.iter().enumerate() {
            let j = i & !1 | value;
            assert!(a.norm_sqr() < 1e-18 || want.amps[j].norm_sqr() < 1e-18);
            want.amps[j] += a;
        }
        want
    }

    /// The state if nothing had been done to qubit 0 since its origin: the others never saw it.
    fn never(&self) -> Dense {
        let mut want = self.initial.clone();
        let mut replay = self.outcomes.iter();
        for (i, op) in self.ops.iter().enumerate() {
            if self.origin().is_some_and(|o| i <= o) || op.qubits().all(|r| r != 0) {
                want.perform(op, &mut |_| *replay.next().unwrap());
            }
        }
        assert!(replay.next().is_none());
        want
    }
}

#[test]
fn uncomputing_is_what_it_says() {
    let mut dice = Rng::new(4);
    let (mut erased, mut never, mut refused) = (0, 0, 0);
    for round in 0..60_000 {
        let initial = Dense::random(N, &mut dice);
        let ops = circuit(round % 2 == 0, &mut dice);
        let done = Performed::new(ops, initial, &mut dice);
        let mut segment = Segment::default();
        done.ops.iter().for_each(|op| segment.push(*op));
        let Some(undo) = segment.uncompute(0) else {
            refused += 1;
            continue;
        };
        assert!(undo.iter().all(|op| op.qubits().all(|r| r == 0 || diagonal(op, r))));
        let mut undone = done.last.clone();
        undo.iter().for_each(|op| undone.unitary(op));
        let erase = segment.origin(0) == Known::Basis && done.life().all(|op| classical(op, 0));
        let joint = undo.iter().any(|op| op.qubits().count() > 1);
        if erase {
            assert!(same(&done.erased(), &undone), "{:?}", done.ops);
            erased += usize::from(joint);
        }
        if !erase || done.life().all(|op| !diagonal(op, 0) && !matches!(op, Op::Pauli(Pauli::Y, _))) {
            assert!(same(&done.never(), &undone), "{:?}", done.ops);
            never += usize::from(joint);
        }
    }
    assert!(erased > 3000 && never > 3000 && refused > 3000, "{erased} {never} {refused}");
}

#[test]
fn what_is_known_is_so() {
    let mut dice = Rng::new(5);
    let (mut basis, mut measured) = (0, 0);
    for round in 0..20_000 {
        let mut d = Dense::new(4);
        let mut known = [Known::Basis; 4];
        for q in 0..4 {
            if dice.below(2) == 1 {
                d.unitary(&Op::Pauli(Pauli::X, q));
            }
        }
        for _ in 0..12 {
            let r = registers(4, &mut dice);
            let op = match dice.below(3) {
                0 => pick(irreversible(r, &mut dice), &mut dice),
                _ => pick(unitaries(r, &mut dice), &mut dice),
            };
            // Halves of a Bell pair are clean together, not alone.
            if matches!(op, Op::MeasureBell(..)) && round % 2 == 0 {
                continue;
            }
            let mut operands = [Known::Unknown; 3];
            op.qubits().zip(&mut operands).for_each(|(q, k)| *k = known[q as usize]);
            let then = after(&op, &operands);
            let conditional = dice.below(4) == 0;
            for (i, q) in op.qubits().enumerate() {
                known[q as usize] = if conditional { then[i].min(operands[i]) } else { then[i] };
            }
            if !conditional || dice.below(2) == 0 {
                d.perform(&op, &mut |p| dice.unit() < p);
            }
            for q in 0..4 {
                let one = d.probability_of_one(q as usize);
                match known[q as usize] {
                    Known::Basis => {
                        assert!(one.min(1.0 - one).abs() < 1e-9, "{op:?}");
                        basis += 1;
                    }
                    Known::Measured if round % 2 == 0 => {
                        assert!((d.purity(q as usize) - 1.0).abs() < 1e-9, "{op:?}");
                        measured += 1;
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(basis > 10_000 && measured > 10_000);
}

#[test]
fn what_is_clean() {
    use Known::*;
    assert!(Basis.clean() && Measured.clean() && !Unknown.clean() && Known::default() == Unknown);
    let x = Op::Pauli(Pauli::X, 0);
    assert_eq!(after(&x, &[Measured, Unknown, Unknown])[0], Measured);
    assert_eq!(after(&Op::T(0), &[Measured, Unknown, Unknown])[0], Unknown);
    assert_eq!(after(&cnot(0, 1), &[Basis, Basis, Unknown])[..2], [Basis, Basis]);
    assert_eq!(after(&cnot(0, 1), &[Measured, Basis, Unknown])[..2], [Unknown, Unknown]);
    assert_eq!(after(&cnot(0, 1), &[Basis, Measured, Unknown])[..2], [Basis, Unknown]);
    let swap = Op::Clifford2(Clifford2::Swap, 0, 1);
    assert_eq!(after(&swap, &[Basis, Measured, Unknown]), [Measured, Basis, Unknown]);
}

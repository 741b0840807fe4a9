//! Against a dense state vector.

extern crate std;

use super::*;
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};
use std::vec;

/// SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

type C = (f64, f64);
fn mul(a: C, b: C) -> C {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}
fn add(a: C, b: C) -> C {
    (a.0 + b.0, a.1 + b.1)
}
fn norm(a: C) -> f64 {
    a.0 * a.0 + a.1 * a.1
}

/// A state vector; qubit q is bit q of the index.
#[derive(Clone, Debug)]
pub(crate) struct Dense(Vec<C>);

impl Dense {
    pub(crate) fn new(n: u32) -> Self {
        let mut v = vec![(0.0, 0.0); 1 << n];
        v[0] = (1.0, 0.0);
        Dense(v)
    }

    fn random(n: u32, dice: &mut Dice) -> Self {
        let mut d = Dense((0..1 << n).map(|_| (dice.unit() - 0.5, dice.unit() - 0.5)).collect());
        d.normalise();
        d
    }

    fn normalise(&mut self) {
        let s = self.0.iter().map(|a| norm(*a)).sum::<f64>().sqrt();
        self.0.iter_mut().for_each(|a| *a = (a.0 / s, a.1 / s));
    }

    fn gate(&mut self, controls: &[Qubit], q: Qubit, m: [C; 4]) {
        let (c, t) = (controls.iter().fold(0, |c, q| c | 1usize << q), 1usize << q);
        for i in 0..self.0.len() {
            if i & c == c && i & t == 0 {
                let (a, b) = (self.0[i], self.0[i | t]);
                self.0[i] = add(mul(m[0], a), mul(m[1], b));
                self.0[i | t] = add(mul(m[2], a), mul(m[3], b));
            }
        }
    }

    /// Applies a unitary.
    pub(crate) fn apply(&mut self, op: &Op) {
        const O: C = (0.0, 0.0);
        const I: C = (1.0, 0.0);
        let pauli = |p| match p {
            Pauli::X => [O, I, I, O],
            Pauli::Y => [O, (0.0, -1.0), (0.0, 1.0), O],
            Pauli::Z => [I, O, O, (-1.0, 0.0)],
        };
        let rotation = |p, angle: f64| {
            let (s, c) = (angle / 2.0).sin_cos();
            let m = pauli(p).map(|a| mul(a, (0.0, -s)));
            [add(m[0], (c, 0.0)), m[1], m[2], add(m[3], (c, 0.0))]
        };
        let phase = |angle: f64| [I, O, O, (angle.cos(), angle.sin())];
        let x = pauli(Pauli::X);
        let z = pauli(Pauli::Z);
        match *op {
            Op::Fence => {}
            Op::Pauli(p, q) => self.gate(&[], q, pauli(p)),
            Op::Clifford1(g, q) => {
                let h = (0.5f64.sqrt(), 0.0);
                let m = match g {
                    Clifford1::H => [h, h, h, (-h.0, 0.0)],
                    Clifford1::S => phase(FRAC_PI_2),
                    Clifford1::Sdg => phase(-FRAC_PI_2),
                    Clifford1::Sx => rotation(Pauli::X, FRAC_PI_2),
                    Clifford1::Sxdg => rotation(Pauli::X, -FRAC_PI_2),
                };
                self.gate(&[], q, m);
            }
            Op::Clifford2(Clifford2::Cnot, c, t) | Op::TeleportCnot(c, t) => self.gate(&[c], t, x),
            Op::Clifford2(Clifford2::Cz, a, b) => self.gate(&[a], b, z),
            Op::Clifford2(Clifford2::Swap, a, b) => {
                for (a, b) in [(a, b), (b, a), (a, b)] {
                    self.gate(&[a], b, x);
                }
            }
            Op::T(q) => self.gate(&[], q, phase(FRAC_PI_4)),
            Op::Tdg(q) => self.gate(&[], q, phase(-FRAC_PI_4)),
            Op::Rotate(p, q, angle) => self.gate(&[], q, rotation(p, angle)),
            Op::Ccz(a, b, c) => self.gate(&[a, b], c, z),
            Op::Toffoli(a, b, c) => self.gate(&[a, b], c, x),
            _ => panic!("{op:?} is not unitary"),
        }
    }

    fn one(&self, q: Qubit) -> f64 {
        self.0.iter().enumerate().filter(|(i, _)| i >> q & 1 == 1).map(|(_, a)| norm(*a)).sum()
    }

    /// Projects on a value and returns its probability.
    pub(crate) fn project(&mut self, q: Qubit, value: bool) -> f64 {
        let p = if value { self.one(q) } else { 1.0 - self.one(q) };
        for (i, a) in self.0.iter_mut().enumerate() {
            if (i >> q & 1 == 1) != value {
                *a = (0.0, 0.0);
            }
        }
        if p > 1e-12 {
            self.normalise();
        }
        p
    }

    /// Fidelity of two states.
    pub(crate) fn overlap(&self, other: &Dense) -> f64 {
        norm(self.0.iter().zip(&other.0).fold((0.0, 0.0), |s, (a, b)| add(s, mul((a.0, -a.1), *b))))
    }

    /// Purity of one qubit: 1 iff it is not entangled.
    fn purity(&self, q: Qubit) -> f64 {
        let (mut off, p) = ((0.0, 0.0), self.one(q));
        for i in (0..self.0.len()).filter(|i| i >> q & 1 == 0) {
            let (a, b) = (self.0[i], self.0[i | 1 << q]);
            off = add(off, mul((a.0, -a.1), b));
        }
        p * p + (1.0 - p) * (1.0 - p) + 2.0 * norm(off)
    }

    /// Performs any operation; `draw` decides outcomes, given the probability of 1.
    fn perform(&mut self, op: &Op, draw: &mut impl FnMut(f64) -> bool) {
        // Measures Z after some unitaries, which are undone again.
        let mut within = |d: &mut Dense, before: &[Op], qs: &[Qubit]| {
            before.iter().for_each(|op| d.apply(op));
            let mut value = false;
            for &q in qs {
                value = draw(d.one(q));
                d.project(q, value);
            }
            before.iter().rev().for_each(|op| d.apply(&inverse(op).unwrap()));
            value
        };
        let h = |q| Op::Clifford1(Clifford1::H, q);
        match *op {
            Op::Alloc(q) | Op::Reset(q) | Op::InjectT(q) => {
                if within(self, &[], &[q]) {
                    self.apply(&Op::Pauli(Pauli::X, q));
                }
                if let Op::InjectT(_) = op {
                    self.apply(&h(q));
                    self.apply(&Op::T(q));
                }
            }
            Op::Free(_) => {}
            Op::Measure(Pauli::Z, q, _) => _ = within(self, &[], &[q]),
            Op::Measure(Pauli::X, q, _) => _ = within(self, &[h(q)], &[q]),
            Op::Measure(Pauli::Y, q, _) => _ = within(self, &[Op::Clifford1(Clifford1::Sx, q)], &[q]),
            Op::MeasureAngle(a, q, _) => _ = within(self, &[Op::Rotate(Pauli::Y, q, -a)], &[q]),
            Op::MeasureBell(a, b, ..) => {
                _ = within(self, &[Op::Clifford2(Clifford2::Cnot, a, b), h(a)], &[a, b]);
            }
            _ => self.apply(op),
        }
    }
}

/// Three different registers below n.
fn registers(n: u32, dice: &mut Dice) -> [Qubit; 3] {
    loop {
        let r = [(); 3].map(|()| dice.below(u64::from(n)) as u32);
        if r[0] != r[1] && r[0] != r[2] && r[1] != r[2] {
            return r;
        }
    }
}

/// Every unitary.
fn unitaries([a, b, c]: [Qubit; 3], dice: &mut Dice) -> Vec<Op> {
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

fn irreversible([a, b, _]: [Qubit; 3], dice: &mut Dice) -> Vec<Op> {
    let mut ops = vec![Op::Alloc(a), Op::Reset(a), Op::InjectT(a), Op::MeasureAngle(dice.unit() * 6.0, a, 0)];
    ops.extend([Pauli::X, Pauli::Y, Pauli::Z].map(|p| Op::Measure(p, a, 0)));
    ops.push(Op::MeasureBell(a, b, 0, 1));
    ops
}

fn pick(ops: Vec<Op>, dice: &mut Dice) -> Op {
    ops[dice.below(ops.len() as u64) as usize]
}

fn same(a: &Dense, b: &Dense) -> bool {
    (a.overlap(b) - 1.0).abs() < 1e-9
}

#[test]
fn inverses_undo() {
    let mut dice = Dice(1);
    for _ in 0..50 {
        let r = registers(4, &mut dice);
        for op in unitaries(r, &mut dice) {
            let before = Dense::random(4, &mut dice);
            let mut d = before.clone();
            d.apply(&op);
            d.apply(&inverse(&op).unwrap());
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
    let mut dice = Dice(2);
    for _ in 0..20 {
        let r = registers(3, &mut dice);
        for op in unitaries(r, &mut dice) {
            for q in op.qubits() {
                let mut a = Dense::random(3, &mut dice);
                let mut b = a.clone();
                let z = Op::Pauli(Pauli::Z, q);
                a.apply(&z);
                a.apply(&op);
                b.apply(&op);
                b.apply(&z);
                // X and Y anticommute with Z: same up to a phase, yet not diagonal.
                let flip = matches!(op, Op::Pauli(Pauli::X | Pauli::Y, _));
                assert_eq!(diagonal(&op, q), same(&a, &b) && !flip, "{op:?} {q}");
            }
        }
    }
}

#[test]
fn segments_restore() {
    let mut dice = Dice(3);
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
        segment.inverses().for_each(|op| d.apply(&op));
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

#[test]
fn uncomputing_is_what_it_says() {
    let mut dice = Dice(4);
    let (mut erased, mut never, mut refused) = (0, 0, 0);
    const N: u32 = 4;
    for round in 0..60_000 {
        let initial = Dense::random(N, &mut dice);
        let mut d = initial.clone();
        let q = 0;
        let mut ops: Vec<Op> = vec![];
        // Half of the circuits compute classically on q.
        if round % 2 == 0 {
            ops.push(pick(vec![Op::Alloc(q), Op::Measure(Pauli::Z, q, 0)], &mut dice));
        }
        for _ in 0..2 + dice.below(7) {
            let r = registers(N, &mut dice);
            let op = match dice.below(12) {
                0 => pick(irreversible(r, &mut dice), &mut dice),
                1..=5 => {
                    let (c, e) = loop {
                        let [c, e, _] = registers(N, &mut dice);
                        if c != q && e != q {
                            break (c, e);
                        }
                    };
                    pick(vec![cnot(c, q), Op::Toffoli(c, e, q), Op::Pauli(Pauli::Y, q), cnot(q, c)], &mut dice)
                }
                _ => pick(unitaries(r, &mut dice), &mut dice),
            };
            ops.push(op);
        }
        let mut outcomes = vec![];
        let mut segment = Segment::default();
        for op in &ops {
            d.perform(op, &mut |p| {
                let value = dice.unit() < p;
                outcomes.push(value);
                value
            });
            segment.push(*op);
        }
        let Some(undo) = segment.uncompute(q) else {
            refused += 1;
            continue;
        };
        assert!(undo.iter().all(|op| op.qubits().all(|r| r == q || diagonal(op, r))));
        let mut undone = d.clone();
        undo.iter().for_each(|op| undone.apply(op));

        let origin = ops.iter().rposition(|op| inverse(op).is_none() && op.qubits().any(|r| r == q));
        let life = || ops.iter().skip(origin.map_or(0, |i| i + 1)).filter(|op| op.qubits().any(|r| r == q));
        let erase = segment.origin(q) == Known::Basis && life().all(|op| classical(op, q));
        let joint = undo.iter().any(|op| op.qubits().count() > 1);
        if erase {
            // One value of q per value of the rest, and that amplitude stays with q at its origin.
            let mut at = initial.clone();
            let mut replay = outcomes.iter();
            ops.iter().take(origin.unwrap() + 1).for_each(|op| at.perform(op, &mut |_| *replay.next().unwrap()));
            let value = usize::from(at.one(q) > 0.5);
            let mut want = Dense(vec![(0.0, 0.0); 1 << N]);
            for (i, a) in d.0.iter().enumerate() {
                let j = i & !(1 << q) | value << q;
                assert!(norm(*a) < 1e-18 || norm(want.0[j]) < 1e-18);
                want.0[j] = add(want.0[j], *a);
            }
            assert!(same(&want, &undone), "{ops:?}");
            erased += usize::from(joint);
        }
        if !erase || life().all(|op| !diagonal(op, q) && !matches!(op, Op::Pauli(Pauli::Y, _))) {
            // The others never saw q.
            let mut want = initial.clone();
            let mut replay = outcomes.iter();
            for (i, op) in ops.iter().enumerate() {
                if origin.is_some_and(|o| i <= o) || op.qubits().all(|r| r != q) {
                    want.perform(op, &mut |_| *replay.next().unwrap());
                }
            }
            assert!(replay.next().is_none() && same(&want, &undone), "{ops:?}");
            never += usize::from(joint);
        }
    }
    assert!(erased > 3000 && never > 3000 && refused > 3000, "{erased} {never} {refused}");
}

#[test]
fn what_is_known_is_so() {
    let mut dice = Dice(5);
    let (mut basis, mut measured) = (0, 0);
    for round in 0..20_000 {
        let mut d = Dense::new(4);
        let mut known = [Known::Basis; 4];
        for q in 0..4 {
            if dice.below(2) == 1 {
                d.apply(&Op::Pauli(Pauli::X, q));
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
                let one = d.one(q);
                match known[q as usize] {
                    Known::Basis => {
                        assert!(one.min(1.0 - one).abs() < 1e-9, "{op:?}");
                        basis += 1;
                    }
                    Known::Measured if round % 2 == 0 => {
                        assert!((d.purity(q) - 1.0).abs() < 1e-9, "{op:?}");
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

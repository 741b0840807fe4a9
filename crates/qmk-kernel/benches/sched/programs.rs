//! Programs to be scheduled. The generators are fixed: a program is the same on every machine.

use qmk_abi::image::{Clifford1, Clifford2, Image, Instr, Op, Pauli, Qubit};
use qmk_testkit::Rng;
use std::f64::consts::PI;

/// A program under construction.
struct Draft {
    qubits: u32,
    code: Vec<Instr>,
}

impl Draft {
    fn new(qubits: u32) -> Self {
        let mut draft = Draft { qubits, code: Vec::new() };
        (0..qubits).for_each(|q| draft.put(Op::Alloc(q)));
        draft
    }

    fn put(&mut self, op: Op) {
        self.code.push(Instr { op, cond: None });
    }

    fn h(&mut self, q: Qubit) {
        self.put(Op::Clifford1(Clifford1::H, q));
    }

    fn cnot(&mut self, a: Qubit, b: Qubit) {
        self.put(Op::Clifford2(Clifford2::Cnot, a, b));
    }

    /// Measures and frees all.
    fn finish(mut self) -> Image {
        for q in 0..self.qubits {
            self.put(Op::Measure(Pauli::Z, q, q));
            self.put(Op::Free(q));
        }
        Image { qubits: self.qubits, events: self.qubits, code: self.code, terms: Vec::new() }
    }
}

/// Ripple-carry addition of two numbers of `n` bits (Cuccaro et al., quant-ph/0410184).
pub(crate) fn adder(n: u32, toffoli: fn(&mut Vec<Op>, [Qubit; 3])) -> Image {
    let (a, b, carry) = (|i| 1 + 2 * i, |i| 2 + 2 * i, |i: u32| 2 * i);
    let mut draft = Draft::new(2 * n + 2);
    let three = |draft: &mut Draft, qubits| {
        let mut ops = Vec::new();
        toffoli(&mut ops, qubits);
        ops.into_iter().for_each(|op| draft.put(op));
    };
    // Majority, upwards. The carry of a position lies where the bit of the one below was.
    let below = |i: u32| if i == 0 { 0 } else { carry(i) - 1 };
    for i in 0..n {
        draft.cnot(a(i), b(i));
        draft.cnot(a(i), below(i));
        three(&mut draft, [below(i), b(i), a(i)]);
    }
    draft.cnot(a(n - 1), 2 * n + 1);
    for i in (0..n).rev() {
        three(&mut draft, [below(i), b(i), a(i)]);
        draft.cnot(a(i), below(i));
        draft.cnot(below(i), b(i));
    }
    draft.finish()
}

/// One instruction.
pub(crate) fn whole(ops: &mut Vec<Op>, [a, b, c]: [Qubit; 3]) {
    ops.push(Op::Toffoli(a, b, c));
}

/// Seven T gates (Nielsen & Chuang, figure 4.9).
pub(crate) fn of_t(ops: &mut Vec<Op>, [a, b, c]: [Qubit; 3]) {
    let cnot = |a, b| Op::Clifford2(Clifford2::Cnot, a, b);
    let h = Op::Clifford1(Clifford1::H, c);
    ops.extend([h, cnot(b, c), Op::Tdg(c), cnot(a, c), Op::T(c), cnot(b, c), Op::Tdg(c), cnot(a, c)]);
    ops.extend([Op::T(b), Op::T(c), h, cnot(a, b), Op::T(a), Op::Tdg(b), cnot(a, b)]);
}

/// Quantum Fourier transform, of rotations.
pub(crate) fn qft(n: u32) -> Image {
    let mut draft = Draft::new(n);
    for i in 0..n {
        draft.h(i);
        for j in i + 1..n {
            let angle = PI / 2f64.powi((j - i) as i32);
            let z = |q, angle| Op::Rotate(Pauli::Z, q, angle / 2.0);
            draft.put(z(i, angle));
            draft.put(z(j, angle));
            draft.cnot(j, i);
            draft.put(z(i, -angle));
            draft.cnot(j, i);
        }
    }
    draft.finish()
}

/// GHZ state, in logarithmic depth.
pub(crate) fn ghz(n: u32) -> Image {
    let mut draft = Draft::new(n);
    draft.h(0);
    let mut have = 1;
    while have < n {
        for i in 0..have.min(n - have) {
            draft.cnot(i, have + i);
        }
        have *= 2;
    }
    draft.finish()
}

/// Layers of random gates on random pairs, of which one in `t` is followed by a T gate; none if it is 0.
pub(crate) fn random(n: u32, layers: u32, t: u64, seed: u64) -> Image {
    let mut dice = Rng::new(seed);
    let mut draft = Draft::new(n);
    let mut order: Vec<u32> = (0..n).collect();
    for _ in 0..layers {
        for i in (1..n as usize).rev() {
            order.swap(i, dice.below(i + 1));
        }
        for pair in order.chunks_exact(2) {
            draft.cnot(pair[0], pair[1]);
            let gates = [Clifford1::H, Clifford1::S, Clifford1::Sx, Clifford1::Sdg];
            draft.put(Op::Clifford1(dice.pick(&gates), pair[0]));
            if t > 0 && dice.next().is_multiple_of(t) {
                draft.put(Op::T(pair[1]));
            }
        }
    }
    draft.finish()
}

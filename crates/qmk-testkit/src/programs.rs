//! Random operations, and programs that are admitted.

use crate::rng::Rng;
use qmk_kernel::abi::image::{Clifford1, Clifford2, Cond, CondTerm, Image, Instr, Op, Pauli};

/// A program of `length` instructions over at most four registers at once. One in `fences` is a fence, about one in
/// `breaks` is irreversible.
pub fn program(length: usize, fences: usize, breaks: usize, dice: &mut Rng) -> Image {
    let mut image = Image::default();
    let mut live: Vec<u32> = Vec::new();
    let mut written: Vec<u32> = Vec::new();
    for _ in 0..1 + dice.below(4) {
        let q = image.qubits;
        push(&mut image, Op::Alloc(q), None);
        live.push(q);
        image.qubits += 1;
    }
    while image.code.len() < length {
        if dice.one_in(fences) {
            push(&mut image, Op::Fence, None);
            continue;
        }
        let op = match dice.below(breaks) {
            0 if dice.one_in(3) => {
                let (op, register) = if live.len() == 4 || live.len() > 1 && dice.one_in(2) {
                    let q = live.remove(dice.below(live.len()));
                    (Op::Free(q), None)
                } else {
                    // A register may come back.
                    let back = (0..image.qubits).find(|q| !live.contains(q)).filter(|_| dice.one_in(2));
                    let q = back.unwrap_or(image.qubits);
                    (Op::Alloc(q), Some(q))
                };
                live.extend(register);
                image.qubits = image.qubits.max(register.map_or(0, |q| q + 1));
                push(&mut image, op, None);
                continue;
            }
            0 => irreversible(live.len(), dice),
            _ => unitary(live.len(), dice),
        };
        let cond = (!written.is_empty() && dice.one_in(4)).then(|| {
            let start = image.terms.len() as u32;
            image.terms.push(CondTerm::Event(dice.pick(&written)));
            if dice.one_in(2) {
                image.terms.extend([CondTerm::Event(dice.pick(&written)), CondTerm::Xor(2)]);
            }
            Cond { start, end: image.terms.len() as u32 }
        });
        // Each event is written once.
        let first = image.events;
        let op = match op.map_qubits(|q| live[q as usize]) {
            Op::Measure(p, q, _) => Op::Measure(p, q, first),
            Op::MeasureAngle(a, q, _) => Op::MeasureAngle(a, q, first),
            Op::MeasureBell(a, b, ..) => Op::MeasureBell(a, b, first, first + 1),
            other => other,
        };
        image.events += op.writes().count() as u32;
        written.extend(op.writes());
        push(&mut image, op, cond);
    }
    for q in live {
        let event = image.events;
        image.events += 1;
        push(&mut image, Op::Measure(Pauli::Z, q, event), None);
    }
    image
}

fn push(image: &mut Image, op: Op, cond: Option<Cond>) {
    image.code.push(Instr { op, cond });
}

fn angle(dice: &mut Rng) -> f64 {
    dice.unit() * 12.0 - 6.0
}

/// A unitary operation on some of `n` registers.
pub fn unitary(n: usize, dice: &mut Rng) -> Op {
    use Clifford1::*;
    let mut q: Vec<u32> = (0..n as u32).collect();
    (1..n).rev().for_each(|i| q.swap(i, dice.below(i + 1)));
    let pauli = dice.pick(&[Pauli::X, Pauli::Y, Pauli::Z]);
    let last = if n < 2 {
        5
    } else if n < 3 {
        9
    } else {
        11
    };
    match dice.below(last) {
        0 => Op::Pauli(pauli, q[0]),
        1 => Op::Clifford1(dice.pick(&[H, S, Sdg, Sx, Sxdg]), q[0]),
        2 => Op::T(q[0]),
        3 => Op::Tdg(q[0]),
        4 => Op::Rotate(pauli, q[0], angle(dice)),
        5 => Op::Clifford2(Clifford2::Cnot, q[0], q[1]),
        6 => Op::Clifford2(Clifford2::Cz, q[0], q[1]),
        7 => Op::Clifford2(Clifford2::Swap, q[0], q[1]),
        8 => Op::TeleportCnot(q[0], q[1]),
        9 => Op::Ccz(q[0], q[1], q[2]),
        _ => Op::Toffoli(q[0], q[1], q[2]),
    }
}

/// An irreversible operation that has no system call of its own, on some of `n` registers.
pub fn irreversible(n: usize, dice: &mut Rng) -> Op {
    let q = dice.below(n) as u32;
    let pauli = dice.pick(&[Pauli::X, Pauli::Y, Pauli::Z]);
    match dice.below(if n < 2 { 5 } else { 6 }) {
        0 => Op::Reset(q),
        1 => Op::InjectT(q),
        2 => Op::MeasureAngle(angle(dice), q, 0),
        3 | 4 => Op::Measure(pauli, q, 0),
        _ => Op::MeasureBell(q, (q + 1) % n as u32, 0, 1),
    }
}

/// An instruction without a condition.
pub fn plain(op: Op) -> Instr {
    Instr { op, cond: None }
}

/// A program without conditions.
pub fn image(qubits: u32, events: u32, code: &[Op]) -> Image {
    Image { qubits, events, code: code.iter().map(|&op| plain(op)).collect(), terms: Vec::new() }
}

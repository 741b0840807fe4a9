//! Random programs that are admitted.

use super::{Dice, irreversible, unitary};
use qmk_kernel::abi::image::{Cond, CondTerm, Image, Instr, Op};

/// A program of `length` instructions over at most four registers at once. One in `fences` is a fence, about one in
/// `breaks` is irreversible.
pub fn program(length: usize, fences: usize, breaks: usize, dice: &mut Dice) -> Image {
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
        push(&mut image, Op::Measure(qmk_kernel::abi::image::Pauli::Z, q, event), None);
    }
    image
}

fn push(image: &mut Image, op: Op, cond: Option<Cond>) {
    image.code.push(Instr { op, cond });
}

//! Random images for proptest: any, and those that the judge admits.

use crate::judge::admissible;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use qmk_kernel::abi::Rights;
use qmk_kernel::abi::image::{Clifford1, Clifford2, Cond, CondTerm, Image, Instr, Op, Pauli};

/// A runner that draws the same cases every time.
pub fn runner(cases: u32) -> TestRunner {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Registers and events of the images.
const SIZE: u32 = 4;

/// An operation on the first few registers, some of them out of range.
pub fn op() -> impl Strategy<Value = Op> {
    // One beyond the size, so that some operands are out of range.
    let q = 0..=SIZE;
    let e = 0..=SIZE;
    prop_oneof![
        4 => q.clone().prop_map(Op::Alloc),
        2 => q.clone().prop_map(Op::Free),
        2 => Just(Op::Fence),
        2 => q.clone().prop_map(|q| Op::Clifford1(Clifford1::H, q)),
        2 => (q.clone(), q.clone()).prop_map(|(a, b)| Op::Clifford2(Clifford2::Cnot, a, b)),
        1 => q.clone().prop_map(|q| Op::Pauli(Pauli::Y, q)),
        1 => q.clone().prop_map(Op::T),
        1 => q.clone().prop_map(Op::Reset),
        1 => q.clone().prop_map(Op::InjectT),
        1 => (q.clone(), q.clone()).prop_map(|(a, b)| Op::TeleportCnot(a, b)),
        1 => (q.clone(), prop_oneof![9 => Just(0.3), 1 => Just(f64::NAN)]).prop_map(|(q, t)| Op::Rotate(Pauli::X, q, t)),
        1 => (q.clone(), q.clone(), q.clone()).prop_map(|(a, b, c)| Op::Toffoli(a, b, c)),
        3 => (q.clone(), e.clone()).prop_map(|(q, e)| Op::Measure(Pauli::Z, q, e)),
        1 => (q.clone(), q.clone(), e.clone(), e).prop_map(|(a, b, e, f)| Op::MeasureBell(a, b, e, f)),
    ]
}

fn term() -> impl Strategy<Value = CondTerm> {
    prop_oneof![
        6 => (0..=SIZE).prop_map(CondTerm::Event),
        1 => Just(CondTerm::Not),
        1 => (0..4u32).prop_map(CondTerm::And),
        1 => (0..4u32).prop_map(CondTerm::Or),
        1 => (0..4u32).prop_map(CondTerm::Xor),
    ]
}

/// Any image, most of them wrong.
pub fn any_image() -> impl Strategy<Value = Image> {
    let cond = proptest::option::weighted(0.2, (0..6u32, 0..4u32).prop_map(|(s, n)| Cond { start: s, end: s + n }));
    let instr = (op(), cond).prop_map(|(op, cond)| Instr { op, cond });
    (0..=SIZE, 0..=SIZE, proptest::collection::vec(instr, 0..14), proptest::collection::vec(term(), 0..8))
        .prop_map(|(qubits, events, code, terms)| Image { qubits, events, code, terms })
}

/// The operation on registers in use and on events not yet written, as far as there are any.
fn fitted(op: Op, before: &[Instr]) -> Op {
    let mut live = vec![];
    for i in before {
        match i.op {
            Op::Alloc(q) => live.push(q),
            Op::Free(q) => live.retain(|&l| l != q),
            _ => {}
        }
    }
    let from = |list: &[u32], i: u32| list.get(i as usize % list.len().max(1)).copied().unwrap_or(i);
    let others = |taken: &dyn Fn(u32) -> bool| (0..SIZE).filter(|&i| !taken(i)).collect::<Vec<u32>>();
    let unused = others(&|q| live.contains(&q));
    let fresh = others(&|e| before.iter().any(|i| i.op.writes().any(|w| w == e)));
    match op {
        Op::Alloc(q) => Op::Alloc(from(&unused, q)),
        _ if live.is_empty() => Op::Alloc(from(&unused, op.qubits().next().unwrap_or(0))),
        _ => match op.map_qubits(|q| from(&live, q)) {
            Op::Measure(p, q, e) => Op::Measure(p, q, from(&fresh, e)),
            Op::MeasureBell(a, b, e, f) => Op::MeasureBell(a, b, from(&fresh, e), from(&fresh, f)),
            other => other,
        },
    }
}

/// An image from which every instruction that the judge objects to was dropped. Chance hardly ever makes one that he
/// lets through, so registers and events are fitted, and some get a condition over the events written before.
pub fn valid_image() -> impl Strategy<Value = Image> {
    let reads = (any::<[prop::sample::Index; 3]>(), 1..4u32, term());
    (any_image(), proptest::collection::vec(proptest::option::weighted(0.3, reads), 14)).prop_map(|(image, reads)| {
        let mut kept = Image { qubits: SIZE, events: SIZE, code: Vec::new(), ..image };
        for (instr, reads) in image.code.into_iter().zip(reads) {
            let written: Vec<u32> = kept.code.iter().flat_map(|i| i.op.writes()).collect();
            let cond = reads.filter(|_| !written.is_empty()).map(|(events, n, join)| {
                let start = kept.terms.len() as u32;
                kept.terms.extend(events[..n as usize].iter().map(|e| CondTerm::Event(*e.get(&written))));
                kept.terms.push(match join {
                    CondTerm::And(_) => CondTerm::And(n),
                    CondTerm::Or(_) => CondTerm::Or(n),
                    _ => CondTerm::Xor(n),
                });
                kept.terms.extend((join == CondTerm::Not).then_some(join));
                Cond { start, end: kept.terms.len() as u32 }
            });
            kept.code.push(Instr { op: fitted(instr.op, &kept.code), cond: cond.or(instr.cond) });
            if !admissible(&kept, Rights::all()) {
                kept.code.pop();
            }
        }
        kept
    })
}

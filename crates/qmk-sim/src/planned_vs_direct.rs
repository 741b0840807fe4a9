//! Differential test: planned shots against single shots, bit by bit, for the same seed.

use crate::batch::plan::{Plan, Unplannable, plan};
use crate::batch::sampler::Sampler;
use crate::batch::shots::ShotBatch;
use crate::ledger::Charge;
use crate::program::check::check_noise;
use crate::program::steps::Program;
use crate::single_shot::SingleShot;
use crate::{SimConfig, SimDevice};
use qmk_abi::image::{Clifford1, Clifford2, Cond, CondTerm, Image, Instr, Op, Pauli};
use qmk_hal::{Channel, Column, Device, Inline, Noise, SpaceSpec};
use qmk_testkit::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The kind of a random program.
#[derive(Clone, Copy)]
struct Mix {
    qubits: usize,
    length: usize,
    /// Of 16 operations, how many carry magic.
    magic: usize,
    noise: bool,
    /// Conditions on anything, not on Paulis only.
    conditional: bool,
}

/// A program with what the testkit's programs lack and plans depend on: noise after its operations, hundreds of
/// registers, and a share of magic that is set.
fn program(dice: &mut Rng, mix: Mix) -> (Image, Vec<Noise>) {
    let mut image = Image { qubits: mix.qubits as u32, ..Image::default() };
    let mut live: Vec<u32> = Vec::new();
    let mut noise: Vec<Noise> = Vec::new();
    for _ in 0..mix.length {
        let dead: Vec<u32> = (0..image.qubits).filter(|q| !live.contains(q)).collect();
        if !dead.is_empty() && (live.len() < 2 || dice.one_in(6)) {
            let q = dice.pick(&dead);
            live.push(q);
            image.code.push(Instr { op: Op::Alloc(q), cond: None });
            continue;
        }
        let q = dice.pick(&live);
        let others: Vec<u32> = live.iter().copied().filter(|&o| o != q).collect();
        let event = image.events;
        let op = operation(dice, mix.magic, q, &others, event);
        if matches!(op, Op::Free(_)) {
            live.retain(|&l| l != q);
        }
        let unitary = !matches!(op, Op::Free(_) | Op::Reset(_) | Op::InjectT(_)) && op.writes().next().is_none();
        let may = matches!(op, Op::Pauli(..)) || mix.conditional && unitary;
        let cond = (may && event > 0 && dice.one_in(2)).then(|| condition(dice, &mut image));
        image.events += op.writes().count() as u32;
        image.code.push(Instr { op, cond });
        if mix.noise && !matches!(op, Op::Free(_)) {
            add_channel(dice, image.code.len() as u32 - 1, q, &others, op.writes().next(), &mut noise);
        }
    }
    for &q in &live {
        image.code.push(Instr { op: Op::Measure(Pauli::Z, q, image.events), cond: None });
        image.events += 1;
    }
    live.iter().for_each(|&q| image.code.push(Instr { op: Op::Free(q), cond: None }));
    (image, noise)
}

/// An operation on q, and on others of the live registers.
fn operation(dice: &mut Rng, magic: usize, q: u32, others: &[u32], event: u32) -> Op {
    use Clifford1::*;
    let pauli = dice.pick(&[Pauli::X, Pauli::Y, Pauli::Z]);
    if dice.below(16) < magic {
        return match dice.below(6) {
            0 => Op::T(q),
            1 => Op::Tdg(q),
            2 => Op::Rotate(pauli, q, dice.unit() * 6.0 - 3.0),
            3 => Op::MeasureAngle(dice.unit() * 6.0 - 3.0, q, event),
            4 if others.len() >= 2 => {
                let b = dice.pick(others);
                let c = dice.pick(others);
                if b == c { Op::InjectT(q) } else { Op::Toffoli(q, b, c) }
            }
            _ => Op::InjectT(q),
        };
    }
    match dice.below(16) {
        0..=4 => Op::Clifford1(dice.pick(&[H, S, Sdg, Sx, Sxdg]), q),
        5..=9 if !others.is_empty() => {
            Op::Clifford2(dice.pick(&[Clifford2::Cnot, Clifford2::Cz, Clifford2::Swap]), q, dice.pick(others))
        }
        10 => Op::Pauli(pauli, q),
        11 | 12 => Op::Measure(pauli, q, event),
        13 if !others.is_empty() => Op::MeasureBell(q, dice.pick(others), event, event + 1),
        14 => Op::Reset(q),
        15 if others.len() > 1 => Op::Free(q),
        _ => Op::Measure(Pauli::Z, q, event),
    }
}

/// A condition on up to three events, some of them negated.
fn condition(dice: &mut Rng, image: &mut Image) -> Cond {
    let start = image.terms.len() as u32;
    let count = 1 + dice.below(3) as u32;
    for _ in 0..count {
        image.terms.push(CondTerm::Event(dice.below(image.events as usize) as u32));
        if dice.one_in(3) {
            image.terms.push(CondTerm::Not);
        }
    }
    image.terms.push(dice.pick(&[CondTerm::And(count), CondTerm::Or(count), CondTerm::Xor(count)]));
    Cond { start, end: image.terms.len() as u32 }
}

/// Adds a noise channel after an instruction on q that writes an event, or none.
fn add_channel(dice: &mut Rng, after: u32, q: u32, others: &[u32], event: Option<u32>, noise: &mut Vec<Noise>) {
    let p = dice.pick(&[0.001, 0.03, 0.4]);
    let channel = match (dice.below(4), event) {
        (0, _) => Channel::depolarize1(q, p),
        (1, _) if others.len() > 1 => Channel::depolarize2(others[0], others[1], p),
        (2, Some(event)) => Channel::Flip { event, p },
        (3, _) => {
            let given = noise.iter().filter(|n| matches!(n.channel, Channel::Given { .. }));
            Channel::Given { qubit: q, column: given.count() as u32 }
        }
        _ => return,
    };
    noise.push(Noise { after, channel });
    if matches!(channel, Channel::Flip { .. }) && dice.one_in(2) {
        noise.push(Noise { after, channel });
    }
}

/// Columns for all given channels, with one bit in three set.
fn columns(dice: &mut Rng, noise: &[Noise], shots: u64) -> Arc<[Column]> {
    let given = noise.iter().filter(|n| matches!(n.channel, Channel::Given { .. }));
    let mut bits = || {
        let word = |dice: &mut Rng| (0..64).fold(0, |w, i| w | (dice.one_in(3) as u64) << i);
        (0..shots.div_ceil(64)).map(|_| word(dice)).collect()
    };
    given.map(|_| Column { x: bits(), z: bits() }).collect()
}

fn one_by_one(program: &Program, image: &Image, seed: u64, shots: std::ops::Range<u64>) -> Vec<Vec<bool>> {
    shots
        .map(|shot| {
            let mut single = SingleShot::new(program, image, seed, shot, 20, &Charge::default());
            assert_eq!(single.run(program, image, &mut i64::MAX.clone()), Ok(true));
            single.events
        })
        .collect()
}

/// A few steps at a time.
fn lanes(plan: Plan, image: &Image, seed: u64, first: u64, shots: usize) -> Vec<u8> {
    let mut batch = ShotBatch::new(&Arc::new(Sampler::new(plan, seed, 1)), &Arc::new(image.clone()), first, shots);
    while !batch.advance(&mut 10) {}
    let stride = image.events.div_ceil(8) as usize;
    let mut out = vec![0; shots * stride];
    batch.write(stride, &mut out);
    out
}

fn compare(cases: u64, mix: Mix, shots: u64, first: u64) -> u64 {
    let mut planned = 0;
    for case in 0..cases {
        let mut dice = Rng::new(case);
        let (image, noise) = program(&mut dice, mix);
        check_noise(&image, &noise).unwrap();
        let mut program = Program::new(&image, &noise);
        program.columns = columns(&mut dice, &noise, first + shots);
        // With deferred rotations, and without.
        program.defers_from = (case % 2) as u32 * 100;
        let Ok(plan) = plan(&program, &image, 10) else { continue };
        planned += 1;
        let stride = image.events.div_ceil(8) as usize;
        let out = lanes(plan, &image, case, first, shots as usize);
        for (shot, events) in one_by_one(&program, &image, case, first..first + shots).iter().enumerate() {
            let bytes = &out[shot * stride..(shot + 1) * stride];
            let got: Vec<bool> = (0..image.events as usize).map(|e| bytes[e / 8] >> (e % 8) & 1 == 1).collect();
            assert_eq!(&got, events, "case {case}, shot {shot}: {:?}", image.code);
        }
    }
    planned
}

#[test]
fn clifford_programs_agree() {
    let mix = Mix { qubits: 8, length: 60, magic: 0, noise: false, conditional: false };
    assert_eq!(compare(300, mix, 100, 0), 300);
    // Several words to a row.
    assert_eq!(compare(3, Mix { qubits: 300, length: 2000, ..mix }, 10, 1 << 20), 3);
}

#[test]
fn programs_with_magic_agree() {
    let mix = Mix { qubits: 6, length: 50, magic: 4, noise: false, conditional: false };
    assert_eq!(compare(300, mix, 70, 64), 300);
}

#[test]
fn noisy_programs_agree() {
    let mix = Mix { qubits: 6, length: 40, magic: 0, noise: true, conditional: false };
    assert_eq!(compare(150, mix, 100, 960), 150);
    assert_eq!(compare(150, Mix { magic: 3, ..mix }, 100, 960), 150);
}

#[test]
fn conditions_on_any_operation_agree() {
    let mix = Mix { qubits: 5, length: 25, magic: 2, noise: false, conditional: true };
    let planned = compare(400, mix, 40, 0);
    assert!(planned > 200, "only {planned} programs had a plan");
}

/// The given Paulis as instructions, each under a condition on an event that a qubit of its own is measured into.
fn spelled_out(image: &Image, noise: &[Noise], columns: &[Column], shot: u64) -> Image {
    let mut spelled = Image { code: Vec::new(), ..image.clone() };
    let mut channels = noise.iter().peekable();
    let always = |op| Instr { op, cond: None };
    let (bit, one) = (image.qubits, image.events);
    spelled.qubits += 1;
    spelled.events += 1;
    let prepare = [Op::Alloc(bit), Op::Pauli(Pauli::X, bit), Op::Measure(Pauli::Z, bit, one), Op::Free(bit)];
    spelled.code.extend(prepare.map(always));
    spelled.terms.extend([CondTerm::Event(one), CondTerm::Event(one), CondTerm::Not]);
    let end = spelled.terms.len() as u32;
    let (yes, no) = (Cond { start: end - 3, end: end - 2 }, Cond { start: end - 2, end });
    for (at, instr) in image.code.iter().enumerate() {
        spelled.code.push(*instr);
        while let Some(n) = channels.next_if(|n| n.after as usize == at) {
            let Channel::Given { qubit, column } = n.channel else { continue };
            let Column { x, z } = &columns[column as usize];
            for (p, bits) in [(Pauli::X, x), (Pauli::Z, z)] {
                let strikes = bits[shot as usize / 64] >> (shot % 64) & 1 == 1;
                spelled.code.push(Instr { op: Op::Pauli(p, qubit), cond: Some(if strikes { yes } else { no }) });
            }
        }
    }
    spelled
}

/// The first four outcomes of a program, where 500 seeds agree on them. An outcome of probability cos^2(pi/8), the
/// closest to certain that a T gate leaves, would seem certain once in 10^34 times.
fn certain_outcomes(image: &Image) -> Vec<Option<bool>> {
    let program = Program::new(image, &[]);
    let runs: Vec<_> = (0..500).map(|seed| one_by_one(&program, image, seed, 0..1).remove(0)).collect();
    (0..4).map(|event| runs.iter().all(|r| r[event] == runs[0][event]).then_some(runs[0][event])).collect()
}

/// Outcomes are drawn by the number of the instruction, so programs whose outcomes are certain are compared.
#[test]
fn given_paulis_are_those_of_the_program() {
    let h = |q| Op::Clifford1(Clifford1::H, q);
    let cnot = |a, b| Op::Clifford2(Clifford2::Cnot, a, b);
    let always = |op| Instr { op, cond: None };
    // (|000> + |111>) by way of an outcome, T and its inverse in between, then undone.
    let mut image = Image { qubits: 3, events: 6, ..Image::default() };
    image.terms = vec![CondTerm::Event(0)];
    let code = [Op::Alloc(0), Op::Alloc(1), Op::Alloc(2), Op::Measure(Pauli::Z, 2, 0), h(0), cnot(0, 1), Op::T(0)];
    image.code.extend(code.map(always));
    image.code.push(Instr { op: cnot(1, 2), cond: Some(Cond { start: 0, end: 1 }) });
    image.code.extend([Op::T(1), cnot(0, 1), Op::Clifford1(Clifford1::Sdg, 0), h(0)].map(always));
    image.code.extend([0, 1, 2].map(|q| always(Op::Measure(Pauli::Z, q, q + 1))));
    let shots = 200;
    let at = |after, qubit, column| Noise { after, channel: Channel::Given { qubit, column } };
    let places = [(2, 2), (4, 0), (5, 0), (5, 1), (6, 1), (8, 2), (10, 0), (11, 0), (11, 1), (11, 2)];
    let mut certain = 0;
    for (i, (after, qubit)) in places.into_iter().enumerate() {
        let noise: Arc<[Noise]> = Arc::new([at(after, qubit, 0)]);
        let columns = columns(&mut Rng::new(i as u64), &noise, shots);
        let mut device = SimDevice::new(SimConfig { threads: 2, ..SimConfig::default() });
        let spec = SpaceSpec {
            image: Arc::new(image.clone()),
            noise: noise.clone(),
            shots,
            seed: 7,
            max_active: 8,
            ..SpaceSpec::default()
        };
        let space = device.open(spec).unwrap();
        (0..image.code.len() as u32).for_each(|i| device.issue(space, i).unwrap());
        assert!(device.give(space, columns[..0].into()).is_err());
        device.give(space, columns.clone()).unwrap();
        while device.work(space, 1000).unwrap().shots_done < shots {}
        // Shots in which the same Paulis strike have the same program.
        let mut known: BTreeMap<[bool; 2], Vec<Option<bool>>> = BTreeMap::new();
        for shot in 0..shots {
            let strikes = [&columns[0].x, &columns[0].z].map(|bits| bits[shot as usize / 64] >> (shot % 64) & 1 == 1);
            let outcomes =
                known.entry(strikes).or_insert_with(|| certain_outcomes(&spelled_out(&image, &noise, &columns, shot)));
            for (event, outcome) in (0..).zip(outcomes).filter_map(|(event, o)| Some((event, (*o)?))) {
                certain += 1;
                assert_eq!(device.outcome(space, shot, event), outcome, "{i}, shot {shot}, {event}");
            }
        }
        // An X before the measurement flips its shots and no others.
        if after == 11 && qubit > 0 {
            let flipped = |shot: u64| columns[0].x[shot as usize / 64] >> (shot % 64) & 1 == 1;
            let event = qubit + 1;
            assert!((0..shots).all(|shot| device.outcome(space, shot, event) == flipped(shot)), "{i}");
        }
    }
    assert!(certain > 5000, "{certain}");
}

fn outcomes(device: &mut SimDevice, image: &Arc<Image>, noise: &Arc<[Noise]>, budget: u64) -> Vec<u8> {
    let given = columns(&mut Rng::new(3), noise, 3000);
    let (image, noise, shots) = (image.clone(), noise.clone(), 3000);
    let code = image.code.len() as u32;
    let space =
        device.open(SpaceSpec { image, noise, shots, seed: 5, max_active: 20, ..SpaceSpec::default() }).unwrap();
    (0..code).for_each(|i| device.issue(space, i).unwrap());
    device.give(space, given).unwrap();
    while device.work(space, budget).unwrap().shots_done < shots {}
    let mut out = Vec::new();
    device.outcomes(space, 0, shots as u32, &mut out);
    device.close(space);
    out
}

#[test]
fn neither_threads_nor_budgets_change_outcomes() {
    let mix = Mix { qubits: 6, length: 40, magic: 3, noise: true, conditional: true };
    for case in 0..30 {
        let (image, noise) = program(&mut Rng::new(case), mix);
        let (image, noise) = (Arc::new(image), noise.into());
        let run = |threads, budget| {
            let mut device = SimDevice::new(SimConfig { threads, ..SimConfig::default() });
            outcomes(&mut device, &image, &noise, budget)
        };
        let one = run(1, u64::MAX);
        assert_eq!(run(4, u64::MAX), one);
        assert_eq!(run(3, 1000), one);
    }
}

/// A line of qubits with a T gate on each before and after each layer of CZs.
fn shallow(n: u32) -> Image {
    let mut image = Image { qubits: n, events: n, ..Image::default() };
    let mut push = |op| image.code.push(Instr { op, cond: None });
    (0..n).for_each(|q| push(Op::Alloc(q)));
    for layer in 0..2 {
        for q in 0..n {
            push(Op::Clifford1(Clifford1::H, q));
            push(Op::T(q));
        }
        (layer..n - 1).step_by(2).for_each(|q| push(Op::Clifford2(Clifford2::Cz, q, q + 1)));
    }
    for q in 0..n {
        push(Op::Clifford1(Clifford1::H, q));
        push(Op::Measure(Pauli::Z, q, q));
    }
    (0..n).for_each(|q| push(Op::Free(q)));
    image
}

#[test]
fn rotations_wait_for_the_measurements_that_they_matter_to() {
    let plan_of = |n| plan(&Program::new(&shallow(n), &[]), &shallow(n), 26).expect("few are active at once");
    assert!(plan_of(1500).peak_active <= 8);
    let image = shallow(200);
    let program = Program::new(&image, &[]);
    let plan = plan(&program, &image, 26).expect("few are active at once");
    assert!(plan.peak_active <= 8, "{} active at once", plan.peak_active);
    let out = lanes(plan, &image, 3, 0, 40);
    for (shot, events) in one_by_one(&program, &image, 3, 0..40).iter().enumerate() {
        assert!((0..200).all(|e| events[e] == (out[25 * shot + e / 8] >> (e % 8) & 1 == 1)), "shot {shot}");
    }
    // Rotations that commute with every measurement cost nothing.
    let mut image = Image { qubits: 20, events: 20, ..Image::default() };
    let ops =
        (0..20).flat_map(|q| [Op::Alloc(q), Op::Clifford1(Clifford1::H, q), Op::Clifford2(Clifford2::Cz, q, q / 2)]);
    image.code.extend(ops.filter(|op| *op != Op::Clifford2(Clifford2::Cz, 0, 0)).map(|op| Instr { op, cond: None }));
    let ends = (0..20).map(Op::T).chain((0..20).map(|q| Op::Measure(Pauli::Z, q, q)));
    image.code.extend(ends.map(|op| Instr { op, cond: None }));
    let program = Program::new(&image, &[]);
    assert_eq!(crate::batch::plan::plan(&program, &image, 0).expect("nothing is active").peak_active, 0);
}

#[test]
fn outcomes_that_are_parities_of_very_many_are_not_planned() {
    let mut image = Image { qubits: 2, ..Image::default() };
    image.code.extend([0, 1].map(|q| Instr { op: Op::Alloc(q), cond: None }));
    for event in (0..40_000).step_by(2) {
        let start = image.terms.len() as u32;
        image.terms.push(CondTerm::Event(event));
        let flip = Some(Cond { start, end: start + 1 });
        let always = [Op::Clifford1(Clifford1::H, 0), Op::Measure(Pauli::Z, 0, event)];
        image.code.extend(always.map(|op| Instr { op, cond: None }));
        image.code.push(Instr { op: Op::Pauli(Pauli::X, 1), cond: flip });
        image.code.push(Instr { op: Op::Measure(Pauli::Z, 1, event + 1), cond: None });
    }
    image.events = 40_000;
    let program = Program::new(&image, &[]);
    assert_eq!(plan(&program, &image, 26).err(), Some(Unplannable::TooLarge));
    let events = &one_by_one(&program, &image, 1, 0..1)[0];
    let parity = |n: usize| (0..=n).fold(false, |p, i| p ^ events[2 * i]);
    assert!((0..20_000).step_by(97).all(|n| events[2 * n + 1] == parity(n)));
}

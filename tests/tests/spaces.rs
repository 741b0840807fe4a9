//! Interactive spaces of the simulated machine: links, saved states and refusals, against the dense reference.

mod common;

use common::{Calibration, Dice, apply, random_op};
use num_complex::Complex64;
use qmk_abi::image::{Clifford1, Clifford2, Image, Instr, Op, Pauli};
use qmk_hal::{Device, DeviceError, Inline, SpaceId, SpaceSpec};
use qmk_sim::rng::{DrawSite, Random};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::dense::{Dense, gates};
use qmk_testkit::statistics::chi_square_p;
use std::collections::BTreeMap;
use std::sync::Arc;

fn open(device: &mut SimDevice, seed: u64, max_active: u32) -> SpaceId {
    let spec = SpaceSpec { shots: 1, seed, max_active, ..SpaceSpec::default() };
    device.open(spec).expect("an interactive space")
}

fn perform(device: &mut SimDevice, space: SpaceId, op: Op) -> Result<(), DeviceError> {
    device.perform(space, Instr { op, cond: None })
}

fn measure(device: &mut SimDevice, space: SpaceId, p: Pauli, q: u32) -> bool {
    perform(device, space, Op::Measure(p, q, 0)).expect("it is not refused");
    device.outcome(space, 0, 0)
}

fn fidelity(a: &[Complex64], b: &[Complex64]) -> f64 {
    assert_eq!(a.len(), b.len());
    Dense { amps: a.to_vec() }.fidelity(b)
}

#[derive(Clone, Copy)]
struct Member {
    id: SpaceId,
    registers: usize,
    seed: u64,
    /// Instructions so far.
    at: u32,
    /// Spaces that share a state have the same.
    group: usize,
}

/// Spaces of a device and the dense state of all of them: qubits in order of space, then of register.
struct World {
    device: SimDevice,
    members: Vec<Member>,
    dense: Dense,
    seen: Calibration,
    refused: u32,
}

impl World {
    fn new() -> Self {
        let device = SimDevice::default();
        World { device, members: Vec::new(), dense: Dense::new(0), seen: Calibration::default(), refused: 0 }
    }

    fn open(&mut self, registers: usize, seed: u64, max_active: u32) {
        let id = open(&mut self.device, seed, max_active);
        for q in 0..registers as u32 {
            perform(&mut self.device, id, Op::Alloc(q)).expect("it is not refused");
        }
        let group = self.members.iter().map(|m| m.group + 1).max().unwrap_or(0);
        self.members.push(Member { id, registers, seed, at: registers as u32, group });
        self.dense.amps.resize(self.dense.amps.len() << registers, Complex64::default());
    }

    fn offset(&self, i: usize) -> usize {
        self.members[..i].iter().map(|m| m.registers).sum()
    }

    /// The machine's state of all spaces: the product of those of the groups.
    fn machine(&self) -> Vec<Complex64> {
        let mut product = vec![Complex64::new(1.0, 0.0); self.dense.amps.len()];
        for group in 0..=self.members.iter().map(|m| m.group).max().unwrap_or(0) {
            let mut bits = Vec::new();
            let mut amps = None;
            for (i, m) in self.members.iter().enumerate().filter(|(_, m)| m.group == group) {
                bits.extend((0..m.registers).map(|q| self.offset(i) + q));
                amps = self.device.amplitudes(m.id);
            }
            let Some(amps) = amps else { continue };
            assert_eq!(amps.len(), 1 << bits.len());
            for (b, a) in product.iter_mut().enumerate() {
                *a *= amps[bits.iter().enumerate().map(|(i, bit)| (b >> bit & 1) << i).sum::<usize>()];
            }
        }
        product
    }

    fn check(&self, what: &str) {
        let machine = self.machine();
        let norm: f64 = machine.iter().map(Complex64::norm_sqr).sum();
        let fidelity = self.dense.fidelity(&machine);
        assert!((norm - 1.0).abs() < 1e-9 && (fidelity - 1.0).abs() < 1e-9, "fidelity {fidelity} after {what}");
    }

    /// Takes over the candidate that is most like the machine's state.
    fn follow(&mut self, candidates: Vec<Dense>) {
        let machine = self.machine();
        let best = candidates.into_iter().max_by(|a, b| a.fidelity(&machine).total_cmp(&b.fidelity(&machine)));
        self.dense = best.expect("something is possible");
    }

    fn perform(&mut self, i: usize, op: Op) {
        let offset = self.offset(i) as u32;
        let m = self.members[i];
        match perform(&mut self.device, m.id, op) {
            Ok(()) => {
                self.members[i].at += 1;
                let outcomes: Vec<bool> = op.writes().map(|e| self.device.outcome(m.id, 0, e)).collect();
                let draws = |draw| (Random { seed: m.seed }, DrawSite { at: m.at, draw }, 0);
                let mut dense = self.dense.clone();
                let mut seen = std::mem::take(&mut self.seen);
                apply(&mut dense, &op.map_qubits(|q| q + offset), &outcomes, &|| self.machine(), &mut seen, &draws);
                (self.dense, self.seen) = (dense, seen);
            }
            Err(DeviceError::TooMuchMagic { at, needed, limit }) => {
                assert!(at == m.at && needed > limit);
                self.refused += 1;
            }
            Err(e) => panic!("{e}"),
        }
        self.check(&format!("{op:?}"));
    }

    fn link(&mut self, (i, q): (usize, u32), (j, r): (usize, u32), errors: [f64; 3]) {
        let (a, b) = (self.offset(i) + q as usize, self.offset(j) + r as usize);
        if let Err(e) = self.device.link((self.members[i].id, q), (self.members[j].id, r), errors) {
            assert!(matches!(e, DeviceError::TooMuchMagic { .. }), "{e}");
            self.refused += 1;
            self.check("a link that was refused");
            return;
        }
        self.members[i].at += 1;
        if i != j {
            self.members[j].at += 1;
        }
        let (old, new) = (self.members[j].group, self.members[i].group);
        self.members.iter_mut().filter(|m| m.group == old).for_each(|m| m.group = new);
        let mut candidates = vec![self.dense.clone()];
        for q in [a, b] {
            candidates = candidates.iter().flat_map(|d| resets(d, q)).collect();
        }
        let mut pairs = Vec::new();
        for mut pair in candidates {
            pair.apply(&gates::H, &[], a);
            pair.apply(&gates::X, &[a], b);
            for (error, p) in [gates::X, gates::Y, gates::Z].iter().zip(errors) {
                let mut wrong = pair.clone();
                wrong.apply(error, &[], b);
                pairs.extend((p > 0.0).then_some(wrong));
            }
            pairs.extend((errors.iter().sum::<f64>() < 1.0).then_some(pair));
        }
        self.follow(pairs);
        self.check("a link");
    }

    fn close(&mut self, i: usize) {
        let (offset, width) = (self.offset(i), self.members[i].registers);
        let m = self.members.remove(i);
        self.device.close(m.id);
        let mut candidates = Vec::new();
        for value in 0..1usize << width {
            let rest = (0..self.dense.amps.len() >> width).map(|b| {
                let low = b & ((1 << offset) - 1);
                self.dense.amps[low | value << offset | (b ^ low) << width]
            });
            let mut amps: Vec<Complex64> = rest.collect();
            let norm: f64 = amps.iter().map(Complex64::norm_sqr).sum();
            amps.iter_mut().for_each(|a| *a /= norm.sqrt());
            candidates.extend((norm > 1e-9).then_some(Dense { amps }));
        }
        self.follow(candidates);
        self.check("a space was closed");
    }
}

/// What a reset may leave.
fn resets(dense: &Dense, q: usize) -> Vec<Dense> {
    let one = dense.probability_of_one(q);
    let branches = [(false, 1.0 - one), (true, one)].into_iter().filter(|(_, p)| *p > 1e-9);
    branches
        .map(|(value, _)| {
            let mut d = dense.clone();
            d.project(q, value);
            // The other branch may be all but impossible, and this one the same.
            let norm: f64 = d.amps.iter().map(Complex64::norm_sqr).sum();
            d.amps.iter_mut().for_each(|a| *a /= norm.sqrt());
            if value {
                d.apply(&gates::X, &[], q);
            }
            d
        })
        .collect()
}

/// Random operations in random spaces, linked at random; spaces come and go if `closing`.
fn wander(case: u64, max_active: u32, closing: bool, seen: &mut Calibration) -> u32 {
    let mut dice = Dice(case, 1 << 40);
    let mut world = World::new();
    world.seen = std::mem::take(seen);
    for i in 0..2 + dice.below(2) {
        world.open(1 + dice.below(3) as usize, 1000 * case + i, max_active);
    }
    for step in 0..40 {
        let count = world.members.len() as u64;
        let i = dice.below(count) as usize;
        let register = |dice: &mut Dice, i: usize| dice.below(world.members[i].registers as u64) as u32;
        match dice.below(12) {
            0 | 1 => {
                let j = dice.below(count) as usize;
                let (q, r) = (register(&mut dice, i), register(&mut dice, j));
                let errors = [[0.0; 3], [0.2, 0.3, 0.1], [0.0, 0.0, 1.0]][dice.below(3) as usize];
                if (i, q) != (j, r) {
                    world.link((i, q), (j, r), errors);
                }
            }
            2 if closing && count > 1 => world.close(i),
            3 if closing && count < 3 => world.open(1 + dice.below(3) as usize, 1000 * case + 10 + step, max_active),
            _ => {
                let op = match random_op(&mut dice, world.members[i].registers as u64) {
                    // These are never refused: what cannot be measured is left behind.
                    Op::Reset(q) | Op::Free(q) if max_active < 4 => Op::Measure(Pauli::Z, q, 0),
                    op => op,
                };
                world.perform(i, op);
            }
        }
    }
    *seen = world.seen;
    world.refused
}

#[test]
fn random_programs_on_linked_spaces_match_amplitude_by_amplitude() {
    let mut seen = Calibration::default();
    for case in 0..1500 {
        assert_eq!(wander(case, 12, true, &mut seen), 0);
    }
    seen.check(1000.0);
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut seen = Calibration::default();
    let refused: u32 = (0..600).map(|case| wander(case, (case % 4) as u32, false, &mut seen)).sum();
    assert!(refused > 500, "only {refused} were refused");
    seen.check(100.0);
}

/// By limit, each operation that measures and needs more than the limit, next to a partner that must not notice.
#[test]
fn every_operation_that_measures_can_be_refused_without_effect() {
    let ops = [Op::Measure(Pauli::Z, 0, 0), Op::MeasureBell(0, 1, 0, 1), Op::MeasureAngle(0.3, 0, 0), Op::InjectT(0)];
    for op in ops {
        let mut world = World::new();
        world.open(2, 1, 1);
        world.open(1, 2, 1);
        world.link((0, 0), (1, 0), [0.0; 3]);
        for (p, q) in [(Pauli::X, 0), (Pauli::Z, 0), (Pauli::X, 0), (Pauli::X, 1), (Pauli::Y, 1)] {
            world.perform(0, Op::Rotate(p, q, 0.7));
        }
        assert_eq!(world.refused, 0);
        for count in 1..3 {
            world.perform(0, op);
            assert_eq!(world.refused, count, "{op:?}");
            // So can a link be.
            assert!(world.device.link((world.members[0].id, 0), (world.members[1].id, 0), [0.0; 3]).is_err());
            world.check("two refusals");
        }
        // What waits is still there, and can be undone.
        for (p, q) in [(Pauli::Y, 1), (Pauli::X, 0), (Pauli::Z, 0), (Pauli::X, 0), (Pauli::X, 1)] {
            world.perform(0, Op::Rotate(p, q, -0.7));
        }
        world.perform(1, Op::Measure(Pauli::Z, 0, 0));
        world.perform(0, op);
        assert_eq!(world.refused, 2, "{op:?}");
    }
}

#[test]
fn halves_of_a_pair_agree_in_every_basis() {
    // A Pauli on one half flips the outcomes of the other two.
    let letters = [Pauli::X, Pauli::Y, Pauli::Z];
    for error in [None, Some(0), Some(1), Some(2)] {
        for basis in letters {
            let mut ones = 0;
            for seed in 0..200 {
                let mut device = SimDevice::default();
                let (a, b) = (open(&mut device, seed, 4), open(&mut device, seed + 1000, 4));
                [a, b].iter().for_each(|&s| perform(&mut device, s, Op::Alloc(3)).unwrap());
                let mut errors = [0.0; 3];
                if let Some(e) = error {
                    errors[e] = 1.0;
                }
                device.link((a, 3), (b, 3), errors).unwrap();
                let (x, y) = (measure(&mut device, a, basis, 3), measure(&mut device, b, basis, 3));
                // Without an error, outcomes of Y differ.
                let mut differ = basis == Pauli::Y;
                if let Some(e) = error {
                    differ ^= basis != letters[e];
                }
                assert_eq!(x != y, differ, "{error:?} {basis:?}");
                ones += x as u32;
            }
            // A fair coin fails with probability 2e-8 (|z| < 5.6).
            assert!((60..=140).contains(&ones), "{ones} of 200");
        }
    }
}

#[test]
fn a_state_goes_through_a_link() {
    for seed in 0..100 {
        let mut device = SimDevice::default();
        let (a, b) = (open(&mut device, seed, 8), open(&mut device, seed, 8));
        let gates = [Op::Rotate(Pauli::Y, 0, 0.7), Op::T(0), Op::Rotate(Pauli::X, 0, -1.1)];
        gates.iter().for_each(|&op| perform(&mut device, a, op).unwrap());
        perform(&mut device, a, Op::Alloc(1)).unwrap();
        perform(&mut device, b, Op::Alloc(0)).unwrap();
        device.link((a, 1), (b, 0), [0.0; 3]).unwrap();
        perform(&mut device, a, Op::MeasureBell(0, 1, 0, 1)).unwrap();
        for (event, p) in [(0, Pauli::Z), (1, Pauli::X)] {
            if device.outcome(a, 0, event) {
                perform(&mut device, b, Op::Pauli(p, 0)).unwrap();
            }
        }
        // Even when the sender is gone.
        if seed % 2 == 0 {
            device.close(a);
        }
        let back = [Op::Rotate(Pauli::X, 0, 1.1), Op::Tdg(0), Op::Rotate(Pauli::Y, 0, -0.7)];
        back.iter().for_each(|&op| perform(&mut device, b, op).unwrap());
        assert!(!measure(&mut device, b, Pauli::Z, 0));
    }
}

/// Entangles registers of several spaces as `|0…0> + |1…1>`, those of a space with a chain of CNOTs, the next space
/// through a link from an extra register.
fn share(device: &mut SimDevice, spaces: &[(SpaceId, u32)]) {
    let mut last: Option<(SpaceId, u32)> = None;
    for &(space, registers) in spaces {
        (0..=registers).for_each(|q| perform(device, space, Op::Alloc(q)).unwrap());
        match last {
            None => perform(device, space, Op::Clifford1(Clifford1::H, 0)).unwrap(),
            Some((before, extra)) => {
                device.link((before, extra), (space, 0), [0.0; 3]).unwrap();
                perform(device, before, Op::Clifford2(Clifford2::Cnot, extra - 1, extra)).unwrap();
                if measure(device, before, Pauli::Z, extra) {
                    perform(device, space, Op::Pauli(Pauli::X, 0)).unwrap();
                }
                perform(device, before, Op::Free(extra)).unwrap();
            }
        }
        (1..registers).for_each(|q| perform(device, space, Op::Clifford2(Clifford2::Cnot, q - 1, q)).unwrap());
        last = Some((space, registers));
    }
}

#[test]
fn large_spaces_of_all_sizes_share_a_state() {
    for (case, sizes) in [[100, 1, 300], [3, 70, 64], [500, 200, 2], [1, 2, 600]].into_iter().enumerate() {
        for basis in [Pauli::X, Pauli::Z] {
            let mut device = SimDevice::default();
            let spaces = [0, 1, 2].map(|i| (open(&mut device, 10 * case as u64 + i, 4), sizes[i as usize]));
            // Rotations that wait move along; one is performed before the link.
            let (first, second) = (spaces[0].0, spaces[1].0);
            for space in [first, second] {
                let turns =
                    [Op::Rotate(Pauli::X, 999, 0.5), Op::Rotate(Pauli::Y, 999, 0.5), Op::Rotate(Pauli::X, 998, 0.5)];
                turns.iter().for_each(|&op| perform(&mut device, space, op).unwrap());
                perform(&mut device, space, Op::Clifford2(Clifford2::Cz, 998, 997)).unwrap();
                measure(&mut device, space, Pauli::X, 999);
            }
            share(&mut device, &spaces);
            // T on one qubit is undone on any other.
            perform(&mut device, first, Op::T(0)).unwrap();
            perform(&mut device, spaces[2].0, Op::Clifford1(Clifford1::H, 0)).unwrap();
            perform(&mut device, spaces[2].0, Op::Rotate(Pauli::X, 0, -std::f64::consts::FRAC_PI_4)).unwrap();
            perform(&mut device, spaces[2].0, Op::Clifford1(Clifford1::H, 0)).unwrap();
            let mut ones = 0;
            let mut all = 0;
            for (space, registers) in spaces {
                ones += (0..registers).filter(|&q| measure(&mut device, space, basis, q)).count() as u32;
                all += registers;
                if basis == Pauli::Z {
                    device.close(space);
                }
            }
            match basis {
                Pauli::Z => assert!(ones == 0 || ones == all, "{ones} of {all}"),
                _ => assert!(ones % 2 == 0, "{ones} of {all}"),
            }
        }
    }
}

/// Errors of links one after another, from spaces with these seeds: read from the amplitudes of the pair.
fn link_errors(seeds: [u64; 2], count: usize, errors: [f64; 3]) -> Vec<&'static str> {
    let mut device = SimDevice::default();
    let [a, b] = seeds.map(|seed| open(&mut device, seed, 4));
    [a, b].iter().for_each(|&s| perform(&mut device, s, Op::Alloc(0)).unwrap());
    let mut link = || {
        device.link((a, 0), (b, 0), errors).unwrap();
        let amps = device.amplitudes(a).unwrap();
        let odd = amps[0b01].norm() > 0.5;
        let phase = if odd { amps[0b10] / amps[0b01] } else { amps[0b11] / amps[0b00] };
        match (odd, phase.re > 0.0) {
            (false, true) => "I",
            (true, true) => "X",
            (true, false) => "Y",
            (false, false) => "Z",
        }
    };
    (0..count).map(|_| link()).collect()
}

#[test]
fn errors_of_links_have_their_weights() {
    let errors = [0.05, 0.2, 0.1];
    let exact: BTreeMap<String, f64> =
        [("I", 0.65), ("X", 0.05), ("Y", 0.2), ("Z", 0.1)].map(|(e, p)| (e.to_string(), p)).into();
    for seed in 0..4 {
        let mut counts = BTreeMap::new();
        for error in link_errors([seed, 99], 10_000, errors) {
            *counts.entry(error.to_string()).or_insert(0) += 1;
        }
        // Four tests at 1e-6 each.
        let p = chi_square_p(&counts, &exact);
        assert!(p > 1e-6, "p = {p}: {counts:?}");
    }
    // They are draws of the first space.
    let drawn = link_errors([5, 6], 100, errors);
    assert_eq!(link_errors([5, 7], 100, errors), drawn);
    assert_ne!(link_errors([6, 5], 100, errors), drawn);
}

#[test]
fn linked_spaces_have_the_larger_limit() {
    for limits in [[0, 2], [2, 0]] {
        let mut device = SimDevice::default();
        let [a, b] = limits.map(|limit| open(&mut device, 1, limit));
        [a, b].iter().for_each(|&s| perform(&mut device, s, Op::Alloc(0)).unwrap());
        device.link((a, 0), (b, 0), [0.0; 3]).unwrap();
        let turn = |device: &mut SimDevice, q| {
            [Pauli::X, Pauli::Y].iter().for_each(|&p| perform(device, a, Op::Rotate(p, q, 0.5)).unwrap());
        };
        turn(&mut device, 1);
        perform(&mut device, a, Op::Measure(Pauli::X, 1, 0)).unwrap();
        // Each of these needs one more than the last.
        (2..6).for_each(|q| turn(&mut device, q));
        (3..6).for_each(|q| perform(&mut device, a, Op::Clifford2(Clifford2::Cnot, q, 2)).unwrap());
        let refused = perform(&mut device, b, Op::Measure(Pauli::Z, 0, 0))
            .and_then(|()| perform(&mut device, a, Op::Measure(Pauli::Z, 2, 0)));
        assert!(matches!(refused, Err(DeviceError::TooMuchMagic { needed: 3, limit: 2, .. })), "{refused:?}");
    }
}

#[test]
fn links_that_make_no_sense_are_refused() {
    let mut device = SimDevice::default();
    let (a, b) = (open(&mut device, 1, 4), open(&mut device, 2, 4));
    perform(&mut device, a, Op::Alloc(0)).unwrap();
    perform(&mut device, b, Op::Alloc(0)).unwrap();
    let nan = f64::NAN;
    for errors in [[0.5, 0.5, 0.5], [-0.1, 0.0, 0.0], [nan, 0.0, 0.0], [f64::INFINITY, 0.0, 0.0]] {
        assert!(matches!(device.link((a, 0), (b, 0), errors), Err(DeviceError::Refused(_))));
    }
    for (x, y) in [((a, 0), (a, 0)), ((a, 1), (b, 0)), ((a, 0), (b, 9)), ((a, 0), (SpaceId(77), 0))] {
        assert!(matches!(device.link(x, y, [0.0; 3]), Err(DeviceError::Refused(_))));
    }
    assert_eq!(device.amplitudes(a).map(|v| v.len()), Some(2));
    for op in [
        Op::Clifford2(Clifford2::Cnot, 0, 0),
        Op::Ccz(0, 1, 0),
        Op::Rotate(Pauli::X, 0, nan),
        Op::MeasureAngle(nan, 0, 0),
    ] {
        assert!(matches!(perform(&mut device, a, op), Err(DeviceError::Refused(_))), "{op:?}");
    }
    // More qubits than the tableau of one state may have.
    for q in 1..1 << 13 {
        perform(&mut device, a, Op::Alloc(q)).unwrap();
        perform(&mut device, b, Op::Alloc(2 * q)).unwrap();
    }
    let c = open(&mut device, 3, 4);
    perform(&mut device, c, Op::Alloc(0)).unwrap();
    device.link((a, 0), (c, 0), [0.0; 3]).unwrap();
    assert!(matches!(device.link((a, 0), (b, 0), [0.0; 3]), Err(DeviceError::Refused(_))));
    assert_eq!(measure(&mut device, a, Pauli::X, 0), measure(&mut device, c, Pauli::X, 0));
}

#[test]
fn what_is_refused_takes_nothing_from_a_partner() {
    let mut device = SimDevice::default();
    let [a, b] = [1, 2].map(|seed| open(&mut device, seed, 2));
    [a, b].iter().for_each(|&s| perform(&mut device, s, Op::Alloc(0)).unwrap());
    device.link((a, 0), (b, 0), [0.0; 3]).unwrap();
    // The partner's qubits take three active ones to measure.
    let turns = [(Pauli::X, 0), (Pauli::Z, 0), (Pauli::X, 0), (Pauli::X, 1), (Pauli::Y, 1)];
    turns.iter().for_each(|&(p, q)| perform(&mut device, b, Op::Rotate(p, q, 0.7)).unwrap());
    perform(&mut device, b, Op::Clifford2(Clifford2::Cnot, 1, 0)).unwrap();
    for closed in [false, true] {
        if closed {
            device.close(b);
            // That has left the other half with magic.
            measure(&mut device, a, Pauli::Z, 0);
        } else {
            for _ in 0..2 {
                let refused = perform(&mut device, b, Op::Measure(Pauli::Z, 0, 0));
                assert!(matches!(refused, Err(DeviceError::TooMuchMagic { needed: 3, limit: 2, .. })), "{refused:?}");
            }
        }
        // These take two, over and over.
        for _ in 0..3 {
            for q in [1, 2] {
                [Pauli::X, Pauli::Y].iter().for_each(|&p| perform(&mut device, a, Op::Rotate(p, q, 0.5)).unwrap());
            }
            perform(&mut device, a, Op::Clifford2(Clifford2::Cnot, 1, 2)).unwrap();
            [2, 1].iter().for_each(|&q| _ = measure(&mut device, a, Pauli::Z, q));
        }
    }
}

/// The reduced state of the lowest qubits.
fn reduced(amps: &[Complex64], qubits: usize) -> Vec<Complex64> {
    let n = 1 << qubits;
    let mut rho = vec![Complex64::default(); n * n];
    for block in amps.chunks(n) {
        for (i, a) in block.iter().enumerate() {
            for (j, b) in block.iter().enumerate() {
                rho[i * n + j] += a * b.conj();
            }
        }
    }
    rho
}

#[test]
fn a_space_that_cannot_be_measured_when_it_closes_is_not_missed() {
    let mut world = World::new();
    world.open(2, 1, 1);
    world.open(1, 2, 1);
    world.link((0, 0), (1, 0), [0.0; 3]);
    world.perform(0, Op::Rotate(Pauli::Y, 0, 0.7));
    world.perform(0, Op::Clifford2(Clifford2::Cnot, 0, 1));
    world.perform(0, Op::Rotate(Pauli::X, 1, 0.4));
    for p in [Pauli::X, Pauli::Z, Pauli::X] {
        world.perform(1, Op::Rotate(p, 0, 0.9));
    }
    let (a, b) = (world.members[0].id, world.members[1].id);
    assert!(perform(&mut world.device, b, Op::Measure(Pauli::Z, 0, 0)).is_err());
    world.device.close(b);
    let amps = world.device.amplitudes(a).unwrap();
    assert_eq!(amps.len(), 8, "the qubit is still there");
    for (x, y) in reduced(&amps, 2).iter().zip(reduced(&world.dense.amps, 2)) {
        assert!((x - y).norm() < 1e-9);
    }
    // The space is alone, and the qubit goes when it can.
    assert!(world.device.snapshot(a).is_ok());
    let undo = [Op::Rotate(Pauli::X, 1, -0.4), Op::Clifford2(Clifford2::Cnot, 0, 1), Op::Rotate(Pauli::Y, 0, -0.7)];
    for op in undo.into_iter().chain([Op::Measure(Pauli::X, 0, 0), Op::Clifford1(Clifford1::H, 1), Op::Fence]) {
        perform(&mut world.device, a, op).unwrap();
    }
    assert_eq!(world.device.amplitudes(a).unwrap().len(), 4);
}

#[test]
fn a_restored_space_is_what_it_was_and_draws_anew() {
    for case in 0..50 {
        let mut dice = Dice(case, 1 << 41);
        let mut device = SimDevice::default();
        let space = open(&mut device, case, 8);
        let run = |device: &mut SimDevice, dice: &mut Dice| {
            for _ in 0..15 {
                let op = random_op(dice, 4);
                perform(device, space, op).unwrap();
            }
        };
        (0..4).for_each(|q| perform(&mut device, space, Op::Alloc(q)).unwrap());
        run(&mut device, &mut dice);
        let (amps, events) = (device.amplitudes(space).unwrap(), [0, 1].map(|e| device.outcome(space, 0, e)));
        let snapshot = device.snapshot(space).unwrap();
        for _ in 0..3 {
            run(&mut device, &mut dice);
            device.restore(space, snapshot).unwrap();
            assert!((fidelity(&amps, &device.amplitudes(space).unwrap()) - 1.0).abs() < 1e-9);
            assert_eq!([0, 1].map(|e| device.outcome(space, 0, e)), events);
        }
        device.forget(snapshot);
        device.forget(snapshot);
        assert!(device.restore(space, snapshot).is_err());
    }
    let mut device = SimDevice::default();
    let space = open(&mut device, 1, 8);
    perform(&mut device, space, Op::Clifford1(Clifford1::H, 0)).unwrap();
    let snapshot = device.snapshot(space).unwrap();
    let ones = (0..200).filter(|_| {
        let outcome = measure(&mut device, space, Pauli::Z, 0);
        device.restore(space, snapshot).unwrap();
        outcome
    });
    // 2e-8, as above.
    assert!((60..=140).contains(&ones.count()));
}

#[test]
fn only_the_own_unshared_state_is_saved() {
    let mut device = SimDevice::default();
    let (a, b) = (open(&mut device, 1, 8), open(&mut device, 2, 8));
    [a, b].iter().for_each(|&s| perform(&mut device, s, Op::Alloc(0)).unwrap());
    let snapshot = device.snapshot(a).unwrap();
    assert!(device.restore(b, snapshot).is_err());
    device.link((a, 0), (b, 0), [0.0; 3]).unwrap();
    assert_eq!(device.snapshot(a), Err(DeviceError::Refused("the space shares its state with another".into())));
    assert!(device.restore(a, snapshot).is_err());
    device.close(b);
    device.restore(a, snapshot).unwrap();
    assert!(!measure(&mut device, a, Pauli::Z, 0));
    device.close(a);
    let again = open(&mut device, 3, 8);
    assert!(device.restore(again, snapshot).is_err());
    let mut device = SimDevice::new(SimConfig { snapshot: false, ..SimConfig::default() });
    let space = open(&mut device, 1, 8);
    assert!(!device.spec().features.snapshot && device.snapshot(space).is_err());
}

/// Coins and a T gate.
fn program() -> Arc<Image> {
    let ops =
        (0..3).flat_map(|q| [Op::Alloc(q), Op::Clifford1(Clifford1::H, q), Op::T(q), Op::Clifford1(Clifford1::H, q)]);
    let ends = (0..3).flat_map(|q| [Op::Measure(Pauli::Z, q, q), Op::Free(q)]);
    Arc::new(Image {
        qubits: 3,
        events: 3,
        code: ops.chain(ends).map(|op| Instr { op, cond: None }).collect(),
        terms: Vec::new(),
    })
}

#[test]
fn programs_go_back_and_on() {
    let image = program();
    let count = image.code.len() as u32;
    let mut device = SimDevice::new(SimConfig { threads: 1, ..SimConfig::default() });
    let shots = 5000;
    let spec = SpaceSpec { image, shots, seed: 3, max_active: 8, ..SpaceSpec::default() };
    let finish = |device: &mut SimDevice, space| {
        while device.work(space, 1 << 14).unwrap().shots_done < shots {}
        let mut out = Vec::new();
        device.outcomes(space, 0, shots as u32, &mut out);
        out
    };
    let plain = device.open(spec.clone()).unwrap();
    (0..count).for_each(|i| device.issue(plain, i).unwrap());
    let expected = finish(&mut device, plain);

    let space = device.open(spec).unwrap();
    assert!(device.undo(space, 0).is_err(), "nothing is issued");
    (0..5).for_each(|i| device.issue(space, i).unwrap());
    device.undo(space, 3).unwrap();
    device.issue(space, 3).unwrap();
    let early = device.snapshot(space).unwrap();
    (5..count).for_each(|i| device.issue(space, i).unwrap());
    assert!(device.undo(space, count - 1).is_err() && device.undo(space, count).is_err(), "it is irreversible");
    let mut done = 0;
    while done == 0 {
        done = device.work(space, 1).unwrap().shots_done;
    }
    let late = device.snapshot(space).unwrap();
    assert_eq!(finish(&mut device, space), expected);
    // Back to some shots: what is done stays, and the rest comes again.
    device.restore(space, late).unwrap();
    let mut out = Vec::new();
    device.outcomes(space, 0, done as u32, &mut out);
    assert_eq!(out[..], expected[..done as usize]);
    assert_eq!(finish(&mut device, space), expected);
    // Back to where not all was issued: no work is done.
    device.restore(space, early).unwrap();
    assert_eq!(device.work(space, u64::MAX).unwrap().shots_done, 0);
    (5..count).for_each(|i| device.issue(space, i).unwrap());
    assert_eq!(finish(&mut device, space), expected);
    // Forward again, after an undo that threw all shots away.
    device.undo(space, 3).unwrap();
    assert_eq!(device.work(space, u64::MAX).unwrap().shots_done, 0);
    device.restore(space, late).unwrap();
    assert!(device.work(space, 0).unwrap().shots_done >= done);
    assert_eq!(finish(&mut device, space), expected);
    device.close(space);
    assert!(device.restore(plain, late).is_err());
}

#[test]
fn a_fault_goes_with_a_restore() {
    let mut device = SimDevice::default();
    let ops = [Op::Alloc(0), Op::Clifford1(Clifford1::H, 0), Op::T(0), Op::Measure(Pauli::X, 0, 0), Op::Free(0)];
    let code = ops.iter().map(|&op| Instr { op, cond: None }).collect();
    let image = Arc::new(Image { qubits: 1, events: 1, code, terms: Vec::new() });
    let space = device.open(SpaceSpec { image, shots: 10, seed: 3, ..SpaceSpec::default() }).unwrap();
    let snapshot = device.snapshot(space).unwrap();
    (0..5).for_each(|i| device.issue(space, i).unwrap());
    assert!(matches!(device.work(space, 100), Err(DeviceError::TooMuchMagic { .. })));
    assert!(device.work(space, 100).is_err());
    device.restore(space, snapshot).unwrap();
    assert!(device.work(space, 100).is_ok());
}

/// Outcomes of one space, while others do what they do.
fn outcomes(company: bool) -> Vec<bool> {
    let mut dice = Dice(5, 1 << 42);
    let mut device = SimDevice::default();
    let space = open(&mut device, 7, 12);
    let others = [1, 2].map(|seed| open(&mut device, seed, 12));
    let mut seen = Vec::new();
    for i in 0..300 {
        let op = random_op(&mut dice, 5);
        perform(&mut device, space, op).unwrap();
        seen.extend(op.writes().map(|e| device.outcome(space, 0, e)));
        if company {
            for other in others {
                perform(&mut device, other, random_op(&mut Dice(i, other.0 as u64), 5)).unwrap();
            }
            if i % 50 == 20 {
                (0..5).for_each(|q| others.iter().for_each(|&o| perform(&mut device, o, Op::Alloc(q)).unwrap()));
                device.link((others[0], 1), (others[1], 2), [0.1; 3]).unwrap();
            }
        }
    }
    seen
}

#[test]
fn what_others_do_does_not_show() {
    let alone = outcomes(false);
    assert!(alone.len() > 30 && alone.contains(&true) && alone.contains(&false));
    assert_eq!(outcomes(true), alone);
}

#[test]
fn a_partner_does_not_change_the_draws() {
    // What the partner does to its own half shows in nothing that one does here.
    let run = |partner: &[Op]| -> Vec<bool> {
        let mut device = SimDevice::default();
        let (a, b) = (open(&mut device, 1, 8), open(&mut device, 2, 8));
        [a, b].iter().for_each(|&s| perform(&mut device, s, Op::Alloc(0)).unwrap());
        (0..200)
            .map(|_| {
                device.link((a, 0), (b, 0), [0.1; 3]).unwrap();
                partner.iter().for_each(|&op| perform(&mut device, b, op).unwrap());
                perform(&mut device, a, Op::Clifford1(Clifford1::H, 1)).unwrap();
                perform(&mut device, a, Op::Clifford2(Clifford2::Cz, 0, 1)).unwrap();
                measure(&mut device, a, Pauli::X, 1)
            })
            .collect()
    };
    let alone = run(&[]);
    assert_eq!(run(&[Op::T(0), Op::Clifford1(Clifford1::H, 0), Op::T(0)]), alone);
}

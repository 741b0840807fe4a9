//! Random operations on spaces that are linked at random: amplitudes are those of the dense reference.

use super::common::{Calibration, Dice, apply, random_op};
use super::{open, perform};
use num_complex::Complex64;
use qmk_abi::image::{Clifford1, Clifford2, Op, Pauli};
use qmk_hal::{Device, DeviceError, Inline, SpaceId};
use qmk_sim::SimDevice;
use qmk_sim::rng::{DrawSite, Random};
use qmk_testkit::dense::{Dense, gates};

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

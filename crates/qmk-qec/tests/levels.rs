//! The logical noise level against the physical one.

use qmk_abi::image::{Clifford1, Clifford2, Image, Instr, Op, Pauli};
use qmk_abi::syscall::{Code, Level, NoiseSpec, Patch};
use qmk_hal::{Device, Inline, SpaceSpec};
use qmk_qec::machine::NoisyDevice;
use qmk_sim::SimConfig;
use qmk_testkit::Rng;
use std::sync::Arc;

/// 25 random Clifford gates on three qubits, then their inverses: without errors all outcomes are 0.
fn there_and_back() -> Image {
    let mut rng = Rng::new(9);
    let mut pick = |n| rng.below(n);
    let mut there = Vec::new();
    while there.len() < 25 {
        let (a, b) = (pick(3) as u32, pick(3) as u32);
        there.push(match pick(6) {
            0 => Op::Clifford1(Clifford1::H, a),
            1 => Op::Clifford1(Clifford1::S, a),
            2 => Op::Clifford1(Clifford1::Sxdg, a),
            3 if a != b => Op::Clifford2(Clifford2::Cz, a, b),
            4 | 5 if a != b => Op::Clifford2(Clifford2::Cnot, a, b),
            _ => continue,
        });
    }
    let back = there.iter().rev().map(|op| match *op {
        Op::Clifford1(Clifford1::S, q) => Op::Clifford1(Clifford1::Sdg, q),
        Op::Clifford1(Clifford1::Sxdg, q) => Op::Clifford1(Clifford1::Sx, q),
        op => op,
    });
    let mut code: Vec<Op> = (0..3).map(Op::Alloc).collect();
    code.extend(there.iter().copied().chain(back));
    code.extend((0..3).map(|q| Op::Measure(Pauli::Z, q, q)));
    let code = code.into_iter().map(|op| Instr { op, cond: None }).collect();
    Image { qubits: 3, events: 3, code, terms: Vec::new() }
}

/// Shots in which an outcome is wrong.
fn failures(image: &Arc<Image>, patch: Patch, errors: NoiseSpec, shots: u64, threads: usize) -> u64 {
    let mut device = NoisyDevice::simulated(SimConfig { threads, ..SimConfig::default() });
    let spec = SpaceSpec { image: image.clone(), patch, errors, shots, seed: 4, ..SpaceSpec::default() };
    let space = device.open(spec).unwrap();
    (0..image.code.len() as u32).for_each(|i| device.issue(space, i).unwrap());
    while device.work(space, 1 << 24).unwrap().shots_done < shots {}
    let mut outcomes = Vec::new();
    device.outcomes(space, 0, shots as u32, &mut outcomes);
    outcomes.iter().filter(|o| **o != 0).count() as u64
}

#[test]
fn a_program_of_fifty_operations_fails_as_often_under_both() {
    let image = Arc::new(there_and_back());
    let shots = 20_000;
    // Where a logical qubit errs in about one of a thousand cycles.
    for (distance, ppb) in [(3, 500_000), (5, 1_000_000)] {
        let patch = Patch { code: Code::Surface, distance };
        let run = |level| failures(&image, patch, NoiseSpec { level, ppb }, shots, 2);
        assert_eq!(run(Level::Ideal), 0);
        let [logical, physical] = [Level::Logical, Level::Physical].map(run);
        let (n, a, b) = (shots as f64, logical as f64, physical as f64);
        let mean = (a + b) / (2.0 * n);
        let z = (a - b) / n / (2.0 * mean * (1.0 - mean) / n).sqrt();
        println!("d = {distance}: {logical} at the logical level, {physical} at the physical, of {shots}; z = {z:.2}");
        // Rare enough to tell, and equal: 99.9 % each.
        assert!(a > 100.0 && mean < 0.5 && z.abs() < 3.29, "d = {distance}: {logical} and {physical}, z = {z:.2}");
    }
}

//! Saved states: what comes back, and what is refused.

use super::common::{Dice, random_op};
use super::{measure, open, perform};
use num_complex::Complex64;
use qmk_abi::image::{Clifford1, Image, Instr, Op, Pauli};
use qmk_hal::{Device, DeviceError, Inline, SpaceSpec};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::dense::Dense;
use std::sync::Arc;

fn fidelity(a: &[Complex64], b: &[Complex64]) -> f64 {
    assert_eq!(a.len(), b.len());
    Dense { amps: a.to_vec() }.fidelity(b)
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

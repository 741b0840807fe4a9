//! Links between two spaces: what they carry, their errors, their limits, and those that are refused.

use super::{measure, open, perform};
use qmk_abi::image::{Clifford1, Clifford2, Op, Pauli};
use qmk_hal::{Device, DeviceError, Inline, SpaceId};
use qmk_sim::SimDevice;
use qmk_testkit::statistics::chi_square_p;
use std::collections::BTreeMap;

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

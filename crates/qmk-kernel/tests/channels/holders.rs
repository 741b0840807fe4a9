//! What the holder of an endpoint must not be able to do.

use crate::PERFECT;
use crate::lab::{self, Lab, chi_square, unitary};
use qmk_kernel::abi::image::{Clifford1, Op, Pauli};
use qmk_kernel::abi::syscall::Quota;
use qmk_kernel::abi::{Handle, KernelError, Rights, Syscall};
use qmk_kernel::hal::SpaceId;
use qmk_testkit::Rng;
use std::collections::HashSet;

/// An endpoint gives nothing but its channel.
#[test]
fn an_endpoint_is_no_way_to_the_other_side() {
    let (mut lab, [a, b]) = Lab::new(PERFECT, 16, 5, Quota::UNLIMITED);
    let to = lab.introduce(a, b);
    let (qa, secret, qb) = (lab.take(a), lab.take(a), lab.take(b));
    lab.apply(a, Op::Pauli(Pauli::X, 0), &[secret]);
    let (ends, _) = lab.link((a, qa), (b, qb), to, 1.0);
    let held: Vec<Handle> = lab.kernel.capabilities(b.id).into_iter().map(|(h, ..)| h).collect();
    let mut tried: Vec<Handle> = lab.kernel.capabilities(a.id).into_iter().map(|(h, ..)| h).collect();
    tried.extend((0..64).map(|slot| Handle { slot, generation: 1 }));
    tried.extend(held.iter().copied());
    let before = format!("{:?}", lab.kernel);
    let machine = b.machine;
    for &qubit in tried.iter().filter(|&&h| h != qb) {
        for op in [Op::Measure(Pauli::Z, 0, 0), Op::Reset(0), Op::Pauli(Pauli::X, 0)] {
            assert!(lab.call(b.id, Syscall::Apply { machine, op, qubits: vec![qubit] }).is_err(), "{op:?} {qubit}");
        }
        let both = Syscall::Apply { machine, op: lab::CNOT, qubits: vec![qb, qubit] };
        assert!(lab.call(b.id, both).is_err());
        assert!(lab.call(b.id, Syscall::FreeQubit { qubit, uncompute: None }).is_err());
        assert!(lab.call(b.id, Syscall::Teleport { machine, endpoint: ends[1], qubit }).is_err());
        // The offering side's endpoint is not the other's, nor is the qubit another's half.
        assert!(lab.call(b.id, Syscall::Accept { machine, endpoint: qubit, qubit: qb }).is_err());
    }
    assert_eq!(before, format!("{:?}", lab.kernel));
    // Not even with the other side's endpoint in hand.
    let (source, rights) = (ends[0], Rights::USE | Rights::CONTROL | Rights::READ);
    let into = lab.handle(
        lab.root,
        Syscall::Derive { source: b.control, rights: Rights::CONTROL, badge: 0, into: Some(a.control), budget: None },
    );
    let endpoint = lab.handle(a.id, Syscall::Derive { source, rights, badge: 0, into: Some(into), budget: None });
    let spare = lab.take(b);
    assert!(matches!(
        lab.call(b.id, Syscall::Teleport { machine, endpoint, qubit: spare }),
        Err(KernelError::State(_))
    ));
    assert!(lab.measure(a, Pauli::Z, secret));
}

/// Until the other side accepts, nothing has happened to the offered qubit, and nothing of what it held goes over.
#[test]
fn nothing_is_learnt_before_or_by_accepting() {
    let (mut lab, [a, b]) = Lab::new(PERFECT, 16, 6, Quota::UNLIMITED);
    let to = lab.introduce(a, b);
    let (qa, qb) = (lab.take(a), lab.take(b));
    let mut dice = Rng::new(6);
    let mut replies = HashSet::new();
    for _ in 0..50 {
        let preparation: Vec<[Op; 2]> = (0..6).map(|_| unitary(&mut dice)).collect();
        preparation.iter().for_each(|[op, _]| _ = lab.apply(a, *op, &[qa]));
        let [_, endpoint] = lab.offer(a, qa, to, 0.5);
        let machine = b.machine;
        for call in [
            Syscall::ChannelStatus { endpoint },
            Syscall::Teleport { machine, endpoint, qubit: qb },
            Syscall::Apply { machine, op: Op::Measure(Pauli::Z, 0, 0), qubits: vec![endpoint] },
            Syscall::Inspect { target: endpoint },
        ] {
            replies.insert(format!("{:?}", lab.call(b.id, call)));
        }
        preparation.iter().rev().for_each(|[_, op]| _ = lab.apply(a, *op, &[qa]));
        lab.call(b.id, Syscall::Delete { target: endpoint }).unwrap();
        assert!(!lab.measure(a, Pauli::Z, qa));
    }
    assert_eq!(replies.len(), 4, "{replies:?}");
    // The half is a fair coin, whatever the other qubit was. The false-alarm rate is 10^-4.
    for one in [false, true] {
        let mut ones = 0;
        for _ in 0..2000 {
            if one {
                lab.apply(a, Op::Pauli(Pauli::X, 0), &[qa]);
            }
            let ([end, _], _) = lab.link((a, qa), (b, qb), to, 1.0);
            ones += lab.measure(b, Pauli::Z, qb) as u64;
            lab.call(a.id, Syscall::Delete { target: end }).unwrap();
            assert!(!lab.measure(a, Pauli::Z, qa) && !lab.measure(b, Pauli::Z, qb), "closing resets both halves");
        }
        assert!(chi_square(&[ones, 2000 - ones], &[0.5, 0.5]) < 15.137, "{ones}");
    }
}

/// Two tenants that would keep their pair after it is taken back: they make the machine unable to measure the halves,
/// within what their domains may have active.
#[test]
fn a_pair_does_not_outlive_its_channel() {
    for way in 0..4 {
        let quota = Quota { held_active: 0, ..Quota::UNLIMITED };
        let mut odd = 0;
        for seed in 0..40 {
            let (mut lab, [a, b]) = Lab::new(PERFECT, 16, seed, quota);
            let to = lab.introduce(a, b);
            let (qa, qb) = (lab.take(a), lab.take(b));
            let ([end, invitation], _) = lab.link((a, qa), (b, qb), to, 1.0);
            for (t, q) in [(a, qa), (b, qb)] {
                lab.apply(t, Op::Clifford1(Clifford1::H, 0), &[q]);
                lab.apply(t, Op::T(0), &[q]);
                lab.apply(t, Op::Clifford1(Clifford1::H, 0), &[q]);
            }
            let done = match way {
                0 => lab.call(lab.root, Syscall::Revoke { target: lab.machine }),
                1 => lab.call(a.id, Syscall::CloseChannel { endpoint: end }),
                2 => lab.call(b.id, Syscall::Delete { target: invitation }),
                _ => lab.call(a.id, Syscall::FreeQubit { qubit: qa, uncompute: None }),
            };
            assert!(done.is_ok(), "{way}: {done:?}");
            let left: Vec<_> = lab.kernel.capabilities(b.id).iter().map(|c| c.0).collect();
            if way == 0 {
                assert!(left.is_empty() && lab.kernel.free_qubits() == 32);
                continue;
            }
            if way == 3 {
                // A qubit that is taken anew is in |0>, whatever its register was.
                let again = lab.take(a);
                assert!(!lab.measure(a, Pauli::Z, again));
            } else {
                odd += lab.measure(a, Pauli::Z, qa) as u32;
            }
            odd += lab.measure(b, Pauli::Z, qb) as u32;
        }
        assert_eq!(odd, 0, "{way}");
    }
}

/// A Bell measurement that the machine refuses has not half happened.
#[test]
fn a_refused_teleportation_changes_nothing() {
    let (mut lab, [a, b]) = Lab::new(PERFECT, 16, 7, Quota { held_active: 0, ..Quota::UNLIMITED });
    let to = lab.introduce(a, b);
    let (state, qa, qb) = (lab.take(a), lab.take(a), lab.take(b));
    let (ends, _) = lab.link((a, qa), (b, qb), to, 1.0);
    let h = Op::Clifford1(Clifford1::H, 0);
    lab.apply(a, h, &[state]);
    lab.apply(a, Op::T(0), &[state]);
    lab.apply(a, h, &[state]);
    let amplitudes = |lab: &Lab| lab.kernel.device().amplitudes(SpaceId(0)).expect("an interactive space");
    let before = amplitudes(&lab);
    let reply = lab.call(a.id, Syscall::Teleport { machine: a.machine, endpoint: ends[0], qubit: state });
    assert!(matches!(reply, Err(KernelError::Device(_))), "{reply:?}");
    let after = amplitudes(&lab);
    assert!(
        before.len() >= 8 && before.iter().zip(&after).all(|(a, b)| (a - b).norm() < 1e-12),
        "{before:?} {after:?}"
    );
    // The pair is still there to be used.
    lab.call(a.id, Syscall::FreeQubit { qubit: state, uncompute: None }).unwrap();
    let state = lab.take(a);
    lab.apply(a, Op::Pauli(Pauli::X, 0), &[state]);
    lab.teleport(a, ends[0], state);
    assert!(lab.measure(b, Pauli::Z, qb));
}

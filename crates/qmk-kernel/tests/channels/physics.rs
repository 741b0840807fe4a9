//! The physics of pairs: what teleportation and swapping do to states, how noisy pairs are, and when they come.

use crate::PERFECT;
use crate::lab::{self, Lab, Tenant, chi_square, unitary};
use qmk_kernel::abi::image::{Clifford1, Op, Pauli};
use qmk_kernel::abi::syscall::{ChannelInfo, ChannelState, Quota};
use qmk_kernel::abi::{Handle, KernelError, Reply, Syscall};
use qmk_testkit::Rng;

/// A state is prepared, sent and unprepared at the other side: it is |0> with certainty, if nothing was lost.
#[test]
fn teleportation_carries_any_state() {
    let (mut lab, [a, b]) = Lab::new(PERFECT, 16, 1, Quota::UNLIMITED);
    let to = lab.introduce(a, b);
    let mut dice = Rng::new(1);
    for round in 0..200 {
        let [state, near, far] = [lab.take(a), lab.take(a), lab.take(b)];
        // Dirty qubits make as good halves as clean ones.
        for (t, q) in [(a, near), (b, far)] {
            (0..round % 3).for_each(|_| _ = lab.apply(t, unitary(&mut dice)[0], &[q]));
        }
        let (ends, info) = lab.link((a, near), (b, far), to, 1.0);
        assert_eq!((info.fidelity, info.rounds, info.pairs), (1.0, 0, 1));
        let preparation: Vec<[Op; 2]> = (0..8).map(|_| unitary(&mut dice)).collect();
        // Either side can send.
        let (from, endpoint, sent, at, got) =
            if round % 2 == 0 { (a, ends[0], state, b, far) } else { (b, ends[1], lab.take(b), a, near) };
        preparation.iter().for_each(|[op, _]| _ = lab.apply(from, *op, &[sent]));
        lab.teleport(from, endpoint, sent);
        preparation.iter().rev().for_each(|[_, op]| _ = lab.apply(at, *op, &[got]));
        assert!(!lab.measure(at, Pauli::Z, got), "round {round}");
        // What is left behind is in |0>.
        let rest = if from.id == a.id { near } else { far };
        assert!(!lab.measure(from, Pauli::Z, sent) && !lab.measure(from, Pauli::Z, rest));
        for (t, all) in [(a, vec![state, near]), (b, if from.id == b.id { vec![far, sent] } else { vec![far] })] {
            all.into_iter().for_each(|q| _ = lab.call(t.id, Syscall::FreeQubit { qubit: q, uncompute: None }).unwrap());
        }
        lab.call(a.id, Syscall::Delete { target: ends[0] }).unwrap();
    }
}

/// Half of an entangled pair goes there and back, and the pair is then undone.
#[test]
fn teleportation_carries_entanglement() {
    let (mut lab, [a, b]) = Lab::new(PERFECT, 16, 2, Quota::UNLIMITED);
    let to = lab.introduce(a, b);
    let mut dice = Rng::new(2);
    let [kept, state, near, again] = [(); 4].map(|()| lab.take(a));
    let [far, other] = [(); 2].map(|()| lab.take(b));
    for round in 0..100 {
        let prepare: [Vec<[Op; 2]>; 3] = [(); 3].map(|()| (0..5).map(|_| unitary(&mut dice)).collect());
        let [first, left, right] = &prepare;
        first.iter().for_each(|[op, _]| _ = lab.apply(a, *op, &[kept]));
        lab.apply(a, lab::CNOT, &[kept, state]);
        left.iter().for_each(|[op, _]| _ = lab.apply(a, *op, &[kept]));
        let (there, _) = lab.link((a, near), (b, far), to, 1.0);
        lab.teleport(a, there[0], state);
        right.iter().for_each(|[op, _]| _ = lab.apply(b, *op, &[far]));
        let (back, _) = lab.link((a, again), (b, other), to, 1.0);
        lab.teleport(b, back[1], far);
        right.iter().rev().for_each(|[_, op]| _ = lab.apply(a, *op, &[again]));
        left.iter().rev().for_each(|[_, op]| _ = lab.apply(a, *op, &[kept]));
        lab.apply(a, lab::CNOT, &[kept, again]);
        first.iter().rev().for_each(|[_, op]| _ = lab.apply(a, *op, &[kept]));
        assert!(!lab.measure(a, Pauli::Z, kept) && !lab.measure(a, Pauli::Z, again), "round {round}");
        for end in [there[0], back[0]] {
            lab.call(a.id, Syscall::Delete { target: end }).unwrap();
        }
    }
}

/// Parities of XX, YY and ZZ in a pair of Φ+ with an X, Y or Z on one half: which errors turn which.
const TURNED_BY: [(Pauli, [usize; 2]); 3] = [(Pauli::X, [2, 3]), (Pauli::Y, [1, 3]), (Pauli::Z, [1, 2])];

/// Whether the halves of a pair are not as those of Φ+ are.
fn is_wrong(lab: &mut Lab, pauli: Pauli, a: (Tenant, Handle), b: (Tenant, Handle)) -> bool {
    let odd = lab.measure(a.0, pauli, a.1) ^ lab.measure(b.0, pauli, b.1);
    odd ^ (pauli == Pauli::Y)
}

/// A chain of three tenants, joined in the middle.
fn swap(lab: &mut Lab, [a, m, b]: [(Tenant, Handle); 3], near: Handle, to: [Handle; 2], f: f64) -> [Handle; 4] {
    let (first, _) = lab.link(a, m, to[0], f);
    let (second, _) = lab.link((m.0, near), b, to[1], f);
    let call = Syscall::SwapEntanglement { machine: m.0.machine, endpoints: [first[1], second[0]] };
    assert!(matches!(lab.call(m.0.id, call), Ok(Reply::Applied { .. })));
    [first[0], first[1], second[0], second[1]]
}

#[test]
fn swapping_leaves_the_far_sides_in_the_bell_state() {
    let (mut lab, [a, m, b]) = Lab::new(PERFECT, 16, 3, Quota::UNLIMITED);
    let to = [lab.introduce(a, m), lab.introduce(m, b)];
    let [state, qa, qm, near, qb] = [a, a, m, m, b].map(|t| lab.take(t));
    for round in 0..120 {
        let ends = swap(&mut lab, [(a, qa), (m, qm), (b, qb)], near, to, 1.0);
        if round % 4 < 3 {
            let (pauli, _) = TURNED_BY[round % 4];
            assert!(!is_wrong(&mut lab, pauli, (a, qa), (b, qb)), "{pauli:?}");
        } else {
            // And it is a channel like any other.
            let mut dice = Rng::new(round as u64);
            let preparation: Vec<[Op; 2]> = (0..6).map(|_| unitary(&mut dice)).collect();
            preparation.iter().for_each(|[op, _]| _ = lab.apply(a, *op, &[state]));
            lab.teleport(a, ends[0], state);
            preparation.iter().rev().for_each(|[_, op]| _ = lab.apply(b, *op, &[qb]));
            assert!(!lab.measure(b, Pauli::Z, qb));
        }
        assert!(!lab.measure(m, Pauli::Z, qm) && !lab.measure(m, Pauli::Z, near));
        lab.call(a.id, Syscall::Delete { target: ends[0] }).unwrap();
        // The end that the middle gave the far side derives from its own.
        lab.call(m.id, Syscall::Delete { target: ends[2] }).unwrap();
        assert!(lab.kernel.capabilities(b.id).len() == 2);
    }
}

/// A round of purification (Deutsch et al., PRL 77, 2818 (1996)) of two pairs. Weights are of no error, X, Y and Z.
fn deutsch([i, x, y, z]: [f64; 4]) -> ([f64; 4], f64) {
    let n = (i + y).powi(2) + (x + z).powi(2);
    ([(i * i + y * y) / n, (x * x + z * z) / n, 2.0 * x * z / n, 2.0 * i * y / n], n)
}

/// Errors multiply like Paulis.
fn convolve(p: [f64; 4], q: [f64; 4]) -> [f64; 4] {
    let mut r = [0.0; 4];
    for (a, pa) in p.iter().enumerate() {
        for (b, qb) in q.iter().enumerate() {
            // Numbered I, X, Y, Z: as bits of flip and phase, products are sums.
            let bits = [0, 1, 3, 2];
            let product = bits.iter().position(|&c| c == bits[a] ^ bits[b]).unwrap();
            r[product] += pa * qb;
        }
    }
    r
}

/// Error frequencies of each parity against weights, 4,000 pairs for each. The false-alarm rate is 10^-4 for each test
/// of one degree of freedom.
fn check_errors(weights: [f64; 4], fidelity: f64, mut pair: impl FnMut(Pauli) -> bool) {
    const PAIRS: u64 = 4000;
    const CRITICAL: f64 = 15.137;
    assert!((weights[0] - fidelity).abs() < 1e-12, "{weights:?} {fidelity}");
    for (pauli, errors) in TURNED_BY {
        let p: f64 = errors.iter().map(|&e| weights[e]).sum();
        let wrong = (0..PAIRS).filter(|_| pair(pauli)).count() as u64;
        let statistic = chi_square(&[wrong, PAIRS - wrong], &[p, 1.0 - p]);
        assert!(statistic < CRITICAL, "{pauli:?}: {wrong} of {PAIRS}, {p} expected: {statistic}");
    }
}

#[test]
fn pairs_are_as_noisy_as_the_kernel_says() {
    // Y is the least likely error, so that every round is as published.
    let raw = [0.8, 0.08, 0.02, 0.1];
    for (rounds, seed) in [(0, 10), (1, 11), (2, 12)] {
        let (mut lab, [a, b]) = Lab::new(raw, 1 << 16, seed, Quota::UNLIMITED);
        let to = lab.introduce(a, b);
        let (qa, qb) = (lab.take(a), lab.take(b));
        let (mut weights, mut pairs) = (raw, 1.0);
        for round in 0..rounds {
            // The kernel makes the least error that of Y before each round.
            if round > 0 {
                let [i, x, y, z] = weights;
                weights = if x <= y && x <= z {
                    [i, y, x, z]
                } else if z <= y {
                    [i, x, z, y]
                } else {
                    weights
                };
            }
            let (next, kept) = deutsch(weights);
            (weights, pairs) = (next, pairs * 2.0 / kept);
        }
        // No more rounds than it takes.
        let asked = weights[0] - 1e-9;
        let ([end, _], info) = lab.link((a, qa), (b, qb), to, asked);
        assert_eq!((info.rounds, info.pairs), (rounds, f64::ceil(pairs) as u64), "{info:?}");
        lab.call(a.id, Syscall::Delete { target: end }).unwrap();
        check_errors(weights, info.fidelity, |pauli| {
            let ([end, _], _) = lab.link((a, qa), (b, qb), to, asked);
            let wrong = is_wrong(&mut lab, pauli, (a, qa), (b, qb));
            lab.call(a.id, Syscall::Delete { target: end }).unwrap();
            wrong
        });
    }
}

#[test]
fn swapped_pairs_are_as_noisy_as_the_kernel_says() {
    let raw = [0.85, 0.07, 0.03, 0.05];
    let (mut lab, [a, m, b]) = Lab::new(raw, 1 << 16, 20, Quota::UNLIMITED);
    let to = [lab.introduce(a, m), lab.introduce(m, b)];
    let [qa, qm, near, qb] = [a, m, m, b].map(|t| lab.take(t));
    let mut run = |pauli| {
        let ends = swap(&mut lab, [(a, qa), (m, qm), (b, qb)], near, to, 0.8);
        let Ok(Reply::Channel(info)) = lab.call(b.id, Syscall::ChannelStatus { endpoint: ends[3] }) else { panic!() };
        let wrong = is_wrong(&mut lab, pauli, (a, qa), (b, qb));
        lab.call(a.id, Syscall::Delete { target: ends[0] }).unwrap();
        lab.call(m.id, Syscall::Delete { target: ends[2] }).unwrap();
        (wrong, info)
    };
    let (_, ChannelInfo { state, fidelity, pairs, .. }) = run(Pauli::X);
    assert_eq!((state, pairs), (ChannelState::Linked, 2));
    check_errors(convolve(raw, raw), fidelity, |pauli| run(pauli).0);
}

#[test]
fn fidelity_out_of_reach_is_refused_with_the_best() {
    for (raw, asked, best) in
        [([0.5, 0.5, 0.0, 0.0], 0.6, 0.5), ([0.4, 0.2, 0.2, 0.2], 0.9, 0.4), ([0.95, 0.05, 0.0, 0.0], 1.0, 1.0 - 1e-12)]
    {
        let (mut lab, [a, b]) = Lab::new(raw, 16, 0, Quota::UNLIMITED);
        let to = lab.introduce(a, b);
        let (qa, qb) = (lab.take(a), lab.take(b));
        let [end, invitation] = lab.offer(a, qa, to, asked);
        let accept = Syscall::Accept { machine: b.machine, endpoint: invitation, qubit: qb };
        let before = format!("{:?}", lab.kernel);
        match lab.call(b.id, accept) {
            Err(KernelError::Fidelity { asked: got, raw: first, best: most }) => {
                assert_eq!((got, first), (asked, raw[0]));
                assert!(most >= best && most < asked, "{most}");
            }
            reply => panic!("{reply:?}"),
        }
        assert_eq!(before, format!("{:?}", lab.kernel));
        lab.call(a.id, Syscall::CloseChannel { endpoint: end }).unwrap();
        // What is no fidelity is no offer.
        for fidelity in [0.25, 1.1, f64::NAN, -1.0, f64::INFINITY] {
            let offer = Syscall::Offer { machine: a.machine, qubit: qa, to, fidelity };
            assert!(matches!(lab.call(a.id, offer), Err(KernelError::Argument(_))));
        }
        let ([_, _], info) = lab.link((a, qa), (b, qb), to, raw[0]);
        assert_eq!((info.fidelity, info.rounds), (raw[0], 0));
    }
}

/// The link makes so many pairs in an epoch for all channels together, and no one touches a pair before it is there.
#[test]
fn the_link_is_shared_and_pairs_are_waited_for() {
    const PER_EPOCH: u32 = 3;
    let (mut lab, [a, b, c]) = Lab::new([0.9, 0.04, 0.02, 0.04], PER_EPOCH, 0, Quota::UNLIMITED);
    let to = [lab.introduce(a, b), lab.introduce(a, c)];
    let [first, second, state, qb, qc] = [a, a, a, b, c].map(|t| lab.take(t));
    let start = lab.kernel.epoch();
    let [end, invitation] = lab.offer(a, first, to[0], 0.97);
    let [other_end, other] = lab.offer(a, second, to[1], 0.99);
    let one = lab.accept(b, invitation, qb);
    let two = lab.accept(c, other, qc);
    assert!(one.pairs > PER_EPOCH as u64 && two.pairs > one.pairs, "{one:?} {two:?}");
    let epochs = |pairs: u64| pairs.div_ceil(PER_EPOCH as u64);
    assert_eq!((one.ready_at, two.ready_at), (start + epochs(one.pairs), start + epochs(one.pairs + two.pairs)));
    for (t, pairs) in [(a, one.pairs + two.pairs), (b, one.pairs), (c, two.pairs)] {
        let Ok(Reply::Usage { used, .. }) = lab.call(t.id, Syscall::Usage) else { panic!() };
        assert_eq!(used.total_pairs, pairs);
    }
    let halves = [(a, end, first, one), (b, invitation, qb, one), (a, other_end, second, two), (c, other, qc, two)];
    while lab.kernel.epoch() < two.ready_at {
        for (t, endpoint, qubit, info) in halves {
            if lab.kernel.epoch() >= info.ready_at {
                continue;
            }
            let before = format!("{:?}", lab.kernel);
            let spare = if t.id == a.id { state } else { qubit };
            let machine = t.machine;
            for call in [
                Syscall::Apply { machine, op: Op::Measure(Pauli::Z, 0, 0), qubits: vec![qubit] },
                Syscall::Apply { machine, op: Op::Pauli(Pauli::X, 0), qubits: vec![qubit] },
                Syscall::FreeQubit { qubit, uncompute: Some(machine) },
                Syscall::Teleport { machine, endpoint, qubit: spare },
                Syscall::SwapEntanglement { machine, endpoints: [endpoint, other_end] },
            ] {
                let reply = lab.call(t.id, call.clone());
                let early = matches!(reply, Err(KernelError::NotReady(_)));
                let foreign = t.id != a.id && matches!(call, Syscall::SwapEntanglement { .. });
                assert!(early || foreign && reply.is_err(), "{call:?}: {reply:?}");
            }
            assert_eq!(before, format!("{:?}", lab.kernel));
        }
        lab.kernel.advance();
    }
    for (t, _, qubit, _) in halves {
        lab.measure(t, Pauli::Z, qubit);
    }
    // A later channel does not wait for what has been made.
    lab.call(a.id, Syscall::CloseChannel { endpoint: end }).unwrap();
    let (_, three) = lab.link((a, first), (b, qb), to[0], 0.9);
    assert_eq!((three.pairs, three.ready_at), (1, two.ready_at + 1));
}

/// A pair does not free a qubit of what it was busy with.
#[test]
fn a_half_is_busy_until_all_is_over() {
    let (mut lab, [a, b]) = Lab::new(PERFECT, 16, 4, Quota::UNLIMITED);
    let to = lab.introduce(a, b);
    let (state, qa, qb) = (lab.take(a), lab.take(a), lab.take(b));
    let mut before = 0;
    for _ in 0..4 {
        let call = Syscall::Apply { machine: a.machine, op: Op::Clifford1(Clifford1::H, 0), qubits: vec![qa] };
        let Ok(Reply::Applied { until, .. }) = lab.call(a.id, call) else { panic!() };
        before = until;
    }
    let (ends, info) = lab.link((a, qa), (b, qb), to, 1.0);
    assert!(before > info.ready_at + 1);
    let call = Syscall::Teleport { machine: a.machine, endpoint: ends[0], qubit: state };
    let reply = lab.call(a.id, call);
    assert!(matches!(reply, Ok(Reply::Applied { until, .. }) if until > before), "{reply:?} {before}");
}

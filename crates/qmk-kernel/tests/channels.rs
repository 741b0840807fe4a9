//! Channels: every state that small tables can reach and every call in each of them, then the physics of their pairs,
//! then what the holder of an endpoint must not be able to do.
#![allow(clippy::print_stdout, reason = "shows how much was searched")]
#![allow(unreachable_pub)]

#[path = "common/lab.rs"]
mod lab;

use lab::{Lab, Tenant, chi_square, unitary};
use qmk_kernel::abi::image::{Clifford1, Op, Pauli};
use qmk_kernel::abi::syscall::{ChannelInfo, ChannelState, Quota};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::hal::SpaceId;
use qmk_testkit::Rng;
use qmk_testkit::channels::{Step, Thing, World};
use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

/// Every right that a tenant's machine capability takes here.
const OPERATE: Rights = Rights::USE.union(Rights::ALLOC).union(Rights::LINK).union(Rights::TELEPORT);

fn quota(slots: u32, qubits: u32, channels: u32) -> Quota {
    Quota { slots, qubits, channels, ..Quota::UNLIMITED }
}

/// Gives a tenant a capability of the root's.
fn give(world: &mut World, source: Handle, rights: Rights, into: Handle) -> Handle {
    let call = Syscall::Derive { source, rights, badge: 0, into: Some(into), budget: None };
    match world.step(&Step::Call(0, call)) {
        Some(Reply::Handle(handle)) => handle,
        reply => panic!("{reply:?}"),
    }
}

fn take(world: &mut World, d: usize, machine: Handle) {
    world.step(&Step::Call(d, Syscall::TakeQubit { machine }));
}

/// What a search tries beside the calls of channels.
#[derive(Clone, Copy)]
struct Scope {
    /// Of these kinds, derived with these rights into the own space, or into others.
    derive: fn(Thing) -> &'static [Rights],
    /// Deleted and revoked.
    delete: fn(usize, Thing) -> bool,
    take: bool,
}

/// The calls of a domain: each argument runs through every handle there is, while the others run through all of the
/// domain's own that are of the right kind.
fn calls(world: &World, d: usize, scope: Scope) -> Vec<Syscall> {
    let model = &world.model;
    let all: Vec<Handle> = model.handles().into_iter().collect();
    let own = |kind: fn(Thing) -> bool| -> Vec<Handle> {
        model.held(d).filter(|(_, c)| kind(c.thing)).map(|(h, _)| h).collect()
    };
    let machines = own(|t| t == Thing::Machine);
    let qubits = own(|t| matches!(t, Thing::Qubit(_)));
    let domains = own(|t| matches!(t, Thing::Domain(_)));
    let ends = own(|t| matches!(t, Thing::End(_)));
    let mut calls = Vec::new();
    for &h in &all {
        let known = model.held(d).find(|(own, _)| *own == h).map(|(_, c)| c.thing);
        if known.is_none_or(|t| (scope.delete)(d, t)) {
            calls.extend([Syscall::Revoke { target: h }, Syscall::Delete { target: h }]);
        }
        if scope.take || known.is_none() {
            calls.push(Syscall::TakeQubit { machine: h });
            calls.push(Syscall::FreeQubit { qubit: h, uncompute: None });
        }
        calls.extend([Syscall::CloseChannel { endpoint: h }, Syscall::ChannelStatus { endpoint: h }]);
        let derive = |rights, into| Syscall::Derive { source: h, rights, badge: 0, into, budget: None };
        for &rights in known.map_or(&[Rights::empty()][..], scope.derive) {
            calls.push(derive(rights, None));
            calls.extend(all.iter().map(|&into| derive(rights, Some(into))));
        }
    }
    triples(&all, [&machines, &qubits, &domains], |machine, qubit, to| {
        calls.push(Syscall::Offer { machine, qubit, to, fidelity: 1.0 });
    });
    triples(&all, [&machines, &ends, &qubits], |machine, endpoint, qubit| {
        calls.push(Syscall::Accept { machine, endpoint, qubit });
        calls.push(Syscall::Teleport { machine, endpoint, qubit });
    });
    triples(&all, [&machines, &ends, &ends], |machine, a, b| {
        calls.push(Syscall::SwapEntanglement { machine, endpoints: [a, b] });
    });
    calls
}

/// All triples in which at most one argument is not of the kind it should be.
fn triples(all: &[Handle], [a, b, c]: [&[Handle]; 3], mut f: impl FnMut(Handle, Handle, Handle)) {
    let wrong = |right: &[Handle]| -> Vec<Handle> { all.iter().filter(|h| !right.contains(h)).copied().collect() };
    for (a, b, c) in [(a, b, c), (&wrong(a)[..], b, c), (a, &wrong(b)[..], c), (a, b, &wrong(c)[..])] {
        for &x in a {
            for &y in b {
                c.iter().for_each(|&z| f(x, y, z));
            }
        }
    }
}

#[derive(Debug, Default)]
struct Found {
    states: usize,
    transitions: usize,
    refusals: usize,
    depth: usize,
    /// Calls that were made.
    calls: BTreeSet<String>,
}

/// Visits every state and makes every call in it.
fn explore(boot: impl Fn() -> World, scope: Scope) -> Found {
    let start = Instant::now();
    let mut found = Found::default();
    let first = boot();
    let mut seen = HashSet::from([first.model.key()]);
    // The steps that found each state: the last one, and the state before it.
    let mut paths: Vec<Option<(usize, Step)>> = vec![None];
    let mut models = vec![Some(first.model)];
    let mut at = 0;
    while at < paths.len() {
        found.states += 1;
        let mut path: Vec<&Step> = Vec::new();
        let mut from = at;
        while let Some((before, step)) = &paths[from] {
            path.push(step);
            from = *before;
        }
        path.reverse();
        found.depth = found.depth.max(path.len());
        let reach = || {
            let mut world = boot();
            path.iter().for_each(|step| world.replay(step));
            world
        };
        let mut world = reach();
        world.model = models[at].take().expect("visited once");
        world.check();
        world.check_conserved();
        let whole = format!("{:?}", world.kernel);
        let mut steps = vec![Step::Epoch];
        for d in 0..world.model.tenants() {
            for call in calls(&world, d, scope) {
                if world.model.allows(d, &call) {
                    steps.push(Step::Call(d, call));
                } else {
                    found.refusals += 1;
                    world.refused(d, &call);
                }
            }
        }
        // No refused call has changed anything, to the last field; nothing is looked up that is kept.
        assert_eq!(whole, format!("{:?}", world.kernel), "a refused call left something behind");
        let mut new = Vec::new();
        for step in steps {
            found.transitions += 1;
            if let Step::Call(_, call) = &step {
                let name = format!("{call:?}");
                found.calls.insert(name.split(' ').next().unwrap_or_default().into());
            }
            let mut next = World { kernel: reach().kernel, model: world.model.clone() };
            next.step(&step);
            next.check();
            if seen.insert(next.model.key()) {
                new.push((Some((at, step)), Some(next.model)));
            }
        }
        for (path, model) in new {
            paths.push(path);
            models.push(model);
        }
        world.take_back();
        at += 1;
    }
    println!("{found:?} in {:.1} s", start.elapsed().as_secs_f64());
    found
}

/// Two tenants; the first may offer the second a channel, and place its endpoint in the other's space.
#[test]
fn every_state_of_two_tenants_keeps_every_promise() {
    let boot = || {
        let (mut world, machine, controls) = World::boot(4, quota(3, 0, 0), &[quota(5, 2, 2), quota(4, 2, 1)]);
        for (d, &control) in controls.iter().enumerate() {
            let own = give(&mut world, machine, OPERATE, control);
            if d == 0 {
                give(&mut world, controls[1], Rights::OFFER | Rights::CONTROL, control);
            }
            take(&mut world, d + 1, own);
        }
        world
    };
    let derive: fn(Thing) -> &'static [Rights] = |thing| match thing {
        Thing::End(_) => &[Rights::USE],
        _ => &[],
    };
    let found = explore(boot, Scope { derive, delete: |_, _| true, take: true });
    assert!(found.states > 13_000 && found.transitions > 400_000 && found.refusals > 7_000_000, "{found:?}");
    // All but the swap.
    assert_eq!(found.calls.len(), 10, "{found:?}");
}

/// Three tenants in a row. The one in the middle joins what it shares with either side, whoever offered it.
#[test]
fn every_state_of_three_tenants_that_swap_keeps_every_promise() {
    let boot = || {
        let tenants = [quota(4, 1, 1), quota(6, 2, 2), quota(5, 1, 1)];
        let (mut world, machine, controls) = World::boot(4, quota(4, 0, 0), &tenants);
        // A offers to M; M and B to each other.
        let offers: [&[usize]; 3] = [&[1], &[2], &[1]];
        for (d, &control) in controls.iter().enumerate() {
            let own = give(&mut world, machine, OPERATE, control);
            take(&mut world, d + 1, own);
            if d == 1 {
                take(&mut world, d + 1, own);
            }
            for &to in offers[d] {
                give(&mut world, controls[to], Rights::OFFER, control);
            }
            if d == 2 {
                // Which is not enough.
                give(&mut world, controls[0], Rights::CONTROL, control);
            }
        }
        world
    };
    let delete: fn(usize, Thing) -> bool = |d, thing| match thing {
        Thing::End(_) => true,
        Thing::Qubit(_) => d == 1,
        _ => false,
    };
    let found = explore(boot, Scope { derive: |_| &[], delete, take: false });
    assert!(found.states > 1000 && found.transitions > 19_000 && found.refusals > 600_000, "{found:?}");
    assert!(found.calls.contains("SwapEntanglement"), "{found:?}");
}

const PERFECT: [f64; 4] = [1.0, 0.0, 0.0, 0.0];

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

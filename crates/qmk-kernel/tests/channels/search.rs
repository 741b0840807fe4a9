//! Every state that small tables of two and of three tenants can reach, and every call in each of them.

use qmk_kernel::abi::syscall::Quota;
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
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

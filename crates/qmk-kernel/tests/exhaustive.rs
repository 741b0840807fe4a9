//! Every state that a root and two tenants with small tables can reach, breadth first, and every call in each of them.
//!
//! A state is the derivation tree up to the names of handles, domains and objects; the tables bound it. A kernel cannot
//! be copied, so a state is reached by replaying the calls that found it. What a state must satisfy is in `Model`; here
//! are the calls, the search, and what only the kernel's own account of itself can tell.
#![allow(clippy::print_stdout, reason = "shows how much was searched")]

use qmk_kernel::DomainId;
use qmk_kernel::abi::image::{Clifford2, Instr, Op, Pauli};
use qmk_kernel::abi::syscall::{Budget, ObjectKind, Quota};
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::hal::{Device, DeviceError, Finished, Interactive, Place, SpaceId, SpaceSpec, forward_device};
use qmk_testkit::NullDevice;
use qmk_testkit::model::{Model, Verdict};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Instant;

/// Qubits that a domain may hold, and that the machine has.
const QUBITS: u32 = 2;

/// A device without strands whose registers are bits: enough to tell which of them an operation touched.
#[derive(Debug)]
struct Bits {
    inner: NullDevice,
    spaces: BTreeMap<SpaceId, BTreeMap<u32, bool>>,
    measured: bool,
}

impl Bits {
    fn new() -> Self {
        Bits { inner: NullDevice::new(QUBITS), spaces: BTreeMap::new(), measured: false }
    }
}

impl Device for Bits {
    forward_device!(
        inner: NullDevice;
        except open, issue, issue_range, begin_work, outcome, begin_close, interactive
    );

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let space = self.inner.open(spec)?;
        self.spaces.insert(space, BTreeMap::new());
        Ok(space)
    }

    fn issue(&mut self, _: SpaceId, _: u32) -> Result<(), DeviceError> {
        unreachable!("no strands here")
    }

    fn begin_work(&mut self, _: SpaceId) -> Result<Finished, DeviceError> {
        unreachable!("no strands here")
    }

    fn outcome(&self, _: SpaceId, _: u64, _: u32) -> bool {
        self.measured
    }

    fn begin_close(&mut self, space: SpaceId) -> Option<Finished> {
        assert!(self.spaces.remove(&space).is_some(), "space closed twice");
        self.inner.begin_close(space)
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = Finished>> {
        Some(self)
    }
}

impl Interactive for Bits {
    type Work = Finished;

    fn begin_perform(&mut self, space: SpaceId, instr: Instr) -> Result<Finished, DeviceError> {
        let bits = self.spaces.get_mut(&space).expect("an open space");
        match instr.op {
            Op::Alloc(q) => {
                assert!(q < QUBITS, "registers are not used again");
                assert!(bits.insert(q, false).is_none(), "register {q} is in use");
            }
            Op::Free(q) => assert!(bits.remove(&q).is_some(), "register {q} is not in use"),
            Op::Pauli(Pauli::X, q) => *bits.get_mut(&q).expect("a register in use") ^= true,
            Op::Measure(Pauli::Z, q, _) => self.measured = bits[&q],
            Op::Clifford2(Clifford2::Cnot, control, target) => {
                let flip = bits[&control];
                *bits.get_mut(&target).expect("a register in use") ^= flip;
            }
            Op::Reset(q) => *bits.get_mut(&q).expect("a register in use") = false,
            op => unreachable!("{op:?}"),
        }
        Ok(Finished(space))
    }

    fn begin_link(&mut self, _: Place, _: Place, _: [f64; 3]) -> Result<Finished, DeviceError> {
        unreachable!("no channels here")
    }
}

type World = Model<Bits>;
type Call = (DomainId, Syscall);

const GONE: Quota = Quota { strands: 0, instructions: 0, channels: 0, checkpoints: 0, ..Quota::UNLIMITED };

fn slots(slots: u32) -> Quota {
    Quota { slots, qubits: QUBITS, ..GONE }
}

/// What it takes to hold and operate qubits.
const OPERATE: Rights = Rights::USE.union(Rights::ALLOC).union(Rights::COMPUTE).union(Rights::MEASURE);

/// A machine, its root, and a domain for each of the quotas.
fn boot(root_slots: u32, tenants: &[Quota]) -> (World, DomainId, Handle, Vec<Handle>) {
    let (mut world, root, machine) = Model::boot_on(Bits::new(), slots(root_slots));
    let create = |&quota| world.call(root, Syscall::CreateDomain { machine, quota }).expect("root may");
    let controls = tenants.iter().map(create).collect();
    (world, root, machine, controls)
}

/// All subsets of some rights.
fn subsets(of: Rights) -> Vec<Rights> {
    let bits: Vec<Rights> = of.iter().collect();
    (0..1 << bits.len()).map(|m| (0..bits.len()).filter(|b| m >> b & 1 == 1).map(|b| bits[b]).collect()).collect()
}

/// The calls that any domain, alive or not, may try with handles of its own, of others and long dead.
fn capability_calls(world: &World, d: DomainId, rights: &[Rights], quota: Quota) -> Vec<Syscall> {
    let held = world.kernel.capabilities(d);
    let domains = held.iter().filter(|(_, kind, _)| *kind == ObjectKind::Domain).map(|(into, ..)| Some(*into));
    let into: Vec<Option<Handle>> = std::iter::once(None).chain(domains).collect();
    let mut handles: BTreeSet<Handle> = world.freed().into_iter().collect();
    handles.extend(world.domains().into_iter().flat_map(|d| world.held(d)));
    // Whose it is tells where a badge was set, so that badges add no states.
    let derive =
        |source, rights, into| Syscall::Derive { source, rights, badge: 1 + (d.0 > 0) as u64, into, budget: None };
    let mut calls = Vec::new();
    for target in handles {
        calls.extend([Syscall::Inspect { target }, Syscall::Revoke { target }, Syscall::Delete { target }]);
        calls.push(Syscall::CreateDomain { machine: target, quota });
        if held.iter().any(|(h, ..)| *h == target) {
            calls.extend(into.iter().flat_map(|&into| rights.iter().map(move |&r| derive(target, r, into))));
        } else {
            calls.push(derive(target, Rights::empty(), None));
        }
        if let (Some(&(source, ..)), false) = (held.first(), into.contains(&Some(target))) {
            calls.push(derive(source, Rights::empty(), Some(target)));
        }
    }
    calls
}

/// What a domain can see of itself, and what is free.
fn observe(world: &mut World, d: DomainId) -> impl PartialEq + use<> {
    (world.kernel.syscall(d, Syscall::Usage), world.kernel.capabilities(d), world.kernel.free_qubits())
}

#[derive(Debug, Default)]
struct Found {
    states: usize,
    transitions: usize,
    refusals: usize,
}

/// The derivation tree, and which registers are in use: what an operation names.
fn key(world: &World) -> (Vec<u32>, Vec<Vec<u32>>) {
    let spaces = world.kernel.device().spaces.values();
    (world.key(), spaces.map(|bits| bits.keys().copied().collect()).collect())
}

/// Visits every state and makes every call in it.
fn explore(boot: impl Fn() -> World, calls: impl Fn(&World, DomainId) -> Vec<Syscall>) -> Found {
    let start = Instant::now();
    let mut found = Found::default();
    let mut seen = HashSet::from([key(&boot())]);
    // The calls that found each state: the last one, and the state before it.
    let mut paths: Vec<Option<(usize, Call)>> = vec![None];
    while let Some(at) = (found.states < paths.len()).then_some(found.states) {
        found.states += 1;
        let mut path: Vec<&Call> = Vec::new();
        let mut from = at;
        while let Some((before, call)) = &paths[from] {
            path.push(call);
            from = *before;
        }
        path.reverse();
        let mut world = boot();
        path.iter().for_each(|(d, call)| _ = world.call(*d, call.clone()));
        world.check();
        world.check_stale();
        check_conserved(&world);
        check_isolated(&mut world);
        let whole = format!("{:?}", world.kernel);
        let mut steps: Vec<Call> = Vec::new();
        let mut operations: Vec<Call> = Vec::new();
        for d in world.domains() {
            let before = observe(&mut world, d);
            for call in calls(&world, d) {
                if world.allows(d, &call) == Verdict::Never {
                    found.refusals += 1;
                    let reply = world.kernel.syscall(d, call.clone());
                    assert!(reply.is_err(), "{d:?} {call:?} is refused by the model, the kernel replied {reply:?}");
                    assert!(before == observe(&mut world, d), "{d:?} {call:?} was refused and changed something");
                } else if matches!(call, Syscall::Inspect { .. }) {
                    world.call(d, call);
                } else if matches!(call, Syscall::Apply { .. }) {
                    operations.push((d, call));
                } else {
                    steps.push((d, call));
                }
            }
        }
        // What refused calls may have changed elsewhere.
        assert_eq!(whole, format!("{:?}", world.kernel), "a call that changes nothing left something behind");
        // Operations lead to no other state of this search.
        operations.into_iter().for_each(|(d, call)| _ = world.call(d, call));
        let mut new = Vec::new();
        for (d, call) in steps {
            found.transitions += 1;
            let mut kernel = boot().kernel;
            path.iter().for_each(|(d, call)| _ = kernel.syscall(*d, call.clone()));
            let mut world = world.over(kernel);
            world.call(d, call.clone());
            world.check();
            world.check_stale();
            if seen.insert(key(&world)) {
                new.push(Some((at, (d, call))));
            }
        }
        paths.extend(new);
    }
    println!("{found:?} in {:.1} s", start.elapsed().as_secs_f64());
    found
}

/// Objects, their references and the device's spaces, which no call tells.
fn check_conserved(world: &World) {
    world.kernel.audit().unwrap();
    let capabilities = world.domains().into_iter().map(|d| world.kernel.capabilities(d).len());
    let stats = world.kernel.stats();
    assert_eq!([capabilities.sum(), stats.objects as usize, stats.domains as usize], world.sizes());
    let live: usize = world.kernel.device().spaces.values().map(BTreeMap::len).sum();
    assert_eq!(live as u32 + world.kernel.free_qubits(), QUBITS);
}

/// An operation on a qubit touches that qubit, in whoever's hands it is, and no other.
fn check_isolated(world: &mut World) {
    let mut held: Vec<(DomainId, Handle, Handle)> = Vec::new();
    for d in world.domains() {
        let all = world.kernel.capabilities(d);
        let machine = all.iter().find(|(_, kind, rights)| *kind == ObjectKind::Machine && rights.contains(OPERATE));
        let Some(&(machine, ..)) = machine else { continue };
        let qubits = all.iter().filter(|(_, kind, rights)| *kind == ObjectKind::Qubit && rights.contains(Rights::USE));
        held.extend(qubits.map(|(qubit, ..)| (d, machine, *qubit)));
    }
    let mut apply =
        |d, machine, op, qubit| match world.kernel.syscall(d, Syscall::Apply { machine, op, qubits: vec![qubit] }) {
            Ok(Reply::Applied { outcomes, .. }) => outcomes,
            other => panic!("{d:?} {op:?} {qubit}: {other:?}"),
        };
    let mut shows = Vec::new();
    for &(d, machine, qubit) in &held {
        apply(d, machine, Op::Pauli(Pauli::X, 0), qubit);
        for &(e, machine, other) in &held {
            shows.push((d, qubit, e, other, apply(e, machine, Op::Measure(Pauli::Z, 0, 0), other) == [true]));
        }
        apply(d, machine, Op::Pauli(Pauli::X, 0), qubit);
    }
    for (d, qubit, e, other, flipped) in shows {
        let same = world.object_of(d, qubit) == world.object_of(e, other);
        assert_eq!(flipped, same, "{qubit} of {d:?} and {other} of {e:?}");
    }
}

/// Derive, revoke, delete, inspect and create, over three rights, from the root and in two tenants.
#[test]
fn every_state_of_small_tables_keeps_every_promise() {
    let rights = subsets(Rights::READ | Rights::GRANT | Rights::CONTROL);
    let quota = slots(1);
    let found = explore(|| boot(3, &[slots(2), quota]).0, |world, d| capability_calls(world, d, &rights, quota));
    assert!(found.states > 1000, "{found:?}");
}

/// Taking, sharing and operating qubits. The first tenant may place what it holds in the second's space.
#[test]
fn every_state_of_shared_qubits_keeps_tenants_apart() {
    let boot = || {
        let (mut world, root, machine, controls) = boot(3, &[slots(4), slots(3)]);
        for &into in &controls {
            let derive = Syscall::Derive { source: machine, rights: OPERATE, badge: 0, into: Some(into), budget: None };
            world.call(root, derive).expect("root may");
        }
        let [first, second] = controls[..] else { unreachable!() };
        let derive =
            Syscall::Derive { source: second, rights: Rights::CONTROL, badge: 0, into: Some(first), budget: None };
        world.call(root, derive).expect("root may");
        world
    };
    let calls = |world: &World, d: DomainId| {
        let held = world.kernel.capabilities(d);
        let mut calls = Vec::new();
        for &(target, kind, _) in &held {
            calls.extend([Syscall::Delete { target }, Syscall::TakeQubit { machine: target }]);
            if kind == ObjectKind::Machine && d.0 > 0 {
                let budget = Some(Budget { strands: 0, qubits: 1, magic: 0 });
                calls.push(Syscall::Derive { source: target, rights: OPERATE, badge: 0, into: None, budget });
            }
            if kind == ObjectKind::Qubit {
                calls.push(Syscall::Revoke { target });
                calls.push(Syscall::FreeQubit { qubit: target, uncompute: None });
                let into = std::iter::once(None).chain(held.iter().map(|(h, ..)| Some(*h)));
                let derive = |into| {
                    let with = |rights| Syscall::Derive { source: target, rights, badge: 0, into, budget: None };
                    [Rights::USE, Rights::GRANT].map(with)
                };
                calls.extend(into.flat_map(derive));
            }
        }
        let everyone: BTreeSet<Handle> =
            world.domains().into_iter().flat_map(|d| world.held(d)).chain(world.freed()).collect();
        let Some(&(machine, ..)) = held.iter().find(|(_, kind, _)| *kind == ObjectKind::Machine) else { return calls };
        let op = Op::Clifford2(Clifford2::Cnot, 0, 1);
        for &(a, ..) in &held {
            calls.extend(everyone.iter().map(|&b| Syscall::Apply { machine, op, qubits: vec![a, b] }));
        }
        calls
    };
    let found = explore(boot, calls);
    assert!(found.states > 1000, "{found:?}");
}

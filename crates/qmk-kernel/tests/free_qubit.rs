//! Freeing qubits: what is called clean is clean, undoing leaves the others as they should be, and the rest is reset.

mod support;

use qmk_kernel::abi::image::{Clifford1, Clifford2, Op, Pauli};
use qmk_kernel::abi::syscall::Quota;
use qmk_kernel::abi::{Handle, KernelError, Reply, Syscall};
use qmk_kernel::{Limits, admit};
use qmk_testkit::Rng;
use qmk_testkit::programs::{image, irreversible, program, unitary};
use support::{Tenant, World, ample, distance};

const TOLERANCE: f64 = 1e-9;

type State = Vec<[f64; 2]>;

/// Probability of 1 of a qubit.
fn one(state: &State, q: usize) -> f64 {
    state.iter().enumerate().filter(|(i, _)| i >> q & 1 == 1).map(|(_, a)| a[0] * a[0] + a[1] * a[1]).sum()
}

/// 1 iff a qubit is not entangled.
fn purity(state: &State, q: usize) -> f64 {
    let (mut off, p) = ([0.0, 0.0], one(state, q));
    for i in (0..state.len()).filter(|i| i >> q & 1 == 0) {
        let (a, b) = (state[i], state[i | 1 << q]);
        off = [off[0] + a[0] * b[0] + a[1] * b[1], off[1] + a[0] * b[1] - a[1] * b[0]];
    }
    p * p + (1.0 - p) * (1.0 - p) + 2.0 * (off[0] * off[0] + off[1] * off[1])
}

fn free(world: &mut World, t: Tenant, qubit: Handle, uncompute: bool) -> (bool, u32) {
    match world.call(t.id, Syscall::FreeQubit { qubit, uncompute: uncompute.then_some(t.machine) }) {
        Ok(Reply::Freed { dirty, undone }) => (dirty, undone),
        other => panic!("{other:?}"),
    }
}

fn tenant(qubits: usize) -> (World, Tenant, Vec<Handle>) {
    let mut world = World::new(ample());
    let me = world.tenant(Quota::UNLIMITED);
    let qubits = (0..qubits).map(|_| world.take(me)).collect();
    (world, me, qubits)
}

/// Operations that keep basis states, as often as others.
fn any(n: usize, dice: &mut Rng) -> Op {
    match dice.below(8) {
        0 => irreversible(n, dice),
        1..=3 => unitary(n, dice),
        _ => loop {
            let op = unitary(n, dice);
            if !matches!(op, Op::Clifford1(..) | Op::Rotate(..)) {
                break op;
            }
        },
    }
}

#[test]
fn what_is_clean_is_in_a_basis_state_or_measured() {
    let mut dice = Rng::new(41);
    let mut seen = [0; 3];
    for case in 0..1500 {
        let n = 2 + dice.below(4);
        let (mut world, me, qubits) = tenant(n);
        let mut bell = false;
        for _ in 0..dice.below(16) {
            let op = any(n, &mut dice);
            bell |= matches!(op, Op::MeasureBell(..));
            world.apply(me, op, &qubits);
        }
        let q = dice.below(n);
        let before = world.amplitudes(0);
        let p = one(&before, q);
        let basis = p.min(1.0 - p) < TOLERANCE;
        let (dirty, undone) = free(&mut world, me, qubits[q], false);
        assert_eq!(undone, 0);
        // Halves of a Bell pair that was measured are known together, not alone.
        let known = basis || bell || (purity(&before, q) - 1.0).abs() < TOLERANCE;
        assert!(dirty || known, "case {case}: {p}");
        seen[if dirty { 0 } else { 1 + usize::from(basis) }] += 1;
        // It is in |0>, and the others are as if they had never been touched, if it was theirs alone.
        let after = world.amplitudes(0);
        assert!(one(&after, q) < TOLERANCE);
        if basis {
            let flip = usize::from(p > 0.5) << q;
            let mut want = vec![[0.0; 2]; before.len()];
            (0..before.len()).for_each(|i| want[i ^ flip] = before[i]);
            assert!(distance(&want, &after) < TOLERANCE, "case {case}");
        }
    }
    assert!(seen.iter().all(|&n| n > 50), "{seen:?}");
}

/// Whether an operation commutes with Z on `q`.
fn diagonal(op: &Op, q: u32) -> bool {
    match *op {
        Op::Pauli(p, _) | Op::Rotate(p, ..) | Op::Measure(p, ..) => p == Pauli::Z,
        Op::Clifford1(g, _) => matches!(g, Clifford1::S | Clifford1::Sdg),
        Op::T(_) | Op::Tdg(_) | Op::Clifford2(Clifford2::Cz, ..) | Op::Ccz(..) => true,
        Op::Clifford2(Clifford2::Cnot, _, t) | Op::TeleportCnot(_, t) | Op::Toffoli(_, _, t) => q != t,
        _ => false,
    }
}

/// The two promises of `uncompute.rs`: a value that was computed is erased and amplitudes stay what they are, or else
/// all is as if nothing had been done to the qubit.
#[test]
fn uncomputing_leaves_the_others_as_stated() {
    let mut dice = Rng::new(42);
    let (mut erased, mut never, mut reset) = (0, 0, 0);
    for case in 0..9000 {
        let n = 3 + dice.below(2);
        let prefix: Vec<Op> = (0..6).map(|_| unitary(n, &mut dice)).filter(|op| op.qubits().all(|r| r != 0)).collect();
        let classical = case % 2 == 0;
        let ops: Vec<Op> = (0..1 + dice.below(7))
            .map(|_| match dice.below(6) {
                0..=3 if classical => loop {
                    let op = unitary(n, &mut dice);
                    if matches!(op, Op::Clifford2(Clifford2::Cnot, _, 0) | Op::Toffoli(_, _, 0) | Op::TeleportCnot(..))
                    {
                        break op;
                    }
                },
                4 => Op::Pauli(Pauli::Y, 0),
                _ => loop {
                    let op = unitary(n, &mut dice);
                    if classical || op.qubits().all(|r| r != 0 || diagonal(&op, r)) || op.qubits().count() == 1 {
                        break op;
                    }
                },
            })
            .collect();
        // Qubit 0 is fresh.
        let (mut world, me, qubits) = tenant(n);
        prefix.iter().chain(&ops).for_each(|op| _ = world.apply(me, *op, &qubits));
        let before = world.amplitudes(0);
        let (dirty, undone) = free(&mut world, me, qubits[0], true);
        let after = world.amplitudes(0);
        assert!(one(&after, 0) < TOLERANCE);
        if dirty {
            reset += 1;
            assert_eq!(undone, 0);
            continue;
        }
        let flips = |op: &Op| {
            diagonal(op, 0)
                || matches!(
                    op,
                    Op::Pauli(..) | Op::Clifford2(Clifford2::Cnot, ..) | Op::TeleportCnot(..) | Op::Toffoli(..)
                )
        };
        let names = |op: &&Op| op.qubits().any(|r| r == 0);
        if undone == 0 {
            // It is in a basis state without that, having been exchanged for one that is, or untouched.
            let p = one(&before, 0);
            assert!(p.min(1.0 - p) < TOLERANCE);
        } else if ops.iter().filter(names).all(flips) {
            // Each term of the others goes with one value of it, and keeps its amplitude.
            let mut want = vec![[0.0; 2]; before.len()];
            for (i, a) in before.iter().enumerate().filter(|(_, a)| a[0].hypot(a[1]) > TOLERANCE) {
                assert!(want[i & !1] == [0.0; 2], "case {case}");
                want[i & !1] = *a;
            }
            assert!(distance(&want, &after) < TOLERANCE, "case {case}: {ops:?}");
            erased += 1;
        } else {
            let (mut twin, you, theirs) = tenant(n);
            prefix.iter().chain(ops.iter().filter(|op| !names(op))).for_each(|op| _ = twin.apply(you, *op, &theirs));
            assert!(distance(&twin.amplitudes(0), &after) < TOLERANCE, "case {case}: {ops:?}");
            never += 1;
        }
    }
    assert!(erased > 300 && never > 300 && reset > 300, "{erased} {never} {reset}");
}

#[test]
fn a_device_that_fails_on_the_way_leaves_things_as_they_were() {
    for refused in 0..5 {
        let (mut world, me, qubits) = tenant(3);
        let h = |q| Op::Clifford1(Clifford1::H, q);
        let cnot = |a| Op::Clifford2(Clifford2::Cnot, a, 2);
        for op in [h(0), h(1), cnot(0), cnot(1), Op::Toffoli(0, 1, 2), Op::Pauli(Pauli::X, 2), Op::TeleportCnot(0, 2)] {
            world.apply(me, op, &qubits);
        }
        let (before, used) = (world.amplitudes(0), world.usage(me.id));
        world.probe.refuse_perform.set(Some(refused));
        let call = Syscall::FreeQubit { qubit: qubits[2], uncompute: Some(me.machine) };
        assert!(matches!(world.call(me.id, call), Err(KernelError::Device(_))));
        assert!(distance(&before, &world.amplitudes(0)) < TOLERANCE, "{refused}");
        assert_eq!(world.usage(me.id), used);
        // All of it can be undone as before: seven operations.
        assert_eq!(world.rollback(me, None), Ok(7));
        assert_eq!(free(&mut world, me, qubits[2], true).1 + free(&mut world, me, qubits[0], true).1, 0);
    }
}

/// What an image is known to free, by its own account, is in a basis state or measured whenever it is freed.
#[test]
fn images_count_their_dirty_frees() {
    let admitted = |code: &[Op]| {
        admit(image(3, 9, code), qmk_kernel::abi::Rights::all(), Limits::default()).expect("admitted").dirty_frees
    };
    let h = Op::Clifford1(Clifford1::H, 0);
    let x = |e| Op::Measure(Pauli::X, 0, e);
    let (alloc, free) = (Op::Alloc(0), Op::Free(0));
    assert_eq!(admitted(&[alloc, free]), 0);
    assert_eq!(admitted(&[alloc, h, free]), 1);
    assert_eq!(admitted(&[alloc, h, x(0), free, alloc, h, free, alloc, x(1), h, free, alloc, free]), 2);
    let mut dice = Rng::new(43);
    let (mut clean, mut dirty) = (0, 0);
    for _ in 0..600 {
        // The same operations on interactive qubits, one by one; conditions have their events' values.
        let mut program = program(14, 1000, 3, &mut dice);
        program.code.iter_mut().for_each(|i| i.cond = None);
        program.terms.clear();
        let (mut world, me, _) = tenant(0);
        let counted = admit(program.clone(), qmk_kernel::abi::Rights::all(), Limits::default()).expect("admitted");
        let strand = world.run(me, &program, Default::default());
        assert_eq!(world.status(me, strand).dirty_frees, counted.dirty_frees);
        let mut qubits = std::collections::BTreeMap::new();
        let mut found = 0;
        // Keeps the space, whose history would otherwise end with its last qubit.
        world.take(me);
        for instr in &program.code {
            match instr.op {
                Op::Alloc(q) => _ = qubits.insert(q, world.take(me)),
                Op::Free(q) => {
                    let handle = qubits.remove(&q).expect("it is live");
                    let was_dirty = self::free(&mut world, me, handle, false).0;
                    found += u32::from(was_dirty);
                    if was_dirty { dirty += 1 } else { clean += 1 }
                }
                Op::Fence => {}
                op => {
                    let handles: Vec<Handle> = op.qubits().map(|q| qubits[&q]).collect();
                    let at = |q| op.qubits().position(|p| p == q).expect("an operand") as u32;
                    world.apply(me, op.map_qubits(at), &handles);
                }
            }
        }
        assert_eq!(counted.dirty_frees, found);
    }
    assert!(clean > 50 && dirty > 50, "{clean} {dirty}");
}

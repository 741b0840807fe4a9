//! Rolling interactive qubits back: the state is what it was, amplitude by amplitude up to one global phase.

mod support;

use qmk_kernel::abi::image::{Clifford1, Clifford2, Op, Pauli};
use qmk_kernel::abi::syscall::{Limit, Quota};
use qmk_kernel::abi::{Handle, KernelError, Rights, Syscall};
use qmk_sim::SimConfig;
use qmk_testkit::Rng;
use qmk_testkit::programs::{irreversible, unitary};
use support::{Tenant, World, ample, distance};

/// Sequences of some hundred floating-point gates and as many inverses are exact to this.
const TOLERANCE: f64 = 1e-9;

fn h(q: u32) -> Op {
    Op::Clifford1(Clifford1::H, q)
}

fn cnot(a: u32, b: u32) -> Op {
    Op::Clifford2(Clifford2::Cnot, a, b)
}

/// Tenants with qubits in a random state: in one case of three, entangled with each other through a channel.
fn prepare(round: usize, dice: &mut Rng) -> (World, [(Tenant, Vec<Handle>); 2]) {
    let mut world = World::new(ample());
    let mut sides = [(); 2].map(|()| (world.tenant(Quota::UNLIMITED), Vec::new()));
    let n = 2 + dice.below(5);
    for (i, (tenant, qubits)) in sides.iter_mut().enumerate() {
        qubits.extend((0..[n, 2][i]).map(|_| world.take(*tenant)));
    }
    if round.is_multiple_of(3) {
        let pair = world.entangle(sides[0].0, sides[1].0);
        for ((_, qubits), half) in sides.iter_mut().zip(pair) {
            qubits.pop();
            qubits.push(half);
        }
    }
    for (tenant, qubits) in &sides {
        for _ in 0..15 {
            let op = if dice.one_in(6) { irreversible(qubits.len(), dice) } else { unitary(qubits.len(), dice) };
            world.apply(*tenant, op, qubits);
        }
    }
    (world, sides)
}

#[test]
fn a_segment_is_undone() {
    let mut dice = Rng::new(1);
    let (mut seen, mut joint) = ([0; 11], 0);
    for round in 0..1000 {
        let (mut world, [(me, mine), (other, theirs)]) = prepare(round, &mut dice);
        // The segment begins here.
        world.apply(me, Op::Measure(Pauli::Z, 0, 0), &mine);
        let before = [world.amplitudes(0), world.amplitudes(1)];
        joint += usize::from(before[0].len() > 1 << mine.len());
        let count = dice.below(25) as u32;
        for _ in 0..count {
            let op = unitary(mine.len(), &mut dice);
            seen[kind(&op)] += 1;
            world.apply(me, op, &mine);
        }
        assert_eq!(world.rollback(me, None), Ok(count));
        for (space, before) in before.iter().enumerate() {
            assert!(distance(before, &world.amplitudes(space)) < TOLERANCE, "round {round}");
        }
        // Once is all.
        assert_eq!(world.rollback(me, None), Ok(0));
        assert!(distance(&before[0], &world.amplitudes(0)) < TOLERANCE);

        // One domain's operations leave the other's segment alone, in any order and even if their qubits are entangled.
        world.apply(other, Op::Measure(Pauli::X, 1, 0), &theirs);
        let before = [world.amplitudes(0), world.amplitudes(1)];
        let counts = [dice.below(8) as u32, dice.below(8) as u32];
        let mut left = counts;
        while left != [0, 0] {
            let who = dice.below(2);
            let (tenant, qubits) = [(me, &mine), (other, &theirs)][who];
            if left[who] > 0 {
                left[who] -= 1;
                world.apply(tenant, unitary(qubits.len(), &mut dice), qubits);
            }
        }
        assert_eq!(world.rollback(other, None), Ok(counts[1]));
        assert_eq!(world.rollback(me, None), Ok(counts[0]));
        assert!(distance(&before[0], &world.amplitudes(0)) < TOLERANCE);
        assert!(distance(&before[1], &world.amplitudes(1)) < TOLERANCE);
    }
    assert!(seen.iter().all(|&n| n > 100), "{seen:?}");
    assert!(joint > 200, "{joint}");
}

fn kind(op: &Op) -> usize {
    match op {
        Op::Pauli(..) => 0,
        Op::Clifford1(..) => 1,
        Op::T(_) => 2,
        Op::Tdg(_) => 3,
        Op::Rotate(..) => 4,
        Op::Clifford2(Clifford2::Cnot, ..) => 5,
        Op::Clifford2(Clifford2::Cz, ..) => 6,
        Op::Clifford2(Clifford2::Swap, ..) => 7,
        Op::TeleportCnot(..) => 8,
        Op::Ccz(..) => 9,
        _ => 10,
    }
}

#[test]
fn only_what_came_after_an_irreversible_operation_is_undone() {
    let mut dice = Rng::new(2);
    for round in 0..300 {
        let (mut world, [(me, mut mine), _]) = prepare(round, &mut dice);
        let (mut before, mut since) = (None, 0);
        for _ in 0..20 {
            match dice.below(10) {
                0 => {
                    world.apply(me, irreversible(mine.len(), &mut dice), &mine);
                    (before, since) = (Some(world.amplitudes(0)), 0);
                }
                1 if mine.len() < 6 => {
                    mine.push(world.take(me));
                    (before, since) = (Some(world.amplitudes(0)), 0);
                }
                2 if mine.len() > 2 => {
                    let qubit = mine.pop().expect("more than two");
                    let uncompute = dice.one_in(2).then_some(me.machine);
                    world.call(me.id, Syscall::FreeQubit { qubit, uncompute }).expect("it is mine");
                    (before, since) = (Some(world.amplitudes(0)), 0);
                }
                3 => {
                    let Some(before) = &before else { continue };
                    assert_eq!(world.rollback(me, None), Ok(since));
                    assert!(distance(before, &world.amplitudes(0)) < TOLERANCE);
                    since = 0;
                }
                _ => {
                    world.apply(me, unitary(mine.len(), &mut dice), &mine);
                    since += 1;
                }
            }
        }
    }
}

#[test]
fn a_new_pair_begins_a_segment_for_both_sides() {
    let mut world = World::new(ample());
    let (a, b) = (world.tenant(Quota::UNLIMITED), world.tenant(Quota::UNLIMITED));
    let (p, q) = (world.take(a), world.take(b));
    world.apply(a, h(0), &[p]);
    world.apply(b, h(0), &[q]);
    world.entangle(a, b);
    let before = world.amplitudes(0);
    assert_eq!((world.rollback(a, None), world.rollback(b, None)), (Ok(0), Ok(0)));
    assert_eq!(before, world.amplitudes(0));
}

#[test]
fn what_cannot_be_paid_is_not_undone() {
    let segment = [Op::T(0), h(0), Op::Rotate(Pauli::X, 0, 0.3), cnot(0, 1), Op::Toffoli(0, 1, 2)];
    // T, rotation, Toffoli.
    let magic = 1 + 23 + 4;
    let begin = |quota, config| {
        let mut world = World::new(config);
        let me = world.tenant(quota);
        let qubits = [(); 3].map(|()| world.take(me));
        segment.iter().for_each(|op| _ = world.apply(me, *op, &qubits));
        (world, me, qubits)
    };
    let refused = |world: &mut World, me: Tenant, why: &dyn Fn(&KernelError) -> bool| {
        let (before, used) = (world.amplitudes(0), world.usage(me.id));
        let error = world.rollback(me, None).expect_err("it cannot be paid");
        assert!(why(&error), "{error:?}");
        assert_eq!((before, used), (world.amplitudes(0), world.usage(me.id)));
    };
    // The domain's window.
    let quota = Quota { magic: 2 * magic - 1, window: 10, ..Quota::UNLIMITED };
    let (mut world, me, _) = begin(quota, ample());
    refused(&mut world, me, &|e| *e == KernelError::Quota(Limit::Magic));
    world.advance(10);
    assert_eq!(world.rollback(me, None), Ok(5));
    assert_eq!(world.usage(me.id).magic, magic);
    assert!(distance(&world.amplitudes(0), &zero(3)) < TOLERANCE);
    // The stock.
    let config = SimConfig { magic_per_epoch: 30, magic_buffer: Some(30), ..ample() };
    let (mut world, me, qubits) = begin(Quota::UNLIMITED, config);
    refused(&mut world, me, &|e| matches!(e, KernelError::NotReady(_)));
    // Nothing was forgotten: what is done meanwhile is undone with the rest.
    world.apply(me, h(1), &qubits);
    world.advance(1);
    assert_eq!(world.rollback(me, None), Ok(6));
    assert_eq!(world.usage(me.id).total_magic, 2 * magic);
    assert!(distance(&world.amplitudes(0), &zero(3)) < TOLERANCE);
    // The right to magic states, should someone else have applied them.
    let (mut world, mut me, _) = begin(Quota::UNLIMITED, ample());
    me.machine = world.derive_from(me.id, me.machine, Rights::all() - Rights::MAGIC, None);
    refused(&mut world, me, &|e| *e == KernelError::Rights(Rights::MAGIC));
}

/// |00…0> of n qubits.
fn zero(n: u32) -> Vec<[f64; 2]> {
    (0..1 << n).map(|i| [f64::from(u8::from(i == 0)), 0.0]).collect()
}

#[test]
fn a_device_that_fails_on_the_way_leaves_things_as_they_were() {
    let mut dice = Rng::new(3);
    for refused in 0..12 {
        let (mut world, [(me, mine), _]) = prepare(1, &mut dice);
        world.apply(me, Op::Measure(Pauli::Z, 0, 0), &mine);
        let start = world.amplitudes(0);
        (0..12).for_each(|_| _ = world.apply(me, unitary(mine.len(), &mut dice), &mine));
        let (before, used) = (world.amplitudes(0), world.usage(me.id));
        world.probe.refuse_perform.set(Some(refused));
        assert!(matches!(world.rollback(me, None), Err(KernelError::Device(_))));
        assert!(distance(&before, &world.amplitudes(0)) < TOLERANCE);
        assert_eq!(used, world.usage(me.id));
        assert_eq!(world.rollback(me, None), Ok(12));
        assert!(distance(&start, &world.amplitudes(0)) < TOLERANCE);
    }
}

/// Who holds the qubits rolls back all that was done to them; who was lent one rolls back nothing of it.
#[test]
fn the_owner_of_the_qubits_rolls_back() {
    let mut world = World::new(ample());
    let (owner, guest) = (world.tenant(Quota::UNLIMITED), world.tenant(Quota::UNLIMITED));
    let (mine, own) = ([world.take(owner), world.take(owner)], world.take(guest));
    let into = world.derive(guest.control, Rights::all() & Rights::OBJECT, Some(owner.control));
    let lent = world.derive_from(owner.id, mine[0], Rights::USE, Some(into));
    let start = world.amplitudes(0);
    world.apply(owner, cnot(0, 1), &mine);
    world.apply(guest, h(0), &[lent]);
    world.apply(guest, h(0), &[own]);
    world.apply(owner, Op::T(0), &mine);
    let before = world.amplitudes(0);
    // The guest's own qubit is back, the lent one is as it was.
    assert_eq!(world.rollback(guest, None), Ok(1));
    assert_eq!((before, zero(1)), (world.amplitudes(0), world.amplitudes(1)));
    assert_eq!(world.rollback(owner, None), Ok(3));
    assert!(distance(&start, &world.amplitudes(0)) < TOLERANCE);
    // A guest's measurement cannot be undone either.
    world.apply(owner, h(1), &mine);
    world.apply(guest, Op::Measure(Pauli::X, 0, 0), &[lent]);
    assert_eq!(world.rollback(owner, None), Ok(0));
    // Through a capability to the machine that does not compute, nothing is.
    world.apply(owner, h(1), &mine);
    let machine = world.derive_from(owner.id, owner.machine, Rights::USE, None);
    let refused = world.call(owner.id, Syscall::Rollback { machine, strand: None });
    assert_eq!(refused, Err(KernelError::Rights(Rights::COMPUTE)));
    assert_eq!(world.rollback(owner, None), Ok(1));
    // One who holds nothing has nothing to undo.
    let idle = world.tenant(Quota::UNLIMITED);
    assert_eq!(world.rollback(idle, None), Ok(0));
    let refused = world.call(owner.id, Syscall::Rollback { machine: mine[0], strand: None });
    assert_eq!(refused, Err(KernelError::WrongKind));
}

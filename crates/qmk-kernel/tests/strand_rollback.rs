//! Rolling running programs back: what they measure does not change, each instruction is issued once net of what was
//! taken back, and undoing is paid for.

mod support;

use qmk_kernel::abi::image::{Clifford1, Image, Op, Pauli};
use qmk_kernel::abi::syscall::{Budget, Limit, Quota, Run, StrandState};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;
use qmk_sim::SimConfig;
use qmk_testkit::Rng;
use qmk_testkit::programs::{image, program};
use support::{Tenant, World, ample};

/// Machines on which instructions wait for each other in different ways.
fn machine(dice: &mut Rng) -> SimConfig {
    let narrow = dice.one_in(2);
    let magic_per_epoch = dice.pick(&[1, 3, 30]);
    let (routes_per_epoch, magic_buffer) = (if narrow { 2 } else { 60 }, Some(dice.pick(&[24, 60])));
    SimConfig { routes_per_epoch, magic_per_epoch, magic_buffer, ..ample() }
}

fn run(seed: u64) -> Run {
    Run { shots: 3, seed, ..Run::default() }
}

/// Magic states of instructions.
fn magic(world: &World, image: &Image, of: impl Iterator<Item = u32>) -> u64 {
    let patch = Run::default().patch;
    of.map(|i| u64::from(world.kernel.device().cost(&image.code[i as usize].op, patch).magic)).sum()
}

#[test]
fn programs_measure_the_same() {
    let mut dice = Rng::new(11);
    let (mut taken, mut flying, mut held, mut most) = (0, 0, 0, 0);
    for case in 0..1500u64 {
        let mut world = World::new(machine(&mut dice));
        let me = world.tenant(Quota::UNLIMITED);
        let length = 6 + dice.below(30);
        let image = program(length, dice.pick(&[6, 12, 1000]), dice.pick(&[3, 12, 40]), &mut dice);
        let code = world.admit(me, &image);
        let want = world.spawn(me, code, run(case));
        let straight = world.finish(me, want);
        let want = world.outcomes(me, want);
        let before = world.usage(me.id).total_magic;

        let strand = world.spawn(me, code, run(case));
        let mut left = 1 + dice.below(6);
        let mut paused = false;
        let every = dice.pick(&[2, 8, 30]);
        let status = loop {
            let status = world.status(me, strand);
            if !matches!(status.state, StrandState::Waiting | StrandState::Running | StrandState::Held) {
                break world.finish(me, strand);
            }
            let at_fence = status.state == StrandState::Held && dice.one_in(2);
            if (dice.one_in(every) || at_fence) && left > 0 {
                left -= 1;
                let undone = world.rollback(me, Some(strand)).expect("it runs");
                let now = world.status(me, strand);
                assert_eq!(now.issued + undone, status.issued);
                taken += undone;
                most = most.max(undone);
                held += usize::from(undone > 0 && status.state == StrandState::Held);
                flying += usize::from(undone > 0 && status.state == StrandState::Running);
                assert_eq!(world.rollback(me, Some(strand)), Ok(0), "once is all");
            }
            if dice.one_in(8) || status.state == StrandState::Held && dice.one_in(3) {
                paused = !paused;
                world.done(me.id, Syscall::Pause { strand, paused });
            }
            world.kernel.advance();
        };
        assert_eq!(status.state, StrandState::Done, "{:?}", status.fault);
        assert_eq!(world.outcomes(me, strand), want, "case {case}");
        assert_eq!(status.issued as usize, image.code.len());
        // Undone and done again.
        let undone = world.probe.undone.borrow().clone();
        let paid = straight.magic_states + 2 * magic(&world, &image, undone.into_iter());
        assert_eq!(status.magic_states, paid);
        assert_eq!(world.usage(me.id).total_magic - before, paid);
    }
    assert!(taken > 3000 && flying > 300 && held > 60 && most > 10, "{taken} {flying} {held} {most}");
}

fn h(q: u32) -> Op {
    Op::Clifford1(Clifford1::H, q)
}

/// Ten H on one qubit, half of them behind a fence. An H takes three epochs.
fn chain() -> Image {
    let mut code = vec![Op::Alloc(0)];
    code.extend([h(0); 5]);
    code.push(Op::Fence);
    code.extend([h(0); 5]);
    code.push(Op::Measure(Pauli::Z, 0, 0));
    image(1, 1, &code)
}

#[test]
fn undoing_takes_the_epochs_that_doing_took() {
    let mut world = World::new(ample());
    let me = world.tenant(Quota::UNLIMITED);
    let code = world.admit(me, &chain());
    let spawn = |world: &mut World| {
        let strand = world.spawn(me, code, run(1));
        world.advance(1);
        strand
    };
    let strand = spawn(&mut world);
    let straight = world.finish(me, strand).epochs;
    assert_eq!(straight, 30);
    for after in 1..30 {
        let strand = spawn(&mut world);
        world.advance(after);
        let undone = world.rollback(me, Some(strand)).expect("it runs");
        assert_eq!(undone as usize, 1 + after / 3 + usize::from(after >= 15));
        let epochs = world.finish(me, strand).epochs;
        // What it had done, and the time to undo that, which is as long.
        let more = epochs - straight;
        assert!(more.abs_diff(2 * after as u64) <= 3, "{after} {more}");
    }
    // A strand that was held for long need not undo that.
    let strand = spawn(&mut world);
    world.done(me.id, Syscall::Pause { strand, paused: true });
    world.advance(500);
    assert_eq!(world.status(me, strand).state, StrandState::Held);
    assert_eq!(world.rollback(me, Some(strand)), Ok(5));
    assert_eq!(world.status(me, strand).state, StrandState::Running);
    world.advance(14);
    assert_eq!(world.status(me, strand).issued, 1, "it is still undoing");
    world.advance(6);
    assert!(world.status(me, strand).issued > 1);
    // It comes to the same fence again.
    world.advance(30);
    assert_eq!(world.status(me, strand).state, StrandState::Held);
    assert_eq!(world.status(me, strand).issued, 6);
    world.done(me.id, Syscall::Pause { strand, paused: false });
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
}

#[test]
fn undoing_is_charged_to_the_budget() {
    let mut world = World::new(ample());
    let mut me = world.tenant(Quota::UNLIMITED);
    let mut code = vec![Op::Alloc(0)];
    code.extend([Op::T(0); 4]);
    code.push(Op::Measure(Pauli::Z, 0, 0));
    let image = image(1, 1, &code);
    let shots = 3;
    for times in 0..3 {
        let budget = Budget { strands: 1, qubits: 1, magic: 4 * shots * (1 + 2 * times) };
        let (source, rights) = (me.machine, Rights::all());
        let derive = Syscall::Derive { source, rights, badge: 0, into: None, budget: Some(budget) };
        me.machine = world.handle(me.id, derive);
        let strand = world.run(me, &image, run(3));
        for _ in 0..times {
            // The last T is under way.
            world.issue(me, strand, 5);
            assert_eq!(world.rollback(me, Some(strand)), Ok(4));
        }
        world.issue(me, strand, 3);
        let before = world.status(me, strand);
        assert_eq!(world.rollback(me, Some(strand)), Err(KernelError::Budget(Limit::Magic)));
        // Not with another capability either: the strand belongs to the session.
        let other = Tenant { machine: source, ..me };
        assert_eq!(world.rollback(other, Some(strand)), Err(KernelError::Budget(Limit::Magic)));
        assert_eq!(world.status(me, strand), before);
        let status = world.finish(me, strand);
        assert_eq!(status.state, StrandState::Done);
        assert_eq!(status.magic_states * shots, budget.magic);
        world.delete(me.id, me.machine);
        me.machine = source;
    }
}

#[test]
fn a_device_that_fails_on_the_way_leaves_things_as_they_were() {
    let mut dice = Rng::new(12);
    for case in 0..60u64 {
        let mut world = World::new(machine(&mut dice));
        let me = world.tenant(Quota::UNLIMITED);
        let image = program(20, 1000, 1000, &mut dice);
        let strand = world.run(me, &image, run(case));
        world.issue(me, strand, 12);
        let before = world.status(me, strand);
        world.probe.refuse_undo.set(Some((case % 3) as u32));
        assert!(matches!(world.rollback(me, Some(strand)), Err(KernelError::Device(_))));
        assert_eq!(world.status(me, strand), before);
        // Nothing was forgotten.
        if case % 2 == 0 {
            assert!(world.rollback(me, Some(strand)).expect("it works now") > (case % 3) as u32);
        }
        assert_eq!(world.finish(me, strand).state, StrandState::Done);
        let got = world.outcomes(me, strand);
        let again = world.run(me, &image, run(case));
        world.finish(me, again);
        assert_eq!(world.outcomes(me, again), got);
    }
}

#[test]
fn who_may_roll_a_strand_back_and_when() {
    let mut world = World::new(SimConfig { logical_qubits: 1, ..ample() });
    let me = world.tenant(Quota::UNLIMITED);
    let t = image(1, 1, &[Op::Alloc(0), Op::T(0), h(0), h(0), Op::Measure(Pauli::X, 0, 0)]);
    let first = world.run(me, &t, run(1));
    let second = world.run(me, &t, run(1));
    world.issue(me, first, 3);
    // One that waits has done nothing.
    assert_eq!(world.rollback(me, Some(second)), Ok(0));
    let machine = |world: &mut World, without| world.derive_from(me.id, me.machine, Rights::all() - without, None);
    for without in [Rights::USE, Rights::COMPUTE, Rights::MAGIC] {
        let machine = machine(&mut world, without);
        let call = Syscall::Rollback { machine, strand: Some(first) };
        assert_eq!(world.call(me.id, call), Err(KernelError::Rights(without)));
    }
    let strand = Some(world.derive_from(me.id, first, Rights::READ | Rights::USE, None));
    let call = Syscall::Rollback { machine: me.machine, strand };
    assert_eq!(world.call(me.id, call), Err(KernelError::Rights(Rights::CONTROL)));
    let none = Handle { slot: 99, generation: 1 };
    assert_eq!(world.rollback(me, Some(none)), Err(KernelError::NoCapability));
    // Another domain, once given the strand, may; its owner pays.
    let other = world.tenant(Quota::UNLIMITED);
    let into = world.derive(other.control, Rights::CONTROL, Some(me.control));
    let lent = world.derive_from(me.id, first, Rights::CONTROL, Some(into));
    assert_eq!(world.rollback(other, Some(lent)), Ok(2));
    assert_eq!(world.finish(me, first).magic_states, 3);
    assert_eq!((world.usage(me.id).total_magic, world.usage(other.id).total_magic), (3, 0));
    assert!(matches!(world.rollback(me, Some(first)), Err(KernelError::State(_))));
    world.finish(me, second);
    // A schedule that was promised is kept.
    let strand = world.run(me, &t, Run { deadline: Some(1000), ..run(1) });
    world.advance(2);
    assert!(matches!(world.rollback(me, Some(strand)), Err(KernelError::State(_))));
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
    let done: Result<Reply, _> = world.call(me.id, Syscall::Pause { strand, paused: true });
    assert!(matches!(done, Err(KernelError::State(_))));
}

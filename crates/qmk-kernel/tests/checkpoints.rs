//! Checkpoints of programs and of interactive qubits: each is taken once, at the right time, and brings back what was.

mod support;

use qmk_kernel::Clock;
use qmk_kernel::abi::image::{Clifford1, Image, Op, Pauli};
use qmk_kernel::abi::syscall::{Budget, Limit, Quota, Run, StrandState, WrongState};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_sim::SimConfig;
use qmk_testkit::Rng;
use qmk_testkit::programs::{image, irreversible, program, unitary};
use support::{Tenant, World, ample, distance};

fn h(q: u32) -> Op {
    Op::Clifford1(Clifford1::H, q)
}

fn run(seed: u64) -> Run {
    Run { shots: 5, seed, ..Run::default() }
}

fn checkpoint(world: &mut World, t: Tenant, strand: Option<Handle>) -> Result<Handle, KernelError> {
    match world.call(t.id, Syscall::Checkpoint { machine: t.machine, strand })? {
        Reply::Handle(handle) => Ok(handle),
        other => panic!("{other:?}"),
    }
}

fn taken(world: &mut World, t: Tenant, checkpoint: Handle) -> Result<Option<u64>, KernelError> {
    match world.call(t.id, Syscall::CheckpointStatus { checkpoint })? {
        Reply::Checkpoint(epoch) => Ok(epoch),
        other => panic!("{other:?}"),
    }
}

fn restore(world: &mut World, t: Tenant, checkpoint: Handle) -> Result<Reply, KernelError> {
    world.call(t.id, Syscall::Restore { checkpoint })
}

fn is_state<T: std::fmt::Debug>(result: Result<T, KernelError>) {
    assert!(matches!(result, Err(KernelError::State(_))), "{result:?}");
}

fn is_not_ready<T: std::fmt::Debug>(result: Result<T, KernelError>) {
    assert!(matches!(result, Err(KernelError::NotReady(_))), "{result:?}");
}

/// T, fence, T, fence, T, measurement.
fn fenced() -> Image {
    let t = [h(0), Op::T(0)];
    let mut code = vec![Op::Alloc(0)];
    code.extend(t);
    code.push(Op::Fence);
    code.extend(t);
    code.push(Op::Fence);
    code.extend(t);
    code.push(Op::Measure(Pauli::X, 0, 0));
    image(1, 1, &code)
}

/// Checkpoints of a strand that has ended, with what was last seen of them: they stay as they are or have failed, and
/// none brings the strand back. Returns how many failed.
fn check_ended(world: &mut World, me: Tenant, all: &[(Handle, Option<u64>)]) -> usize {
    let mut failed = 0;
    for &(handle, epoch) in all {
        // It may have been taken in the last epochs.
        match taken(world, me, handle) {
            Ok(now) => assert!(now.is_some() && (epoch.is_none() || epoch == now)),
            Err(e) => {
                assert!(epoch.is_none());
                is_state::<()>(Err(e));
                failed += 1;
            }
        }
        is_state(restore(world, me, handle));
    }
    failed
}

#[test]
fn programs_that_go_back_measure_the_same() {
    let mut dice = Rng::new(21);
    let (mut restored, mut twice, mut rolled, mut failed) = (0, 0, 0, 0);
    for case in 0..1000u64 {
        let mut world = World::new(SimConfig { routes_per_epoch: 2, magic_per_epoch: 9, ..ample() });
        let me = world.tenant(Quota::UNLIMITED);
        let length = 10 + dice.below(25);
        let image = program(length, dice.pick(&[3, 6, 20]), 8, &mut dice);
        let code = world.admit(me, &image);
        let strand = world.spawn(me, code, run(case));
        let mut all: Vec<(Handle, Option<u64>)> = Vec::new();
        let (mut left, mut backs, mut paused) = (dice.below(5), 4, false);
        let status = loop {
            let status = world.status(me, strand);
            if !matches!(status.state, StrandState::Waiting | StrandState::Running | StrandState::Held) {
                break world.finish(me, strand);
            }
            if all.len() < 5 && dice.one_in(6) {
                all.push((checkpoint(&mut world, me, Some(strand)).expect("it runs"), None));
            }
            for (handle, epoch) in &mut all {
                let now = taken(&mut world, me, *handle).expect("the strand has not ended");
                // Once taken, it stays.
                assert!(epoch.is_none() || *epoch == now);
                *epoch = now;
            }
            let ready = all.iter().filter(|(_, epoch)| epoch.is_some()).count();
            assert_eq!(world.kept()[1], ready);
            if !all.is_empty() && left > 0 && dice.one_in(5) {
                let (handle, epoch) = dice.pick(&all);
                if epoch.is_some() {
                    left -= 1;
                    assert_eq!(restore(&mut world, me, handle), Ok(Reply::Done));
                    restored += 1;
                    twice += usize::from(left == 0);
                    assert_eq!(world.rollback(me, Some(strand)), Ok(0), "what came before is not undone");
                } else {
                    is_not_ready(restore(&mut world, me, handle));
                }
            }
            if backs > 0 && dice.one_in(12) {
                backs -= 1;
                rolled += world.rollback(me, Some(strand)).expect("it runs").min(1);
            }
            if dice.one_in(8) || status.state == StrandState::Held && dice.one_in(3) {
                paused = !paused;
                world.done(me.id, Syscall::Pause { strand, paused });
            }
            world.kernel.advance();
        };
        assert_eq!((status.state, status.issued as usize), (StrandState::Done, image.code.len()));
        failed += check_ended(&mut world, me, &all);
        let got = world.outcomes(me, strand);
        let again = world.spawn(me, code, run(case));
        world.finish(me, again);
        assert_eq!(world.outcomes(me, again), got, "case {case}");
        all.iter().for_each(|(handle, _)| world.delete(me.id, *handle));
        assert_eq!((world.kept()[1], world.usage(me.id).checkpoints), (0, 0));
    }
    assert!(restored > 400 && twice > 80 && rolled > 200 && failed > 100, "{restored} {twice} {rolled} {failed}");
}

#[test]
fn a_strand_that_drains_goes_back_and_one_that_ended_does_not() {
    let mut world = World::new(ample());
    world.kernel.set_clock(Clock::FreeRunning { pace: 1 });
    let me = world.tenant(Quota::UNLIMITED);
    let run = Run { shots: 100_000, seed: 5, ..Run::default() };
    let strand = world.run(me, &fenced(), run);
    let point = checkpoint(&mut world, me, Some(strand)).expect("it waits");
    is_not_ready(restore(&mut world, me, point));
    while world.status(me, strand).shots_done < 100 {
        world.advance(1);
    }
    let before = world.status(me, strand);
    assert_eq!(before.state, StrandState::Draining);
    is_state(checkpoint(&mut world, me, Some(strand)));
    let first = world.outcomes(me, strand);
    assert_eq!(restore(&mut world, me, point), Ok(Reply::Done));
    let status = world.status(me, strand);
    // Alloc, H, T.
    assert_eq!((status.state, status.issued, status.shots_done), (StrandState::Running, 3, 0));
    assert_eq!(status.magic_states, 1);
    is_not_ready(world.call(me.id, Syscall::Outcomes { strand, first: 0, count: 1 }));
    let after = world.finish(me, strand);
    assert_eq!((after.state, after.magic_states, after.issued), (StrandState::Done, 3, before.issued));
    assert_eq!(world.outcomes(me, strand)[..first.len()], first);
    is_state(restore(&mut world, me, point));
    assert!(taken(&mut world, me, point).expect("it was taken").is_some());
}

#[test]
fn going_back_is_charged_to_the_budget() {
    let mut world = World::new(ample());
    let mut me = world.tenant(Quota::UNLIMITED);
    // Three T for each of five shots, and two again.
    let budget = Budget { strands: 1, qubits: 1, magic: 5 * (3 + 2) };
    let (source, rights) = (me.machine, Rights::all());
    me.machine = world.handle(me.id, Syscall::Derive { source, rights, badge: 0, into: None, budget: Some(budget) });
    let strand = world.run(me, &fenced(), run(1));
    let point = checkpoint(&mut world, me, Some(strand)).expect("it waits");
    let all = fenced().code.len() as u32;
    world.issue(me, strand, all - 1);
    // Undone and done again at the checkpoint costs nothing more, for nothing was.
    assert_eq!(restore(&mut world, me, point), Ok(Reply::Done));
    assert_eq!(restore(&mut world, me, point), Ok(Reply::Done));
    world.issue(me, strand, all - 1);
    let before = world.status(me, strand);
    assert_eq!(restore(&mut world, me, point), Err(KernelError::Budget(Limit::Magic)));
    assert_eq!(world.status(me, strand), before);
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
    // What one shot really took: the stock was asked for five.
    assert_eq!(world.usage(me.id).total_magic, 5);
}

#[test]
fn a_paused_strand_stays_at_the_fence_it_goes_back_to() {
    let mut world = World::new(ample());
    let me = world.tenant(Quota::UNLIMITED);
    let strand = world.run(me, &fenced(), run(1));
    let point = checkpoint(&mut world, me, Some(strand)).expect("it waits");
    world.issue(me, strand, 5);
    world.done(me.id, Syscall::Pause { strand, paused: true });
    assert_eq!(restore(&mut world, me, point), Ok(Reply::Done));
    assert_eq!(world.status(me, strand).state, StrandState::Held);
    world.advance(20);
    assert_eq!(world.status(me, strand).issued, 3);
    world.done(me.id, Syscall::Pause { strand, paused: false });
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
}

#[test]
fn checkpoints_and_strands_go_in_any_order() {
    let mut world = World::new(SimConfig { logical_qubits: 1, ..ample() });
    let quota = Quota { checkpoints: 2, ..Quota::UNLIMITED };
    let me = world.tenant(quota);
    let strand = world.run(me, &fenced(), run(1));
    let points = [(); 2].map(|()| checkpoint(&mut world, me, Some(strand)).expect("two may be"));
    assert_eq!(checkpoint(&mut world, me, Some(strand)), Err(KernelError::Quota(Limit::Checkpoints)));
    // Deleted while pending: nothing is saved for it, and the strand does not stop.
    world.delete(me.id, points[0]);
    world.delete(me.id, points[1]);
    assert_eq!(world.usage(me.id).checkpoints, 0);
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
    assert_eq!(world.kept()[1], 0);
    is_state(checkpoint(&mut world, me, Some(strand)));
    world.delete(me.id, strand);

    // The strand goes first, before one is taken and after the other was.
    let strand = world.run(me, &fenced(), run(1));
    let early = checkpoint(&mut world, me, Some(strand)).expect("it waits");
    world.issue(me, strand, 4);
    let late = checkpoint(&mut world, me, Some(strand)).expect("it runs");
    assert!(taken(&mut world, me, early).expect("it runs").is_some());
    assert_eq!(taken(&mut world, me, late), Ok(None));
    world.delete(me.id, strand);
    is_state(restore(&mut world, me, early));
    is_state(restore(&mut world, me, late));
    is_state(taken(&mut world, me, late));
    // Another strand, which may get the ids of the old one, is not meant.
    let other = world.run(me, &fenced(), run(1));
    world.advance(3);
    is_state(restore(&mut world, me, early));
    world.delete(me.id, early);
    world.delete(me.id, late);
    assert_eq!(world.usage(me.id).checkpoints, 0);
    assert_eq!(world.finish(me, other).state, StrandState::Done);
    world.delete(me.id, other);

    // No fence is left.
    let strand = world.run(me, &fenced(), run(1));
    world.issue(me, strand, 8);
    let never = checkpoint(&mut world, me, Some(strand)).expect("it runs");
    is_not_ready(restore(&mut world, me, never));
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
    is_state(taken(&mut world, me, never));
    is_state(restore(&mut world, me, never));
    // A schedule is kept.
    world.delete(me.id, never);
    world.delete(me.id, strand);
    let strand = world.run(me, &fenced(), Run { deadline: Some(10_000), ..run(1) });
    is_state(checkpoint(&mut world, me, Some(strand)));
    // Rights.
    let machine = world.derive_from(me.id, me.machine, Rights::all() - Rights::CHECKPOINT, None);
    let refused = world.call(me.id, Syscall::Checkpoint { machine, strand: None });
    assert_eq!(refused, Err(KernelError::Rights(Rights::CHECKPOINT)));
    // It needs qubits.
    is_state(checkpoint(&mut world, me, None));
}

#[test]
fn a_device_that_cannot_copy_states_says_so() {
    let mut world = World::new(SimConfig { snapshot: false, ..ample() });
    let me = world.tenant(Quota::UNLIMITED);
    world.take(me);
    let strand = world.run(me, &fenced(), run(1));
    let (before, why) = (world.usage(me.id), KernelError::State(WrongState::NoCopies));
    assert_eq!(checkpoint(&mut world, me, Some(strand)), Err(why.clone()));
    assert_eq!(checkpoint(&mut world, me, None), Err(why));
    assert_eq!(world.usage(me.id), before);
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
}

/// A tenant with some qubits in a random state.
fn prepare(seed: u64) -> (World, Tenant, Vec<Handle>, Rng) {
    let mut dice = Rng::new(seed);
    let mut world = World::new(ample());
    let me = world.tenant(Quota::UNLIMITED);
    let qubits: Vec<Handle> = (0..2 + dice.below(4)).map(|_| world.take(me)).collect();
    for _ in 0..dice.below(12) {
        let op = if dice.one_in(3) { irreversible(qubits.len(), &mut dice) } else { unitary(qubits.len(), &mut dice) };
        world.apply(me, op, &qubits);
    }
    (world, me, qubits, dice)
}

#[test]
fn interactive_qubits_come_back_as_they_were() {
    let mut flags = [0; 2];
    for case in 0..400 {
        let (mut world, me, qubits, mut dice) = prepare(1000 + case);
        let before = world.amplitudes(0);
        let point = checkpoint(&mut world, me, None).expect("it has qubits");
        assert!(taken(&mut world, me, point).expect("at once").is_some());
        for _ in 0..1 + dice.below(3) {
            for _ in 0..dice.below(12) {
                let n = qubits.len();
                let op = if dice.one_in(3) { irreversible(n, &mut dice) } else { unitary(n, &mut dice) };
                world.apply(me, op, &qubits);
            }
            assert_eq!(restore(&mut world, me, point), Ok(Reply::Done));
            assert!(distance(&before, &world.amplitudes(0)) < 1e-9, "case {case}");
            // Going back is no operation that could be undone.
            assert_eq!(world.rollback(me, None), Ok(0));
        }
        // What is known of them is what was known.
        let (mut twin, you, theirs, _) = prepare(1000 + case);
        for (mine, theirs) in qubits.into_iter().zip(theirs) {
            let free = |qubit| Syscall::FreeQubit { qubit, uncompute: None };
            let got = world.call(me.id, free(mine));
            assert_eq!(got, twin.call(you.id, free(theirs)), "case {case}");
            flags[usize::from(got == Ok(Reply::Freed { dirty: true, undone: 0 }))] += 1;
        }
    }
    assert!(flags[0] > 100 && flags[1] > 100, "{flags:?}");
}

#[test]
fn interactive_checkpoints_are_of_these_qubits() {
    let (mut world, me, qubits, _) = prepare(5);
    let other = world.tenant(Quota::UNLIMITED);
    let refused = |world: &mut World, point| {
        let before = world.amplitudes(0);
        is_state(restore(world, me, point));
        assert!(distance(&before, &world.amplitudes(0)) < 1e-9);
    };
    let point = checkpoint(&mut world, me, None).expect("it has qubits");
    let extra = world.take(me);
    refused(&mut world, point);
    world.call(me.id, Syscall::FreeQubit { qubit: extra, uncompute: None }).expect("it is mine");
    refused(&mut world, point);
    let point = checkpoint(&mut world, me, None).expect("it has qubits");
    assert_eq!(restore(&mut world, me, point), Ok(Reply::Done));
    // Whoever holds the checkpoint may, even if it is someone else.
    let into = world.derive(other.control, Rights::CONTROL, Some(me.control));
    let lent = world.derive_from(me.id, point, Rights::USE, Some(into));
    let before = world.amplitudes(0);
    world.apply(me, h(0), &qubits);
    world.apply(me, Op::T(0), &qubits);
    assert_eq!(restore(&mut world, other, lent), Ok(Reply::Done));
    assert!(distance(&before, &world.amplitudes(0)) < 1e-9);
    let read = world.derive_from(me.id, point, Rights::READ, None);
    assert_eq!(restore(&mut world, me, read), Err(KernelError::Rights(Rights::USE)));
    // Half of a pair cannot be copied, nor can what was there before it be brought back.
    let point = checkpoint(&mut world, me, None).expect("it has qubits");
    let mine = qubits[0];
    let theirs = world.take(other);
    let to = world.derive(other.control, Rights::OFFER, Some(me.control));
    let offer = Syscall::Offer { machine: me.machine, qubit: mine, to, fidelity: 0.9 };
    let Ok(Reply::Offered { invitation, .. }) = world.call(me.id, offer) else { panic!("no offer") };
    assert_eq!(restore(&mut world, me, point), Ok(Reply::Done));
    let accept = Syscall::Accept { machine: other.machine, endpoint: invitation, qubit: theirs };
    world.call(other.id, accept).expect("it was offered");
    refused(&mut world, point);
    let used = world.usage(me.id);
    assert!(matches!(checkpoint(&mut world, me, None), Err(KernelError::Device(_))));
    assert_eq!(world.usage(me.id), used);
    // All qubits gone, and others taken in their place.
    qubits.iter().for_each(|q| world.delete(me.id, *q));
    let fresh = world.take(me);
    is_state(restore(&mut world, me, point));
    world.delete(me.id, fresh);
    is_state(restore(&mut world, me, point));
}

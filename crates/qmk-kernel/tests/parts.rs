//! Parts of the machine and of its time: pausing and moving programs, regions, contexts, budgets of sessions.

mod support;

use qmk_kernel::abi::image::{Clifford1, Image, Op, Pauli};
use qmk_kernel::abi::syscall::{Budget, Limit, Quota, Run, StrandState};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_sim::SimConfig;
use qmk_testkit::Rng;
use qmk_testkit::judge::peak;
use qmk_testkit::programs::{image, program};
use support::{Tenant, World, ample};

fn h(q: u32) -> Op {
    Op::Clifford1(Clifford1::H, q)
}

fn run(seed: u64) -> Run {
    Run { shots: 2, seed, ..Run::default() }
}

/// `count` qubits, `depth` T on each, all measured.
fn parallel(count: u32, depth: usize) -> Image {
    let mut code: Vec<Op> = (0..count).map(Op::Alloc).collect();
    code.extend((0..depth).flat_map(|_| (0..count).map(Op::T)));
    code.extend((0..count).map(|q| Op::Measure(Pauli::X, q, q)));
    image(count, count, &code)
}

fn pause(world: &mut World, t: Tenant, strand: Handle, paused: bool) {
    world.done(t.id, Syscall::Pause { strand, paused });
}

fn region(world: &mut World, t: Tenant, qubits: u32, routes: u32, magic: u32) -> Handle {
    world.handle(t.id, Syscall::CreateRegion { machine: t.machine, qubits, routes, magic })
}

/// Free qubits of the shared region, as the refusal of too large a region tells.
fn shared(world: &mut World, t: Tenant) -> u32 {
    let call = Syscall::CreateRegion { machine: t.machine, qubits: u32::MAX, routes: 0, magic: 0 };
    match world.call(t.id, call) {
        Err(KernelError::Capacity { available, .. }) => available,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_paused_strand_issues_nothing_behind_its_next_fence() {
    let mut dice = Rng::new(31);
    let (mut held, mut through) = (0, 0);
    for case in 0..300u64 {
        let mut world = World::new(SimConfig { routes_per_epoch: 2, magic_per_epoch: 20, ..ample() });
        let me = world.tenant(Quota::UNLIMITED);
        let (length, fences) = (10 + dice.below(25), dice.pick(&[4, 10, 1000]));
        let image = program(length, fences, 8, &mut dice);
        let code = world.admit(me, &image);
        let want = world.spawn(me, code, run(case));
        world.finish(me, want);
        let strand = world.spawn(me, code, run(case));
        world.advance(dice.below(30));
        let at = world.status(me, strand).issued;
        if !matches!(world.status(me, strand).state, StrandState::Waiting | StrandState::Running) {
            continue;
        }
        pause(&mut world, me, strand, true);
        world.advance(800);
        let status = world.status(me, strand);
        if status.state == StrandState::Held {
            held += 1;
            // All before a fence is issued and nothing behind, and it is the next one.
            let next = status.issued as usize;
            assert_eq!(image.code[next].op, Op::Fence);
            assert!(!image.code[..next].iter().skip(at as usize + 1).any(|i| i.op == Op::Fence), "{at} {next}");
            world.advance(50);
            let later = world.status(me, strand);
            assert_eq!((later.state, later.issued), (StrandState::Held, status.issued));
            pause(&mut world, me, strand, false);
            assert_eq!(world.status(me, strand).state, StrandState::Running);
        } else {
            through += 1;
            let last = image.code.iter().rposition(|i| i.op == Op::Fence).map_or(0, |i| i as u32);
            assert!(status.state == StrandState::Done && at >= last, "{at} {last} {status:?}");
        }
        assert_eq!(world.finish(me, strand).state, StrandState::Done);
        let got = world.outcomes(me, strand);
        assert_eq!(world.outcomes(me, want), got);
    }
    assert!(held > 80 && through > 80, "{held} {through}");
}

#[test]
fn a_strand_paused_before_it_starts_is_held_at_its_first_fence() {
    let mut world = World::new(ample());
    let me = world.tenant(Quota::UNLIMITED);
    let strand = world.run(me, &image(1, 1, &[Op::Fence, Op::Alloc(0), Op::Measure(Pauli::Z, 0, 0)]), run(1));
    pause(&mut world, me, strand, true);
    world.advance(5);
    let status = world.status(me, strand);
    assert_eq!((status.state, status.issued), (StrandState::Held, 0));
    pause(&mut world, me, strand, false);
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
}

#[test]
fn strands_move_between_regions() {
    let mut dice = Rng::new(32);
    let (mut moves, mut waits) = (0, 0);
    for case in 0..150u64 {
        let mut world = World::new(SimConfig { logical_qubits: 20, magic_per_epoch: 90, ..ample() });
        let me = world.tenant(Quota::UNLIMITED);
        let places = [None, Some(region(&mut world, me, 5, 20, 30)), Some(region(&mut world, me, 7, 20, 30))];
        let mut strands = Vec::new();
        for i in 0..5 {
            let length = 10 + dice.below(20);
            let image = program(length, 4, 10, &mut dice);
            let code = world.admit(me, &image);
            let strand = world.spawn(me, code, Run { region: dice.pick(&places), ..run(case * 10 + i) });
            strands.push((strand, code, image));
        }
        for _ in 0..80 {
            let (strand, ..) = strands[dice.below(strands.len())];
            if dice.one_in(4) {
                let place = dice.pick(&places);
                match world.call(me.id, Syscall::Migrate { strand, region: place }) {
                    Ok(reply) => {
                        assert_eq!(reply, Reply::Done);
                        moves += 1;
                    }
                    Err(e) => assert!(matches!(e, KernelError::State(_)), "{e}"),
                }
            }
            world.kernel.advance();
            let mut live = 0;
            for (strand, _, image) in &strands {
                let status = world.status(me, *strand);
                waits += usize::from(status.state == StrandState::Held);
                if matches!(status.state, StrandState::Running | StrandState::Held) {
                    live += peak(image);
                }
            }
            assert_eq!(world.kernel.free_qubits() + live, 20);
            assert_eq!(world.usage(me.id).qubits, live);
        }
        for (i, (strand, code, _)) in strands.iter().enumerate() {
            // Whatever room it was to wait for, it can go on where it is.
            for place in places {
                _ = world.call(me.id, Syscall::Migrate { strand: *strand, region: place });
                world.advance(2);
            }
            assert_eq!(world.finish(me, *strand).state, StrandState::Done);
            let got = world.outcomes(me, *strand);
            let again = world.spawn(me, *code, run(case * 10 + i as u64));
            assert_eq!(world.finish(me, again).state, StrandState::Done);
            assert_eq!(world.outcomes(me, again), got, "case {case}");
        }
        assert_eq!((shared(&mut world, me), world.kernel.free_qubits(), world.usage(me.id).qubits), (8, 20, 0));
        places.into_iter().flatten().for_each(|r| world.delete(me.id, r));
        assert_eq!(shared(&mut world, me), 20);
    }
    assert!(moves > 500 && waits > 500, "{moves} {waits}");
}

#[test]
fn a_strand_waits_for_room_where_it_goes() {
    let mut world = World::new(SimConfig { logical_qubits: 10, ..ample() });
    let me = world.tenant(Quota::UNLIMITED);
    let place = region(&mut world, me, 4, 10, 10);
    let inside = world.run(me, &parallel(3, 20), Run { region: Some(place), ..run(1) });
    let code = [Op::Alloc(0), Op::Alloc(1), Op::Fence, Op::T(0), Op::Measure(Pauli::Z, 0, 0)];
    let strand = world.run(me, &image(2, 1, &code), run(1));
    world.done(me.id, Syscall::Migrate { strand, region: Some(place) });
    world.advance(1);
    assert_eq!(shared(&mut world, me), 4);
    while world.status(me, inside).state != StrandState::Done {
        world.advance(1);
        let status = world.status(me, strand);
        assert!(status.issued == 2 || world.status(me, inside).state == StrandState::Done, "{status:?}");
    }
    world.advance(2);
    // It has left the shared region, and took its place in the other.
    assert_eq!((shared(&mut world, me), world.kernel.free_qubits()), (6, 8));
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
    assert_eq!(world.kernel.free_qubits(), 10);
    // Too small, too poor, or no right to it.
    let big = world.run(me, &parallel(5, 9), run(1));
    let (available, requested) = (4, 5);
    let to = |region| Syscall::Migrate { strand: big, region: Some(region) };
    assert_eq!(world.call(me.id, to(place)), Err(KernelError::Capacity { requested, available }));
    world.delete(me.id, place);
    let poor = region(&mut world, me, 5, 0, 1);
    assert!(matches!(world.call(me.id, to(poor)), Err(KernelError::State(_))));
    let weak = world.derive_from(me.id, poor, Rights::READ, None);
    assert_eq!(world.call(me.id, to(weak)), Err(KernelError::Rights(Rights::USE)));
    assert_eq!(world.finish(me, big).state, StrandState::Done);
}

/// A strand about to move keeps to where it can run, if its new place has become too poor for it.
#[test]
fn a_strand_does_not_move_to_where_it_could_not_go_on() {
    let mut world = World::new(SimConfig { logical_qubits: 10, magic_per_epoch: 16, ..ample() });
    let me = world.tenant(Quota::UNLIMITED);
    let place = region(&mut world, me, 4, 10, 8);
    let code = [Op::Alloc(0), Op::T(0), Op::Fence, Op::T(0), Op::Measure(Pauli::Z, 0, 0)];
    let strand = world.run(me, &image(1, 1, &code), Run { region: Some(place), ..run(1) });
    world.advance(1);
    world.done(me.id, Syscall::Migrate { strand, region: None });
    region(&mut world, me, 1, 0, 8);
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
}

#[test]
fn what_runs_in_a_region_does_not_feel_the_load_outside() {
    let mut dice = Rng::new(33);
    for case in 0..40u64 {
        let length = 25 + dice.below(20);
        let image = program(length, 8, 10, &mut dice);
        let config = SimConfig { routes_per_epoch: 6, magic_per_epoch: 8, decoded_per_epoch: Some(32), ..ample() };
        let epochs = [0, 1, 2].map(|load| {
            let mut world = World::new(config.clone());
            let (me, others) = (world.tenant(Quota::UNLIMITED), world.tenant(Quota::UNLIMITED));
            // The buffer goes by the share of magic states: half of 64.
            let place = region(&mut world, me, 8, 3, 4);
            if load > 0 {
                let code = world.admit(others, &parallel(14, 30));
                (0..2 * load).for_each(|i| _ = world.spawn(others, code, Run { priority: 9, ..run(i) }));
            }
            world.advance(10);
            let strand = world.run(me, &image, Run { region: Some(place), ..run(case) });
            let status = world.finish(me, strand);
            assert_eq!(status.state, StrandState::Done);
            (status.epochs, status.waited)
        });
        assert!(epochs[0] == epochs[1] && epochs[1] == epochs[2], "{epochs:?}");
    }
}

#[test]
fn a_region_that_is_deleted_faults_its_strands_and_comes_back_whole() {
    let mut world = World::new(SimConfig { logical_qubits: 20, magic_per_epoch: 9, routes_per_epoch: 5, ..ample() });
    let me = world.tenant(Quota::UNLIMITED);
    for round in 0..30 {
        let place = region(&mut world, me, 12, 5, 9);
        assert_eq!(shared(&mut world, me), 8);
        let code = world.admit(me, &parallel(5, 30));
        let inside: Vec<_> = (0..3).map(|i| world.spawn(me, code, Run { region: Some(place), ..run(i) })).collect();
        world.advance(round);
        // What a device has no space for ends before it began, and gives back what it was to have.
        let many = Run { shots: 1 << 30, region: Some(place), deadline: Some(u64::MAX), ..run(1) };
        let huge = world.run(me, &image(1, 9, &[Op::Alloc(0), Op::Measure(Pauli::Z, 0, 8)]), many);
        world.delete(me.id, place);
        for strand in inside.into_iter().chain([huge]) {
            let status = world.status(me, strand);
            assert!(status.state == StrandState::Faulted && status.fault.is_some(), "{status:?}");
            assert!(world.call(me.id, Syscall::Pause { strand, paused: true }).is_err());
        }
        assert_eq!((shared(&mut world, me), world.kernel.free_qubits(), world.usage(me.id).qubits), (20, 20, 0));
        world.advance(1);
        assert_eq!((shared(&mut world, me), world.usage(me.id).qubits), (20, 0));
        for (handle, kind, _) in world.kernel.capabilities(me.id) {
            if kind == qmk_kernel::abi::syscall::ObjectKind::Strand {
                world.delete(me.id, handle);
            }
        }
        assert_eq!(world.usage(me.id).strands, 0);
        // Routes and magic states are back too, once what was under way is over: all can be taken again.
        world.advance(2);
        let again = region(&mut world, me, 20, 5, 9);
        world.delete(me.id, again);
    }
}

fn context(world: &mut World, t: Tenant, weight: u32, epochs: u64, window: u64) -> Handle {
    world.handle(t.id, Syscall::CreateContext { machine: t.machine, weight, epochs, window })
}

#[test]
fn contexts_share_by_weight() {
    for weights in [[1, 1], [3, 1], [1, 4], [7, 2]] {
        // So many patches that those held hardly count.
        let config = SimConfig { logical_qubits: 10_000, magic_per_epoch: 2, magic_buffer: Some(4), ..ample() };
        let mut world = World::new(config);
        let me = world.tenant(Quota::UNLIMITED);
        let code = world.admit(me, &parallel(20, 200));
        let strands = weights.map(|weight| {
            let context = Some(context(&mut world, me, weight, u64::MAX, 0));
            world.spawn(me, code, Run { context, ..run(1) })
        });
        world.advance(1500);
        let got = strands.map(|s| world.status(me, s).magic_states as f64);
        let want = f64::from(weights[0]) / f64::from(weights[1]);
        // A credit of 16 epochs may be out.
        assert!(got[0] + got[1] > 2900.0, "{got:?}");
        assert!((got[0] / got[1] / want - 1.0).abs() < 0.05, "{weights:?} {got:?}");
    }
}

#[test]
fn a_context_issues_in_so_many_epochs_of_a_window() {
    let mut world = World::new(SimConfig { magic_per_epoch: 1, magic_buffer: Some(1), ..ample() });
    let me = world.tenant(Quota::UNLIMITED);
    let code = world.admit(me, &parallel(4, 60));
    let place = context(&mut world, me, 1, 5, 20);
    let strand = world.spawn(me, code, Run { context: Some(place), ..run(1) });
    let (mut windows, mut before) = (vec![0; 11], 0);
    while world.kernel.epoch() < 219 {
        world.advance(1);
        let issued = world.status(me, strand).issued;
        windows[(world.kernel.epoch() / 20) as usize] += u32::from(issued > before);
        before = issued;
    }
    assert_eq!(windows, [5; 11]);
    // Its domain's own context has had none of them; without the other, that is where it goes on.
    assert_eq!(world.usage(me.id).epochs, 0);
    world.delete(me.id, place);
    world.advance(30);
    assert_eq!(world.usage(me.id).epochs, 30);
    assert_eq!(world.finish(me, strand).state, StrandState::Done);
    // One that waits is moved as well, and no one can start anything there.
    let place = context(&mut world, me, 1, 5, 20);
    let waiting = world.spawn(me, code, Run { context: Some(place), ..run(1) });
    world.delete(me.id, place);
    let gone = Syscall::Spawn { machine: me.machine, image: code, run: Run { context: Some(place), ..run(1) } };
    assert_eq!(world.call(me.id, gone), Err(KernelError::NoCapability));
    assert_eq!(world.finish(me, waiting).state, StrandState::Done);
}

/// A budget as the test keeps it.
#[derive(Debug)]
struct Root {
    handle: Handle,
    parent: Option<usize>,
    limit: Budget,
    used: Budget,
}

const NOTHING: Budget = Budget { strands: 0, qubits: 0, magic: 0 };

/// What a strand takes, with a T for each of its two shots, then one more qubit and one T of that.
const NEEDS: [Budget; 3] = [
    Budget { strands: 1, qubits: 2, magic: 2 },
    Budget { strands: 0, qubits: 1, magic: 0 },
    Budget { strands: 0, qubits: 0, magic: 1 },
];

/// A tenant with budgets within budgets, and what was made with each.
struct Budgets {
    world: World,
    me: Tenant,
    image: Handle,
    subject: Handle,
    /// Budgets, unless they were deleted.
    roots: Vec<Option<Root>>,
    /// Strands and qubits, with the budget and what they take of it.
    made: Vec<(Handle, usize, Budget)>,
    fine: usize,
    refused: usize,
    deleted: usize,
}

impl Budgets {
    fn new() -> Self {
        let mut world = World::new(ample());
        let me = world.tenant(Quota::UNLIMITED);
        let code = image(2, 1, &[Op::Alloc(0), Op::Alloc(1), Op::T(0), Op::Measure(Pauli::X, 0, 0)]);
        let (image, subject) = (world.admit(me, &code), world.take(me));
        Budgets { world, me, image, subject, roots: Vec::new(), made: Vec::new(), fine: 0, refused: 0, deleted: 0 }
    }

    fn live(&self) -> Vec<usize> {
        (0..self.roots.len()).filter(|&r| self.roots[r].is_some()).collect()
    }

    fn root(&self, at: usize) -> &Root {
        self.roots[at].as_ref().expect("it lives")
    }

    /// A budget and those that it is a part of.
    fn chain(&self, at: Option<usize>) -> Vec<usize> {
        std::iter::successors(at, |&r| self.roots[r].as_ref().and_then(|r| r.parent)).collect()
    }

    fn change(&mut self, from: Option<usize>, change: impl Fn(&mut Budget)) {
        self.chain(from).into_iter().for_each(|r| change(&mut self.roots[r].as_mut().expect("it lives").used));
    }

    /// Magic states that were spent do not come back.
    fn give_back(&mut self, from: Option<usize>, need: Budget) {
        self.change(from, |used| {
            used.strands -= need.strands;
            used.qubits -= need.qubits;
        });
    }

    fn derive(&mut self, parent: Option<usize>, dice: &mut Rng) {
        let source = parent.map_or(self.me.machine, |p| self.root(p).handle);
        let mut any = |n: usize| dice.below(n) as u32;
        let limit = Budget { strands: any(4), qubits: any(8), magic: u64::from(any(16)) };
        let call = Syscall::Derive { source, rights: Rights::all(), badge: 0, into: None, budget: Some(limit) };
        let handle = self.world.handle(self.me.id, call);
        self.roots.push(Some(Root { handle, parent, limit, used: NOTHING }));
    }

    fn delete_one(&mut self, at: usize) {
        let (handle, root, need) = self.made.swap_remove(at);
        self.world.delete(self.me.id, handle);
        self.give_back(Some(root), need);
    }

    /// Takes all that was made with a budget, budgets within it included.
    fn delete_budget(&mut self, victim: usize) {
        let inside = |r: usize| self.chain(Some(r)).contains(&victim);
        let dead: Vec<usize> = self.live().into_iter().filter(|&r| inside(r)).collect();
        let (gone, kept): (Vec<_>, Vec<_>) = self.made.iter().copied().partition(|m| inside(m.1));
        self.made = kept;
        self.deleted += gone.len();
        let (handle, parent) = (self.root(victim).handle, self.root(victim).parent);
        self.world.delete(self.me.id, handle);
        for (target, _, need) in gone {
            let call = self.world.call(self.me.id, Syscall::Inspect { target });
            assert_eq!(call, Err(KernelError::NoCapability));
            self.give_back(parent, need);
        }
        dead.into_iter().for_each(|r| self.roots[r] = None);
    }

    /// What is exceeded of the innermost budget of which something would be.
    fn exceeded(&self, at: usize, need: Budget) -> Option<Limit> {
        self.chain(Some(at)).into_iter().find_map(|r| {
            let Root { limit, used, .. } = self.root(r);
            (used.strands + need.strands > limit.strands)
                .then_some(Limit::Strands)
                .or((used.qubits + need.qubits > limit.qubits).then_some(Limit::Qubits))
                .or((used.magic + need.magic > limit.magic).then_some(Limit::Magic))
        })
    }

    /// Asks for one of [`NEEDS`] with a budget.
    fn take(&mut self, at: usize, dice: &mut Rng) {
        let mut machine = self.root(at).handle;
        if dice.one_in(2) {
            // A plain derivation is no way around.
            machine = self.world.derive_from(self.me.id, machine, Rights::all(), None);
        }
        let which = dice.below(3);
        let call = match which {
            0 => Syscall::Spawn { machine, image: self.image, run: run(1) },
            1 => Syscall::TakeQubit { machine },
            _ => Syscall::Apply { machine, op: Op::T(0), qubits: vec![self.subject] },
        };
        let need = NEEDS[which];
        match (self.world.call(self.me.id, call), self.exceeded(at, need)) {
            (Ok(reply), None) => {
                self.fine += 1;
                self.change(Some(at), |used| {
                    used.strands += need.strands;
                    used.qubits += need.qubits;
                    used.magic += need.magic;
                });
                if let Reply::Handle(handle) = reply {
                    self.made.push((handle, at, need));
                }
            }
            (Err(e), Some(limit)) => {
                self.refused += 1;
                assert_eq!(e, KernelError::Budget(limit));
            }
            (got, why) => panic!("{got:?} {why:?}"),
        }
    }

    fn step(&mut self, dice: &mut Rng) {
        let live = self.live();
        match dice.below(12) {
            0 | 1 => {
                let parent = (!live.is_empty() && dice.one_in(2)).then(|| dice.pick(&live));
                self.derive(parent, dice);
            }
            2 if !self.made.is_empty() => self.delete_one(dice.below(self.made.len())),
            3 if live.len() > 3 && dice.one_in(3) => self.delete_budget(dice.pick(&live)),
            _ if !live.is_empty() => self.take(dice.pick(&live), dice),
            _ => {}
        }
        if dice.one_in(3) {
            self.world.kernel.advance();
        }
        let used = self.world.usage(self.me.id);
        assert_eq!(used.strands, self.made.iter().map(|m| m.2.strands).sum::<u32>());
        assert!(used.qubits > self.made.iter().filter(|m| m.2.strands == 0).count() as u32);
    }

    /// Deletes all budgets: the subject alone is left.
    fn end(&mut self) {
        let handles: Vec<Handle> = self.roots.iter().flatten().map(|r| r.handle).collect();
        handles.into_iter().for_each(|h| self.world.delete(self.me.id, h));
        let used = self.world.usage(self.me.id);
        assert_eq!((used.strands, used.qubits, self.world.kept()[0]), (0, 1, 1));
    }
}

#[test]
fn budgets_hold_through_nested_derivations() {
    let mut dice = Rng::new(34);
    let (mut fine, mut refused, mut deleted) = (0, 0, 0);
    for _ in 0..60 {
        let mut budgets = Budgets::new();
        (0..120).for_each(|_| budgets.step(&mut dice));
        budgets.end();
        fine += budgets.fine;
        refused += budgets.refused;
        deleted += budgets.deleted;
    }
    assert!(fine > 500 && refused > 500 && deleted > 100, "{fine} {refused} {deleted}");
}

/// All that a session made, in whatever domain, goes with the capability that it began with.
#[test]
fn deleting_a_session_takes_all_of_it() {
    let mut world = World::new(SimConfig { logical_qubits: 30, ..ample() });
    let me = world.tenant(Quota::UNLIMITED);
    let budget = Budget { strands: 9, qubits: 30, magic: 1000 };
    let before = world.usage(me.id);
    let derive =
        Syscall::Derive { source: me.machine, rights: Rights::all(), badge: 0, into: None, budget: Some(budget) };
    let root = Tenant { machine: world.handle(me.id, derive), ..me };
    let place = region(&mut world, root, 6, 3, 5);
    let share = context(&mut world, root, 2, 100, 10);
    let control = world.handle(me.id, Syscall::CreateDomain { machine: root.machine, quota: Quota::UNLIMITED });
    let id = world.kernel.domain_of(me.id, control).expect("it was just made");
    let machine = world.derive_from(me.id, root.machine, Rights::all(), Some(control));
    let child = Tenant { id, machine, control };
    for t in [root, child] {
        world.run(t, &parallel(3, 50), run(1));
        let (a, b) = (world.take(t), world.take(t));
        world.apply(t, h(0), &[a]);
        world.apply(t, Op::T(0), &[b]);
        world.handle(t.id, Syscall::Checkpoint { machine: t.machine, strand: None });
    }
    world.run(root, &parallel(3, 50), Run { region: Some(place), context: Some(share), ..run(1) });
    world.advance(4);
    let nested = Syscall::Derive { source: machine, rights: Rights::all(), badge: 0, into: None, budget: Some(budget) };
    let deep = Tenant { machine: world.handle(id, nested), ..child };
    world.take(deep);
    world.delete(me.id, root.machine);
    let after = world.usage(me.id);
    let spent = (after.magic, after.total_magic, after.epochs);
    let (magic, total_magic, epochs) = spent;
    assert_eq!(after, qmk_kernel::abi::syscall::DomainUsage { magic, total_magic, epochs, ..before });
    assert!(total_magic > 0);
    assert_eq!(world.call(id, Syscall::Usage), Err(KernelError::NoCapability));
    assert_eq!((shared(&mut world, me), world.kept()), (30, [0, 0]));
}

//! Random system calls of the root and three tenants, with handles of their own, of others, and long dead, against a model.

mod common;

use common::checked::{Checked, small};
use common::dice::Dice;
use common::images::{admissible, any_image, valid_image};
use common::model::{Count, Model, Verdict};
use common::runner;
use proptest::prelude::*;
use qmk_kernel::abi::image::{Clifford1, Clifford2, Image, Instr, Op, Pauli};
use qmk_kernel::abi::syscall::{Budget, Code, ObjectKind, Patch, Quota, Run, StrandState};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::{Clock, DomainId, Limits, admit};
use qmk_sim::SimConfig;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Qubits of the machine.
const QUBITS: u32 = 16;

/// What a step of a script does. Which handles and numbers it takes, the seed and what is there tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Advance,
    CreateDomain,
    CreateContext,
    CreateRegion,
    Derive,
    Revoke,
    Delete,
    Inspect,
    Admit,
    Spawn,
    Status,
    Outcomes,
    Pause,
    Migrate,
    Rollback,
    Checkpoint,
    CheckpointStatus,
    Restore,
    TakeQubit,
    FreeQubit,
    Apply,
    Offer,
    Accept,
    Teleport,
    Swap,
    Close,
    ChannelStatus,
    Usage,
}

const WEIGHTS: [(u32, What); 28] = [
    (16, What::Advance),
    (1, What::CreateDomain),
    (2, What::CreateContext),
    (3, What::CreateRegion),
    (12, What::Derive),
    (1, What::Revoke),
    (2, What::Delete),
    (1, What::Inspect),
    (10, What::Admit),
    (16, What::Spawn),
    (2, What::Status),
    (3, What::Outcomes),
    (6, What::Pause),
    (8, What::Migrate),
    (6, What::Rollback),
    (8, What::Checkpoint),
    (3, What::CheckpointStatus),
    (5, What::Restore),
    (12, What::TakeQubit),
    (3, What::FreeQubit),
    (14, What::Apply),
    (12, What::Offer),
    (20, What::Accept),
    (6, What::Teleport),
    (16, What::Swap),
    (1, What::Close),
    (2, What::ChannelStatus),
    (1, What::Usage),
];

#[derive(Clone, Copy, Debug)]
struct Step {
    who: usize,
    what: What,
    seed: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let what = proptest::strategy::Union::new_weighted(WEIGHTS.map(|(w, what)| (w, Just(what))).to_vec());
    (0..4usize, what, any::<u64>()).prop_map(|(who, what, seed)| Step { who, what, seed })
}

const LARGE: Quota = Quota { qubits: 8, strands: 8, instructions: 1000, slots: 1000, active: 24, ..Quota::UNLIMITED };
const SMALL: Quota = Quota {
    qubits: 3,
    physical_qubits: 450,
    strands: 2,
    instructions: 60,
    slots: 9,
    channels: 1,
    checkpoints: 1,
    magic: 40,
    epochs: 25,
    window: 30,
    weight: 2,
    ..LARGE
};

/// A world to boot.
#[derive(Clone, Debug)]
struct Setup {
    clock: Clock,
    /// Whether tenants may offer channels to each other.
    offers: bool,
    /// Patches decoded in an epoch.
    decoded: Option<u32>,
    images: Vec<Image>,
}

fn setup() -> impl Strategy<Value = Setup> {
    let clock = prop_oneof![Just(Clock::Lockstep), (1..5000u64).prop_map(|pace| Clock::FreeRunning { pace })];
    let image = prop_oneof![1 => any_image(), 5 => valid_image()];
    let decoded = prop_oneof![3 => Just(None), 1 => (8..QUBITS).prop_map(Some)];
    (clock, prop::bool::weighted(0.7), decoded, proptest::collection::vec(image, 5))
        .prop_map(|(clock, offers, decoded, images)| Setup { clock, offers, decoded, images })
}

struct World {
    model: Model,
    /// The root, and three tenants.
    domains: Vec<DomainId>,
    images: Vec<Image>,
}

/// One tenant may do everything, one has small quotas, one neither magic nor the right to pass anything on, and a budget.
fn boot(setup: &Setup) -> World {
    let config = SimConfig { decoded_per_epoch: setup.decoded, ..small(QUBITS) };
    let (mut model, root, machine) = Model::boot_on(Checked::with(config), LARGE);
    model.kernel.set_clock(setup.clock);
    let mut domains = vec![root];
    let mut controls = Vec::new();
    let plain = Rights::all() - Rights::ADMIN;
    for (quota, rights) in [(LARGE, Rights::all()), (SMALL, plain), (LARGE, plain - Rights::MAGIC - Rights::GRANT)] {
        let control = model.call(root, Syscall::CreateDomain { machine, quota }).expect("root may");
        domains.push(model.kernel.domain_of(root, control).expect("it was just made"));
        controls.push(control);
        let budget = (domains.len() == 4).then_some(Budget { strands: 3, qubits: 6, magic: 0 });
        let derive = Syscall::Derive { source: machine, rights, badge: 7, into: Some(control), budget };
        model.call(root, derive).expect("root may");
    }
    // Tenants hold a qubit of the root, which must not meet their own.
    let qubit = model.call(root, Syscall::TakeQubit { machine }).expect("root may");
    for control in controls.iter().copied() {
        give(&mut model, root, qubit, Rights::OBJECT, control);
    }
    for (from, &into) in controls.iter().enumerate().filter(|_| setup.offers) {
        for (_, &to) in controls.iter().enumerate().filter(|(to, _)| *to != from) {
            give(&mut model, root, to, Rights::OFFER, into);
        }
    }
    // Channels take qubits, and strands that move a region.
    for &d in domains.iter().skip(1).filter(|_| setup.offers) {
        let machine = model.held(d)[0];
        (0..2).for_each(|_| _ = model.call(d, Syscall::TakeQubit { machine }));
    }
    let region = Syscall::CreateRegion { machine, qubits: 4, routes: 1, magic: 1 };
    let region = model.call(root, region).expect("root may");
    give(&mut model, root, region, Rights::USE, controls[0]);
    World { model, domains, images: setup.images.clone() }
}

fn give(model: &mut Model, root: DomainId, source: Handle, rights: Rights, into: Handle) -> Handle {
    let derive = Syscall::Derive { source, rights, badge: 7, into: Some(into), budget: None };
    model.call(root, derive).expect("root may")
}

const NOTHING: Handle = Handle { slot: 0, generation: 0 };

impl World {
    /// A handle, mostly one that the caller holds for an object of this kind.
    fn handle(&self, me: DomainId, dice: &mut Dice, kind: ObjectKind) -> Handle {
        let model = &self.model;
        let any = |list: Vec<Handle>, dice: &mut Dice| if list.is_empty() { NOTHING } else { dice.pick(&list) };
        match dice.below(24) {
            0 => any(model.held(me), dice),
            1 => any(self.domains.iter().filter(|d| **d != me).flat_map(|d| model.held(*d)).collect(), dice),
            2 => any(model.freed(), dice),
            3 => Handle { slot: dice.below(20) as u32, generation: dice.below(4) as u32 },
            n => {
                let all = model.kernel.capabilities(me).into_iter().filter(|(_, k, _)| *k == kind).map(|(h, ..)| h);
                let all: Vec<Handle> = all.collect();
                // Mostly the domain's first machine: it has the most rights.
                if kind == ObjectKind::Machine && n > 8 && !all.is_empty() { all[0] } else { any(all, dice) }
            }
        }
    }

    fn draw(&mut self, me: DomainId, what: What, dice: &mut Dice) -> Syscall {
        use ObjectKind as K;
        let machine = self.handle(me, dice, K::Machine);
        let strand = self.handle(me, dice, K::Strand);
        let qubit = self.handle(me, dice, K::Qubit);
        let endpoint = self.handle(me, dice, K::Endpoint);
        let checkpoint = self.handle(me, dice, K::Checkpoint);
        let maybe = |world: &Self, dice: &mut Dice, kind| dice.one_in(2).then(|| world.handle(me, dice, kind));
        let number = |dice: &mut Dice, n| dice.below(n) as u32;
        let held = self.model.held(me);
        let own = |dice: &mut Dice| match dice.below(8) {
            1 | 2 => strand,
            // What a domain has been given is seldom lost, or little happens.
            0 | 1.. if held.is_empty() => machine,
            0 => dice.pick(&held),
            _ => held[held.len() - 1 - dice.below(held.len().div_ceil(2))],
        };
        match what {
            What::Advance => unreachable!("not a call"),
            What::CreateDomain => Syscall::CreateDomain { machine, quota: dice.pick(&[LARGE, SMALL]) },
            What::CreateContext => {
                let (weight, window) = (1 + number(dice, 3), number(dice, 40) as u64);
                let epochs = if window == 0 { u64::MAX } else { 1 + number(dice, 40) as u64 };
                Syscall::CreateContext { machine, weight, epochs, window }
            }
            What::CreateRegion => Syscall::CreateRegion {
                machine,
                qubits: number(dice, 6),
                routes: number(dice, 3),
                magic: number(dice, 3),
            },
            What::Derive => {
                let kinds = [K::Machine, K::Machine, K::Domain, K::Image, K::Strand, K::Qubit, K::Context];
                let kinds = [&kinds[..], &[K::Region, K::Region, K::Endpoint, K::Checkpoint]].concat();
                let kind = dice.pick(&kinds);
                let source = self.handle(me, dice, kind);
                // Half of the time exactly what is held and half of the time a random subset of it, sometimes more.
                let held = match self.model.kernel.syscall(me, Syscall::Inspect { target: source }) {
                    Ok(Reply::Capability { rights, .. }) => rights,
                    _ => Rights::all(),
                };
                let bits = dice.below(1 << 32) as u32;
                let rights = match dice.below(8) {
                    0..=3 => held,
                    4..=6 => held & Rights::from_bits_truncate(bits),
                    _ => Rights::from_bits_truncate(bits),
                };
                let wanted = kind == K::Machine && dice.one_in(2) || dice.one_in(20);
                let budget = wanted.then(|| Budget {
                    strands: number(dice, 4),
                    qubits: number(dice, 8),
                    magic: number(dice, 60) as u64,
                });
                let into = maybe(self, dice, K::Domain);
                Syscall::Derive { source, rights, badge: number(dice, 3) as u64, into, budget }
            }
            What::Revoke => Syscall::Revoke { target: own(dice) },
            What::Delete => Syscall::Delete { target: own(dice) },
            What::Inspect => Syscall::Inspect { target: own(dice) },
            What::Admit => Syscall::Admit { machine, image: dice.pick(&self.images) },
            What::Spawn => {
                let image = self.handle(me, dice, K::Image);
                // So many that no device takes them; those of a program without events cost it nothing to take.
                let endless = dice.one_in(20) && self.model.image(me, image).is_some_and(|i| i.events > 0);
                let shots = if endless { 1 << 40 } else { number(dice, 5) as u64 };
                let deadline = dice.one_in(3).then(|| match dice.below(4) {
                    0 => u64::MAX,
                    _ => number(dice, 150) as u64 * shots.max(1),
                });
                let codes = [Code::Surface, Code::BaconShor, Code::Shyps, Code::Floquet];
                let patch = Patch { code: dice.pick(&codes), distance: dice.pick(&[3, 3, 5, 8, 9]) };
                let run = Run {
                    shots,
                    seed: dice.below(1 << 20) as u64,
                    priority: dice.pick(&[0, 0, 1, -1]),
                    deadline,
                    context: maybe(self, dice, K::Context),
                    region: maybe(self, dice, K::Region),
                    patch: if dice.one_in(3) { patch } else { Patch::default() },
                    noise: Default::default(),
                };
                Syscall::Spawn { machine, image, run }
            }
            What::Status => Syscall::Status { strand },
            What::Outcomes => Syscall::Outcomes { strand, first: number(dice, 3) as u64, count: 3 },
            What::Pause => Syscall::Pause { strand, paused: !dice.one_in(3) },
            What::Migrate => Syscall::Migrate { strand, region: maybe(self, dice, K::Region) },
            What::Rollback => Syscall::Rollback { machine, strand: maybe(self, dice, K::Strand) },
            What::Checkpoint => Syscall::Checkpoint { machine, strand: maybe(self, dice, K::Strand) },
            What::CheckpointStatus => Syscall::CheckpointStatus { checkpoint },
            What::Restore => Syscall::Restore { checkpoint },
            What::TakeQubit => Syscall::TakeQubit { machine },
            What::FreeQubit => Syscall::FreeQubit { qubit, uncompute: dice.one_in(2).then_some(machine) },
            What::Apply => {
                let pauli = dice.pick(&[Pauli::X, Pauli::Y, Pauli::Z]);
                let ops = [
                    Op::Clifford1(Clifford1::H, 0),
                    Op::Clifford2(Clifford2::Cnot, 0, 1),
                    Op::Clifford2(Clifford2::Cnot, 1, 0),
                    Op::Clifford2(Clifford2::Cz, 0, 1),
                    Op::Pauli(pauli, 0),
                    Op::T(0),
                    Op::T(1),
                    Op::Reset(0),
                    Op::InjectT(0),
                    Op::TeleportCnot(0, 1),
                    Op::Rotate(pauli, 0, dice.pick(&[0.3, 0.3, f64::NAN])),
                    Op::Toffoli(0, 1, 2),
                    Op::Measure(pauli, 0, 5),
                    Op::MeasureBell(0, 1, 0, 0),
                    Op::MeasureAngle(0.4, 0, 0),
                    Op::Alloc(0),
                    Op::Free(0),
                    Op::Fence,
                ];
                let op = dice.pick(&ops);
                Syscall::Apply { machine, op, qubits: (0..3).map(|_| self.handle(me, dice, K::Qubit)).collect() }
            }
            What::Offer => {
                let fidelity = dice.pick(&[0.9, 0.9, 0.95, 0.96, 0.99, 1.0, 0.2, f64::NAN]);
                Syscall::Offer { machine, qubit, to: self.handle(me, dice, K::Domain), fidelity }
            }
            What::Accept => Syscall::Accept { machine, endpoint, qubit },
            What::Teleport => Syscall::Teleport { machine, endpoint, qubit },
            What::Swap => {
                let endpoints = [endpoint, self.handle(me, dice, K::Endpoint)];
                Syscall::SwapEntanglement { machine, endpoints }
            }
            What::Close => Syscall::CloseChannel { endpoint },
            What::ChannelStatus => Syscall::ChannelStatus { endpoint },
            What::Usage => Syscall::Usage,
        }
    }

    fn run(&mut self, step: Step) {
        let mut dice = Dice(step.seed);
        if step.what == What::Advance {
            for _ in 0..dice.below(12) {
                self.model.kernel.advance();
                self.model.check();
            }
            return;
        }
        let me = self.domains[step.who];
        // Chance hardly ever meets what is allowed, so mostly the first of a few calls that is.
        let chance = if step.what == What::Apply { 2 } else { 8 };
        let tries = if dice.one_in(chance) { 1 } else { 30 };
        let mut call = self.draw(me, step.what, &mut dice);
        for _ in 1..tries {
            if self.model.allows(me, &call) != Verdict::Never {
                break;
            }
            call = self.draw(me, step.what, &mut dice);
        }
        self.model.call(me, call);
        self.model.check();
    }

    /// Takes back all that strands may wait for, until all have ended.
    fn settle(&mut self) {
        let all = |model: &Model, d, kind| {
            let all = model.kernel.capabilities(d).into_iter();
            all.filter(|(_, k, _)| *k == kind).map(|(h, ..)| h).collect::<Vec<_>>()
        };
        for kind in [ObjectKind::Qubit, ObjectKind::Region] {
            for d in self.domains.clone() {
                for target in all(&self.model, d, kind) {
                    self.model.call(d, Syscall::Delete { target });
                }
            }
        }
        for d in self.domains.clone() {
            for strand in all(&self.model, d, ObjectKind::Strand) {
                self.model.call(d, Syscall::Pause { strand, paused: false });
            }
        }
        self.model.check();
        let epochs = (0..20_000).take_while(|_| self.model.kernel.advance().busy).count();
        assert!(epochs < 20_000, "a strand never ends");
        self.model.check();
    }
}

/// Kinds of call, and how often at least each of them must have succeeded.
const ENOUGH: [(&str, u64); 39] = [
    ("Accept", 100),
    ("Admit", 100),
    ("Apply", 100),
    ("ChannelStatus", 100),
    ("Checkpoint of qubits", 100),
    ("Checkpoint of strand", 100),
    ("CheckpointStatus", 100),
    ("CloseChannel", 100),
    ("CreateContext", 100),
    ("CreateDomain", 100),
    ("CreateRegion", 100),
    ("Delete", 100),
    ("Derive", 100),
    ("Derive into another", 100),
    ("Derive with budget", 100),
    ("FreeQubit", 100),
    ("FreeQubit with uncomputation", 100),
    ("Inspect", 100),
    ("Migrate to region", 100),
    ("Migrate to shared", 100),
    ("Offer", 100),
    ("Outcomes", 100),
    ("Pause", 100),
    ("Pause not", 100),
    ("Restore", 100),
    ("Revoke", 100),
    ("Rollback of qubits", 100),
    ("Rollback of strand", 100),
    ("Spawn", 100),
    ("Spawn in context", 100),
    ("Spawn in region", 100),
    ("Spawn on patches", 100),
    ("Spawn with deadline", 100),
    ("Spawn with priority", 100),
    ("Status", 100),
    ("SwapEntanglement", 40),
    ("TakeQubit", 100),
    ("Teleport", 100),
    ("Usage", 100),
];

#[test]
fn random_calls_of_three_domains_keep_every_promise() {
    let strategy = (setup(), proptest::collection::vec(step(), 1..260));
    let counts = RefCell::new(BTreeMap::<&'static str, Count>::new());
    let transitions = RefCell::new(0u64);
    runner(900)
        .run(&strategy, |(setup, steps)| {
            let mut world = boot(&setup);
            world.model.check();
            steps.iter().for_each(|step| world.run(*step));
            world.model.check_stale();
            *transitions.borrow_mut() += world.model.transitions;
            for (name, n) in &world.model.counts {
                let all = &mut *counts.borrow_mut();
                let count = all.entry(name).or_default();
                count.successes += n.successes;
                count.refusals += n.refusals;
            }
            // Strands end, and nothing is left once the root takes everything back.
            world.settle();
            let World { mut model, domains, .. } = world;
            for target in model.held(domains[0]) {
                model.call(domains[0], Syscall::Delete { target });
                model.check();
            }
            model.check_stale();
            prop_assert_eq!(model.kernel.free_qubits(), QUBITS);
            prop_assert_eq!(model.kernel.device().kept(), [0, 0]);
            Ok(())
        })
        .unwrap();
    let (counts, transitions) = (counts.into_inner(), transitions.into_inner());
    for (name, Count { successes, refusals }) in &counts {
        println!("{name:30} {successes:7} succeeded {refusals:7} refused");
    }
    println!("{transitions} transitions");
    // A search that never gets anywhere proves nothing.
    assert!(transitions >= 100_000, "{transitions}");
    for (name, enough) in ENOUGH {
        let Count { successes, refusals } = counts.get(name).copied().unwrap_or_default();
        assert!(successes >= enough && (refusals > 0 || name == "Usage"), "{name}: {successes} {refusals}");
    }
}

#[test]
fn the_same_calls_give_the_same_replies() {
    let strategy = (setup(), proptest::collection::vec(step(), 1..120));
    runner(60)
        .run(&strategy, |(setup, steps)| {
            let digest = || {
                let mut world = boot(&setup);
                steps.iter().for_each(|step| world.run(*step));
                format!("{:?}", world.model.kernel)
            };
            prop_assert_eq!(digest(), digest());
            Ok(())
        })
        .unwrap();
}

#[test]
fn admission_agrees_with_the_slow_judge() {
    runner(50_000)
        .run(&(prop_oneof![any_image(), valid_image()], any::<u32>()), |(image, bits)| {
            let held = if bits % 4 == 0 { Rights::from_bits_truncate(bits) } else { Rights::all() };
            prop_assert_eq!(admit(image.clone(), held, Limits::default()).is_ok(), admissible(&image, held));
            Ok(())
        })
        .unwrap();
}

/// One domain with everything, for the cases below.
fn alone() -> (Model, DomainId, Handle) {
    Model::boot(8, Quota { slots: 300_000, ..LARGE })
}

fn shots(shots: u64, seed: u64) -> Run {
    Run { shots, seed, ..Run::default() }
}

fn measured() -> Image {
    let code = [Op::Alloc(0), Op::Measure(Pauli::X, 0, 0), Op::Free(0)].map(|op| Instr { op, cond: None });
    Image { qubits: 1, events: 1, code: code.into(), terms: Vec::new() }
}

#[test]
fn a_strand_taken_back_while_it_runs_gives_back_its_qubits() {
    let (mut model, root, machine) = alone();
    let image = model.call(root, Syscall::Admit { machine, image: measured() }).unwrap();
    let spawn = Syscall::Spawn { machine, image, run: shots(10_000_000, 1) };
    let strand = model.call(root, spawn).unwrap();
    // The image may go first: the strand keeps what it runs.
    model.call(root, Syscall::Delete { target: image });
    model.kernel.advance();
    assert_eq!(model.kernel.free_qubits(), 7);
    model.check();
    model.call(root, Syscall::Delete { target: strand });
    assert_eq!(model.kernel.free_qubits(), 8);
    assert_eq!(model.kernel.device().kept(), [0, 0]);
    assert!(!model.kernel.advance().busy);
    model.check();
}

/// More capabilities than one step takes: each step is bounded, and takes nothing but what derives from the target.
#[test]
fn large_subtrees_go_in_bounded_steps() {
    let (mut model, root, machine) = alone();
    let handle = |reply| match reply {
        Ok(Reply::Handle(h)) => h,
        other => panic!("{other:?}"),
    };
    let kernel = &mut model.kernel;
    let quota = Quota { slots: 10_000, ..LARGE };
    let derive = |source, rights, into| Syscall::Derive { source, rights, badge: 0, into, budget: None };
    let tenants: Vec<(Handle, DomainId, Handle)> = (0..2)
        .map(|_| {
            let control = handle(kernel.syscall(root, Syscall::CreateDomain { machine, quota }));
            let d = kernel.domain_of(root, control).unwrap();
            (control, d, handle(kernel.syscall(root, derive(machine, Rights::all(), Some(control)))))
        })
        .collect();
    let [(control, tenant, given), (_, other, theirs)] = tenants[..] else { unreachable!() };
    // What the other tenant has stays as it is throughout.
    let kept = handle(kernel.syscall(other, derive(theirs, Rights::READ, None)));
    let untouched = |kernel: &qmk_kernel::Kernel<Checked>| {
        let root = kernel.capabilities(root).into_iter().filter(|(h, ..)| *h != control).collect::<Vec<_>>();
        (root, kernel.capabilities(other))
    };
    // A tree of chains and fans, with a running strand and a qubit in it.
    let grow = |kernel: &mut qmk_kernel::Kernel<Checked>, n: usize| {
        let mut sources = vec![given];
        let mut dice = Dice(n as u64);
        for i in 0..n {
            let at = if i % 3 == 0 { sources.len() - 1 } else { dice.below(sources.len()) };
            sources.push(handle(kernel.syscall(tenant, derive(sources[at], Rights::all(), None))));
        }
        let machine = sources[n / 2];
        let image = handle(kernel.syscall(tenant, Syscall::Admit { machine, image: measured() }));
        let spawn = Syscall::Spawn { machine, image, run: shots(10_000_000, 1) };
        handle(kernel.syscall(tenant, spawn));
        handle(kernel.syscall(tenant, Syscall::TakeQubit { machine }));
        kernel.advance();
        assert_eq!(kernel.free_qubits(), 6);
        n + 3
    };
    for call in [Syscall::Revoke { target: given }, Syscall::Delete { target: given }] {
        let size = grow(kernel, 3000) as u32;
        let before = untouched(kernel);
        let itself = matches!(call, Syscall::Delete { .. });
        let all = size + itself as u32;
        let (mut left, mut steps) = (all, 0);
        loop {
            let held = kernel.capabilities(tenant).len() as u32;
            // Each of the two derivations in between has helped by two.
            let helped = left + !itself as u32 - held;
            assert!(helped <= 4, "{call:?}");
            left -= helped;
            let Ok(Reply::Deleted { count, more }) = kernel.syscall(tenant, call.clone()) else { panic!("{call:?}") };
            assert!(count <= 1024 && (count == 1024 || !more), "{call:?} {count} {more}");
            (left, steps) = (left - count, steps + 1);
            assert_eq!(untouched(kernel), before);
            assert_eq!(more, left > 0);
            let Ok(Reply::Usage { used, .. }) = kernel.syscall(tenant, Syscall::Usage) else { panic!() };
            assert_eq!(used.slots, left + !itself as u32);
            assert_eq!(used.qubits + kernel.free_qubits(), 8);
            if !more {
                break;
            }
            // In between, another domain goes on, and so does the machine; what grows in the subtree goes too.
            let derived = handle(kernel.syscall(other, derive(kept, Rights::READ, None)));
            assert_eq!(
                kernel.syscall(other, Syscall::Delete { target: derived }),
                Ok(Reply::Deleted { count: 1, more: false })
            );
            let late = kernel.syscall(tenant, derive(given, Rights::READ, None));
            left += late.is_ok() as u32;
            kernel.advance();
        }
        assert_eq!(steps, 3, "{call:?}");
        assert_eq!(kernel.free_qubits(), 8);
        assert_eq!(kernel.device().kept(), [0, 0]);
    }
    // A domain with a full space goes in steps as well, and what it held derives from what others keep.
    let machine_again = handle(kernel.syscall(root, derive(machine, Rights::all(), Some(control))));
    for _ in 0..3000 {
        handle(kernel.syscall(tenant, derive(machine_again, Rights::READ, None)));
    }
    let before = untouched(kernel);
    let first = kernel.syscall(root, Syscall::Delete { target: control });
    assert_eq!(first, Ok(Reply::Deleted { count: 1024, more: true }));
    assert_eq!(kernel.syscall(tenant, Syscall::Usage), Err(KernelError::NoCapability));
    assert_eq!(kernel.capabilities(tenant), []);
    // The domain's capability is gone, so that the epochs do the rest.
    (0..3).for_each(|_| _ = kernel.advance());
    assert_eq!(untouched(kernel), before);
    let gone = kernel.syscall(root, Syscall::Revoke { target: machine });
    assert_eq!(gone, Ok(Reply::Deleted { count: 3, more: false }));
}

/// A holder moves what it has to the end of the line between any two steps, with more in front of it than a step takes.
#[test]
fn a_revocation_ends_against_one_who_keeps_deriving() {
    let (mut model, root, machine) = alone();
    let kernel = &mut model.kernel;
    let derive = |kernel: &mut qmk_kernel::Kernel<Checked>, d, source, into| match kernel
        .syscall(d, Syscall::Derive { source, rights: Rights::all(), badge: 0, into, budget: None })
    {
        Ok(Reply::Handle(h)) => Some(h),
        _ => None,
    };
    let quota = Quota { slots: 10_000, ..LARGE };
    let Ok(Reply::Handle(control)) = kernel.syscall(root, Syscall::CreateDomain { machine, quota }) else { panic!() };
    let tenant = kernel.domain_of(root, control).unwrap();
    let target = derive(kernel, root, machine, None).unwrap();
    let mut next = derive(kernel, root, target, Some(control));
    for _ in 0..100 {
        if let Some(from) = next {
            next = derive(kernel, tenant, from, None);
            (0..1100).for_each(|_| _ = derive(kernel, tenant, from, None));
        }
        if matches!(kernel.syscall(root, Syscall::Revoke { target }), Ok(Reply::Deleted { more: false, .. })) {
            assert_eq!(kernel.capabilities(tenant), []);
            return;
        }
    }
    panic!("the revocation does not end");
}

/// A domain whose last qubit is freed loses its space; the next one must not draw the same outcomes again.
#[test]
fn a_new_space_draws_new_outcomes() {
    let (mut model, root, machine) = alone();
    let mut ones = 0;
    for _ in 0..64 {
        let qubit = model.call(root, Syscall::TakeQubit { machine }).unwrap();
        let apply = Syscall::Apply { machine, op: Op::Measure(Pauli::X, 0, 0), qubits: vec![qubit] };
        let Ok(Reply::Applied { outcomes, .. }) = model.reply(root, apply) else { panic!() };
        ones += outcomes[0] as u32;
        model.call(root, Syscall::FreeQubit { qubit, uncompute: None });
    }
    // Fair coins leave this range once in 10^7 times.
    assert!((11..=53).contains(&ones), "{ones} of 64");
}

#[test]
fn outcomes_are_the_strands_own() {
    let (mut model, root, machine) = alone();
    let image = model.call(root, Syscall::Admit { machine, image: measured() }).unwrap();
    let spawn = |seed| Syscall::Spawn { machine, image, run: shots(64, seed) };
    let strands: Vec<Handle> = (0..4).map(|s| model.call(root, spawn(s % 2)).unwrap()).collect();
    while model.kernel.advance().busy {}
    let outcomes: Vec<_> = strands
        .iter()
        .map(|&strand| match model.kernel.syscall(root, Syscall::Outcomes { strand, first: 0, count: 64 }) {
            Ok(Reply::Outcomes(bytes)) => bytes,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((&outcomes[0], &outcomes[1]), (&outcomes[2], &outcomes[3]));
    assert_ne!(outcomes[0], outcomes[1]);
    let Ok(Reply::Status(s)) = model.kernel.syscall(root, Syscall::Status { strand: strands[0] }) else { panic!() };
    assert_eq!((s.state, s.shots_done), (StrandState::Done, 64));
}

#[test]
fn an_epoch_grants_the_same_work_to_many_strands_as_to_one() {
    let granted = |jobs: &[usize], epochs: u64| {
        let quota = Quota { qubits: 100, strands: 100, ..LARGE };
        let (mut kernel, root, machine) = qmk_kernel::Kernel::boot(Checked::new(100), 1, quota);
        let handle = |reply| match reply {
            Ok(Reply::Handle(h)) => h,
            other => panic!("{other:?}"),
        };
        for (tenant_number, &n) in jobs.iter().enumerate() {
            let control = handle(kernel.syscall(root, Syscall::CreateDomain { machine, quota }));
            let rights = Rights::all() - Rights::ADMIN;
            let derive = Syscall::Derive { source: machine, rights, badge: 0, into: Some(control), budget: None };
            let (machine, tenant) = (handle(kernel.syscall(root, derive)), kernel.domain_of(root, control).unwrap());
            // The number of events tells whose a space is.
            let image = Image { events: 1 + tenant_number as u32, ..measured() };
            let image = handle(kernel.syscall(tenant, Syscall::Admit { machine, image }));
            for seed in 0..n as u64 {
                let spawn = Syscall::Spawn { machine, image, run: shots(1 << 27, seed) };
                handle(kernel.syscall(tenant, spawn));
            }
        }
        while kernel.device().granted().len() < jobs.iter().sum() {
            kernel.advance();
        }
        let before = kernel.device().granted();
        (0..epochs).for_each(|_| _ = kernel.advance());
        let after = kernel.device().granted();
        after.iter().zip(before).map(|(a, b)| (a.0 - b.0, a.1)).collect::<Vec<(u64, u32)>>()
    };
    let sum = |s: &[u64]| s.iter().sum::<u64>();
    let alone = granted(&[1], 64)[0].0;
    let many = granted(&[1, 20, 3], 64);
    // Tenants have equal parts, and so have the strands of one.
    let tenants = [1, 2, 3].map(|t| many.iter().filter(|g| g.1 == t).map(|g| g.0).collect::<Vec<u64>>());
    let parts = tenants.each_ref().map(|t| sum(t));
    // But for the last steps, which may be long ones.
    assert!(sum(&parts).abs_diff(alone) <= alone / 10, "{parts:?} of {alone}");
    assert!(parts.iter().all(|p| p * 3 >= alone / 100 * 90), "{parts:?} of {alone}");
    let spread = |s: &[u64]| s.iter().max().unwrap() - s.iter().min().unwrap();
    assert!(spread(&tenants[1]) <= alone / 32 && spread(&tenants[2]) <= alone / 32, "{many:?}");
}

#[test]
fn an_empty_program_ends() {
    let (mut model, root, machine) = alone();
    let image = Image { events: 3, ..Image::default() };
    let image = model.call(root, Syscall::Admit { machine, image }).unwrap();
    let strand = model.call(root, Syscall::Spawn { machine, image, run: shots(5, 1) }).unwrap();
    assert!(!model.kernel.advance().busy);
    let outcomes = model.kernel.syscall(root, Syscall::Outcomes { strand, first: 0, count: 9 });
    assert_eq!(outcomes, Ok(Reply::Outcomes(vec![0; 5])));
}

#[test]
fn epochs_are_short_while_a_program_is_issued() {
    let (mut model, root, machine) = alone();
    let mut spawn = |image, n| {
        let image = model.call(root, Syscall::Admit { machine, image }).unwrap();
        model.call(root, Syscall::Spawn { machine, image, run: shots(n, 1) }).unwrap();
        model.kernel.advance();
        let before = model.kernel.device().granted()[0].0;
        model.kernel.advance();
        model.kernel.device().granted()[0].0 - before
    };
    let mut deep = measured();
    let op = Op::Clifford1(Clifford1::H, 0);
    deep.code.splice(1..1, [Instr { op, cond: None }; 500]);
    let alone = spawn(measured(), 1 << 27);
    let beside = spawn(deep, 1);
    assert!(beside > 0 && beside * 8 <= alone, "{beside} of {alone}");
}

/// The model is no rubber stamp: calls behind its back show.
#[test]
fn a_kernel_that_strays_from_the_model_is_caught() {
    let caught = |stray: fn(&mut Model, DomainId, Handle)| {
        let quiet = std::panic::catch_unwind(move || {
            let (mut model, root, machine) = alone();
            stray(&mut model, root, machine);
            model.check();
        });
        quiet.is_err()
    };
    assert!(!caught(|_, _, _| {}));
    assert!(caught(|m, d, machine| _ = m.kernel.syscall(d, Syscall::TakeQubit { machine })));
    assert!(caught(|m, d, machine| {
        let derive = Syscall::Derive { source: machine, rights: Rights::READ, badge: 0, into: None, budget: None };
        _ = m.kernel.syscall(d, derive);
    }));
    assert!(caught(|m, d, machine| {
        let taken = m.call(d, Syscall::TakeQubit { machine }).unwrap();
        _ = m.kernel.syscall(d, Syscall::Delete { target: taken });
    }));
}

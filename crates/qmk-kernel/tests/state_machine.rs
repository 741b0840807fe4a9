//! Random system calls of the root and three tenants, with their own, foreign and stale handles, against a model.

mod common;

use common::{Checked, Model, checked, small};
use proptest::prelude::*;
use qmk_kernel::abi::image::{Clifford1, Image, Instr, Op, Pauli};
use qmk_kernel::abi::syscall::{Quota, Run, StrandState};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::{DomainId, Limits, admit};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::Rng;
use qmk_testkit::judge::admissible;
use qmk_testkit::model::Count;
use qmk_testkit::strategies::{any_image, runner, valid_image};
use qmk_testkit::tenants::{LARGE, QUBITS, Setup, World, setup, step};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A world on a checked device.
fn boot(setup: &Setup) -> World<Checked> {
    let config = SimConfig { decoded_per_epoch: setup.decoded, ..small(QUBITS) };
    World::boot(Checked::over(SimDevice::new(config)), setup)
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
            let model = world.end();
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
    Model::boot_on(checked(8), Quota { slots: 300_000, ..LARGE })
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

type Kernel = qmk_kernel::Kernel<Checked>;

fn handle(kernel: &mut Kernel, d: DomainId, call: Syscall) -> Handle {
    match kernel.syscall(d, call) {
        Ok(Reply::Handle(h)) => h,
        other => panic!("{other:?}"),
    }
}

fn derive(source: Handle, rights: Rights, into: Option<Handle>) -> Syscall {
    Syscall::Derive { source, rights, badge: 0, into, budget: None }
}

/// A root with two tenants that have much room for capabilities.
struct Large {
    model: Model,
    root: DomainId,
    machine: Handle,
    /// The root's capability for the tenant's domain.
    control: Handle,
    tenant: DomainId,
    /// The tenant's machine capability.
    given: Handle,
    other: DomainId,
    theirs: Handle,
}

impl Large {
    fn new() -> Self {
        let (mut model, root, machine) = alone();
        let quota = Quota { slots: 10_000, ..LARGE };
        let mut add = || {
            let control = handle(&mut model.kernel, root, Syscall::CreateDomain { machine, quota });
            let d = model.kernel.domain_of(root, control).unwrap();
            (control, d, handle(&mut model.kernel, root, derive(machine, Rights::all(), Some(control))))
        };
        let ((control, tenant, given), (_, other, theirs)) = (add(), add());
        Large { model, root, machine, control, tenant, given, other, theirs }
    }

    /// All capabilities outside of the tenant's space and but for that to its domain.
    fn untouched(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let kernel = &self.model.kernel;
        let root = kernel.capabilities(self.root).into_iter().filter(|(h, ..)| *h != self.control);
        (root.collect::<Vec<_>>(), kernel.capabilities(self.other))
    }

    /// Derives a tree of chains and fans from the tenant's machine, with a running strand and a qubit in it. Returns
    /// how many capabilities it has.
    fn grow(&mut self, n: usize) -> u32 {
        let (tenant, mut sources) = (self.tenant, vec![self.given]);
        let kernel = &mut self.model.kernel;
        let mut dice = Rng::new(n as u64);
        for i in 0..n {
            let at = if i % 3 == 0 { sources.len() - 1 } else { dice.below(sources.len()) };
            sources.push(handle(kernel, tenant, derive(sources[at], Rights::all(), None)));
        }
        let machine = sources[n / 2];
        let image = handle(kernel, tenant, Syscall::Admit { machine, image: measured() });
        handle(kernel, tenant, Syscall::Spawn { machine, image, run: shots(10_000_000, 1) });
        handle(kernel, tenant, Syscall::TakeQubit { machine });
        kernel.advance();
        assert_eq!(kernel.free_qubits(), 6);
        n as u32 + 3
    }
}

/// More capabilities than one step takes: each step is bounded, and takes nothing but what derives from the target.
#[test]
fn large_subtrees_go_in_bounded_steps() {
    let mut large = Large::new();
    let (tenant, other, given, theirs) = (large.tenant, large.other, large.given, large.theirs);
    // What the other tenant has stays as it is throughout.
    let kept = handle(&mut large.model.kernel, other, derive(theirs, Rights::READ, None));
    for call in [Syscall::Revoke { target: given }, Syscall::Delete { target: given }] {
        let size = large.grow(3000);
        let before = large.untouched();
        let itself = matches!(call, Syscall::Delete { .. });
        let (mut left, mut steps) = (size + itself as u32, 0);
        loop {
            let kernel = &mut large.model.kernel;
            let held = kernel.capabilities(tenant).len() as u32;
            // Each of the two derivations in between has helped by two.
            let helped = left + !itself as u32 - held;
            assert!(helped <= 4, "{call:?}");
            left -= helped;
            let Ok(Reply::Deleted { count, more }) = kernel.syscall(tenant, call.clone()) else { panic!("{call:?}") };
            assert!(count <= 1024 && (count == 1024 || !more), "{call:?} {count} {more}");
            (left, steps) = (left - count, steps + 1);
            assert_eq!(more, left > 0);
            let Ok(Reply::Usage { used, .. }) = kernel.syscall(tenant, Syscall::Usage) else { panic!() };
            assert_eq!(used.slots, left + !itself as u32);
            assert_eq!(used.qubits + kernel.free_qubits(), 8);
            assert_eq!(large.untouched(), before);
            if !more {
                break;
            }
            // In between, another domain goes on, and so does the machine; what grows in the subtree goes too.
            let kernel = &mut large.model.kernel;
            let derived = handle(kernel, other, derive(kept, Rights::READ, None));
            assert_eq!(
                kernel.syscall(other, Syscall::Delete { target: derived }),
                Ok(Reply::Deleted { count: 1, more: false })
            );
            let late = kernel.syscall(tenant, derive(given, Rights::READ, None));
            left += late.is_ok() as u32;
            kernel.advance();
        }
        assert_eq!(steps, 3, "{call:?}");
        assert_eq!(large.model.kernel.free_qubits(), 8);
        assert_eq!(large.model.kernel.device().kept(), [0, 0]);
    }
}

/// A domain with a full space goes in steps as well, and what it held derives from what others keep.
#[test]
fn a_domain_with_a_full_space_goes_in_bounded_steps() {
    let mut large = Large::new();
    let (root, tenant, given, control) = (large.root, large.tenant, large.given, large.control);
    for _ in 0..3000 {
        handle(&mut large.model.kernel, tenant, derive(given, Rights::READ, None));
    }
    let before = large.untouched();
    let kernel = &mut large.model.kernel;
    let first = kernel.syscall(root, Syscall::Delete { target: control });
    assert_eq!(first, Ok(Reply::Deleted { count: 1024, more: true }));
    assert_eq!(kernel.syscall(tenant, Syscall::Usage), Err(KernelError::NoCapability));
    assert_eq!(kernel.capabilities(tenant), []);
    // The domain's capability is gone, so that the epochs do the rest.
    (0..3).for_each(|_| _ = kernel.advance());
    assert_eq!(large.untouched(), before);
    let gone = large.model.kernel.syscall(root, Syscall::Revoke { target: large.machine });
    assert_eq!(gone, Ok(Reply::Deleted { count: 2, more: false }));
}

/// A holder moves what it has to the end of the line between any two steps, with more in front of it than a step takes.
#[test]
fn a_revocation_ends_against_one_who_keeps_deriving() {
    let (mut model, root, machine) = alone();
    let kernel = &mut model.kernel;
    let derive = |kernel: &mut Kernel, d, source, into| match kernel.syscall(d, derive(source, Rights::all(), into)) {
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
        let (mut kernel, root, machine) = qmk_kernel::Kernel::boot(checked(100), 1, quota);
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

//! Random system calls of three domains and the root, with handles of their own, of others, and long dead, against a model.

mod common;

use common::checked::Checked;
use common::images::{admissible, any_image, op, valid_image};
use common::model::Model;
use common::runner;
use proptest::prelude::*;
use qmk_kernel::abi::image::{Image, Op};
use qmk_kernel::abi::syscall::{ObjectKind, Quota, StrandState};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::{DomainId, Limits, admit};
use std::collections::BTreeMap;

/// Which handle an action uses: the first or another that the caller holds, one that another domain holds, a freed one, or any number.
#[derive(Clone, Copy, Debug)]
enum Pick {
    First,
    Own(prop::sample::Index),
    OfKind(ObjectKind, prop::sample::Index),
    Foreign(prop::sample::Index),
    Freed(prop::sample::Index),
    Any(u32, u32),
}

#[derive(Clone, Debug)]
enum Action {
    CreateDomain(Pick, Quota),
    Derive(Pick, u32, u64, Option<Pick>),
    Revoke(Pick),
    Delete(Pick),
    Inspect(Pick),
    Admit(Pick, Image),
    Spawn(Pick, Pick, u64, u64),
    Status(Pick),
    Outcomes(Pick, u64),
    TakeQubit(Pick),
    Apply(Pick, Op, [Pick; 4]),
    Advance(u8),
}

fn pick() -> impl Strategy<Value = Pick> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        12 => index().prop_map(Pick::Own),
        2 => index().prop_map(Pick::Foreign),
        1 => index().prop_map(Pick::Freed),
        1 => (0..20u32, 0..4u32).prop_map(|(s, g)| Pick::Any(s, g)),
    ]
}

/// Mostly the domain's first capability: its machine.
fn machine() -> impl Strategy<Value = Pick> {
    prop_oneof![4 => Just(Pick::First), 1 => pick()]
}

/// Mostly one of the right kind.
fn of(kind: ObjectKind) -> impl Strategy<Value = Pick> {
    prop_oneof![4 => any::<prop::sample::Index>().prop_map(move |i| Pick::OfKind(kind, i)), 1 => pick()]
}

fn quota() -> impl Strategy<Value = Quota> {
    (0..5u32, 0..4u32, 0..30u32, 0..12u32).prop_map(|(qubits, strands, instructions, slots)| Quota {
        qubits,
        strands,
        instructions,
        slots,
        active: 16,
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        1 => (machine(), quota()).prop_map(|(m, q)| Action::CreateDomain(m, q)),
        6 => (pick(), any::<u32>(), 0..3u64, proptest::option::of(pick())).prop_map(|(s, r, b, i)| Action::Derive(s, r, b, i)),
        1 => pick().prop_map(Action::Revoke),
        2 => pick().prop_map(Action::Delete),
        1 => pick().prop_map(Action::Inspect),
        2 => (machine(), any_image()).prop_map(|(m, i)| Action::Admit(m, i)),
        3 => (machine(), valid_image()).prop_map(|(m, i)| Action::Admit(m, i)),
        5 => (machine(), of(ObjectKind::Image), 0..4u64, any::<u64>()).prop_map(|(m, i, n, s)| Action::Spawn(m, i, n, s)),
        1 => of(ObjectKind::Strand).prop_map(Action::Status),
        2 => (of(ObjectKind::Strand), 0..3u64).prop_map(|(s, f)| Action::Outcomes(s, f)),
        3 => machine().prop_map(Action::TakeQubit),
        6 => (machine(), op(), [(); 4].map(|()| of(ObjectKind::Qubit))).prop_map(|(m, o, q)| Action::Apply(m, o, q)),
        4 => (1..60u8).prop_map(Action::Advance),
    ]
}

const LARGE: Quota = Quota { qubits: 8, strands: 8, instructions: 1000, slots: 1000, active: 16 };
const SMALL: Quota = Quota { qubits: 3, strands: 2, instructions: 20, slots: 8, active: 16 };

/// A machine of eight qubits, the root, and three tenants: one may do everything, one has small quotas, one neither
/// magic nor the right to pass anything on.
fn boot() -> (Model, Vec<DomainId>) {
    let (mut model, root, machine) = Model::boot(8, LARGE);
    let mut domains = vec![root];
    let plain = Rights::all() - Rights::ADMIN;
    for (quota, rights) in [(LARGE, Rights::all()), (SMALL, plain), (LARGE, plain - Rights::MAGIC - Rights::GRANT)] {
        let control = model.call(root, Syscall::CreateDomain { machine, quota }).expect("root may");
        domains.push(model.kernel.domain_of(root, control).expect("it was just made"));
        model.call(root, Syscall::Derive { source: machine, rights, badge: 7, into: Some(control) }).expect("root may");
    }
    (model, domains)
}

fn choose(model: &Model, domains: &[DomainId], me: DomainId, pick: Pick) -> Handle {
    let nothing = Handle { slot: 0, generation: 0 };
    let from = |list: Vec<Handle>, i: prop::sample::Index| if list.is_empty() { nothing } else { *i.get(&list) };
    match pick {
        Pick::First => model.held(me).first().copied().unwrap_or(nothing),
        Pick::Own(i) => from(model.held(me), i),
        Pick::Foreign(i) => from(domains.iter().filter(|d| **d != me).flat_map(|d| model.held(*d)).collect(), i),
        Pick::Freed(i) => from(model.freed(), i),
        Pick::OfKind(kind, i) => {
            let all = model.kernel.capabilities(me);
            from(all.into_iter().filter(|(_, k, _)| *k == kind).map(|(h, ..)| h).collect(), i)
        }
        Pick::Any(slot, generation) => Handle { slot, generation },
    }
}

fn run(model: &mut Model, domains: &[DomainId], me: DomainId, action: &Action) {
    let h = |model: &Model, p: Pick| choose(model, domains, me, p);
    let call = match action {
        Action::Advance(n) => {
            for _ in 0..*n {
                model.kernel.advance();
            }
            return;
        }
        Action::CreateDomain(m, quota) => Syscall::CreateDomain { machine: h(model, *m), quota: *quota },
        Action::Derive(s, bits, badge, into) => {
            let source = h(model, *s);
            // Half of the time exactly what is held and half of the time a random subset of it, sometimes more.
            let held = match model.kernel.syscall(me, Syscall::Inspect { target: source }) {
                Ok(Reply::Capability { rights, .. }) => rights,
                _ => Rights::all(),
            };
            let rights = match bits % 8 {
                0..=3 => held,
                4..=6 => held & Rights::from_bits_truncate(bits >> 3),
                _ => Rights::from_bits_truncate(bits >> 3),
            };
            Syscall::Derive { source, rights, badge: *badge, into: into.map(|p| h(model, p)) }
        }
        Action::Revoke(t) => Syscall::Revoke { target: h(model, *t) },
        Action::Delete(t) => Syscall::Delete { target: h(model, *t) },
        Action::Inspect(t) => Syscall::Inspect { target: h(model, *t) },
        Action::Admit(m, image) => Syscall::Admit { machine: h(model, *m), image: image.clone() },
        Action::Spawn(m, i, shots, seed) => {
            Syscall::Spawn { machine: h(model, *m), image: h(model, *i), shots: *shots, seed: *seed, priority: 0 }
        }
        Action::Status(s) => Syscall::Status { strand: h(model, *s) },
        Action::Outcomes(s, first) => Syscall::Outcomes { strand: h(model, *s), first: *first, count: 3 },
        Action::TakeQubit(m) => Syscall::TakeQubit { machine: h(model, *m) },
        Action::Apply(m, op, qubits) => {
            Syscall::Apply { machine: h(model, *m), op: *op, qubits: qubits.iter().map(|q| h(model, *q)).collect() }
        }
    };
    model.call(me, call);
}

#[test]
fn random_calls_of_three_domains_keep_every_promise() {
    let strategy = proptest::collection::vec((0..4usize, action()), 1..120);
    let successes = std::cell::RefCell::new(BTreeMap::<String, u64>::new());
    runner(3000)
        .run(&strategy, |steps| {
            let (mut model, domains) = boot();
            for (who, action) in &steps {
                run(&mut model, &domains, domains[*who], action);
                model.check();
            }
            model.check_stale();
            // A strand may wait for qubits that its own domain holds.
            for &d in &domains {
                for (target, kind, _) in model.kernel.capabilities(d) {
                    if kind == ObjectKind::Qubit {
                        model.call(d, Syscall::Delete { target });
                    }
                }
            }
            // Strands end, and nothing is left once the root takes everything back.
            for _ in 0..5000 {
                if !model.kernel.advance().busy {
                    break;
                }
            }
            prop_assert!(!model.kernel.advance().busy, "a strand never ends");
            model.check();
            for target in model.held(domains[0]) {
                model.call(domains[0], Syscall::Delete { target });
                model.check();
            }
            model.check_stale();
            prop_assert_eq!(model.kernel.free_qubits(), 8);
            // The root's own space of interactive qubits stays open, though empty.
            prop_assert!(model.kernel.device().spaces() <= 1);
            for (name, n) in model.successes.values() {
                *successes.borrow_mut().entry(name.clone()).or_default() += n;
            }
            Ok(())
        })
        .unwrap();
    // A search that never gets anywhere proves nothing.
    let successes = successes.into_inner();
    assert_eq!(successes.len(), 11, "{successes:?}");
    assert!(successes.values().all(|&n| n >= 300), "{successes:?}");
}

#[test]
fn the_same_calls_give_the_same_replies() {
    let strategy = proptest::collection::vec((0..4usize, action()), 1..80);
    runner(100)
        .run(&strategy, |steps| {
            let digest = || {
                let (mut model, domains) = boot();
                for (who, action) in &steps {
                    run(&mut model, &domains, domains[*who], action);
                }
                format!("{:?}", model.kernel)
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
    Model::boot(8, Quota { slots: 200_000, ..LARGE })
}

fn measured() -> Image {
    use qmk_kernel::abi::image::{Instr, Pauli};
    let code = [Op::Alloc(0), Op::Measure(Pauli::X, 0, 0), Op::Free(0)].map(|op| Instr { op, cond: None });
    Image { qubits: 1, events: 1, code: code.into(), terms: Vec::new() }
}

#[test]
fn a_strand_taken_back_while_it_runs_gives_back_its_qubits() {
    let (mut model, root, machine) = alone();
    let image = model.call(root, Syscall::Admit { machine, image: measured() }).unwrap();
    let spawn = Syscall::Spawn { machine, image, shots: 10_000_000, seed: 1, priority: 0 };
    let strand = model.call(root, spawn).unwrap();
    // The image may go first: the strand keeps what it runs.
    model.call(root, Syscall::Delete { target: image });
    model.kernel.advance();
    assert_eq!(model.kernel.free_qubits(), 7);
    model.check();
    model.call(root, Syscall::Delete { target: strand });
    assert_eq!(model.kernel.free_qubits(), 8);
    assert_eq!(model.kernel.device().spaces(), 0);
    assert!(!model.kernel.advance().busy);
    model.check();
}

#[test]
fn a_long_chain_of_derivations_is_revoked_whole() {
    let (mut model, root, machine) = alone();
    let mut source = machine;
    for _ in 0..100_000 {
        let derive = Syscall::Derive { source, rights: Rights::READ, badge: 0, into: None };
        match model.kernel.syscall(root, derive) {
            Ok(Reply::Handle(h)) => source = h,
            other => panic!("{other:?}"),
        }
    }
    let revoked = model.kernel.syscall(root, Syscall::Revoke { target: machine });
    assert_eq!(revoked, Ok(Reply::Deleted(100_000)));
    assert_eq!(model.kernel.syscall(root, Syscall::Inspect { target: source }), Err(KernelError::NoCapability));
}

#[test]
fn outcomes_are_the_strands_own() {
    let (mut model, root, machine) = alone();
    let image = model.call(root, Syscall::Admit { machine, image: measured() }).unwrap();
    let spawn = |seed| Syscall::Spawn { machine, image, shots: 64, seed, priority: 0 };
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
        for &n in jobs {
            let control = handle(kernel.syscall(root, Syscall::CreateDomain { machine, quota }));
            let rights = Rights::all() - Rights::ADMIN;
            let derive = Syscall::Derive { source: machine, rights, badge: 0, into: Some(control) };
            let (machine, tenant) = (handle(kernel.syscall(root, derive)), kernel.domain_of(root, control).unwrap());
            let image = handle(kernel.syscall(tenant, Syscall::Admit { machine, image: measured() }));
            for seed in 0..n as u64 {
                let spawn = Syscall::Spawn { machine, image, shots: 1 << 27, seed, priority: 0 };
                handle(kernel.syscall(tenant, spawn));
            }
        }
        while kernel.device().granted().len() < jobs.iter().sum() {
            kernel.advance();
        }
        let before = kernel.device().granted();
        (0..epochs).for_each(|_| _ = kernel.advance());
        let after = kernel.device().granted();
        after.iter().zip(before).map(|(a, b)| a - b).collect::<Vec<u64>>()
    };
    let alone = granted(&[1], 8)[0];
    let many = granted(&[1, 20, 3], 8);
    assert_eq!(many.iter().sum::<u64>(), alone);
    // Tenants have equal parts, and so have the strands of one.
    let parts = [many[0], many[1..21].iter().sum(), many[21..].iter().sum()];
    assert!(parts.iter().all(|p| p * 3 >= alone / 100 * 90), "{parts:?} of {alone}");
    let spread = |s: &[u64]| s.iter().max().unwrap() - s.iter().min().unwrap();
    assert!(spread(&many[1..21]) <= alone / 32 && spread(&many[21..]) <= alone / 32, "{many:?}");
}

#[test]
fn an_empty_program_ends() {
    let (mut model, root, machine) = alone();
    let image = Image { events: 3, ..Image::default() };
    let image = model.call(root, Syscall::Admit { machine, image }).unwrap();
    let strand = model.call(root, Syscall::Spawn { machine, image, shots: 5, seed: 1, priority: 0 }).unwrap();
    assert!(!model.kernel.advance().busy);
    let outcomes = model.kernel.syscall(root, Syscall::Outcomes { strand, first: 0, count: 9 });
    assert_eq!(outcomes, Ok(Reply::Outcomes(vec![0; 5])));
}

#[test]
fn epochs_are_short_while_a_program_is_issued() {
    let (mut model, root, machine) = alone();
    let mut spawn = |image, shots| {
        let image = model.call(root, Syscall::Admit { machine, image }).unwrap();
        model.call(root, Syscall::Spawn { machine, image, shots, seed: 1, priority: 0 }).unwrap();
        model.kernel.advance();
        let before = model.kernel.device().granted()[0];
        model.kernel.advance();
        model.kernel.device().granted()[0] - before
    };
    let mut deep = measured();
    let op = Op::Clifford1(qmk_kernel::abi::image::Clifford1::H, 0);
    deep.code.splice(1..1, [qmk_kernel::abi::image::Instr { op, cond: None }; 500]);
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
        let derive = Syscall::Derive { source: machine, rights: Rights::READ, badge: 0, into: None };
        _ = m.kernel.syscall(d, derive);
    }));
    assert!(caught(|m, d, machine| {
        let taken = m.call(d, Syscall::TakeQubit { machine }).unwrap();
        _ = m.kernel.syscall(d, Syscall::Delete { target: taken });
    }));
}

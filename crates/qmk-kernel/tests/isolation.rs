//! One tenant's calls and their times do not show to another: the same calls of a tenant, alone and beside another
//! that does whatever it likes, get the same replies.
#![allow(clippy::print_stdout, reason = "shows how much was searched")]

mod common;

use common::{Checked, small};
use proptest::prelude::*;
use qmk_kernel::abi::image::{Clifford1, Clifford2, Image, Op, Pauli};
use qmk_kernel::abi::syscall::{ObjectKind, Quota, Run};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::{Clock, DomainId, Kernel};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::Rng;
use qmk_testkit::strategies::{runner, valid_image};
use std::cell::RefCell;
use std::collections::BTreeMap;

type Replies = Vec<Result<Reply, KernelError>>;

/// A step of the first tenant, of the second, or an epoch.
#[derive(Clone, Copy, Debug)]
enum Step {
    First(u64),
    Second(u64),
    Epoch,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => any::<u64>().prop_map(Step::First),
        5 => any::<u64>().prop_map(Step::Second),
        4 => Just(Step::Epoch),
    ]
}

/// Large enough that there are always qubits for those who take them one by one.
const QUBITS: u32 = 400;

struct World {
    kernel: Kernel<Checked>,
    tenants: [DomainId; 2],
    images: Vec<Image>,
}

fn handle(reply: Result<Reply, KernelError>) -> Handle {
    match reply {
        Ok(Reply::Handle(h)) => h,
        other => panic!("{other:?}"),
    }
}

/// Two tenants, of which each has a machine, and each a region and a context of its own.
fn boot(images: &[Image]) -> World {
    let config = SimConfig { magic_per_epoch: 4, routes_per_epoch: 4, ..small(QUBITS) };
    let (mut kernel, root, machine) = Kernel::boot(Checked::over(SimDevice::new(config)), 1, Quota::UNLIMITED);
    kernel.set_clock(Clock::Lockstep);
    let tenants = [(), ()].map(|()| {
        let quota = Quota { qubits: 40, strands: 12, active: 24, ..Quota::UNLIMITED };
        let control = handle(kernel.syscall(root, Syscall::CreateDomain { machine, quota }));
        let tenant = kernel.domain_of(root, control).expect("it was just made");
        let mut give = |source, rights| {
            let derive = Syscall::Derive { source, rights, badge: 0, into: Some(control), budget: None };
            handle(kernel.syscall(root, derive));
        };
        give(machine, Rights::all() - Rights::ADMIN);
        let region = Syscall::CreateRegion { machine, qubits: 10, routes: 1, magic: 1 };
        let region = handle(kernel.syscall(root, region));
        let context = Syscall::CreateContext { machine, weight: 2, epochs: 20, window: 25 };
        let context = handle(kernel.syscall(root, context));
        let mut give = |source, rights| {
            let derive = Syscall::Derive { source, rights, badge: 0, into: Some(control), budget: None };
            handle(kernel.syscall(root, derive));
        };
        give(region, Rights::USE);
        give(context, Rights::USE);
        tenant
    });
    World { kernel, tenants, images: images.to_vec() }
}

/// Where a tenant's strands run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own,
    Shared,
    Any,
}

const NOTHING: Handle = Handle { slot: 0, generation: 0 };

impl World {
    /// A call that depends on nothing but the seed and what the tenant holds.
    fn draw(&self, me: DomainId, seed: u64, place: Place) -> Syscall {
        let mut dice = Rng::new(seed);
        let held = self.kernel.capabilities(me);
        let of = |dice: &mut Rng, kind| {
            let all: Vec<Handle> = held.iter().filter(|(_, k, _)| *k == kind).map(|(h, ..)| *h).collect();
            if all.is_empty() || dice.one_in(20) { NOTHING } else { dice.pick(&all) }
        };
        let machine = held.first().map_or(NOTHING, |(h, ..)| *h);
        let (strand, qubit) = (of(&mut dice, ObjectKind::Strand), of(&mut dice, ObjectKind::Qubit));
        let checkpoint = of(&mut dice, ObjectKind::Checkpoint);
        let region = Some(of(&mut dice, ObjectKind::Region));
        let one_strand = dice.one_in(2).then_some(strand);
        // What can be done to strands of the shared region depends on how far they are.
        let kinds = if place == Place::Shared { 10 } else { 18 };
        match dice.below(kinds) {
            0 | 1 => Syscall::Admit { machine, image: dice.pick(&self.images) },
            2 | 3 => {
                let run = Run {
                    shots: 1 + dice.below(6) as u64,
                    seed: dice.below(1 << 30) as u64,
                    priority: dice.below(3) as i32,
                    deadline: (place != Place::Shared && dice.one_in(4)).then(|| dice.below(400) as u64),
                    context: dice.one_in(3).then(|| of(&mut dice, ObjectKind::Context)),
                    region: match place {
                        Place::Own => region,
                        Place::Shared => None,
                        Place::Any => region.filter(|_| dice.one_in(2)),
                    },
                    ..Run::default()
                };
                Syscall::Spawn { machine, image: of(&mut dice, ObjectKind::Image), run }
            }
            4 => Syscall::TakeQubit { machine },
            5..=7 => {
                let pauli = dice.pick(&[Pauli::X, Pauli::Y, Pauli::Z]);
                // Those without magic states: the stock of the shared region is everyone's.
                let ops = [
                    Op::Clifford1(Clifford1::H, 0),
                    Op::Clifford2(Clifford2::Cnot, 0, 1),
                    Op::Pauli(pauli, 0),
                    Op::Measure(pauli, 0, 0),
                    Op::Measure(pauli, 0, 0),
                    Op::MeasureBell(0, 1, 0, 1),
                    Op::Reset(0),
                ];
                let op = if place == Place::Any && dice.one_in(4) { Op::T(0) } else { dice.pick(&ops) };
                Syscall::Apply { machine, op, qubits: vec![qubit, of(&mut dice, ObjectKind::Qubit)] }
            }
            8 => Syscall::FreeQubit { qubit, uncompute: dice.one_in(2).then_some(machine) },
            9 => Syscall::Rollback { machine, strand: one_strand.filter(|_| place != Place::Shared) },
            10 | 11 => Syscall::Status { strand },
            12 => Syscall::Outcomes { strand, first: 0, count: 9 },
            13 => Syscall::Pause { strand, paused: dice.one_in(2) },
            14 => Syscall::Checkpoint { machine, strand: one_strand },
            15 => Syscall::Restore { checkpoint },
            16 => Syscall::Usage,
            _ if place == Place::Any && dice.one_in(3) => {
                Syscall::Migrate { strand, region: region.filter(|_| dice.one_in(2)) }
            }
            _ if dice.one_in(4) => Syscall::Delete { target: strand },
            _ => Syscall::CheckpointStatus { checkpoint },
        }
    }
}

/// Replies to the first tenant's calls, then the outcomes and, if asked, the times of its strands.
fn replies(images: &[Image], steps: &[Step], place: Place, both: bool) -> Replies {
    let mut world = boot(images);
    let [first, second] = world.tenants;
    let mut replies = Vec::new();
    for step in steps {
        match *step {
            Step::Epoch => (0..3).for_each(|_| _ = world.kernel.advance()),
            Step::First(seed) => {
                let call = world.draw(first, seed, place);
                replies.push(world.kernel.syscall(first, call));
            }
            Step::Second(seed) if both => {
                let call = world.draw(second, seed, Place::Any);
                _ = world.kernel.syscall(second, call);
            }
            Step::Second(_) => {}
        }
    }
    let strands: Vec<Handle> = {
        let all = world.kernel.capabilities(first).into_iter();
        all.filter(|(_, k, _)| *k == ObjectKind::Strand).map(|(h, ..)| h).collect()
    };
    for &strand in &strands {
        _ = world.kernel.syscall(first, Syscall::Pause { strand, paused: false });
    }
    // Those of the second tenant may be held for ever.
    for _ in 0..3000 {
        world.kernel.advance();
    }
    for &strand in &strands {
        replies.push(world.kernel.syscall(first, Syscall::Outcomes { strand, first: 0, count: 9 }));
        if place == Place::Own {
            replies.push(world.kernel.syscall(first, Syscall::Status { strand }));
        }
    }
    replies
}

fn same_alone_as_beside_another(place: Place, cases: u32) -> BTreeMap<&'static str, u64> {
    let counts = RefCell::new(BTreeMap::new());
    let images = proptest::collection::vec(valid_image(), 4);
    runner(cases)
        .run(&(images, proptest::collection::vec(step(), 10..120)), |(images, steps)| {
            let alone = replies(&images, &steps, place, false);
            let beside = replies(&images, &steps, place, true);
            for (at, (a, b)) in alone.iter().zip(&beside).enumerate() {
                prop_assert_eq!(a, b, "reply {} of {}", at, alone.len());
            }
            prop_assert_eq!(alone.len(), beside.len());
            for reply in alone {
                let name = match reply {
                    Ok(Reply::Handle(_)) => "made",
                    Ok(Reply::Applied { outcomes, .. }) if !outcomes.is_empty() => "measured",
                    Ok(Reply::Outcomes(_)) => "outcomes",
                    Ok(Reply::Status(_)) => "status",
                    Ok(Reply::RolledBack(_)) => "rolled back",
                    Ok(_) => "other",
                    Err(_) => "refused",
                };
                *counts.borrow_mut().entry(name).or_default() += 1;
            }
            Ok(())
        })
        .unwrap();
    println!("{place:?}: {:?}", counts.borrow());
    counts.into_inner()
}

/// In a region of its own, a tenant sees neither what others do nor when.
#[test]
fn a_tenant_in_its_own_region_sees_nothing_of_others() {
    let counts = same_alone_as_beside_another(Place::Own, 700);
    assert!(["made", "measured", "outcomes", "status", "rolled back"].iter().all(|n| counts[n] >= 200), "{counts:?}");
}

/// In the shared region, it may see when its strands run, but not in what they measure.
#[test]
fn what_a_tenant_measures_depends_on_no_one_else() {
    let counts = same_alone_as_beside_another(Place::Shared, 500);
    assert!(["made", "measured", "outcomes"].iter().all(|n| counts[n] >= 200), "{counts:?}");
}

//! Deadlines: accepted ones are met, refused ones change nothing, and they starve no one.

use crate::world::{AMPLE, Size, World, chain, image, keep_up, z};
use proptest::prelude::*;
use qmk_kernel::abi::image::{Clifford1, Clifford2, Image, Op, Pauli};
use qmk_kernel::abi::syscall::{Quota, Run, StrandState};
use qmk_kernel::abi::{Handle, KernelError, Syscall};
use qmk_testkit::strategies::runner;
use std::cell::Cell;

#[derive(Clone, Debug)]
enum Step {
    Load(usize),
    Deadline(usize, u64, u64),
    Cancel(usize),
    Interact,
    Region,
    Advance(u64),
}

fn program() -> impl Strategy<Value = Image> {
    let op = prop_oneof![
        Just(Op::T(0)),
        Just(Op::T(1)),
        Just(Op::Ccz(0, 1, 2)),
        Just(z(2)),
        Just(Op::Clifford1(Clifford1::H, 0)),
        Just(Op::Clifford2(Clifford2::Cnot, 1, 2)),
        Just(Op::Clifford2(Clifford2::Cz, 0, 2)),
        Just(Op::Fence),
    ];
    prop::collection::vec(op, 1..12).prop_map(|ops| {
        let measure = (0..3).map(|q| Op::Measure(Pauli::Z, q, q));
        image(3, ops.into_iter().chain(measure).collect::<Vec<_>>())
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0usize..4).prop_map(Step::Load),
        4 => (0usize..4, 0u64..300, 1u64..4).prop_map(|(i, d, s)| Step::Deadline(i, d, s)),
        1 => (0usize..8).prop_map(Step::Cancel),
        2 => Just(Step::Interact),
        1 => Just(Step::Region),
        3 => (1u64..30).prop_map(Step::Advance),
    ]
}

fn case() -> impl Strategy<Value = (u32, u32, u32, Vec<Image>, Vec<Step>)> {
    let images = prop::collection::vec(program(), 4);
    (12u32..30, 2u32..6, 1u32..5, images, prop::collection::vec(step(), 10..60))
}

#[test]
fn accepted_deadlines_are_met_whatever_else_happens() {
    let (accepted_in_all, refused_in_all) = (Cell::new(0), Cell::new(0));
    let check = |(qubits, routes, magic, images, steps): (u32, u32, u32, Vec<Image>, Vec<Step>)| {
        let mut w = World::new(Size { qubits, routes, magic, buffer: 40, decoded: qubits });
        let (load, timed) = (w.tenant(Quota::UNLIMITED), w.tenant(Quota::UNLIMITED));
        let images: Vec<[Handle; 2]> = images.iter().map(|i| [w.admit(load, i), w.admit(timed, i)]).collect();
        let (domain, machine) = w.tenants[load];
        let qubit = w.handle(domain, Syscall::TakeQubit { machine });
        let mut accepted: Vec<(Handle, u64, u64)> = Vec::new();
        for step in steps {
            match step {
                // It may be refused once regions have left too little.
                Step::Load(i) => _ = w.spawn(load, images[i][0], Run::default()),
                Step::Deadline(i, deadline, shots) => {
                    let run = Run { deadline: Some(deadline), shots, ..Run::default() };
                    match w.spawn(timed, images[i][1], run) {
                        Ok(strand) => {
                            accepted.push((strand, deadline, shots));
                            accepted_in_all.set(accepted_in_all.get() + 1);
                        }
                        Err(_) => refused_in_all.set(refused_in_all.get() + 1),
                    }
                }
                Step::Cancel(i) if i < accepted.len() => {
                    let (target, ..) = accepted.swap_remove(i);
                    w.kernel.syscall(w.tenants[timed].0, Syscall::Delete { target }).unwrap();
                }
                Step::Cancel(_) => {}
                Step::Interact => {
                    _ = w.kernel.syscall(domain, Syscall::Apply { machine, op: Op::T(0), qubits: vec![qubit] });
                }
                Step::Region => {
                    let region = Syscall::CreateRegion { machine: w.machine, qubits: 1, routes: 1, magic: 0 };
                    _ = w.kernel.syscall(w.root, region);
                }
                Step::Advance(epochs) => w.advance(epochs),
            }
        }
        w.advance(400);
        for (strand, deadline, shots) in accepted {
            let status = w.status(timed, strand);
            prop_assert_eq!(status.state, StrandState::Done);
            prop_assert!(status.epochs * shots <= deadline, "{} x {} of {}", status.epochs, shots, deadline);
        }
        Ok(())
    };
    runner(400).run(&case(), check).unwrap();
    assert!(accepted_in_all.get() > 400 && refused_in_all.get() > 400, "{accepted_in_all:?} {refused_in_all:?}");
}

#[test]
fn refused_deadlines_change_nothing() {
    let check = |(qubits, routes, magic, images, steps): (u32, u32, u32, Vec<Image>, Vec<Step>)| {
        // The second world does not get to see what the first refuses.
        let mut worlds = [0, 1].map(|_| {
            let mut w = World::new(Size { qubits, routes, magic, buffer: 40, decoded: qubits });
            let tenant = w.tenant(Quota::UNLIMITED);
            let images: Vec<Handle> = images.iter().map(|i| w.admit(tenant, i)).collect();
            (w, images)
        });
        let mut strands = Vec::new();
        for step in steps {
            let (run, i) = match step {
                Step::Load(i) => (Run::default(), i),
                Step::Deadline(i, deadline, shots) => {
                    (Run { deadline: Some(deadline / 4), shots, ..Run::default() }, i)
                }
                Step::Advance(epochs) => {
                    worlds.iter_mut().for_each(|(w, _)| w.advance(epochs));
                    continue;
                }
                _ => continue,
            };
            let [(first, images), (second, _)] = &mut worlds;
            if let Ok(strand) = first.spawn(0, images[i], run) {
                prop_assert_eq!(second.spawn(0, images[i], run).ok(), Some(strand));
                strands.push(strand);
            }
            let usage = |w: &mut World| w.kernel.syscall(w.tenants[0].0, Syscall::Usage);
            prop_assert_eq!(usage(first), usage(second));
            for &strand in &strands {
                prop_assert_eq!(first.status(0, strand), second.status(0, strand));
            }
        }
        Ok(())
    };
    runner(100).run(&case(), check).unwrap();
}

/// Half of what comes is left to those without deadlines, however greedily others ask for promises.
#[test]
fn deadlines_starve_no_one() {
    const EPOCHS: u64 = 40_000;
    let mut w = World::new(Size { magic: 4, buffer: 64, ..AMPLE });
    let (greedy, patient) = (w.tenant(Quota::UNLIMITED), w.tenant(Quota::UNLIMITED));
    let [all, some] = [chain(8, 200, Op::T), chain(8, 400, Op::T)].map(|i| [w.admit(greedy, &i), w.admit(patient, &i)]);
    let (mut mine, mut theirs, mut refused) = (Vec::new(), Vec::new(), 0);
    for _ in 0..EPOCHS {
        keep_up(&mut w, patient, some[1], 2, 0, &mut theirs);
        // Several at once, so that all that comes is promised.
        mine.retain(|&s| !w.is_done(greedy, s));
        if mine.len() < 3 {
            match w.spawn(greedy, all[0], Run { deadline: Some(2000), ..Run::default() }) {
                Ok(strand) => mine.push(strand),
                Err(KernelError::Deadline { .. }) => refused += 1,
                Err(e) => panic!("{e}"),
            }
        }
        w.advance(1);
    }
    let had = &w.kernel.device().magic;
    let (promised, left) = (had[greedy], had[patient]);
    // What may be promised at once, and half of the rest.
    assert!(promised <= 4 * (4096 + EPOCHS / 2) && promised > EPOCHS, "{promised}");
    assert!(left >= 4 * (EPOCHS / 2 - 4096) - 200 && refused > 100, "{left} {refused}");
}

//! Bounds on waiting.

use crate::world::{AMPLE, Size, World, chain, image, keep_up, z};
use qmk_kernel::abi::image::{Clifford1, Image, ImageError, ImageErrorKind, Op};
use qmk_kernel::abi::syscall::{Quota, Run, StrandState};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};

/// Epochs that `epoch.rs` and `fair_queue.rs` promise with.
const PATIENCE: u64 = 1024;
const AGE: u64 = 64;
pub(crate) const AHEAD: u64 = 16 + 16;

/// One tenant needs many states at once, three take single ones as they come.
fn many_at_once(job: &Image, n: u64, at_once: u64, rate: u32) {
    let mut w = World::new(Size { magic: rate, buffer: 64, ..AMPLE });
    // The others hold few patches and the one many, and they came first.
    for _ in 0..3 {
        let tenant = w.tenant(Quota::UNLIMITED);
        let image = w.admit(tenant, &chain(4, 4000, Op::T));
        (0..4).for_each(|_| _ = w.run(tenant, image, 0));
    }
    w.advance(100);
    let tenant = w.tenant(Quota::UNLIMITED);
    let image = w.admit(tenant, job);
    let strand = w.run(tenant, image, 0);
    // A quarter of all states is its own.
    let states = n * at_once;
    let bound = 4 * states / rate as u64 + AHEAD * 4 + states / rate as u64 / n + 50 * n;
    w.advance(bound);
    assert!(w.is_done(tenant, strand), "{:?}", w.status(tenant, strand));
    assert!(w.kernel.device().magic[..3].iter().all(|&m| m > bound / 8), "the others go on");
}

#[test]
fn who_needs_many_magic_states_at_once_is_not_starved() {
    let rotations = chain(1, 10, z);
    many_at_once(&rotations, 10, 23, 1);
    many_at_once(&rotations, 10, 23, 4);
    let products = image(600, (0..20).map(|_| Op::Ccz(0, 1, 2)));
    many_at_once(&products, 20, 4, 1);
}

#[test]
fn a_machine_that_makes_no_magic_states_refuses_who_needs_one() {
    let mut w = World::new(Size { magic: 0, buffer: 64, ..AMPLE });
    let tenant = w.tenant(Quota::UNLIMITED);
    let image = w.admit(tenant, &chain(1, 1, Op::T));
    let (who, machine) = w.tenants[tenant];
    let refused = w.kernel.syscall(who, Syscall::Spawn { machine, image, run: Run::default() });
    let Err(KernelError::Image(ImageError { kind: ImageErrorKind::Unaffordable, .. })) = refused else {
        panic!("{refused:?}")
    };
}

#[test]
fn a_large_program_is_not_overtaken_for_ever() {
    let mut w = World::new(Size { qubits: 8, decoded: 8, ..AMPLE });
    let (small, large) = (w.tenant(Quota::UNLIMITED), w.tenant(Quota::UNLIMITED));
    // Of different lengths, so that the machine is never empty; at most 60 epochs.
    let images = [10, 13, 20].map(|n| chain(1, n, |q| Op::Clifford1(Clifford1::H, q)));
    let images = images.map(|i| w.admit(small, &i));
    let whole = w.admit(large, &chain(8, 1, Op::T));
    let mut streams = [const { Vec::new() }; 3];
    let mut large_one = None;
    for epoch in 0..2 * PATIENCE + 500 {
        for (image, stream) in images.iter().zip(&mut streams) {
            keep_up(&mut w, small, *image, 6, 0, stream);
        }
        if epoch == 200 {
            large_one = Some(w.run(large, whole, 0));
        }
        w.advance(1);
    }
    let status = w.status(large, large_one.unwrap());
    assert_eq!(status.state, StrandState::Done);
    assert!(status.waited > 100, "it was not contended");
    assert!(status.waited <= PATIENCE + 60 + 1, "{status:?}");
}

/// Qubits that are held one by one need not come free, so no one else is made to wait for them.
#[test]
fn who_waits_for_qubits_that_are_held_holds_up_no_one() {
    let mut w = World::new(Size { qubits: 8, decoded: 8, ..AMPLE });
    let (holder, large, small) = (w.tenant(Quota::UNLIMITED), w.tenant(Quota::UNLIMITED), w.tenant(Quota::UNLIMITED));
    let (domain, machine) = w.tenants[holder];
    w.handle(domain, Syscall::TakeQubit { machine });
    let [whole, one] = [chain(8, 1, Op::T), chain(1, 1, Op::T)].map(|i| [w.admit(large, &i), w.admit(small, &i)]);
    let waiting = w.run(large, whole[0], 0);
    w.advance(PATIENCE + 100);
    let strand = w.run(small, one[1], 0);
    w.advance(20);
    assert!(w.is_done(small, strand));
    assert_eq!(w.status(large, waiting).state, StrandState::Waiting);
}

/// What a domain frees in one region makes room in its quota for what waits in another.
#[test]
fn a_quota_that_comes_free_anywhere_lets_strands_start() {
    let mut w = World::new(Size { qubits: 8, decoded: 8, ..AMPLE });
    let tenant = w.tenant(Quota { qubits: 4, ..Quota::UNLIMITED });
    let (domain, machine) = w.tenants[tenant];
    let (root, own) = (w.root, w.machine);
    let region = w.handle(root, Syscall::CreateRegion { machine: own, qubits: 4, routes: 2, magic: 1 });
    let held: Vec<Handle> = (0..4).map(|_| w.handle(domain, Syscall::TakeQubit { machine })).collect();
    let image = w.admit(tenant, &chain(4, 1, |q| Op::Clifford1(Clifford1::H, q)));
    let Ok(Reply::Capability { .. }) = w.kernel.syscall(root, Syscall::Inspect { target: region }) else { panic!() };
    let control = w
        .kernel
        .capabilities(root)
        .into_iter()
        .find_map(|(h, ..)| (w.kernel.domain_of(root, h) == Some(domain)).then_some(h));
    let derive = Syscall::Derive { source: region, rights: Rights::USE, badge: 0, into: control, budget: None };
    let region = w.handle(root, derive);
    let strand = w.spawn(tenant, image, Run { region: Some(region), ..Run::default() }).unwrap();
    w.advance(10);
    assert_eq!(w.status(tenant, strand).state, StrandState::Waiting);
    for qubit in held {
        w.kernel.syscall(domain, Syscall::FreeQubit { qubit, uncompute: None }).unwrap();
    }
    w.advance(10);
    assert!(w.is_done(tenant, strand));
}

#[test]
fn low_priority_waits_long_but_not_for_ever() {
    let mut w = World::new(Size { qubits: 2, decoded: 2, ..AMPLE });
    let tenant = w.tenant(Quota::UNLIMITED);
    let job = w.admit(tenant, &chain(1, 10, |q| Op::Clifford1(Clifford1::H, q)));
    let mut stream = Vec::new();
    let mut low = None;
    for epoch in 0..PATIENCE + 300 {
        keep_up(&mut w, tenant, job, 5, 1, &mut stream);
        if epoch == 10 {
            low = Some(w.run(tenant, job, 0));
        }
        w.advance(1);
    }
    let status = w.status(tenant, low.unwrap());
    assert_eq!(status.state, StrandState::Done);
    assert!(status.waited >= PATIENCE && status.waited <= PATIENCE + 30 + 1, "{status:?}");
}

#[test]
fn a_strand_of_low_priority_issues_now_and_then() {
    let mut w = World::new(Size { magic: 1, buffer: 4, ..AMPLE });
    let tenant = w.tenant(Quota::UNLIMITED);
    let (many, few) = (w.admit(tenant, &chain(8, 400, Op::T)), w.admit(tenant, &chain(1, 5, Op::T)));
    w.run(tenant, many, 1);
    let low = w.run(tenant, few, 0);
    w.advance(5 * (AGE + 1 + 2) + 1);
    let status = w.status(tenant, low);
    assert_eq!(status.state, StrandState::Done);
    assert!(status.epochs > 4 * AGE, "{status:?}");
}

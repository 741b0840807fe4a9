//! Shares of magic states, routes and the device, windows, and regions of one's own.

use crate::device::{ENDLESS, LONG, Metered};
use crate::waiting::AHEAD;
use crate::world::{AMPLE, Size, World, chain, image, z};
use qmk_kernel::Clock;
use qmk_kernel::abi::image::{Clifford2, Image, Op, Pauli};
use qmk_kernel::abi::syscall::{Quota, Run};
use qmk_kernel::abi::{Handle, Syscall};

/// Runs tenants of weights 2, 1 and 1 that want more than there is; returns what each has had after so many epochs.
fn shares(size: Size, job: &Image, epochs: u64, had: fn(&Metered) -> &[u64]) -> Vec<u64> {
    let mut w = World::new(size);
    for weight in [2, 1, 1] {
        let tenant = w.tenant(Quota { weight, ..Quota::UNLIMITED });
        let image = w.admit(tenant, job);
        (0..4 * weight).for_each(|_| _ = w.run(tenant, image, 0));
    }
    w.advance(epochs);
    had(w.kernel.device())[..3].to_vec()
}

/// Two tenants may be apart by what one may lag behind and another run ahead, in epochs of the whole machine.
fn assert_two_to_one(had: &[u64], per_epoch: u64) {
    let bound = AHEAD * per_epoch;
    assert!(had[1].abs_diff(had[2]) <= bound, "{had:?}");
    assert!((had[0] / 2).abs_diff(had[1]) <= bound, "{had:?}");
    let all = had.iter().sum::<u64>() as f64;
    assert!((had[0] as f64 / all - 0.5).abs() < 0.02, "{had:?}");
}

#[test]
fn shares_go_by_weight_where_magic_states_are_short() {
    let size = Size { magic: 4, buffer: 64, ..AMPLE };
    let had = shares(size, &chain(8, 400, Op::T), 1000, |d| &d.magic);
    assert!(had.iter().sum::<u64>() > 3900, "{had:?}");
    assert_two_to_one(&had, 4);
}

#[test]
fn shares_go_by_weight_where_routes_are_short() {
    let pairs = |_| (0..4).map(|i| Op::Clifford2(Clifford2::Cnot, 2 * i, 2 * i + 1));
    let job = image(8, (0..400).flat_map(pairs));
    // An operation keeps its route for two epochs.
    let had = shares(Size { routes: 4, ..AMPLE }, &job, 1000, |d| &d.issued);
    assert!(had.iter().sum::<u64>() > 1900, "{had:?}");
    assert_two_to_one(&had, 2);
}

#[test]
fn an_epoch_ends_when_the_routes_do_before_the_magic_states() {
    let mut w = World::new(Size { routes: 1, ..AMPLE });
    let tenant = w.tenant(Quota::UNLIMITED);
    let image = w.admit(tenant, &chain(4, 5, Op::T));
    let strand = w.run(tenant, image, 0);
    w.advance(41);
    assert_eq!(w.status(tenant, strand).epochs, 40);
}

#[test]
fn windows_bound_epochs_and_magic_states() {
    let job = chain(1, 60, Op::T);
    for (quota, per_window) in [
        (Quota { magic: 5, window: 20, ..Quota::UNLIMITED }, 5),
        (Quota { epochs: 3, window: 20, ..Quota::UNLIMITED }, 3),
    ] {
        let mut w = World::new(AMPLE);
        let tenant = w.tenant(quota);
        let image = w.admit(tenant, &job);
        let strand = w.run(tenant, image, 0);
        let mut taken = [0; 10];
        // Windows begin at multiples of their length.
        for epoch in 1..200 {
            let before = w.kernel.device().magic[0];
            w.advance(1);
            taken[epoch / 20] += w.kernel.device().magic[0] - before;
        }
        assert_eq!(taken, [per_window; 10]);
        assert!(!w.is_done(tenant, strand));
    }
}

#[test]
fn a_region_does_not_feel_load_elsewhere() {
    let run = |loaded: bool| {
        let mut w = World::new(Size { qubits: 40, routes: 8, magic: 4, buffer: 64, decoded: 40 });
        let (root, machine) = (w.root, w.machine);
        let region = w.handle(root, Syscall::CreateRegion { machine, qubits: 10, routes: 2, magic: 2 });
        let mut load = Vec::new();
        if loaded {
            let other = w.tenant(Quota { weight: 9, ..Quota::UNLIMITED });
            for job in [chain(10, 300, Op::T), chain(2, 20, z)] {
                let image = w.admit(other, &job);
                load.push(w.run(other, image, 5));
            }
        }
        let image = Syscall::Admit { machine, image: chain(5, 10, Op::T) };
        let image = w.handle(root, image);
        let strands = (0..3).map(|_| {
            let run = Run { region: Some(region), ..Run::default() };
            w.handle(root, Syscall::Spawn { machine, image, run })
        });
        let strands: Vec<Handle> = strands.collect();
        let mut seen = Vec::new();
        for _ in 0..150 {
            w.advance(1);
            for &strand in &strands {
                seen.push(w.kernel.syscall(root, Syscall::Status { strand }));
            }
        }
        assert!(load.iter().all(|&s| !w.is_done(0, s)), "the load lasts");
        seen
    };
    assert_eq!(run(true), run(false));
}

/// Of the device, who takes much at once gets no more than who takes little, but for its weight.
#[test]
fn the_device_is_shared_by_the_steps_it_takes() {
    for weights in [[1, 1, 1], [1, 3, 2]] {
        let mut w = World::new(AMPLE);
        w.kernel.set_clock(Clock::FreeRunning { pace: 10_000 });
        for (i, weight) in weights.into_iter().enumerate() {
            let tenant = w.tenant(Quota { weight, ..Quota::UNLIMITED });
            let image = w.admit(tenant, &chain(1, 1, |q| Op::Measure(Pauli::Z, q, 0)));
            // The first has many strands, too.
            for _ in 0..if i == 0 { 20 } else { 1 } {
                w.spawn(tenant, image, Run { shots: ENDLESS, ..Run::default() }).expect("room");
            }
        }
        w.advance(20_000);
        let worked = w.kernel.device().worked.clone();
        for (i, weight) in weights.into_iter().enumerate() {
            let (share, first) = (worked[i] / weight as u64, worked[0] / weights[0] as u64);
            assert!(share.abs_diff(first) <= 2 * LONG, "{weights:?}: {worked:?}");
        }
        assert!(worked[1] > 2 * LONG, "{worked:?}");
        // One that comes later is given what is due from then on, and not what the others have had.
        let tenant = w.tenant(Quota::UNLIMITED);
        let image = w.admit(tenant, &chain(1, 1, |q| Op::Measure(Pauli::Z, q, 0)));
        w.spawn(tenant, image, Run { shots: ENDLESS, ..Run::default() }).expect("room");
        w.advance(10_000);
        let after = w.kernel.device().worked.clone();
        assert!(after[1] > worked[1] + 10_000_000, "{worked:?} {after:?}");
    }
}

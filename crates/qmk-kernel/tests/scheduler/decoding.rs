//! Decoders that fall behind, and errors that the machine does not model.

use crate::world::{AMPLE, Size, World, chain, image};
use qmk_kernel::abi::KernelError;
use qmk_kernel::abi::image::{Op, Pauli};
use qmk_kernel::abi::syscall::{Late, Level, NoiseSpec, Quota, Run, StrandState};

/// Epochs of a program of measurements on one qubit, on a machine that holds `live` patches in use.
fn measured(live: u32, decoded: u32, n: u32) -> u64 {
    measured_with(NoiseSpec::default(), live, decoded, n)
}

fn measured_with(noise: NoiseSpec, live: u32, decoded: u32, n: u32) -> u64 {
    let mut w = World::new(Size { decoded, ..AMPLE });
    let tenant = w.tenant(Quota::UNLIMITED);
    let ops = (0..n).map(|e| Op::Measure(Pauli::Z, 0, e));
    let image = w.admit(tenant, &image(live, ops));
    let strand = w.spawn(tenant, image, Run { noise, ..Run::default() }).expect("room");
    w.advance(2000);
    assert!(w.is_done(tenant, strand));
    w.status(tenant, strand).epochs
}

#[test]
fn outcomes_wait_for_decoders_that_fall_behind() {
    assert_eq!(measured(6, 6, 20), 20);
    assert_eq!(measured(6, 1000, 20), 20);
    for (live, decoded) in [(6, 5), (6, 4), (8, 4), (9, 3)] {
        // Each epoch leaves so much; a measurement takes as long again as that takes to decode.
        let (mut backlog, mut epochs, mut free_at) = (0u64, 0u64, 0u64);
        for _ in 0..4 {
            while epochs <= free_at {
                backlog += (live - decoded) as u64;
                epochs += 1;
            }
            free_at = epochs - 1 + 1 + backlog.div_ceil(decoded as u64);
        }
        assert_eq!(measured(live, decoded, 4), free_at, "{live} {decoded}");
        assert!(free_at > 4);
    }
}

#[test]
fn decoders_fall_behind_by_the_time_that_decoding_takes() {
    let errors = |ppb| NoiseSpec { level: Level::Logical, ppb };
    for (ppb, live, decoded) in [(1000, 6, 5), (500, 12, 5), (2000, 4, 4), (250, 12, 2)] {
        // So many patches of the usual kind give as much.
        let usual = live * ppb / 1000;
        assert_eq!(measured_with(errors(ppb), live, decoded, 4), measured(usual, decoded, 4), "{ppb}");
        assert_eq!(measured_with(errors(decoded * 1000 / live), live, decoded, 20), 20, "they keep up");
    }
    // Half a patch too much is behind at once.
    assert!(measured_with(errors(1100), 5, 5, 20) > 20);
    let mut w = World::new(Size { decoded: 4, ..AMPLE });
    let tenant = w.tenant(Quota::UNLIMITED);
    let image = w.admit(tenant, &chain(4, 3, Op::T));
    let run = |ppb| Run { noise: errors(ppb), deadline: Some(100), ..Run::default() };
    let late = w.spawn(tenant, image, run(1001)).unwrap_err();
    assert!(matches!(&late, KernelError::Deadline { why, .. } if *why == Late::Decoders), "{late}");
    w.spawn(tenant, image, run(600)).unwrap();
    // What would make them miss the deadline waits.
    let second = w.spawn(tenant, image, Run { noise: errors(600), ..Run::default() }).unwrap();
    w.advance(1);
    assert_eq!(w.status(tenant, second).state, StrandState::Waiting);
    w.advance(20);
    assert!(w.is_done(tenant, second));
}

#[test]
fn errors_that_the_machine_does_not_model_are_refused() {
    let mut w = World::new(AMPLE);
    let tenant = w.tenant(Quota::UNLIMITED);
    let image = w.admit(tenant, &chain(1, 1, |q| Op::Measure(Pauli::Z, q, 0)));
    let noise = NoiseSpec { level: Level::Physical, ppb: 0 };
    let refused = w.spawn(tenant, image, Run { noise, ..Run::default() }).unwrap_err();
    assert_eq!(refused, KernelError::Patch("no such patches are sampled".into()));
    let run = Run { noise: NoiseSpec { level: Level::Logical, ppb: 7 }, ..Run::default() };
    w.spawn(tenant, image, run).unwrap();
    w.advance(2);
    assert_eq!(w.kernel.device().errors, [run.noise]);
}

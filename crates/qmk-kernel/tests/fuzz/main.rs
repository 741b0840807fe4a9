//! Sequences of system calls from bytes that mean no good, on the simulated machine.
//!
//! A sequence is a seed; the seed makes bytes, and [`run`] makes calls of bytes, so that what finds bytes better than
//! chance can be put in front of it. Some bytes are read as calls in postcard's format, as they come or with handles
//! that exist; others choose calls, live, foreign and stale handles, and numbers that are plausible or absurd. Whatever
//! the calls were, no call panics (nor overflows, in the dev profile), takes long, hands the device much work or takes
//! memory out of proportion to its size; and after all that derives from the first capability is revoked, nothing is
//! left.
//!
//! `QMK_FUZZ_SECONDS` sets how long to look, and `QMK_FUZZ_SEED` repeats one sequence.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "shows how much was tried and how to repeat a failure")]
#![allow(unsafe_code)]

mod bytes;
mod calls;
mod device;
mod memory;
mod sequence;

use crate::memory::{MEMORY, Memory};
use crate::sequence::{Done, run};
use qmk_kernel::Kernel;
use qmk_kernel::abi::image::{Image, Instr, Op};
use qmk_kernel::abi::syscall::Quota;
use qmk_kernel::abi::{KernelError, Syscall};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::Rng;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const BASE_SEED: u64 = 0x716d_6b00;

/// A sequence takes less than a second.
const SEQUENCE: Duration = Duration::from_secs(30);

/// The bytes of a seed.
fn bytes_of(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let words = [64, 512, 2048, 4096][rng.below(4)];
    (0..words).flat_map(|_| rng.next().to_le_bytes()).collect()
}

/// The sequence under way.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Ends the process when a sequence does not end.
fn watch() {
    std::thread::spawn(|| {
        let (mut seed, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = SEED.load(Ordering::Relaxed);
            if now != seed {
                (seed, since) = (now, Instant::now());
            } else if since.elapsed() > SEQUENCE {
                eprintln!("a sequence does not end; repeat it with QMK_FUZZ_SEED={seed}");
                std::process::abort();
            }
        }
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().expect("a number"))
}

#[test]
fn no_sequence_of_calls_does_harm() {
    if let Some(seed) = number("QMK_FUZZ_SEED") {
        run(&bytes_of(seed));
        return;
    }
    let limit = Duration::from_secs(number("QMK_FUZZ_SECONDS").unwrap_or(30));
    println!("base seed {BASE_SEED}");
    let start = Instant::now();
    let (mut done, mut sequences) = (Done::new(), 0);
    watch();
    while start.elapsed() < limit {
        let seed = BASE_SEED + sequences;
        SEED.store(seed, Ordering::Relaxed);
        match catch_unwind(AssertUnwindSafe(|| run(&bytes_of(seed)))) {
            Ok(more) => more.into_iter().for_each(|(name, n)| *done.entry(name).or_default() += n),
            Err(panic) => {
                eprintln!("sequence {sequences} failed; repeat it with QMK_FUZZ_SEED={seed}");
                resume_unwind(panic);
            }
        }
        sequences += 1;
    }
    println!("{sequences} sequences; calls that succeeded: {done:?}");
    // All of them come to do what they are for.
    assert!(done.len() == 27 || start.elapsed() < Duration::from_secs(5), "{} calls: {done:?}", done.len());
}

/// What a few bytes claim to be is refused before anything is made of that size, also where no quota forbids it.
#[test]
fn claims_take_no_memory() {
    let device = SimDevice::new(SimConfig { logical_qubits: 8, threads: 1, ..SimConfig::default() });
    let (mut kernel, root, machine) = Kernel::boot(device, 1, Quota { instructions: u32::MAX, ..Quota::UNLIMITED });
    let above = (1 << 22) + 1;
    for (qubits, events) in [(u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX), (above, 0), (0, above)] {
        let code = vec![Instr { op: Op::Alloc(qubits.wrapping_sub(1)), cond: None }];
        let image = Image { qubits, events, code, terms: Vec::new() };
        let before = MEMORY.get();
        MEMORY.set(Memory { peak: before.now, ..before });
        let reply = kernel.syscall(root, Syscall::Admit { machine, image });
        let bytes = MEMORY.get().peak - before.now;
        assert!(matches!(reply, Err(KernelError::Image(_) | KernelError::Quota(_))), "{qubits} {events}: {reply:?}");
        assert!(bytes < 4096, "{qubits} {events}: {bytes} bytes");
    }
}

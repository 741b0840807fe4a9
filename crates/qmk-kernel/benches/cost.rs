//! What the kernel costs: `cargo xtask bench kernel`.
//!
//! Criterion times each figure; then pairs of a small and a large table alternate, and the medians of their ratios tell
//! whether the cost depends on the size.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "machine/mod.rs"]
mod machine;

use criterion::{BatchSize, Criterion};
use machine::Modelled;
use qmk_abi::image::{Clifford1, Image, Instr, Op};
use qmk_abi::syscall::{Quota, Run};
use qmk_abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::{Clock, DomainId, Kernel};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

/// Nanoseconds.
const LOOKUP: f64 = 20.0;
const SYSCALL: f64 = 100.0;
const DISPATCH: f64 = 150.0;
/// How much more the larger of two sizes may cost.
const FLAT: f64 = 1.3;
/// Pairs of runs for each ratio.
const PAIRS: usize = 31;
/// Handles that a caller works with, from anywhere in the table. Going through all of a large table measures the
/// machine's caches, which is printed too, without a goal.
const WORKING_SET: usize = 256;
/// Calls of a run.
const CALLS: usize = 20_000;
/// Qubits of a strand.
const WIDTH: u32 = 4;
/// Instructions of all strands together.
const INSTRUCTIONS: u32 = 200_000;

struct Table {
    kernel: Kernel<Modelled>,
    root: DomainId,
    machine: Handle,
    handles: Vec<Handle>,
    /// How many of them are gone through.
    used: usize,
}

fn handle(kernel: &mut Kernel<Modelled>, who: DomainId, call: Syscall) -> Handle {
    match kernel.syscall(who, call) {
        Ok(Reply::Handle(handle)) => handle,
        other => panic!("{other:?}"),
    }
}

impl Table {
    /// A domain that holds this many capabilities. `handles` names them in random order.
    fn new(capabilities: u32) -> Table {
        let (mut kernel, root, machine) = Kernel::boot(Modelled::new(100_000, 200_000, 64, 0), 0, Quota::UNLIMITED);
        kernel.set_clock(Clock::Lockstep);
        let derive = Syscall::Derive { source: machine, rights: Rights::all(), badge: 0, into: None, budget: None };
        let mut handles: Vec<Handle> = (1..capabilities).map(|_| handle(&mut kernel, root, derive.clone())).collect();
        // A shuffle that is the same each time.
        let mut state = 1u64;
        for i in (1..handles.len()).rev() {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            handles.swap(i, ((state >> 33) % (i as u64 + 1)) as usize);
        }
        Table { kernel, root, machine, handles, used: WORKING_SET }
    }

    /// The next handle in random order.
    #[inline]
    fn next(&self, at: &mut usize) -> Handle {
        *at = if *at + 1 < self.used.min(self.handles.len()) { *at + 1 } else { 0 };
        self.handles[*at]
    }

    /// Starts strands of one-qubit gates, together so many instructions; returns their number.
    fn start(&mut self, strands: u32) -> u32 {
        let gates = INSTRUCTIONS / strands;
        let ops = (0..gates).map(|i| Op::Clifford1(Clifford1::S, i % WIDTH));
        let ops = (0..WIDTH).map(Op::Alloc).chain(ops).chain((0..WIDTH).map(Op::Free));
        let code: Vec<Instr> = ops.map(|op| Instr { op, cond: None }).collect();
        let instructions = code.len() as u32 * strands;
        let (root, machine) = (self.root, self.machine);
        let image = Image { qubits: WIDTH, events: 0, code, terms: Vec::new() };
        let image = handle(&mut self.kernel, root, Syscall::Admit { machine, image });
        for _ in 0..strands {
            handle(&mut self.kernel, root, Syscall::Spawn { machine, image, run: Run::default() });
        }
        instructions
    }
}

/// Nanoseconds of a call.
fn per_call(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..CALLS).for_each(|_| call());
    start.elapsed().as_nanos() as f64 / CALLS as f64
}

/// Nanoseconds of looking up a capability and the object behind it.
fn lookup(table: &mut Table, at: &mut usize) -> f64 {
    per_call(|| {
        let target = table.next(at);
        black_box(table.kernel.domain_of(table.root, black_box(target)));
    })
}

fn inspect(table: &mut Table, at: &mut usize) -> f64 {
    per_call(|| {
        let target = table.next(at);
        black_box(table.kernel.syscall(table.root, black_box(Syscall::Inspect { target }))).ok();
    })
}

/// Nanoseconds of issuing and completing an instruction, with this many strands.
fn dispatch(capabilities: u32, strands: u32) -> f64 {
    let mut table = Table::new(capabilities);
    let instructions = table.start(strands);
    // Strands start in the first epoch.
    table.kernel.advance();
    let start = Instant::now();
    while table.kernel.advance().busy {}
    start.elapsed().as_nanos() as f64 / instructions as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Median of each side, and of the ratios of pairs that follow each other.
fn pairs(mut small: impl FnMut() -> f64, mut large: impl FnMut() -> f64, pairs: usize) -> (f64, f64, f64) {
    small();
    large();
    let all: Vec<(f64, f64)> = (0..pairs).map(|_| (small(), large())).collect();
    let of = |f: fn(&(f64, f64)) -> f64| median(all.iter().map(f).collect());
    (of(|p| p.0), of(|p| p.1), of(|p| p.1 / p.0))
}

fn main() -> ExitCode {
    if std::env::args().any(|a| a == "--criterion") {
        criterion();
        return ExitCode::SUCCESS;
    }
    let [mut small, mut middle, mut large] = [1_000, 10_000, 100_000].map(Table::new);
    let (mut a, mut b, mut c) = (0, 0, 0);
    let lookups = pairs(|| lookup(&mut small, &mut a), || lookup(&mut large, &mut b), PAIRS);
    let inspects = pairs(|| inspect(&mut small, &mut a), || inspect(&mut large, &mut b), PAIRS);
    let at_middle = [lookup, inspect].map(|f| median((0..PAIRS).map(|_| f(&mut middle, &mut c)).collect()));
    [&mut small, &mut large].into_iter().for_each(|t| t.used = usize::MAX);
    let all_lookups = pairs(|| lookup(&mut small, &mut a), || lookup(&mut large, &mut b), PAIRS);
    let all_inspects = pairs(|| inspect(&mut small, &mut a), || inspect(&mut large, &mut b), PAIRS);
    let usage = median(
        (0..PAIRS).map(|_| per_call(|| _ = black_box(middle.kernel.syscall(middle.root, Syscall::Usage)))).collect(),
    );
    let by_capabilities = pairs(|| dispatch(1_000, 1_000), || dispatch(100_000, 1_000), 9);
    let by_strands = pairs(|| dispatch(10_000, 10), || dispatch(10_000, 1_000), 9);
    let mut passes = true;
    let mut print = |what: &str, value: f64, goal: f64, unit: &str| {
        if goal.is_infinite() {
            println!("{what:64} {value:8.2} {unit}");
            return;
        }
        let good = value <= goal;
        passes &= good;
        let verdict = if good { "PASS" } else { "FAIL" };
        println!("{what:64} {value:8.2} {unit:2} goal {goal:6.1} {verdict}");
    };
    print("capability lookup, 10,000 capabilities", at_middle[0], LOOKUP, "ns");
    print("capability lookup, 100,000 over 1,000 capabilities", lookups.2, FLAT, "x");
    print("  the same, going through all of them", all_lookups.2, f64::INFINITY, "x");
    print("syscall Inspect, 10,000 capabilities", at_middle[1], SYSCALL, "ns");
    print("syscall Inspect, 100,000 over 1,000 capabilities", inspects.2, FLAT, "x");
    print("  the same, going through all of them", all_inspects.2, f64::INFINITY, "x");
    print("syscall Usage, 10,000 capabilities", usage, SYSCALL, "ns");
    print("dispatch of a gate, 10,000 capabilities and 1,000 strands", by_strands.1, DISPATCH, "ns");
    print("dispatch of a gate, 100,000 over 1,000 capabilities", by_capabilities.2, FLAT, "x");
    print("dispatch of a gate, 1,000 over 10 strands", by_strands.2, FLAT, "x");
    println!("\n{}", if passes { "PASS" } else { "FAIL" });
    if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same figures with Criterion's statistics.
fn criterion() {
    let mut criterion = Criterion::default();
    let mut at = 0;
    let mut table = Table::new(10_000);
    criterion.bench_function("lookup", |b| {
        b.iter(|| {
            let target = table.next(&mut at);
            table.kernel.domain_of(table.root, black_box(target))
        });
    });
    criterion.bench_function("inspect", |b| {
        b.iter(|| {
            let target = table.next(&mut at);
            table.kernel.syscall(table.root, black_box(Syscall::Inspect { target }))
        });
    });
    criterion.bench_function("usage", |b| b.iter(|| table.kernel.syscall(table.root, black_box(Syscall::Usage))));
    criterion.bench_function("dispatch of 200,000 gates", |b| {
        let set_up = || {
            let mut table = Table::new(10_000);
            table.start(1_000);
            table.kernel.advance();
            table
        };
        b.iter_batched(set_up, |mut table| while table.kernel.advance().busy {}, BatchSize::LargeInput);
    });
    criterion.final_summary();
}

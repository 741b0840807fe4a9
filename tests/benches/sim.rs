//! The simulated machine against the dense reference, and programs through the kernel against the bare device.
#![allow(missing_docs, reason = "criterion_group makes an undocumented function")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use qmk_abi::image::{Clifford1, Clifford2, Image, Instr, Op, Pauli};
use qmk_abi::syscall::Quota;
use qmk_abi::{Reply, Syscall};
use qmk_hal::{Device, SpaceSpec};
use qmk_kernel::Kernel;
use qmk_sim::SimDevice;
use qmk_tests::dense::{Dense, gates};
use std::hint::black_box;
use std::sync::Arc;

fn image(qubits: u32, gates: impl IntoIterator<Item = Op>) -> Image {
    let alloc = (0..qubits).map(Op::Alloc);
    let measure = (0..qubits).map(|q| Op::Measure(Pauli::Z, q, q));
    let free = (0..qubits).map(Op::Free);
    let code = alloc.chain(gates).chain(measure).chain(free).map(|op| Instr { op, cond: None }).collect();
    Image { qubits, events: qubits, code, terms: Vec::new() }
}

fn ghz(n: u32) -> Image {
    let chain = (1..n).map(|q| Op::Clifford2(Clifford2::Cnot, q - 1, q));
    image(n, [Op::Clifford1(Clifford1::H, 0)].into_iter().chain(chain))
}

/// Layers of rotations and CNOTs: no structure that the machine could use.
fn layers(n: u32, depth: u32) -> Vec<Op> {
    let layer = |d: u32| {
        let rotations = (0..n).flat_map(move |q| {
            [Op::Rotate(Pauli::Y, q, 0.3 + q as f64 + d as f64), Op::Rotate(Pauli::Z, q, 0.7 * q as f64 - d as f64)]
        });
        rotations.chain((0..n).map(move |q| Op::Clifford2(Clifford2::Cnot, q, (q + 1 + d % (n - 1)) % n)))
    };
    (0..depth).flat_map(layer).collect()
}

fn device(image: &Arc<Image>, shots: u64) -> u64 {
    let mut device = SimDevice::default();
    let space = device
        .open(SpaceSpec { image: image.clone(), noise: Arc::default(), shots, seed: 1, max_active: 24 })
        .expect("fits");
    for i in 0..image.code.len() as u32 {
        device.issue(space, i).expect("in range");
    }
    while device.work(space, u64::MAX).expect("no fault").shots_done < shots {}
    (0..shots).filter(|&s| device.outcome(space, s, 0)).count() as u64
}

fn kernel(image: &Image, shots: u64) -> u64 {
    let quota = Quota { qubits: 10_000, strands: 10, instructions: 1 << 20, slots: 100, active: 24 };
    let (mut kernel, root, machine) = Kernel::boot(SimDevice::default(), 0, quota);
    let handle = |kernel: &mut Kernel<SimDevice>, call| match kernel.syscall(root, call) {
        Ok(Reply::Handle(h)) => h,
        other => panic!("{other:?}"),
    };
    let image = handle(&mut kernel, Syscall::Admit { machine, image: image.clone() });
    let strand = handle(&mut kernel, Syscall::Spawn { machine, image, shots, seed: 1, priority: 0 });
    while kernel.advance().busy {}
    match kernel.syscall(root, Syscall::Outcomes { strand, first: 0, count: shots as u32 }) {
        Ok(Reply::Outcomes(bytes)) => bytes.len() as u64,
        other => panic!("{other:?}"),
    }
}

fn dense(n: usize, ops: &[Op]) -> f64 {
    let mut state = Dense::new(n);
    for op in ops {
        match *op {
            Op::Rotate(Pauli::Y, q, t) => state.apply(&gates::ry(t), &[], q as usize),
            Op::Rotate(_, q, t) => state.apply(&gates::rz(t), &[], q as usize),
            Op::Clifford2(_, a, b) => state.apply(&gates::X, &[a as usize], b as usize),
            _ => {}
        }
    }
    state.probability_of_one(0)
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("sim");
    group.sample_size(10);
    let ops = layers(12, 10);
    let magic = Arc::new(image(12, ops.clone()));
    group.bench_function(BenchmarkId::new("layers of 12 qubits, depth 10", "qmk"), |b| {
        b.iter(|| device(black_box(&magic), 1))
    });
    group.bench_function(BenchmarkId::new("layers of 12 qubits, depth 10", "dense"), |b| {
        b.iter(|| dense(12, black_box(&ops)))
    });
    for (name, image, shots) in [("GHZ 1000, 100 shots", ghz(1000), 100), ("GHZ 100, 1000 shots", ghz(100), 1000)] {
        let shared = Arc::new(image.clone());
        group.bench_function(BenchmarkId::new(name, "qmk"), |b| b.iter(|| kernel(black_box(&image), shots)));
        group.bench_function(BenchmarkId::new(name, "device alone"), |b| b.iter(|| device(black_box(&shared), shots)));
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);

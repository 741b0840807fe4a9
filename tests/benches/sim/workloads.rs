//! The workloads, each defined once. The generators are fixed: a workload is the same program on every machine.

use qmk_abi::image::{Clifford1, Clifford2, Cond, CondTerm, Event, Image, Instr, Op, Pauli, Qubit};
use qmk_hal::{Channel, Noise};
use qmk_sim::rng::philox2x64;
use std::f64::consts::{FRAC_PI_2, PI, TAU};
use std::ops::Range;
use std::sync::Arc;

/// A row of the table: a workload, how often it runs, and with whom it is compared.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) shots: u64,
    /// How our side runs it: `device`; through the kernel, `kernel` with the admission of the program, `admitted`
    /// without, `apply` one operation at a time.
    pub(crate) ours: &'static str,
    pub(crate) peers: &'static [&'static str],
    pub(crate) build: Box<dyn Fn() -> Workload>,
}

/// A program with its noise.
pub(crate) struct Workload {
    pub(crate) image: Arc<Image>,
    pub(crate) noise: Arc<[Noise]>,
    /// The same program in the gates that a user of a state-vector simulator would write; empty if none is asked.
    pub(crate) native: Vec<Native>,
}

/// A gate of a state-vector simulator.
pub(crate) enum Native {
    H(Qubit),
    Ry(Qubit, f64),
    /// `diag(1, 1, 1, e^{iθ})`.
    Phase(Qubit, Qubit, f64),
    /// These instructions of the image as one dense matrix on two qubits.
    Block(Qubit, Qubit, Range<usize>),
}

type Build = Arc<dyn Fn() -> Workload>;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |name: String, shots: &[u64], ours, peers, build: Build| {
        rows.extend(shots.iter().map(|&shots| {
            let build = build.clone();
            Row { name: name.clone(), shots, ours, peers, build: Box::new(move || build()) }
        }));
    };
    const CLIFFORD: &[&str] = &["stim"];
    const MAGIC: &[&str] = &["clifft", "symft"];
    const DENSE: &[&str] = &["qulacs", "aer"];
    for n in [100, 1000, 10_000] {
        add(format!("ghz-{n}"), &[1], "device", CLIFFORD, Arc::new(move || ghz(n)));
    }
    for n in [100, 1000] {
        for percent in [0, 1, 5] {
            let build = move || clifford(n, 100, percent as f64 / 100.0);
            add(format!("clifford-{n}-measure-{percent}%"), &[1, 100_000], "device", CLIFFORD, Arc::new(build));
        }
    }
    add("teleport-1000".into(), &[1, 10_000], "device", CLIFFORD, Arc::new(|| teleport(1000)));
    add("surface-7".into(), &[100_000], "device", CLIFFORD, Arc::new(|| surface(7, 7, 1e-3)));
    for n in [100, 1000] {
        // Every near-Clifford simulator pays about 2^t per shot; the largest t bounds the shots.
        for (t, shots) in [(10, 10_000), (16, 10_000), (20, 10_000), (24, 10)] {
            add(format!("magic-{n}-t-{t}"), &[shots], "device", MAGIC, Arc::new(move || magic(n, t)));
        }
    }
    for (name, p) in [("distillation", 0.0), ("distillation-noisy", 1e-2)] {
        add(name.into(), &[100_000], "device", MAGIC, Arc::new(move || distillation(p)));
    }
    for n in [10, 16, 20] {
        add(format!("volume-{n}"), &[1], "device", DENSE, Arc::new(move || volume(n)));
    }
    add("volume-16".into(), &[1000], "device", DENSE, Arc::new(|| volume(16)));
    add("qft-20".into(), &[1], "device", DENSE, Arc::new(|| qft(20)));
    add("layers-12".into(), &[1], "device", &["reference"], Arc::new(|| layers(12, 10)));
    // What the kernel costs on top of the device it drives: with the admission of the program, of a program that was
    // admitted before, and one operation at a time.
    let programs: [(&str, &[u64], Build); 5] = [
        ("ghz-1000", &[1, 100], Arc::new(|| ghz(1000))),
        ("clifford-100-measure-0%", &[1, 100_000], Arc::new(|| clifford(100, 100, 0.0))),
        ("clifford-1000-measure-0%", &[1], Arc::new(|| clifford(1000, 100, 0.0))),
        ("teleport-1000", &[1, 10_000], Arc::new(|| teleport(1000))),
        ("volume-16", &[1], Arc::new(|| volume(16))),
    ];
    for ours in ["kernel", "admitted"] {
        programs.iter().for_each(|(name, shots, build)| add((*name).into(), shots, ours, &["device"], build.clone()));
    }
    add("clifford-100-measure-0%".into(), &[1], "apply", &["perform"], Arc::new(|| clifford(100, 100, 0.0)));
    rows
}

/// Workloads small enough to compare whole distributions of outcomes with the peers.
pub(crate) fn check_rows() -> Vec<Row> {
    let row = |name: &str, peers, build: fn() -> Workload| Row {
        name: name.into(),
        shots: 20_000,
        ours: "device",
        peers,
        build: Box::new(build),
    };
    vec![
        row("ghz-4", &["stim", "clifft", "symft"], || ghz(4)),
        row("clifford-6-measure-20%", &["stim", "clifft", "symft"], || clifford(6, 6, 0.2)),
        row("teleport-3", &["stim", "clifft", "symft"], || teleport(3)),
        row("magic-4-t-6", &["clifft", "symft"], || magic(4, 6)),
        row("magic-10-t-10", &["clifft", "symft"], || magic(10, 10)),
        row("distillation", &["clifft", "symft"], || distillation(0.0)),
        row("distillation-noisy", &["clifft", "symft"], || distillation(0.1)),
        row("surface-3", &["stim", "clifft", "symft"], || surface(3, 3, 0.01)),
        row("volume-4", &["clifft", "symft", "qulacs", "aer"], || volume(4)),
        row("qft-5", &["clifft", "symft", "qulacs", "aer"], || qft(5)),
        row("layers-5", &["clifft", "symft"], || layers(5, 3)),
    ]
}

/// Reproducible randomness of the generators.
struct Rng {
    key: u64,
    counter: u64,
}

impl Rng {
    fn new(key: u64) -> Self {
        Rng { key, counter: 0 }
    }

    fn bits(&mut self) -> u64 {
        self.counter += 1;
        philox2x64([self.counter, 0], self.key)[0]
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.bits() as u128 * n as u128) >> 64) as usize
    }

    fn permutation(&mut self, n: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..n).collect();
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i + 1));
        }
        all
    }
}

#[derive(Default)]
struct Builder {
    image: Image,
    noise: Vec<Noise>,
    native: Vec<Native>,
}

impl Builder {
    /// A program that starts with `n` registers.
    fn new(n: u32) -> Self {
        let mut b = Builder::default();
        b.all((0..n).map(Op::Alloc));
        b
    }

    fn op(&mut self, op: Op) {
        if let Op::Alloc(q) = op {
            self.image.qubits = self.image.qubits.max(q + 1);
        }
        self.image.code.push(Instr { op, cond: None });
    }

    fn all(&mut self, ops: impl IntoIterator<Item = Op>) {
        ops.into_iter().for_each(|op| self.op(op));
    }

    fn h(&mut self, q: Qubit) {
        self.op(Op::Clifford1(Clifford1::H, q));
    }

    fn cx(&mut self, a: Qubit, b: Qubit) {
        self.op(Op::Clifford2(Clifford2::Cnot, a, b));
    }

    fn rotate(&mut self, axis: Pauli, q: Qubit, angle: f64) {
        self.op(Op::Rotate(axis, q, angle));
    }

    /// Measures into the next event.
    fn measure(&mut self, basis: Pauli, q: Qubit) -> Event {
        self.op(Op::Measure(basis, q, self.image.events));
        self.image.events += 1;
        self.image.events - 1
    }

    /// A Pauli gate where the parity of some events is odd.
    fn pauli_if(&mut self, pauli: Pauli, q: Qubit, events: impl IntoIterator<Item = Event>) {
        let start = self.image.terms.len() as u32;
        self.image.terms.extend(events.into_iter().map(CondTerm::Event));
        let count = self.image.terms.len() as u32 - start;
        if count > 1 {
            self.image.terms.push(CondTerm::Xor(count));
        }
        let end = self.image.terms.len() as u32;
        self.image.code.push(Instr { op: Op::Pauli(pauli, q), cond: Some(Cond { start, end }) });
    }

    /// Noise after the instruction added last. A layer of gates gets its noise after the whole layer, which is the
    /// same channel as noise after each gate and the form that peers are fastest with.
    fn noise(&mut self, channels: impl IntoIterator<Item = Channel>) {
        let after = self.image.code.len() as u32 - 1;
        self.noise.extend(channels.into_iter().map(|channel| Noise { after, channel }));
    }

    fn flips(&mut self, qubits: &[Qubit], p: f64) {
        self.noise(qubits.iter().map(|&qubit| Channel::Pauli1 { qubit, p: [p, 0.0, 0.0] }));
    }

    /// A layer of one-qubit Clifford gates and one of two-qubit gates over a random pairing. Equal gates stand
    /// together.
    fn clifford_layer(&mut self, n: u32, rng: &mut Rng) {
        const SINGLE: [Clifford1; 5] = [Clifford1::H, Clifford1::S, Clifford1::Sdg, Clifford1::Sx, Clifford1::Sxdg];
        let chosen: Vec<usize> = (0..n).map(|_| rng.below(SINGLE.len())).collect();
        for (i, &gate) in SINGLE.iter().enumerate() {
            self.all((0..n).filter(|&q| chosen[q as usize] == i).map(|q| Op::Clifford1(gate, q)));
        }
        let order = rng.permutation(n);
        let (cz, cnot): (Vec<_>, Vec<_>) = order.chunks_exact(2).partition(|_| rng.below(2) == 0);
        self.all(cnot.iter().map(|p| Op::Clifford2(Clifford2::Cnot, p[0], p[1])));
        self.all(cz.iter().map(|p| Op::Clifford2(Clifford2::Cz, p[0], p[1])));
    }

    /// Measures and frees `n` registers.
    fn finish(mut self, n: u32) -> Workload {
        for q in 0..n {
            self.measure(Pauli::Z, q);
        }
        self.all((0..n).map(Op::Free));
        Workload { image: Arc::new(self.image), noise: self.noise.into(), native: self.native }
    }
}

fn ghz(n: u32) -> Workload {
    let mut b = Builder::new(n);
    b.h(0);
    for q in 1..n {
        b.cx(q - 1, q);
    }
    b.finish(n)
}

/// Random Clifford layers; after each, every qubit is measured with probability `measured`.
fn clifford(n: u32, depth: u32, measured: f64) -> Workload {
    let mut b = Builder::new(n);
    let rng = &mut Rng::new(n as u64);
    for _ in 0..depth {
        b.clifford_layer(n, rng);
        for q in 0..n {
            if rng.unit() < measured {
                b.measure(Pauli::Z, q);
            }
        }
    }
    b.finish(n)
}

/// Teleports a Clifford state over and over, in three registers. The last outcome is always 0.
fn teleport(hops: u32) -> Workload {
    let mut b = Builder::new(1);
    b.all([Op::Clifford1(Clifford1::H, 0), Op::Clifford1(Clifford1::S, 0)]);
    for hop in 0..hops {
        let [from, here, there] = [0, 1, 2].map(|i| (hop * 2 + i) % 3);
        b.all([Op::Alloc(here), Op::Alloc(there)]);
        b.h(here);
        b.cx(here, there);
        b.cx(from, here);
        let z = b.measure(Pauli::X, from);
        let x = b.measure(Pauli::Z, here);
        b.pauli_if(Pauli::X, there, [x]);
        b.pauli_if(Pauli::Z, there, [z]);
        b.all([Op::Free(from), Op::Free(here)]);
    }
    let last = hops * 2 % 3;
    b.measure(Pauli::Y, last);
    b.op(Op::Free(last));
    b.finish(0)
}

/// T gates on random qubits between random Clifford layers. All of them live until the measurements at the end.
fn magic(n: u32, t: u32) -> Workload {
    let mut b = Builder::new(n);
    let rng = &mut Rng::new((n * 100 + t) as u64);
    for _ in 0..10 {
        b.clifford_layer(n, rng);
    }
    for _ in 0..t {
        b.op(Op::T(rng.below(n as usize) as u32));
        for _ in 0..5 {
            b.clifford_layer(n, rng);
        }
    }
    b.finish(n)
}

/// Fifteen-to-one distillation: half of a Bell pair is encoded in the punctured Reed-Muller code of qubits 0 to 14,
/// each gets a T, with a Z error of probability `p`, and is measured in X. The other half is then `T|+>` up to a Z;
/// a T undoes it, and its outcome, the last, is 0 if all went well.
fn distillation(p: f64) -> Workload {
    let mut b = Builder::new(16);
    let at = |point: u32| point - 1;
    let out = 15;
    // The logical X, all fifteen points, times the four stabilizers: free of the points that select those.
    b.h(out);
    (1u32..16).filter(|j| j.count_ones() % 2 == 0).for_each(|j| b.cx(out, at(j)));
    for pivot in [1, 2, 4, 8] {
        b.h(at(pivot));
        (1..16).filter(|j| j & pivot != 0 && *j != pivot).for_each(|j| b.cx(at(pivot), at(j)));
    }
    b.all((0..15).map(Op::T));
    if p > 0.0 {
        b.noise((0..15).map(|qubit| Channel::Pauli1 { qubit, p: [0.0, 0.0, p] }));
    }
    let parity: Vec<Event> = (0..15).map(|q| b.measure(Pauli::X, q)).collect();
    b.pauli_if(Pauli::Z, out, parity);
    b.op(Op::T(out));
    b.measure(Pauli::X, out);
    b.all((0..16).map(Op::Free));
    b.finish(0)
}

/// Quantum volume: layers of Haar-random SU(4) on a random pairing, as many layers as qubits.
fn volume(n: u32) -> Workload {
    let mut b = Builder::new(n);
    let rng = &mut Rng::new(n as u64);
    for _ in 0..n {
        for pair in rng.permutation(n).chunks_exact(2) {
            let start = b.image.code.len();
            su4(&mut b, pair[0], pair[1], rng);
            b.native.push(Native::Block(pair[0], pair[1], start..b.image.code.len()));
        }
    }
    b.finish(n)
}

/// A Haar-random element of SU(4) in three CNOTs: random local gates around `exp(i(xXX + yYY + zZZ))` (Vatan and
/// Williams 2004), whose coordinates have the density of the Cartan decomposition of the Haar measure.
fn su4(b: &mut Builder, q: Qubit, r: Qubit, rng: &mut Rng) {
    let local = |b: &mut Builder, rng: &mut Rng| {
        for q in [q, r] {
            b.rotate(Pauli::Z, q, rng.unit() * TAU);
            b.rotate(Pauli::Y, q, (1.0 - 2.0 * rng.unit()).acos());
            b.rotate(Pauli::Z, q, rng.unit() * TAU);
        }
    };
    let [x, y, z] = loop {
        let c = [(); 3].map(|_| rng.unit() * PI);
        let gap = |i: usize, j: usize| (2.0 * (c[i] + c[j])).sin() * (2.0 * (c[i] - c[j])).sin();
        if rng.unit() < (gap(0, 1) * gap(1, 2) * gap(0, 2)).abs() {
            break c;
        }
    };
    local(b, rng);
    b.cx(r, q);
    b.rotate(Pauli::Z, q, 2.0 * z - FRAC_PI_2);
    b.rotate(Pauli::Y, r, 2.0 * x - FRAC_PI_2);
    b.cx(q, r);
    b.rotate(Pauli::Y, r, 2.0 * y - FRAC_PI_2);
    b.cx(r, q);
    local(b, rng);
}

/// The quantum Fourier transform, without the final exchange, of a random product state.
fn qft(n: u32) -> Workload {
    let mut b = Builder::new(n);
    let rng = &mut Rng::new(n as u64);
    for q in 0..n {
        let angle = rng.unit() * PI;
        b.rotate(Pauli::Y, q, angle);
        b.native.push(Native::Ry(q, angle));
    }
    for q in (0..n).rev() {
        b.h(q);
        b.native.push(Native::H(q));
        for c in (0..q).rev() {
            let angle = PI / (1u64 << (q - c)) as f64;
            b.native.push(Native::Phase(c, q, angle));
            b.rotate(Pauli::Z, c, angle / 2.0);
            b.rotate(Pauli::Z, q, angle / 2.0);
            b.cx(c, q);
            b.rotate(Pauli::Z, q, -angle / 2.0);
            b.cx(c, q);
        }
    }
    b.finish(n)
}

/// Layers of rotations and CNOTs: no structure that a simulator could use.
fn layers(n: u32, depth: u32) -> Workload {
    let mut b = Builder::new(n);
    for d in 0..depth {
        for q in 0..n {
            b.rotate(Pauli::Y, q, 0.3 + q as f64 + d as f64);
            b.rotate(Pauli::Z, q, 0.7 * q as f64 - d as f64);
        }
        for q in 0..n {
            b.cx(q, (q + 1 + d % (n - 1)) % n);
        }
    }
    b.finish(n)
}

/// The rotated surface code, memory in Z, with circuit-level noise: depolarizing after every gate and on the data
/// before each round, flips after reset and before measurement. The circuit is the one Stim generates.
fn surface(d: u32, rounds: u32, p: f64) -> Workload {
    // Data qubits sit at odd coordinates, measured ones at even.
    let (mut data, mut x_checks, mut z_checks) = (Vec::new(), Vec::new(), Vec::new());
    for x in 0..=d {
        for y in 0..=d {
            if x < d && y < d {
                data.push((2 * x + 1, 2 * y + 1));
            }
            let odd = x % 2 != y % 2;
            if !(odd && (x == 0 || x == d) || !odd && (y == 0 || y == d)) {
                if odd { &mut x_checks } else { &mut z_checks }.push((2 * x, 2 * y));
            }
        }
    }
    let used = [data.clone(), x_checks.clone(), z_checks.clone()].concat();
    let number = |at: (u32, u32)| used.iter().position(|&u| u == at).map(|i| i as Qubit);
    let numbers = |all: &[(u32, u32)]| all.iter().filter_map(|&c| number(c)).collect::<Vec<Qubit>>();
    let [data_q, x_q] = [numbers(&data), numbers(&x_checks)];
    let checks = [x_q.clone(), numbers(&z_checks)].concat();
    // The order in which a check visits its corners keeps errors of its own qubit from spreading along a logical.
    let steps = |order: [(i32, i32); 4], all: &[(u32, u32)], step: usize| -> Vec<(Qubit, Qubit)> {
        let (dx, dy) = order[step];
        let corner = |&(x, y): &(u32, u32)| Some((x.checked_add_signed(dx)?, y.checked_add_signed(dy)?));
        all.iter().filter_map(|c| Some((number(*c)?, number(corner(c)?)?))).collect()
    };
    const X_ORDER: [(i32, i32); 4] = [(1, 1), (-1, 1), (1, -1), (-1, -1)];
    const Z_ORDER: [(i32, i32); 4] = [(1, 1), (1, -1), (-1, 1), (-1, -1)];

    let mut b = Builder::new(used.len() as u32);
    b.flips(&[data_q.clone(), checks.clone()].concat(), p);
    for _ in 0..rounds {
        b.noise(data_q.iter().map(|&q| Channel::depolarize1(q, p)));
        for stage in 0..6 {
            if stage == 0 || stage == 5 {
                x_q.iter().for_each(|&q| b.h(q));
                b.noise(x_q.iter().map(|&q| Channel::depolarize1(q, p)));
            } else {
                let mut pairs = steps(X_ORDER, &x_checks, stage - 1);
                pairs.extend(steps(Z_ORDER, &z_checks, stage - 1).into_iter().map(|(check, data)| (data, check)));
                pairs.iter().for_each(|&(control, target)| b.cx(control, target));
                b.noise(pairs.iter().map(|&(control, target)| Channel::depolarize2(control, target, p)));
            }
        }
        b.flips(&checks, p);
        for &q in &checks {
            b.measure(Pauli::Z, q);
        }
        b.all(checks.iter().map(|&q| Op::Reset(q)));
        b.flips(&checks, p);
    }
    b.flips(&data_q, p);
    for &q in &data_q {
        b.measure(Pauli::Z, q);
    }
    b.all((0..used.len() as u32).map(Op::Free));
    b.finish(0)
}

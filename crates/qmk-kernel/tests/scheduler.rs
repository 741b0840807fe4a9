//! What the scheduler promises: deadlines, shares, bounds on waiting, windows, regions and decoding.

use proptest::prelude::*;
use qmk_kernel::abi::image::{Clifford1, Clifford2, Image, Instr, Op, Pauli, Qubit};
use qmk_kernel::abi::syscall::{Late, Level, NoiseSpec, Patch, Quota, Run, StrandState, StrandStatus};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::hal::{
    Cost, Device, DeviceError, Errors, Features, Interactive, LinkSpec, MachineSpec, Place, Progress, SpaceId,
    SpaceSpec, SpaceStatus, Work, forward_device,
};
use qmk_kernel::{Clock, DomainId, Kernel};
use qmk_testkit::NullDevice;
use qmk_testkit::strategies::runner;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Epochs that `epoch.rs` and `fair_queue.rs` promise with.
const PATIENCE: u64 = 1024;
const AGE: u64 = 64;
const AHEAD: u64 = 16 + 16;

/// Shots of a program that does not end.
const ENDLESS: u64 = 1 << 40;
/// The least that the first tenant's shots take of the device at once.
const LONG: u64 = 1 << 24;

/// A machine that does nothing, and counts the instructions and magic states of each seed. It has costs of its own, in
/// terms of which the bounds are stated, and work of its own, which takes steps without end where a test asks for it.
#[derive(Debug)]
struct Metered {
    inner: NullDevice,
    /// Images, shots and seeds of spaces, by their number.
    spaces: Vec<(Arc<Image>, u64, u64)>,
    issued: Vec<u64>,
    magic: Vec<u64>,
    /// Steps of each seed's shots where there are many, which never end.
    worked: Vec<u64>,
    all_magic: u64,
    /// Space, routes, and the epoch in which they are given back.
    routes: Vec<(SpaceId, u32, u64)>,
    /// Those of each space.
    errors: Vec<NoiseSpec>,
    epoch: Arc<AtomicU64>,
}

fn cost(op: &Op) -> Cost {
    let c = |cycles, magic, routes| Cost { cycles, magic, routes };
    match op {
        Op::Clifford1(..) => c(3, 0, 0),
        Op::Measure(..) => c(1, 0, 0),
        Op::Clifford2(..) => c(2, 0, 1),
        Op::T(_) => c(2, 1, 1),
        Op::Ccz(..) => c(4, 4, 2),
        Op::Rotate(..) => c(46, 23, 1),
        _ => c(0, 0, 0),
    }
}

impl Device for Metered {
    forward_device!(
        inner: NullDevice;
        except Work, cost, errors, open, issue, issue_range, begin_work, finish, begin_close, interactive, snapshots
    );

    type Work = MeteredWork;

    fn cost(&self, op: &Op, _: Patch) -> Cost {
        cost(op)
    }
    /// The rate says how long decoding takes.
    fn errors(&self, _: Patch, noise: NoiseSpec) -> Result<Errors, String> {
        match noise.level {
            Level::Ideal => Ok(Errors::default()),
            Level::Logical => Ok(Errors { decoding: noise.ppb, warning: None }),
            Level::Physical => Err("no such patches are sampled".into()),
        }
    }
    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        self.errors.push(spec.errors);
        self.spaces.push((spec.image.clone(), spec.shots, spec.seed));
        self.inner.open(spec)
    }
    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        let (image, _, seed) = &self.spaces[space.0 as usize];
        let seed = *seed as usize % self.issued.len();
        self.issued[seed] += 1;
        let cost = cost(&image.code[index as usize].op);
        self.magic[seed] += cost.magic as u64;
        self.all_magic += cost.magic as u64;
        let now = self.epoch.load(Relaxed);
        self.routes.push((space, cost.routes, now + cost.cycles as u64));
        Ok(())
    }
    fn begin_work(&mut self, space: SpaceId) -> Result<MeteredWork, DeviceError> {
        let (_, shots, seed) = self.spaces[space.0 as usize];
        Ok(MeteredWork { space, endless: shots >= ENDLESS, least: if seed == 0 { LONG } else { 0 }, steps: 0 })
    }
    fn finish(&mut self, work: MeteredWork) -> Result<SpaceStatus, DeviceError> {
        let (_, shots, seed) = self.spaces[work.space.0 as usize];
        if !work.endless {
            return Ok(SpaceStatus { shots_done: shots, ..SpaceStatus::default() });
        }
        self.worked[seed as usize] += work.steps;
        Ok(SpaceStatus { steps: work.steps, ..SpaceStatus::default() })
    }
    fn begin_close(&mut self, space: SpaceId) -> Option<MeteredWork> {
        self.routes.retain(|r| r.0 != space);
        self.inner.begin_close(space);
        None
    }
    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = MeteredWork>> {
        Some(self)
    }
}

impl Interactive for Metered {
    type Work = MeteredWork;

    fn begin_perform(&mut self, space: SpaceId, instr: Instr) -> Result<MeteredWork, DeviceError> {
        self.all_magic += cost(&instr.op).magic as u64;
        Ok(MeteredWork { space, endless: false, least: 0, steps: 0 })
    }
    fn begin_link(&mut self, a: Place, _: Place, _: [f64; 3]) -> Result<MeteredWork, DeviceError> {
        Ok(MeteredWork { space: a.0, endless: false, least: 0, steps: 0 })
    }
}

/// Shots that are done at once or never.
struct MeteredWork {
    space: SpaceId,
    endless: bool,
    /// The least that a step takes: the first tenant's steps are long ones.
    least: u64,
    steps: u64,
}

impl Work for MeteredWork {
    fn space(&self) -> SpaceId {
        self.space
    }
    fn step(&mut self, budget: u64) -> Progress {
        if !self.endless {
            return Progress::Done;
        }
        self.steps += budget.max(self.least);
        Progress::More
    }
}

/// A kernel, its root, and tenants with a machine capability each.
struct World {
    kernel: Kernel<Metered>,
    root: DomainId,
    machine: Handle,
    tenants: Vec<(DomainId, Handle)>,
    epoch: Arc<AtomicU64>,
}

#[derive(Clone, Copy)]
struct Size {
    qubits: u32,
    routes: u32,
    magic: u32,
    buffer: u32,
    decoded: u32,
}

impl World {
    fn new(size: Size) -> World {
        let spec = MachineSpec {
            logical_qubits: size.qubits,
            routes_per_epoch: size.routes,
            magic_per_epoch: size.magic,
            magic_buffer: size.buffer,
            decoded_per_epoch: size.decoded,
            link: LinkSpec { raw: [1.0, 0.0, 0.0, 0.0], pairs_per_epoch: 1 },
            features: Features::default(),
        };
        let epoch = Arc::new(AtomicU64::new(0));
        let device = Metered {
            inner: NullDevice::with(spec),
            spaces: Vec::new(),
            issued: vec![0; 8],
            magic: vec![0; 8],
            worked: vec![0; 8],
            all_magic: 0,
            errors: vec![],
            routes: vec![],
            epoch: epoch.clone(),
        };
        let (mut kernel, root, machine) = Kernel::boot(device, 1, Quota::UNLIMITED);
        kernel.set_clock(Clock::Lockstep);
        World { kernel, root, machine, tenants: Vec::new(), epoch }
    }

    fn handle(&mut self, who: DomainId, call: Syscall) -> Handle {
        match self.kernel.syscall(who, call) {
            Ok(Reply::Handle(handle)) => handle,
            other => panic!("{other:?}"),
        }
    }

    fn tenant(&mut self, quota: Quota) -> usize {
        let (root, machine) = (self.root, self.machine);
        let handle = self.handle(root, Syscall::CreateDomain { machine, quota });
        let domain = self.kernel.domain_of(root, handle).expect("a domain");
        let into = Some(handle);
        let derive = Syscall::Derive { source: machine, rights: Rights::all(), badge: 0, into, budget: None };
        let machine = self.handle(root, derive);
        self.tenants.push((domain, machine));
        self.tenants.len() - 1
    }

    fn admit(&mut self, tenant: usize, image: &Image) -> Handle {
        let (domain, machine) = self.tenants[tenant];
        self.handle(domain, Syscall::Admit { machine, image: image.clone() })
    }

    fn spawn(&mut self, tenant: usize, image: Handle, run: Run) -> Result<Handle, KernelError> {
        let (domain, machine) = self.tenants[tenant];
        let run = Run { seed: tenant as u64, ..run };
        match self.kernel.syscall(domain, Syscall::Spawn { machine, image, run })? {
            Reply::Handle(handle) => Ok(handle),
            other => panic!("{other:?}"),
        }
    }

    /// Spawns without a deadline.
    fn run(&mut self, tenant: usize, image: Handle, priority: i32) -> Handle {
        self.spawn(tenant, image, Run { priority, ..Run::default() }).expect("room for a strand")
    }

    fn status(&mut self, tenant: usize, strand: Handle) -> StrandStatus {
        match self.kernel.syscall(self.tenants[tenant].0, Syscall::Status { strand }) {
            Ok(Reply::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    fn is_done(&mut self, tenant: usize, strand: Handle) -> bool {
        self.status(tenant, strand).state == StrandState::Done
    }

    /// Advances, and checks that no more is spent than the machine has.
    fn advance(&mut self, epochs: u64) {
        for _ in 0..epochs {
            let now = self.epoch.fetch_add(1, Relaxed) + 1;
            self.kernel.advance();
            let device = self.kernel.device();
            let in_use = |&&(_, _, until): &&(SpaceId, u32, u64)| until > now;
            assert!(device.all_magic <= now * device.spec().magic_per_epoch as u64, "magic states from nowhere");
            let taken: u32 = device.routes.iter().filter(in_use).map(|r| r.1).sum();
            assert!(taken <= device.spec().routes_per_epoch, "routes from nowhere: {taken}");
        }
    }
}

/// Short of nothing.
const AMPLE: Size = Size { qubits: 1000, routes: 1000, magic: 1000, buffer: 4000, decoded: 1000 };

fn image(qubits: u32, ops: impl IntoIterator<Item = Op>) -> Image {
    let all = (0..qubits).map(Op::Alloc).chain(ops).chain((0..qubits).map(Op::Free));
    let code: Vec<Instr> = all.map(|op| Instr { op, cond: None }).collect();
    let events = code.iter().flat_map(|i| i.op.writes()).map(|e| e + 1).max().unwrap_or(0);
    Image { qubits, events, code, terms: Vec::new() }
}

/// `n` times the same on one qubit of each of `width`.
fn chain(width: u32, n: u32, op: fn(Qubit) -> Op) -> Image {
    image(width, (0..n).flat_map(|_| (0..width).map(op)))
}

fn z(q: Qubit) -> Op {
    Op::Rotate(Pauli::Z, q, 0.1)
}

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

/// Keeps `tenant` at `n` strands that have not ended.
fn keep_up(w: &mut World, tenant: usize, image: Handle, n: usize, priority: i32, strands: &mut Vec<Handle>) {
    strands.retain(|&s| !w.is_done(tenant, s));
    while strands.len() < n {
        strands.push(w.run(tenant, image, priority));
    }
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

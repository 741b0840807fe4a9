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
#![allow(clippy::print_stderr, reason = "shows how to repeat a failure")]
#![allow(unsafe_code)]

use qmk_kernel::abi::image::{Clifford1, Clifford2, Cond, CondTerm, Image, Instr, Op, Pauli};
use qmk_kernel::abi::syscall::{Budget, Code, ObjectKind, Patch, Quota, Run};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::hal::{
    Device, DeviceError, Interactive, LinkSpec, Place, Progress, SnapshotId, Snapshots, SpaceId, SpaceSpec,
    SpaceStatus, Work, forward_device,
};
use qmk_kernel::{Clock, DomainId, Kernel};
use qmk_sim::{SimConfig, SimDevice, SimWork};
use qmk_testkit::{Checked, Rng};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const BASE_SEED: u64 = 0x716d_6b00;
/// A sequence takes less than a second.
const SEQUENCE: Duration = Duration::from_secs(30);

/// Bytes that the thread holds, and most that it held since the peak was last set.
#[derive(Clone, Copy)]
struct Memory {
    now: i64,
    peak: i64,
}

thread_local! {
    static MEMORY: Cell<Memory> = const { Cell::new(Memory { now: 0, peak: 0 }) };
}

struct Counting;

fn count(bytes: i64) {
    let _ = MEMORY.try_with(|m| {
        let now = m.get().now + bytes;
        m.set(Memory { now, peak: m.get().peak.max(now) });
    });
}

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a call takes: time, bytes above what there was, and calls of the device.
struct Taken {
    time: Duration,
    bytes: i64,
    work: u64,
}

/// The simulated machine, checked, which counts what it is asked for.
struct Counted {
    inner: Checked<SimDevice>,
    calls: u64,
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("device")
    }
}

impl Counted {
    /// Calls the device, whose memory is no matter of the kernel's.
    fn with<R>(&mut self, f: impl FnOnce(&mut Checked<SimDevice>) -> R) -> R {
        self.calls += 1;
        uncounted(|| f(&mut self.inner))
    }
}

/// Runs the device's code, without what memory it takes.
fn uncounted<R>(f: impl FnOnce() -> R) -> R {
    let before = MEMORY.get();
    let result = f();
    MEMORY.set(before);
    result
}

/// The device's work.
struct Uncounted(SimWork);

impl Work for Uncounted {
    fn space(&self) -> SpaceId {
        self.0.space()
    }
    fn step(&mut self, budget: u64) -> Progress {
        uncounted(|| self.0.step(budget))
    }
}

impl Device for Counted {
    forward_device!(
        inner: Checked<SimDevice>;
        except Work, open, issue, issue_range, undo, begin_work, finish, begin_close, interactive, snapshots
    );

    type Work = Uncounted;

    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        self.with(|d| d.open(spec))
    }
    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        self.with(|d| d.issue(space, index))
    }
    fn undo(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError> {
        self.with(|d| d.undo(space, index))
    }
    fn begin_work(&mut self, space: SpaceId) -> Result<Uncounted, DeviceError> {
        self.with(|d| d.begin_work(space)).map(Uncounted)
    }
    fn finish(&mut self, work: Uncounted) -> Result<SpaceStatus, DeviceError> {
        uncounted(|| self.inner.finish(work.0))
    }
    fn begin_close(&mut self, space: SpaceId) -> Option<Uncounted> {
        self.with(|d| d.begin_close(space)).map(Uncounted)
    }
    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = Uncounted>> {
        Some(self)
    }
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots<Work = Uncounted>> {
        Some(self)
    }
}

impl Interactive for Counted {
    type Work = Uncounted;

    fn begin_perform(&mut self, space: SpaceId, instr: Instr) -> Result<Uncounted, DeviceError> {
        self.with(|d| d.begin_perform(space, instr)).map(Uncounted)
    }
    fn begin_link(&mut self, a: Place, b: Place, errors: [f64; 3]) -> Result<Uncounted, DeviceError> {
        self.with(|d| d.begin_link(a, b, errors)).map(Uncounted)
    }
}

impl Snapshots for Counted {
    type Work = Uncounted;

    fn begin_snapshot(&mut self, space: SpaceId) -> Result<(SnapshotId, Uncounted), DeviceError> {
        let (snapshot, work) = self.with(|d| d.begin_snapshot(space))?;
        Ok((snapshot, Uncounted(work)))
    }
    fn begin_restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<Uncounted, DeviceError> {
        self.with(|d| d.begin_restore(space, snapshot)).map(Uncounted)
    }
    fn forget(&mut self, snapshot: SnapshotId) {
        self.with(|d| Snapshots::forget(d, snapshot));
    }
}

/// Reads numbers from bytes, and zeros behind their end.
struct Bytes<'a> {
    left: &'a [u8],
}

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.left.split_first() else { return 0 };
        self.left = rest;
        first
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn below(&mut self, n: usize) -> usize {
        let wide = (self.byte() as usize) << 8 | self.byte() as usize;
        wide % n.max(1)
    }

    /// Once in so many times.
    fn rarely(&mut self, n: usize) -> bool {
        self.below(n) == 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A plausible number, or one from the edges of its type.
    fn number(&mut self, most: u64) -> u64 {
        match self.below(8) {
            0 => self.pick(&[0, 1, u8::MAX as u64, u16::MAX as u64, 1 << 31, u32::MAX as u64, u64::MAX - 1, u64::MAX]),
            1 => self.u64(),
            _ => self.u64() % most.saturating_add(1).max(1),
        }
    }

    fn small(&mut self, most: u32) -> u32 {
        self.number(most as u64) as u32
    }

    fn float(&mut self) -> f64 {
        match self.below(6) {
            0 => self.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, -0.0, 1e308, 1.0, 0.25]),
            1 => f64::from_bits(self.u64()),
            _ => self.below(1000) as f64 / 1000.0,
        }
    }

    fn handle(&mut self) -> Handle {
        Handle { slot: self.small(20), generation: self.small(3) }
    }

    fn rights(&mut self) -> Rights {
        match self.below(4) {
            0 => Rights::all(),
            1 => Rights::OBJECT,
            2 => Rights::from_bits_truncate(self.u64() as u32),
            _ => Rights::all() - Rights::from_bits_truncate(1 << self.below(26)),
        }
    }

    fn patch(&mut self) -> Patch {
        let code = self.pick(&[Code::Surface, Code::BaconShor, Code::Shyps, Code::Floquet]);
        let distance = if self.rarely(4) { self.pick(&[0, 1, 2, 101, 103, u16::MAX]) } else { 7 };
        Patch { code, distance }
    }

    fn quota(&mut self) -> Quota {
        if self.below(3) == 0 {
            return Quota { instructions: 1 << 16, ..Quota::UNLIMITED };
        }
        Quota {
            qubits: self.small(12),
            physical_qubits: self.number(2000),
            strands: self.small(8),
            instructions: self.small(200).min(1 << 16),
            slots: self.small(40),
            channels: self.small(4),
            checkpoints: self.small(3),
            active: self.small(6),
            held_active: self.small(6),
            magic: self.number(500),
            epochs: self.number(100),
            window: self.pick(&[0, 1, 16, u64::MAX]),
            weight: self.small(4),
        }
    }

    fn op(&mut self, qubits: u32) -> Op {
        let q = |b: &mut Self| if b.rarely(40) { b.small(qubits) } else { b.below(qubits as usize) as u32 };
        let e = |b: &mut Self| b.small(6);
        let pauli = self.pick(&[Pauli::X, Pauli::Y, Pauli::Z]);
        let (a, b, c) = (q(self), q(self), q(self));
        let others = a.wrapping_add(1 + self.below(2) as u32) % qubits.max(1);
        let b = if self.rarely(20) { b } else { others };
        match self.below(20) {
            0 => Op::Alloc(a),
            1 => Op::Free(a),
            2 => Op::Fence,
            3 => Op::Pauli(pauli, a),
            4 | 5 => Op::Clifford1(
                self.pick(&[Clifford1::H, Clifford1::S, Clifford1::Sdg, Clifford1::Sx, Clifford1::Sxdg]),
                a,
            ),
            6..=8 => Op::Clifford2(self.pick(&[Clifford2::Cnot, Clifford2::Cz, Clifford2::Swap]), a, b),
            9 => Op::TeleportCnot(a, b),
            10 => Op::T(a),
            11 => Op::Tdg(a),
            12 => Op::Rotate(pauli, a, self.float()),
            13 => Op::Ccz(a, b, c),
            14 => Op::Toffoli(a, b, c),
            15 => Op::Reset(a),
            16 | 17 => Op::Measure(pauli, a, e(self)),
            18 => {
                if self.below(2) == 0 {
                    Op::MeasureAngle(self.float(), a, e(self))
                } else {
                    Op::MeasureBell(a, b, e(self), e(self))
                }
            }
            _ => Op::InjectT(a),
        }
    }

    /// An image that is likely to be admitted: registers are allocated first, and events are written in order.
    fn image(&mut self) -> Image {
        if self.rarely(6) {
            return self.absurd_image();
        }
        let qubits = 1 + self.below(5) as u32;
        let mut code: Vec<Instr> = (0..qubits).map(|q| Instr { op: Op::Alloc(q), cond: None }).collect();
        let (mut events, mut terms) = (0, Vec::new());
        let mut more = |b: &mut Self, code: &mut Vec<Instr>| {
            let mut op = b.op(qubits);
            if matches!(op, Op::Alloc(_) | Op::Free(_)) {
                return;
            }
            let mut fresh = || {
                events += 1;
                events - 1
            };
            op = match op {
                Op::Measure(p, q, _) => Op::Measure(p, q, fresh()),
                Op::MeasureAngle(t, q, _) => Op::MeasureAngle(t, q, fresh()),
                Op::MeasureBell(x, y, ..) => Op::MeasureBell(x, y, fresh(), fresh()),
                other => other,
            };
            let before = events - op.writes().count() as u32;
            let cond = (before > 0 && op != Op::Fence && b.below(3) == 0).then(|| {
                let start = terms.len() as u32;
                let n = 1 + b.below(3) as u32;
                terms.extend((0..n).map(|_| CondTerm::Event(b.below(before as usize) as u32)));
                terms.push(b.pick(&[CondTerm::And(n), CondTerm::Or(n), CondTerm::Xor(n)]));
                if b.below(4) == 0 {
                    terms.push(CondTerm::Not);
                }
                Cond { start, end: terms.len() as u32 }
            });
            code.push(Instr { op, cond });
        };
        for _ in 0..self.below(24) {
            more(self, &mut code);
        }
        if self.below(2) == 0 {
            code.extend((0..qubits).map(|q| Instr { op: Op::Free(q), cond: None }));
        }
        Image { qubits, events, code, terms }
    }

    /// One that is likely to be refused.
    fn absurd_image(&mut self) -> Image {
        let qubits = self.small(6);
        let cond = |b: &mut Self| (b.below(3) == 0).then(|| Cond { start: b.small(6), end: b.small(8) });
        let code = (0..self.below(12)).map(|_| Instr { op: self.op(6), cond: cond(self) }).collect();
        let terms = (0..self.below(8)).map(|_| {
            let n = self.small(3);
            self.pick(&[CondTerm::Event(n), CondTerm::Not, CondTerm::And(n), CondTerm::Or(n), CondTerm::Xor(n)])
        });
        let terms = terms.collect();
        Image { qubits, events: self.small(6), code, terms }
    }
}

struct Fuzz<'a> {
    kernel: Kernel<Counted>,
    bytes: Bytes<'a>,
    root: DomainId,
    domains: Vec<DomainId>,
    /// Every handle that was ever seen.
    seen: Vec<Handle>,
    lockstep: bool,
    /// Most of what is made is left to be.
    gentle: bool,
    /// The root's capability, which stays to the end.
    machine: Handle,
    /// Calls that succeeded.
    done: Done,
}

/// How often calls succeeded, by name.
type Done = BTreeMap<String, u64>;

impl Fuzz<'_> {
    /// A handle of a domain to an object of this kind; now and then foreign, stale, of another kind or of nothing.
    fn handle(&mut self, domain: DomainId, kind: ObjectKind) -> Handle {
        let of = |k: &Kernel<Counted>, d, all: bool| -> Vec<Handle> {
            k.capabilities(d).into_iter().filter(|c| all || c.1 == kind).map(|c| c.0).collect()
        };
        let from = match self.bytes.below(32) {
            0 => return self.bytes.handle(),
            1 => self.seen.clone(),
            2 => of(&self.kernel, self.bytes.pick(&self.domains), false),
            3 => of(&self.kernel, domain, true),
            _ => of(&self.kernel, domain, false),
        };
        if from.is_empty() { self.bytes.handle() } else { self.bytes.pick(&from) }
    }

    fn maybe(&mut self, domain: DomainId, kind: ObjectKind) -> Option<Handle> {
        (self.bytes.below(2) == 0).then(|| self.handle(domain, kind))
    }

    fn shots(&mut self) -> u64 {
        // In lockstep an epoch runs all shots.
        let shots = self.bytes.number(20);
        if self.lockstep { shots % 64 } else { shots }
    }

    fn run(&mut self, d: DomainId) -> Run {
        use ObjectKind::{Context, Region};
        Run {
            shots: self.shots(),
            seed: self.bytes.u64(),
            priority: self.bytes.pick(&[0, 0, 1, -1, i32::MIN, i32::MAX]),
            deadline: match self.bytes.below(4) {
                0 => Some(self.bytes.number(2000)),
                1 => Some(self.bytes.pick(&[0, 1, 1 << 16, 1 << 17, u64::MAX])),
                _ => None,
            },
            context: if self.bytes.below(3) == 0 { Some(self.handle(d, Context)) } else { None },
            region: if self.bytes.below(3) == 0 { Some(self.handle(d, Region)) } else { None },
            patch: self.bytes.patch(),
            noise: Default::default(),
        }
    }

    /// A call that `d` might make.
    fn call(&mut self, d: DomainId) -> Syscall {
        use ObjectKind::*;
        let any = self.bytes.pick(&[Machine, Domain, Image, Strand, Qubit, Context, Region, Endpoint, Checkpoint]);
        let choice = self.bytes.below(64);
        let choice =
            if self.gentle && matches!(choice, 0 | 1 | 10..=13) && self.bytes.below(8) > 0 { 60 } else { choice };
        match choice {
            0..=3 => self.creation(d, choice),
            4..=9 => {
                let kind = if self.bytes.below(2) == 0 { Machine } else { any };
                Syscall::Derive {
                    source: self.handle(d, kind),
                    rights: self.bytes.rights(),
                    badge: self.bytes.u64() % 3,
                    into: self.maybe(d, Domain),
                    budget: (self.bytes.below(3) == 0).then(|| Budget {
                        strands: self.bytes.small(4),
                        qubits: self.bytes.small(8),
                        magic: self.bytes.number(200),
                    }),
                }
            }
            10 => Syscall::Revoke { target: self.handle(d, any) },
            11..=13 => Syscall::Delete { target: self.handle(d, any) },
            14 => Syscall::Inspect { target: self.handle(d, any) },
            15..=18 => Syscall::Admit { machine: self.handle(d, Machine), image: self.bytes.image() },
            19..=26 => {
                Syscall::Spawn { machine: self.handle(d, Machine), image: self.handle(d, Image), run: self.run(d) }
            }
            27 => Syscall::Status { strand: self.handle(d, Strand) },
            28 | 29 => Syscall::Outcomes {
                strand: self.handle(d, Strand),
                first: self.bytes.number(3),
                count: self.bytes.small(10),
            },
            30 | 31 => Syscall::Pause { strand: self.handle(d, Strand), paused: self.bytes.below(2) == 0 },
            32 | 33 => Syscall::Migrate { strand: self.handle(d, Strand), region: self.maybe(d, Region) },
            34 | 35 => Syscall::Rollback { machine: self.handle(d, Machine), strand: self.maybe(d, Strand) },
            36..=38 => Syscall::Checkpoint { machine: self.handle(d, Machine), strand: self.maybe(d, Strand) },
            39 => Syscall::CheckpointStatus { checkpoint: self.handle(d, Checkpoint) },
            40 | 41 => Syscall::Restore { checkpoint: self.handle(d, Checkpoint) },
            42..=45 => Syscall::TakeQubit { machine: self.handle(d, Machine) },
            46 => Syscall::FreeQubit { qubit: self.handle(d, Qubit), uncompute: self.maybe(d, Machine) },
            47..=52 => Syscall::Apply {
                machine: self.handle(d, Machine),
                op: self.bytes.op(3),
                qubits: (0..self.bytes.pick(&[3, 3, 3, 0, 2, 9])).map(|_| self.handle(d, Qubit)).collect(),
            },
            53..=62 => self.channel_call(d, choice),
            _ => Syscall::Usage,
        }
    }

    /// A call that needs `ADMIN`.
    fn creation(&mut self, d: DomainId, choice: usize) -> Syscall {
        use ObjectKind::Machine;
        match choice {
            0 | 1 => Syscall::CreateDomain { machine: self.handle(d, Machine), quota: self.bytes.quota() },
            2 => Syscall::CreateContext {
                machine: self.handle(d, Machine),
                weight: self.bytes.small(4),
                epochs: self.bytes.number(50),
                window: self.bytes.pick(&[0, 1, 10, u64::MAX]),
            },
            _ => Syscall::CreateRegion {
                machine: self.handle(d, Machine),
                qubits: self.bytes.small(6),
                routes: self.bytes.small(2),
                magic: self.bytes.small(1),
            },
        }
    }

    fn channel_call(&mut self, d: DomainId, choice: usize) -> Syscall {
        use ObjectKind::{Domain, Endpoint, Machine, Qubit};
        match choice {
            53..=55 => Syscall::Offer {
                machine: self.handle(d, Machine),
                qubit: self.handle(d, Qubit),
                to: self.handle(d, Domain),
                fidelity: self.bytes.float(),
            },
            56..=58 => Syscall::Accept {
                machine: self.handle(d, Machine),
                endpoint: self.handle(d, Endpoint),
                qubit: self.handle(d, Qubit),
            },
            59 => Syscall::Teleport {
                machine: self.handle(d, Machine),
                endpoint: self.handle(d, Endpoint),
                qubit: self.handle(d, Qubit),
            },
            60 => Syscall::SwapEntanglement {
                machine: self.handle(d, Machine),
                endpoints: [self.handle(d, Endpoint), self.handle(d, Endpoint)],
            },
            61 => Syscall::CloseChannel { endpoint: self.handle(d, Endpoint) },
            _ => Syscall::ChannelStatus { endpoint: self.handle(d, Endpoint) },
        }
    }

    /// A call that bytes happen to be, if they are one.
    fn raw(&mut self, d: DomainId) -> Option<Syscall> {
        let mut bytes = match self.bytes.below(3) {
            // A call of the caller's own with a few bytes changed.
            0 => postcard::to_allocvec(&self.call(d)).ok()?,
            _ => (0..64).map(|_| self.bytes.byte() >> self.bytes.pick(&[0, 1, 1, 4])).collect(),
        };
        for _ in 0..self.bytes.below(4) {
            let at = self.bytes.below(bytes.len());
            bytes[at] = self.bytes.byte();
        }
        // Two thirds of all bytes are numbers of no call.
        bytes[0] = if self.bytes.below(8) == 0 { bytes[0] } else { bytes[0] % 31 };
        let (mut call, _) = postcard::take_from_bytes::<Syscall>(&bytes).ok()?;
        // In lockstep an epoch runs all shots.
        if let Syscall::Spawn { run, .. } = &mut call
            && self.lockstep
        {
            run.shots %= 64;
        }
        // More registers than a state vector has room for would be the machine's matter.
        if let Syscall::CreateDomain { quota, .. } = &mut call {
            quota.instructions = quota.instructions.min(1 << 16);
        }
        Some(call)
    }

    fn perform(&mut self, d: DomainId, call: Syscall) -> Result<Reply, KernelError> {
        let size = postcard::to_allocvec(&call).map_or(0, |b| b.len()) as i64;
        let text = format!("{d:?} {call:?}");
        if std::env::var_os("QMK_FUZZ_SEED").is_some() {
            eprintln!("{text}");
        }
        let (reply, taken) = self.measure(|k| k.syscall(d, call));
        // A rollback and an uncomputation are as long as what was done before, a deletion ends what was there.
        assert!(taken.work <= 8192, "{text}: {} device calls", taken.work);
        assert!(taken.time < Duration::from_secs(4), "{text}: {:?}", taken.time);
        // An outcome may be a MiB long, a plan covers 2^16 epochs, and tables double.
        let most = (8 << 20) + 1024 * size;
        assert!(taken.bytes <= most, "{text}: {} bytes", taken.bytes);
        if let Ok(reply) = &reply {
            let name = text.split(' ').nth(1).unwrap_or_default().to_string();
            *self.done.entry(name).or_default() += 1;
            match reply {
                Reply::Handle(h) => self.seen.push(*h),
                Reply::Offered { endpoint, invitation } => self.seen.extend([*endpoint, *invitation]),
                _ => {}
            }
        }
        reply
    }

    fn measure<R>(&mut self, f: impl FnOnce(&mut Kernel<Counted>) -> R) -> (R, Taken) {
        let calls = self.kernel.device().calls;
        let before = MEMORY.get();
        MEMORY.set(Memory { peak: before.now, ..before });
        let start = Instant::now();
        let result = f(&mut self.kernel);
        let time = start.elapsed();
        let bytes = MEMORY.get().peak - before.now;
        (result, Taken { time, bytes, work: self.kernel.device().calls - calls })
    }

    fn step(&mut self) {
        match self.bytes.below(16) {
            0..=2 => {
                for _ in 0..1 + self.bytes.below(12) {
                    if std::env::var_os("QMK_FUZZ_SEED").is_some() {
                        eprintln!("advance");
                    }
                    let (_, taken) = self.measure(|k| k.advance());
                    assert!(taken.time < Duration::from_secs(4), "an epoch took {:?}", taken.time);
                    assert!(taken.bytes < 32 << 20, "an epoch took {} bytes", taken.bytes);
                }
            }
            3 if !self.lockstep => {
                let pace = self.bytes.pick(&[0, 1, 100, 1 << 11, 1 << 14, 1 << 16]);
                self.kernel.set_clock(Clock::FreeRunning { pace });
            }
            n => {
                let d = if self.bytes.below(3) == 0 { self.root } else { self.bytes.pick(&self.domains) };
                let d = if self.bytes.rarely(200) { DomainId(self.bytes.small(9)) } else { d };
                let call = if n == 4 { self.raw(d) } else { Some(self.call(d)) };
                let Some(call) = call else { return };
                if d == self.root && call == (Syscall::Delete { target: self.machine }) {
                    return;
                }
                match (call.clone(), self.perform(d, call)) {
                    (Syscall::CreateDomain { machine, .. }, Ok(Reply::Handle(made))) => {
                        self.domains.extend(self.kernel.domain_of(d, made));
                        self.introduce(d, machine, made);
                    }
                    (Syscall::Offer { to, .. }, Ok(Reply::Offered { invitation, .. })) => {
                        if let Some(other) = self.kernel.domain_of(d, to) {
                            self.answer(other, invitation);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Gives a new domain the machine, and lets it know others and others know it.
    fn introduce(&mut self, d: DomainId, machine: Handle, made: Handle) {
        let derive =
            |source, into| Syscall::Derive { source, rights: Rights::all(), badge: 0, into: Some(into), budget: None };
        let rights = self.kernel.capabilities(d).into_iter().find(|c| c.0 == machine).map_or(Rights::all(), |c| c.2);
        let drop = if self.bytes.below(3) == 0 { Rights::ADMIN } else { Rights::empty() };
        let mut give = derive(machine, made);
        if let Syscall::Derive { rights: keep, .. } = &mut give {
            *keep = rights - drop;
        }
        let _ = self.perform(d, give);
        let known = self.handle(d, ObjectKind::Domain);
        for (source, into) in [(known, made), (made, known)] {
            let mut give = derive(source, into);
            if let Syscall::Derive { rights, .. } = &mut give {
                *rights = Rights::OBJECT;
            }
            let _ = self.perform(d, give);
        }
    }

    /// Most offers are accepted, for which chance alone would take long.
    fn answer(&mut self, domain: DomainId, endpoint: Handle) {
        if self.bytes.below(4) == 0 {
            return;
        }
        let machine = self.handle(domain, ObjectKind::Machine);
        if self.bytes.below(4) > 0 {
            let _ = self.perform(domain, Syscall::TakeQubit { machine });
        }
        let qubit = self.handle(domain, ObjectKind::Qubit);
        let _ = self.perform(domain, Syscall::Accept { machine, endpoint, qubit });
        if self.bytes.below(2) == 0 {
            for _ in 0..self.bytes.below(64) {
                self.kernel.advance();
            }
            let endpoints = [endpoint, self.handle(domain, ObjectKind::Endpoint)];
            let _ = self.perform(domain, Syscall::SwapEntanglement { machine, endpoints });
        }
    }

    /// What is free and what domains use is all there is.
    fn check(&mut self) {
        let total = self.kernel.device().spec().logical_qubits;
        let mut held = 0;
        for d in self.domains.clone() {
            if let Ok(Reply::Usage { used, .. }) = self.kernel.syscall(d, Syscall::Usage) {
                assert_eq!(used.slots as usize, self.kernel.capabilities(d).len(), "slots of {d:?}");
                held += used.qubits;
            }
        }
        // Domains that are being taken down hold theirs to the end.
        assert!(
            self.kernel.free_qubits() + held <= total,
            "{} free and {held} held of {total}",
            self.kernel.free_qubits()
        );
        assert!(self.kernel.device().inner.kept()[0] <= 4096);
    }

    fn revoke(&mut self, target: Handle, itself: bool) {
        for _ in 0..1000 {
            let call = if itself { Syscall::Delete { target } } else { Syscall::Revoke { target } };
            match self.perform(self.root, call) {
                Ok(Reply::Deleted { count, more }) => {
                    assert!(count <= 1024);
                    if !more {
                        return;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("there is no end to it");
    }

    /// Revokes everything; nothing may be left.
    fn end(&mut self, machine: Handle) {
        self.revoke(machine, false);
        // Other first capabilities there are none.
        let left = self.kernel.capabilities(self.root);
        assert_eq!(left.iter().map(|c| c.0).collect::<Vec<_>>(), [machine]);
        assert_eq!(self.kernel.free_qubits(), self.kernel.device().spec().logical_qubits);
        assert_eq!(self.kernel.device().inner.kept(), [0, 0], "spaces are open, or states saved");
        let Ok(Reply::Usage { used, .. }) = self.kernel.syscall(self.root, Syscall::Usage) else { panic!("no root") };
        let rest =
            (used.qubits, used.physical_qubits, used.strands, used.instructions, used.channels, used.checkpoints);
        assert_eq!((rest, used.slots), ((0, 0, 0, 0, 0, 0), 1));
        // The root holds one capability, and nothing is in the kernel's tables that no capability names.
        self.kernel.audit().unwrap();
        let stats = self.kernel.stats();
        assert_eq!((stats.objects, stats.domains, stats.regions.len()), (1, 1, 1));
        // And it works.
        let report = self.kernel.advance();
        assert!(!report.busy);
        if self.bytes.below(4) == 0 {
            self.revoke(machine, true);
            assert!(self.kernel.capabilities(self.root).is_empty());
        }
    }
}

/// Plays a sequence; returns which calls succeeded.
fn run(bytes: &[u8]) -> Done {
    let mut bytes = Bytes { left: bytes };
    let logical_qubits = bytes.pick(&[1, 4, 12, 24, 40]);
    let raw = bytes.pick(&[[0.95, 0.02, 0.02, 0.01], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.7, 0.1, 0.1, 0.1]]);
    let config = SimConfig {
        logical_qubits,
        routes_per_epoch: bytes.pick(&[0, 2, 8]),
        magic_per_epoch: bytes.pick(&[0, 1, 8, 64]),
        magic_buffer: bytes.pick(&[None, None, Some(0), Some(30), Some(u32::MAX)]),
        decoded_per_epoch: bytes.pick(&[None, None, Some(0), Some(logical_qubits / 2)]),
        link: LinkSpec { raw, pairs_per_epoch: bytes.pick(&[0, 1, 16]) },
        snapshot: !bytes.rarely(6),
        threads: 1,
    };
    let quota =
        Quota { weight: bytes.small(3), instructions: 1 << 16, active: 10, held_active: 10, ..Quota::UNLIMITED };
    let device = Counted { inner: Checked::over(SimDevice::new(config)), calls: 0 };
    let (mut kernel, root, machine) = Kernel::boot(device, bytes.u64(), quota);
    let lockstep = bytes.below(3) == 0;
    let gentle = bytes.below(2) == 0;
    let clock = if lockstep { Clock::Lockstep } else { Clock::FreeRunning { pace: 1 << 12 } };
    kernel.set_clock(clock);
    let mut fuzz = Fuzz {
        kernel,
        bytes,
        root,
        domains: vec![root],
        seen: vec![machine],
        lockstep,
        gentle,
        machine,
        done: Done::new(),
    };
    let quota = Quota { instructions: 1 << 16, active: 10, held_active: 10, ..Quota::UNLIMITED };
    for _ in 0..fuzz.bytes.below(4) {
        let Ok(Reply::Handle(made)) = fuzz.perform(root, Syscall::CreateDomain { machine, quota }) else { continue };
        if let Some(domain) = fuzz.kernel.domain_of(root, made) {
            fuzz.domains.push(domain);
            fuzz.introduce(root, machine, made);
        }
    }
    let mut steps = 0u32;
    while !fuzz.bytes.left.is_empty() {
        fuzz.step();
        steps += 1;
        if steps.is_multiple_of(32) {
            fuzz.check();
        }
    }
    fuzz.end(machine);
    fuzz.done
}

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

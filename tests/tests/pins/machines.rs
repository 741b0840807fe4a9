//! Three machines, each with a log of its own: tenants that share it, with jobs that fail; qubits held one by one,
//! channels and checkpoints; errors at all levels.
//!
//! All run in lockstep, so that a log is the same on any host and with any number of threads.

use crate::recordings;
use qmk_abi::image::{Clifford1, Clifford2, Cond, CondTerm, Image, Instr, Op, Pauli};
use qmk_abi::syscall::{Budget, Code, Level, NoiseSpec, ObjectKind, Patch, Quota, Run};
use qmk_abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_hal::Device;
use qmk_kernel::{Clock, DomainId};
use qmk_qec::machine::NoisyDevice;
use qmk_services::replay::{Digest, Recorder, replay};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::Rng;
use std::collections::BTreeMap;

/// Random programs.
trait Programs {
    fn pauli(&mut self) -> Pauli;
    fn gate(&mut self, n: usize) -> Op;
    fn image(&mut self) -> Image;
}

impl Programs for Rng {
    fn pauli(&mut self) -> Pauli {
        [Pauli::X, Pauli::Y, Pauli::Z][self.below(3)]
    }

    /// An operation on registers below `n >= 3`, without outcomes.
    fn gate(&mut self, n: usize) -> Op {
        let a = self.below(n) as u32;
        let (b, c) = ((a + 1) % n as u32, (a + 2) % n as u32);
        match self.below(13) {
            0 | 1 => Op::Clifford1(Clifford1::H, a),
            2 => Op::Clifford1([Clifford1::S, Clifford1::Sdg, Clifford1::Sx, Clifford1::Sxdg][self.below(4)], a),
            3 | 4 => Op::Clifford2([Clifford2::Cnot, Clifford2::Cz, Clifford2::Swap][self.below(3)], a, b),
            5 => Op::Pauli(self.pauli(), a),
            6 => Op::TeleportCnot(a, b),
            7 => Op::T(a),
            8 => Op::Tdg(a),
            9 => Op::Rotate(self.pauli(), a, 0.3),
            10 => Op::Toffoli(a, b, c),
            11 => Op::Reset(a),
            _ => Op::InjectT(a),
        }
    }

    /// Measurements that later instructions depend on, and fences.
    fn image(&mut self) -> Image {
        let n = 3 + self.below(4);
        let (mut code, mut terms, mut events) = (Vec::new(), Vec::new(), 0);
        let plain = |op| Instr { op, cond: None };
        code.extend((0..n as u32).map(|q| plain(Op::Alloc(q))));
        for _ in 0..5 + self.below(20) {
            let (op, q) = (self.gate(n), self.below(n) as u32);
            match self.below(8) {
                0 => code.push(plain(Op::Fence)),
                1 => {
                    code.push(plain(Op::Measure(self.pauli(), q, events)));
                    let start = terms.len() as u32;
                    terms.push(CondTerm::Event(events));
                    if events > 0 && self.one_in(2) {
                        terms.extend([CondTerm::Event(events - 1), CondTerm::Xor(2)]);
                    }
                    let cond = Some(Cond { start, end: terms.len() as u32 });
                    code.push(Instr { op: Op::Pauli(self.pauli(), (q + 1) % n as u32), cond });
                    events += 1;
                }
                2 => {
                    code.push(plain(Op::MeasureBell(q, (q + 1) % n as u32, events, events + 1)));
                    events += 2;
                }
                3 => {
                    code.push(plain(Op::MeasureAngle(0.9, q, events)));
                    events += 1;
                }
                _ => code.push(plain(op)),
            }
        }
        code.extend((0..n as u32).map(|q| plain(Op::Measure(Pauli::Z, q, events + q))));
        code.extend((0..n as u32).map(|q| plain(Op::Free(q))));
        let mut image = Image { qubits: n as u32, events: events + n as u32, code, terms };
        if self.one_in(12) {
            // One that is not admitted.
            image.code.push(plain(Op::T(0)));
        }
        image
    }
}

struct Scene<D> {
    recorder: Recorder<D, Vec<u8>>,
    root: DomainId,
    machine: Handle,
    dice: Rng,
    tenants: Vec<DomainId>,
    /// How often each kind of call succeeded, and each kind of refusal came.
    done: BTreeMap<String, u32>,
}

const ANYTHING: Handle = Handle { slot: 1 << 20, generation: 1 };

impl<D: Device> Scene<D> {
    fn begin(device: D, seed: u64, quotas: &[Quota]) -> Self {
        let (recorder, root, machine) = Recorder::boot(device, seed, Quota::UNLIMITED, Vec::new()).expect("a log");
        let done = BTreeMap::new();
        let mut s = Scene { recorder, root, machine, dice: Rng::new(seed), tenants: Vec::new(), done };
        s.recorder.set_clock(Clock::Lockstep).expect("the log takes it");
        let mut known = Vec::new();
        for &quota in quotas {
            let domain = s.made(root, Syscall::CreateDomain { machine, quota });
            s.derive(machine, Rights::all() - Rights::ADMIN, domain, None);
            s.tenants.extend(s.recorder.kernel().domain_of(root, domain));
            known.push(domain);
        }
        for (i, &d) in known.iter().enumerate() {
            s.derive(known[(i + 1) % known.len()], Rights::READ | Rights::OFFER, d, None);
        }
        s
    }

    fn derive(&mut self, source: Handle, rights: Rights, into: Handle, budget: Option<Budget>) {
        let root = self.root;
        self.made(root, Syscall::Derive { source, rights, badge: 5, into: Some(into), budget });
    }

    fn call(&mut self, d: DomainId, call: Syscall) -> Result<Reply, KernelError> {
        let word = |text: String| text.split([' ', '(', '{']).next().unwrap_or_default().to_string();
        let name = word(format!("{call:?}"));
        let reply = self.recorder.syscall(d, call).expect("the log takes it");
        let kind = match &reply {
            Ok(Reply::Status(s)) => format!("{:?}", s.state),
            Ok(_) => name,
            Err(e) => format!("no {}", word(format!("{e:?}"))),
        };
        *self.done.entry(kind).or_default() += 1;
        reply
    }

    fn made(&mut self, d: DomainId, call: Syscall) -> Handle {
        match self.call(d, call) {
            Ok(Reply::Handle(h)) => h,
            other => panic!("{other:?}"),
        }
    }

    fn advance(&mut self, epochs: usize) {
        for _ in 0..epochs {
            self.recorder.advance().expect("the log takes it");
        }
    }

    /// A capability of a tenant, or one that it does not have.
    fn any(&mut self, d: DomainId, kind: ObjectKind) -> Handle {
        let all = self.recorder.kernel().capabilities(d);
        let all: Vec<Handle> = all.into_iter().filter(|c| c.1 == kind).map(|c| c.0).collect();
        if self.dice.one_in(40) {
            return ANYTHING;
        }
        all.get(self.dice.below(all.len())).copied().unwrap_or(ANYTHING)
    }

    fn tenant(&mut self) -> DomainId {
        self.tenants[self.dice.below(self.tenants.len())]
    }

    /// A call about programs.
    fn job(&mut self, run: impl FnOnce(&mut Rng) -> Run) {
        use ObjectKind::{Context, Image, Machine, Region, Strand};
        let d = self.tenant();
        let machine = self.any(d, Machine);
        let strand = self.any(d, Strand);
        let call = match self.dice.below(20) {
            0..=2 => Syscall::Admit { machine, image: self.dice.image() },
            3..=7 => {
                let mut run = run(&mut self.dice);
                run.context = self.dice.one_in(4).then(|| self.any(d, Context));
                run.region = self.dice.one_in(4).then(|| self.any(d, Region));
                Syscall::Spawn { machine, image: self.any(d, Image), run }
            }
            8 | 9 => Syscall::Status { strand },
            10 | 11 => Syscall::Outcomes { strand, first: 0, count: 1000 },
            12 => Syscall::Delete { target: strand },
            13 => Syscall::Pause { strand, paused: self.dice.one_in(5) },
            14 if self.dice.one_in(2) => {
                Syscall::Migrate { strand, region: self.dice.one_in(2).then(|| self.any(d, Region)) }
            }
            15 if self.dice.one_in(3) => Syscall::Rollback { machine, strand: Some(strand) },
            16 => Syscall::Inspect { target: [strand, machine][self.dice.below(2)] },
            17 => Syscall::Usage,
            _ => {
                let epochs = 1 + self.dice.below(20);
                return self.advance(epochs);
            }
        };
        // Many are refused; that is part of the run.
        let _ = self.call(d, call);
    }

    /// A call about qubits, channels and checkpoints.
    fn interactive(&mut self) {
        use ObjectKind::{Checkpoint, Domain, Endpoint, Machine, Qubit};
        let d = self.tenant();
        let machine = self.any(d, Machine);
        let qubits: Vec<Handle> = (0..3).map(|_| self.any(d, Qubit)).collect();
        let (qubit, endpoint) = (qubits[0], self.any(d, Endpoint));
        let call = match self.dice.below(30) {
            0..=3 => Syscall::TakeQubit { machine },
            4 | 5 => Syscall::FreeQubit { qubit, uncompute: self.dice.one_in(2).then_some(machine) },
            6..=12 => Syscall::Apply { machine, op: self.dice.gate(3), qubits },
            13 | 14 => {
                let op = match self.dice.below(3) {
                    0 => Op::Measure(self.dice.pauli(), 0, 0),
                    1 => Op::MeasureAngle(0.4, 1, 0),
                    _ => Op::MeasureBell(0, 1, 0, 1),
                };
                Syscall::Apply { machine, op, qubits }
            }
            15..=17 => {
                let fidelity = [0.9, 0.98, 0.999, 1.0, 0.1][self.dice.below(5)];
                Syscall::Offer { machine, qubit, to: self.any(d, Domain), fidelity }
            }
            18..=20 => Syscall::Accept { machine, endpoint, qubit },
            21 => Syscall::Teleport { machine, endpoint, qubit },
            22 => Syscall::SwapEntanglement { machine, endpoints: [endpoint, self.any(d, Endpoint)] },
            23 => Syscall::CloseChannel { endpoint },
            24 => Syscall::ChannelStatus { endpoint },
            25 => Syscall::Checkpoint { machine, strand: None },
            26 => Syscall::Restore { checkpoint: self.any(d, Checkpoint) },
            27 => Syscall::Rollback { machine, strand: None },
            28 => Syscall::Delete { target: [qubit, endpoint][self.dice.below(2)] },
            _ => {
                let epochs = 1 + self.dice.below(8);
                return self.advance(epochs);
            }
        };
        let _ = self.call(d, call);
    }

    /// Channels from the first tenant to the second and from there to the third, joined by the second and used.
    fn swap(&mut self) {
        let tenants = self.tenants.clone();
        let mut machines = Vec::new();
        for &d in &tenants {
            let all = self.recorder.kernel().capabilities(d);
            machines.extend(all.into_iter().find(|c| c.1 == ObjectKind::Machine).map(|c| c.0));
        }
        let mut ends = Vec::new();
        for i in 0..2 {
            let all = self.recorder.kernel().capabilities(tenants[i]);
            let to = all.into_iter().find(|c| c.1 == ObjectKind::Domain).expect("a neighbour").0;
            let near = self.made(tenants[i], Syscall::TakeQubit { machine: machines[i] });
            let far = self.made(tenants[i + 1], Syscall::TakeQubit { machine: machines[i + 1] });
            let offer = Syscall::Offer { machine: machines[i], qubit: near, to, fidelity: 0.97 };
            let Ok(Reply::Offered { endpoint, invitation }) = self.call(tenants[i], offer) else { panic!("no offer") };
            let accept = Syscall::Accept { machine: machines[i + 1], endpoint: invitation, qubit: far };
            self.call(tenants[i + 1], accept).expect("an offer");
            ends.push([endpoint, invitation]);
        }
        self.advance(20);
        let near = self.made(tenants[0], Syscall::TakeQubit { machine: machines[0] });
        let far = self.made(tenants[1], Syscall::TakeQubit { machine: machines[1] });
        let all = self.recorder.kernel().capabilities(tenants[0]);
        let to = all.into_iter().find(|c| c.1 == ObjectKind::Domain).expect("a neighbour").0;
        let offer = Syscall::Offer { machine: machines[0], qubit: near, to, fidelity: 1.0 };
        let Ok(Reply::Offered { invitation: endpoint, .. }) = self.call(tenants[0], offer) else { panic!("no offer") };
        let accept = Syscall::Accept { machine: machines[1], endpoint, qubit: far };
        self.call(tenants[1], accept).expect_err("no such fidelity");
        let join = Syscall::SwapEntanglement { machine: machines[1], endpoints: [ends[0][1], ends[1][0]] };
        self.call(tenants[1], join).expect("two pairs");
        let qubit = self.made(tenants[0], Syscall::TakeQubit { machine: machines[0] });
        let (machine, endpoint) = (machines[0], ends[0][0]);
        self.call(tenants[0], Syscall::Teleport { machine, endpoint, qubit }).expect("a joined pair");
    }

    /// Reads what there is, takes all back, and ends the log.
    fn end(mut self) -> Recorded {
        for d in self.tenants.clone() {
            for (strand, kind, _) in self.recorder.kernel().capabilities(d) {
                if kind == ObjectKind::Strand {
                    let _ = self.call(d, Syscall::Pause { strand, paused: false });
                }
            }
        }
        self.advance(1500);
        for d in self.tenants.clone() {
            for (strand, kind, _) in self.recorder.kernel().capabilities(d) {
                if kind == ObjectKind::Strand {
                    let _ = self.call(d, Syscall::Status { strand });
                    let _ = self.call(d, Syscall::Outcomes { strand, first: 0, count: 1000 });
                }
            }
            let _ = self.call(d, Syscall::Usage);
        }
        let (root, target) = (self.root, self.machine);
        while let Ok(Reply::Deleted { more: true, .. }) = self.call(root, Syscall::Revoke { target }) {}
        self.advance(20);
        let (_, log, digest) = self.recorder.finish();
        Recorded { log, digest, done: self.done }
    }
}

struct Recorded {
    log: Vec<u8>,
    digest: Digest,
    done: BTreeMap<String, u32>,
}

impl Recorded {
    /// A log in which these do not occur pins too little.
    fn has(&self, kinds: &[&str]) {
        let missing: Vec<_> = kinds.iter().filter(|k| !self.done.contains_key(**k)).collect();
        assert!(missing.is_empty(), "no {missing:?} in {:?}", self.done);
    }
}

fn shared() -> SimDevice {
    let decoded_per_epoch = Some(12);
    SimDevice::new(SimConfig {
        logical_qubits: 60,
        routes_per_epoch: 12,
        magic_per_epoch: 10,
        magic_buffer: Some(96),
        decoded_per_epoch,
        threads: 1,
        ..SimConfig::default()
    })
}

/// Tenants with jobs under contexts, regions, deadlines, budgets and windows; jobs with too much live magic fail.
fn tenants() -> Recorded {
    let quota = Quota { active: 2, strands: 12, ..Quota::UNLIMITED };
    let quotas = [
        Quota { weight: 3, ..quota },
        Quota { magic: 60, window: 40, ..quota },
        Quota { epochs: 50, window: 60, ..quota },
        Quota { qubits: 12, physical_qubits: 1500, instructions: 400, slots: 40, ..quota },
    ];
    let mut s = Scene::begin(shared(), 11, &quotas);
    let (root, machine) = (s.root, s.machine);
    let context = s.made(root, Syscall::CreateContext { machine, weight: 2, epochs: 30, window: 50 });
    let region = s.made(root, Syscall::CreateRegion { machine, qubits: 16, routes: 4, magic: 1 });
    let domains = s.recorder.kernel().capabilities(root).into_iter().filter(|c| c.1 == ObjectKind::Domain);
    let domains: Vec<Handle> = domains.map(|c| c.0).collect();
    for &into in &domains {
        s.derive(context, Rights::READ | Rights::USE, into, None);
        s.derive(region, Rights::READ | Rights::USE, into, None);
    }
    let budget = Some(Budget { strands: 3, qubits: 9, magic: 300 });
    s.derive(machine, Rights::all() - Rights::ADMIN, domains[0], budget);
    for _ in 0..900 {
        s.job(|dice| Run {
            shots: 1 + dice.below(60) as u64,
            seed: dice.next() % 1000,
            priority: dice.below(4) as i32 - 1,
            deadline: dice.one_in(4).then(|| 500 + dice.next() % 20_000),
            ..Run::default()
        });
    }
    s.end()
}

/// Qubits held one by one, channels between tenants, and checkpoints.
fn interactive() -> Recorded {
    let quota = Quota { held_active: 6, qubits: 14, channels: 4, checkpoints: 3, ..Quota::UNLIMITED };
    let mut s = Scene::begin(shared(), 12, &[quota; 3]);
    s.swap();
    for _ in 0..1200 {
        s.interactive();
    }
    s.end()
}

fn noisy() -> NoisyDevice<SimDevice> {
    let config = SimConfig { logical_qubits: 40, threads: 1, ..SimConfig::default() };
    NoisyDevice::simulated(config).with_threads(1)
}

/// Programs with errors at all levels, on patches of all codes.
fn noise() -> Recorded {
    let quota = Quota { strands: 20, ..Quota::UNLIMITED };
    let mut s = Scene::begin(noisy(), 13, &[quota; 2]);
    for _ in 0..400 {
        s.job(|dice| {
            let patches =
                [(Code::Surface, 3), (Code::Surface, 5), (Code::BaconShor, 3), (Code::Floquet, 2), (Code::Shyps, 4)];
            let (code, distance) = patches[dice.below(patches.len())];
            let level = [Level::Ideal, Level::Logical, Level::Logical, Level::Physical, Level::Physical][dice.below(5)];
            let ppb = [0, 2_000_000, 5_000_000][dice.below(3)];
            Run {
                shots: 1 + dice.below(40) as u64,
                seed: dice.next() % 1000,
                patch: Patch { code, distance },
                noise: NoiseSpec { level, ppb },
                ..Run::default()
            }
        });
        if s.dice.one_in(6) {
            s.interactive();
        }
    }
    s.end()
}

/// The log of a run that is made again, and the run of the log as it was recorded.
fn pinned<D: Device>(name: &str, now: Recorded, device: D) {
    let mut pins = recordings(name);
    pins.check("machine.log", &now.log);
    pins.check("digest.txt", format!("{}\n", now.digest).as_bytes());
    let log = pins.recorded("machine.log").expect("a recorded log");
    let digest = pins.recorded("digest.txt").expect("a recorded digest");
    pins.finish();
    let replayed = replay(&log, device).unwrap_or_else(|e| panic!("the recorded log of {name}: {e}"));
    assert_eq!(format!("{replayed}\n").as_bytes(), digest, "the digest of the recorded log of {name}");
}

#[test]
fn a_shared_machine_runs_as_recorded() {
    let now = tenants();
    now.has(&["Admit", "Spawn", "Outcomes", "Pause", "Migrate", "Rollback", "Delete", "Revoke", "Done", "Faulted"]);
    now.has(&["Waiting", "Running", "no NoCapability", "no Quota", "no Budget", "no Image", "no Deadline", "no State"]);
    pinned("tenants", now, shared());
}

#[test]
fn interactive_qubits_run_as_recorded() {
    let now = interactive();
    now.has(&["TakeQubit", "FreeQubit", "Apply", "Offer", "Accept", "Teleport", "SwapEntanglement", "CloseChannel"]);
    now.has(&[
        "ChannelStatus",
        "Checkpoint",
        "Restore",
        "Rollback",
        "no Fidelity",
        "no NotReady",
        "no Quota",
        "no Argument",
    ]);
    pinned("interactive", now, shared());
}

#[test]
fn errors_strike_as_recorded() {
    let now = noise();
    now.has(&["Spawn", "Outcomes", "Done", "no Argument"]);
    pinned("noise", now, noisy());
}

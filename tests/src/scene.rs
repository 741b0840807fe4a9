//! Runs of several tenants on one machine, recorded: random programs, jobs, qubits, channels.

use qmk_abi::image::{Clifford1, Clifford2, Cond, CondTerm, Image, Instr, Op, Pauli};
use qmk_abi::syscall::{Budget, ObjectKind, Quota, Run};
use qmk_abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_hal::Device;
use qmk_kernel::{Clock, DomainId};
use qmk_services::replay::{Digest, Recorder};
use qmk_testkit::Rng;
use std::collections::BTreeMap;

/// Random programs.
pub trait Programs {
    /// X, Y or Z.
    fn pauli(&mut self) -> Pauli;
    /// An operation on registers below `n >= 3`, without outcomes.
    fn gate(&mut self, n: usize) -> Op;
    /// Measurements that later instructions depend on, and fences.
    fn image(&mut self) -> Image;
}

impl Programs for Rng {
    fn pauli(&mut self) -> Pauli {
        [Pauli::X, Pauli::Y, Pauli::Z][self.below(3)]
    }

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

/// A machine that tenants share, and the log of what they call.
pub struct Scene<D> {
    /// The machine.
    pub recorder: Recorder<D, Vec<u8>>,
    /// The first domain.
    pub root: DomainId,
    /// The first domain's capability for the machine.
    pub machine: Handle,
    /// What makes the choices.
    pub dice: Rng,
    /// The other domains.
    pub tenants: Vec<DomainId>,
    /// How often each kind of call succeeded, and each kind of refusal came.
    pub done: BTreeMap<String, u32>,
}

const ANYTHING: Handle = Handle { slot: 1 << 20, generation: 1 };

impl<D: Device> Scene<D> {
    /// Starts a machine in lockstep, with a tenant for each quota, who may offer channels to the next one.
    ///
    /// # Panics
    /// If the kernel refuses that.
    pub fn begin(device: D, seed: u64, quotas: &[Quota]) -> Self {
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

    /// Derives a capability of the first domain for another one.
    ///
    /// # Panics
    /// If the kernel refuses that.
    pub fn derive(&mut self, source: Handle, rights: Rights, into: Handle, budget: Option<Budget>) {
        let root = self.root;
        self.made(root, Syscall::Derive { source, rights, badge: 5, into: Some(into), budget });
    }

    /// Makes a call and counts what came of it.
    ///
    /// # Errors
    /// That of the kernel.
    ///
    /// # Panics
    /// If the log does not take it.
    pub fn call(&mut self, d: DomainId, call: Syscall) -> Result<Reply, KernelError> {
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

    /// Makes a call that returns a handle.
    ///
    /// # Panics
    /// If it returns something else.
    pub fn made(&mut self, d: DomainId, call: Syscall) -> Handle {
        match self.call(d, call) {
            Ok(Reply::Handle(h)) => h,
            other => panic!("{other:?}"),
        }
    }

    /// Passes epochs.
    ///
    /// # Panics
    /// If the log does not take them.
    pub fn advance(&mut self, epochs: usize) {
        for _ in 0..epochs {
            self.recorder.advance().expect("the log takes it");
        }
    }

    /// A capability of a tenant, or one that it does not have.
    pub fn any(&mut self, d: DomainId, kind: ObjectKind) -> Handle {
        let all = self.recorder.kernel().capabilities(d);
        let all: Vec<Handle> = all.into_iter().filter(|c| c.1 == kind).map(|c| c.0).collect();
        if self.dice.one_in(40) {
            return ANYTHING;
        }
        all.get(self.dice.below(all.len())).copied().unwrap_or(ANYTHING)
    }

    /// The oldest capability of a kind that a tenant has.
    ///
    /// # Panics
    /// If it has none.
    pub fn first(&self, d: DomainId, kind: ObjectKind) -> Handle {
        let all = self.recorder.kernel().capabilities(d);
        all.into_iter().find(|c| c.1 == kind).unwrap_or_else(|| panic!("{d:?} has no {kind:?}")).0
    }

    /// One of the tenants.
    pub fn tenant(&mut self) -> DomainId {
        self.tenants[self.dice.below(self.tenants.len())]
    }

    /// A call about programs.
    ///
    /// # Panics
    /// If the log does not take it.
    pub fn job(&mut self, run: impl FnOnce(&mut Rng) -> Run) {
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
    ///
    /// # Panics
    /// If the log does not take it.
    pub fn interactive(&mut self) {
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
    ///
    /// # Panics
    /// If the kernel refuses one of the calls.
    pub fn swap(&mut self) {
        let tenants = self.tenants.clone();
        let machines: Vec<Handle> = tenants.iter().map(|&d| self.first(d, ObjectKind::Machine)).collect();
        let mut ends = Vec::new();
        for i in 0..2 {
            let to = self.first(tenants[i], ObjectKind::Domain);
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
        let to = self.first(tenants[0], ObjectKind::Domain);
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
    ///
    /// # Panics
    /// If the log does not take it, or qubits are lost.
    pub fn end(mut self) -> Recorded {
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
        let kernel = self.recorder.kernel();
        assert_eq!(kernel.free_qubits(), kernel.device().spec().logical_qubits);
        let (_, log, digest) = self.recorder.finish();
        Recorded { log, digest, done: self.done }
    }
}

/// A run that has ended.
pub struct Recorded {
    /// Its log.
    pub log: Vec<u8>,
    /// The digest of its replies.
    pub digest: Digest,
    /// How often each kind of call succeeded, and each kind of refusal came.
    pub done: BTreeMap<String, u32>,
}

impl Recorded {
    /// A log in which these do not occur pins too little.
    ///
    /// # Panics
    /// If one of them does not.
    pub fn has(&self, kinds: &[&str]) {
        let missing: Vec<_> = kinds.iter().filter(|k| !self.done.contains_key(**k)).collect();
        assert!(missing.is_empty(), "no {missing:?} in {:?}", self.done);
    }
}

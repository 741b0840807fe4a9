//! Runs of eight tenants, recorded and replayed.

use qmk_kernel::abi::image::{Clifford1, Clifford2, Cond, CondTerm, Image, Instr, Op, Pauli};
use qmk_kernel::abi::syscall::{ChannelState, ObjectKind, Quota, Run};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::{Clock, DomainId};
use qmk_services::replay::{Digest, Recorder, ReplayError, replay};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::Rng;
use std::collections::BTreeMap;

const QUBITS: u32 = 400;

fn device(threads: usize) -> SimDevice {
    SimDevice::new(SimConfig { logical_qubits: QUBITS, magic_per_epoch: 16, threads, ..SimConfig::default() })
}

/// Random programs.
trait Programs {
    fn image(&mut self) -> Image;
}

impl Programs for Rng {
    /// Magic, a measurement that later instructions depend on, and fences.
    fn image(&mut self) -> Image {
        let n = 2 + self.below(3) as u32;
        let (mut code, mut terms, mut events) = (Vec::new(), Vec::new(), 0);
        let plain = |op| Instr { op, cond: None };
        code.extend((0..n).map(|q| plain(Op::Alloc(q))));
        for _ in 0..6 + self.below(12) {
            let a = self.below(n as usize) as u32;
            let b = (a + 1) % n;
            let op = match self.below(9) {
                0 | 1 => Op::Clifford1(Clifford1::H, a),
                2 => Op::Clifford2(Clifford2::Cnot, a, b),
                3 | 4 => Op::T(a),
                5 => Op::Rotate(Pauli::X, a, 0.3),
                6 => Op::Fence,
                _ => {
                    code.push(plain(Op::Measure(Pauli::Z, a, events)));
                    terms.push(CondTerm::Event(events));
                    let cond = Some(Cond { start: events, end: events + 1 });
                    events += 1;
                    code.push(Instr { op: Op::Pauli(Pauli::X, b), cond });
                    Op::TeleportCnot(b, a)
                }
            };
            code.push(plain(op));
        }
        code.extend((0..n).map(|q| plain(Op::Measure(Pauli::Z, q, events + q))));
        code.extend((0..n).map(|q| plain(Op::Free(q))));
        Image { qubits: n, events: events + n, code, terms }
    }
}

type Recording = Recorder<SimDevice, Vec<u8>>;

struct Scene {
    recorder: Recording,
    dice: Rng,
    tenants: Vec<DomainId>,
    done: BTreeMap<String, u32>,
}

impl Scene {
    fn call(&mut self, d: DomainId, call: Syscall) -> Result<Reply, KernelError> {
        let name = format!("{call:?}").split(' ').next().unwrap_or_default().to_string();
        let reply = self.recorder.syscall(d, call).expect("the log takes it");
        if reply.is_ok() {
            *self.done.entry(name).or_default() += 1;
        }
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

    fn any(&mut self, d: DomainId, kind: ObjectKind) -> Handle {
        let all = self.recorder.kernel().capabilities(d);
        let all: Vec<Handle> = all.into_iter().filter(|c| c.1 == kind).map(|c| c.0).collect();
        all.get(self.dice.below(all.len())).copied().unwrap_or(Handle { slot: 1 << 20, generation: 1 })
    }

    fn channel(&mut self, d: DomainId, endpoint: Handle) -> ChannelState {
        match self.call(d, Syscall::ChannelStatus { endpoint }) {
            Ok(Reply::Channel(info)) => info.state,
            other => panic!("{other:?}"),
        }
    }

    /// A call of a tenant.
    fn step(&mut self) {
        use ObjectKind::{Image, Machine, Qubit, Strand};
        let tenants = self.tenants.clone();
        let d = tenants[self.dice.below(tenants.len())];
        let machine = self.any(d, Machine);
        let call = match self.dice.below(20) {
            0 => Syscall::Admit { machine, image: self.dice.image() },
            1..=3 => {
                let shots = 1 + self.dice.below(300) as u64;
                let run = Run { shots, seed: self.dice.below(1000) as u64, ..Run::default() };
                Syscall::Spawn { machine, image: self.any(d, Image), run }
            }
            4 => Syscall::Status { strand: self.any(d, Strand) },
            5 | 6 => Syscall::Outcomes { strand: self.any(d, Strand), first: 0, count: 1000 },
            7 => Syscall::Delete { target: self.any(d, Strand) },
            8 => Syscall::Pause { strand: self.any(d, Strand), paused: self.dice.below(3) == 0 },
            9 | 10 => Syscall::TakeQubit { machine },
            11 => Syscall::FreeQubit {
                qubit: self.any(d, Qubit),
                uncompute: (self.dice.below(2) == 0).then_some(machine),
            },
            12..=16 => {
                let qubits = vec![self.any(d, Qubit), self.any(d, Qubit)];
                let op = match self.dice.below(5) {
                    0 => Op::Clifford1(Clifford1::H, 0),
                    1 => Op::T(0),
                    2 => Op::Clifford2(Clifford2::Cnot, 0, 1),
                    3 => Op::Rotate(Pauli::Y, 0, 0.7),
                    _ => Op::Measure(Pauli::X, 0, 0),
                };
                Syscall::Apply { machine, op, qubits }
            }
            17 => Syscall::Rollback { machine, strand: None },
            18 => Syscall::Usage,
            _ => return self.advance(1),
        };
        // Many are refused; that is part of the run.
        let _ = self.call(d, call);
    }
}

/// Records a run; returns the log, the digest and the calls that succeeded.
fn record(clock: Clock, threads: usize, calls: usize) -> (Vec<u8>, Digest, BTreeMap<String, u32>) {
    let quota = Quota { active: 12, held_active: 12, ..Quota::UNLIMITED };
    let (recorder, root, machine) = Recorder::boot(device(threads), 7, quota, Vec::new()).expect("a log");
    let mut s = Scene { recorder, dice: Rng::new(3), tenants: Vec::new(), done: BTreeMap::new() };
    s.recorder.set_clock(clock).expect("the log takes it");
    let derive = |source, rights, into| Syscall::Derive { source, rights, badge: 0, into: Some(into), budget: None };
    let mut known = Vec::new();
    for _ in 0..8 {
        let domain = s.made(root, Syscall::CreateDomain { machine, quota });
        s.made(root, derive(machine, Rights::all() - Rights::ADMIN, domain));
        s.tenants.extend(s.recorder.kernel().domain_of(root, domain));
        known.push(domain);
    }
    for (i, &d) in known.iter().enumerate() {
        s.made(root, derive(known[(i + 1) % 8], Rights::READ | Rights::OFFER, d));
    }
    let tenants = s.tenants.clone();
    for _ in 0..calls {
        s.step();
    }
    // A channel from each tenant to the next: accepted and used, or closed before it is.
    for (i, &d) in tenants.iter().enumerate() {
        let other = tenants[(i + 1) % 8];
        let (machine, their) = (s.any(d, ObjectKind::Machine), s.any(other, ObjectKind::Machine));
        s.advance(4);
        let near = s.made(d, Syscall::TakeQubit { machine });
        let far = s.made(other, Syscall::TakeQubit { machine: their });
        let to = s.any(d, ObjectKind::Domain);
        let offered = s.call(d, Syscall::Offer { machine, qubit: near, to, fidelity: 0.98 });
        let Ok(Reply::Offered { endpoint, invitation }) = offered else { panic!("{offered:?}") };
        if i % 4 == 3 {
            while let Ok(Reply::Deleted { more: true, .. }) = s.call(d, Syscall::Delete { target: endpoint }) {}
            assert!(s.call(other, Syscall::Accept { machine: their, endpoint: invitation, qubit: far }).is_err());
            continue;
        }
        s.call(other, Syscall::Accept { machine: their, endpoint: invitation, qubit: far }).expect("on offer");
        s.advance(8);
        let qubit = s.made(d, Syscall::TakeQubit { machine });
        s.call(d, Syscall::Apply { machine, op: Op::Clifford1(Clifford1::H, 0), qubits: vec![qubit] })
            .expect("it does");
        s.call(d, Syscall::Teleport { machine, endpoint, qubit }).expect("the pair is ready");
        assert_eq!(s.channel(other, invitation), ChannelState::Used);
    }
    // Checkpoints of a strand, held at a fence, and going back.
    let (d, machine) = (tenants[0], s.any(tenants[0], ObjectKind::Machine));
    let fenced = [Op::Alloc(0), Op::Clifford1(Clifford1::H, 0), Op::Fence, Op::T(0), Op::Measure(Pauli::X, 0, 0)];
    let code = fenced.map(|op| Instr { op, cond: None }).to_vec();
    let image = s.made(d, Syscall::Admit { machine, image: Image { qubits: 1, events: 1, code, terms: vec![] } });
    let strand = s.made(d, Syscall::Spawn { machine, image, run: Run { shots: 50, ..Run::default() } });
    let checkpoint = s.made(d, Syscall::Checkpoint { machine, strand: Some(strand) });
    s.call(d, Syscall::Pause { strand, paused: true }).expect("it runs");
    for _ in 0..20_000 {
        s.advance(1);
        if matches!(s.call(d, Syscall::CheckpointStatus { checkpoint }), Ok(Reply::Checkpoint(Some(_)))) {
            break;
        }
    }
    s.call(d, Syscall::Rollback { machine, strand: Some(strand) }).expect("it is held");
    s.call(d, Syscall::Restore { checkpoint }).expect("it was taken");
    s.call(d, Syscall::Pause { strand, paused: false }).expect("it is held");
    s.advance(30);
    for &d in &tenants {
        for (handle, kind, _) in s.recorder.kernel().capabilities(d) {
            if kind == ObjectKind::Strand {
                let _ = s.call(d, Syscall::Outcomes { strand: handle, first: 0, count: 1000 });
            }
        }
        let _ = s.call(d, Syscall::Usage);
    }
    while let Ok(Reply::Deleted { more: true, .. }) = s.call(root, Syscall::Revoke { target: machine }) {}
    assert_eq!(s.recorder.kernel().free_qubits(), QUBITS);
    let (_, log, digest) = s.recorder.finish();
    (log, digest, s.done)
}

#[test]
fn the_same_run_on_any_number_of_threads() {
    let (log, digest, done) = record(Clock::Lockstep, 1, 700);
    for name in ["Spawn", "Outcomes", "Delete", "Apply", "Accept", "Teleport", "Checkpoint", "Restore", "Rollback"] {
        assert!(done.contains_key(name), "no {name} succeeded: {done:?}");
    }
    for threads in [1, 2, 4] {
        assert_eq!(replay(&log, device(threads)), Ok(digest), "{threads} threads");
    }
}

#[test]
fn free_running_is_the_same_with_the_same_threads() {
    for threads in [1, 2, 4] {
        let (log, digest, _) = record(Clock::FreeRunning { pace: 1 << 12 }, threads, 300);
        assert_eq!(replay(&log, device(threads)), Ok(digest), "{threads} threads");
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    let (log, digest, _) = record(Clock::Lockstep, 1, 40);
    assert_eq!(replay(&log, device(1)), Ok(digest));
    let mut dice = Rng::new(5);
    for _ in 0..300 {
        let mut changed = log.clone();
        let at = dice.below(log.len());
        changed[at] ^= 1 << dice.below(8);
        let result = replay(&changed, device(1));
        assert!(result.is_err(), "byte {at} of {}: {result:?}", log.len());
    }
}

#[test]
fn where_it_differs_is_told() {
    // How far a free-running device is depends on its threads, so that this run is another one on four of them.
    let quota = Quota::UNLIMITED;
    let (mut r, root, machine) = Recorder::boot(device(1), 1, quota, Vec::new()).expect("a log");
    r.set_clock(Clock::FreeRunning { pace: 1 << 11 }).expect("the log");
    let ops = [Op::Alloc(0), Op::Clifford1(Clifford1::H, 0), Op::T(0), Op::Measure(Pauli::X, 0, 0)];
    let code = ops.map(|op| Instr { op, cond: None }).to_vec();
    let image = Image { qubits: 1, events: 1, code, terms: vec![] };
    let Ok(Ok(Reply::Handle(image))) = r.syscall(root, Syscall::Admit { machine, image }) else { panic!() };
    let run = Run { shots: 1 << 20, ..Run::default() };
    let Ok(Ok(Reply::Handle(strand))) = r.syscall(root, Syscall::Spawn { machine, image, run }) else { panic!() };
    for _ in 0..100 {
        r.advance().expect("the log");
        r.syscall(root, Syscall::Status { strand }).expect("the log").expect("a strand");
    }
    let (_, log, digest) = r.finish();
    assert_eq!(replay(&log, device(1)), Ok(digest));
    let told = replay(&log, device(4));
    let Err(ReplayError::Differs { entry, input, reply }) = told else { panic!("{told:?}") };
    assert!(
        entry > 3 && entry % 2 == 0 && input.contains("Status") && reply.contains("shots_done"),
        "{entry} {input} {reply}"
    );
    let other = SimDevice::new(SimConfig { logical_qubits: 4, ..SimConfig::default() });
    assert!(matches!(replay(&log, other), Err(ReplayError::Machine { .. })));
}

#[test]
fn bad_logs_are_refused() {
    let (log, ..) = record(Clock::Lockstep, 1, 10);
    assert_eq!(replay(&[], device(1)), Err(ReplayError::Foreign));
    assert_eq!(replay(b"\x7fELF and so on", device(1)), Err(ReplayError::Foreign));
    let mut older = log.clone();
    older[7] = 0;
    assert_eq!(replay(&older, device(1)), Err(ReplayError::Foreign));
    // A log may end behind any entry, and nowhere else.
    let mut whole = 0;
    for end in 0..log.len().min(4000) {
        match replay(&log[..end], device(1)) {
            Ok(_) => whole += 1,
            Err(ReplayError::Truncated { .. }) => {}
            Err(ReplayError::Foreign) if end < 8 => {}
            other => panic!("cut at {end}: {other:?}"),
        }
    }
    assert!(whole > 10);
    for seed in 0..200 {
        let mut dice = Rng::new(seed);
        let noise: Vec<u8> = log[..8].iter().copied().chain((0..200).map(|_| dice.below(256) as u8)).collect();
        assert!(replay(&noise, device(1)).is_err());
    }
}

//! Runs of eight tenants, recorded and replayed.

use qmk_kernel::Clock;
use qmk_kernel::abi::image::{Clifford1, Image, Instr, Op, Pauli};
use qmk_kernel::abi::syscall::{ChannelState, ObjectKind, Quota, Run};
use qmk_kernel::abi::{Reply, Syscall};
use qmk_services::replay::{Recorder, ReplayError, replay};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::Rng;
use qmk_tests::scene::{Recorded, Scene};

fn device(threads: usize) -> SimDevice {
    SimDevice::new(SimConfig { logical_qubits: 400, magic_per_epoch: 16, threads, ..SimConfig::default() })
}

/// Records a run of random calls, and of some that must succeed.
fn record(clock: Clock, threads: usize, calls: usize) -> Recorded {
    let quota = Quota { active: 12, held_active: 12, ..Quota::UNLIMITED };
    let mut s = Scene::begin(device(threads), 7, &[quota; 8]);
    s.recorder.set_clock(clock).expect("the log takes it");
    for _ in 0..calls {
        if s.dice.one_in(2) {
            s.interactive();
        } else {
            s.job(|dice| Run { shots: 1 + dice.below(300) as u64, seed: dice.next() % 1000, ..Run::default() });
        }
    }
    use_channels(&mut s);
    go_back(&mut s);
    s.end()
}

/// A channel from each tenant to the next: accepted and used, or closed before it is.
fn use_channels(s: &mut Scene<SimDevice>) {
    let tenants = s.tenants.clone();
    for (i, &d) in tenants.iter().enumerate() {
        let other = tenants[(i + 1) % 8];
        let (machine, their) = (s.first(d, ObjectKind::Machine), s.first(other, ObjectKind::Machine));
        s.advance(4);
        let near = s.made(d, Syscall::TakeQubit { machine });
        let far = s.made(other, Syscall::TakeQubit { machine: their });
        let to = s.first(d, ObjectKind::Domain);
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
        let used = s.call(other, Syscall::ChannelStatus { endpoint: invitation });
        assert!(matches!(&used, Ok(Reply::Channel(info)) if info.state == ChannelState::Used), "{used:?}");
    }
}

/// Checkpoints of a strand, held at a fence, and going back.
fn go_back(s: &mut Scene<SimDevice>) {
    let d = s.tenants[0];
    let machine = s.first(d, ObjectKind::Machine);
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
}

#[test]
fn the_same_run_on_any_number_of_threads() {
    let run = record(Clock::Lockstep, 1, 700);
    run.has(&["Spawn", "Outcomes", "Delete", "Apply", "Accept", "Teleport", "Checkpoint", "Restore", "Rollback"]);
    for threads in [1, 2, 4] {
        assert_eq!(replay(&run.log, device(threads)), Ok(run.digest), "{threads} threads");
    }
}

#[test]
fn free_running_is_the_same_with_the_same_threads() {
    for threads in [1, 2, 4] {
        let Recorded { log, digest, .. } = record(Clock::FreeRunning { pace: 1 << 12 }, threads, 300);
        assert_eq!(replay(&log, device(threads)), Ok(digest), "{threads} threads");
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    let Recorded { log, digest, .. } = record(Clock::Lockstep, 1, 40);
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
    let log = record(Clock::Lockstep, 1, 10).log;
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

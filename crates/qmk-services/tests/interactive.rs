//! Qubits one by one, channels between tenants, checkpoints, and jobs under way, as clients meet them.

use qmk_abi::rpc::interactive::*;
use qmk_abi::rpc::{ErrorCode, JobRef, Reply, Request, RpcError, SessionCreate, SessionRef};
use qmk_client::{Client, ClientError, Policy, Program, Session};
use qmk_services::hal::LinkSpec;
use qmk_services::{Machine, MachineConfig};
use qmk_sim::{SimConfig, SimDevice};
use std::time::Duration;

const PERFECT: LinkSpec = LinkSpec { raw: [1.0, 0.0, 0.0, 0.0], pairs_per_epoch: 16 };

fn start(sim: SimConfig) -> Machine<SimDevice> {
    Machine::start(SimDevice::new(sim), MachineConfig::default())
}

fn perfect() -> Machine<SimDevice> {
    start(SimConfig { link: PERFECT, ..SimConfig::default() })
}

fn session(machine: &Machine<SimDevice>, tenant: &str) -> Session {
    let create = SessionCreate { tenant_id: Some(tenant.into()), ..SessionCreate::default() };
    Client::over(machine.connect()).session_with(create).unwrap()
}

fn rpc(e: ClientError) -> RpcError {
    match e {
        ClientError::Rpc(e) => e,
        other => panic!("{other}"),
    }
}

fn one(s: &Session) -> String {
    s.alloc(1).unwrap().remove(0)
}

/// A channel between new qubits of two sessions: its id and the qubits.
fn link(a: (&Session, &str), b: (&Session, &str), fidelity: f64) -> (String, String, String) {
    let (near, far) = (one(a.0), one(b.0));
    let offered = a.0.open_channel(&near, b.1, fidelity).unwrap();
    assert_eq!((offered.state, offered.incoming, offered.actual_fidelity), (ChannelState::Offered, false, 0.0));
    let seen = b.0.channel(&offered.channel_id).unwrap();
    assert_eq!((seen.state, seen.incoming, seen.peer.as_str()), (ChannelState::Offered, true, a.1));
    let linked = b.0.accept_channel(&offered.channel_id, &far).unwrap();
    assert_eq!(linked.state, ChannelState::Linked);
    assert!(linked.actual_fidelity >= fidelity, "{linked:?}");
    (offered.channel_id, near, far)
}

#[test]
fn the_halves_of_a_bell_pair_agree_and_are_fair() {
    let machine = start(SimConfig::default());
    let s = session(&machine, "t");
    let q = s.alloc(2).unwrap();
    assert_eq!(q, ["q_1", "q_2"]);
    let (a, b) = (q[0].as_str(), q[1].as_str());
    let mut ones = [0f64; 2];
    const ROUNDS: usize = 600;
    for round in 0..ROUNDS {
        s.apply("RESET", &[a]).unwrap();
        s.apply("RESET", &[b]).unwrap();
        s.apply("APPLY_H", &[a]).unwrap();
        s.apply("APPLY_CNOT", &[a, b]).unwrap();
        let basis = ["z", "x"][round % 2];
        let (m, n) = (s.measure(a, basis).unwrap(), s.measure(b, basis).unwrap());
        assert_eq!(m, n);
        ones[round % 2] += f64::from(u8::from(m));
    }
    for ones in ones {
        let half = ROUNDS as f64 / 4.0;
        let chi2 = 2.0 * (ones - half).powi(2) / half;
        assert!(chi2 < 10.83, "{ones} of {}", ROUNDS / 2);
    }
    // In basis Y they differ; by an angle they are what MEASURE_ANGLE makes them.
    let applied = s.apply("MEASURE_BELL", &[a, b]).unwrap();
    assert_eq!(applied.outcomes.len(), 2);
    s.apply("RESET", &[a]).unwrap();
    s.rotate("APPLY_RY", 0.7, &[a]).unwrap();
    assert!(!s.measure_angle(a, 0.7).unwrap());
    assert!(s.measure_angle(a, 0.7 + std::f64::consts::PI).unwrap());
}

#[test]
fn a_state_is_teleported_whole() {
    let machine = perfect();
    let (a, b) = (session(&machine, "alice"), session(&machine, "bob"));
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..60 {
        let (theta, phi) = (0.3 + 0.1 * f64::from(round), 1.1 - 0.07 * f64::from(round));
        let state = one(&a);
        a.rotate("APPLY_RY", theta, &[&state]).unwrap();
        a.rotate("APPLY_RZ", phi, &[&state]).unwrap();
        let (channel, near, far) = link((&a, "alice"), (&b, "bob"), 1.0);
        let used = a.teleport(&channel, &state).unwrap();
        seen.insert(used.outcomes);
        b.rotate("APPLY_RZ", -phi, &[&far]).unwrap();
        b.rotate("APPLY_RY", -theta, &[&far]).unwrap();
        assert!(!b.measure(&far, "z").unwrap(), "round {round}");
        assert_eq!(b.channel(&channel).unwrap().state, ChannelState::Used);
        assert_eq!(rpc(a.teleport(&channel, &near).unwrap_err()).code, ErrorCode::InvalidParams);
        a.close_channel(&channel).unwrap();
        assert!(a.channels().unwrap().is_empty() && b.channels().unwrap().is_empty());
        assert!(a.release(&[&state, &near], false).unwrap().dirty.is_empty());
        b.release(&[&far], false).unwrap();
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn two_channels_are_joined() {
    let machine = perfect();
    let (a, b, c) = (session(&machine, "alice"), session(&machine, "bob"), session(&machine, "carol"));
    for round in 0..12 {
        let (first, ..) = link((&a, "alice"), (&b, "bob"), 1.0);
        let (second, _, far) = link((&b, "bob"), (&c, "carol"), 1.0);
        b.swap_channels(&first, &second).unwrap();
        assert!(b.channels().unwrap().is_empty());
        assert_eq!(rpc(b.close_channel(&first).unwrap_err()).code, ErrorCode::ChannelNotFound);
        assert_eq!(a.channel(&first).unwrap().peer, "carol");
        assert_eq!(c.channel(&second).unwrap().peer, "alice");
        let state = one(&a);
        a.rotate("APPLY_RY", 0.9, &[&state]).unwrap();
        a.teleport(&first, &state).unwrap();
        assert!(!c.measure_angle(&far, 0.9).unwrap(), "round {round}");
        a.close_channel(&first).unwrap();
    }
}

#[test]
fn fidelities_are_those_of_purification() {
    let machine = start(SimConfig::default());
    let (a, b) = (session(&machine, "alice"), session(&machine, "bob"));
    let q = one(&a);
    let e = rpc(a.open_channel(&q, "bob", 1.0).unwrap_err());
    assert_eq!(e.code, ErrorCode::FidelityUnavailable);
    assert!(e.message.contains("the best is 0.99"), "{e}");
    for wrong in [0.25, 1.5, f64::NAN, -1.0] {
        assert_eq!(rpc(a.open_channel(&q, "bob", wrong).unwrap_err()).code, ErrorCode::InvalidParams);
    }
    let (channel, ..) = link((&a, "alice"), (&b, "bob"), 0.999);
    let info = a.channel(&channel).unwrap();
    assert!(info.purification_rounds > 0 && info.pairs > 1 && info.requested_fidelity == 0.999, "{info:?}");
    // No such tenant, and oneself.
    assert_eq!(rpc(a.open_channel(&q, "mallory", 0.9).unwrap_err()).code, ErrorCode::AccessDenied);
    assert_eq!(rpc(a.open_channel(&q, "alice", 0.9).unwrap_err()).code, ErrorCode::InvalidParams);
    // Only who was asked accepts, and only once.
    let offer = a.open_channel(&q, "bob", 0.9).unwrap().channel_id;
    assert_eq!(rpc(a.accept_channel(&offer, &one(&a)).unwrap_err()).code, ErrorCode::InvalidParams);
    let e = rpc(a.teleport(&offer, &one(&a)).unwrap_err());
    assert!(e.code == ErrorCode::InvalidParams && e.message.contains("not been accepted"), "{e}");
    assert_eq!(b.channels().unwrap().len(), 2);
    // What one side closed is closed for both.
    b.close_channel(&offer).unwrap();
    assert_eq!(a.channel(&offer).unwrap().state, ChannelState::Closed);
    assert_eq!(rpc(b.channel(&offer).unwrap_err()).code, ErrorCode::ChannelNotFound);
    a.close_channel(&channel).unwrap();
    assert_eq!(rpc(b.channel(&channel).unwrap_err()).code, ErrorCode::ChannelNotFound);
}

#[test]
fn calls_wait_for_what_epochs_bring() {
    let slow = LinkSpec { pairs_per_epoch: 1, ..SimConfig::default().link };
    let machine = start(SimConfig { magic_per_epoch: 1, magic_buffer: Some(2), link: slow, ..SimConfig::default() });
    let (a, b) = (session(&machine, "alice"), session(&machine, "bob"));
    let q = one(&a);
    // Nothing else makes the machine run, and it does not wait to be asked for each epoch.
    let before = a.resources().unwrap().machine.epoch;
    for _ in 0..40 {
        a.apply("APPLY_T", &[&q]).unwrap();
    }
    let epochs = a.resources().unwrap().machine.epoch - before;
    assert!((38..200).contains(&epochs), "40 magic states took {epochs} epochs");
    let (channel, ..) = link((&a, "alice"), (&b, "bob"), 0.999);
    let until = a.channel(&channel).unwrap().ready_at_epoch;
    assert!(a.resources().unwrap().machine.epoch < until);
    a.teleport(&channel, &q).unwrap();
    assert!(a.resources().unwrap().machine.epoch >= until);
    // More than there will ever be at once; others are served meanwhile.
    let q = one(&b);
    (0..3).for_each(|_| drop(b.apply("APPLY_T", &[&q]).unwrap()));
    std::thread::scope(|scope| {
        let vain = scope.spawn(|| rpc(b.rollback().unwrap_err()));
        let mut asked = 0;
        while !vain.is_finished() {
            a.resources().unwrap();
            asked += 1;
        }
        let e = vain.join().unwrap();
        assert_eq!(e.code, ErrorCode::ResourceExhausted);
        assert!(e.message.contains("magic states"), "{e}");
        assert!(asked > 10, "{asked} calls were answered meanwhile");
    });
}

#[test]
fn qubits_are_given_back() {
    let machine = start(SimConfig::default());
    let s = session(&machine, "t");
    let used = || s.resources().unwrap().usage.logical_qubits;
    let q: Vec<String> = s.alloc(4).unwrap();
    let q: Vec<&str> = q.iter().map(String::as_str).collect();
    s.apply("APPLY_H", &[q[0]]).unwrap();
    s.apply("APPLY_T", &[q[0]]).unwrap();
    s.apply("APPLY_H", &[q[1]]).unwrap();
    s.apply("APPLY_X", &[q[2]]).unwrap();
    assert_eq!(used(), 4);
    let got = s.release(&q[..1], true).unwrap();
    assert_eq!((got.released, got.dirty.len(), got.undone), (vec![q[0].to_string()], 0, 2));
    let got = s.release(&q[1..3], false).unwrap();
    assert_eq!((got.dirty, got.undone), (vec![q[1].to_string()], 0));
    assert_eq!(used(), 1);
    // Names do not come again, and a call that is refused releases nothing.
    assert_eq!(s.alloc(1).unwrap(), ["q_5"]);
    for wrong in [["q_4", "q_1"], ["q_4", "q_4"], ["q_4", "q_05"], ["q_4", "5"]] {
        assert_eq!(rpc(s.release(&wrong, false).unwrap_err()).code, ErrorCode::InvalidParams, "{wrong:?}");
    }
    assert_eq!(used(), 2);
    // All or none, and not more than there are.
    for n in [0, 9_999, 10_001, u32::MAX] {
        assert!(s.alloc(n).is_err(), "{n}");
    }
    assert_eq!(used(), 2);
    let many = s.alloc(9_998).unwrap();
    assert_eq!((many.len(), used()), (9_998, 10_000));
    assert_eq!(rpc(s.alloc(1).unwrap_err()).code, ErrorCode::QuotaExceeded);
}

#[test]
fn operations_are_those_of_programs() {
    let machine = start(SimConfig::default());
    let s = session(&machine, "t");
    s.alloc(3).unwrap();
    let q = ["q_1", "q_2", "q_3"];
    for (op, n) in [("APPLY_TOFFOLI", 3), ("CCZ", 3), ("APPLY_SWAP", 2), ("TELEPORT_CNOT", 2), ("INJECT_T_STATE", 1)] {
        assert!(s.apply(op, &q[..n]).unwrap().outcomes.is_empty(), "{op}");
    }
    // Whole quarter turns take no magic states, and no turn nothing at all.
    for turns in 0..4 {
        for op in ["APPLY_RX", "APPLY_RY", "APPLY_RZ", "APPLY_P"] {
            s.rotate(op, f64::from(turns) * std::f64::consts::FRAC_PI_2, &q[..1]).unwrap();
        }
    }
    for (op, qubits, theta, why) in [
        ("APPLY_HH", &q[..1], None, "APPLY_HH"),
        ("APPLY_H", &q[..2], None, "qubit"),
        ("APPLY_CNOT", &q[..1], None, "qubit"),
        ("APPLY_CNOT", &["q_1", "q_1"], None, "twice"),
        ("APPLY_RX", &q[..1], None, "theta"),
        ("APPLY_RX", &q[..1], Some(f64::NAN), "finite"),
        ("APPLY_H", &q[..1], Some(1.0), "theta"),
        ("ALLOC_LQ", &q[..1], None, "q_alloc"),
        ("FREE_LQ", &q[..1], None, "q_release"),
        ("OPEN_CHAN", &q[..2], None, "q_open_chan"),
        ("COND_PAULI", &q[..1], None, "caller"),
        ("APPLY_H", &[], None, "1 to 3"),
        ("APPLY_H", &["q_9"], None, "no such qubit"),
    ] {
        let e = rpc(match theta {
            Some(theta) => s.rotate(op, theta, qubits).unwrap_err(),
            None => s.apply(op, qubits).unwrap_err(),
        });
        assert_eq!(e.code, ErrorCode::InvalidParams, "{op}: {e}");
        assert!(e.message.contains(why), "{op}: {e}");
    }
    assert_eq!(rpc(s.measure("q_1", "w").unwrap_err()).code, ErrorCode::InvalidParams);
    // Classes that the session was not granted.
    let few = Client::over(machine.connect()).session(&[qmk_client::Cap::ALLOC]).unwrap();
    let q = one(&few);
    for (got, missing) in [
        (few.apply("APPLY_H", &[&q]).map(drop), "CAP_COMPUTE"),
        (few.measure(&q, "z").map(drop), "CAP_MEASURE"),
        (few.open_channel(&q, "t", 0.9).map(drop), "CAP_LINK"),
        (few.channels().map(drop), "CAP_LINK"),
        (few.checkpoint().map(drop), "CAP_CHECKPOINT"),
        (few.rollback().map(drop), "CAP_COMPUTE"),
    ] {
        let e = rpc(got.unwrap_err());
        assert_eq!((e.code, e.missing), (ErrorCode::InsufficientCaps, vec![missing.to_string()]));
    }
}

#[test]
fn what_was_done_is_undone() {
    let machine = start(SimConfig::default());
    let s = session(&machine, "t");
    let q = s.alloc(2).unwrap();
    let (a, b) = (q[0].as_str(), q[1].as_str());
    s.apply("APPLY_X", &[a]).unwrap();
    assert!(s.measure(a, "z").unwrap());
    s.apply("APPLY_X", &[a]).unwrap();
    s.apply("APPLY_H", &[a]).unwrap();
    s.rotate("APPLY_RZ", 0.3, &[a]).unwrap();
    s.apply("APPLY_CNOT", &[a, b]).unwrap();
    assert_eq!(s.rollback().unwrap(), 4);
    assert!(s.measure(a, "z").unwrap() && !s.measure(b, "z").unwrap());
    assert_eq!(s.rollback().unwrap(), 0);
}

#[test]
fn states_come_back() {
    let machine = start(SimConfig::default());
    let s = session(&machine, "t");
    assert_eq!(rpc(s.checkpoint().unwrap_err()).code, ErrorCode::InvalidParams, "there are no qubits");
    let q = one(&s);
    s.rotate("APPLY_RY", 0.8, &[&q]).unwrap();
    let saved = s.checkpoint().unwrap();
    assert!(saved.taken_at_epoch.is_some() && !saved.pending, "{saved:?}");
    for _ in 0..20 {
        s.measure(&q, "x").unwrap();
        s.restore(&saved.checkpoint_id).unwrap();
        assert!(!s.measure_angle(&q, 0.8).unwrap());
    }
    one(&s);
    let e = rpc(s.restore(&saved.checkpoint_id).unwrap_err());
    assert!(e.code == ErrorCode::InvalidParams && e.message.contains("taken, freed"), "{e}");
    s.drop_checkpoint(&saved.checkpoint_id).unwrap();
    for gone in [saved.checkpoint_id.as_str(), "ckpt_77", "ckpt_", "q_1"] {
        assert_eq!(rpc(s.restore(gone).unwrap_err()).code, ErrorCode::NoCheckpoint, "{gone}");
    }
    (0..64).for_each(|_| drop(s.checkpoint().unwrap()));
    assert_eq!(rpc(s.checkpoint().unwrap_err()).code, ErrorCode::QuotaExceeded);
}

/// Takes some ten thousand epochs where one magic state comes in each.
const LONG: &str = "ALLOC_LQ -> a, b\nAPPLY_H a\n.for i in range(8000)\nAPPLY_T a\nFENCE_EPOCH\n.endfor\n\
                    APPLY_H a\nMEASURE_Z a -> m\nAPPLY_CNOT a, b\nMEASURE_Z b -> n\nFREE_LQ a, b\n";

#[test]
fn jobs_under_way() {
    let sim = SimConfig { logical_qubits: 3, magic_per_epoch: 1, magic_buffer: Some(1), ..SimConfig::default() };
    let machine = start(sim);
    let s = session(&machine, "t");
    let policy = Policy { shots: 100, seed: 5, ..Policy::default() };
    let mut restored = 0;
    for _ in 0..10 {
        // No room for it yet, so that all of it lies ahead.
        let held = s.alloc(2).unwrap();
        let job = s.submit(&Program::asm(LONG), policy.clone()).unwrap();
        let saved = job.checkpoint().unwrap();
        assert!(saved.pending && saved.taken_at_epoch.is_none(), "{saved:?}");
        assert_eq!(job.rollback().unwrap(), 0);
        let e = rpc(job.migrate(Some("left")).unwrap_err());
        assert!(e.code == ErrorCode::InvalidParams && e.message.contains("\"left\""), "{e}");
        assert_eq!(job.migrate(None).unwrap().region, "shared");
        let there = job.mapping().unwrap();
        assert_eq!(there.qubits, [("a".to_string(), 0), ("b".to_string(), 1)].into());
        assert_eq!((there.code.as_str(), there.distance, there.physical_per_logical), ("surface_code", 7, 97));
        let e = rpc(job.replay().unwrap_err());
        assert!(e.message.contains("has not ended"), "{e}");
        s.release(&[&held[0], &held[1]], false).unwrap();
        // Waits for the fence, where the job is still under way.
        restored += s.restore(&saved.checkpoint_id).is_ok() as u32;
        let result = job.wait(Some(Duration::from_secs(60))).unwrap();
        // 8000 T gates are none.
        assert_eq!(result.report.counts, [("00".to_string(), 100)].into());
        assert_eq!(rpc(s.restore(&saved.checkpoint_id).unwrap_err()).code, ErrorCode::NoCheckpoint);
        for late in [job.checkpoint().map(drop), job.rollback().map(drop), job.migrate(None).map(drop)] {
            assert_eq!(rpc(late.unwrap_err()).code, ErrorCode::AlreadyCompleted);
        }
        assert_eq!(job.mapping().unwrap(), Mapping { state: qmk_abi::rpc::JobState::Completed, ..there });
    }
    assert!(restored > 0, "no job was caught under way");
}

/// Depends on an outcome, so that each shot is one of its own and many take long.
const COIN: &str =
    "ALLOC_LQ -> a\nAPPLY_H a\nFENCE_EPOCH\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\nFREE_LQ a\n";

#[test]
fn shots_that_were_done_are_done_again() {
    let machine = start(SimConfig::default());
    let s = session(&machine, "t");
    const SHOTS: u64 = 3_000_000;
    let mut restored = 0;
    for _ in 0..10 {
        let job = s.submit(&Program::asm(COIN), Policy { shots: SHOTS, ..Policy::default() }).unwrap();
        // It may have been past the fence already.
        if let Ok(saved) = job.checkpoint() {
            while job.status().is_ok_and(|s| !s.state.ended() && s.progress.nodes_executed < 100_000) {}
            restored += s.restore(&saved.checkpoint_id).is_ok() as u32;
        }
        let counts = job.wait(Some(Duration::from_secs(60))).unwrap().report.counts;
        assert_eq!(counts.values().sum::<u64>(), SHOTS, "{counts:?}");
    }
    assert!(restored > 0, "no job was caught under way");
}

#[test]
fn finished_jobs_run_again() {
    let machine = start(SimConfig::default());
    let s = session(&machine, "t");
    let coins = "ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_T a\nAPPLY_H a\nAPPLY_H b\nMEASURE_Z a -> m\nMEASURE_Z b -> n\n";
    let job = s.submit(&Program::asm(coins), Policy { shots: 500, seed: 9, ..Policy::default() }).unwrap();
    job.wait(None).unwrap();
    let again = job.replay().unwrap();
    assert_eq!((again.identical, again.seed, again.shots, again.differences.len()), (true, 9, 500, 0));
    // The replay leaves nothing behind.
    assert_eq!(s.resources().unwrap().usage.jobs, 0);
    let next = s.submit(&Program::asm(coins), Policy::default()).unwrap();
    assert_eq!(next.reference().job_id, "job_3");
    // Programs that are longer than what is kept.
    let long = format!("{coins}; {}", "x".repeat(300_000));
    let job = s.submit(&Program::asm(long), Policy::default()).unwrap();
    job.wait(None).unwrap();
    assert_eq!(rpc(job.replay().unwrap_err()).code, ErrorCode::ResourceExhausted);
}

fn call(c: &Client, call: Call) -> Result<Answer, RpcError> {
    match c.call(Request::Interactive(call)).map_err(rpc)? {
        Reply::Interactive(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

/// Every method, in a session, about a qubit, channel, checkpoint and job; `own` and `mine` are the caller's.
fn every(s: &str, q: &str, ch: &str, ck: &str, j: &str, own: &str, mine: &str) -> Vec<Call> {
    let (session_id, channel_id) = (s.to_string(), ch.to_string());
    let session = || session_id.clone();
    let channel = || channel_id.clone();
    let part = Part { session_id: session(), job_id: Some(j.into()) };
    let job = JobRef { session_id: session(), job_id: j.into() };
    let checkpoint = CheckpointRef { session_id: session(), checkpoint_id: ck.into() };
    let reference = ChannelRef { session_id: session(), channel_id: channel() };
    let (qubit, own) = (q.to_string(), own.to_string());
    let used = |semantic, channel_id: &str, qubit: Option<&str>, other: Option<&str>| {
        Call::UseChannel(UseChannel {
            session_id: session(),
            channel_id: channel_id.into(),
            semantic,
            qubit: qubit.map(Into::into),
            other_channel_id: other.map(Into::into),
        })
    };
    vec![
        Call::Apply(Apply { session_id: session(), op: "APPLY_X".into(), qubits: vec![qubit.clone()], theta: None }),
        Call::Apply(Apply {
            session_id: session(),
            op: "APPLY_CNOT".into(),
            qubits: vec![own.clone(), qubit.clone()],
            theta: None,
        }),
        Call::Measure(Measure { session_id: session(), qubit: qubit.clone(), ..Measure::default() }),
        Call::Release(Release { session_id: session(), qubits: vec![qubit.clone()], uncompute: true }),
        Call::OpenChannel(OpenChannel {
            session_id: session(),
            qubit: qubit.clone(),
            peer: "alice".into(),
            fidelity: 0.9,
            kind: None,
        }),
        Call::AcceptChannel(AcceptChannel { session_id: session(), channel_id: channel(), qubit: own.clone() }),
        Call::AcceptChannel(AcceptChannel { session_id: session(), channel_id: mine.into(), qubit: qubit.clone() }),
        used(Semantic::Teleport, ch, Some(&own), None),
        used(Semantic::Swap, ch, None, Some(mine)),
        Call::CloseChannel(reference.clone()),
        Call::ChannelStatus(reference),
        Call::Rollback(part.clone()),
        Call::Checkpoint(part),
        Call::Restore(checkpoint.clone()),
        Call::DropCheckpoint(checkpoint),
        Call::Migrate(Migrate { session_id: session(), job_id: j.into(), region: None }),
        Call::Mapping(job),
        Call::Replay(Replay { session_id: session(), job_id: j.into(), timeout_ms: None }),
    ]
}

#[test]
fn what_another_tenant_has_does_not_exist() {
    let machine = perfect();
    let (a, b, c) = (session(&machine, "alice"), session(&machine, "bob"), session(&machine, "carol"));
    let q = a.alloc(5).unwrap();
    let (channel, ..) = link((&a, "alice"), (&c, "carol"), 1.0);
    let offered = a.open_channel(&q[1], "carol", 1.0).unwrap().channel_id;
    a.apply("APPLY_X", &[&q[0]]).unwrap();
    let policy = Policy { shots: 100_000_000, ..Policy::default() };
    let text = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\nFREE_LQ a\n";
    let running = a.submit(&Program::asm(text), policy).unwrap();
    let done = a.submit(&Program::asm("ALLOC_LQ -> a\nFREE_LQ a\n"), Policy::default()).unwrap();
    done.wait(None).unwrap();
    let before = a.channel(&channel).unwrap();

    // Bob has a qubit and an incoming channel of his own.
    let own = one(&b);
    let mine = c.open_channel(&one(&c), "bob", 1.0).unwrap().channel_id;
    let client = Client::over(machine.connect());
    let sb = b.info().session_id.clone();
    let nothing = every(&sb, "q_99", "chan_0", "ckpt_99", "job_99", &own, &mine);
    for ch in [&channel, &offered] {
        for job in [&running, &done] {
            let alices = every(&sb, &q[4], ch, "ckpt_1", &job.reference().job_id, &own, &mine);
            for (theirs, none) in alices.into_iter().zip(&nothing) {
                let what = format!("{theirs:?}");
                let got = call(&client, theirs).unwrap_err();
                assert_eq!(got, call(&client, none.clone()).unwrap_err(), "{what}");
                assert_ne!(got.code, ErrorCode::Internal, "{what}");
            }
        }
    }
    assert_eq!(b.channels().unwrap().len(), 1);
    assert!(!a.channels().unwrap().iter().any(|c| c.channel_id == mine));
    // No tenant of this name, and none that may be reached.
    let sa = every("sess_0", "q_1", &channel, "ckpt_1", "job_1", "q_1", &offered);
    let list = Call::ChannelList(SessionRef { session_id: "sess_0".into() });
    let alloc = Call::Alloc(Alloc { session_id: "sess_0".into(), n: 1 });
    for theirs in sa.into_iter().chain([list, alloc]) {
        assert_eq!(call(&client, theirs).unwrap_err().code, ErrorCode::SessionNotFound);
    }
    // Nothing happened to what Alice has.
    assert_eq!(a.channel(&channel).unwrap(), before);
    assert_eq!(a.channel(&offered).unwrap().state, ChannelState::Offered);
    assert!(a.measure(&q[0], "z").unwrap());
    running.cancel().unwrap();
}

#[test]
fn what_a_session_held_ends_with_it() {
    let machine = perfect();
    let (b, watch) = (session(&machine, "bob"), session(&machine, "alice"));
    let held = || watch.resources().unwrap().usage.logical_qubits;
    for dropped in [false, true] {
        let client = Client::over(machine.connect());
        let create = SessionCreate { tenant_id: Some("alice".into()), detached: dropped, ..SessionCreate::default() };
        let a = client.session_with(create.clone()).unwrap();
        a.alloc(3).unwrap();
        a.checkpoint().unwrap();
        let (out, _, far) = link((&a, "alice"), (&b, "bob"), 1.0);
        let (back, ..) = link((&b, "bob"), (&a, "alice"), 1.0);
        let open = b.open_channel(&one(&b), "alice", 1.0).unwrap().channel_id;
        assert_eq!(held(), 5);
        if dropped {
            // As when a process dies: no one closes the session, but the connection goes.
            let attached = SessionCreate { detached: false, ..create };
            let connection = machine.connect();
            use qmk_abi::rpc::Endpoint;
            let Ok(Reply::Session(lost)) = connection.call(Request::SessionCreate(attached)) else { panic!() };
            let alloc = Alloc { session_id: lost.session_id, n: 7 };
            connection.call(Request::Interactive(Call::Alloc(alloc))).unwrap();
            assert_eq!(held(), 12);
            drop(connection);
            assert_eq!(held(), 5);
            let id = a.info().session_id.clone();
            client.call(Request::SessionClose(SessionRef { session_id: id })).unwrap();
        }
        drop(a);
        assert_eq!(held(), 0);
        assert_eq!(rpc(b.channel(&out).unwrap_err()).code, ErrorCode::ChannelNotFound);
        assert_eq!(b.channel(&back).unwrap().state, ChannelState::Closed);
        // Its tenant has nothing left of what it accepted.
        assert_eq!(rpc(watch.channel(&back).unwrap_err()).code, ErrorCode::ChannelNotFound);
        // What was not accepted is still on offer, to the tenant's other sessions.
        assert_eq!(b.channel(&open).unwrap().state, ChannelState::Offered);
        assert_eq!(watch.channels().unwrap().len(), 1);
        b.measure(&far, "z").unwrap();
        b.close_channel(&open).unwrap();
        assert!(watch.channels().unwrap().is_empty() && b.channels().unwrap().is_empty());
    }
}

//! What a session may do is what it holds, and it holds what the tenant's policy, the token and the request all name.
//! Programs, qubits held one by one and channels are tried under random policies, tokens and requests.

use qmk_abi::Rights;
use qmk_abi::rpc::interactive::{Alloc, Apply, Call, CheckpointRef, OpenChannel, Part};
use qmk_abi::rpc::*;
use qmk_services::policy::SitePolicy;
use qmk_services::{Connection, Machine, MachineConfig, Peer};
use qmk_sim::SimDevice;
use qmk_testkit::Rng;
use qmk_token::{Attenuation, Grant, Key, Token};
use std::path::Path;
use std::sync::Arc;

type At = Connection<SimDevice>;

/// Neither root nor, most likely, who runs the test.
const ALICE: Peer = Peer { uid: 4_000_000_001, pid: 1 };
const NOBODY: Peer = Peer { uid: 4_000_000_003, pid: 3 };

const ALLOC: Rights = Rights::ALLOC;
const COMPUTE: Rights = Rights::COMPUTE;
const MEASURE: Rights = Rights::MEASURE;
const MAGIC: Rights = Rights::MAGIC;

/// Lines over the qubits `a`, `b` and `c`, and the classes that they use.
fn lines() -> Vec<(String, Rights)> {
    let none = Rights::empty();
    let special = [
        ("FENCE_EPOCH", none),
        ("RESET a", COMPUTE),
        ("APPLY_RZ a, theta=pi/2", COMPUTE),
        ("APPLY_RZ a, theta=0.3", COMPUTE | MAGIC),
        ("APPLY_P a, theta=0.3", COMPUTE | MAGIC),
        ("APPLY_CCX a, b, c", COMPUTE | MAGIC),
        ("MEASURE_BELL a, b -> m", MEASURE),
        ("MEASURE_ANGLE a, angle=0 -> m", MEASURE),
        ("MEASURE_ANGLE a, angle=pi -> m", MEASURE | COMPUTE),
        ("MEASURE_ANGLE a, angle=0.3 -> m", MEASURE | MAGIC),
        ("MEASURE_Z b -> m\nCOND_PAULI a, mask=\"X\", inputs=[m]", MEASURE | COMPUTE),
        ("MEASURE_Z b -> m\nAPPLY_H a if m==1", MEASURE | COMPUTE),
        ("TELEPORT_CNOT a, b", Rights::TELEPORT),
        ("INJECT_T_STATE a", MAGIC),
        ("OPEN_CHAN a, b -> ch\nCLOSE_CHAN ch", Rights::LINK | COMPUTE),
    ];
    let mut lines = special.map(|(line, classes)| (line.to_string(), classes)).to_vec();
    lines.extend(["H", "S", "SDG", "X", "Y", "Z", "SX", "SXDG"].map(|g| (format!("APPLY_{g} a"), COMPUTE)));
    lines.extend(["T", "TDG"].map(|g| (format!("APPLY_{g} a"), COMPUTE | MAGIC)));
    lines.extend(["CNOT", "CZ", "SWAP"].map(|g| (format!("APPLY_{g} a, b"), COMPUTE)));
    lines.extend(["X", "Y", "Z"].map(|b| (format!("MEASURE_{b} a -> m"), MEASURE)));
    lines
}

/// Operations on qubits held one by one, with the number of qubits, the angle and the classes.
const APPLIED: [(&str, usize, Option<f64>, Rights); 14] = [
    ("APPLY_H", 1, None, COMPUTE),
    ("APPLY_X", 1, None, COMPUTE),
    ("APPLY_S", 1, None, COMPUTE),
    ("APPLY_CNOT", 2, None, COMPUTE),
    ("APPLY_T", 1, None, COMPUTE.union(MAGIC)),
    ("APPLY_RZ", 1, Some(0.3), COMPUTE.union(MAGIC)),
    ("APPLY_RX", 1, Some(std::f64::consts::PI), COMPUTE),
    ("APPLY_CCZ", 3, None, COMPUTE.union(MAGIC)),
    ("RESET", 1, None, COMPUTE),
    ("MEASURE_Z", 1, None, MEASURE),
    ("MEASURE_X", 1, None, MEASURE),
    ("MEASURE_ANGLE", 1, Some(0.3), MEASURE.union(MAGIC)),
    ("TELEPORT_CNOT", 2, None, Rights::TELEPORT),
    ("INJECT_T_STATE", 1, None, MAGIC),
];

fn some(random: &mut Rng) -> Rights {
    // Half of the sets hold most classes, so that much is allowed too.
    let mask = if random.one_in(2) { random.next() | random.next() | random.next() } else { random.next() };
    Rights::from_bits_truncate(mask as u32) & (Rights::CLASSES - Rights::ADMIN)
}

/// A machine on which one tenant holds these classes, and another all of them.
fn machine(held: Rights) -> Machine<SimDevice> {
    let names: Vec<String> = held.class_names().iter().map(|n| format!("{n:?}")).collect();
    let text = format!(
        "[tokens]\nkey = \"token.key\"\n[tenants.a]\nuids = [{}]\ncapabilities = [{}]\n\
         [tenants.other]\nuids = []\ncapabilities = [\"CAP_ALLOC\"]\n",
        ALICE.uid,
        names.join(", ")
    );
    let mut policy = SitePolicy::parse(&text, Path::new("policy.toml")).unwrap();
    policy.tokens.as_mut().unwrap().key = Some(key());
    Machine::start(SimDevice::default(), MachineConfig { policy: Some(Arc::new(policy)), ..MachineConfig::default() })
}

fn key() -> Key {
    Key::new([9; 32])
}

/// A session under a random token, or none, that asks for random classes, or by default; and what it should hold.
fn session(machine: &Machine<SimDevice>, policy: Rights, random: &mut Rng) -> (At, SessionInfo, Rights) {
    let (mut held, mut create) = (policy - Rights::ADMIN, SessionCreate::default());
    let mut at = machine.connect_as(ALICE);
    if random.one_in(2) {
        let (granted, kept) = (some(random), some(random));
        let token = Token::issue(&key(), Grant::new("a", granted, u64::MAX, 4).unwrap()).unwrap();
        let token = token.attenuate(&Attenuation { capabilities: Some(kept & granted), ..Attenuation::default() });
        create.token = Some(token.unwrap().to_string());
        (held, at) = (held & granted & kept, machine.connect_as(NOBODY));
    }
    match random.below(3) {
        0 => {}
        1 => (create.requested, held) = (Some(Vec::new()), Rights::empty()),
        _ => {
            let asked = some(random);
            (create.requested, held) = (Some(asked.class_names()), held & asked);
        }
    }
    let Ok(Reply::Session(info)) = at.call(Request::SessionCreate(create)) else { panic!("no session") };
    assert_eq!(info.granted, held.class_names());
    (at, info, held)
}

/// That a call was refused for exactly the classes that it lacks, or not for lack of any.
fn judge<T: std::fmt::Debug>(what: &str, result: Result<T, RpcError>, need: Rights, held: Rights) -> Option<T> {
    let missing = need - held;
    match result {
        Err(e) if e.code == ErrorCode::InsufficientCaps => {
            assert!(!missing.is_empty(), "{what} was refused to a session that holds {held}");
            assert_eq!(e.missing, missing.class_names(), "{what}");
            None
        }
        result => {
            assert!(missing.is_empty(), "{what} was let through to a session that holds {held}: {result:?}");
            Some(result.unwrap_or_else(|e| panic!("{what}: {e}")))
        }
    }
}

/// Programs whose `.caps` is left out, complete, or short by some.
fn programs(at: &At, session: &str, held: Rights, random: &mut Rng) {
    for (line, classes) in lines() {
        let need = classes | ALLOC;
        let declared = match random.below(3) {
            0 => String::new(),
            1 => format!(".caps {}\n", need.class_names().join(" ")),
            _ => ".caps CAP_ALLOC\n".into(),
        };
        let source = format!("{declared}ALLOC_LQ -> a, b, c\n{line}\nFREE_LQ a, b, c\n");
        let submit = JobSubmit { session_id: session.into(), source, format: Format::Asm, policy: Policy::default() };
        let reply = judge(&line, at.call(Request::JobSubmit(submit)), need, held);
        let Some(Reply::Submitted(job)) = reply else { continue };
        let wait = JobWait { session_id: session.into(), job_id: job.job_id, timeout_ms: Some(60_000) };
        let Ok(Reply::Status(status)) = at.call(Request::JobWait(wait)) else { panic!("{line}: no status") };
        assert_eq!(status.state, JobState::Completed, "{line} in a session that holds {held}: {status:?}");
    }
}

fn interactive(at: &At, session: &str, held: Rights) {
    let call = |call| at.call(Request::Interactive(call));
    for (op, n, theta, need) in APPLIED {
        let taken = judge("q_alloc", call(Call::Alloc(Alloc { session_id: session.into(), n: 3 })), ALLOC, held);
        let Some(Reply::Interactive(interactive::Answer::Alloc(taken))) = taken else {
            // Without a qubit, the classes are still judged first.
            let apply = Apply { session_id: session.into(), op: op.into(), qubits: vec!["q_1".into(); n], theta };
            if !held.contains(need) {
                judge(op, call(Call::Apply(apply)), need, held);
            }
            continue;
        };
        let qubits = taken.qubits[..n].to_vec();
        judge(op, call(Call::Apply(Apply { session_id: session.into(), op: op.into(), qubits, theta })), need, held);
        let release =
            interactive::Release { session_id: session.into(), qubits: taken.qubits.clone(), uncompute: false };
        call(Call::Release(release)).unwrap();
    }
}

/// Calls on channels and checkpoints need their classes before they look at what they name.
fn classes_of_calls(at: &At, session: &str, held: Rights) {
    let (session_id, job_id) = (session.to_string(), None);
    let offer = OpenChannel {
        session_id: session.into(),
        qubit: "q_9".into(),
        peer: "other".into(),
        fidelity: 0.9,
        kind: None,
    };
    let checkpoint = CheckpointRef { session_id: session.into(), checkpoint_id: "ckpt_9".into() };
    let part = Part { session_id: session_id.clone(), job_id };
    let calls = [
        (Call::OpenChannel(offer), Rights::LINK),
        (Call::ChannelList(SessionRef { session_id }), Rights::LINK),
        (Call::Checkpoint(part.clone()), Rights::CHECKPOINT),
        (Call::Restore(checkpoint.clone()), Rights::CHECKPOINT),
        (Call::DropCheckpoint(checkpoint), Rights::empty()),
        (Call::Rollback(part), COMPUTE),
    ];
    for (call, need) in calls {
        let method = call.method();
        let refused = at.call(Request::Interactive(call)).err().filter(|e| e.code == ErrorCode::InsufficientCaps);
        let missing = refused.map_or(Vec::new(), |e| e.missing);
        assert_eq!(missing, (need - held).class_names(), "{method} in a session that holds {held}");
    }
}

#[test]
fn a_session_may_do_what_it_holds() {
    let mut random = Rng::new(16);
    let (mut sessions, mut full) = (0, 0);
    for _ in 0..12 {
        let policy = some(&mut random);
        let machine = machine(policy);
        for _ in 0..4 {
            let (at, info, held) = session(&machine, policy, &mut random);
            (sessions, full) = (sessions + 1, full + u32::from(held.contains(ALLOC | COMPUTE | MEASURE)));
            programs(&at, &info.session_id, held, &mut random);
            interactive(&at, &info.session_id, held);
            classes_of_calls(&at, &info.session_id, held);
        }
    }
    assert!((4..sessions - 4).contains(&full), "{full} of {sessions} sessions hold the usual classes");
}

#[test]
fn without_caps_a_program_needs_what_it_uses() {
    let machine = machine(ALLOC);
    let at = machine.connect_as(ALICE);
    let Ok(Reply::Session(info)) = at.call(Request::SessionCreate(SessionCreate::default())) else { panic!() };
    assert_eq!(info.granted, ["CAP_ALLOC"]);
    let source = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a\n".into();
    let submit = JobSubmit { session_id: info.session_id, source, format: Format::Asm, policy: Policy::default() };
    let refused = at.call(Request::JobSubmit(submit)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InsufficientCaps);
    assert_eq!(refused.missing, ["CAP_COMPUTE", "CAP_MEASURE"]);
}

/// A frame of the older form that names no capability asks for all.
#[test]
fn older_frames_keep_their_meaning() {
    let machine = machine(ALLOC | COMPUTE);
    let open = |request| match machine.connect_as(ALICE).call(request).unwrap() {
        Reply::Session(info) => info.granted,
        other => panic!("{other:?}"),
    };
    // Variant 0: no capabilities, no tenant, no token, not detached, no observer.
    let frame: Request = postcard::from_bytes(&[0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(open(frame), ["CAP_ALLOC", "CAP_COMPUTE"]);
    let one = SessionCreateV1 { requested: vec!["CAP_ALLOC".into()], ..SessionCreateV1::default() };
    assert_eq!(open(Request::SessionCreateV1(one)), ["CAP_ALLOC"]);
    let asked = |requested| open(Request::SessionCreate(SessionCreate { requested, ..SessionCreate::default() }));
    assert_eq!(asked(None), ["CAP_ALLOC", "CAP_COMPUTE"]);
    assert_eq!(asked(Some(Vec::new())), Vec::<String>::new());
}

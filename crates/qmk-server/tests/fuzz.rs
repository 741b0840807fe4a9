//! Both wire forms under noise. `QMK_FUZZ_SECONDS` says for how long; the seed is fixed and printed.

#[allow(dead_code)]
mod common;

use common::{BELL, Server, eventually};
use qmk_abi::rpc::interactive::Call;
use qmk_abi::rpc::json as wire;
use qmk_abi::rpc::{Policy, Request, SessionCreate, SessionRef};
use qmk_testkit::Rng;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// A request of each kind, in this session and about this job.
fn requests(session_id: &str, job_id: &str) -> Vec<Request> {
    let ids = |more: Value| {
        let mut v = json!({"session_id": session_id, "job_id": job_id});
        v.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        v
    };
    let policy = json!({"shots": 3, "seed": 7, "priority": 1, "params": {}});
    let operation = ids(json!({"n": 2, "qubit": "q_1", "qubits": ["q_1", "q_2"], "op": "APPLY_CNOT", "basis": "x",
        "theta": 0.3, "uncompute": true, "peer": "other", "fidelity": 0.9, "type": "", "channel_id": "chan_1",
        "semantic": "swap", "other_channel_id": "chan_2", "checkpoint_id": "ckpt_1", "region": "shared", "timeout_ms": 1}));
    // What closes the session comes last.
    let methods = [
        ("qmk_session_create", json!({"requested": ["CAP_ALLOC"], "tenant_id": "someone"})),
        ("qmk_job_submit", ids(json!({"source": BELL, "format": "asm", "policy": policy}))),
        ("qmk_job_status", ids(json!({}))),
        ("qmk_job_wait", ids(json!({"timeout_ms": 1}))),
        ("qmk_job_result", ids(json!({}))),
        ("qmk_job_list", ids(json!({}))),
        ("q_get_telemetry", ids(json!({}))),
        ("qmk_resource_query", ids(json!({}))),
        ("qmk_machine_stats", ids(json!({}))),
        ("qmk_audit_head", ids(json!({}))),
        ("qmk_audit_prove", ids(json!({"index": 0}))),
        ("qmk_authenticate", json!({"token": "qmk1.e30.00"})),
    ];
    let end = [("qmk_job_cancel", ids(json!({}))), ("qmk_session_close", ids(json!({})))];
    let interactive = Call::METHODS.iter().map(|m| (*m, operation.clone()));
    let all = methods.into_iter().chain(interactive).chain(end);
    all.map(|(method, params)| wire::request_from_json(method, params).unwrap_or_else(|e| panic!("{method}: {e}")))
        .collect()
}

/// A session that outlives its connection, and a job of it that has ended.
fn session(server: &Server) -> (String, String) {
    let client = server.client();
    let session = client.session_with(SessionCreate { detached: true, ..SessionCreate::default() }).unwrap();
    let job = session.submit(&qmk_client::Program::asm(BELL), Policy::default()).unwrap();
    job.wait(None).unwrap();
    (session.info().session_id.clone(), job.reference().job_id.clone())
}

fn message(request: &Request, binary: bool) -> Vec<u8> {
    if binary {
        let body = postcard::to_allocvec(request).unwrap();
        [&(body.len() as u32).to_le_bytes(), body.as_slice()].concat()
    } else {
        wire::request_to_json(request, 7).to_string().into_bytes()
    }
}

/// Some messages, most of them hurt.
fn noise(rng: &mut Rng, requests: &[Request], binary: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=rng.below(8) {
        let mut m = message(&requests[rng.below(requests.len())], binary);
        match rng.below(4) {
            0 => {}
            1 => m = (0..rng.below(200)).map(|_| rng.next() as u8).collect(),
            _ => {
                for _ in 0..=rng.below(5) {
                    let (at, byte) = (rng.below(m.len()), rng.next() as u8);
                    match rng.below(4) {
                        0 => m[at] = byte,
                        1 => m.insert(at, byte),
                        2 if m.len() > 1 => _ = m.remove(at),
                        _ => m.truncate(at.max(1)),
                    }
                }
            }
        }
        bytes.extend(m);
    }
    if binary { [b"QMK1".as_slice(), &bytes].concat() } else { bytes }
}

fn threads(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap().count()
}

fn still_serves(server: &Server, threads_before: usize) {
    server.client().session_default().unwrap().run(&qmk_client::Program::asm(BELL), Policy::default()).unwrap();
    eventually("its threads are gone", || threads(server) <= threads_before);
}

#[test]
fn noise_leaves_the_server_standing() {
    let seconds = std::env::var("QMK_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5.0);
    let server = Server::start("max_message_bytes = 100000");
    let before = threads(&server);
    let mut rng = Rng::new(20_261_125);
    println!("{seconds} s");
    let (start, mut rounds, mut requests) = (Instant::now(), 0, Vec::new());
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        let binary = rng.below(2) == 0;
        // What came before may have closed the session.
        if rounds % 20 == 0 {
            let (session, job) = session(&server);
            requests = self::requests(&session, &job);
        }
        let bytes = noise(&mut rng, &requests, binary);
        let out = match rng.below(3) {
            // In parts, and sometimes without waiting for replies.
            0 => {
                let mut stream = server.stream();
                for part in bytes.chunks(1 + rng.below(bytes.len())) {
                    _ = stream.write_all(part);
                }
                if rng.below(4) == 0 {
                    continue;
                }
                _ = stream.shutdown(std::net::Shutdown::Write);
                let mut out = Vec::new();
                _ = stream.read_to_end(&mut out);
                out
            }
            _ => server.exchange(&bytes),
        };
        if binary {
            let mut rest = out.as_slice();
            while !rest.is_empty() {
                let length = u32::from_le_bytes(*rest.first_chunk().expect("whole frames")) as usize;
                postcard::from_bytes::<Result<qmk_abi::rpc::Reply, qmk_abi::rpc::RpcError>>(&rest[4..4 + length])
                    .expect("every frame is a reply")
                    .err()
                    .inspect(|e| assert_ne!(e.code, qmk_abi::rpc::ErrorCode::Internal, "{e}"));
                rest = &rest[4 + length..];
            }
        } else {
            for v in serde_json::Deserializer::from_slice(&out).into_iter::<serde_json::Value>() {
                let v = v.expect("every reply is JSON");
                assert_ne!(v["error"]["code"], -32603, "{v} to {}", String::from_utf8_lossy(&bytes));
            }
        }
        rounds += 1;
    }
    println!("{rounds} rounds");
    still_serves(&server, before);
}

#[test]
fn a_message_may_come_in_parts_cut_anywhere() {
    let server = Server::start("");
    let before = threads(&server);
    let requests = requests("sess_00000000000000000000000000000000", "job_1");
    let all = |binary| requests.iter().flat_map(|r| message(r, binary)).collect::<Vec<_>>();
    // Session ids are random, so only what is not found is the same each time.
    let lines = |out: &[u8]| out.split(|&b| b == b'\n').skip(1).map(<[u8]>::to_vec).collect::<Vec<_>>();
    for binary in [false, true] {
        let bytes = if binary { [b"QMK1".as_slice(), &all(true)].concat() } else { all(false) };
        let whole = server.exchange(&bytes);
        assert!(whole.len() > 200, "{} bytes", whole.len());
        for at in 1..bytes.len() {
            let mut stream = server.stream();
            stream.write_all(&bytes[..at]).unwrap();
            std::thread::yield_now();
            stream.write_all(&bytes[at..]).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut out = Vec::new();
            stream.read_to_end(&mut out).unwrap();
            assert_eq!(out.len(), whole.len(), "cut at {at}");
            assert!(binary || lines(&out) == lines(&whole), "cut at {at}");
        }
    }
    still_serves(&server, before);
}

#[test]
fn many_pipelined_requests_are_answered_in_order() {
    let server = Server::start("");
    let before = threads(&server);
    let mut stream = server.stream();
    let mut sender = stream.try_clone().unwrap();
    let request =
        |id| wire::request_to_json(&Request::ResourceQuery(SessionRef { session_id: "s".into() }), id).to_string();
    let sending = std::thread::spawn(move || (0..100_000).try_for_each(|id| sender.write_all(request(id).as_bytes())));
    let (mut expected, mut bytes, mut chunk) = (0u64, Vec::new(), vec![0; 64 << 10]);
    while expected < 100_000 {
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0);
        bytes.extend_from_slice(&chunk[..n]);
        let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        for line in bytes[..end].split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
            assert_eq!(serde_json::from_slice::<serde_json::Value>(line).unwrap()["id"], expected);
            expected += 1;
        }
        bytes.drain(..end);
    }
    sending.join().unwrap().unwrap();
    drop(stream);
    still_serves(&server, before);
}

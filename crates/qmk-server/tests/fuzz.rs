//! Both wire forms under noise. `QMK_FUZZ_SECONDS` says for how long; the seed is fixed and printed.

#[allow(dead_code)]
mod common;

use common::{BELL, Server, eventually};
use qmk_abi::rpc::{Format, JobRef, JobSubmit, JobWait, Policy, Request, SessionCreate, SessionRef};
use qmk_client::wire;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// SplitMix64 (Steele, Lea & Flood, OOPSLA'14).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn requests() -> Vec<Request> {
    let session_id = String::from("sess_00000000000000000000000000000000");
    let job = JobRef { session_id: session_id.clone(), job_id: "job_1".into() };
    let submit = JobSubmit {
        session_id: session_id.clone(),
        source: BELL.into(),
        format: Format::Asm,
        policy: Policy::default(),
    };
    vec![
        Request::SessionCreate(SessionCreate { requested: vec!["CAP_ALLOC".into()], ..SessionCreate::default() }),
        Request::SessionClose(SessionRef { session_id: session_id.clone() }),
        Request::JobSubmit(submit),
        Request::JobStatus(job.clone()),
        Request::JobWait(JobWait { session_id: session_id.clone(), job_id: "job_1".into(), timeout_ms: Some(1) }),
        Request::JobResult(job.clone()),
        Request::JobCancel(job.clone()),
        Request::ResourceQuery(SessionRef { session_id }),
        Request::Telemetry(job),
    ]
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
fn noise(rng: &mut Rng, binary: bool) -> Vec<u8> {
    let requests = requests();
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
    server.client().session(&[]).unwrap().run(&qmk_client::Program::asm(BELL), Policy::default()).unwrap();
    eventually("its threads are gone", || threads(server) <= threads_before);
}

#[test]
fn noise_leaves_the_server_standing() {
    let seconds = std::env::var("QMK_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5.0);
    let server = Server::start("max_message_bytes = 100000");
    let before = threads(&server);
    let mut rng = Rng(20_261_125);
    println!("seed {}, {seconds} s", rng.0);
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        let binary = rng.below(2) == 0;
        let bytes = noise(&mut rng, binary);
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
    let all = |binary| requests().iter().flat_map(|r| message(r, binary)).collect::<Vec<_>>();
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

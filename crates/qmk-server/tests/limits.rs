//! What one client may take from the others: requests, memory, time.

#[allow(dead_code)]
mod common;

use common::{BELL, Server, eventually};
use qmk_abi::rpc::{ErrorCode, SessionCreate};
use qmk_client::{Policy, Program};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

#[test]
fn a_tenants_requests_are_limited_and_anothers_are_not() {
    let server = Server::start("max_requests_per_second = 20");
    let tenant = |name: &str| SessionCreate { tenant_id: Some(name.into()), ..SessionCreate::default() };
    let client = server.client();
    let loud = client.session_with(tenant("loud")).unwrap();
    let refused = (0..10_000).find_map(|_| loud.resources().err()).expect("one is refused");
    assert_eq!(refused.code(), Some(ErrorCode::QuotaExceeded));
    let qmk_client::ClientError::Rpc(e) = &refused else { panic!("{refused}") };
    let wait = e.retry_after_ms.expect("a hint when to retry");
    assert!((1..=51).contains(&wait) && e.message.contains("try again in"), "{e}");
    server.client().session_with(tenant("quiet")).unwrap().resources().unwrap();
    std::thread::sleep(Duration::from_millis(wait));
    loud.resources().unwrap();
}

#[test]
fn a_wait_is_one_request() {
    let server = Server::start("max_requests_per_second = 5");
    let client = server.client();
    let session = client.session_default().unwrap();
    let slow = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\n";
    let job = session.submit(&Program::asm(slow), Policy { shots: 100_000_000, ..Policy::default() }).unwrap();
    // Twenty slices.
    let e = job.wait(Some(Duration::from_secs(2))).unwrap_err();
    assert_eq!(e.code(), Some(ErrorCode::Timeout), "{e}");
    job.cancel().unwrap();
}

#[test]
fn programs_are_bounded_in_nodes_and_in_the_memory_of_a_session() {
    let server = Server::start("max_nodes = 100\nmax_session_bytes = 20000");
    let client = server.client();
    let session = client.session_default().unwrap();
    session.run(&Program::asm(BELL), Policy::default()).unwrap();
    let gates = |n: usize| Program::asm(format!("ALLOC_LQ -> a\n{}FREE_LQ a", "APPLY_H a\n".repeat(n)));
    let e = session.submit(&gates(99), Policy::default()).map(|_| ()).unwrap_err();
    assert_eq!(e.code(), Some(ErrorCode::QuotaExceeded));
    assert!(e.to_string().contains("101 instructions"), "{e}");
    let slow = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\n";
    let policy = Policy { shots: 100_000_000, ..Policy::default() };
    let mut jobs = Vec::new();
    let e = loop {
        match session.submit(&Program::asm(slow), policy.clone()) {
            Ok(job) => jobs.push(job),
            Err(e) => break e,
        }
        assert!(jobs.len() < 500, "a session holds what it likes");
    };
    assert_eq!(e.code(), Some(ErrorCode::QuotaExceeded));
    assert!(e.to_string().contains("max") || e.to_string().contains("unfinished jobs"), "{e}");
    jobs.pop().unwrap().cancel().unwrap();
    session.submit(&Program::asm(slow), policy).unwrap();
}

#[test]
fn small_texts_of_large_programs_take_little_memory() {
    let source = "ALLOC_LQ -> a\n.for i in 1..900000\nAPPLY_X a\n.endfor\nMEASURE_Z a -> x\nFREE_LQ a";
    let server = Server::start("");
    let session = server.client().session_default().unwrap();
    let submit = |n: usize, source: &str| {
        std::thread::scope(|scope| {
            let one = || session.submit(&Program::asm(source), Policy::default()).map(drop).unwrap_err();
            let all: Vec<_> = (0..n).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
        })
    };
    for e in submit(24, source) {
        assert_eq!(e.code(), Some(ErrorCode::QuotaExceeded), "{e}");
        assert!(e.to_string().contains("more than the 250000"), "{e}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    let peak: u64 = peak.parse().unwrap();
    println!("{} MB", peak >> 10);
    assert!(peak < 1 << 20, "{peak} kB");
}

fn threads(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap().count()
}

/// What a client sees until it is cut off.
fn to_end(mut stream: std::os::unix::net::UnixStream) -> String {
    let mut out = String::new();
    _ = stream.read_to_string(&mut out);
    out
}

#[test]
fn half_messages_and_readers_that_do_not_read_lose_their_thread() {
    let server = Server::start("stall_seconds = 1");
    let before = threads(&server);
    let mut half = server.stream();
    half.write_all(b"{\"jsonrpc\":").unwrap();
    let mut magic = server.stream();
    magic.write_all(b"QM").unwrap();
    let mut frame = server.stream();
    frame.write_all(b"QMK1\x10\0\0\0a").unwrap();
    let mut drip = server.stream();
    let mut deaf = server.stream();
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"foobar"}"#.repeat(20_000);
    deaf.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    _ = deaf.write_all(request.as_bytes());
    let silent = server.stream();
    for _ in 0..60 {
        std::thread::sleep(Duration::from_millis(50));
        _ = drip.write_all(b"[");
    }
    // None of them has left, and only the one that did nothing wrong is kept.
    eventually("their threads are gone", || threads(&server) == before + 1);
    assert!(to_end(half).contains("not complete"));
    assert!(to_end(magic).contains("not complete"));
    assert!(to_end(frame).contains("not complete"));
    assert!(to_end(drip).contains("not complete"));
    drop((deaf, silent));
    eventually("all threads are gone", || threads(&server) == before);
}

#[test]
fn silence_ends_a_connection_only_where_it_is_configured() {
    let patient = Server::start("");
    let strict = Server::start("idle_seconds = 1");
    let open = |server: &Server| {
        let mut stream = server.stream();
        stream.write_all(b"1 ").unwrap();
        stream.read_exact(&mut [0; 20]).unwrap();
        stream
    };
    let (kept, mut cut) = (open(&patient), open(&strict));
    let start = Instant::now();
    cut.read_to_end(&mut Vec::new()).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    std::thread::sleep(Duration::from_secs(1));
    let mut kept = std::io::BufReader::new(kept);
    std::io::BufRead::read_line(&mut kept, &mut String::new()).unwrap();
    kept.get_mut().write_all(b"1 ").unwrap();
    kept.read_exact(&mut [0; 20]).unwrap();
}

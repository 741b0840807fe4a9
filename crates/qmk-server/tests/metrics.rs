//! The server's figures and its log.

#[allow(dead_code)]
mod common;

use common::{BELL, Server, eventually};
use qmk_client::{Client, Policy, Program};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

struct Watched {
    child: Child,
    socket: PathBuf,
    metrics: PathBuf,
    dir: tempfile::TempDir,
}

impl Drop for Watched {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Watched {
    fn start(args: &[&str]) -> Watched {
        let dir = tempfile::tempdir().unwrap();
        let (socket, metrics) = (dir.path().join("qmk.sock"), dir.path().join("metrics.sock"));
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Server::command(&socket);
        command.arg("--metrics").arg(format!("unix:{}", metrics.display())).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line}");
        Watched { child, socket, metrics, dir }
    }

    fn client(&self) -> Client {
        Client::connect(self.socket.to_str().unwrap()).unwrap()
    }

    fn scrape(&self) -> HashMap<String, f64> {
        let reply = ask(&self.metrics, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("version=0.0.4"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        let samples = body.lines().filter(|l| !l.starts_with('#')).map(|l| {
            let (name, value) = l.rsplit_once(' ').unwrap();
            (name.to_string(), value.parse().unwrap())
        });
        samples.collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

/// Sends a request and reads the reply to its end.
fn ask(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    _ = stream.write_all(request.as_bytes());
    let mut out = String::new();
    _ = stream.read_to_string(&mut out);
    out
}

#[test]
fn the_figures_are_those_of_what_happened() {
    let server = Watched::start(&[]);
    assert_eq!(server.metrics.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let idle = server.scrape();
    assert_eq!((idle["qmk_connections"], idle["qmk_qubits"]), (0.0, 10_000.0));
    assert!(idle["process_resident_memory_bytes"] > 1e6);

    let client = server.client();
    let session = client.session_default().unwrap();
    for seed in 0..3 {
        session.run(&Program::asm(BELL), Policy { shots: 10, seed, ..Policy::default() }).unwrap();
    }
    session.run(&Program::asm("APPLY_T a"), Policy::default()).unwrap_err();
    // What is no request is counted as well.
    let mut stream = UnixStream::connect(&server.socket).unwrap();
    stream.write_all(b"{\"jsonrpc\": \"2.0\", \"method\": \"nothing\", \"id\": 1} }").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    _ = stream.read_to_string(&mut String::new());

    let after = server.scrape();
    assert_eq!(after["qmk_requests_total{method=\"qmk_job_submit\"}"], 4.0);
    assert_eq!(after["qmk_request_seconds_count{method=\"qmk_job_submit\"}"], 4.0);
    assert_eq!(after["qmk_request_seconds_bucket{method=\"qmk_job_submit\",le=\"+Inf\"}"], 4.0);
    assert_eq!(after["qmk_errors_total{code=\"INVALID_GRAPH\"}"], 1.0);
    assert_eq!(after["qmk_errors_total{code=\"METHOD_NOT_FOUND\"}"], 1.0);
    assert_eq!(after["qmk_errors_total{code=\"PARSE_ERROR\"}"], 1.0);
    assert_eq!(after["qmk_jobs_ended_total{state=\"completed\",tenant=\"default\"}"], 3.0);
    assert_eq!(after["qmk_jobs{state=\"running\",tenant=\"default\"}"], 0.0);
    assert_eq!(after["qmk_tenant_sessions{tenant=\"default\"}"], 1.0);
    assert_eq!(after["qmk_connections_total"], 2.0);
    assert!(after["qmk_epochs_total"] > idle["qmk_epochs_total"] && after["qmk_instructions_total"] >= 18.0);
    assert!(after["qmk_received_bytes_total"] > 500.0 && after["qmk_sent_bytes_total"] > 500.0);
    drop((session, client, stream));
    eventually("the connections are closed", || server.scrape()["qmk_connections"] == 0.0);
    let again = server.scrape();
    assert!(again["qmk_epochs_total"] >= after["qmk_epochs_total"]);
}

#[test]
fn only_reading_the_figures_is_served() {
    let server = Watched::start(&[]);
    let status = |request: &str| ask(&server.metrics, request).lines().next().unwrap_or_default().to_string();
    assert_eq!(status("GET / HTTP/1.0\n\n"), "HTTP/1.1 200 OK");
    let head = ask(&server.metrics, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(status("GET /etc/passwd HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
    assert_eq!(status("POST /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(status("nonsense\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(9000));
    assert_eq!(status(&long), "HTTP/1.1 431 Request Header Fields Too Large");
}

#[test]
fn a_scraper_that_stalls_holds_no_one_for_long() {
    let server = Watched::start(&[]);
    // Many that say nothing, and one that sends a byte now and then.
    let silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&server.metrics).unwrap()).collect();
    let mut slow = UnixStream::connect(&server.metrics).unwrap();
    let dripping = std::thread::spawn(move || {
        let pause = || std::thread::sleep(Duration::from_millis(100));
        (0..200).take_while(|_| slow.write_all(b"G").is_ok()).inspect(|_| pause()).count()
    });
    // The figures come while all of them are there.
    assert!(server.scrape().contains_key("qmk_epochs_total"));
    drop(silent);
    assert!(dripping.join().unwrap() < 200, "the slow one was never cut off");
}

#[test]
fn other_machines_are_not_served() {
    for address in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:80"] {
        let dir = tempfile::tempdir().unwrap();
        let out = Server::command(&dir.path().join("s")).args(["--metrics", address]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains("other machines") && said.contains("127.0.0.1"), "{said}");
    }
}

#[test]
fn the_log_tells_what_happened_and_no_secrets() {
    for json in [false, true] {
        let server = Watched::start(&["--log", "debug", "--log-format", if json { "json" } else { "text" }]);
        let client = server.client();
        let session = client.session_default().unwrap();
        let program = "; a private remark\nALLOC_LQ -> hidden_name\nMEASURE_Z hidden_name -> m\nFREE_LQ hidden_name\n";
        session.run(&Program::asm(program), Policy::default()).unwrap();
        session.run(&Program::asm("APPLY_T hidden_name"), Policy::default()).unwrap_err();
        let id = session.info().session_id.clone();
        drop((session, client));
        eventually("the connection is closed", || server.log().contains("closed"));
        let log = server.log();
        for said in
            ["session opened", "job submitted", "job started", "job ended", "COMPLETED", "refused", "INVALID_GRAPH"]
        {
            assert!(log.contains(said), "{said}: {log}");
        }
        assert!(!log.contains(&id) && !log.contains("hidden_name") && !log.contains("remark"), "{log}");
        let lines = log.lines().filter(|l| !l.starts_with("qmk-server:"));
        let parsed = lines.map(|l| serde_json::from_str::<serde_json::Value>(l).is_ok());
        assert!(parsed.clone().count() > 5 && parsed.clone().all(|p| p == json), "{log}");
    }
    let quiet = Watched::start(&[]);
    quiet.client().session_default().unwrap();
    assert_eq!(quiet.log().lines().count(), 1, "{}", quiet.log());
    let dir = tempfile::tempdir().unwrap();
    let out = Server::command(&dir.path().join("s")).args(["--log", "verbose"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("expected off, error"));
}

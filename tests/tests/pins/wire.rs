//! The replies of a server with a fresh machine to fixed requests, as they come over its socket.
//!
//! A recording of the text form holds request and reply line by line. One of the binary form holds the bytes of each
//! frame in hexadecimal. Times and ids, which differ from run to run, are struck out.

use crate::recordings;
use qmk_abi::rpc::interactive::{Answer, Call, Measure};
use qmk_abi::rpc::{Format, JobRef, JobSubmit, JobWait, Policy, Reply, Request, RpcError, SessionCreateV1, SessionRef};
use qmk_qec::machine::NoisyDevice;
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimConfig;
use qmk_tests::pins::without_volatile;
use qmk_tests::server::LocalServer;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shots of each run.
const SHOTS: u64 = 40;
const SEED: u64 = 7;

struct Running {
    server: LocalServer,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let device = NoisyDevice::simulated(SimConfig { threads: 1, ..SimConfig::default() }).with_threads(1);
        let config = MachineConfig { seed: Some(SEED), lockstep: true, ..MachineConfig::default() };
        let machine = Arc::new(Machine::start(device, config));
        Running { server: LocalServer::of(&folder.path().join("qmk.sock"), machine), _folder: folder }
    }

    fn stream(&self) -> UnixStream {
        UnixStream::connect(&self.server.path).unwrap()
    }

    fn text(&self) -> Text {
        Text { stream: BufReader::new(self.stream()), transcript: String::new(), id: 0 }
    }

    fn binary(&self) -> Binary {
        let mut stream = self.stream();
        stream.write_all(b"QMK1").unwrap();
        Binary { stream, transcript: String::new() }
    }
}

/// A connection in the text form, and what was said.
struct Text {
    stream: BufReader<UnixStream>,
    transcript: String,
    id: u64,
}

impl Text {
    /// Sends a line and notes it with the reply, which is returned.
    fn line(&mut self, request: &str) -> Value {
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut reply = String::new();
        self.stream.read_line(&mut reply).unwrap();
        _ = write!(self.transcript, "--> {}\n<-- {}", without_volatile(request), without_volatile(&reply));
        serde_json::from_str(&reply).unwrap()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let request = json!({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params});
        self.line(&request.to_string())
    }

    fn session(&mut self, tenant: &str) -> Value {
        self.ask("qmk_session_create", json!({"tenant_id": tenant}))["result"]["session_id"].clone()
    }
}

/// A connection in the binary form, and what was said.
struct Binary {
    stream: UnixStream,
    transcript: String,
}

impl Binary {
    fn frame(&mut self, body: &[u8]) -> Vec<u8> {
        self.stream.write_all(&(body.len() as u32).to_le_bytes()).unwrap();
        self.stream.write_all(body).unwrap();
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; u32::from_le_bytes(length) as usize];
        self.stream.read_exact(&mut reply).unwrap();
        reply
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, RpcError> {
        let body = postcard::to_allocvec(request).unwrap();
        let bytes = self.frame(&body);
        let reply: Result<Reply, RpcError> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(postcard::to_allocvec(&reply).unwrap(), bytes, "{reply:?}");
        let steady = postcard::to_allocvec(&steady(reply.clone())).unwrap();
        let name = format!("{} {}", request.method(), body.len());
        _ = writeln!(
            self.transcript,
            "--> {name}\n{}<-- {}\n{}",
            hex(&hidden(&body)),
            bytes.len(),
            hex(&hidden(&steady))
        );
        reply
    }
}

/// A reply whose times are 0.
fn steady(mut reply: Result<Reply, RpcError>) -> Result<Reply, RpcError> {
    match &mut reply {
        Ok(Reply::Result(r)) => Arc::make_mut(r).report.wall_ms = 0.0,
        Ok(Reply::Telemetry(t)) => t.execution_time_ms = 0.0,
        Ok(Reply::Status(s)) => {
            if let Some(t) = &mut s.telemetry {
                t.execution_time_ms = 0.0;
            }
        }
        _ => {}
    }
    reply
}

/// Bytes whose ids are zeros.
fn hidden(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for at in 0..out.len() {
        if out[at..].starts_with(b"sess_") {
            let digits = out[at + 5..].iter_mut().take(32).take_while(|b| b.is_ascii_hexdigit());
            digits.for_each(|b| *b = b'0');
        }
    }
    out
}

/// Lines of 40 bytes.
fn hex(bytes: &[u8]) -> String {
    let line = |part: &[u8]| part.iter().fold(String::new(), |s, b| s + &format!("{b:02x}")) + "\n";
    bytes.chunks(40).map(line).collect()
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 24, "only {} examples", files.len());
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn format(path: &Path) -> (&'static str, Format) {
    if path.extension().is_some_and(|e| e == "json") { ("json", Format::Json) } else { ("asm", Format::Asm) }
}

#[test]
fn text_replies_to_examples_are_as_recorded() {
    let mut pins = recordings("text");
    for path in examples() {
        let server = Running::start();
        let mut line = server.text();
        let session = line.session("alice");
        let source = std::fs::read_to_string(&path).unwrap();
        let program = json!({"session_id": session, "format": format(&path).0, "source": source});
        for noise in ["ideal", "logical", "physical"] {
            let mut submit = program.clone();
            submit["policy"] = json!({"shots": SHOTS, "seed": SEED, "noise": noise});
            let job = line.ask("qmk_job_submit", submit)["result"]["job_id"].clone();
            let job = json!({"session_id": session, "job_id": job});
            for method in ["qmk_job_wait", "qmk_job_status", "qmk_job_result", "q_get_telemetry", "q_get_mapping"] {
                line.ask(method, job.clone());
            }
        }
        line.ask("qmk_estimate", program);
        line.ask("qmk_session_close", json!({"session_id": session}));
        pins.check(&format!("{}.txt", name(&path)), line.transcript.as_bytes());
    }
    pins.finish();
}

#[test]
fn binary_replies_to_examples_are_as_recorded() {
    let mut pins = recordings("binary");
    for path in examples() {
        let server = Running::start();
        let mut line = server.binary();
        let Ok(Reply::Session(session)) = line.ask(&Request::SessionCreateV1(SessionCreateV1::default())) else {
            panic!()
        };
        let session_id = session.session_id;
        let source = std::fs::read_to_string(&path).unwrap();
        let policy = Policy { shots: SHOTS, seed: SEED, noise: "logical".into(), ..Policy::default() };
        let submit = JobSubmit { session_id: session_id.clone(), source, format: format(&path).1, policy };
        let Ok(Reply::Submitted(job)) = line.ask(&Request::JobSubmit(submit)) else { panic!() };
        let job = JobRef { session_id: session_id.clone(), job_id: job.job_id };
        let (session, job_id) = (session_id.clone(), job.job_id.clone());
        let wait = Request::JobWait(JobWait { session_id: session, job_id, timeout_ms: Some(60_000) });
        for request in [wait, Request::JobStatus(job.clone()), Request::JobResult(job.clone()), Request::Telemetry(job)]
        {
            line.ask(&request).expect("a job that ends");
        }
        line.ask(&Request::SessionClose(SessionRef { session_id })).expect("an open session");
        pins.check(&format!("{}.txt", name(&path)), line.transcript.as_bytes());
    }
    pins.finish();
}

/// A program that is right, for calls that are wrong.
const GOOD: &str = "ALLOC_LQ -> a\nAPPLY_T a\nMEASURE_Z a -> m\nFREE_LQ a\n";

fn wrong_programs(line: &mut Text, session: &Value) {
    let asm = [
        "ALLOC_LQ -> a\nAPPLY_H b\n",
        "ALLOC_LQ -> a\nn1: APPLY_FOO a\n",
        "ALLOC_LQ -> a, a\n",
        "ALLOC_LQ -> a\nAPPLY_CNOT a, a\nFREE_LQ a\n",
        "ALLOC_LQ -> a\nMEASURE_Z a -> m\nMEASURE_Z a -> m\nFREE_LQ a\n",
        "ALLOC_LQ -> a\nAPPLY_X a if m==1\nFREE_LQ a\n",
        "ALLOC_LQ -> a\nFREE_LQ a\nAPPLY_X a\n",
        "ALLOC_LQ -> a\nAPPLY_RX(theta=x) a\n",
        "ALLOC_LQ -> a\nAPPLY_RX(theta=1/0) a\nFREE_LQ a\n",
        ".for i in 0..3\nALLOC_LQ -> a{i}\n",
        ".include \"/etc/passwd\"\n",
        ".param n = 2\nALLOC_LQ(profile=\"logical:toric(d=7)\") -> a\nFREE_LQ a\n",
        "garbage \u{0} ((((",
    ];
    for source in asm {
        line.ask("qmk_job_submit", json!({"session_id": session, "format": "asm", "source": source}));
    }
    for graph in [
        json!(3),
        json!({}),
        json!({"version": "9", "program": {"nodes": []}}),
        json!({
            "version": "0.1", "program": {"nodes": [{"id": "a", "op": "APPLY_H", "vqs": ["q"]}]},
            "resources": {"vqs": [], "chs": [], "events": []}, "caps": [],
        }),
    ] {
        line.ask("qmk_job_submit", json!({"session_id": session, "graph": graph}));
    }
}

fn wrong_policies(line: &mut Text, session: &Value) {
    for policy in [
        json!({"shots": 0}),
        json!({"shots": 1u64 << 60}),
        json!({"noise": "loud"}),
        json!({"deadline_epochs": 3, "shots": 10}),
        json!({"profile": "logical:toric(d=7)"}),
        json!({"profile": "logical:surface_code(d=7, p=0.4)", "noise": "physical"}),
        json!({"params": {"n": "3"}}),
        json!({"unknown": 1}),
    ] {
        line.ask("qmk_job_submit", json!({"session_id": session, "format": "asm", "source": GOOD, "policy": policy}));
    }
}

fn wrong_calls(line: &mut Text, session: &Value) {
    let narrow = line.ask("qmk_session_create", json!({"requested": ["CAP_ALLOC", "CAP_NONSENSE"]}));
    let narrow = narrow["result"]["session_id"].clone();
    line.ask("qmk_job_submit", json!({"session_id": narrow, "format": "asm", "source": GOOD}));
    for method in ["qmk_job_status", "qmk_job_wait", "qmk_job_result", "qmk_job_cancel", "q_get_telemetry", "q_replay"]
    {
        line.ask(method, json!({"session_id": session, "job_id": "job_99"}));
        line.ask(method, json!({"session_id": "sess_none", "job_id": "job_1"}));
    }
    line.ask("qmk_estimate", json!({"session_id": session, "counts": {"numQubits": 0}}));
    let job_params = json!({"errorBudget": 2});
    line.ask("qmk_estimate", json!({"session_id": session, "counts": {"numQubits": 3}, "job_params": job_params}));
    line.ask("qmk_audit_head", json!({}));
    line.ask("qmk_authenticate", json!({"token": "no token"}));
    line.ask("no_such_method", json!({}));
    for text in ["{]", "[]", "[1]", "17", "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"qmk_session_create\"}"] {
        line.line(text);
    }
}

/// Programs, parameters and calls that are wrong, each in its own way.
#[test]
fn refusals_are_as_recorded() {
    let mut pins = recordings("refusals");
    let server = Running::start();
    let mut line = server.text();
    let session = line.session("alice");
    wrong_programs(&mut line, &session);
    wrong_policies(&mut line, &session);
    wrong_calls(&mut line, &session);
    pins.check("text.txt", line.transcript.as_bytes());

    let mut line = server.binary();
    for body in [b"\xff\xff".as_slice(), b"", &[200; 20]] {
        let reply = line.frame(body);
        _ = writeln!(line.transcript, "--> {}<-- {}", hex(body), hex(&reply));
    }
    let job = JobRef { session_id: "sess_none".into(), job_id: "job_1".into() };
    for request in [Request::JobStatus(job.clone()), Request::JobResult(job.clone()), Request::JobCancel(job)] {
        line.ask(&request).expect_err("no such session");
    }
    pins.check("binary.txt", line.transcript.as_bytes());
    pins.finish();
}

/// Two tenants with qubits, a channel, checkpoints and a job that is run again.
#[test]
fn interactive_replies_are_as_recorded() {
    let mut pins = recordings("interactive_wire");
    let server = Running::start();
    let mut line = server.text();
    let (a, b) = (line.session("alice"), line.session("bob"));
    let apply = |line: &mut Text, op: &str, qubits: &[&str]| {
        line.ask("q_apply", json!({"session_id": a, "op": op, "qubits": qubits}));
    };
    line.ask("q_alloc", json!({"session_id": a, "n": 3}));
    line.ask("q_alloc", json!({"session_id": b, "n": 2}));
    apply(&mut line, "APPLY_H", &["q_1"]);
    apply(&mut line, "APPLY_CNOT", &["q_1", "q_2"]);
    apply(&mut line, "MEASURE_BELL", &["q_1", "q_2"]);
    apply(&mut line, "APPLY_NOTHING", &["q_1"]);
    apply(&mut line, "APPLY_CNOT", &["q_1", "q_1"]);
    apply(&mut line, "APPLY_H", &["q_9"]);
    line.ask("q_measure", json!({"session_id": a, "qubit": "q_1", "basis": "x"}));
    line.ask("q_measure", json!({"session_id": a, "qubit": "q_2", "basis": "w"}));
    line.ask("q_checkpoint", json!({"session_id": a}));
    apply(&mut line, "APPLY_H", &["q_2"]);
    line.ask("q_rollback", json!({"session_id": a}));
    line.ask("q_restore", json!({"session_id": a, "checkpoint_id": "ckpt_none"}));
    let offer = json!({"session_id": a, "qubit": "q_2", "peer": "bob", "fidelity": 0.99, "type": "epr"});
    let channel = line.ask("q_open_chan", offer)["result"]["channel_id"].clone();
    line.ask("q_chan_list", json!({"session_id": b}));
    line.ask("q_accept_chan", json!({"session_id": b, "channel_id": channel, "qubit": "q_1"}));
    let teleport = json!({"session_id": a, "channel_id": channel, "semantic": "teleport", "qubit": "q_3"});
    line.ask("q_use_chan", teleport);
    line.ask("q_chan_status", json!({"session_id": b, "channel_id": channel}));
    line.ask("q_open_chan", json!({"session_id": a, "qubit": "q_3", "peer": "bob", "fidelity": 1}));
    line.ask("q_open_chan", json!({"session_id": a, "qubit": "q_3", "peer": "carol", "fidelity": 0.9}));
    line.ask("q_close_chan", json!({"session_id": a, "channel_id": channel}));
    line.ask("q_chan_status", json!({"session_id": b, "channel_id": channel}));
    line.ask("q_release", json!({"session_id": a, "qubits": ["q_1", "q_2"], "uncompute": true}));
    line.ask("q_release", json!({"session_id": b, "qubits": ["q_1", "q_2"]}));
    let source = "ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_CNOT a, b\nMEASURE_Z a -> x\nMEASURE_Z b -> y\nFREE_LQ a, b";
    let policy = json!({"shots": 100, "seed": 7});
    let submit = json!({"session_id": a, "format": "asm", "source": source, "policy": policy});
    let job = line.ask("qmk_job_submit", submit)["result"]["job_id"].clone();
    let job = json!({"session_id": a, "job_id": job});
    for method in ["qmk_job_wait", "q_get_mapping", "q_replay", "q_migrate", "qmk_job_cancel", "q_rollback"] {
        line.ask(method, job.clone());
    }
    pins.check("text.txt", line.transcript.as_bytes());

    let mut line = server.binary();
    let Ok(Reply::Session(session)) = line.ask(&Request::SessionCreateV1(SessionCreateV1::default())) else { panic!() };
    let session_id = session.session_id;
    let alloc = Call::Alloc(qmk_abi::rpc::interactive::Alloc { session_id: session_id.clone(), n: 1 });
    let Ok(Reply::Interactive(Answer::Alloc(got))) = line.ask(&Request::Interactive(alloc)) else { panic!() };
    let measure = Measure { session_id, qubit: got.qubits[0].clone(), angle: Some(0.5), ..Measure::default() };
    line.ask(&Request::Interactive(Call::Measure(measure))).expect("a qubit");
    pins.check("binary.txt", line.transcript.as_bytes());
    pins.finish();
}

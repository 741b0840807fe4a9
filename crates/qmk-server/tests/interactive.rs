//! Qubits one by one and channels over both forms of the wire; the examples of the manual.

#[allow(dead_code)]
mod common;

use common::{Server, eventually};
use qmk_abi::rpc::interactive::{Alloc, Answer, Apply, Call, Measure, Part};
use qmk_abi::rpc::{ErrorCode, Reply, Request, RpcError, SessionCreate};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

struct Line(BufReader<UnixStream>);

impl Line {
    fn ask(&mut self, request: &Value) -> Value {
        let mut request = request.clone();
        request["jsonrpc"] = "2.0".into();
        request["id"] = 1.into();
        self.0.get_mut().write_all(request.to_string().as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

/// Puts the real ids in the place of those in the text.
fn substitute(v: &mut Value, names: &BTreeMap<String, String>) {
    match v {
        Value::String(s) => *s = names.get(s).cloned().unwrap_or_else(|| s.clone()),
        Value::Array(items) => items.iter_mut().for_each(|v| substitute(v, names)),
        Value::Object(m) => m.values_mut().for_each(|v| substitute(v, names)),
        _ => {}
    }
}

/// Whether a reply is as written. Epochs and outcomes are what they are.
fn alike(written: &Value, got: &Value, key: &str) -> bool {
    match (written, got) {
        (Value::Object(a), Value::Object(b)) => a.keys().eq(b.keys()) && a.iter().all(|(k, v)| alike(v, &b[k], k)),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b, key)),
        (Value::Number(_), Value::Number(_)) if key.contains("epoch") || key.contains("outcome") => true,
        (a, b) => a == b,
    }
}

#[test]
fn the_examples_of_the_manual_are_true() {
    let server = Server::start("");
    let mut line = Line(BufReader::new(server.stream()));
    let mut names = BTreeMap::new();
    for (name, tenant) in [("sess_a", "alice"), ("sess_b", "bob")] {
        let create = json!({"method": "qmk_session_create", "params": {"tenant_id": tenant}});
        let reply = line.ask(&create);
        names.insert(name.to_string(), reply["result"]["session_id"].as_str().unwrap().to_string());
    }
    let manual = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/server.md");
    let text = std::fs::read_to_string(manual).unwrap();
    let (_, section) = text.split_once("## Qubits one by one, and channels").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut methods = Vec::new();
    let mut got = Value::Null;
    for example in section.lines() {
        if let Some(request) = example.strip_prefix("    --> ") {
            let mut request: Value = serde_json::from_str(request).unwrap();
            methods.push(request["method"].as_str().unwrap().to_string());
            substitute(&mut request, &names);
            got = line.ask(&request);
            if let Some(job) = got["result"]["job_id"].as_str().filter(|_| request["method"] == "qmk_job_submit") {
                // The examples that follow are about a job that has ended.
                let params = json!({"session_id": request["params"]["session_id"], "job_id": job});
                line.ask(&json!({"method": "qmk_job_wait", "params": params}));
            }
        } else if let Some(reply) = example.strip_prefix("    <-- ") {
            let mut written: Value = serde_json::from_str(reply).unwrap();
            if let (Some(id), Some(real)) = (written["channel_id"].as_str(), got["result"]["channel_id"].as_str()) {
                names.entry(id.into()).or_insert_with(|| real.into());
            }
            substitute(&mut written, &names);
            let (is_error, shown) = (written["code"].is_number(), &got);
            let got = if is_error { &got["error"] } else { &got["result"] };
            assert!(alike(&written, got, ""), "{}\nwritten: {written}\ngot: {shown}", methods.last().unwrap());
        }
    }
    for method in Call::METHODS {
        assert!(methods.iter().any(|m| m == method), "no example of {method}");
    }
}

fn frame(request: &Request) -> Vec<u8> {
    let body = postcard::to_allocvec(request).unwrap();
    [&(body.len() as u32).to_le_bytes(), body.as_slice()].concat()
}

#[test]
fn the_binary_form_has_the_same_methods() {
    let server = Server::start("");
    let mut stream = server.stream();
    stream.write_all(b"QMK1").unwrap();
    let mut ask = |request: &Request| -> Result<Reply, RpcError> {
        stream.write_all(&frame(request)).unwrap();
        let mut head = [0; 4];
        stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; u32::from_le_bytes(head) as usize];
        stream.read_exact(&mut body).unwrap();
        postcard::from_bytes(&body).unwrap()
    };
    let Ok(Reply::Session(s)) = ask(&Request::SessionCreate(SessionCreate::default())) else { panic!("no session") };
    let session_id = s.session_id;
    let mut call = |call| match ask(&Request::Interactive(call)) {
        Ok(Reply::Interactive(answer)) => Ok(answer),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e),
    };
    let Ok(Answer::Alloc(got)) = call(Call::Alloc(Alloc { session_id: session_id.clone(), n: 1 })) else { panic!() };
    assert_eq!(got.qubits, ["q_1"]);
    let rotate = |theta| {
        let (op, qubits) = ("APPLY_RY".into(), vec!["q_1".into()]);
        Call::Apply(Apply { session_id: session_id.clone(), op, qubits, theta: Some(theta) })
    };
    assert!(matches!(call(rotate(0.4)), Ok(Answer::Apply(a)) if a.outcomes.is_empty()));
    assert_eq!(call(rotate(f64::INFINITY)).unwrap_err().code, ErrorCode::InvalidParams);
    let measure = Measure { session_id: session_id.clone(), qubit: "q_1".into(), basis: None, angle: Some(0.4) };
    assert!(matches!(call(Call::Measure(measure)), Ok(Answer::Measure(m)) if m.outcome == 0));
    let part = Part { session_id: session_id.clone(), job_id: None };
    assert!(matches!(call(Call::Checkpoint(part)), Ok(Answer::Checkpoint(c)) if !c.pending));
}

#[test]
fn the_wire_is_lenient_where_the_contract_is() {
    let server = Server::start("");
    let mut line = Line(BufReader::new(server.stream()));
    let session = line.ask(&json!({"method": "q_negotiate_caps"}))["result"]["session_id"].clone();
    let mut ask = |method: &str, mut params: Value| {
        params["session_id"] = session.clone();
        let reply = line.ask(&json!({"method": method, "params": params}));
        if reply["error"].is_null() { reply["result"].clone() } else { reply["error"]["code"].clone() }
    };
    assert_eq!(ask("q_alloc", json!({})), json!({"qubits": ["q_1"]}));
    ask("q_apply", json!({"op": "APPLY_RY", "qubits": ["q_1"], "theta": 0.4}));
    assert_eq!(ask("q_measure", json!({"qubit": "q_1", "basis": 0.4}))["outcome"], 0);
    assert_eq!(ask("q_measure", json!({"qubit": "q_1", "angle": 0.4}))["outcome"], 0);
    ask("q_apply", json!({"op": "APPLY_RY", "qubits": ["q_1"], "angle": -0.4}));
    assert_eq!(ask("q_measure", json!({"qubit": "q_1"}))["outcome"], 0);
    for (method, wrong) in [
        ("q_alloc", json!({"n": -1})),
        ("q_alloc", json!({"n": "two"})),
        ("q_measure", json!({"qubit": "q_1", "basis": 1, "angle": 1})),
        ("q_measure", json!({})),
        ("q_use_chan", json!({"channel_id": "c", "semantic": "sing"})),
    ] {
        assert_eq!(ask(method, wrong.clone()), -32602, "{method} {wrong}");
    }
    assert_eq!(ask("q_chan_status", json!({"channel_id": "chan_0"})), -32501);
    assert_eq!(ask("q_restore", json!({"checkpoint_id": "ckpt_1"})), -32400);
    assert_eq!(ask("q_get_mapping", json!({"job_id": "job_1"})), -32300);
}

#[test]
fn qubits_of_a_client_that_dies_are_free() {
    let server = Server::start("");
    let watch = server.client();
    let watch = watch.session_default().unwrap();
    let mut line = Line(BufReader::new(server.stream()));
    let session = line.ask(&json!({"method": "qmk_session_create"}))["result"]["session_id"].clone();
    line.ask(&json!({"method": "q_alloc", "params": {"session_id": session, "n": 5}}));
    assert_eq!(watch.resources().unwrap().usage.logical_qubits, 5);
    drop(line);
    eventually("freed", || watch.resources().unwrap().usage.logical_qubits == 0);
}

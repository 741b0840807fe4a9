//! The wire: JSON-RPC 2.0 as its specification has it, the older client's habits, the binary form, and noise.

#[allow(dead_code)]
mod common;

use common::{BELL, Server};
use proptest::prelude::*;
use qmk_abi::rpc::{ErrorCode, Reply, Request, RpcError, SessionCreate};
use serde_json::{Value, json};
use std::io::{Read, Write};

/// All replies to `text`.
fn replies(server: &Server, text: &str) -> Vec<Value> {
    let out = server.exchange(text.as_bytes());
    serde_json::Deserializer::from_slice(&out).into_iter().map(|v| v.unwrap()).collect()
}

fn one(server: &Server, method: &str, params: Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    replies(server, &request).remove(0)
}

/// Reply to a request on an open stream, read as the v0.1 client reads: until it parses.
fn call(stream: &mut std::os::unix::net::UnixStream, request: &Value) -> Value {
    stream.write_all(request.to_string().as_bytes()).unwrap();
    let (mut buffer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&buffer));
        buffer.extend_from_slice(&chunk[..n]);
        if let Ok(v) = serde_json::from_slice(&buffer) {
            return v;
        }
    }
}

/// Section 7 of the JSON-RPC 2.0 specification, with methods of ours. Expected: error codes, or `null` for a result.
#[test]
fn the_examples_of_the_specification() {
    let server = Server::start("");
    let create = r#"{"jsonrpc":"2.0","id":"a","method":"qmk_session_create"}"#;
    let notify = r#"{"jsonrpc":"2.0","method":"qmk_session_create"}"#;
    let table: &[(&str, Value)] = &[
        (create, json!([["a", null]])),
        (r#"{"jsonrpc":"2.0","id":3,"method":"foobar"}"#, json!([[3, -32601]])),
        (r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#, json!([[null, -32700]])),
        (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#, json!([[null, -32600]])),
        (r#"{"method": "qmk_session_create", "id": 1}"#, json!([[1, -32600]])),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"foobar"}"#, json!([[null, -32600]])),
        (r#"{"jsonrpc":"2.0","id":null,"method":"foobar"}"#, json!([[null, -32601]])),
        (r#"{"jsonrpc":"2.0","id":1,"method":"qmk_job_status","params":{}}"#, json!([[1, -32602]])),
        (r#"{"jsonrpc":"2.0","id":1,"method":"qmk_job_status","params":[1]}"#, json!([[1, -32602]])),
        ("[]", json!([[null, -32600]])),
        ("[1]", json!([[[null, -32600]]])),
        ("[1,2,3]", json!([[[null, -32600], [null, -32600], [null, -32600]]])),
        (notify, json!([])),
        (r#"{"jsonrpc":"2.0","method":"foobar"}"#, json!([])),
        ("17", json!([[null, -32600]])),
    ];
    let brief = |v: &Value| -> Value {
        let one = |v: &Value| json!([v["id"], v["error"]["code"]]);
        v.as_array().map_or_else(|| one(v), |batch| batch.iter().map(one).collect())
    };
    for (text, expected) in table {
        let got: Vec<Value> = replies(&server, text).iter().map(brief).collect();
        assert_eq!(json!(got), *expected, "{text}");
    }
    let batch = format!(r#"[{create},{notify},{{"foo":"boo"}},{{"jsonrpc":"2.0","id":"5","method":"foo.get"}}]"#);
    assert_eq!(
        replies(&server, &batch).iter().map(brief).collect::<Value>(),
        json!([[["a", null], [null, -32600], ["5", -32601]]])
    );
    assert!(replies(&server, &format!("[{notify},{notify}]")).is_empty());
    // Pipelined, without anything between.
    assert_eq!(replies(&server, &create.repeat(5)).len(), 5);
}

#[test]
fn a_job_over_new_connections_with_the_older_names() {
    let server = Server::start("");
    let connect = || server.stream();
    let ask = |method: &str, params: Value| {
        let reply = call(&mut connect(), &json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}));
        assert_eq!(reply["error"], Value::Null, "{method}: {reply}");
        reply["result"].clone()
    };
    let session =
        ask("q_negotiate_caps", json!({"capabilities": ["CAP_ALLOC", "CAP_COMPUTE", "CAP_MEASURE", "CAP_NONSENSE"]}));
    assert_eq!(session["granted"], json!(["CAP_ALLOC", "CAP_COMPUTE", "CAP_MEASURE"]));
    assert_eq!(session["denied"], json!(["CAP_NONSENSE"]));
    assert_eq!(session["quota"]["max_logical_qubits"], 10_000);
    let id = &session["session_id"];
    let graph = json!({"version": "0.1", "program": {"nodes": [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": 2, "profile": "logical:Surface(d=7)"}, "vqs": ["q0", "q1"]},
        {"id": "h", "op": "APPLY_H", "vqs": ["q0"]},
        {"id": "c", "op": "APPLY_CNOT", "vqs": ["q0", "q1"]},
        {"id": "m0", "op": "MEASURE_Z", "vqs": ["q0"], "produces": ["e0"]},
        {"id": "m1", "op": "MEASURE_Z", "vqs": ["q1"], "produces": ["e1"]},
        {"id": "f", "op": "FREE_LQ", "vqs": ["q0", "q1"]}]},
        "resources": {"vqs": ["q0", "q1"], "chs": [], "events": ["e0", "e1"]},
        "caps": ["CAP_ALLOC", "CAP_COMPUTE"]});
    let job = ask("q_submit", json!({"session_id": id, "graph": graph, "policy": {"seed": 5}}));
    let reference = json!({"session_id": id, "job_id": job["job_id"]});
    let mut wait = reference.clone();
    wait["timeout_ms"] = json!(20_000);
    let status = ask("q_wait", wait);
    assert_eq!(status["state"], "COMPLETED");
    assert_eq!(status["events"]["e0"], status["events"]["e1"]);
    assert_eq!(status["progress"]["nodes_executed"], status["progress"]["nodes_total"]);
    assert_eq!(ask("q_status", reference.clone())["state"], "COMPLETED");
    assert_eq!(ask("qmk_job_result", reference.clone())["shots"], 1);
    assert!(ask("q_get_telemetry", reference.clone())["total_epochs"].as_u64() > Some(0));
    assert_eq!(ask("q_get_telemetry", json!({"session_id": id}))["machine"]["logical_qubits_free"], 10_000);
    assert_eq!(one(&server, "q_cancel", reference)["error"]["code"], -32303);
    assert_eq!(ask("qmk_session_close", json!({"session_id": id}))["closed"], true);
    assert_eq!(one(&server, "qmk_resource_query", json!({"session_id": id}))["error"]["code"], -32102);
}

#[test]
fn refusals_carry_their_data() {
    let server = Server::start("");
    let session =
        one(&server, "qmk_session_create", json!({"requested": ["CAP_ALLOC", "CAP_COMPUTE"]}))["result"]["session_id"]
            .clone();
    let submit = |source: &str| {
        let params = json!({"session_id": session, "source": source, "format": "asm"});
        one(&server, "qmk_job_submit", params)["error"].clone()
    };
    let magic = submit("ALLOC_LQ -> a\nAPPLY_T a\nFREE_LQ a");
    assert_eq!((&magic["code"], &magic["data"]["missing"]), (&json!(-32001), &json!(["CAP_MAGIC"])));
    let invalid = submit("ALLOC_LQ -> a\nn1b: APPLY_H b");
    assert_eq!(invalid["code"], -32200);
    assert_eq!(invalid["data"]["findings"][0]["node"], "n1b");
    assert_eq!(invalid["data"]["findings"][0]["line"], 2);
    assert_eq!(submit(".include \"/etc/passwd\"")["code"], -32200);
    assert_eq!(submit("garbage \u{0} ((((")["code"], -32200);
    let graph = one(&server, "qmk_job_submit", json!({"session_id": session, "graph": 3}));
    assert_eq!(graph["error"]["code"], -32602);
    let e = &one(&server, "qmk_audit_head", json!({}))["error"];
    assert_eq!(e["code"], -32601);
    assert!(e["message"].as_str().unwrap().contains("not available"), "{e}");
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

#[test]
fn the_binary_form() {
    let server = Server::start("");
    let create = postcard::to_allocvec(&Request::SessionCreate(SessionCreate::default())).unwrap();
    let bytes = [b"QMK1".as_slice(), &frame(&create), &frame(b"\xff\xff"), &frame(&create)].concat();
    let mut out = server.exchange(&bytes);
    let mut got: Vec<Result<Reply, RpcError>> = Vec::new();
    while !out.is_empty() {
        let length = u32::from_le_bytes(out[..4].try_into().unwrap()) as usize;
        got.push(postcard::from_bytes(&out[4..4 + length]).unwrap());
        out.drain(..4 + length);
    }
    assert!(matches!(&got[..], [Ok(Reply::Session(_)), Err(e), Ok(Reply::Session(_))] if e.code == ErrorCode::Parse));
    // A frame that claims four gigabytes takes none.
    let out = server.exchange(b"QMK1\xff\xff\xff\xffabc");
    let refused: Result<Reply, RpcError> = postcard::from_bytes(&out[4..]).unwrap();
    assert_eq!(refused.unwrap_err().code, ErrorCode::ResourceExhausted);
}

#[test]
fn a_client_too_many_is_told_so_in_its_form() {
    let server = Server::start("max_connections = 1");
    let mut first = server.stream();
    call(&mut first, &json!({"jsonrpc": "2.0", "id": 1, "method": "qmk_session_create"}));
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"qmk_session_create"}"#;
    assert_eq!(replies(&server, request)[0]["error"]["code"], -32202);
    let create = postcard::to_allocvec(&Request::SessionCreate(SessionCreate::default())).unwrap();
    let out = server.exchange(&[b"QMK1".as_slice(), &frame(&create)].concat());
    let refused: Result<Reply, RpcError> = postcard::from_bytes(&out[4..]).unwrap();
    assert_eq!(refused.unwrap_err().code, ErrorCode::ResourceExhausted);
}

#[test]
fn hostile_text_is_bounded() {
    let server = Server::start("max_message_bytes = 100000");
    let code = |bytes: &[u8]| {
        let out = server.exchange(bytes);
        let text = String::from_utf8_lossy(&out).into_owned();
        let last = text.lines().last().unwrap_or("null").to_string();
        serde_json::from_str::<Value>(&last).unwrap()["error"]["code"].clone()
    };
    assert_eq!(code("[".repeat(1_000_000).as_bytes()), -32700);
    assert_eq!(code("{\"a\":".repeat(10_000).as_bytes()), -32700);
    // More than a socket holds: the reply comes although not all was read.
    assert_eq!(code(format!("\"{}\"", "x".repeat(10_000_000)).as_bytes()), -32202);
    assert_eq!(code(b"\xff\xfe\x00"), -32700);
    assert_eq!(code(format!("[{}1]", "1,".repeat(5000)).as_bytes()), -32600);
    // Others are still served.
    let session = server.client().session_default().unwrap();
    session.run(&qmk_client::Program::asm(BELL), qmk_client::Policy::default()).unwrap();
}

/// 64 measured coins: hardly two shots are alike.
const COINS: &str = ".set q = [f\"q{i}\" for i in range(64)]\nALLOC_LQ -> {\", \".join(q)}\n\
                     .for i in range(64)\nAPPLY_H q{i}\nMEASURE_Z q{i} -> m{i}\n.endfor\n";

#[test]
fn the_reply_to_a_batch_is_bounded() {
    let server = Server::start("max_message_bytes = 100000");
    let session = one(&server, "qmk_session_create", json!({}))["result"]["session_id"].clone();
    let policy = json!({"shots": 400});
    let submit = json!({"session_id": session, "source": COINS, "format": "asm", "policy": policy});
    let job = one(&server, "qmk_job_submit", submit)["result"]["job_id"].clone();
    let params = json!({"session_id": session, "job_id": job});
    assert_eq!(one(&server, "qmk_job_wait", params.clone())["result"]["state"], "COMPLETED");
    let ask = |id: usize| json!({"jsonrpc": "2.0", "id": id, "method": "qmk_job_result", "params": params});
    let out = server.exchange(Value::from_iter((0..500).map(ask)).to_string().as_bytes());
    assert!(out.len() < 300_000, "{} bytes", out.len());
    let replies: Vec<Value> = serde_json::from_slice(&out).unwrap();
    assert_eq!(replies.len(), 500);
    assert_eq!(replies[0]["result"]["shots"], 400);
    assert_eq!((&replies[499]["id"], &replies[499]["error"]["code"]), (&json!(499), &json!(-32202)));
}

#[test]
fn messages_that_wait_are_bounded() {
    let server = Server::start("max_message_bytes = 100000");
    let mut stream = server.stream();
    let session = call(&mut stream, &json!({"jsonrpc": "2.0", "id": 1, "method": "qmk_session_create"}));
    let session = &session["result"]["session_id"];
    let slow = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\n";
    let params = json!({"session_id": session, "source": slow, "format": "asm", "policy": {"shots": 100_000_000}});
    let job = call(&mut stream, &json!({"jsonrpc": "2.0", "id": 2, "method": "qmk_job_submit", "params": params}));
    let params = json!({"session_id": session, "job_id": job["result"]["job_id"]});
    let wait = json!({"jsonrpc": "2.0", "id": 3, "method": "qmk_job_wait", "params": params}).to_string();
    stream.write_all(wait.as_bytes()).unwrap();
    stream.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let large = format!("\"{}\"", "x".repeat(90_000));
    let taken = (0..100).take_while(|_| stream.write_all(large.as_bytes()).is_ok()).count();
    // One waits to be answered, one to be handed over, and the socket holds a few.
    assert!(taken < 20, "{taken} messages were taken");
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let seed = prop_oneof![
        Just(
            json!({"jsonrpc": "2.0", "id": 1, "method": "qmk_session_create", "params": {"requested": ["CAP_ALLOC"]}})
        ),
        Just(json!([{"jsonrpc": "2.0", "method": "q_wait", "params": {"session_id": "s", "job_id": "job_1"}}, 3])),
        Just(json!({"jsonrpc": "2.0", "id": "x", "method": "q_submit", "params": {"session_id": "s", "source": BELL}})),
    ];
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 0..6);
    (seed, edits, any::<bool>()).prop_map(|(v, edits, binary)| {
        let mut bytes = v.to_string().into_bytes();
        for (at, byte, how) in edits {
            let i = at.index(bytes.len());
            match how {
                0 => bytes[i] = byte,
                1 => bytes.insert(i, byte),
                2 if bytes.len() > 1 => _ = bytes.remove(i),
                _ => bytes.swap(i, 0),
            }
        }
        if binary {
            bytes = [b"QMK1".as_slice(), &frame(&bytes)].concat();
        }
        bytes
    })
}

#[test]
fn mutated_messages_leave_the_server_standing() {
    let server = Server::start("");
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    runner
        .run(&mutated(), |bytes| {
            let out = server.exchange(&bytes);
            if !bytes.starts_with(b"QMK1") {
                for v in serde_json::Deserializer::from_slice(&out).into_iter::<Value>() {
                    let v = v.expect("every reply is JSON");
                    prop_assert!(v["error"]["code"] != -32603, "internal error: {}", v);
                }
            }
            Ok(())
        })
        .unwrap();
    server.client().session_default().unwrap();
}

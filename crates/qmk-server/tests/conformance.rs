//! JSON-RPC 2.0: the examples of its specification with methods of ours, and what it leaves to the reader.

#[allow(dead_code)]
mod common;

use common::{BELL, Server};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::io::{Read, Write};

#[derive(Deserialize)]
struct Reply {
    jsonrpc: String,
    id: Box<RawValue>,
    result: Option<Value>,
    error: Option<Value>,
}

/// `ID:ok` or `ID:CODE`, the id as it came.
fn one(text: &str) -> String {
    let reply: Reply = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(reply.jsonrpc, "2.0");
    assert!(reply.result.is_some() != reply.error.is_some(), "{text}");
    let outcome = reply.error.map_or("ok".into(), |e| {
        assert!(e["message"].is_string(), "{text}");
        e["code"].as_i64().expect("a code is an integer").to_string()
    });
    format!("{}:{outcome}", reply.id.get())
}

/// All replies to some bytes, briefly; batches in brackets.
fn replies(server: &Server, bytes: &[u8]) -> String {
    let out = String::from_utf8(server.exchange(bytes)).unwrap();
    let brief = |line: &str| match serde_json::from_str::<Vec<Box<RawValue>>>(line) {
        Ok(batch) => format!("[{}]", batch.iter().map(|r| one(r.get())).collect::<Vec<_>>().join(" ")),
        Err(_) => one(line),
    };
    out.lines().map(brief).collect::<Vec<_>>().join(" ")
}

/// A request that succeeds, with this id.
fn good(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"qmk_session_create","id":{id}}}"#)
}

/// A request with these parameters.
fn with(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"qmk_session_create","params":{params},"id":1}}"#)
}

/// Compares the replies to each text with those that are listed.
fn check(table: &[(String, &str)]) {
    let server = Server::start("");
    for (text, expected) in table {
        assert_eq!(replies(&server, text.as_bytes()), *expected, "{}", text.chars().take(200).collect::<String>());
    }
}

/// Section 7 of the specification, in its order.
#[test]
fn the_specifications_own_examples() {
    let note = r#"{"jsonrpc":"2.0","method":"qmk_session_create","params":[["CAP_ALLOC"]]}"#;
    check(&[
        (with(r#"[["CAP_ALLOC"], "someone"]"#), "1:ok"),
        (with(r#"["CAP_ALLOC"]"#), "1:-32602"),
        (with(r#"{"requested": ["CAP_ALLOC"], "tenant_id": "someone"}"#), "1:ok"),
        (with(r#"{"tenant_id": "someone", "requested": ["CAP_ALLOC"]}"#), "1:ok"),
        (note.into(), ""),
        (r#"{"jsonrpc": "2.0", "method": "foobar"}"#.into(), ""),
        (r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#.into(), r#""1":-32601"#),
        (r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#.into(), "null:-32700"),
        (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#.into(), "null:-32600"),
        (
            r#"[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]"#
                .into(),
            "null:-32700",
        ),
        ("[]".into(), "null:-32600"),
        ("[1]".into(), "[null:-32600]"),
        ("[1,2,3]".into(), "[null:-32600 null:-32600 null:-32600]"),
        (
            format!(
                r#"[{},{note},{{"foo": "boo"}},{{"jsonrpc": "2.0", "method": "foo.get", "params": {{"name": "myself"}}, "id": "5"}},{}]"#,
                good("\"1\""),
                good("9")
            ),
            r#"["1":ok null:-32600 "5":-32601 9:ok]"#,
        ),
        (format!("[{note},{note}]"), ""),
    ]);
}

#[test]
fn ids_come_back_as_they_came() {
    check(&[
        (good("null"), "null:ok"),
        (good("1.5"), "1.5:ok"),
        (good("-0"), "-0:ok"),
        (good("123456789012345678901234567890"), "123456789012345678901234567890:ok"),
        (good("1e400"), "null:-32600"),
        (good(r#""\u00e9\n""#), r#""\u00e9\n":ok"#),
        (good(r#""\ud800""#), "null:-32600"),
        (good("true"), "null:-32600"),
        (good("{}"), "null:-32600"),
        (good("[1]"), "null:-32600"),
        (format!("{}{}", good("1"), good("1")), "1:ok 1:ok"),
        (format!("[{},{}]", good("1"), good("1")), "[1:ok 1:ok]"),
    ]);
}

#[test]
fn members_are_those_of_the_specification() {
    check(&[
        (r#"{"jsonrpc":"2.0","method":"qmk_session_create","id":1,"id":2}"#.into(), "null:-32600"),
        (r#"{"jsonrpc":"2.0","method":"foobar","method":"qmk_session_create","id":1}"#.into(), "null:-32600"),
        (with(r#"{"requested":[],"requested":["CAP_ALLOC"]}"#), "1:-32602"),
        (r#"{"jsonrpc":"1.0","method":"qmk_session_create","id":1}"#.into(), "1:-32600"),
        (r#"{"jsonrpc":2.0,"method":"qmk_session_create","id":1}"#.into(), "1:-32600"),
        (r#"{"method":"qmk_session_create","id":1}"#.into(), "1:-32600"),
        (r#"{"jsonrpc":"2.0","id":1}"#.into(), "1:-32600"),
        (r#"{"jsonrpc":"2.0","method":null,"id":1}"#.into(), "1:-32600"),
        (r#"{"jsonrpc":"2.0","method":"qmk_session_create","id":1,"extra":[{}]}"#.into(), "1:ok"),
        (r#"{"\u006asonrpc":"2\u002e0","method":"qmk_session_\u0063reate","id":1}"#.into(), "1:ok"),
        (r#"{"jsonrpc":"2.0","method":"rpc.discover","id":1}"#.into(), "1:-32601"),
        (r#"{"jsonrpc":"2.0","method":"","id":1}"#.into(), "1:-32601"),
        (with("null"), "1:ok"),
        (with("{}"), "1:ok"),
        (with("[]"), "1:ok"),
        (with("3"), "1:-32602"),
        (with("\"requested\""), "1:-32602"),
        (with(r#"{"requested":3}"#), "1:-32602"),
        (with(r#"{"requested":["\ud83d\ude00"],"tenant_id":"\u0000"}"#), "1:ok"),
        (with(r#"{"tenant_id":"\ud800"}"#), "1:-32602"),
    ]);
}

#[test]
fn what_is_no_request_is_refused() {
    let deep = |n: usize| {
        format!(r#"{{"jsonrpc":"2.0","method":"foobar","params":{}{},"id":1}}"#, "[".repeat(n), "]".repeat(n))
    };
    check(&[
        ("17".into(), "null:-32600"),
        ("\"text\"".into(), "null:-32600"),
        ("null".into(), "null:-32600"),
        ("nul".into(), "null:-32700"),
        ("1e999 ".into(), "null:-32600"),
        ("{}".into(), "null:-32600"),
        ("[[]]".into(), "[null:-32600]"),
        ("[{}]".into(), "[null:-32600]"),
        ("{'a':1}".into(), "null:-32700"),
        ("{\"a\":1,}".into(), "null:-32700"),
        ("[1,]".into(), "null:-32700"),
        ("{\"a\":NaN}".into(), "null:-32700"),
        ("{\"a\":01}".into(), "null:-32700"),
        ("{\"a\":\"\t\"}".into(), "null:-32700"),
        ("{".into(), "null:-32700"),
        ("\"".into(), "null:-32700"),
        ("".into(), ""),
        (" \r\n\t ".into(), ""),
        (deep(100), "1:-32601"),
        (deep(200), "null:-32700"),
    ]);
    assert_eq!(replies(&Server::start(""), b"{\"a\":\"\xff\"}"), "null:-32700");
}

/// A mark of byte order or a zero is no part of JSON, and what follows is a request again.
#[test]
fn requests_go_on_behind_what_is_none() {
    check(&[
        (format!("\u{feff}{}", good("1")), "null:-32700 1:ok"),
        (format!("\0{}", good("1")), "null:-32700 1:ok"),
        (format!("{}\0\n{}", good("1"), good("2")), "1:ok null:-32700 2:ok"),
        (format!("}}garbage\n{}", good("1")), "null:-32700 1:ok"),
        (format!("{}\r\n\r\n{}", good("1"), good("2")), "1:ok 2:ok"),
        (good("1").repeat(300), "1:ok ".repeat(300).trim_end()),
    ]);
}

/// A call as the v0.1 client makes it: a connection of its own, no newline, and reading until it parses.
fn old_call(server: &Server, method: &str, params: Value) -> Value {
    let mut stream = server.stream();
    let request = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
    stream.write_all(request.to_string().as_bytes()).unwrap();
    let (mut buffer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "{method}: closed after {:?}", String::from_utf8_lossy(&buffer));
        buffer.extend_from_slice(&chunk[..n]);
        if let Ok(v) = serde_json::from_slice::<Value>(&buffer) {
            assert_eq!(v["id"], 1);
            return if v["error"].is_null() { v["result"].clone() } else { v["error"]["code"].clone() };
        }
    }
}

#[test]
fn the_older_client() {
    let server = Server::start("");
    let created =
        old_call(&server, "q_negotiate_caps", json!({"capabilities": ["CAP_ALLOC", "CAP_COMPUTE", "CAP_MEASURE"]}));
    assert_eq!(created["granted"], json!(["CAP_ALLOC", "CAP_COMPUTE", "CAP_MEASURE"]));
    let id = &created["session_id"];
    let submit = |shots: u64| {
        let policy = json!({"seed": 1, "shots": shots});
        let params = json!({"session_id": id, "source": BELL, "format": "asm", "policy": policy});
        let job = old_call(&server, "q_submit", params);
        json!({"session_id": id, "job_id": job["job_id"]})
    };
    let job = submit(1);
    let mut wait = job.clone();
    wait["timeout_ms"] = json!(20_000);
    let status = old_call(&server, "q_wait", wait);
    assert_eq!(status["state"], "COMPLETED");
    assert_eq!(status["events"]["x"], status["events"]["y"]);
    assert_eq!(old_call(&server, "q_status", job.clone())["state"], "COMPLETED");
    assert!(old_call(&server, "q_get_telemetry", job.clone())["total_epochs"].as_u64() > Some(0));
    assert_eq!(old_call(&server, "q_cancel", job), -32303);
    assert_eq!(old_call(&server, "q_get_telemetry", json!({"session_id": id}))["usage"]["jobs"], 0);
    // A graph as an object, as that client sends it.
    let graph: Value = serde_json::from_str(include_str!("../../../examples/entanglement_swapping.qvm.json")).unwrap();
    let all = json!(["CAP_ALLOC", "CAP_COMPUTE", "CAP_MEASURE", "CAP_LINK", "CAP_TELEPORT"]);
    let id = old_call(&server, "q_negotiate_caps", json!({"capabilities": all}))["session_id"].clone();
    let job = old_call(&server, "q_submit", json!({"session_id": id, "graph": graph}))["job_id"].clone();
    let status = old_call(&server, "q_wait", json!({"session_id": id, "job_id": job}));
    assert_eq!(status["state"], "COMPLETED");
    assert_eq!(status["events"].as_object().map(|m| m.len()), graph["resources"]["events"].as_array().map(Vec::len));
}

/// Replies come before what follows them is waited for, and a wait is answered when its job ends.
#[test]
fn a_wait_does_not_hold_back_earlier_replies() {
    let server = Server::start("");
    let created = old_call(&server, "qmk_session_create", json!({}));
    let slow = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\n";
    let id = &created["session_id"];
    let params = json!({"session_id": id, "source": slow, "format": "asm", "policy": {"shots": 100_000_000}});
    let job = old_call(&server, "qmk_job_submit", params);
    let params = json!({"session_id": id, "job_id": job["job_id"]});
    let request =
        |id: u32, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
    let mut stream = server.stream();
    stream.write_all((request(1, "qmk_job_status") + &request(2, "qmk_job_wait")).as_bytes()).unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
    assert_eq!(one(&lines.next().unwrap().unwrap()), "1:ok");
    assert_eq!(old_call(&server, "qmk_job_cancel", params.clone())["state"], "CANCELLED");
    assert_eq!(one(&lines.next().unwrap().unwrap()), "2:ok");
}

//! `qmk_estimate` on both forms of the wire and through the client.

#[allow(dead_code)]
mod common;

use common::Server;
use qmk_abi::rpc::{EstimateRequest, Estimated, LogicalCounts, Reply, Request, RpcError};
use qmk_client::{ErrorCode, Program};
use serde_json::{Value, json};

const ADDER: &str = ".param n = 1\nALLOC_LQ -> a, b, c\n.for i in 1..n\nAPPLY_TOFFOLI a, b, c\n.endfor\nMEASURE_Z c -> x\n\
                     FREE_LQ a, b, c\n";

fn call(server: &Server, method: &str, params: Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    serde_json::from_slice(&server.exchange(request.as_bytes())).unwrap()
}

/// Frames of the binary form, sent and received.
fn binary(server: &Server, requests: &[Request]) -> Vec<Result<Reply, RpcError>> {
    let mut bytes = b"QMK1".to_vec();
    for request in requests {
        let frame = postcard::to_allocvec(request).unwrap();
        bytes.extend((frame.len() as u32).to_le_bytes());
        bytes.extend(frame);
    }
    let mut out = server.exchange(&bytes);
    let mut replies = Vec::new();
    while !out.is_empty() {
        let length = u32::from_le_bytes(out[..4].try_into().unwrap()) as usize;
        replies.push(postcard::from_bytes(&out[4..4 + length]).unwrap());
        out.drain(..4 + length);
    }
    replies
}

#[test]
fn both_forms_and_the_client_agree() {
    let server = Server::start("");
    let created = call(&server, "qmk_session_create", json!({"detached": true}));
    let session = created["result"]["session_id"].as_str().unwrap();
    let job_params = json!({"qubitParams": {"name": "qubit_gate_us_e3"}, "errorBudget": 0.01});
    let params = json!({"session_id": session, "source": ADDER, "format": "asm", "params": {"n": "50"}, "job_params": job_params});
    let text = call(&server, "qmk_estimate", params);
    let report = &text["result"];
    assert_eq!((&report["status"], &report["logicalCounts"]["cczCount"]), (&json!("success"), &json!(50)), "{text}");
    assert_eq!(report["jobParams"]["qubitParams"]["name"], "qubit_gate_us_e3");

    let counts = LogicalCounts { num_qubits: 3, ccz_count: 50, measurement_count: 1, ..LogicalCounts::default() };
    let by_counts = json!({"session_id": session, "counts": report["logicalCounts"], "job_params": job_params});
    assert_eq!(call(&server, "qmk_estimate", by_counts)["result"], *report);

    let request = EstimateRequest {
        session_id: session.into(),
        counts: Some(counts),
        job_params: job_params.to_string(),
        ..EstimateRequest::default()
    };
    let replies = binary(&server, &[Request::Estimate(request)]);
    let [Ok(Reply::Estimate(Estimated { report: got }))] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(serde_json::from_str::<Value>(got).unwrap(), *report);

    let session = server.client().session_default().unwrap();
    let n = [("n".to_string(), "50".to_string())].into();
    let got = session.estimate(&Program::asm(ADDER), n, &job_params.to_string()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&got).unwrap(), *report);
    assert_eq!(session.estimate_counts(counts, &job_params.to_string()).unwrap(), got);
    let e = session.estimate_counts(counts, "[1]").unwrap_err();
    assert_eq!(e.code(), Some(ErrorCode::InvalidParams), "{e}");
}

#[test]
fn what_is_wrong_is_said() {
    let server = Server::start("");
    let created = call(&server, "qmk_session_create", json!({"detached": true}));
    let session = &created["result"]["session_id"];
    let counts = json!({"numQubits": 3, "tCount": 5});
    let table = [
        (json!({"counts": counts, "job_params": {"qecScheme": {"nmae": 1}}}), -32602, "unknown field `nmae`"),
        (json!({"counts": counts, "job_params": {"errorBudget": 7}}), -32602, "errorBudget is 7; it must be at least"),
        (json!({"counts": counts, "job_params": {"estimateType": "frontier"}}), -32602, "frontier"),
        (json!({"counts": counts, "job_params": "{}"}), -32602, "job_params must be an object"),
        (json!({"counts": {"numQubits": 3, "tcount": 5}}), -32602, "unknown field `tcount`"),
        (json!({"counts": {"numQubits": u64::MAX}}), -32602, "numQubits is 18446744073709551615"),
        (json!({"counts": counts, "constraints": 3, "graph": []}), -32602, "graph (an object)"),
        (json!({"counts": counts, "source": "ALLOC_LQ -> a"}), -32602, "give either"),
        (json!({}), -32602, "give either"),
        (json!({"source": "garbage ((", "format": "asm"}), -32200, "errors"),
        (json!({"graph": {"version": "0.1"}}), -32200, "errors"),
        (
            json!({"counts": counts, "job_params": {"constraints": {"maxPhysicalQubits": 3}}}),
            -32602,
            "maxPhysicalQubits",
        ),
    ];
    for (mut params, code, message) in table {
        params["session_id"] = session.clone();
        let reply = call(&server, "qmk_estimate", params.clone());
        let e = &reply["error"];
        assert_eq!(e["code"], code, "{params} {reply}");
        assert!(e["message"].as_str().unwrap().contains(message), "{params} {reply}");
    }
    let unknown = call(&server, "qmk_estimate", json!({"session_id": "sess_x", "counts": counts}));
    assert_eq!(unknown["error"]["code"], -32102);
}

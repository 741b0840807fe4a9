//! The JSON-RPC form of requests, replies and errors.

use qmk_abi::rpc::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Methods of the contract that this version does not offer.
const UNAVAILABLE: [&str; 16] = [
    "q_alloc",
    "q_apply",
    "q_measure",
    "q_release",
    "q_open_chan",
    "q_accept_chan",
    "q_close_chan",
    "q_chan_status",
    "q_checkpoint",
    "q_restore",
    "q_migrate",
    "q_get_mapping",
    "q_replay",
    "qmk_estimate",
    "qmk_audit_head",
    "qmk_audit_prove",
];

fn to_value(v: &impl Serialize) -> Value {
    serde_json::to_value(v).unwrap_or(Value::Null)
}

/// A request as a JSON-RPC object.
pub fn request_to_json(request: &Request, id: u64) -> Value {
    let params = match request {
        Request::SessionCreate(p) => to_value(p),
        Request::SessionClose(p) | Request::ResourceQuery(p) => to_value(p),
        Request::JobList(p) | Request::MachineStats(p) => to_value(p),
        Request::JobSubmit(p) => to_value(p),
        Request::JobWait(p) => to_value(p),
        Request::JobStatus(p) | Request::JobResult(p) | Request::JobCancel(p) | Request::Telemetry(p) => to_value(p),
    };
    json!({"jsonrpc": "2.0", "id": id, "method": request.method(), "params": params})
}

fn params<T: DeserializeOwned>(v: Value) -> Result<T, RpcError> {
    serde_json::from_value(v).map_err(|e| RpcError::new(ErrorCode::InvalidParams, format!("params: {e}")))
}

/// A request from a method name, or its alias, and params.
///
/// # Errors
/// `METHOD_NOT_FOUND` and `INVALID_PARAMS`.
pub fn request_from_json(method: &str, given: Value) -> Result<Request, RpcError> {
    let given = match given {
        Value::Null => Value::Object(Map::new()),
        Value::Object(_) => given,
        _ => return Err(RpcError::new(ErrorCode::InvalidParams, "params must be an object")),
    };
    Ok(match method {
        "qmk_session_create" | "q_negotiate_caps" => Request::SessionCreate(params(given)?),
        "qmk_session_close" => Request::SessionClose(params(given)?),
        "qmk_job_submit" | "q_submit" => Request::JobSubmit(submit(given)?),
        "qmk_job_status" | "q_status" => Request::JobStatus(params(given)?),
        "qmk_job_wait" | "q_wait" => Request::JobWait(params(given)?),
        "qmk_job_result" => Request::JobResult(params(given)?),
        "qmk_job_cancel" | "q_cancel" => Request::JobCancel(params(given)?),
        "qmk_resource_query" => Request::ResourceQuery(params(given)?),
        "qmk_job_list" => Request::JobList(params(given)?),
        "qmk_machine_stats" => Request::MachineStats(params(given)?),
        "q_get_telemetry" if given.get("job_id").is_some() => Request::Telemetry(params(given)?),
        "q_get_telemetry" => Request::ResourceQuery(params(given)?),
        m if UNAVAILABLE.contains(&m) => {
            return Err(RpcError::new(
                ErrorCode::MethodNotFound,
                format!("method {m} is not available on this machine"),
            ));
        }
        m => {
            let shown: String = m.chars().take(60).collect();
            return Err(RpcError::new(ErrorCode::MethodNotFound, format!("no such method: {shown}")));
        }
    })
}

/// `graph` may stand for `source`.
fn submit(mut given: Value) -> Result<JobSubmit, RpcError> {
    let Value::Object(m) = &mut given else { return params(given) };
    if m.get("policy").is_some_and(Value::is_null) {
        m.remove("policy");
    }
    match (m.remove("graph"), m.contains_key("source")) {
        (Some(graph @ Value::Object(_)), false) => {
            m.insert("source".into(), graph.to_string().into());
            m.insert("format".into(), "json".into());
        }
        (Some(_), false) => return Err(RpcError::new(ErrorCode::InvalidParams, "params: graph must be an object")),
        (None, true) => {}
        _ => {
            return Err(RpcError::new(
                ErrorCode::InvalidParams,
                "params: give either graph (an object) or source (text) and format",
            ));
        }
    }
    params(given)
}

/// A reply's result.
pub fn result_to_json(reply: &Reply) -> Value {
    let mut v = match reply {
        Reply::Session(r) => to_value(r),
        Reply::Closed(r) => to_value(r),
        Reply::Submitted(r) => to_value(r),
        Reply::Status(r) => to_value(r),
        Reply::Result(r) => {
            // The figures of a run stand beside the job's id; `events` is the last shot.
            let mut v = to_value(&r.report);
            if let Value::Object(m) = &mut v {
                let names = m.insert("events".into(), to_value(&r.last_shot));
                m.insert("event_names".into(), names.unwrap_or(Value::Null));
                m.insert("job_id".into(), r.job_id.as_str().into());
            }
            v
        }
        Reply::Cancelled(r) => to_value(r),
        Reply::Resources(r) => to_value(r),
        Reply::Telemetry(r) => to_value(r),
        Reply::Jobs(r) => to_value(r),
        Reply::Machine(r) => to_value(r),
    };
    if let (Reply::Status(_), Value::Object(m)) = (reply, &mut v) {
        m.retain(|_, v| !v.is_null());
    }
    v
}

/// An error as a JSON-RPC error object.
pub fn error_to_json(e: &RpcError) -> Value {
    let mut data = Map::new();
    data.insert("name".into(), e.code.name().into());
    if e.code == ErrorCode::InsufficientCaps {
        data.insert("required".into(), to_value(&e.required));
        data.insert("missing".into(), to_value(&e.missing));
    }
    if !e.findings.is_empty() {
        data.insert("findings".into(), to_value(&e.findings));
    }
    json!({"code": e.code.code(), "message": e.message, "data": data})
}

/// The answer to a request from a JSON-RPC reply.
///
/// # Errors
/// The error the reply carries, or `INTERNAL_ERROR` if it is malformed.
pub fn reply_from_json(request: &Request, mut reply: Value) -> Result<Reply, RpcError> {
    if let Some(e) = reply.get_mut("error") {
        let code = e.get("code").and_then(Value::as_i64).and_then(|c| ErrorCode::from_code(c as i32));
        let message = e.get("message").and_then(Value::as_str).unwrap_or("no message").to_string();
        let mut error = RpcError::new(code.unwrap_or(ErrorCode::Internal), message);
        let mut list = |key: &str| e.get_mut("data").and_then(|d| d.get_mut(key)).map(Value::take).unwrap_or_default();
        error.required = serde_json::from_value(list("required")).unwrap_or_default();
        error.missing = serde_json::from_value(list("missing")).unwrap_or_default();
        error.findings = serde_json::from_value(list("findings")).unwrap_or_default();
        return Err(error);
    }
    let mut result = reply.get_mut("result").map(Value::take).unwrap_or_default();
    fn read<T: DeserializeOwned>(v: Value) -> Result<T, RpcError> {
        serde_json::from_value(v).map_err(|e| RpcError::new(ErrorCode::Internal, format!("malformed reply: {e}")))
    }
    Ok(match request {
        Request::SessionCreate(_) => Reply::Session(read(result)?),
        Request::SessionClose(_) => Reply::Closed(read(result)?),
        Request::JobSubmit(_) => Reply::Submitted(read(result)?),
        Request::JobStatus(_) | Request::JobWait(_) => Reply::Status(read(result)?),
        Request::JobCancel(_) => Reply::Cancelled(read(result)?),
        Request::ResourceQuery(_) => Reply::Resources(read(result)?),
        Request::Telemetry(_) => Reply::Telemetry(read(result)?),
        Request::JobList(_) => Reply::Jobs(read(result)?),
        Request::MachineStats(_) => Reply::Machine(read(result)?),
        Request::JobResult(p) => {
            let last_shot = read(result.get_mut("events").map(Value::take).unwrap_or_default())?;
            if let Value::Object(m) = &mut result {
                let names = m.remove("event_names").unwrap_or_default();
                m.insert("events".into(), names);
            }
            Reply::Result(JobResult { job_id: p.job_id.clone(), last_shot, report: read(result)? })
        }
    })
}

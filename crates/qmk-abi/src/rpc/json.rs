//! The JSON-RPC form of requests, replies and errors.

use super::error::{ErrorCode, RpcError};
use super::estimate::{EstimateRequest, Estimated};
use super::interactive;
use super::job::{Epochs, Format, JobResult, JobState, JobStatus, JobSubmit, Progress, Telemetry};
use super::message::{Reply, Request};
use super::session::SessionCreate;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

fn to_value(v: &impl Serialize) -> Value {
    serde_json::to_value(v).unwrap_or(Value::Null)
}

/// A request as a JSON-RPC object.
pub fn request_to_json(request: &Request, id: u64) -> Value {
    let params = match request {
        Request::SessionCreate(p) => to_value(p),
        Request::SessionCreateV1(p) => to_value(&SessionCreate::from(p.clone())),
        Request::Authenticate(p) => to_value(p),
        Request::SessionClose(p) | Request::ResourceQuery(p) => to_value(p),
        Request::JobList(p) | Request::MachineStats(p) => to_value(p),
        Request::JobSubmit(p) => to_value(p),
        Request::Estimate(p) => estimate_params(p),
        Request::JobWait(p) => to_value(p),
        Request::AuditHead(p) => to_value(p),
        Request::AuditProve(p) => to_value(p),
        Request::JobStatus(p) | Request::JobResult(p) | Request::JobCancel(p) | Request::Telemetry(p) => to_value(p),
        Request::Interactive(call) => untagged(call),
    };
    json!({"jsonrpc": "2.0", "id": id, "method": request.method(), "params": params})
}

/// What a variant holds, without its tag.
fn untagged(v: &impl Serialize) -> Value {
    match to_value(v) {
        Value::Object(m) => m.into_iter().next().map_or(Value::Null, |(_, v)| v),
        other => other,
    }
}

/// The job parameters of an estimate are an object on this wire.
fn estimate_params(p: &EstimateRequest) -> Value {
    let mut v = to_value(p);
    match serde_json::from_str(&p.job_params) {
        Ok(job_params @ Value::Object(_)) => v["job_params"] = job_params,
        _ if p.job_params.trim().is_empty() => v["job_params"] = json!({}),
        // It is refused where it is read.
        _ => {}
    }
    v
}

/// The method is one of those there are.
fn interactive(method: &str, given: Given<'_>) -> Result<Request, RpcError> {
    // The basis of a measurement may be an angle.
    let number = |v: &&RawValue| v.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if method == "q_measure"
        && let Some(mut m) = given.members()
        && let Some(angle) = m.get("basis").copied().filter(number)
    {
        m.remove("basis");
        if m.insert("angle".into(), angle).is_some() {
            return Err(RpcError::new(ErrorCode::InvalidParams, "params: give either an angle or a basis"));
        }
        return tagged(method, raw(&m)?.get());
    }
    tagged(method, given.0)
}

fn tagged(method: &str, given: &str) -> Result<Request, RpcError> {
    params(Given(&format!("{{\"{method}\":{given}}}"))).map(Request::Interactive)
}

/// Parameters as text: an object, or an array of the members of one in their order.
#[derive(Clone, Copy)]
struct Given<'a>(&'a str);

impl<'a> Given<'a> {
    fn members(self) -> Option<BTreeMap<Cow<'a, str>, &'a RawValue>> {
        self.0.starts_with('{').then(|| serde_json::from_str(self.0).ok()).flatten()
    }

    fn get(self, member: &str) -> Option<&'a RawValue> {
        self.members()?.remove(member)
    }
}

fn params<T: DeserializeOwned>(given: Given<'_>) -> Result<T, RpcError> {
    serde_json::from_str(given.0).map_err(|e| {
        // Where in the parameters tells a person little.
        let mut what = e.to_string();
        what.truncate(what.rfind(" at line ").unwrap_or(what.len()));
        RpcError::new(ErrorCode::InvalidParams, format!("params: {what}"))
    })
}

/// A request from a method name, or its alias, and params.
///
/// # Errors
/// `METHOD_NOT_FOUND` and `INVALID_PARAMS`.
pub fn request_from_json(method: &str, given: Value) -> Result<Request, RpcError> {
    request_from_text(method, &given.to_string())
}

/// As [`request_from_json`], from the text of the params.
///
/// # Errors
/// `METHOD_NOT_FOUND` and `INVALID_PARAMS`.
pub fn request_from_text(method: &str, given: &str) -> Result<Request, RpcError> {
    let given = match given.as_bytes() {
        b"null" => Given("{}"),
        [b'{' | b'[', ..] => Given(given),
        _ => return Err(RpcError::new(ErrorCode::InvalidParams, "params must be an object or an array")),
    };
    Ok(match method {
        "qmk_session_create" | "q_negotiate_caps" => Request::SessionCreate(params(given)?),
        "qmk_authenticate" => Request::Authenticate(params(given)?),
        "qmk_session_close" => Request::SessionClose(params(given)?),
        "qmk_job_submit" | "q_submit" => Request::JobSubmit(submit(given)?),
        "qmk_job_status" | "q_status" => Request::JobStatus(params(given)?),
        "qmk_job_wait" | "q_wait" => Request::JobWait(params(given)?),
        "qmk_job_result" => Request::JobResult(params(given)?),
        "qmk_job_cancel" | "q_cancel" => Request::JobCancel(params(given)?),
        "qmk_resource_query" => Request::ResourceQuery(params(given)?),
        "qmk_job_list" => Request::JobList(params(given)?),
        "qmk_machine_stats" => Request::MachineStats(params(given)?),
        "qmk_estimate" => Request::Estimate(estimate(given)?),
        "q_get_telemetry" if given.get("job_id").is_some() => Request::Telemetry(params(given)?),
        "q_get_telemetry" => Request::ResourceQuery(params(given)?),
        "qmk_audit_head" => Request::AuditHead(params(given)?),
        "qmk_audit_prove" => Request::AuditProve(params(given)?),
        m if interactive::Call::METHODS.contains(&m) => interactive(m, given)?,
        m => {
            let shown: String = m.chars().take(60).collect();
            return Err(RpcError::new(ErrorCode::MethodNotFound, format!("no such method: {shown}")));
        }
    })
}

fn raw(v: &impl Serialize) -> Result<Box<RawValue>, RpcError> {
    serde_json::value::to_raw_value(v).map_err(|e| RpcError::new(ErrorCode::InvalidParams, format!("params: {e}")))
}

/// `graph` may stand for `source`.
fn submit(given: Given<'_>) -> Result<JobSubmit, RpcError> {
    let direct = params(given);
    if direct.is_ok() && !given.0.contains("\"graph\"") {
        return direct;
    }
    let Some(mut m) = given.members() else { return direct };
    if m.get("policy").is_some_and(|p| p.get() == "null") {
        m.remove("policy");
    }
    let (text, format);
    match (m.remove("graph"), m.contains_key("source")) {
        (Some(graph), false) if graph.get().starts_with('{') => {
            (text, format) = (raw(&graph.get())?, raw(&Format::Json)?);
            m.insert("source".into(), &text);
            m.insert("format".into(), &format);
            params(Given(raw(&m)?.get()))
        }
        (Some(_), false) => Err(RpcError::new(ErrorCode::InvalidParams, "params: graph must be an object")),
        (None, true) => params(Given(raw(&m)?.get())),
        _ => Err(RpcError::new(
            ErrorCode::InvalidParams,
            "params: give either graph (an object) or source (text) and format",
        )),
    }
}

/// `graph` may stand for `source`, and `job_params` is an object, whose text is passed on.
fn estimate(given: Given<'_>) -> Result<EstimateRequest, RpcError> {
    let Some(mut m) = given.members() else { return params(given) };
    let wrong = |what: &str| RpcError::new(ErrorCode::InvalidParams, format!("params: {what}"));
    let (text, format, job_params);
    if let Some(graph) = m.remove("graph") {
        if m.contains_key("source") || !graph.get().starts_with('{') {
            return Err(wrong("give either graph (an object) or source (text) and format"));
        }
        (text, format) = (raw(&graph.get())?, raw(&Format::Json)?);
        m.insert("source".into(), &text);
        m.insert("format".into(), &format);
    }
    if let Some(given) = m.remove("job_params").filter(|p| p.get() != "null") {
        if !given.get().starts_with('{') {
            return Err(wrong("job_params must be an object"));
        }
        job_params = raw(&given.get())?;
        m.insert("job_params".into(), &job_params);
    }
    params(Given(raw(&m)?.get()))
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
        Reply::Authenticated(r) => to_value(r),
        Reply::AuditHead(r) => to_value(r),
        Reply::AuditProof(r) => to_value(r),
        Reply::Interactive(answer) => untagged(answer),
        Reply::Jobs(r) => to_value(r),
        Reply::Machine(r) => to_value(r),
        Reply::Estimate(r) => serde_json::from_str(&r.report).unwrap_or_default(),
    };
    if let (Reply::Status(_) | Reply::Interactive(interactive::Answer::Checkpoint(_)), Value::Object(m)) =
        (reply, &mut v)
    {
        m.retain(|_, v| !v.is_null());
    }
    v
}

/// The members of a status that are not null.
#[derive(Serialize)]
struct StatusForm<'a> {
    job_id: &'a str,
    state: JobState,
    progress: Progress,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: &'a Option<BTreeMap<String, u8>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    telemetry: &'a Option<Telemetry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: &'a Option<String>,
}

impl<'a> From<&'a JobStatus> for StatusForm<'a> {
    fn from(status: &'a JobStatus) -> Self {
        let JobStatus { job_id, state, progress, events, telemetry, error } = status;
        StatusForm { job_id, state: *state, progress: *progress, events, telemetry, error }
    }
}

/// The figures of a run stand beside the job's id; `events` is the last shot.
#[derive(Serialize)]
struct ResultForm<'a> {
    shots: u64,
    seed: u64,
    events: &'a BTreeMap<String, u8>,
    counts: &'a BTreeMap<String, u64>,
    epochs: Epochs,
    logical_time_us: f64,
    physical_qubits: u64,
    t_states: u64,
    logical_error_probability: f64,
    peak_active_qubits: u32,
    wall_ms: f64,
    warnings: &'a [String],
    event_names: &'a [String],
    job_id: &'a str,
}

impl<'a> From<&'a JobResult> for ResultForm<'a> {
    fn from(result: &'a JobResult) -> Self {
        let JobResult { job_id, last_shot, report: r } = result;
        ResultForm {
            shots: r.shots,
            seed: r.seed,
            events: last_shot,
            counts: &r.counts,
            epochs: r.epochs,
            logical_time_us: r.logical_time_us,
            physical_qubits: r.physical_qubits,
            t_states: r.t_states,
            logical_error_probability: r.logical_error_probability,
            peak_active_qubits: r.peak_active_qubits,
            wall_ms: r.wall_ms,
            warnings: &r.warnings,
            event_names: &r.events,
            job_id,
        }
    }
}

/// Appends a reply's result as text: the same value as of [`result_to_json`], without making it for common replies.
pub fn write_result(reply: &Reply, out: &mut Vec<u8>) {
    let text = match reply {
        Reply::Session(r) => serde_json::to_vec(r),
        Reply::Submitted(r) => serde_json::to_vec(r),
        Reply::Resources(r) => serde_json::to_vec(r),
        Reply::Status(r) => serde_json::to_vec(&StatusForm::from(r)),
        Reply::Result(r) => serde_json::to_vec(&ResultForm::from(&**r)),
        other => serde_json::to_vec(&result_to_json(other)),
    };
    // Replies have string keys only, so writing them to memory does not fail.
    out.extend_from_slice(&text.unwrap_or_default());
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
    if let Some(ms) = e.retry_after_ms {
        data.insert("retry_after_ms".into(), ms.into());
    }
    if let Some(reason) = e.stop_reason() {
        data.insert("reason".into(), reason.into());
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
        error.retry_after_ms = list("retry_after_ms").as_u64();
        return Err(error);
    }
    let mut result = reply.get_mut("result").map(Value::take).unwrap_or_default();
    fn read<T: DeserializeOwned>(v: Value) -> Result<T, RpcError> {
        serde_json::from_value(v).map_err(|e| RpcError::new(ErrorCode::Internal, format!("malformed reply: {e}")))
    }
    Ok(match request {
        Request::SessionCreate(_) | Request::SessionCreateV1(_) => Reply::Session(read(result)?),
        Request::SessionClose(_) => Reply::Closed(read(result)?),
        Request::JobSubmit(_) => Reply::Submitted(read(result)?),
        Request::JobStatus(_) | Request::JobWait(_) => Reply::Status(read(result)?),
        Request::JobCancel(_) => Reply::Cancelled(read(result)?),
        Request::ResourceQuery(_) => Reply::Resources(read(result)?),
        Request::Telemetry(_) => Reply::Telemetry(read(result)?),
        Request::Authenticate(_) => Reply::Authenticated(read(result)?),
        Request::AuditHead(_) => Reply::AuditHead(read(result)?),
        Request::AuditProve(_) => Reply::AuditProof(read(result)?),
        Request::Interactive(call) => Reply::Interactive(read(json!({call.method(): result}))?),
        Request::JobList(_) => Reply::Jobs(read(result)?),
        Request::MachineStats(_) => Reply::Machine(read(result)?),
        Request::Estimate(_) => Reply::Estimate(Estimated { report: result.to_string() }),
        Request::JobResult(p) => {
            let last_shot = read(result.get_mut("events").map(Value::take).unwrap_or_default())?;
            if let Value::Object(m) = &mut result {
                let names = m.remove("event_names").unwrap_or_default();
                m.insert("events".into(), names);
            }
            let result = JobResult { job_id: p.job_id.clone(), last_shot, report: read(result)? };
            Reply::Result(result.into())
        }
    })
}

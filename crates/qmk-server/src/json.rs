//! JSON-RPC 2.0 over typed requests.

use qmk_abi::rpc::{ErrorCode, Reply, Request, RpcError};
use qmk_client::wire;
use serde_json::{Value, json};

/// Requests in one batch.
const MAX_BATCH: usize = 1000;

/// Performs a call; given by the connection, which knows about waiting and panics.
pub(crate) type Call<'a> = &'a mut dyn FnMut(Request) -> Result<Reply, RpcError>;

fn error(id: Value, e: &RpcError) -> Value {
    json!({"jsonrpc": "2.0", "error": wire::error_to_json(e), "id": id})
}

/// The reply to text that is not JSON.
pub(crate) fn parse_error(what: &str) -> Value {
    error(Value::Null, &RpcError::new(ErrorCode::Parse, format!("parse error: {what}")))
}

/// The reply to one value of the stream; `None` for notifications.
pub(crate) fn answer(text: &[u8], call: Call<'_>) -> Option<Value> {
    match serde_json::from_slice(text) {
        Err(e) => Some(parse_error(&e.to_string())),
        Ok(Value::Array(batch)) => {
            if batch.is_empty() || batch.len() > MAX_BATCH {
                let what = format!("a batch holds 1 to {MAX_BATCH} requests");
                return Some(error(Value::Null, &RpcError::new(ErrorCode::InvalidRequest, what)));
            }
            let replies: Vec<Value> = batch.into_iter().filter_map(|v| one(v, call)).collect();
            (!replies.is_empty()).then_some(Value::Array(replies))
        }
        Ok(v) => one(v, call),
    }
}

fn one(v: Value, call: Call<'_>) -> Option<Value> {
    let invalid = |id: Value, what: &str| {
        Some(error(id, &RpcError::new(ErrorCode::InvalidRequest, format!("invalid request: {what}"))))
    };
    let Value::Object(mut m) = v else { return invalid(Value::Null, "not an object") };
    let id = m.remove("id");
    let known_id = match &id {
        None => Value::Null,
        Some(v @ (Value::String(_) | Value::Number(_) | Value::Null)) => v.clone(),
        Some(_) => return invalid(Value::Null, "id must be a string, a number or null"),
    };
    if m.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return invalid(known_id, "\"jsonrpc\" must be \"2.0\"");
    }
    let Some(Value::String(method)) = m.remove("method") else {
        return invalid(known_id, "\"method\" must be a string");
    };
    let params = m.remove("params").unwrap_or(Value::Null);
    let result = wire::request_from_json(&method, params).and_then(call);
    // A notification gets no reply, not even an error.
    id?;
    Some(match result {
        Ok(reply) => json!({"jsonrpc": "2.0", "result": wire::result_to_json(&reply), "id": known_id}),
        Err(e) => error(known_id, &e),
    })
}

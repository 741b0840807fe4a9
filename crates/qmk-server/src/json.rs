//! JSON-RPC 2.0 over typed requests.

use qmk_abi::rpc::{ErrorCode, Reply, Request, RpcError};
use qmk_client::wire;
use serde_json::{Value, json};

/// Requests in one batch.
const MAX_BATCH: usize = 1000;

/// Performs a call; given by the connection, which knows about waiting and panics.
pub(crate) type Call<'a> = &'a mut dyn FnMut(Request) -> Result<Reply, RpcError>;

/// An error that was not counted as that of a call.
fn uncounted(id: Value, e: &RpcError) -> Value {
    crate::metrics::count(|m| m.error(e.code));
    error(id, e)
}

pub(crate) fn error(id: Value, e: &RpcError) -> Value {
    json!({"jsonrpc": "2.0", "error": wire::error_to_json(e), "id": id})
}

/// The reply to text that is not JSON.
pub(crate) fn parse_error(what: &str) -> Value {
    uncounted(Value::Null, &RpcError::new(ErrorCode::Parse, format!("parse error: {what}")))
}

/// The reply to one value of the stream; `None` for notifications. Once the replies to a batch are `limit` bytes long,
/// the rest of it is refused.
pub(crate) fn answer(text: &[u8], limit: usize, call: Call<'_>) -> Option<String> {
    let batch = match serde_json::from_slice(text) {
        Err(e) => return Some(parse_error(&e.to_string()).to_string()),
        Ok(Value::Array(batch)) => batch,
        Ok(v) => return one(v, call).map(|reply| reply.to_string()),
    };
    if batch.is_empty() || batch.len() > MAX_BATCH {
        let what = format!("a batch holds 1 to {MAX_BATCH} requests");
        return Some(uncounted(Value::Null, &RpcError::new(ErrorCode::InvalidRequest, what)).to_string());
    }
    let refused = RpcError::new(
        ErrorCode::ResourceExhausted,
        format!("the replies to this batch are longer than {limit} bytes; ask for less at a time"),
    );
    let mut out = String::new();
    for v in batch {
        let full = out.len() >= limit;
        let reply = if full { one(v, &mut |_| Err(refused.clone())) } else { one(v, &mut *call) };
        if let Some(reply) = reply {
            out.push(if out.is_empty() { '[' } else { ',' });
            out += &reply.to_string();
        }
    }
    (!out.is_empty()).then(|| out + "]")
}

fn one(v: Value, call: Call<'_>) -> Option<Value> {
    let invalid = |id: Value, what: &str| {
        Some(uncounted(id, &RpcError::new(ErrorCode::InvalidRequest, format!("invalid request: {what}"))))
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
    let request = wire::request_from_json(&method, params).inspect_err(|e| crate::metrics::count(|m| m.error(e.code)));
    let result = request.and_then(call);
    // A notification gets no reply, not even an error.
    id?;
    Some(match result {
        Ok(reply) => json!({"jsonrpc": "2.0", "result": wire::result_to_json(&reply), "id": known_id}),
        Err(e) => error(known_id, &e),
    })
}

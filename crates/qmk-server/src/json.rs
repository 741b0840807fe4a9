//! JSON-RPC 2.0 over typed requests.

use qmk_abi::rpc::json as wire;
use qmk_abi::rpc::{ErrorCode, Reply, Request, RpcError};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Requests in one batch.
const MAX_BATCH: usize = 1000;

/// Performs a call; given by the connection, which knows about waiting and panics.
pub(crate) type Call<'a> = &'a mut dyn FnMut(Request) -> Result<Reply, RpcError>;

/// A request as it came. Its parts are read when it is known what they should be.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
}

/// Tells `null` from nothing.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

/// Appends an error reply.
pub(crate) fn error(id: &str, e: &RpcError, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"error\":");
    out.extend_from_slice(wire::error_to_json(e).to_string().as_bytes());
    end(id, out);
}

fn end(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"id\":");
    out.extend_from_slice(id.as_bytes());
    out.push(b'}');
}

/// Appends an error that was not counted as that of a call.
fn uncounted(id: &str, e: &RpcError, out: &mut Vec<u8>) {
    crate::metrics::count(|m| m.error(e.code));
    error(id, e, out);
}

/// Appends the reply to text that is not JSON.
pub(crate) fn parse_error(what: &str, out: &mut Vec<u8>) {
    uncounted("null", &RpcError::new(ErrorCode::Parse, format!("parse error: {what}")), out);
}

/// Appends the reply to a value that is not a request.
fn invalid(id: &str, what: &str, out: &mut Vec<u8>) {
    uncounted(id, &RpcError::new(ErrorCode::InvalidRequest, format!("invalid request: {what}")), out);
}

/// Appends the reply to one value of the stream; nothing for notifications. Once the replies to a batch are `limit`
/// bytes long, the rest of it is refused.
pub(crate) fn answer(text: &[u8], limit: usize, out: &mut Vec<u8>, call: Call<'_>) {
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(e) => return parse_error(&format!("not UTF-8 after {} bytes", e.valid_up_to()), out),
    };
    match text.as_bytes().first() {
        Some(b'{') => one(text, out, call),
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(batch) => many(&batch, limit, out, call),
            Err(e) => parse_error(&e.to_string(), out),
        },
        _ => match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => invalid("null", "not an object", out),
            Err(e) => parse_error(&e.to_string(), out),
        },
    }
}

fn many(batch: &[&RawValue], limit: usize, out: &mut Vec<u8>, call: Call<'_>) {
    if batch.is_empty() || batch.len() > MAX_BATCH {
        let what = format!("a batch holds 1 to {MAX_BATCH} requests");
        return uncounted("null", &RpcError::new(ErrorCode::InvalidRequest, what), out);
    }
    let refused = RpcError::new(
        ErrorCode::ResourceExhausted,
        format!("the replies to this batch are longer than {limit} bytes; ask for less at a time"),
    );
    let start = out.len();
    out.push(b'[');
    for v in batch {
        let before = out.len();
        if before - start > limit {
            one(v.get(), out, &mut |_| Err(refused.clone()));
        } else {
            one(v.get(), out, &mut *call);
        }
        if out.len() > before {
            out.push(b',');
        }
    }
    match out.last_mut() {
        Some(comma @ b',') => *comma = b']',
        // Notifications only.
        _ => out.truncate(start),
    }
}

/// A string's content; `None` for what is no string.
fn string(v: &RawValue) -> Option<Cow<'_, str>> {
    let inner = v.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') { Some(inner.into()) } else { serde_json::from_str::<String>(v.get()).ok().map(Cow::from) }
}

/// The text of an id, which the reply repeats as it came: a number must not lose digits.
fn id(v: &RawValue) -> Result<&str, &'static str> {
    let number = |t: &str| t.parse::<f64>().is_ok_and(f64::is_finite);
    match v.get().as_bytes() {
        b"null" => Ok(v.get()),
        [b'"', ..] if string(v).is_some() => Ok(v.get()),
        [b'0'..=b'9' | b'-', ..] if number(v.get()) => Ok(v.get()),
        [b'0'..=b'9' | b'-', ..] => Err("the id is a number out of range"),
        _ => Err("id must be a string, a number or null"),
    }
}

fn one(text: &str, out: &mut Vec<u8>, call: Call<'_>) {
    // A sequence would be taken for the members in order.
    if !text.starts_with('{') {
        return invalid("null", "not an object", out);
    }
    let request: Envelope<'_> = match serde_json::from_str(text) {
        Ok(request) => request,
        // A member that is there twice, for one: it is not clear which is meant.
        Err(e) if e.is_data() => return invalid("null", &e.to_string(), out),
        Err(e) => return parse_error(&e.to_string(), out),
    };
    let known = match request.id.map_or(Ok("null"), id) {
        Ok(id) => id,
        Err(what) => return invalid("null", what, out),
    };
    if request.jsonrpc.and_then(string).as_deref() != Some("2.0") {
        return invalid(known, "\"jsonrpc\" must be \"2.0\"", out);
    }
    let Some(method) = request.method.and_then(string) else {
        return invalid(known, "\"method\" must be a string", out);
    };
    let asked = wire::request_from_text(&method, request.params.map_or("null", RawValue::get));
    let result = asked.inspect_err(|e| crate::metrics::count(|m| m.error(e.code))).and_then(call);
    // A notification gets no reply, not even an error.
    if request.id.is_none() {
        return;
    }
    match result {
        Ok(reply) => {
            out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"result\":");
            wire::write_result(&reply, out);
            end(known, out);
        }
        Err(e) => error(known, &e, out),
    }
}

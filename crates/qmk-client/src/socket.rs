//! JSON-RPC over a Unix socket.

use crate::wire;
use parking_lot::Mutex;
use qmk_abi::rpc::{Endpoint, ErrorCode, Reply, Request, RpcError};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

pub(crate) struct Socket {
    inner: Mutex<Inner>,
}

struct Inner {
    reader: BufReader<UnixStream>,
    next_id: u64,
}

impl Socket {
    pub(crate) fn connect(path: &str) -> std::io::Result<Socket> {
        let stream = UnixStream::connect(path)
            .map_err(|e| std::io::Error::new(e.kind(), format!("{path}: {e}; start qmk-server or name its socket")))?;
        Ok(Socket { inner: Mutex::new(Inner { reader: BufReader::new(stream), next_id: 1 }) })
    }
}

impl Endpoint for Socket {
    fn call(&self, request: Request) -> Result<Reply, RpcError> {
        let broken = |what: String| RpcError::new(ErrorCode::Internal, format!("connection: {what}"));
        let mut inner = self.inner.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        let mut message = wire::request_to_json(&request, id).to_string();
        message.push('\n');
        let written = inner.reader.get_mut().write_all(message.as_bytes());
        let mut line = String::new();
        // A server that turns a client away says why and reads no further.
        let read = inner.reader.read_line(&mut line);
        if line.is_empty() {
            written.map_err(|e| broken(e.to_string()))?;
            read.map_err(|e| broken(e.to_string()))?;
            return Err(broken("closed by the server".into()));
        }
        let reply: Value = serde_json::from_str(&line).map_err(|e| broken(e.to_string()))?;
        if reply.get("id").is_none_or(Value::is_null) && reply.get("error").is_some() {
            return wire::reply_from_json(&request, reply);
        }
        if reply.get("id").and_then(Value::as_u64) != Some(id) {
            return Err(broken(format!("reply to another request: {}", line.trim())));
        }
        wire::reply_from_json(&request, reply)
    }
}

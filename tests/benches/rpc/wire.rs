//! Both forms of the wire, as bytes.

use crate::process::Failure;
use qmk_abi::rpc::{Reply, Request, RpcError};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Binary,
    Json,
}

/// A connection that speaks one of them.
pub(crate) struct Wire {
    form: Form,
    stream: UnixStream,
    buffer: Vec<u8>,
    first: bool,
}

impl Wire {
    pub(crate) fn new(form: Form, stream: UnixStream) -> Wire {
        Wire { form, stream, buffer: vec![0; 64 << 10], first: true }
    }

    pub(crate) fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    pub(crate) fn encode(&self, request: &Request) -> Vec<u8> {
        match self.form {
            Form::Binary => {
                let body = postcard::to_allocvec(request).expect("requests are plain data");
                [&(body.len() as u32).to_le_bytes(), body.as_slice()].concat()
            }
            Form::Json => (qmk_abi::rpc::json::request_to_json(request, 1).to_string() + "\n").into_bytes(),
        }
    }

    /// Sends a message and reads one, whose bytes it returns.
    pub(crate) fn exchange(&mut self, message: &[u8]) -> Result<&[u8], Failure> {
        if std::mem::take(&mut self.first) && self.form == Form::Binary {
            self.stream.write_all(b"QMK1")?;
        }
        self.stream.write_all(message)?;
        let mut n = 0;
        loop {
            let got = self.stream.read(&mut self.buffer[n..])?;
            if got == 0 {
                return Err("the server closed the connection".into());
            }
            n += got;
            let whole = match self.form {
                Form::Json => self.buffer[n - 1] == b'\n',
                Form::Binary => {
                    self.buffer[..n].first_chunk::<4>().is_some_and(|l| n >= 4 + u32::from_le_bytes(*l) as usize)
                }
            };
            if whole {
                return Ok(&self.buffer[..n]);
            }
        }
    }

    pub(crate) fn decode(&self, request: &Request, reply: &[u8]) -> Result<Reply, Failure> {
        let result: Result<Reply, RpcError> = match self.form {
            Form::Binary => postcard::from_bytes(&reply[4..])?,
            Form::Json => qmk_abi::rpc::json::reply_from_json(request, serde_json::from_slice::<Value>(reply)?),
        };
        Ok(result?)
    }

    pub(crate) fn call(&mut self, request: &Request) -> Result<Reply, Failure> {
        let message = self.encode(request);
        let reply = self.exchange(&message)?.to_vec();
        self.decode(request, &reply)
    }
}

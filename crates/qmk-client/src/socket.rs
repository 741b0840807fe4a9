//! Binary frames over a Unix socket, and the socket where a server listens by default.

use parking_lot::Mutex;
use qmk_abi::rpc::{Endpoint, ErrorCode, Reply, Request, RpcError, SOCKET_DIR, SOCKET_NAME};
use std::io::{BufReader, Error, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Default socket: `$XDG_RUNTIME_DIR/qmk.sock`, else `/tmp/qmk.sock`.
pub fn default_socket() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| SOCKET_DIR.into(), PathBuf::from).join(SOCKET_NAME)
}

pub(crate) struct Socket {
    stream: Mutex<BufReader<UnixStream>>,
}

impl Socket {
    pub(crate) fn connect(path: &str) -> std::io::Result<Socket> {
        let opened = UnixStream::connect(path).and_then(|mut stream| {
            stream.write_all(b"QMK1")?;
            Ok(stream)
        });
        let stream = opened.map_err(|e| {
            let hint = match e.kind() {
                ErrorKind::PermissionDenied => "this user may not use the socket; ask who runs the server",
                _ => "start qmk-server or name its socket",
            };
            Error::new(e.kind(), format!("{path}: {e}; {hint}"))
        })?;
        Ok(Socket { stream: Mutex::new(BufReader::new(stream)) })
    }
}

fn exchange(stream: &mut BufReader<UnixStream>, message: &[u8]) -> std::io::Result<Vec<u8>> {
    // A server that turns a client away says why and reads no further.
    let written = stream.get_mut().write_all(message);
    let mut length = [0; 4];
    if let Err(e) = stream.read_exact(&mut length) {
        written?;
        let closed = e.kind() == ErrorKind::UnexpectedEof;
        return Err(if closed { Error::other("closed by the server") } else { e });
    }
    let (length, mut body) = (u32::from_le_bytes(length), Vec::new());
    // It takes memory as it comes, whatever it claims.
    let came = stream.take(length.into()).read_to_end(&mut body)?;
    if came < length as usize { Err(Error::other("closed by the server in the middle of a reply")) } else { Ok(body) }
}

impl Endpoint for Socket {
    fn call(&self, request: Request) -> Result<Reply, RpcError> {
        let broken = |what: String| RpcError::new(ErrorCode::Internal, format!("connection: {what}"));
        let body = postcard::to_allocvec(&request).map_err(|e| broken(e.to_string()))?;
        let length = u32::try_from(body.len()).map_err(|_| broken("the request is longer than 4 GiB".into()))?;
        let message = [&length.to_le_bytes(), body.as_slice()].concat();
        let reply = exchange(&mut self.stream.lock(), &message).map_err(|e| broken(e.to_string()))?;
        postcard::from_bytes(&reply).unwrap_or_else(|e| Err(broken(format!("not a reply: {e}"))))
    }
}

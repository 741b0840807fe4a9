//! One client, one thread: a request is read, answered and its reply written without handing it to anyone.

use crate::json;
use crate::metrics;
use crate::split::{Piece, Splitter};
use qmk_abi::rpc::{Endpoint, ErrorCode, JobWait, Reply, Request, RpcError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bounds on what a client may ask of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Bytes of one message, and of the replies to a batch after which the rest of it is refused.
    pub message_bytes: usize,
    /// Time in which a message that has begun must have come whole, and in which a client must take each mebibyte of
    /// replies.
    pub stall: Duration,
    /// Mode of the socket, which says who may connect.
    pub socket_mode: u32,
    /// Time without a request after which a connection is closed; `None` lets it stay.
    pub idle: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        let stall = Duration::from_secs(30);
        Limits { connections: 256, message_bytes: 16 << 20, stall, socket_mode: 0o600, idle: None }
    }
}

/// How often a thread that waits looks whether it still should.
const TICK: Duration = Duration::from_millis(100);
/// Replies are written when there are so many bytes of them, or when no request is left to answer.
const FULL: usize = 64 << 10;
/// Answering a request longer than this may take a while, so replies to earlier ones are written first.
const LONG: usize = 16 << 10;

fn is_timeout(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Whether the client has closed both directions. A client that only finished sending still reads.
fn hung_up(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(n) => n > 0 && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR),
        Err(_) => false,
    }
}

/// Turns a client away, in the form it speaks.
pub(crate) fn refuse(mut stream: &UnixStream, why: &str) {
    let e = RpcError::new(ErrorCode::ResourceExhausted, why);
    let (mut head, mut reply) = ([0; 4], Vec::new());
    _ = stream.set_read_timeout(Some(TICK));
    _ = stream.set_write_timeout(Some(TICK));
    if stream.read_exact(&mut head).is_ok() && head == *b"QMK1" {
        frame(&Err(e), &mut reply);
    } else {
        json::error("null", &e, &mut reply);
        reply.push(b'\n');
    }
    _ = stream.write_all(&reply);
    linger(stream);
}

struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends a reply of the binary form.
fn frame(result: &Result<Reply, RpcError>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    // Writing to memory does not fail.
    _ = postcard::serialize_with_flavor(result, Append(out));
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads what the client still sends, for a moment: closing on unread bytes would take the last reply from it.
fn linger(mut stream: &UnixStream) {
    let (end, mut chunk) = (Instant::now() + Duration::from_secs(1), [0; 16 << 10]);
    _ = stream.set_read_timeout(Some(TICK));
    _ = stream.shutdown(std::net::Shutdown::Write);
    while Instant::now() < end {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Err(e) if !is_timeout(&e) => return,
            _ => {}
        }
    }
}

/// Serves a client to its end.
pub(crate) fn serve(
    stream: UnixStream,
    limits: Limits,
    endpoint: Box<dyn Endpoint>,
    busy: &AtomicUsize,
    stop: &AtomicBool,
) {
    _ = stream.set_read_timeout(Some(TICK));
    _ = stream.set_write_timeout(Some(TICK));
    let mut replies = Replies { stream: &stream, out: Vec::new(), spare: Vec::new(), stall: limits.stall, gone: false };
    Client { endpoint: &*endpoint, busy, stop, limits }.run(&mut replies);
    drop(endpoint);
    linger(&stream);
    _ = stream.shutdown(std::net::Shutdown::Both);
}

/// What is on its way to the client.
struct Replies<'a> {
    stream: &'a UnixStream,
    out: Vec<u8>,
    /// Empty, with the room of an earlier reply.
    spare: Vec<u8>,
    stall: Duration,
    /// No one reads replies any more.
    gone: bool,
}

impl Replies<'_> {
    /// Adds a whole reply.
    fn put(&mut self, mut reply: Vec<u8>) {
        if self.out.is_empty() {
            std::mem::swap(&mut self.out, &mut reply);
        } else {
            self.out.extend_from_slice(&reply);
        }
        reply.clear();
        reply.shrink_to(FULL);
        self.spare = reply;
    }

    /// Writes all there is; false if the client does not take it.
    fn flush(&mut self) -> bool {
        if self.out.is_empty() || self.gone {
            self.out.clear();
            return !self.gone;
        }
        let (mut stream, mut rest) = (self.stream, self.out.as_slice());
        let mut since: Option<Instant> = None;
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(n) if n > 0 => {
                    metrics::count(|m| m.bytes_out.inc_by(n as u64));
                    rest = &rest[n..];
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // A slow reader must not hold the thread for ever.
                Err(e) if is_timeout(&e) => {
                    let mebibytes = 1 + (self.out.len() - rest.len()) / (1 << 20);
                    if since.get_or_insert_with(Instant::now).elapsed() > self.stall * mebibytes as u32 {
                        self.gone = true;
                        break;
                    }
                }
                _ => {
                    self.gone = true;
                    break;
                }
            }
        }
        self.out.clear();
        self.out.shrink_to(FULL);
        !self.gone
    }
}

/// How a client speaks.
enum Form {
    /// Its first bytes have not told.
    Unknown(Vec<u8>),
    Json(Splitter),
    /// With what has come of a frame.
    Frames(Vec<u8>),
}

impl Form {
    /// Whether a message has begun and not ended.
    fn inside(&self) -> bool {
        match self {
            Form::Unknown(bytes) | Form::Frames(bytes) => !bytes.is_empty(),
            Form::Json(splitter) => splitter.inside(),
        }
    }
}

struct Client<'a> {
    endpoint: &'a dyn Endpoint,
    busy: &'a AtomicUsize,
    stop: &'a AtomicBool,
    limits: Limits,
}

impl Client<'_> {
    fn run(&self, replies: &mut Replies<'_>) {
        let mut stream = replies.stream;
        let mut chunk = vec![0u8; 16 << 10];
        let mut form = Form::Unknown(Vec::new());
        // Since when the client has been silent, and since when a message has been on its way.
        let (mut silent, mut begun) = (Instant::now(), None);
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => {
                    metrics::count(|m| m.bytes_in.inc_by(n as u64));
                    self.busy.fetch_add(1, Ordering::SeqCst);
                    let go_on = self.feed(&mut form, &chunk[..n], replies) & replies.flush();
                    self.busy.fetch_sub(1, Ordering::SeqCst);
                    if !go_on {
                        return;
                    }
                    // While the client reads: it goes first where both share a processor.
                    std::thread::yield_now();
                    self.endpoint.settle();
                    silent = Instant::now();
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if is_timeout(&e) => {
                    let idle = self.limits.idle.is_some_and(|limit| silent.elapsed() > limit);
                    if self.stop.load(Ordering::Relaxed) || idle {
                        return;
                    }
                }
                Err(_) => return,
            }
            begun = if form.inside() { begun.or(Some(silent)) } else { None };
            if begun.is_some_and(|at| at.elapsed() > self.limits.stall) {
                let what = format!("a message was not complete after {} s", self.limits.stall.as_secs());
                return self.complain(&form, ErrorCode::Timeout, what, replies);
            }
        }
        if let Form::Unknown(head) = &mut form {
            let head = std::mem::take(head);
            form = Form::Json(Splitter::new(self.limits.message_bytes));
            self.feed(&mut form, &head, replies);
        }
        if let Form::Json(mut splitter) = form {
            self.busy.fetch_add(1, Ordering::SeqCst);
            if let Some(piece) = splitter.finish() {
                self.json(piece, replies);
            }
            replies.flush();
            self.busy.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Takes bytes in and answers what they complete; false if nothing more is to be read.
    fn feed(&self, form: &mut Form, bytes: &[u8], replies: &mut Replies<'_>) -> bool {
        let start;
        let mut bytes = bytes;
        if let Form::Unknown(head) = form {
            head.extend_from_slice(bytes);
            if head.len() < 4 && b"QMK1".starts_with(head) {
                return true;
            }
            start = std::mem::take(head);
            (*form, bytes) = match start.strip_prefix(b"QMK1") {
                Some(rest) => (Form::Frames(Vec::new()), rest),
                None => (Form::Json(Splitter::new(self.limits.message_bytes)), start.as_slice()),
            };
        }
        match form {
            Form::Json(splitter) => splitter.feed(bytes, &mut |piece| self.json(piece, replies)),
            Form::Frames(begun) if begun.is_empty() => match self.frames(bytes, replies) {
                Some(used) => {
                    begun.extend_from_slice(&bytes[used..]);
                    true
                }
                None => false,
            },
            Form::Frames(begun) => {
                begun.extend_from_slice(bytes);
                let Some(used) = self.frames(begun, replies) else { return false };
                begun.drain(..used);
                if begun.is_empty() {
                    begun.shrink_to(FULL);
                }
                true
            }
            Form::Unknown(_) => true,
        }
    }

    /// Answers the whole frames at the start of some bytes and says how many they are; `None` if nothing more is to be
    /// read.
    fn frames(&self, bytes: &[u8], replies: &mut Replies<'_>) -> Option<usize> {
        let mut used = 0;
        while let Some(length) = bytes[used..].first_chunk::<4>().map(|l| u32::from_le_bytes(*l) as usize) {
            if length > self.limits.message_bytes {
                frame(&Err(self.too_long()), &mut replies.out);
                replies.flush();
                return None;
            }
            let Some(body) = bytes[used + 4..].get(..length) else { break };
            used += 4 + length;
            let result = match postcard::from_bytes::<Request>(body) {
                Ok(request) => {
                    if length > LONG && !replies.flush() {
                        return None;
                    }
                    self.call(request, replies)
                }
                Err(e) => {
                    metrics::count(|m| m.error(ErrorCode::Parse));
                    Err(RpcError::new(ErrorCode::Parse, format!("not a request frame: {e}")))
                }
            };
            frame(&result, &mut replies.out);
            if replies.gone || replies.out.len() > FULL && !replies.flush() {
                return None;
            }
        }
        Some(used)
    }

    fn too_long(&self) -> RpcError {
        let message = format!("message longer than {} bytes", self.limits.message_bytes);
        RpcError::new(ErrorCode::ResourceExhausted, message)
    }

    /// Says why the connection is closed.
    fn complain(&self, form: &Form, code: ErrorCode, what: String, replies: &mut Replies<'_>) {
        let e = RpcError::new(code, what);
        if let Form::Frames(_) = form {
            frame(&Err(e), &mut replies.out);
        } else {
            json::error("null", &e, &mut replies.out);
            replies.out.push(b'\n');
        }
        replies.flush();
    }

    /// Answers a piece of a JSON stream; false if nothing more is to be read.
    fn json(&self, piece: Piece<'_>, replies: &mut Replies<'_>) -> bool {
        // Kept apart until it is complete: earlier replies are written before a wait.
        let mut reply = std::mem::take(&mut replies.spare);
        let go_on = match piece {
            Piece::Value(text) => {
                if text.len() > LONG {
                    replies.flush();
                }
                json::answer(text, self.limits.message_bytes, &mut reply, &mut |request| self.call(request, replies));
                true
            }
            Piece::Malformed(what) => {
                json::parse_error(what, &mut reply);
                true
            }
            Piece::Fatal(what) => {
                json::parse_error(what, &mut reply);
                false
            }
            Piece::TooLong => {
                json::error("null", &self.too_long(), &mut reply);
                false
            }
        };
        if !reply.is_empty() {
            reply.push(b'\n');
        }
        replies.put(reply);
        go_on && !replies.gone && (replies.out.len() < FULL || replies.flush())
    }

    /// One call, counted and logged: its method and how it went, never what it carried.
    fn call(&self, request: Request, replies: &mut Replies<'_>) -> Result<Reply, RpcError> {
        let (method, start) = (request.method(), metrics::now());
        let result = tracing::debug_span!("request", method).in_scope(|| {
            let result = self.perform(request, replies);
            match &result {
                Ok(_) => tracing::debug!("done"),
                // Messages may quote a program.
                Err(e) => tracing::info!(method, code = e.code.name(), "refused"),
            }
            result
        });
        metrics::count(|m| {
            m.request(method, start);
            if let Err(e) = &result {
                m.error(e.code);
            }
        });
        result
    }

    /// A wait is cut into slices, so that a client that is gone does not keep its session.
    fn perform(&self, request: Request, replies: &mut Replies<'_>) -> Result<Reply, RpcError> {
        let guarded = |request| {
            catch_unwind(AssertUnwindSafe(|| self.endpoint.call(request)))
                .unwrap_or_else(|_| Err(RpcError::new(ErrorCode::Internal, "the request failed inside the server")))
        };
        let Request::JobWait(wait) = request else { return guarded(request) };
        // What was asked before is answered before.
        replies.flush();
        let start = Instant::now();
        loop {
            let left = wait.timeout_ms.map_or(u64::MAX, |t| t.saturating_sub(start.elapsed().as_millis() as u64));
            let slice = JobWait { timeout_ms: Some(left.min(TICK.as_millis() as u64)), ..wait.clone() };
            match guarded(Request::JobWait(slice)) {
                Err(e) if e.code == ErrorCode::Timeout && left > TICK.as_millis() as u64 => {
                    replies.gone |= hung_up(replies.stream);
                    if replies.gone {
                        return Err(e);
                    }
                }
                Err(mut e) if e.code == ErrorCode::Timeout => {
                    e.message = format!("{} has not ended after {} ms", wait.job_id, wait.timeout_ms.unwrap_or(0));
                    return Err(e);
                }
                other => return other,
            }
        }
    }
}

//! One client: a thread that reads and notices when it is gone, and one that answers in order.

use crate::json;
use crate::metrics;
use crate::split::{Piece, Splitter};
use qmk_abi::rpc::{Endpoint, ErrorCode, JobWait, Reply, Request, RpcError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bounds on what a client may ask of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Bytes of one message, of the messages of a connection that wait to be answered, and of the replies to a batch
    /// after which the rest of it is refused.
    pub message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 256, message_bytes: 16 << 20 }
    }
}

enum Item {
    Json(Piece),
    Frame(Vec<u8>),
    /// A frame that is too long.
    LongFrame,
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Item::Json(piece) => piece.bytes(),
            Item::Frame(frame) => frame.len(),
            Item::LongFrame => 0,
        }
    }
}

const TICK: Duration = Duration::from_millis(100);

/// Whether the client has closed both directions. A client that only finished sending still reads.
fn hung_up(stream: &UnixStream, wait: Duration) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos() as _ };
    match poll(&mut fds, Some(&timeout)) {
        Ok(n) => n > 0 && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR),
        Err(_) => false,
    }
}

/// Turns a client away, in the form it speaks.
pub(crate) fn refuse(mut stream: &UnixStream, why: &str) {
    let e = RpcError::new(ErrorCode::ResourceExhausted, why);
    let mut head = [0; 4];
    _ = stream.set_read_timeout(Some(TICK));
    if stream.read_exact(&mut head).is_ok() && head == *b"QMK1" {
        _ = stream.write_all(&frame(&Err(e)).unwrap_or_default());
    } else {
        _ = stream.write_all(format!("{}\n", json::error(serde_json::Value::Null, &e)).as_bytes());
    }
    linger(stream);
}

/// A reply of the binary form.
fn frame(result: &Result<Reply, RpcError>) -> Option<Vec<u8>> {
    let body = postcard::to_allocvec(result).ok()?;
    Some([&(body.len() as u32).to_le_bytes(), body.as_slice()].concat())
}

/// Reads what the client still sends, for a moment: closing on unread bytes would take the last reply from it.
fn linger(mut stream: &UnixStream) {
    let (end, mut chunk) = (Instant::now() + Duration::from_secs(1), [0; 16 << 10]);
    _ = stream.set_read_timeout(Some(TICK));
    _ = stream.shutdown(std::net::Shutdown::Write);
    while Instant::now() < end {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Err(e) if !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => return,
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
    stop: Arc<AtomicBool>,
) {
    let (Ok(reader), gone) = (stream.try_clone(), Arc::new(AtomicBool::new(false))) else { return };
    // A slow reader must not hold the thread for ever.
    _ = stream.set_write_timeout(Some(Duration::from_secs(30)));
    let (send, receive) = sync_channel(64);
    let done = Arc::new(AtomicBool::new(false));
    let waiting = Arc::new(AtomicUsize::new(0));
    let (reader_gone, reader_done, reader_waiting) = (gone.clone(), done.clone(), waiting.clone());
    let spawned = thread::Builder::new().name("reader".into()).spawn(move || {
        let queue = Queue { stream: &reader, send, done: &reader_done, waiting: &reader_waiting, limits };
        read(&queue, &stop);
        drop(queue);
        // After the last request, only a full hang-up says that no one wants the replies.
        while !reader_done.load(Ordering::Relaxed) && !hung_up(&reader, TICK) {}
        reader_gone.store(true, Ordering::Relaxed);
    });
    if spawned.is_ok() {
        Worker { stream: &stream, endpoint: &*endpoint, gone: &gone, busy, waiting: &waiting, limits }.run(&receive);
    }
    done.store(true, Ordering::Relaxed);
    drop(endpoint);
    linger(&stream);
    _ = stream.shutdown(std::net::Shutdown::Both);
}

/// What the reader hands over to the worker.
struct Queue<'a> {
    stream: &'a UnixStream,
    send: SyncSender<Item>,
    done: &'a AtomicBool,
    /// Bytes of the items handed over and not answered yet.
    waiting: &'a AtomicUsize,
    limits: Limits,
}

impl Queue<'_> {
    /// Hands an item over; false if no one will take it.
    fn put(&self, mut item: Item) -> bool {
        let bytes = item.bytes();
        loop {
            let before = self.waiting.load(Ordering::SeqCst);
            if before == 0 || before + bytes <= self.limits.message_bytes {
                self.waiting.fetch_add(bytes, Ordering::SeqCst);
                match self.send.try_send(item) {
                    Ok(()) => return true,
                    Err(TrySendError::Disconnected(_)) => return false,
                    Err(TrySendError::Full(back)) => item = back,
                }
                self.waiting.fetch_sub(bytes, Ordering::SeqCst);
            }
            if self.done.load(Ordering::Relaxed) || hung_up(self.stream, Duration::from_millis(5)) {
                return false;
            }
        }
    }

    fn feed(&self, splitter: &mut Splitter, bytes: &[u8]) -> bool {
        let mut alive = true;
        let followed = splitter.feed(bytes, |piece| alive = alive && self.put(Item::Json(piece)));
        alive && followed
    }
}

fn read(queue: &Queue<'_>, stop: &AtomicBool) {
    let (mut stream, limits, done) = (queue.stream, queue.limits, queue.done);
    let mut chunk = [0u8; 16 << 10];
    let mut head: Vec<u8> = Vec::new();
    let mut binary = None;
    let mut splitter = Splitter::new(limits.message_bytes);
    _ = stream.set_read_timeout(Some(TICK));
    loop {
        let n = match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                metrics::count(|m| m.bytes_in.inc_by(n as u64));
                n
            }
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                if done.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed) {
                    return;
                }
                continue;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut bytes = &chunk[..n];
        if binary.is_none() {
            head.extend_from_slice(bytes);
            if head.len() < 4 && b"QMK1".starts_with(&head) {
                continue;
            }
            binary = Some(head.starts_with(b"QMK1"));
            bytes = &[];
            let start = std::mem::take(&mut head);
            if binary == Some(true) {
                head = start[4..].to_vec();
            } else if !queue.feed(&mut splitter, &start) {
                return;
            }
        }
        if binary == Some(false) {
            if !queue.feed(&mut splitter, bytes) {
                return;
            }
            continue;
        }
        head.extend_from_slice(bytes);
        while let Some(length) = head.first_chunk::<4>().map(|l| u32::from_le_bytes(*l) as usize) {
            if length > limits.message_bytes {
                queue.put(Item::LongFrame);
                return;
            }
            if head.len() < 4 + length {
                break;
            }
            let frame = head[4..4 + length].to_vec();
            head.drain(..4 + length);
            if !queue.put(Item::Frame(frame)) {
                return;
            }
        }
    }
    if binary.is_none() && !head.is_empty() {
        queue.feed(&mut splitter, &head);
    }
    if let Some(piece) = splitter.finish() {
        queue.put(Item::Json(piece));
    }
}

struct Worker<'a> {
    stream: &'a UnixStream,
    endpoint: &'a dyn Endpoint,
    gone: &'a AtomicBool,
    busy: &'a AtomicUsize,
    waiting: &'a AtomicUsize,
    limits: Limits,
}

impl Worker<'_> {
    fn run(&self, items: &Receiver<Item>) {
        for item in items {
            if self.gone.load(Ordering::Relaxed) {
                return;
            }
            self.busy.fetch_add(1, Ordering::SeqCst);
            let bytes = item.bytes();
            let go_on = self.answer(item);
            self.waiting.fetch_sub(bytes, Ordering::SeqCst);
            self.busy.fetch_sub(1, Ordering::SeqCst);
            if !go_on {
                return;
            }
        }
    }

    fn answer(&self, item: Item) -> bool {
        let mut call = |request| self.call(request);
        let mut out = self.stream;
        let too_long = || {
            let message = format!("message longer than {} bytes", self.limits.message_bytes);
            RpcError::new(ErrorCode::ResourceExhausted, message)
        };
        let (reply, go_on) = match item {
            Item::Frame(frame) => {
                let result = match postcard::from_bytes::<Request>(&frame) {
                    Ok(request) => call(request),
                    Err(e) => {
                        metrics::count(|m| m.error(ErrorCode::Parse));
                        Err(RpcError::new(ErrorCode::Parse, format!("not a request frame: {e}")))
                    }
                };
                return self.send_frame(&result);
            }
            Item::LongFrame => {
                self.send_frame(&Err(too_long()));
                return false;
            }
            Item::Json(Piece::Value(text)) => (json::answer(&text, self.limits.message_bytes, &mut call), true),
            Item::Json(Piece::Malformed(what)) => (Some(json::parse_error(what).to_string()), true),
            Item::Json(Piece::Fatal(what)) => (Some(json::parse_error(what).to_string()), false),
            Item::Json(Piece::TooLong) => (Some(json::error(serde_json::Value::Null, &too_long()).to_string()), false),
        };
        let sent = reply.is_none_or(|r| {
            metrics::count(|m| m.bytes_out.inc_by(r.len() as u64 + 1));
            out.write_all((r + "\n").as_bytes()).is_ok()
        });
        sent && go_on
    }

    fn send_frame(&self, result: &Result<Reply, RpcError>) -> bool {
        let mut out = self.stream;
        frame(result).is_some_and(|bytes| {
            metrics::count(|m| m.bytes_out.inc_by(bytes.len() as u64));
            out.write_all(&bytes).is_ok()
        })
    }

    /// One call, counted and logged: its method and how it went, never what it carried.
    fn call(&self, request: Request) -> Result<Reply, RpcError> {
        let (method, start) = (request.method(), metrics::now());
        let result = tracing::debug_span!("request", method).in_scope(|| {
            let result = self.perform(request);
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
    fn perform(&self, request: Request) -> Result<Reply, RpcError> {
        let guarded = |request| {
            catch_unwind(AssertUnwindSafe(|| self.endpoint.call(request)))
                .unwrap_or_else(|_| Err(RpcError::new(ErrorCode::Internal, "the request failed inside the server")))
        };
        let Request::JobWait(wait) = request else { return guarded(request) };
        let start = Instant::now();
        loop {
            let left = wait.timeout_ms.map_or(u64::MAX, |t| t.saturating_sub(start.elapsed().as_millis() as u64));
            let slice = JobWait { timeout_ms: Some(left.min(TICK.as_millis() as u64)), ..wait.clone() };
            match guarded(Request::JobWait(slice)) {
                Err(e) if e.code == ErrorCode::Timeout && left > TICK.as_millis() as u64 => {
                    if self.gone.load(Ordering::Relaxed) {
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

//! One client: a thread that reads and notices when it is gone, and one that answers in order.

use crate::json;
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
    /// Bytes of one message.
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

/// Turns a client away.
pub(crate) fn refuse(mut stream: &UnixStream, why: &str) {
    let e = RpcError::new(ErrorCode::ResourceExhausted, why);
    let reply = serde_json::json!({"jsonrpc": "2.0", "error": qmk_client::wire::error_to_json(&e), "id": null});
    _ = stream.write_all(format!("{reply}\n").as_bytes());
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
    let (reader_gone, reader_done) = (gone.clone(), done.clone());
    let spawned = thread::Builder::new().name("reader".into()).spawn(move || {
        read(&reader, limits, send, &reader_done, &stop);
        // After the last request, only a full hang-up says that no one wants the replies.
        while !reader_done.load(Ordering::Relaxed) && !hung_up(&reader, TICK) {}
        reader_gone.store(true, Ordering::Relaxed);
    });
    if spawned.is_ok() {
        Worker { stream: &stream, endpoint: &*endpoint, gone: &gone, busy }.run(&receive);
    }
    done.store(true, Ordering::Relaxed);
    _ = stream.shutdown(std::net::Shutdown::Both);
}

/// Hands an item over; false if no one will take it.
fn hand_over(stream: &UnixStream, send: &SyncSender<Item>, mut item: Item, done: &AtomicBool) -> bool {
    loop {
        match send.try_send(item) {
            Ok(()) => return true,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(back)) => item = back,
        }
        if done.load(Ordering::Relaxed) || hung_up(stream, Duration::from_millis(5)) {
            return false;
        }
    }
}

fn read(mut stream: &UnixStream, limits: Limits, send: SyncSender<Item>, done: &AtomicBool, stop: &AtomicBool) {
    let mut chunk = [0u8; 16 << 10];
    let mut head: Vec<u8> = Vec::new();
    let mut binary = None;
    let mut splitter = Splitter::new(limits.message_bytes);
    _ = stream.set_read_timeout(Some(TICK));
    loop {
        let n = match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
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
            } else if !feed(&mut splitter, &start, stream, &send, done) {
                return;
            }
        }
        if binary == Some(false) {
            if !feed(&mut splitter, bytes, stream, &send, done) {
                return;
            }
            continue;
        }
        head.extend_from_slice(bytes);
        while let Some(length) = head.first_chunk::<4>().map(|l| u32::from_le_bytes(*l) as usize) {
            if length > limits.message_bytes {
                return;
            }
            if head.len() < 4 + length {
                break;
            }
            let frame = head[4..4 + length].to_vec();
            head.drain(..4 + length);
            if !hand_over(stream, &send, Item::Frame(frame), done) {
                return;
            }
        }
    }
    if binary.is_none() && !head.is_empty() {
        feed(&mut splitter, &head, stream, &send, done);
    }
    if let Some(piece) = splitter.finish() {
        hand_over(stream, &send, Item::Json(piece), done);
    }
}

fn feed(
    splitter: &mut Splitter,
    bytes: &[u8],
    stream: &UnixStream,
    send: &SyncSender<Item>,
    done: &AtomicBool,
) -> bool {
    let mut alive = true;
    let followed = splitter.feed(bytes, |piece| alive = alive && hand_over(stream, send, Item::Json(piece), done));
    alive && followed
}

struct Worker<'a> {
    stream: &'a UnixStream,
    endpoint: &'a dyn Endpoint,
    gone: &'a AtomicBool,
    busy: &'a AtomicUsize,
}

impl Worker<'_> {
    fn run(&self, items: &Receiver<Item>) {
        for item in items {
            if self.gone.load(Ordering::Relaxed) {
                return;
            }
            self.busy.fetch_add(1, Ordering::SeqCst);
            let go_on = self.answer(item);
            self.busy.fetch_sub(1, Ordering::SeqCst);
            if !go_on {
                return;
            }
        }
    }

    fn answer(&self, item: Item) -> bool {
        let mut call = |request| self.call(request);
        let mut out = self.stream;
        let (reply, go_on) = match item {
            Item::Frame(frame) => {
                let result = match postcard::from_bytes::<Request>(&frame) {
                    Ok(request) => call(request),
                    Err(e) => Err(RpcError::new(ErrorCode::Parse, format!("not a request frame: {e}"))),
                };
                let Ok(body) = postcard::to_allocvec(&result) else { return false };
                let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
                bytes.extend(body);
                return out.write_all(&bytes).is_ok();
            }
            Item::Json(Piece::Value(text)) => (json::answer(&text, &mut call), true),
            Item::Json(Piece::Malformed(what)) => (Some(json::parse_error(what)), true),
            Item::Json(Piece::Fatal(what)) => (Some(json::parse_error(what)), false),
        };
        let sent = reply.is_none_or(|r| out.write_all(format!("{r}\n").as_bytes()).is_ok());
        sent && go_on
    }

    /// One call. A wait is cut into slices, so that a client that is gone does not keep its session.
    fn call(&self, request: Request) -> Result<Reply, RpcError> {
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

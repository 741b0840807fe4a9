//! One client, one thread: a request is read, answered and its reply written without handing it to anyone.

use crate::form::Form;
use crate::frames::frame;
use crate::json;
use crate::json_splitter::{JsonSplitter, Piece};
use crate::limits::Limits;
use crate::metrics;
use crate::replies::{FULL, Replies, is_timeout};
use crate::user_limits::{ConnectionGuard, Direction};
use qmk_abi::rpc::{Endpoint, ErrorCode, JobWait, Reply, Request, RpcError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Interval at which a waiting thread checks whether to stop.
const TICK: Duration = Duration::from_millis(100);
/// Bytes of a request beyond which earlier replies are written first, because the answer may take a while.
const LONG: usize = 16 << 10;

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
    guard: &ConnectionGuard,
    busy: &AtomicUsize,
    stop: &AtomicBool,
) {
    _ = stream.set_read_timeout(Some(TICK));
    _ = stream.set_write_timeout(Some(TICK));
    let (out, spare) = (Vec::new(), Vec::new());
    let mut replies = Replies { stream: &stream, guard, out, spare, stall: limits.stall, gone: false };
    Client { endpoint: &*endpoint, guard, busy, stop, limits }.run(&mut replies);
    // Dropping the endpoint closes its sessions. A panic there must not keep the last replies from the client.
    _ = catch_unwind(AssertUnwindSafe(|| drop(endpoint)));
    linger(&stream);
    _ = stream.shutdown(std::net::Shutdown::Both);
}

/// A call under way, which the end of the server waits for.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn begin(calls: &'a AtomicUsize) -> Self {
        calls.fetch_add(1, Ordering::SeqCst);
        Busy(calls)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Bytes of a result on the wire, estimated.
fn bytes_of(reply: &Reply) -> usize {
    let Reply::Result(r) = reply else { return 0 };
    let counts: usize = r.report.counts.keys().map(|key| key.len() + 12).sum();
    counts + r.report.events.iter().map(|name| 2 * name.len() + 12).sum::<usize>()
}

struct Client<'a> {
    endpoint: &'a dyn Endpoint,
    guard: &'a ConnectionGuard,
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
        let (opened, mut silent, mut begun) = (Instant::now(), Instant::now(), None);
        let mut known = false;
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => {
                    metrics::count(|m| m.bytes_in.inc_by(n as u64));
                    let call = Busy::begin(self.busy);
                    let go_on = self.feed(&mut form, &chunk[..n], replies) & replies.flush();
                    drop(call);
                    if !go_on {
                        return;
                    }
                    // While the client reads: it goes first where both share a processor.
                    std::thread::yield_now();
                    // A panic is reported where it happens, and the next request may fare better.
                    _ = catch_unwind(AssertUnwindSafe(|| self.endpoint.settle()));
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
            if !self.guard.set(Direction::In, form.held()) {
                let what = "too many bytes of messages from this user, or from all users, have come and are not complete; \
                            send one at a time";
                return self.complain(&form, ErrorCode::ResourceExhausted, what.into(), replies);
            }
            if !known && opened.elapsed() > self.limits.greet {
                known = self.endpoint.is_authenticated();
                if !known {
                    let s = self.limits.greet.as_secs();
                    let what =
                        format!("your user stands for no tenant here, and no valid token was shown within {s} s");
                    return self.complain(&form, ErrorCode::AuthFailed, what, replies);
                }
            }
            begun = if form.inside() { begun.or(Some(silent)) } else { None };
            if begun.is_some_and(|at| at.elapsed() > self.limits.stall) {
                let what = format!("a message was not complete after {} s", self.limits.stall.as_secs());
                return self.complain(&form, ErrorCode::Timeout, what, replies);
            }
        }
        if let Form::Unknown(head) = &mut form {
            let head = std::mem::take(head);
            form = Form::Json(JsonSplitter::new(self.limits.message_bytes));
            self.feed(&mut form, &head, replies);
        }
        if let Form::Json(mut splitter) = form {
            let _call = Busy::begin(self.busy);
            if let Some(piece) = splitter.finish() {
                self.json(piece, replies);
            }
            replies.flush();
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
                None => (Form::Json(JsonSplitter::new(self.limits.message_bytes)), start.as_slice()),
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

    /// Tells the client why the connection is closed.
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
            let result = self.perform(request, replies).and_then(|reply| self.room_for(reply));
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

    /// Refuses a result that does not fit beside those that are on their way already.
    fn room_for(&self, reply: Reply) -> Result<Reply, RpcError> {
        let bytes = bytes_of(&reply);
        if bytes <= FULL || self.guard.add(Direction::Out, bytes) {
            return Ok(reply);
        }
        let what = format!("the result is {bytes} bytes long, and others are on their way; read those first");
        Err(RpcError::new(ErrorCode::ResourceExhausted, what))
    }

    /// A wait is cut into slices, so that a client that is gone does not keep its session.
    fn perform(&self, request: Request, replies: &mut Replies<'_>) -> Result<Reply, RpcError> {
        let guarded = |request| {
            catch_unwind(AssertUnwindSafe(|| self.endpoint.call(request)))
                .unwrap_or_else(|_| Err(RpcError::new(ErrorCode::Internal, "the request failed inside the server")))
        };
        let Request::JobWait(wait) = request else { return guarded(request) };
        // Earlier replies go out before the wait.
        replies.flush();
        let start = Instant::now();
        loop {
            let left = wait.timeout_ms.map_or(u64::MAX, |t| t.saturating_sub(start.elapsed().as_millis() as u64));
            let slice = JobWait { timeout_ms: Some(left.min(TICK.as_millis() as u64)), ..wait.clone() };
            match guarded(Request::JobWait(slice)) {
                // Clients may wait in slices of their own.
                Err(e) if e.code == ErrorCode::Timeout && self.stop.load(Ordering::Relaxed) => {
                    let fate = match self.limits.keeps {
                        true => "is kept, and runs again when the server is started again; wait for it then",
                        false => "is lost, for this server keeps nothing",
                    };
                    let what = format!("the server is going down; {} {fate}", wait.job_id);
                    return Err(RpcError::new(ErrorCode::ResourceExhausted, what));
                }
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

#[cfg(test)]
mod tests {
    use super::serve;
    use crate::limits::Limits;
    use crate::user_limits::UserLimits;
    use qmk_abi::rpc::{Endpoint, JobResult, Reply, Request, RpcError, RunReport};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::time::Duration;

    /// Has a result of some length for whoever asks.
    struct Results(usize, bool);

    impl Endpoint for Results {
        fn call(&self, _: Request) -> Result<Reply, RpcError> {
            let (job_id, last_shot, report) = ("job_1".into(), Default::default(), RunReport::default());
            let mut result = JobResult { job_id, last_shot, report };
            result.report.counts = [("1".repeat(self.0), 1)].into();
            Ok(Reply::Result(Arc::new(result)))
        }

        fn is_authenticated(&self) -> bool {
            self.1
        }

        fn settle(&self) {
            assert!(self.1, "a panic here ends nothing");
        }
    }

    fn client(users: &UserLimits, limits: Limits, results: Results) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let guard = users.connect(0).ok().unwrap();
        std::thread::spawn(move || {
            let (busy, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
            serve(theirs, limits, Box::new(results), &guard, &busy, &stop);
        });
        ours.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        ours
    }

    fn line(stream: &mut UnixStream) -> String {
        let mut line = String::new();
        _ = std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line);
        line
    }

    const ASK: &[u8] =
        br#"{"jsonrpc":"2.0","id":1,"method":"qmk_job_result","params":{"session_id":"s","job_id":"job_1"}}"#;

    #[test]
    fn replies_that_are_not_read_are_bounded() {
        let limits = Limits { message_bytes: 1 << 20, ..Limits::default() };
        let users = UserLimits::new(limits);
        // More than a socket takes, and two are as many as a user has room for.
        let mut all: Vec<_> = (0..3).map(|_| client(&users, limits, Results(3 << 19, true))).collect();
        for stream in &mut all[..2] {
            stream.write_all(ASK).unwrap();
            stream.read_exact(&mut [0; 9]).unwrap();
        }
        all[2].write_all(ASK).unwrap();
        let refused = line(&mut all[2]);
        assert!(refused.contains("-32202") && refused.contains("read those first"), "{refused}");
        assert!(line(&mut all[0]).len() > 3 << 19);
        // Its share is given back a moment after the last byte is taken.
        let again = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            all[2].write_all(ASK).unwrap();
            line(&mut all[2]).len() > 3 << 19
        });
        assert!(again);
    }

    #[test]
    fn strangers_have_a_moment_to_say_who_they_are() {
        let limits = Limits { greet: Duration::from_millis(200), ..Limits::default() };
        let users = UserLimits::new(limits);
        let (mut silent, mut asking) =
            (client(&users, limits, Results(1, false)), client(&users, limits, Results(1, false)));
        let mut known = client(&users, limits, Results(1, true));
        let busy = std::thread::spawn(move || {
            let asked = (0..1000).take_while(|_| {
                std::thread::sleep(Duration::from_millis(20));
                asking.write_all(ASK).is_ok()
            });
            asked.count()
        });
        let mut said = String::new();
        silent.read_to_string(&mut said).unwrap();
        assert!(said.contains("-32100") && said.contains("stands for no tenant"), "{said}");
        assert!(busy.join().unwrap() < 1000);
        known.write_all(ASK).unwrap();
        assert!(line(&mut known).contains("result"));
    }

    #[test]
    fn messages_that_are_not_complete_are_bounded_for_each_user() {
        let limits = Limits { message_bytes: 1 << 16, ..Limits::default() };
        let users = UserLimits::new(limits);
        let begun = [b"\"".as_slice(), &[b'x'; 50_000]].concat();
        let mut all: Vec<_> = (0..8).map(|_| client(&users, limits, Results(1, true))).collect();
        // Five fit into four times the longest message.
        let mut cut = 0;
        for (i, stream) in all.iter_mut().enumerate() {
            stream.write_all(&begun).unwrap();
            if i < 5 {
                while users.bytes_in() < (i + 1) * begun.len() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            } else {
                cut += usize::from(line(stream).contains("-32202"));
            }
        }
        assert_eq!(cut, 3);
    }
}

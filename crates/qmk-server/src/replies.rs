//! Replies on their way to a client.

use crate::metrics;
use crate::user_limits::{ConnectionGuard, Direction};
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes of replies that are written at once. Fewer wait until no request is left to answer.
pub(crate) const FULL: usize = 64 << 10;
/// A reply may take as much longer than the time for one mebibyte, at most.
const STALLS: u32 = 8;

pub(crate) fn is_timeout(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Replies that the client has not taken yet.
pub(crate) struct Replies<'a> {
    pub(crate) stream: &'a UnixStream,
    pub(crate) guard: &'a ConnectionGuard,
    pub(crate) out: Vec<u8>,
    /// Empty buffer of an earlier reply, kept for its capacity.
    pub(crate) spare: Vec<u8>,
    pub(crate) stall: Duration,
    /// Whether the client has stopped reading.
    pub(crate) gone: bool,
}

impl Replies<'_> {
    /// Adds a whole reply.
    pub(crate) fn put(&mut self, mut reply: Vec<u8>) {
        if self.out.is_empty() {
            std::mem::swap(&mut self.out, &mut reply);
        } else {
            self.out.extend_from_slice(&reply);
        }
        reply.clear();
        reply.shrink_to(FULL);
        self.spare = reply;
    }

    /// Writes all replies; false if the client has stopped reading.
    pub(crate) fn flush(&mut self) -> bool {
        if self.out.is_empty() || self.gone {
            self.out.clear();
            return !self.gone;
        }
        if self.out.len() > FULL && !self.guard.at_least(Direction::Out, self.out.len()) {
            // All that could be refused was refused before.
            tracing::warn!("too many bytes of replies are on their way to this user");
            (self.gone, self.out) = (true, Vec::new());
            return false;
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
                    let mebibytes = 1 + ((self.out.len() - rest.len()) >> 20) as u32;
                    if since.get_or_insert_with(Instant::now).elapsed() > self.stall * mebibytes.min(STALLS) {
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
        self.guard.set(Direction::Out, 0);
        !self.gone
    }
}

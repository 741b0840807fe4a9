//! The listening server: it accepts clients and gives each a thread.

use crate::connection;
use crate::counted::Counted;
use crate::limits::Limits;
use crate::metrics;
use crate::socket::{bind_socket, identity};
use crate::user_limits::UserLimits;
use qmk_abi::rpc::Endpoint;
use qmk_services::Peer;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Gives the connection of each client an endpoint. Dropping the endpoint tells the machine that the client is gone.
pub type Connect = Arc<dyn Fn(Peer) -> Box<dyn Endpoint> + Send + Sync>;

/// Clients beyond the limit that get a refusal at one time. Further clients are disconnected without one.
const REFUSED: usize = 32;

/// A connection in the metrics.
struct Open;

impl Open {
    fn begin() -> Self {
        metrics::count(|m| {
            m.accepted.inc();
            m.connections.inc();
        });
        Open
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::count(|m| m.connections.dec());
    }
}

/// A listening server.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket.
    identity: (u64, u64),
    /// Bounds on clients.
    pub limits: Limits,
    /// Set to stop.
    pub stop: Arc<AtomicBool>,
}

/// The user and process at the other end, by the word of the operating system.
fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(Peer { uid: credentials.uid.as_raw(), pid: credentials.pid.as_raw_pid() as u32 })
}

impl Server {
    /// Binds the socket, with mode 0600 unless the limits say otherwise. A stale socket is replaced, a live one
    /// refused.
    ///
    /// # Errors
    /// If the path is taken or cannot be created.
    pub fn bind(path: &Path, limits: Limits) -> io::Result<Server> {
        let listener = bind_socket(path, limits.socket_mode)?;
        let identity = identity(path)?;
        Ok(Server { listener, path: path.into(), identity, limits, stop: Arc::new(AtomicBool::new(false)) })
    }

    /// Serves until `stop` is set, then lets calls in flight finish for a few seconds.
    ///
    /// # Errors
    /// If accepting fails for good.
    pub fn run(self, connect: &Connect) -> io::Result<()> {
        let (users, refusing) = (UserLimits::new(self.limits), Arc::new(AtomicUsize::new(0)));
        let busy = Arc::new(AtomicUsize::new(0));
        let mut connections = 0u64;
        while !self.stop.load(Ordering::Relaxed) {
            let mut poll = [rustix::event::PollFd::new(&self.listener, rustix::event::PollFlags::IN)];
            let tick = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            match rustix::event::poll(&mut poll, Some(&tick)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                // Out of descriptors, or the client left: others may still be served.
                Err(_) => {
                    thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            // A peer without credentials is not served.
            let admitted = match peer(&stream) {
                Ok(peer) => users.connect(peer.uid).map(|guard| (peer, guard)),
                Err(_) => Err("the system does not say who is calling".into()),
            };
            let turned = match &admitted {
                Ok(_) => None,
                Err(_) if refusing.load(Ordering::SeqCst) >= REFUSED => {
                    metrics::count(|m| m.refused.inc());
                    continue;
                }
                Err(_) => Some(Counted::begin(&refusing)),
            };
            let (limits, connect, stop, calls) = (self.limits, connect.clone(), self.stop.clone(), busy.clone());
            connections += 1;
            let span = tracing::info_span!("connection", id = connections);
            let serve = move || {
                let (_in, _turned) = (span.entered(), turned);
                match admitted {
                    Err(why) => {
                        metrics::count(|m| m.refused.inc());
                        tracing::warn!("refused: {why}");
                        connection::refuse(&stream, &why);
                    }
                    Ok((peer, guard)) => {
                        let _open = Open::begin();
                        tracing::info!(uid = peer.uid, "opened");
                        connection::serve(stream, limits, connect(peer), &guard, &calls, &stop);
                        tracing::info!("closed");
                    }
                }
            };
            // Without a thread, all that it was given is given back.
            _ = thread::Builder::new().name("client".into()).spawn(serve);
        }
        drop(self.listener);
        // Another server may have taken the path meanwhile.
        if identity(&self.path).is_ok_and(|i| i == self.identity) {
            _ = std::fs::remove_file(&self.path);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        // A client that waits in slices is between two calls now and then, and gets its reply at the next.
        let mut quiet = 0;
        while quiet < 15 && Instant::now() < deadline {
            quiet = if busy.load(Ordering::SeqCst) > 0 { 0 } else { quiet + 1 };
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

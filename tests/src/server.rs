//! A server on a thread of this process.

use qmk_hal::Device;
use qmk_server::{Connect, Server};
use qmk_services::Machine;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A server that ends with this value.
#[derive(Debug)]
pub struct LocalServer {
    /// Its socket.
    pub path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LocalServer {
    /// Serves clients at a socket, each over the connection that the function makes for it.
    ///
    /// # Panics
    /// If the socket cannot be made.
    pub fn start(socket: &Path, connect: Connect) -> Self {
        let server = Server::bind(socket, Default::default()).expect("a socket");
        let stop = server.stop.clone();
        let thread = Some(std::thread::spawn(move || server.run(&connect).expect("a server")));
        LocalServer { path: socket.into(), stop, thread }
    }

    /// Serves a machine, to each user as the policy says.
    ///
    /// # Panics
    /// As [`LocalServer::start`].
    pub fn of<D: Device + Send + 'static>(socket: &Path, machine: Arc<Machine<D>>) -> Self {
        LocalServer::start(socket, Arc::new(move |peer| Box::new(machine.connect_as(peer))))
    }

    /// The address that clients connect to.
    pub fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

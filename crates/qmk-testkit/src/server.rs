//! The server as a process, with a socket of its own.

use qmk_client::Client;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Bell pair, measured.
pub const BELL: &str =
    "ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_CNOT a, b\nMEASURE_Z a -> x\nMEASURE_Z b -> y\nFREE_LQ a, b\n";

/// How long something that must happen may take, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that ends with this value, in a folder that goes with it.
#[derive(Debug)]
pub struct ServerProcess {
    /// The process.
    pub child: Child,
    /// Its socket.
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl ServerProcess {
    /// Starts the program `binary` without state under a configuration, and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(binary: &str, config: &str) -> Self {
        Self::start_with(binary, config, |_| {})
    }

    /// As [`ServerProcess::start`], after a change of the command.
    ///
    /// # Panics
    /// As there.
    pub fn start_with(binary: &str, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("qmk.sock");
        let file = folder.path().join("qmk.toml");
        std::fs::write(&file, config).expect("a file");
        let mut command = Self::command(binary, &path);
        change(command.arg("--config").arg(file));
        let child = listening(&mut command);
        ServerProcess { child, path, _folder: folder }
    }

    /// A command that starts a server without state.
    pub fn command(binary: &str, socket: &Path) -> Command {
        let mut command = Command::new(binary);
        command.arg("--ephemeral").arg("--socket").arg(socket);
        command
    }

    /// A client on a new connection.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn client(&self) -> Client {
        Client::connect(&self.path.to_string_lossy()).expect("a server that listens")
    }

    /// A new connection.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn stream(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).expect("a server that listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// Sends bytes, closes the sending side, and reads all replies.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.stream();
        // A server that has seen enough closes; its replies before that count.
        _ = stream.write_all(bytes);
        _ = stream.shutdown(std::net::Shutdown::Write);
        let mut out = Vec::new();
        _ = stream.read_to_end(&mut out);
        out
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    /// If there is no `kill`.
    pub fn terminate(&self) {
        Command::new("kill").arg(self.child.id().to_string()).status().expect("the command kill");
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Spawns a server and waits until it says that it listens.
///
/// # Panics
/// If it says something else.
pub fn listening(command: &mut Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a program");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("text");
    assert!(line.contains("listening"), "the server does not start: {line:?} {:?}", child.try_wait());
    child
}

/// Waits until something holds.
///
/// # Panics
/// If it does not hold after half a minute.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

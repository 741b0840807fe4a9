//! A server process with a socket of its own.

use qmk_client::Client;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const BELL: &str =
    "ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_CNOT a, b\nMEASURE_Z a -> x\nMEASURE_Z b -> y\nFREE_LQ a, b\n";

pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(config: &str) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmk.sock");
        let file = dir.path().join("qmk.toml");
        std::fs::write(&file, config).unwrap();
        let mut child = Server::command(&path).arg("--config").arg(file).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line}");
        Server { child, path, _dir: dir }
    }

    pub(crate) fn command(path: &std::path::Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qmk-server"));
        command.arg("--ephemeral").arg("--socket").arg(path);
        command
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.path.to_str().unwrap()).unwrap()
    }

    pub(crate) fn stream(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends bytes, closes the sending side, and reads all replies.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.stream();
        // A server that has seen enough closes; what it said before counts.
        _ = stream.write_all(bytes);
        _ = stream.shutdown(std::net::Shutdown::Write);
        let mut out = Vec::new();
        _ = stream.read_to_end(&mut out);
        out
    }

    pub(crate) fn terminate(&self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

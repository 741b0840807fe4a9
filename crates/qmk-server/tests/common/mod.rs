//! The server of this crate as a process.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;

use qmk_testkit::server::ServerProcess;
#[allow(unused_imports, reason = "each test takes what it needs")]
pub(crate) use qmk_testkit::server::{BELL, eventually};

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_qmk-server");

pub(crate) struct Server(ServerProcess);

impl Server {
    pub(crate) fn start(config: &str) -> Server {
        Server(ServerProcess::start(BINARY, config))
    }

    /// Starts it with standard error in a file.
    pub(crate) fn start_with_log(config: &str, log: std::fs::File) -> Server {
        Server(ServerProcess::start_with(BINARY, config, |command| _ = command.stderr(log)))
    }

    pub(crate) fn command(path: &Path) -> Command {
        ServerProcess::command(BINARY, path)
    }
}

impl Deref for Server {
    type Target = ServerProcess;

    fn deref(&self) -> &ServerProcess {
        &self.0
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut ServerProcess {
        &mut self.0
    }
}

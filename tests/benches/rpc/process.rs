//! The server under test, as a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// The server, and the echo beside it, as a process of their own.
pub(crate) struct Process {
    child: Child,
    dir: tempfile::TempDir,
}

impl Process {
    pub(crate) fn start(keeps: bool) -> Result<Process, Failure> {
        let dir = tempfile::tempdir()?;
        let mut child = Command::new(std::env::current_exe()?);
        child.arg("serve").arg(dir.path()).arg(keeps.to_string());
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Process { child, dir })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(self.dir.path().join("qmk.sock"))
    }

    /// A connection that answers by bytes: for each step so many after so many, around and around.
    pub(crate) fn echo(&self, steps: &[(usize, usize)]) -> std::io::Result<UnixStream> {
        let mut stream = UnixStream::connect(self.dir.path().join("echo.sock"))?;
        let mut head = vec![steps.len() as u8];
        for (request, reply) in steps {
            head.extend_from_slice(&(*request as u32).to_le_bytes());
            head.extend_from_slice(&(*reply as u32).to_le_bytes());
        }
        stream.write_all(&head)?;
        Ok(stream)
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

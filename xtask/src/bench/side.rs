//! A process that times runs on request.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// One side of a comparison: a process, started when first needed and again after it was killed.
pub(super) struct Side {
    command: Command,
    limit: Duration,
    running: Option<Running>,
    /// Whether the process writes a line before it is asked.
    greets: bool,
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Side {
    pub(super) fn new(mut command: Command, limit: Duration) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Side { command, limit, running: None, greets: false }
    }

    /// First line of a process that writes one before it is asked.
    pub(super) fn greeting(&mut self) -> Result<String, String> {
        self.greets = true;
        let running = self.start()?;
        self.running = Some(running);
        self.line()
    }

    /// Nanoseconds of one run, the median of `repeats`, and the second number of the answer.
    pub(super) fn time(&mut self, how: &str, shots: u64, repeats: u64, name: &str) -> Result<(f64, f64), String> {
        let answer = self.ask(&format!("run {how} {shots} {repeats} {name}"))?;
        let mut numbers = answer.split(' ').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(time)), Some(Ok(other))) => Ok((time, other)),
            _ => Err(format!("not understood: {answer}")),
        }
    }

    /// Outcomes of a run, a line for each shot.
    pub(super) fn sample(&mut self, how: &str, shots: u64, name: &str) -> Result<Vec<String>, String> {
        self.ask(&format!("sample {how} {shots} 1 {name}"))?;
        (0..shots).map(|_| self.line()).collect()
    }

    fn ask(&mut self, request: &str) -> Result<String, String> {
        if self.running.is_none() {
            let running = self.start()?;
            self.running = Some(running);
            if self.greets {
                self.line()?;
            }
        }
        let Some(running) = &mut self.running else { return Err("did not start".into()) };
        writeln!(running.stdin, "{request}").map_err(|e| format!("{request}: {e}"))?;
        let answer = self.line().map_err(|e| format!("{request}: {e}"))?;
        match answer.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim_start().into()),
            None => Err(format!("{request}: {answer}")),
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let Some(running) = &mut self.running else { return Err("does not run".into()) };
        running.lines.recv_timeout(self.limit).map_err(|e| {
            // Too slow or dead: the next request gets a fresh process.
            if let Some(mut running) = self.running.take() {
                _ = running.child.kill();
                _ = running.child.wait();
            }
            e.to_string()
        })
    }

    fn start(&mut self) -> Result<Running, String> {
        let mut child = self.command.spawn().map_err(|e| format!("{:?}: {e}", self.command))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{:?}: no pipes", self.command));
        };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Running { child, stdin, lines })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            _ = running.child.kill();
            _ = running.child.wait();
        }
    }
}

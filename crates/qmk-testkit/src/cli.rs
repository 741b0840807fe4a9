//! The `qmk` command as a user meets it: output, exit codes, one JSON document.

use serde_json::Value;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// The command.
#[derive(Clone, Copy, Debug)]
pub struct Qmk(pub &'static str);

/// What a run of it left.
#[derive(Clone, Debug)]
pub struct Out {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Out {
    /// What a command leaves that gets no input.
    ///
    /// # Panics
    /// If it cannot be run, is ended by a signal, or prints no text.
    pub fn of(command: &mut Command) -> Out {
        Out::from(command.stdin(Stdio::null()).output().expect("the program"))
    }

    fn from(output: Output) -> Out {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let code = output.status.code().expect("an exit code");
        Out { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Standard output as exactly one JSON document.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {:?}", self.stdout))
    }
}

impl Qmk {
    /// The command with arguments, neither run yet nor under a token or tenant of the environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.0);
        command.args(args).env_remove("QMK_TOKEN").env_remove("QMK_TENANT");
        command
    }

    /// Runs it without input.
    ///
    /// # Panics
    /// If it is ended by a signal, or prints no text.
    pub fn run(&self, args: &[&str]) -> Out {
        self.run_with(args, "")
    }

    /// Runs it with this standard input.
    ///
    /// # Panics
    /// As [`Qmk::run`].
    pub fn run_with(&self, args: &[&str], stdin: &str) -> Out {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        // A command that fails early does not read its input.
        _ = child.stdin.take().expect("its input").write_all(stdin.as_bytes());
        Out::from(child.wait_with_output().expect("its output"))
    }
}

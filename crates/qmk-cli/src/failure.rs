//! Failures: exit code, error code, message and findings, and how errors of the client map to them.

use qmk_client::{ClientError, ErrorCode};
use qmk_qvm::{Finding, Severity};
use std::path::Path;

/// Why a command failed. `output` prints it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Exit code of the process: 1 wrong input, 2 usage, 3 refused, 4 the machine failed.
    pub(crate) exit: u8,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) findings: Vec<Finding>,
}

impl Failure {
    pub(crate) fn new(exit: u8, code: &str, message: impl Into<String>) -> Self {
        Failure { exit, code: code.into(), message: message.into(), findings: Vec::new() }
    }

    /// A failure whose report is already on standard output.
    pub(crate) fn silent(exit: u8) -> Self {
        Failure::new(exit, "", "")
    }

    /// A program with findings, at least one of them an error. Warnings are listed too, because they may explain it.
    pub(crate) fn invalid(file: &Path, findings: Vec<Finding>) -> Self {
        let lines: Vec<String> = findings.iter().map(|f| describe(file, f)).collect();
        let mut failure = Failure::new(1, ErrorCode::InvalidGraph.name(), lines.join("\n"));
        failure.findings = findings;
        failure
    }

    /// Adds the source lines, by node id, to findings of a machine that saw the graph but not its text.
    pub(crate) fn with_lines(mut self, line_of: impl Fn(&str) -> Option<u32>) -> Self {
        for f in &mut self.findings {
            f.line = f.node.as_deref().and_then(&line_of);
        }
        self
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        match e {
            ClientError::Rpc(e) => {
                use ErrorCode::*;
                let exit = match e.code {
                    InvalidGraph | InvalidParams | Parse | JobNotFound | SessionNotFound | AlreadyCompleted
                    | ChannelNotFound | NoCheckpoint => 1,
                    InsufficientCaps | AuthFailed | TenantSuspended | QuotaExceeded | ResourceExhausted
                    | AccessDenied => 3,
                    _ => 4,
                };
                let lost = e.code == Internal && e.message.starts_with("connection: ");
                let code = if lost { "CONNECTION" } else { e.code.name() };
                let mut failure = Failure::new(exit, code, e.message);
                failure.findings = e.findings;
                failure
            }
            ClientError::Io(e) => {
                let exit = if e.kind() == std::io::ErrorKind::PermissionDenied { 3 } else { 4 };
                Failure::new(exit, "CONNECTION", format!("connection: {e}"))
            }
            ClientError::Protocol(m) => Failure::new(4, "PROTOCOL", m),
        }
    }
}

/// `file:line: error E-LINEAR at node n1: message`.
pub(crate) fn describe(file: &Path, f: &Finding) -> String {
    let line = f.line.map_or(String::new(), |l| format!("{l}:"));
    let node = f.node.as_ref().map_or(String::new(), |n| format!(" at node {n}"));
    let severity = if f.severity == Severity::Error { "error" } else { "warning" };
    format!("{}:{line} {severity} {}{node}: {}", file.display(), f.code, f.message)
}

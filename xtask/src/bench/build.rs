//! Builds the programs of benches.

use cargo_metadata::Message;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Lets glibc keep the memory of a process. Otherwise the place of the top of the heap decides whether each run pays
/// for fresh pages.
pub(super) fn keep_memory(command: &mut Command) {
    command.env("MALLOC_TRIM_THRESHOLD_", "1073741824").env("MALLOC_MMAP_THRESHOLD_", "1073741824");
}

/// Builds a bench program of this workspace; returns where it is.
pub(super) fn build(root: &Path, package: &str, bench: &str) -> Result<PathBuf, String> {
    build_in(root, None, package, bench)
}

/// Builds a bench program of a workspace, into a target folder if one is named.
pub(super) fn build_in(root: &Path, target: Option<&Path>, package: &str, bench: &str) -> Result<PathBuf, String> {
    let mut command = Command::new(env!("CARGO"));
    if let Some(target) = target {
        command.env("CARGO_TARGET_DIR", target);
    }
    command.args(["bench", "-p", package, "--bench", bench, "--no-run", "--message-format=json-render-diagnostics"]);
    eprintln!("$ {command:?}");
    let mut child =
        command.current_dir(root).stdout(Stdio::piped()).spawn().map_err(|e| format!("cargo bench: {e}"))?;
    let stdout = child.stdout.take().ok_or("cargo bench: no output")?;
    let mut program = None;
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message.map_err(|e| format!("cargo bench: {e}"))? {
            program = artifact.executable.map(PathBuf::from).or(program);
        }
    }
    let status = child.wait().map_err(|e| format!("cargo bench: {e}"))?;
    program.filter(|_| status.success()).ok_or_else(|| format!("cargo bench: {status}"))
}

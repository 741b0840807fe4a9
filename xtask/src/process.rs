//! Other programs that the tasks run.

use std::path::Path;
use std::process::{Command, Stdio};

/// Says what it runs, and fails if that does.
///
/// # Errors
/// The command, and how it ended.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    eprintln!("$ {command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} failed: {status}")),
        Err(e) => Err(format!("{command:?}: {e}")),
    }
}

pub(crate) fn cargo(root: &Path, command: &str, args: &[String]) -> Result<(), String> {
    run(Command::new(env!("CARGO")).arg(command).args(args).current_dir(root))
}

/// Whether cargo has a command, as a minimal toolchain lacks some.
pub(crate) fn has(tool: &str) -> bool {
    let found =
        Command::new(env!("CARGO")).args([tool, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|s| s.success())
}

/// Output of the compiler.
///
/// # Errors
/// It cannot be run, or writes other than text.
pub(crate) fn rustc(args: &[&str]) -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).args(args).output().map_err(|e| format!("rustc: {e}"))?;
    String::from_utf8(output.stdout).map_err(|e| format!("rustc: {e}"))
}

/// Target triple of this computer.
///
/// # Errors
/// The compiler does not name it.
pub(crate) fn host() -> Result<String, String> {
    let version = rustc(&["-vV"])?;
    let host = version.lines().find_map(|l| l.strip_prefix("host: "));
    Ok(host.ok_or("rustc does not tell its host")?.into())
}

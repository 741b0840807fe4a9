//! The other build: a checkout that is there, or a revision that is checked out below `target`.

use crate::process::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Root of the workspace that a user names by its path or by a git revision of this one.
///
/// # Errors
/// It is neither.
pub(super) fn root(root: &Path, named: &str) -> Result<PathBuf, String> {
    let path = Path::new(named);
    if path.join("Cargo.toml").exists() {
        return path.canonicalize().map_err(|e| format!("{named}: {e}"));
    }
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["rev-parse", "--verify", "--quiet", &format!("{named}^{{commit}}")]);
    let out = git.output().map_err(|e| format!("git: {e}"))?;
    let commit = String::from_utf8_lossy(&out.stdout).trim().to_string();
    if !out.status.success() || commit.len() < 12 {
        return Err(format!("{named} is neither a workspace nor a git revision"));
    }
    let dir = root.join("target/bench/against").join(&commit[..12]);
    if !dir.join("Cargo.toml").exists() {
        _ = std::fs::remove_dir_all(&dir);
        // A clone leaves no trace outside of target, as a worktree would.
        run(Command::new("git").args(["clone", "--quiet", "--shared", "--no-checkout"]).arg(root).arg(&dir))?;
        run(Command::new("git").arg("-C").arg(&dir).args(["checkout", "--quiet", "--detach", &commit]))?;
    }
    Ok(dir)
}

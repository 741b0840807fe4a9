//! The Python environment of the peers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The peers, as the Python package index calls them.
const PACKAGES: [&str; 6] = ["numpy", "stim", "clifft", "symft", "qulacs", "qiskit-aer"];
/// Newest first: some peers need a recent one.
const PYTHONS: [&str; 6] = ["python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3"];

/// A Python that has the peers, or as many of them as could be had: the one that `QMK_PEERS_PYTHON` names, or that of
/// an environment below `target`, made when first needed.
pub(super) fn find(root: &Path) -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("QMK_PEERS_PYTHON") {
        return Some(python.into());
    }
    let home = root.join("target/peers");
    let python = home.join("bin/python");
    // Written last, so an interrupted installation is done again.
    let done = home.join("installed");
    if !done.exists() {
        if !runs(&python) {
            let base = PYTHONS.iter().map(Path::new).find(|p| runs(p))?;
            // Without `ensurepip`, which some systems leave out, there is no environment.
            super::super::run(Command::new(base).args(["-m", "venv"]).arg(&home)).ok()?;
        }
        let installed = PACKAGES.iter().filter(|package| install(&python, package)).count();
        eprintln!("{installed} of {} packages installed; remove {} to try again", PACKAGES.len(), home.display());
        _ = std::fs::write(done, "");
    }
    Some(python)
}

fn runs(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import venv"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}

/// One at a time, so that one that cannot be had does not lose the others, and never built from source.
fn install(python: &Path, package: &str) -> bool {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]);
    super::super::run(command.args(["--only-binary", ":all:", package])).is_ok()
}

//! The Python environment of the peers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The peers, as the Python package index calls them.
const PACKAGES: [&str; 7] = ["numpy", "stim", "pymatching", "clifft", "symft", "qulacs", "qiskit-aer"];
const PYTHONS: [&str; 4] = ["python3.14", "python3.13", "python3.12", "python3"];

/// A Python with the peers, or with those of them that can be installed: the one that `QMK_PEERS_PYTHON` names, or that
/// of an environment below `target`, which is made when first needed.
pub(super) fn find(root: &Path) -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("QMK_PEERS_PYTHON") {
        return Some(python.into());
    }
    let home = root.join("target/peers");
    let python = home.join("bin/python");
    // Written last, so an interrupted installation is done again, and one of other packages.
    let done = home.join("installed");
    let wanted = PACKAGES.join(" ");
    if std::fs::read_to_string(&done).ok().as_ref() != Some(&wanted) {
        if version(&python).is_none() {
            // Some peers need a recent one.
            let (_, base) = candidates().filter_map(|p| Some((version(&p)?, p))).max()?;
            crate::process::run(Command::new(base).args(["-m", "venv"]).arg(&home)).ok()?;
        }
        let installed = PACKAGES.iter().filter(|package| install(&python, package)).count();
        eprintln!("{installed} of {} packages installed; remove {} to try again", PACKAGES.len(), home.display());
        _ = std::fs::write(done, wanted);
    }
    Some(python)
}

/// Interpreters on the path, and those of pyenv, whose names on the path may not run.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let versions = std::env::home_dir().and_then(|home| std::fs::read_dir(home.join(".pyenv/versions")).ok());
    let kept = versions.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path().join("bin/python3")));
    PYTHONS.iter().map(PathBuf::from).chain(kept)
}

/// Minor version of a Python 3 that runs and can make environments.
fn version(python: &Path) -> Option<u32> {
    let mut command = Command::new(python);
    command.args(["-c", "import ensurepip, sys, venv; print(sys.version_info[1])"]);
    let out = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&out.stdout).trim().parse().ok()
}

/// Installs one package, never from source. Each has a call of its own, so that a missing one does not cost the others.
fn install(python: &Path, package: &str) -> bool {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]);
    crate::process::run(command.args(["--only-binary", ":all:", package])).is_ok()
}

//! The crate outside the workspace that tests the kernel with the testkit.

use std::path::Path;
use std::process::Command;

/// Runs its tests against the versions of the workspace, without the network.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let folder = root.join("crates/qmk-testkit/outside");
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let (page, test) = (read(&root.join("README.md"))?, read(&folder.join("tests/kernel.rs"))?);
    if !test.split_once("\n\n").is_some_and(|(_, code)| page.contains(code)) {
        return Err("README.md does not show crates/qmk-testkit/outside/tests/kernel.rs as it is".into());
    }
    // The lock file of the workspace names all that it needs, and more.
    std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))
        .map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--offline", "--quiet", "--target-dir"]).arg(root.join("target/outside"));
    crate::process::run(command.current_dir(folder).env("CARGO_INCREMENTAL", "0"))
}

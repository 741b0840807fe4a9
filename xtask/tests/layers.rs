//! `check-layers` passes on the workspace and fails on copies with a wrong edge.

use std::path::{Path, PathBuf};
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && name != ".git" {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn check(root: &Path) -> (bool, String) {
    let manifest = root.join("Cargo.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let out = command.args(["check-layers", "--manifest-path"]).arg(manifest).output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

/// A copy in which `text` of a file is replaced.
fn changed(file: &str, text: &str, by: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    for part in ["crates", "tests", "xtask"] {
        copy(&workspace().join(part), &dir.path().join(part));
    }
    std::fs::copy(workspace().join("Cargo.toml"), dir.path().join("Cargo.toml")).unwrap();
    let path = dir.path().join(file);
    let before = std::fs::read_to_string(&path).unwrap();
    assert!(before.contains(text), "{file} does not hold {text:?}");
    std::fs::write(&path, before.replacen(text, by, 1)).unwrap();
    check(dir.path())
}

#[test]
fn the_workspace_passes() {
    let (ok, stderr) = check(&workspace());
    assert!(ok, "{stderr}");
    let (ok, stderr) = changed("Cargo.toml", "[workspace]", "[workspace]");
    assert!(ok, "an unchanged copy: {stderr}");
}

#[test]
fn a_wrong_edge_fails() {
    let add = |edge: &str| format!("[dependencies]\n{edge}.workspace = true\n");
    for (krate, edge) in [
        ("qmk-kernel", "qmk-sim"),
        ("qmk-client", "qmk-services"),
        ("qmk-hal", "qmk-kernel"),
        ("qmk-sim", "qmk-kernel"),
        ("qmk-services", "qmk-sim"),
        ("qmk-qvm", "qmk-services"),
    ] {
        let (ok, stderr) = changed(&format!("crates/{krate}/Cargo.toml"), "[dependencies]\n", &add(edge));
        assert!(!ok, "{krate} -> {edge} passed");
        assert!(stderr.contains(&format!("{krate} may not depend on {edge}")), "{stderr}");
    }
    // A build dependency is an edge too, a test's is not.
    for (section, passes) in [("build-dependencies", false), ("dev-dependencies", true)] {
        let by = format!("[{section}.qmk-qec]\nworkspace = true\n\n[dependencies]\n");
        let file = "crates/qmk-client/Cargo.toml";
        let (ok, stderr) = changed(file, "[dependencies]\n", &by);
        assert_eq!(ok, passes, "{section}: {stderr}");
    }
}

#[test]
fn an_edge_that_no_manifest_has_fails() {
    let (ok, stderr) = changed("crates/qmk-qec/Cargo.toml", "qmk-sim.workspace = true\n", "");
    assert!(!ok && stderr.contains("qmk-qec does not depend on qmk-sim"), "{stderr}");
}

#[test]
fn a_crate_without_a_layer_or_its_attributes_fails() {
    let (ok, stderr) = changed("crates/qmk-client/Cargo.toml", "name = \"qmk-client\"", "name = \"qmk-newcomer\"");
    assert!(!ok && (stderr.contains("no layer") || stderr.contains("qmk-client")), "{stderr}");
    let (ok, stderr) = changed("crates/qmk-kernel/src/lib.rs", "#![forbid(unsafe_code)]", "");
    assert!(!ok && stderr.contains("forbid(unsafe_code)"), "{stderr}");
    let (ok, stderr) = changed("crates/qmk-kernel/src/lib.rs", "#![no_std]", "");
    assert!(!ok && stderr.contains("no_std"), "{stderr}");
}

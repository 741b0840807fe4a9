//! The layers, and the check that the dependencies of the crates are those of the table.

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::path::Path;

/// Each crate and the workspace crates that it depends on: no others, and all of these.
const LAYERS: [(&str, &[&str]); 14] = [
    // The vocabulary.
    ("qmk-abi", &[]),
    // 0: hardware.
    ("qmk-hal", &["qmk-abi"]),
    ("qmk-sim", &["qmk-abi", "qmk-hal"]),
    ("qmk-qec", &["qmk-abi", "qmk-hal", "qmk-sim"]),
    // 1: the kernel.
    ("qmk-kernel", &["qmk-abi", "qmk-hal"]),
    // 2: services.
    ("qmk-qvm", &["qmk-abi"]),
    ("qmk-estimate", &["qmk-abi", "qmk-qvm"]),
    ("qmk-journal", &[]),
    ("qmk-token", &["qmk-abi"]),
    ("qmk-services", &["qmk-abi", "qmk-estimate", "qmk-journal", "qmk-kernel", "qmk-qvm", "qmk-token"]),
    // 3: edges. A binary injects the device that it boots the kernel on.
    ("qmk-client", &["qmk-abi"]),
    ("qmk-server", &["qmk-abi", "qmk-journal", "qmk-qec", "qmk-services", "qmk-sim"]),
    (
        "qmk-cli",
        &[
            "qmk-abi",
            "qmk-client",
            "qmk-estimate",
            "qmk-journal",
            "qmk-qec",
            "qmk-qvm",
            "qmk-services",
            "qmk-sim",
            "qmk-token",
        ],
    ),
    // Beside them: what tests need, of this workspace and of others.
    ("qmk-testkit", &["qmk-abi", "qmk-client", "qmk-kernel", "qmk-qec", "qmk-qvm"]),
];
/// Outside the layers: nothing may depend on these.
const TOOLS: [&str; 2] = ["qmk-tests", "xtask"];
/// Usable without an operating system.
pub(crate) const NO_STD: [&str; 3] = ["qmk-abi", "qmk-hal", "qmk-kernel"];
/// May hold unsafe code, in modules of its own.
const MAY_BE_UNSAFE: [&str; 1] = ["qmk-sim"];

pub(crate) fn check(manifest: &Path) -> Result<(), String> {
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec();
    let metadata = metadata.map_err(|e| format!("{}: {e}", manifest.display()))?;
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if TOOLS.contains(&name) {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(n, _)| *n == name) else {
            wrong.push(format!("{name}: no layer; add it to xtask/src/layers.rs and docs/ARCHITECTURE.md"));
            continue;
        };
        for dep in &package.dependencies {
            // Tests may depend on any crate.
            let inside = LAYERS.iter().any(|(n, _)| *n == dep.name) || TOOLS.contains(&dep.name.as_str());
            if inside && dep.kind != DependencyKind::Development && !allowed.contains(&dep.name.as_str()) {
                wrong.push(format!("{name} may not depend on {}; it may depend on: {}", dep.name, allowed.join(", ")));
            }
        }
        let has = |edge: &str| package.dependencies.iter().any(|d| d.name == edge && d.kind == DependencyKind::Normal);
        wrong.extend(allowed.iter().filter(|edge| !has(edge)).map(|edge| {
            format!(
                "{name} does not depend on {edge}; take the edge out of xtask/src/layers.rs and docs/ARCHITECTURE.md"
            )
        }));
        for target in package.targets.iter().filter(|t| t.is_lib() || t.is_bin()) {
            let text = std::fs::read_to_string(&target.src_path).map_err(|e| format!("{}: {e}", target.src_path))?;
            let mut needs = |attribute: &str, who: bool| {
                if who && !text.lines().any(|l| l.trim() == attribute) {
                    wrong.push(format!("{}: {attribute} is missing", target.src_path));
                }
            };
            needs("#![no_std]", NO_STD.contains(&name));
            needs("#![forbid(unsafe_code)]", !MAY_BE_UNSAFE.contains(&name));
        }
    }
    if wrong.is_empty() {
        println!("layers: {} crates, every dependency points down", metadata.packages.len());
        return Ok(());
    }
    Err(format!("wrong layering\n  {}", wrong.join("\n  ")))
}

//! Checks that crates build without `std`: against a copy of the toolchain's libraries that lacks it. No target beyond
//! the host's is needed.

use crate::layers::NO_STD;
use crate::process::{host, run, rustc};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Libraries that are left without `std`.
const LIBRARIES: [&str; 3] = ["libcore-", "liballoc-", "libcompiler_builtins-"];

pub(crate) fn check(root: &Path) -> Result<(), String> {
    let host = host()?;
    let installed = PathBuf::from(rustc(&["--print", "sysroot"])?.trim()).join("lib/rustlib").join(&host).join("lib");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |dir| root.join(dir)).join("no_std");
    let sysroot = target.join("sysroot");
    copy(&installed, &sysroot.join("lib/rustlib").join(&host).join("lib"))
        .map_err(|e| format!("{}: {e}", installed.display()))?;
    // With a target named, the flags leave build scripts and macros alone, which do need `std`.
    let check = |packages: &[&str]| {
        run(Command::new(env!("CARGO"))
            .args(["check", "--lib", "--locked", "--target", &host, "--target-dir"])
            .arg(&target)
            .args(packages)
            .current_dir(root)
            .env("CARGO_ENCODED_RUSTFLAGS", format!("--sysroot\x1f{}", sysroot.display())))
    };
    check(&NO_STD.map(|name| ["-p", name]).concat())?;
    check(&["-p", "qmk-abi", "--features", "json"])
}

/// Copies the libraries anew, as the toolchain may have changed.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    std::fs::create_dir_all(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        let name = file.file_name();
        if LIBRARIES.iter().any(|l| name.to_string_lossy().starts_with(l)) {
            std::fs::copy(file.path(), to.join(name))?;
        }
    }
    Ok(())
}

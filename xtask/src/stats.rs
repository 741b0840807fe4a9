//! Sizes of the crates, and how much of them is explained.

use crate::sources::{Krate, Lines};
use std::path::{Path, PathBuf};

/// The kernel stays small enough to read in an afternoon.
const KERNEL_LINES: usize = 5000;

/// Prints lines of code and the share of comments, both without tests, for each crate.
///
/// # Errors
/// The kernel is too large, or a file cannot be read.
pub(crate) fn print(root: &Path) -> Result<(), String> {
    for dir in entries(&root.join("crates"))? {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Lines { code, comments } = count(&dir)?;
        let share = 100.0 * comments as f64 / (code + comments).max(1) as f64;
        println!("{name:14} {code:6} lines of code {share:5.1} % comments");
        if name == "qmk-kernel" && code >= KERNEL_LINES {
            return Err(format!("the kernel has {code} lines of code, the limit is {KERNEL_LINES}"));
        }
    }
    Ok(())
}

/// Entries of a folder, by name.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let read = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut entries: Vec<PathBuf> = read.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_dir()).collect();
    entries.sort();
    Ok(entries)
}

/// Lines of the library and the binary of a crate.
fn count(dir: &Path) -> Result<Lines, String> {
    let mut total = Lines::default();
    for root in ["src/lib.rs", "src/main.rs"].map(|root| dir.join(root)) {
        if root.exists() {
            for file in Krate::load(&root)?.files {
                let lines = file.lines();
                total.code += lines.code;
                total.comments += lines.comments;
            }
        }
    }
    Ok(total)
}

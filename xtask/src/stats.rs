//! Sizes of the crates.

use std::path::Path;

/// The kernel stays small enough to read in an afternoon.
const KERNEL_LINES: usize = 5000;

/// Prints lines of code without blank lines, comments and test modules.
pub(crate) fn print(root: &Path) -> Result<(), String> {
    let crates = root.join("crates");
    let mut names: Vec<_> = entries(&crates)?;
    names.sort();
    for dir in names {
        let lines = count(&dir.join("src"))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("{name:14} {lines:6} lines");
        if name == "qmk-kernel" && lines >= KERNEL_LINES {
            return Err(format!("the kernel has {lines} lines, the limit is {KERNEL_LINES}"));
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let read = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(read.filter_map(|e| Some(e.ok()?.path())).collect())
}

fn count(dir: &Path) -> Result<usize, String> {
    let mut total = 0;
    for path in entries(dir)? {
        if path.is_dir() {
            total += count(&path)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let code = text.lines().map(str::trim).take_while(|l| *l != "#[cfg(test)]");
            total += code.filter(|l| !l.is_empty() && !l.starts_with("//")).count();
        }
    }
    Ok(total)
}

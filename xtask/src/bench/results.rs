//! Results of benches, kept for tools: `target/bench/NAME.json`.

use serde_json::Value;
use std::path::{Path, PathBuf};

/// File of a bench's results; its folder is made.
pub(super) fn file(root: &Path, name: &str) -> Result<PathBuf, String> {
    let dir = root.join("target/bench");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir.join(format!("{name}.json")))
}

pub(super) fn write(root: &Path, name: &str, results: &Value) -> Result<(), String> {
    let file = file(root, name)?;
    std::fs::write(&file, format!("{results:#}\n")).map_err(|e| format!("{}: {e}", file.display()))
}

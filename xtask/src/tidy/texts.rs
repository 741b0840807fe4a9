//! Texts of the workspace: its Rust and Markdown files.

use super::finding::relative;
use std::path::Path;

/// One of them.
pub(crate) struct Text {
    /// From the root of the workspace.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) body: String,
}

impl Text {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Reads all texts below a folder, without hidden folders and what builds leave.
///
/// # Errors
/// The file or folder that cannot be read.
pub(crate) fn read(root: &Path) -> Result<Vec<Text>, String> {
    let mut texts = Vec::new();
    let mut queue = vec![root.to_path_buf()];
    while let Some(dir) = queue.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))? {
            let path = entry.map_err(|e| format!("{}: {e}", dir.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                queue.push(path);
            } else if name.ends_with(".rs") || name.ends_with(".md") {
                let body = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                texts.push(Text { path: relative(&path, root), body });
            }
        }
    }
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(texts)
}

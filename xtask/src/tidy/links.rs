//! Links of Markdown and of comments: files, headings and tests that a text names must be there.

use super::finding::{Class, Finding};
use super::texts::Text;
use std::path::Path;

/// Folders at the root whose files texts name by their path.
const FOLDERS: [&str; 7] = [".ci/", "crates/", "docs/", "examples/", "fuzz/", "tests/", "xtask/"];

/// Checks the links of a text against all texts and the files below `root`.
pub(super) fn check(text: &Text, all: &[Text], root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (line, prose) in (1..).zip(text.body.lines()) {
        let Some(prose) = prose_of(text, prose) else { continue };
        fenced ^= prose.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        let dead = links(prose).filter(|target| !leads(target, text, all, root));
        let gone = spans(prose).filter(|span| !names_something(span, text, all, root));
        for name in dead.chain(gone) {
            let (class, file) = (Class::DeadLink, text.path.clone());
            findings.push(Finding {
                class,
                file,
                line,
                item: name.into(),
                size: 1,
                text: format!("{name} is not there"),
            });
        }
    }
    findings
}

/// A line of Markdown, or of a comment of a Rust file.
fn prose_of<'a>(text: &Text, line: &'a str) -> Option<&'a str> {
    if text.is_rust() { line.trim_start().strip_prefix("//") } else { Some(line) }
}

/// Targets of links.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Code in backquotes.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn leads(target: &str, text: &Text, all: &[Text], root: &Path) -> bool {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    // Items of the language are checked by rustdoc.
    let is_item = text.is_rust() && !path.contains('/') && !path.ends_with(".md");
    if is_item || path.contains("://") || path.starts_with("mailto:") {
        return true;
    }
    let beside = Path::new(&text.path).parent().unwrap_or(Path::new(""));
    let file = if path.is_empty() { Path::new(&text.path).into() } else { beside.join(path) };
    let Ok(file) = root.join(file).canonicalize() else { return false };
    let is_it = |t: &&Text| root.join(&t.path).canonicalize().is_ok_and(|p| p == file);
    heading.is_empty() || all.iter().find(is_it).is_none_or(|t| has_heading(&t.body, heading))
}

fn has_heading(body: &str, wanted: &str) -> bool {
    let slug = |title: &str| -> String {
        let kept = title.trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    body.lines().filter(|l| l.starts_with('#')).any(|l| slug(l.trim_start_matches('#')) == wanted)
}

/// Whether code names no file, or one that is there. A function that is named with its file must be in it.
fn names_something(span: &str, text: &Text, all: &[Text], root: &Path) -> bool {
    let (path, function) = span.split_once("::").unwrap_or((span, ""));
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let is_source = path.ends_with(".rs") || path.ends_with(".md");
    if !plain || !is_source && !FOLDERS.iter().any(|f| path.starts_with(f) && path.len() > f.len()) {
        return true;
    }
    let beside = Path::new(&text.path).parent().unwrap_or(Path::new(""));
    if !is_source {
        return root.join(path).exists();
    }
    let suffix = format!("/{}", path.trim_start_matches("./"));
    let is_it = |t: &&Text| t.path == path || t.path.ends_with(&suffix) || Path::new(&t.path) == beside.join(path);
    let mut files = all.iter().filter(is_it).peekable();
    files.peek().is_some() && (function.is_empty() || files.any(|t| t.body.contains(&format!("fn {function}("))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_dead_link_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("docs/guide")).unwrap();
        std::fs::write(dir.path().join("docs/guide/run.md"), "# Run it!\n").unwrap();
        let text = |path: &str, body: &str| Text { path: path.into(), body: body.into() };
        let mut all = vec![text("docs/guide/run.md", "# Run it!\n"), text("crates/a/src/lib.rs", "fn walks() {}\n")];
        let page = [
            "[a](guide/run.md) [b](guide/run.md#run-it) `lib.rs::walks` `docs/guide/` `https://x.rs/y` `Vec::new` `a.toml`",
            "[c](guide/gone.md) [d](guide/run.md#gone) `lib.rs::gone` `docs/gone/` `gone.rs`",
            "```",
            "[e](gone.md)",
            "```",
        ];
        all.push(text("docs/README.md", &page.join("\n")));
        let found = check(&all[2], &all, dir.path());
        let names: Vec<(usize, &str)> = found.iter().map(|f| (f.line, f.item.as_str())).collect();
        let gone = ["guide/gone.md", "guide/run.md#gone", "lib.rs::gone", "docs/gone/", "gone.rs"];
        assert_eq!(names, gone.map(|name| (2, name)));
        let code = text(
            "crates/a/src/b.rs",
            "//! See [`Vec`](std::vec::Vec) and `gone.rs`.\nconst A: &str = \"`lost.rs`\";\n",
        );
        assert_eq!(check(&code, &all, dir.path()).len(), 1);
    }
}

//! Source lines: comments, directives, and the forms of their arguments.

use crate::lex::{is_id, string_end, without_mark};

#[derive(Debug)]
pub(super) struct SourceLine {
    pub(super) text: String,
    pub(super) line: u32,
}

/// Numbered lines without comments; empty ones are dropped.
pub(super) fn split(text: &str) -> Vec<SourceLine> {
    let numbered = without_mark(text).lines().zip(1..).map(|(l, line)| (strip_comment(l).trim(), line));
    numbered.filter(|(l, _)| !l.is_empty()).map(|(l, line)| SourceLine { text: l.into(), line }).collect()
}

pub(super) fn strip_comment(line: &str) -> &str {
    let mut i = 0;
    while let Some(c) = line[i..].chars().next() {
        match c {
            ';' => return &line[..i],
            '"' | '\'' => match string_end(&line[i..]) {
                Some(n) => {
                    i += n;
                    continue;
                }
                None => return line,
            },
            _ => i += c.len_utf8(),
        }
    }
    line
}

/// The name of the directive that starts a line, and the rest.
pub(super) fn directive(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix('.')?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some((&rest[..end], rest[end..].trim()))
}

/// `name = expr` split at the first equals sign.
pub(super) fn assignment(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    is_id(name.trim()).then_some((name.trim(), value.trim()))
}

/// The name and the parameters in `NAME(a, b)`.
pub(super) fn signature(text: &str) -> Option<(String, Vec<String>)> {
    let (name, params) = text.strip_suffix(')')?.split_once('(')?;
    let params: Vec<String> = params.split(',').map(|p| p.trim().to_string()).filter(|p| !p.is_empty()).collect();
    (is_id(name.trim()) && params.iter().all(|p| is_id(p))).then(|| (name.trim().into(), params))
}

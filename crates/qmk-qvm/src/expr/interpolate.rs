//! Interpolation: `{expression}` in a line is replaced by its value.

use super::error::{ExprError, Res};
use super::value::Value;
use crate::lex::string_end;
use crate::limits;

/// Replaces `{expr}` by the text of `value(expr)`; `{{` and `}}` stand for braces.
pub(super) fn interpolate(line: &str, mut value: impl FnMut(&str) -> Res<Value>) -> Res<String> {
    if !line.contains(['{', '}']) {
        return Ok(line.into());
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(i) = rest.find(['{', '}']) {
        out.push_str(&rest[..i]);
        let tail = &rest[i..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            out.push_str(&tail[..1]);
            rest = &tail[2..];
            continue;
        }
        if tail.starts_with('}') {
            return Err("a } stands alone; write }} for a brace".into());
        }
        let end = braces_end(tail).ok_or("a { is not closed; write {{ for a brace")?;
        out.push_str(&value(&tail[1..end])?.show());
        if out.len() > limits::STRING {
            return Err(ExprError::limit("a line is too long"));
        }
        rest = &tail[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Position of the brace that closes the one at the start, strings skipped.
pub(super) fn braces_end(s: &str) -> Option<usize> {
    let mut i = 1;
    let mut depth = 1;
    while let Some(c) = s[i..].chars().next() {
        match c {
            '"' | '\'' => {
                i += string_end(&s[i..])?;
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
        i += c.len_utf8();
    }
    None
}

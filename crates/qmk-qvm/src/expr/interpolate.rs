//! Braces in a line, replaced by values.

use super::error::{Res, Wrong};
use super::evaluate::Evaluator;
use super::scope::{Env, Scope};
use super::value::Value;
use crate::lex::string_end;
use crate::limits;

impl Evaluator {
    /// Replaces `{expr}` by values; `{{` and `}}` stand for braces.
    pub(crate) fn interpolate(&mut self, line: &str, scope: &Scope) -> Res<String> {
        self.interpolate_in(line, &Env::Top(scope))
    }

    pub(super) fn interpolate_in(&mut self, line: &str, env: &Env<'_>) -> Res<String> {
        self.step(line.len() / 16)?;
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
            out.push_str(&self.braces(&tail[1..end], env)?.show());
            if out.len() > limits::STRING {
                return Err(Wrong::limit("a line is too long"));
            }
            rest = &tail[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// As `interpolate` for the arguments of a call, where `{list}` stays a list and f-strings are left alone.
    pub(super) fn interpolate_args(&mut self, text: &str, scope: &Scope) -> Res<String> {
        self.step(text.len() / 16)?;
        let env = Env::Top(scope);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(i) = rest.find(['{', '"', '\'']) {
            out.push_str(&rest[..i]);
            let tail = &rest[i..];
            let end = if tail.starts_with('{') {
                let end = braces_end(tail).ok_or("a { is not closed")?;
                let value = self.braces(&tail[1..end], &env)?;
                let alone = matches!(out.trim_end().chars().next_back(), None | Some(',' | '[' | '('))
                    && matches!(tail[end + 1..].trim_start().chars().next(), Some(',' | ']' | ')'));
                out.push_str(&if alone { value.literal() } else { value.show() });
                end + 1
            } else {
                let end = string_end(tail).ok_or("a string is not closed")?;
                let formatted = out.ends_with('f');
                out.push_str(&if formatted { tail[..end].into() } else { self.interpolate(&tail[..end], scope)? });
                end
            };
            if out.len() > limits::STRING {
                return Err(Wrong::limit("a line is too long"));
            }
            rest = &tail[end..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn braces(&mut self, text: &str, env: &Env<'_>) -> Res<Value> {
        let tokens = self.tokens(text)?;
        self.eval_in(&tokens, text, env)
    }
}

/// Position of the brace that closes the one at the start, strings skipped.
fn braces_end(s: &str) -> Option<usize> {
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

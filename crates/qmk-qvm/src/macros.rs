//! The macro language: expands `.set .param .for .if .macro .include` and `{...}` to plain assembly lines.

use crate::expr::{Evaluator, Scope, Token, Unknown, Value, braces_end, lex, string_end};
use crate::{Finding, ParseOptions, finding, is_id, limits};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A plain line and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) line: u32,
    /// Which macro call made it, 0 for none.
    pub(crate) call: u32,
}

/// A problem at a line, with its finding code.
struct Problem(&'static str, u32, String);

type Done<T = ()> = Result<T, Problem>;

#[derive(Clone, Debug)]
struct Source {
    text: String,
    line: u32,
}

#[derive(Clone, Debug)]
struct Macro {
    params: Vec<String>,
    body: Vec<Source>,
}

/// Expands a text.
pub(crate) fn expand(text: &str, options: &ParseOptions) -> Result<Vec<Line>, Vec<Finding>> {
    let mut e = Expander {
        options,
        eval: Evaluator::new(),
        scope: Scope::new(),
        macros: BTreeMap::new(),
        out: Vec::new(),
        bytes: 0,
        calls: 0,
        depth: 0,
    };
    let lines = split(text, None);
    match e.block(&lines, options.file.as_deref(), 0) {
        Ok(()) => Ok(e.out),
        Err(Problem(code, line, message)) => Err(vec![finding(code, None, Some(line), message)]),
    }
}

/// Lines without comments. Included lines all carry the line of the include.
fn split(text: &str, line: Option<u32>) -> Vec<Source> {
    let numbered = text.lines().enumerate().map(|(i, l)| (strip_comment(l).trim(), line.unwrap_or(i as u32 + 1)));
    numbered.filter(|(l, _)| !l.is_empty()).map(|(l, line)| Source { text: l.into(), line }).collect()
}

fn strip_comment(line: &str) -> &str {
    let mut i = 0;
    while let Some(c) = line[i..].chars().next() {
        match c {
            ';' => return &line[..i],
            '"' => match string_end(&line[i..]) {
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

/// The directive a line starts with, and the rest.
fn directive(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix('.')?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some((&rest[..end], rest[end..].trim()))
}

/// `name = expr` split at the first single equals sign.
fn assignment(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    is_id(name.trim()).then_some((name.trim(), value.trim()))
}

struct Expander<'a> {
    options: &'a ParseOptions,
    eval: Evaluator,
    scope: Scope,
    macros: BTreeMap<String, Macro>,
    out: Vec<Line>,
    bytes: usize,
    calls: u32,
    depth: usize,
}

impl Expander<'_> {
    /// Index of the directive that ends the block opened before `from`: one of `ends` at the same depth.
    fn find_end(lines: &[Source], from: usize, open: &str, ends: &[&str], at: u32) -> Done<usize> {
        let mut depth = 0;
        for (i, l) in lines.iter().enumerate().skip(from) {
            if let Some((d, _)) = directive(&l.text) {
                if depth == 0 && ends.contains(&d) {
                    return Ok(i);
                }
                if d == open {
                    depth += 1;
                } else if d == ends[ends.len() - 1] {
                    depth -= 1;
                }
            }
        }
        Err(Problem("E-PARSE", at, format!(".{open} is never closed by .{}", ends[ends.len() - 1])))
    }

    fn block(&mut self, lines: &[Source], file: Option<&Path>, call: u32) -> Done {
        self.depth += 1;
        if self.depth > limits::DEPTH {
            let line = lines.first().map_or(1, |l| l.line);
            return Err(Problem(
                "E-LIMIT",
                line,
                format!("blocks, macros or includes nested deeper than {}", limits::DEPTH),
            ));
        }
        let mut i = 0;
        while i < lines.len() {
            i = self.item(lines, i, file, call)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Expands the item at `i`; returns the index after it.
    fn item(&mut self, lines: &[Source], i: usize, file: Option<&Path>, call: u32) -> Done<usize> {
        let Source { text, line } = &lines[i];
        let at = |m: String| Problem("E-PARSE", *line, m);
        self.eval.step(1).map_err(|m| Problem("E-LIMIT", *line, m))?;
        match directive(text) {
            Some(("set", rest)) => {
                let (name, value) = assignment(rest).ok_or_else(|| at(".set needs name = expression".into()))?;
                let v = self.eval.eval(value, &self.scope, Unknown::Error).map_err(at)?;
                self.scope.insert(name.into(), v);
            }
            Some(("param", rest)) => {
                let (name, default) = assignment(rest).ok_or_else(|| at(".param needs name = default".into()))?;
                let v = match self.options.params.get(name) {
                    // A value that is no expression is a string.
                    Some(given) => self
                        .eval
                        .eval(given, &Scope::new(), Unknown::Error)
                        .unwrap_or_else(|_| Value::Str(given.clone())),
                    None => self.eval.eval(default, &self.scope, Unknown::Error).map_err(at)?,
                };
                self.scope.insert(name.into(), v);
            }
            Some(("for", rest)) => {
                let end = Self::find_end(lines, i + 1, "for", &["endfor"], *line)?;
                self.eval.step((end - i) / 8).map_err(|m| Problem("E-LIMIT", *line, m))?;
                let (name, source) = rest
                    .split_once(" in ")
                    .ok_or_else(|| at(".for needs name in first..last, or name in list".into()))?;
                let names: Vec<&str> = name.split(',').map(str::trim).collect();
                if !names.iter().all(|n| is_id(n)) {
                    return Err(at(format!("{name:?} is not a name")));
                }
                let values = self.range(source).map_err(at)?;
                let saved: Vec<_> = names.iter().map(|n| (n.to_string(), self.scope.get(*n).cloned())).collect();
                for v in values {
                    match (names.as_slice(), v) {
                        ([n], v) => {
                            self.scope.insert(n.to_string(), v);
                        }
                        (names, Value::List(parts)) if parts.len() == names.len() => {
                            self.scope.extend(names.iter().map(|n| n.to_string()).zip(parts));
                        }
                        _ => return Err(at(format!("cannot unpack into {name:?}"))),
                    }
                    self.eval.step(1).map_err(|m| Problem("E-LIMIT", *line, m))?;
                    self.block(&lines[i + 1..end], file, call)?;
                }
                self.restore(saved);
                return Ok(end + 1);
            }
            Some(("if", condition)) => {
                let close = Self::find_end(lines, i + 1, "if", &["endif"], *line)?;
                self.eval.step((close - i) / 8).map_err(|m| Problem("E-LIMIT", *line, m))?;
                let (mut condition, mut from) = (condition, i + 1);
                loop {
                    let next = Self::find_end(lines, from, "if", &["elif", "else", "endif"], *line)?;
                    if self.eval.eval(condition, &self.scope, Unknown::Error).map_err(at)?.truthy() {
                        self.block(&lines[from..next], file, call)?;
                        break;
                    }
                    match directive(&lines[next].text) {
                        Some(("elif", c)) => (condition, from) = (c, next + 1),
                        Some(("else", _)) => {
                            let end = Self::find_end(lines, next + 1, "if", &["endif"], *line)?;
                            self.block(&lines[next + 1..end], file, call)?;
                            break;
                        }
                        _ => break,
                    }
                }
                return Ok(close + 1);
            }
            Some(("macro", rest)) => {
                let end = Self::find_end(lines, i + 1, "macro", &["endmacro"], *line)?;
                let (name, params) = rest
                    .strip_suffix(')')
                    .and_then(|r| r.split_once('('))
                    .ok_or_else(|| at(".macro needs NAME(parameters)".into()))?;
                let params: Vec<String> =
                    params.split(',').map(|p| p.trim().to_string()).filter(|p| !p.is_empty()).collect();
                if !is_id(name.trim()) || !params.iter().all(|p| is_id(p)) {
                    return Err(at(".macro needs NAME(parameters)".into()));
                }
                let body = lines[i + 1..end].to_vec();
                self.eval.step(body.len()).map_err(|m| Problem("E-LIMIT", *line, m))?;
                self.macros.insert(name.trim().into(), Macro { params, body });
                return Ok(end + 1);
            }
            Some(("include", rest)) => self.include(rest, file, *line)?,
            Some((d @ ("endfor" | "else" | "elif" | "endif" | "endmacro"), _)) => {
                return Err(at(format!(".{d} without its opening directive")));
            }
            _ => self.line(text, *line, call)?,
        }
        Ok(i + 1)
    }

    fn restore(&mut self, saved: Vec<(String, Option<Value>)>) {
        for (name, old) in saved {
            match old {
                Some(v) => self.scope.insert(name, v),
                None => self.scope.remove(&name),
            };
        }
    }

    /// `first..last`, both included, or a list.
    fn range(&mut self, source: &str) -> Result<Vec<Value>, String> {
        let value = if let Some((a, b)) = split_range(source) {
            let text = format!("range({a}, ({b}) + 1)");
            self.eval.eval(&text, &self.scope, Unknown::Error)?
        } else {
            self.eval.eval(source, &self.scope, Unknown::Error)?
        };
        match value {
            Value::List(l) => Ok(l),
            Value::Str(s) => Ok(s.chars().map(|c| Value::Str(c.into())).collect()),
            other => Err(format!("{} is not a list", other.show())),
        }
    }

    fn include(&mut self, rest: &str, file: Option<&Path>, line: u32) -> Done {
        let at = |m: String| Problem("E-PARSE", line, m);
        let name = match lex(rest).as_deref() {
            Ok([Token::Str(s)]) => s.clone(),
            _ => return Err(at(".include needs a file name in quotes".into())),
        };
        let Some(root) = &self.options.include_root else {
            return Err(at(format!(".include {name:?}: includes are not allowed here")));
        };
        let base = file.and_then(Path::parent).map_or_else(|| root.clone(), PathBuf::from);
        let read = |e: std::io::Error| at(format!(".include {name:?}: {e}"));
        let path = base.join(&name).canonicalize().map_err(read)?;
        if !path.starts_with(root.canonicalize().map_err(read)?) {
            return Err(at(format!(".include {name:?} lies outside {}", root.display())));
        }
        let size = path.metadata().map_err(read)?.len();
        if size > limits::SOURCE_BYTES as u64 || !path.is_file() {
            return Err(Problem(
                "E-LIMIT",
                line,
                format!(".include {name:?} is not a file of at most {} bytes", limits::SOURCE_BYTES),
            ));
        }
        let text = std::fs::read_to_string(&path).map_err(read)?;
        self.eval.step(text.len() / 16).map_err(|m| Problem("E-LIMIT", line, m))?;
        self.block(&split(&text, Some(line)), Some(&path), 0)
            .map_err(|Problem(c, l, m)| Problem(c, l, format!("in {name}: {m}")))
    }

    /// Arguments of a macro call: `{expr}` is replaced as on any line, but not in string literals, which are
    /// expressions of their own.
    fn call_text(&mut self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(i) = rest.find(['"', '\'', '{']) {
            out.push_str(&rest[..i]);
            let tail = &rest[i..];
            if tail.starts_with('{') {
                let end = 1 + braces_end(tail).ok_or("a { is not closed")?;
                out.push_str(&self.eval.interpolate(&tail[..end], &self.scope)?);
                rest = &tail[end..];
            } else {
                let end = string_end(tail).unwrap_or(tail.len());
                out.push_str(&tail[..end]);
                rest = &tail[end..];
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// A plain line or a macro call.
    fn line(&mut self, text: &str, line: u32, call: u32) -> Done {
        let at = |m: String| Problem("E-PARSE", line, m);
        if let Some((name, rest)) = text.split_once('(')
            && let Some(m) = self.macros.get(name.trim()).cloned()
        {
            let tokens = lex(&self.call_text(rest).map_err(at)?).map_err(at)?;
            let args = self.eval.args(&tokens, &self.scope).map_err(at)?;
            if args.len() != m.params.len() {
                return Err(at(format!("{} takes {} arguments, not {}", name.trim(), m.params.len(), args.len())));
            }
            let saved: Vec<_> = m.params.iter().map(|p| (p.clone(), self.scope.get(p).cloned())).collect();
            self.scope.extend(m.params.iter().cloned().zip(args));
            self.calls += 1;
            let body: Vec<Source> = m.body.into_iter().map(|s| Source { line, ..s }).collect();
            self.eval.step(body.len()).map_err(|m| Problem("E-LIMIT", line, m))?;
            let this = self.calls;
            self.block(&body, None, this)?;
            self.restore(saved);
            return Ok(());
        }
        let text = self.eval.interpolate(text, &self.scope).map_err(at)?;
        self.bytes += text.len() + 64;
        if self.out.len() >= limits::NODES || self.bytes > limits::EXPANDED_BYTES {
            return Err(Problem("E-LIMIT", line, format!("the program expands to more than {} lines", limits::NODES)));
        }
        self.out.push(Line { text, line, call });
        Ok(())
    }
}

/// Splits `a..b` outside brackets and strings.
fn split_range(s: &str) -> Option<(&str, &str)> {
    let (mut i, mut depth) = (0, 0i32);
    while let Some(c) = s[i..].chars().next() {
        match c {
            '"' | '\'' => {
                i += string_end(&s[i..])?;
                continue;
            }
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '.' if depth == 0 && s[i..].starts_with("..") => return Some((&s[..i], &s[i + 2..])),
            _ => {}
        }
        i += c.len_utf8();
    }
    None
}

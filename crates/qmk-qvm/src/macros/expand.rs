//! The expander: source lines to plain lines. Start at [`expand`]; `item` handles one directive or line.

use super::include::Includes;
use super::source::{SourceLine, assignment, directive, signature, split};
use crate::expr::{Evaluator, ExprError, Scope, Value, unpack};
use crate::findings::{TooLarge, finding, unknown_params};
use crate::lex::{clip, is_id};
use crate::limits;
use crate::options::ParseOptions;
use qmk_abi::rpc::Finding;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

/// A plain assembly line and its origin.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// Line of the program, from 1; for a line of an include or a macro, that of the outermost directive or call.
    pub(crate) line: u32,
    /// Number of the macro call that made it; 0 for none.
    pub(crate) call: u32,
    /// Its position in included files, as a prefix for messages.
    pub(crate) origin: Option<Rc<str>>,
}

/// An error that ends the expansion, and its line.
struct Fatal(u32, ExprError);

type OrFatal<T = ()> = Result<T, Fatal>;

#[derive(Clone, Debug)]
struct Macro {
    params: Vec<String>,
    body: Rc<[SourceLine]>,
}

/// The text that a block belongs to.
#[derive(Clone, Copy)]
struct Position<'a> {
    file: Option<&'a Path>,
    /// Number of the current macro call; 0 for none.
    call: u32,
    /// Line of the outermost call.
    called_at: Option<u32>,
}

/// Expands a text as far as possible. If there are findings, lines may be missing.
pub(crate) fn expand(text: &str, options: &ParseOptions) -> (Vec<Line>, Vec<Finding>) {
    let mut e = Expander::new(options);
    let lines = split(text);
    if let Err(Fatal(line, wrong)) =
        e.block(&lines, Position { file: options.file.as_deref(), call: 0, called_at: None })
    {
        e.report(line, &wrong);
    }
    // After other findings, the `.param` of a name may have been skipped.
    if e.found.is_empty() {
        let known: Vec<&str> = e.params.iter().map(String::as_str).collect();
        e.found = unknown_params(options.params.keys().filter(|p| !e.params.contains(*p)), &known);
    }
    (e.out, e.found)
}

struct Expander<'a> {
    options: &'a ParseOptions,
    eval: Evaluator,
    scope: Scope,
    macros: BTreeMap<String, Macro>,
    includes: Includes<'a>,
    out: Vec<Line>,
    found: Vec<Finding>,
    /// Lines and messages of findings, so that a loop reports each once.
    reported: BTreeSet<(u32, String)>,
    /// Parameters that the program declared so far.
    params: BTreeSet<String>,
    /// Names whose definition failed. That one has a finding, so their uses have none.
    failed: BTreeSet<String>,
    bytes: usize,
    nodes: usize,
    calls: u32,
    depth: usize,
}

impl<'a> Expander<'a> {
    fn new(options: &'a ParseOptions) -> Self {
        Expander {
            options,
            eval: Evaluator::new(options.steps()),
            scope: Scope::new(),
            macros: BTreeMap::new(),
            includes: Includes::new(options),
            out: Vec::new(),
            found: Vec::new(),
            reported: BTreeSet::new(),
            params: BTreeSet::new(),
            failed: BTreeSet::new(),
            bytes: 0,
            nodes: 0,
            calls: 0,
            depth: 0,
        }
    }

    fn report(&mut self, line: u32, wrong: &ExprError) {
        let (line, origin) = self.includes.origin(line);
        let message = origin.unwrap_or_default() + &wrong.message;
        if self.reported.insert((line, message.clone())) {
            self.found.push(finding(wrong.code, None, Some(line), message));
        }
    }

    /// Reports an error after which the expansion continues; returns one that ends it.
    fn note(&mut self, line: u32, wrong: ExprError) -> OrFatal {
        if wrong.code == "E-LIMIT" || self.found.len() >= limits::FINDINGS {
            return Err(Fatal(line, wrong));
        }
        // A message costs more than a step, and a loop may make many.
        self.eval.step(100).map_err(|w| Fatal(line, w))?;
        if !wrong.undefined.as_ref().is_some_and(|n| self.failed.contains(n)) {
            self.report(line, &wrong);
        }
        Ok(())
    }

    /// The value that the options give to a parameter; a text that is no expression is a string.
    fn given_param(&mut self, name: &str) -> Option<Value> {
        let text = self.options.params.get(name)?;
        Some(self.eval.eval(text, &Scope::new()).unwrap_or_else(|_| Value::Str(text.clone())))
    }

    /// Index of the directive that ends the block opened before `from`: one of `ends` at the same depth.
    fn find_end(lines: &[SourceLine], from: usize, open: &str, ends: &[&str], at: u32) -> OrFatal<usize> {
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
        Err(Fatal(at, format!(".{open} is never closed by .{}", ends[ends.len() - 1]).into()))
    }

    fn block(&mut self, lines: &[SourceLine], position: Position<'_>) -> OrFatal {
        self.depth += 1;
        if self.depth > limits::DEPTH {
            let line = position.called_at.or(lines.first().map(|l| l.line)).unwrap_or(1);
            let message = format!("blocks, macros or includes are nested deeper than {}", limits::DEPTH);
            return Err(Fatal(line, ExprError::limit(message)));
        }
        let mut i = 0;
        while i < lines.len() {
            i = self.item(lines, i, position)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Expands the item at `i`; returns the index after it.
    fn item(&mut self, lines: &[SourceLine], i: usize, position: Position<'_>) -> OrFatal<usize> {
        let text = lines[i].text.as_str();
        let line = position.called_at.unwrap_or(lines[i].line);
        let fail = |w: ExprError| Fatal(line, w);
        self.eval.step(1).map_err(fail)?;
        match directive(text) {
            Some((d @ ("set" | "param"), rest)) => {
                if let Err(w) = self.define(d, rest) {
                    self.note(line, w)?;
                }
            }
            Some(("for", rest)) => {
                let end = Self::find_end(lines, i + 1, "for", &["endfor"], line)?;
                self.eval.step((end - i) / 4).map_err(fail)?;
                match self.loop_values(rest) {
                    Ok((names, values)) => self.repeat(&lines[i + 1..end], &names, values, position, line)?,
                    Err(w) => self.note(line, w)?,
                }
                return Ok(end + 1);
            }
            Some(("if", condition)) => {
                let close = Self::find_end(lines, i + 1, "if", &["endif"], line)?;
                self.eval.step((close - i) / 4).map_err(fail)?;
                self.choose(lines, i, condition, position, line)?;
                return Ok(close + 1);
            }
            Some(("macro", rest)) => {
                let end = Self::find_end(lines, i + 1, "macro", &["endmacro"], line)?;
                let body = &lines[i + 1..end];
                let size = body.iter().map(|s| 1 + s.text.len() / 16).sum::<usize>();
                self.eval.step(size).map_err(fail)?;
                match signature(rest) {
                    Some((name, params)) => {
                        let copy = body.iter().map(|s| SourceLine { text: s.text.clone(), line: s.line });
                        self.macros.insert(name, Macro { params, body: copy.collect() });
                    }
                    None => self.note(line, ".macro needs NAME(parameters)".into())?,
                }
                return Ok(end + 1);
            }
            Some(("include", rest)) => self.include(rest, position, line)?,
            Some((d @ ("endfor" | "else" | "elif" | "endif" | "endmacro"), _)) => {
                self.note(line, format!(".{d} without its opening directive").into())?;
            }
            _ => self.line(text, line, position)?,
        }
        Ok(i + 1)
    }

    fn define(&mut self, directive: &str, rest: &str) -> Result<(), ExprError> {
        let (name, value) = assignment(rest).ok_or_else(|| format!(".{directive} needs name = expression"))?;
        let param = directive == "param";
        if param {
            self.params.insert(name.into());
        }
        let given = if param { self.given_param(name) } else { None };
        match given.map_or_else(|| self.eval.eval(value, &self.scope), Ok) {
            Ok(v) => {
                self.scope.insert(name.into(), v);
                Ok(())
            }
            Err(w) => {
                self.failed.insert(name.into());
                Err(w)
            }
        }
    }

    fn loop_values(&mut self, rest: &str) -> Result<(Vec<String>, Vec<Value>), ExprError> {
        let (names, source) = rest.split_once(" in ").ok_or(".for needs name in first..last, or name in list")?;
        let names: Vec<String> = names.split(',').map(|n| n.trim().to_string()).collect();
        match names.iter().find(|n| !is_id(n)) {
            Some(bad) => Err(format!("{:?} is not a name", clip(bad)).into()),
            None => Ok((names, self.eval.range(source, &self.scope)?)),
        }
    }

    fn repeat(
        &mut self,
        body: &[SourceLine],
        names: &[String],
        values: Vec<Value>,
        position: Position<'_>,
        line: u32,
    ) -> OrFatal {
        let saved: Vec<_> = names.iter().map(|n| (n.clone(), self.scope.remove(n))).collect();
        for v in values {
            self.eval.step(1).map_err(|w| Fatal(line, w))?;
            match unpack(names, v) {
                Ok(bound) => self.scope.extend(bound),
                Err(w) => {
                    self.note(line, w)?;
                    break;
                }
            }
            self.block(body, position)?;
        }
        self.restore(saved);
        Ok(())
    }

    fn restore(&mut self, saved: Vec<(String, Option<Value>)>) {
        // In reverse, because a name may be bound twice; its first value is the one outside.
        for (name, old) in saved.into_iter().rev() {
            match old {
                Some(v) => self.scope.insert(name, v),
                None => self.scope.remove(&name),
            };
        }
    }

    /// Expands the branch of an `.if` whose condition holds.
    fn choose(
        &mut self,
        lines: &[SourceLine],
        i: usize,
        condition: &str,
        position: Position<'_>,
        line: u32,
    ) -> OrFatal {
        let (mut condition, mut from, mut at) = (condition, i + 1, line);
        loop {
            let next = Self::find_end(lines, from, "if", &["elif", "else", "endif"], line)?;
            match self.eval.eval(condition, &self.scope) {
                Ok(v) if v.truthy() => return self.block(&lines[from..next], position),
                Ok(_) => {}
                Err(w) => return self.note(at, w),
            }
            match directive(&lines[next].text) {
                Some(("elif", c)) => {
                    (condition, from, at) = (c, next + 1, position.called_at.unwrap_or(lines[next].line));
                }
                Some(("else", _)) => {
                    let end = Self::find_end(lines, next + 1, "if", &["endif"], line)?;
                    return self.block(&lines[next + 1..end], position);
                }
                _ => return Ok(()),
            }
        }
    }

    fn include(&mut self, rest: &str, position: Position<'_>, line: u32) -> OrFatal {
        let opened = self.includes.open(&mut self.eval, rest, position.file, line);
        let (text, path) = opened.map_err(|e| Fatal(line, e))?;
        // After an error the include stays open, so that the finding names its file.
        self.block(&split(&text), Position { file: Some(&path), call: position.call, called_at: None })?;
        self.includes.close();
        Ok(())
    }

    /// Expands a plain line or a macro call.
    fn line(&mut self, text: &str, line: u32, position: Position<'_>) -> OrFatal {
        if let Some((name, rest)) = text.split_once('(')
            && let Some(m) = self.macros.get(name.trim()).cloned()
        {
            let args = match self.eval.args(rest, &self.scope) {
                Ok(args) if args.len() == m.params.len() => args,
                Ok(args) => {
                    let what = format!("{} takes {} arguments, not {}", name.trim(), m.params.len(), args.len());
                    return self.note(line, what.into());
                }
                Err(w) => return self.note(line, w),
            };
            let saved: Vec<_> = m.params.iter().map(|p| (p.clone(), self.scope.remove(p))).collect();
            self.scope.extend(m.params.iter().cloned().zip(args));
            self.calls += 1;
            let call = self.calls;
            self.block(&m.body, Position { file: None, call, called_at: Some(line) })?;
            self.restore(saved);
            return Ok(());
        }
        let text = match self.eval.interpolate(text, &self.scope) {
            Ok(text) => text,
            Err(w) => return self.note(line, w),
        };
        self.bytes += text.len();
        if !text.starts_with('.') {
            self.nodes += 1;
            if self.nodes > self.options.nodes() {
                let message = TooLarge(self.options.nodes()).to_string();
                return Err(Fatal(line, ExprError::limit(message)));
            }
        }
        let bytes = limits::EXPANDED_BYTES.min(self.options.steps().saturating_mul(16));
        if self.out.len() >= limits::LINES || self.bytes > bytes {
            let message = format!("the program expands to more than {} lines or {bytes} bytes", limits::LINES);
            return Err(Fatal(line, ExprError::limit(message)));
        }
        let (line, origin) = self.includes.origin(line);
        self.out.push(Line { text, line, call: position.call, origin: origin.map(Rc::from) });
        Ok(())
    }
}

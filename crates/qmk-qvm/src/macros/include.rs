//! Included files: where they are searched, which are refused, and the position of a line in them.

use super::source::{directive, strip_comment};
use crate::expr::{Evaluator, ExprError};
use crate::lex::{Token, clip, lex, without_mark};
use crate::limits;
use crate::options::ParseOptions;
use std::io::Read;
use std::path::{Path, PathBuf};

/// An included file that is being read.
struct Include {
    /// Line of the directive in the text that holds it.
    line: u32,
    name: String,
    path: PathBuf,
}

/// The included files that are being read.
pub(super) struct Includes<'a> {
    options: &'a ParseOptions,
    /// Outermost first.
    open: Vec<Include>,
}

impl<'a> Includes<'a> {
    pub(super) fn new(options: &'a ParseOptions) -> Self {
        Includes { options, open: Vec::new() }
    }

    /// The line of the program for a line of the current text, and its position in included files.
    pub(super) fn origin(&self, line: u32) -> (u32, Option<String>) {
        let Some(first) = self.open.first() else { return (line, None) };
        let inner = self.open.iter().skip(1).map(|i| i.line).chain([line]);
        let places = self.open.iter().zip(inner).map(|(i, line)| format!("{} line {line}: ", clip(&i.name)));
        (first.line, Some(places.collect()))
    }

    /// Opens an included file: from the directory of the file that names it, else from the root. Returns its text and
    /// its path. `rest` is the line behind the directive.
    pub(super) fn open(
        &mut self,
        eval: &mut Evaluator,
        rest: &str,
        file: Option<&Path>,
        line: u32,
    ) -> Result<(String, PathBuf), ExprError> {
        let name = match lex(rest).as_deref() {
            Ok([Token::Str(s)]) => s.clone(),
            _ => return Err(".include needs a file name in quotes".into()),
        };
        let wrong = |what: String| ExprError::from(format!(".include {:?}: {what}", clip(&name)));
        let Some(root) = &self.options.include_root else {
            return Err(wrong("includes are not allowed here".into()));
        };
        if Path::new(&name).is_absolute() {
            return Err(wrong("name a file relative to the program".into()));
        }
        let io = |e: std::io::Error| wrong(e.to_string());
        let beside = file.and_then(Path::parent).unwrap_or(root).join(&name).canonicalize();
        let path = beside.or_else(|e| root.join(&name).canonicalize().map_err(|_| e)).map_err(io)?;
        if !path.starts_with(root.canonicalize().map_err(io)?) {
            return Err(wrong(format!("it lies outside {}", root.display())));
        }
        let main = self.options.file.as_ref().and_then(|f| f.canonicalize().ok());
        if self.open.iter().map(|i| &i.path).chain(&main).any(|p| *p == path) {
            return Err(wrong("a file cannot include itself, directly or through others".into()));
        }
        if !path.is_file() {
            return Err(wrong("it is not a file".into()));
        }
        let mut text = String::new();
        let open = std::fs::File::open(&path).map_err(io)?;
        open.take(limits::SOURCE_BYTES as u64 + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() > limits::SOURCE_BYTES {
            return Err(ExprError::limit(format!(".include {name:?} is longer than {} bytes", limits::SOURCE_BYTES)));
        }
        eval.step(text.len() / 16)?;
        self.open.push(Include { line, name, path: path.clone() });
        Ok((text, path))
    }

    /// Ends the file that was opened last.
    pub(super) fn close(&mut self) {
        self.open.pop();
    }
}

/// Replaces `.include` directives by the text of their files, for a machine that cannot read them. A directive whose
/// file cannot be read stays, so that the machine refuses it.
pub fn flatten(text: &str, options: &ParseOptions) -> String {
    let eval = Evaluator::new(options.steps());
    let mut flattener = Flattener { includes: Includes::new(options), eval, out: String::new() };
    flattener.inline(text, options.file.as_deref());
    flattener.out
}

struct Flattener<'a> {
    includes: Includes<'a>,
    /// Pays for the text of included files, as it does when they are expanded.
    eval: Evaluator,
    out: String,
}

impl Flattener<'_> {
    fn inline(&mut self, text: &str, file: Option<&Path>) {
        let mut macros = 0u32;
        for line in without_mark(text).lines() {
            match directive(strip_comment(line).trim()) {
                Some(("macro", _)) => macros += 1,
                Some(("endmacro", _)) => macros = macros.saturating_sub(1),
                Some(("include", rest))
                    if self.out.len() <= limits::SOURCE_BYTES && self.includes.open.len() < limits::DEPTH =>
                {
                    // A macro may be called from any file, so its body has no directory of its own.
                    let file = file.filter(|_| macros == 0);
                    if let Ok((text, path)) = self.includes.open(&mut self.eval, rest, file, 0) {
                        self.inline(&text, Some(&path));
                        self.includes.close();
                        continue;
                    }
                }
                _ => {}
            }
            self.out.push_str(line);
            self.out.push('\n');
        }
    }
}

//! Programs and other texts, read from files or standard input.

use crate::args::Input;
use crate::failure::Failure;
use qmk_client::Program;
use qmk_qvm::{Finding, Format, Graph, ParseOptions, Severity};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Longest text, in bytes. Reading stops one byte behind it.
const MAX_BYTES: u64 = 64 << 20;

/// The text of a program with its language and parse options.
pub(crate) struct Source {
    text: String,
    format: Format,
    options: ParseOptions,
}

impl Source {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Parses the text; the error holds every finding of the parser.
    pub(crate) fn parse(&self) -> Result<Graph, Vec<Finding>> {
        qmk_qvm::parse(&self.text, self.format, &self.options)
    }

    /// The program with its included files inlined, because a machine reads no files, and its parameters.
    pub(crate) fn program(self) -> (Program, BTreeMap<String, String>) {
        let source = match self.format {
            Format::Json => self.text,
            Format::Asm => qmk_qvm::flatten(&self.text, &self.options),
        };
        (Program { source, format: self.format }, self.options.params)
    }
}

/// Reads and parses a program. `format` is the language of standard input; a file is read in the language of its name.
pub(crate) fn graph(input: &Input, format: Format) -> Result<Graph, Failure> {
    read(input, Some(format))?.parse().map_err(|findings| Failure::invalid(&input.file, findings))
}

/// Reads, parses and verifies a program. Errors of the verifier are a failure; warnings are dropped.
pub(crate) fn verified_graph(file: &Input) -> Result<Graph, Failure> {
    let graph = read(file, None)?.parse().map_err(|findings| Failure::invalid(&file.file, findings))?;
    let findings = qmk_qvm::verify(&graph);
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return Err(Failure::invalid(&file.file, findings));
    }
    Ok(graph)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads a text; `-` is standard input.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::new(1, "IO", format!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    if is_stdin(path) {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        // Opening a pipe can block for ever, and a device may never end.
        if !path.metadata().map_err(failed)?.is_file() {
            let what = format!("{}: not a regular file; `-` reads standard input", path.display());
            return Err(Failure::new(1, "IO", what));
        }
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::new(1, "E-LIMIT", format!("{}: longer than {MAX_BYTES} bytes", path.display())));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        Failure::new(1, "E-PARSE", format!("{}:{line}: not UTF-8 text", path.display()))
    })
}

/// Reads a program. `format` overrides the guess from the text when the file name says nothing.
pub(crate) fn read(input: &Input, format: Option<Format>) -> Result<Source, Failure> {
    let path = &input.file;
    let (stdin, text) = (is_stdin(path), text(path)?);
    let guess = qmk_qvm::detect_format(&path.to_string_lossy(), &text);
    let format = match format {
        Some(asked) if stdin => asked,
        _ => guess,
    };
    let mut options = ParseOptions::default();
    for (name, value) in &input.params {
        if options.params.insert(name.clone(), value.clone()).is_some() {
            return Err(Failure::new(2, "USAGE", format!("--param {name} is given twice")));
        }
    }
    if !stdin {
        // An include may name a file in the program's directory or below it.
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        options.file = Some(path.clone());
        options.include_root = Some(parent.to_path_buf());
    }
    Ok(Source { text, format, options })
}

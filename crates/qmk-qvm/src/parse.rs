//! Parsing of a text in either language, JSON or assembly.

use crate::asm::assemble;
use crate::findings::unknown_params;
use crate::graph::Graph;
use crate::json;
use crate::lex::without_mark;
use crate::options::ParseOptions;
use qmk_abi::rpc::{Finding, Format};

/// Parses a program text.
///
/// # Errors
/// Every `E-PARSE`, `E-SCHEMA` and `E-LIMIT` finding, and `E-ARG` for parameters that the program does not have.
pub fn parse(text: &str, format: Format, options: &ParseOptions) -> Result<Graph, Vec<Finding>> {
    match format {
        Format::Json if !options.params.is_empty() => Err(unknown_params(options.params.keys(), &[])),
        Format::Json => json::read(text, options.nodes()),
        Format::Asm => assemble(text, options),
    }
}

/// Guesses the language of a text: by the path's extension, else by its first character.
pub fn detect_format(path: &str, text: &str) -> Format {
    let (lower, text) = (path.to_ascii_lowercase(), without_mark(text));
    if lower.ends_with(".json") {
        Format::Json
    } else if lower.ends_with(".qvm") || lower.ends_with(".asm") || !text.trim_start().starts_with('{') {
        Format::Asm
    } else {
        Format::Json
    }
}

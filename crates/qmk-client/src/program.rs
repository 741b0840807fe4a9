//! Program texts.

use qmk_abi::rpc::Format;

/// A program text.
#[derive(Clone, Debug)]
pub struct Program {
    /// Text.
    pub source: String,
    /// Its language.
    pub format: Format,
}

impl Program {
    /// QVM assembly.
    pub fn asm(source: impl Into<String>) -> Self {
        Program { source: source.into(), format: Format::Asm }
    }

    /// A QVM graph in JSON.
    pub fn json(source: impl Into<String>) -> Self {
        Program { source: source.into(), format: Format::Json }
    }
}

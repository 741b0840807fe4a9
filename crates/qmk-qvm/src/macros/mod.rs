//! The macro language: expands `.set .param .for .if .macro .include` and `{...}` to plain assembly lines. `source` cuts
//! a text into lines and directives; `expand` runs them.

mod expand;
mod source;

pub use expand::flatten;
pub(crate) use expand::{Line, expand};

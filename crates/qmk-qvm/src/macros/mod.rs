//! The macro language: expands `.set .param .for .if .macro .include` and `{...}` to plain assembly lines. `source`
//! cuts a text into lines and directives, `expand` runs them, and `include` reads the files that they name.

mod expand;
mod include;
mod source;

pub(crate) use expand::{Line, expand};
pub use include::flatten;

//! Stim's text formats for circuits and detector error models
//! (<https://github.com/quantumlib/Stim/blob/main/doc/file_format_stim_circuit.md>), both ways.

mod arguments;
mod circuit;
pub(crate) mod error;
mod lex;
mod model;

pub use circuit::{export, import};
pub use error::{InstructionError, StimError};
pub use lex::{LineError, SyntaxError};
pub use model::{export_model, import_model};

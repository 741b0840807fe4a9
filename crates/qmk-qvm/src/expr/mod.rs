//! The expression language of `{...}`, `.set`, `.for` and `.if`. Start at `evaluate`: it parses a text (`parse` to a
//! `tree`) and computes its value with `operators`, `functions` and `interpolate`, within a `budget`.

mod arguments;
mod budget;
mod error;
mod evaluate;
mod functions;
mod interpolate;
mod number;
mod operators;
mod parse;
mod scope;
mod tree;
mod value;

pub(crate) use error::ExprError;
pub(crate) use evaluate::Evaluator;
pub(crate) use number::number;
pub(crate) use scope::Scope;
pub(crate) use value::{Value, unpack};

//! Values of the macro language, constants, and the unpacking of lists.

use super::error::Res;
use crate::lex::clip;

/// A value of the macro language.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(String),
    List(Vec<Value>),
}

impl Value {
    pub(crate) fn truthy(&self) -> bool {
        match self {
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Bool(b) => *b,
            Value::Str(s) => !s.is_empty(),
            Value::List(l) => !l.is_empty(),
        }
    }

    /// The text that replaces the value in a line.
    pub(crate) fn show(&self) -> String {
        match self {
            Value::Int(i) => i.to_string(),
            Value::Float(f) => format!("{f:?}"),
            Value::Bool(b) => b.to_string(),
            Value::Str(s) => s.clone(),
            Value::List(l) => l.iter().map(Value::show).collect::<Vec<_>>().join(", "),
        }
    }

    /// An expression whose value this is.
    pub(super) fn literal(&self) -> String {
        match self {
            Value::Str(s) => serde_json::Value::from(s.as_str()).to_string(),
            Value::List(l) => format!("[{}]", l.iter().map(Value::literal).collect::<Vec<_>>().join(", ")),
            other => other.show(),
        }
    }

    pub(super) fn number(&self) -> Res<f64> {
        match self {
            Value::Int(i) => Ok(*i as f64),
            Value::Float(f) => Ok(*f),
            Value::Bool(b) => Ok(*b as u8 as f64),
            other => Err(format!("{} is not a number", clip(&other.show())).into()),
        }
    }

    pub(super) fn int(&self) -> Res<i64> {
        match self {
            Value::Int(i) => Ok(*i),
            Value::Bool(b) => Ok(*b as i64),
            other => Err(format!("{} is not a whole number", clip(&other.show())).into()),
        }
    }

    /// Steps that a copy of the value costs.
    pub(super) fn weight(&self) -> usize {
        match self {
            Value::Str(s) => 1 + s.len() / 16,
            Value::List(l) => l.iter().fold(1, |w, v| w + v.weight()),
            _ => 1,
        }
    }

    /// Depth of nested lists; 0 for all other values.
    pub(super) fn nesting(&self) -> usize {
        match self {
            Value::List(l) => 1 + l.iter().map(Value::nesting).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// The value of a constant that every program may name.
pub(super) fn constant(name: &str) -> Option<Value> {
    use std::f64::consts;
    Some(match name {
        "pi" => Value::Float(consts::PI),
        "tau" => Value::Float(consts::TAU),
        "True" | "true" => Value::Bool(true),
        "False" | "false" => Value::Bool(false),
        _ => return None,
    })
}

/// Binds the names of a loop: one name to the whole value, several to the elements of a list.
pub(crate) fn unpack(names: &[String], value: Value) -> Res<Vec<(String, Value)>> {
    match (names, value) {
        ([name], value) => Ok(vec![(name.clone(), value)]),
        (names, Value::List(parts)) if parts.len() == names.len() => Ok(names.iter().cloned().zip(parts).collect()),
        (names, value) => Err(format!("cannot unpack {} into {}", clip(&value.show()), clip(&names.join(", "))).into()),
    }
}

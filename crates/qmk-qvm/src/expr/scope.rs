//! Scopes: the values of names.

use super::value::Value;
use std::collections::BTreeMap;

/// The variables of a program.
pub(crate) type Scope = BTreeMap<String, Value>;

/// The values of names within an expression: variables, and the names that comprehensions bind over them.
pub(super) enum Env<'a> {
    Top(&'a Scope),
    Bound(&'a str, &'a Value, &'a Env<'a>),
}

impl<'a> Env<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        match self {
            Env::Top(scope) => scope.get(name),
            Env::Bound(n, v, _) if *n == name => Some(v),
            Env::Bound(_, _, outer) => outer.get(name),
        }
    }
}

//! What names mean.

use super::value::Value;
use std::collections::BTreeMap;

/// Variables in scope.
pub(crate) type Scope = BTreeMap<String, Value>;

/// What a name means: the variables, and those that comprehensions bind on top of them.
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

//! The budget of work that bounds an expansion: a small text must not ask for much time or memory.

use super::error::{ExprError, Res};
use super::value::Value;
use crate::lex::clip;
use crate::limits;
use std::borrow::Cow;

/// Steps that a program may still take. Every loop and every copy of the macro language takes from it.
#[derive(Debug)]
pub(super) struct Budget {
    steps: usize,
}

impl Budget {
    pub(super) fn new(steps: usize) -> Self {
        Budget { steps }
    }

    pub(super) fn step(&mut self, n: usize) -> Res<()> {
        let left = self.steps.checked_sub(n);
        self.steps = left.unwrap_or(0);
        left.map(|_| ())
            .ok_or_else(|| ExprError::limit("the program takes too much work to expand; make loops smaller"))
    }

    /// An owned value. A copy costs twice its weight, because it takes memory besides time.
    pub(super) fn own(&mut self, v: Cow<'_, Value>) -> Res<Value> {
        if let Cow::Borrowed(v) = v {
            self.step(2 * v.weight())?;
        }
        Ok(v.into_owned())
    }

    /// The elements of a list, or the characters of a string.
    pub(super) fn list(&mut self, v: Cow<'_, Value>) -> Res<Vec<Value>> {
        match &*v {
            Value::List(_) => match self.own(v)? {
                Value::List(l) => Ok(l),
                _ => Ok(Vec::new()),
            },
            Value::Str(s) => {
                self.step(s.len())?;
                Ok(s.chars().map(|c| Value::Str(c.into())).collect())
            }
            other => Err(format!("{} is not a list", clip(&other.show())).into()),
        }
    }

    /// Charges for a new list, and refuses one that nests too deep to walk.
    pub(super) fn checked(&mut self, v: Value) -> Res<Value> {
        if let Value::List(l) = &v {
            self.step(l.len())?;
        }
        if v.nesting() > limits::DEPTH { Err(ExprError::limit("lists are nested too deeply")) } else { Ok(v) }
    }

    /// Whole numbers from `start` up or down to `stop`, which is left out.
    pub(super) fn count(&mut self, start: i64, stop: i128, step: i64) -> Res<Value> {
        if step == 0 {
            return Err("range has step 0".into());
        }
        let (distance, stride) = (stop - start as i128, step as i128);
        let n = if (distance > 0) == (stride > 0) { (distance.abs() + stride.abs() - 1) / stride.abs() } else { 0 };
        if n > limits::LIST as i128 {
            return Err(ExprError::limit(format!("a range of {n} values is longer than {}", limits::LIST)));
        }
        self.step(n as usize)?;
        Ok(Value::List((0..n).map(|k| Value::Int((start as i128 + k * stride) as i64)).collect()))
    }
}

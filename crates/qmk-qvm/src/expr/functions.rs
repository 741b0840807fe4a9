//! Functions and methods of the macro language.

use super::budget::Budget;
use super::error::{ExprError, Res};
use super::operators::binary;
use super::value::Value;
use crate::lex::clip;
use crate::limits;

/// The value of `name(args)`.
pub(super) fn call(budget: &mut Budget, name: &str, args: &[&Value]) -> Res<Value> {
    let function: fn(f64) -> f64 = match (name, args) {
        ("len" | "range" | "enumerate" | "reversed" | "sum", _) => {
            if let Some(v) = of_list(budget, name, args)? {
                return Ok(v);
            }
            return Err(unknown(name, args));
        }
        ("min" | "max", [_, ..]) => return extreme(budget, name == "min", args),
        ("str", [v]) => {
            budget.step(v.weight())?;
            return Ok(Value::Str(v.show()));
        }
        ("abs" | "int" | "floor" | "ceil" | "round" | "float", [v]) => return convert(name, v),
        ("sqrt", [_]) => f64::sqrt,
        ("exp", [_]) => f64::exp,
        ("log", [_]) => f64::ln,
        ("log2", [_]) => f64::log2,
        ("sin", [_]) => f64::sin,
        ("cos", [_]) => f64::cos,
        ("tan", [_]) => f64::tan,
        ("asin", [_]) => f64::asin,
        ("acos", [_]) => f64::acos,
        ("atan", [_]) => f64::atan,
        _ => return Err(unknown(name, args)),
    };
    Ok(Value::Float(function(args[0].number()?)))
}

fn unknown(name: &str, args: &[&Value]) -> ExprError {
    format!("there is no function {name} that takes these {} arguments", args.len()).into()
}

/// Functions that take or make lists; `None` for arguments that they do not take.
fn of_list(budget: &mut Budget, name: &str, args: &[&Value]) -> Res<Option<Value>> {
    Ok(Some(match (name, args) {
        ("len", [Value::List(l)]) => Value::Int(l.len() as i64),
        ("len", [Value::Str(s)]) => {
            budget.step(s.len() / 16)?;
            Value::Int(s.chars().count() as i64)
        }
        ("range", a @ ([_] | [_, _] | [_, _, _])) => {
            let n = a.iter().map(|v| v.int()).collect::<Res<Vec<_>>>()?;
            match n[..] {
                [stop] => budget.count(0, stop as i128, 1)?,
                [start, stop] => budget.count(start, stop as i128, 1)?,
                _ => budget.count(n[0], n[1] as i128, n[2])?,
            }
        }
        ("enumerate", [list @ Value::List(l)]) => {
            budget.step(list.weight() + 2 * l.len())?;
            let pairs = l.iter().enumerate().map(|(i, v)| Value::List(vec![Value::Int(i as i64), v.clone()]));
            budget.checked(Value::List(pairs.collect()))?
        }
        ("reversed", [list @ Value::List(l)]) => {
            budget.step(list.weight())?;
            Value::List(l.iter().rev().cloned().collect())
        }
        ("sum", [Value::List(l)]) => {
            budget.step(l.len())?;
            l.iter().try_fold(Value::Int(0), |sum, v| binary("+", sum, v.clone()))?
        }
        _ => return Ok(None),
    }))
}

/// The smallest or largest of the arguments, or of the elements of the one list among them.
fn extreme(budget: &mut Budget, smallest: bool, args: &[&Value]) -> Res<Value> {
    let items: Vec<&Value> = if let [Value::List(l)] = args { l.iter().collect() } else { args.to_vec() };
    budget.step(items.len())?;
    let mut best = *items.first().ok_or("min or max of nothing")?;
    for v in items {
        let (a, b) = (v.number()?, best.number()?);
        if if smallest { a < b } else { a > b } {
            best = v;
        }
    }
    Ok(best.clone())
}

/// `abs`, and the conversions to whole and to floating-point numbers.
fn convert(name: &str, value: &Value) -> Res<Value> {
    let whole = |f: f64| {
        if f.abs() < 9e18 { Ok(Value::Int(f as i64)) } else { Err(ExprError::from("a number does not fit 64 bits")) }
    };
    match (name, value) {
        ("abs", Value::Float(f)) => Ok(Value::Float(f.abs())),
        ("abs", v) => Ok(v.int()?.checked_abs().map(Value::Int).ok_or("overflow")?),
        ("int", Value::Str(s)) => {
            let n = s.trim().parse().map_err(|_| format!("{:?} is not a whole number", clip(s)))?;
            Ok(Value::Int(n))
        }
        ("float", Value::Str(s)) => {
            let f = s.trim().parse().map_err(|_| format!("{:?} is not a number", clip(s)))?;
            Ok(Value::Float(f))
        }
        ("float", v) => v.number().map(Value::Float),
        (_, v @ (Value::Int(_) | Value::Bool(_))) => v.int().map(Value::Int),
        ("floor", v) => whole(v.number()?.floor()),
        ("ceil", v) => whole(v.number()?.ceil()),
        ("round", v) => whole(v.number()?.round_ties_even()),
        (_, v) => whole(v.number()?),
    }
}

/// The value of `target.name(args)`.
pub(super) fn method(budget: &mut Budget, target: &Value, name: &str, args: &[&Value]) -> Res<Value> {
    match (target, name, args) {
        (Value::Str(sep), "join", [list @ Value::List(l)]) => {
            budget.step(list.weight() + l.len() * (sep.len() / 16))?;
            let parts: Vec<String> = l.iter().map(Value::show).collect();
            if parts.iter().map(|p| p.len() + sep.len()).sum::<usize>() > limits::STRING {
                return Err(ExprError::limit("a joined string is too long"));
            }
            Ok(Value::Str(parts.join(sep)))
        }
        _ => Err(format!("there is no such method as {name}; known: string.join(list)").into()),
    }
}

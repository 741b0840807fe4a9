//! Functions of the macro language.

use super::error::{Res, Wrong};
use super::evaluate::Evaluator;
use super::operators::binary;
use super::value::Value;
use crate::lex::clip;
use crate::limits;

impl Evaluator {
    /// Whole numbers from `start` up or down to `stop`, which is left out.
    pub(super) fn count(&mut self, start: i64, stop: i128, step: i64) -> Res<Value> {
        if step == 0 {
            return Err("range has step 0".into());
        }
        let (distance, stride) = (stop - start as i128, step as i128);
        let n = if (distance > 0) == (stride > 0) { (distance.abs() + stride.abs() - 1) / stride.abs() } else { 0 };
        if n > limits::LIST as i128 {
            return Err(Wrong::limit(format!("a range of {n} values is longer than {}", limits::LIST)));
        }
        self.step(n as usize)?;
        Ok(Value::List((0..n).map(|k| Value::Int((start as i128 + k * stride) as i64)).collect()))
    }

    pub(super) fn call(&mut self, name: &str, args: &[&Value]) -> Res<Value> {
        let whole = |f: f64| {
            if f.abs() < 9e18 { Ok(Value::Int(f as i64)) } else { Err(Wrong::from("a number does not fit 64 bits")) }
        };
        let function: fn(f64) -> f64 = match (name, args) {
            ("len", [Value::List(l)]) => return Ok(Value::Int(l.len() as i64)),
            ("len", [Value::Str(s)]) => {
                self.step(s.len() / 16)?;
                return Ok(Value::Int(s.chars().count() as i64));
            }
            ("range", a @ ([_] | [_, _] | [_, _, _])) => {
                let n = a.iter().map(|v| v.int()).collect::<Res<Vec<_>>>()?;
                return match n[..] {
                    [stop] => self.count(0, stop as i128, 1),
                    [start, stop] => self.count(start, stop as i128, 1),
                    _ => self.count(n[0], n[1] as i128, n[2]),
                };
            }
            ("enumerate", [list @ Value::List(l)]) => {
                self.step(list.weight() + 2 * l.len())?;
                let pairs = l.iter().enumerate().map(|(i, v)| Value::List(vec![Value::Int(i as i64), v.clone()]));
                return self.checked(Value::List(pairs.collect()));
            }
            ("reversed", [list @ Value::List(l)]) => {
                self.step(list.weight())?;
                return Ok(Value::List(l.iter().rev().cloned().collect()));
            }
            ("sum", [Value::List(l)]) => {
                self.step(l.len())?;
                return l.iter().try_fold(Value::Int(0), |sum, v| binary("+", sum, v.clone()));
            }
            ("min" | "max", [_, ..]) => {
                let items: Vec<&Value> = if let [Value::List(l)] = args { l.iter().collect() } else { args.to_vec() };
                self.step(items.len())?;
                let mut best = *items.first().ok_or("min or max of nothing")?;
                for v in items {
                    let (a, b) = (v.number()?, best.number()?);
                    if if name == "min" { a < b } else { a > b } {
                        best = v;
                    }
                }
                return Ok(best.clone());
            }
            ("abs", [Value::Float(f)]) => return Ok(Value::Float(f.abs())),
            ("abs", [v]) => return Ok(v.int()?.checked_abs().map(Value::Int).ok_or("overflow")?),
            ("int", [Value::Str(s)]) => {
                let n = s.trim().parse().map_err(|_| format!("{:?} is not a whole number", clip(s)))?;
                return Ok(Value::Int(n));
            }
            ("int" | "floor" | "ceil" | "round", [v @ (Value::Int(_) | Value::Bool(_))]) => {
                return v.int().map(Value::Int);
            }
            ("int", [v]) => return whole(v.number()?),
            ("floor", [v]) => return whole(v.number()?.floor()),
            ("ceil", [v]) => return whole(v.number()?.ceil()),
            ("round", [v]) => return whole(v.number()?.round_ties_even()),
            ("float", [Value::Str(s)]) => {
                let f = s.trim().parse().map_err(|_| format!("{:?} is not a number", clip(s)))?;
                return Ok(Value::Float(f));
            }
            ("float", [v]) => return v.number().map(Value::Float),
            ("str", [v]) => {
                self.step(v.weight())?;
                return Ok(Value::Str(v.show()));
            }
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
            _ => return Err(format!("there is no function {name} that takes these {} arguments", args.len()).into()),
        };
        Ok(Value::Float(function(args[0].number()?)))
    }
}

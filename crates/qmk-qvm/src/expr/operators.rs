//! Operators on values.

use super::error::{ExprError, Res};
use super::value::Value;
use crate::limits;

pub(super) fn unary(op: &str, v: &Value) -> Res<Value> {
    match (op, v) {
        ("not", v) => Ok(Value::Bool(!v.truthy())),
        (_, Value::Float(f)) => Ok(Value::Float(-f)),
        (_, v) => Ok(v.int()?.checked_neg().map(Value::Int).ok_or("overflow")?),
    }
}

pub(super) fn binary(op: &str, a: Value, b: Value) -> Res<Value> {
    use Value::*;
    let overflow = || "a whole number does not fit 64 bits";
    let zero = || Err("division by zero".into());
    let as_int = |v: &Value| matches!(v, Int(_) | Bool(_));
    let order = || -> Res<std::cmp::Ordering> {
        match (&a, &b) {
            (Str(a), Str(b)) => Ok(a.cmp(b)),
            _ => Ok(a.number()?.total_cmp(&b.number()?)),
        }
    };
    let equal = || match (&a, &b) {
        (Int(_) | Bool(_), Int(_) | Bool(_)) => a.int().ok() == b.int().ok(),
        (Int(_) | Float(_) | Bool(_), Int(_) | Float(_) | Bool(_)) => a.number().ok() == b.number().ok(),
        _ => a == b,
    };
    Ok(match op {
        "==" => Bool(equal()),
        "!=" => Bool(!equal()),
        "<" => Bool(order()?.is_lt()),
        "<=" => Bool(order()?.is_le()),
        ">" => Bool(order()?.is_gt()),
        ">=" => Bool(order()?.is_ge()),
        "in" | "not in" => match (&a, &b) {
            (Str(a), Str(b)) => Bool(b.contains(a.as_str()) == (op == "in")),
            (a, List(l)) => Bool(l.contains(a) == (op == "in")),
            _ => return Err("in needs a list or a string".into()),
        },
        "+" => match (a, b) {
            (Str(a), Str(b)) if a.len() + b.len() <= limits::STRING => Str(a + &b),
            (List(mut a), List(b)) if a.len() + b.len() <= limits::LIST => {
                a.extend(b);
                List(a)
            }
            (Str(_), Str(_)) | (List(_), List(_)) => return Err(ExprError::limit("a string or list is too long")),
            (a, b) if as_int(&a) && as_int(&b) => Int(a.int()?.checked_add(b.int()?).ok_or_else(overflow)?),
            (a, b) => Float(a.number()? + b.number()?),
        },
        "-" | "*" | "//" | "%" | "**" if as_int(&a) && as_int(&b) => {
            let (x, y) = (a.int()?, b.int()?);
            match op {
                "-" => Int(x.checked_sub(y).ok_or_else(overflow)?),
                "*" => Int(x.checked_mul(y).ok_or_else(overflow)?),
                // Towards minus infinity, as the remainder has the divisor's sign.
                "//" | "%" if y == 0 => return zero(),
                "//" => Int(i64::try_from((x as i128 - (x as i128 % y as i128 + y as i128) % y as i128) / y as i128)
                    .map_err(|_| overflow())?),
                "%" => Int(((x as i128 % y as i128 + y as i128) % y as i128) as i64),
                _ if y < 0 => Float((x as f64).powi(y.max(-10_000) as i32)),
                _ => Int(u32::try_from(y).ok().and_then(|y| x.checked_pow(y)).ok_or_else(overflow)?),
            }
        }
        "-" => Float(a.number()? - b.number()?),
        "*" => Float(a.number()? * b.number()?),
        "/" | "//" | "%" if b.number()? == 0.0 => return zero(),
        "/" => Float(a.number()? / b.number()?),
        "//" => Float((a.number()? / b.number()?).floor()),
        "%" => {
            let (x, y) = (a.number()?, b.number()?);
            Float(x - y * (x / y).floor())
        }
        "**" => Float(a.number()?.powf(b.number()?)),
        _ => return Err(format!("unknown operator {op}").into()),
    })
}

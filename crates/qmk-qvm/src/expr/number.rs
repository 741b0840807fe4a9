//! Numbers in operands, such as `theta=pi/4`, which need no braces.

use super::error::Res;
use super::evaluate::Evaluator;
use super::parse::{Parser, SUM};
use super::scope::{Env, Scope};
use super::value::Value;
use crate::lex::{Token, clip};
use crate::limits;

/// The number at the start of a list of tokens, a sum or product of numbers, and how many tokens it takes.
pub(crate) fn number(tokens: &[Token]) -> Res<(serde_json::Value, usize)> {
    let mut p = Parser::new(tokens);
    let e = p.level(SUM)?;
    let mut eval = Evaluator::new(limits::STEPS);
    let value = match eval.run_owned(&e, &Env::Top(&Scope::new()))? {
        Value::Int(i) => i.into(),
        Value::Float(f) => {
            let number = serde_json::Number::from_f64(f).ok_or("a number is not finite")?;
            serde_json::Value::Number(number)
        }
        other => return Err(format!("{} is not a number", clip(&other.show())).into()),
    };
    Ok((value, p.at))
}

//! The arguments of a macro call.

use super::error::{ExprError, Res};
use super::evaluate::Evaluator;
use super::interpolate::braces_end;
use super::parse::Parser;
use super::scope::{Env, Scope};
use super::tree::Expr;
use super::value::{Value, constant};
use crate::lex::string_end;
use crate::limits;

impl Evaluator {
    /// The arguments of a macro call, from behind its opening parenthesis. A name without a value means itself:
    /// `BELL(q0, q1)` passes strings.
    pub(crate) fn args(&mut self, text: &str, scope: &Scope) -> Res<Vec<Value>> {
        let text = self.interpolate_args(text, scope)?;
        let tokens = self.tokens(&text)?;
        let mut p = Parser::new(&tokens);
        let list = p.list(")")?;
        p.end(&text)?;
        list.iter().map(|e| self.arg(e, &Env::Top(scope))).collect()
    }

    fn arg(&mut self, e: &Expr, env: &Env<'_>) -> Res<Value> {
        match e {
            Expr::Name(n) if env.get(n).is_none() && constant(n).is_none() => Ok(Value::Str(n.clone())),
            Expr::List(items) => {
                let items = items.iter().map(|i| self.arg(i, env)).collect::<Res<_>>()?;
                self.budget.checked(Value::List(items))
            }
            e => self.run_owned(e, env),
        }
    }

    /// As `interpolate` for the arguments of a call, where `{list}` stays a list and f-strings are left alone.
    fn interpolate_args(&mut self, text: &str, scope: &Scope) -> Res<String> {
        self.step(text.len() / 16)?;
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(i) = rest.find(['{', '"', '\'']) {
            out.push_str(&rest[..i]);
            let tail = &rest[i..];
            let end = if tail.starts_with('{') {
                let end = braces_end(tail).ok_or("a { is not closed")?;
                let value = self.eval(&tail[1..end], scope)?;
                let alone = matches!(out.trim_end().chars().next_back(), None | Some(',' | '[' | '('))
                    && matches!(tail[end + 1..].trim_start().chars().next(), Some(',' | ']' | ')'));
                out.push_str(&if alone { value.literal() } else { value.show() });
                end + 1
            } else {
                let end = string_end(tail).ok_or("a string is not closed")?;
                let formatted = out.ends_with('f');
                out.push_str(&if formatted { tail[..end].into() } else { self.interpolate(&tail[..end], scope)? });
                end
            };
            if out.len() > limits::STRING {
                return Err(ExprError::limit("a line is too long"));
            }
            rest = &tail[end..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

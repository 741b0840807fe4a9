//! Evaluation: the value of a text or of a tree.

use super::budget::Budget;
use super::error::{ExprError, Res, too_deep};
use super::functions::{call, method};
use super::interpolate::interpolate;
use super::operators::{binary, unary};
use super::parse::Parser;
use super::scope::{Env, Scope};
use super::tree::Expr;
use super::value::{Value, constant, unpack};
use crate::lex::{Token, clip, lex};
use crate::limits;
use std::borrow::Cow;

/// Evaluates expressions within a budget.
#[derive(Debug)]
pub(crate) struct Evaluator {
    pub(super) budget: Budget,
    /// Depth of the recursion over trees, f-strings included.
    depth: usize,
}

impl Evaluator {
    pub(crate) fn new(steps: usize) -> Self {
        Evaluator { budget: Budget::new(steps), depth: 0 }
    }

    /// Takes `n` steps from the budget.
    pub(crate) fn step(&mut self, n: usize) -> Res<()> {
        self.budget.step(n)
    }

    pub(crate) fn eval(&mut self, text: &str, scope: &Scope) -> Res<Value> {
        self.eval_in(text, &Env::Top(scope))
    }

    /// The values of `first..last`, both included, or of a list.
    pub(crate) fn range(&mut self, text: &str, scope: &Scope) -> Res<Vec<Value>> {
        let tokens = self.tokens(text)?;
        let mut p = Parser::new(&tokens);
        let e = p.expr()?;
        let e = p.range_from(e, Parser::expr)?;
        p.end(text)?;
        let value = self.run(&e, &Env::Top(scope))?;
        self.budget.list(value)
    }

    /// Replaces `{expr}` by values; `{{` and `}}` stand for braces.
    pub(crate) fn interpolate(&mut self, line: &str, scope: &Scope) -> Res<String> {
        self.interpolate_in(line, &Env::Top(scope))
    }

    fn interpolate_in(&mut self, line: &str, env: &Env<'_>) -> Res<String> {
        self.step(line.len() / 16)?;
        interpolate(line, |text| self.eval_in(text, env))
    }

    pub(super) fn tokens(&mut self, text: &str) -> Res<Vec<Token>> {
        self.step(1 + text.len() / 16)?;
        Ok(lex(text)?)
    }

    fn eval_in(&mut self, text: &str, env: &Env<'_>) -> Res<Value> {
        let tokens = self.tokens(text)?;
        let mut p = Parser::new(&tokens);
        let e = p.expr()?;
        p.end(text)?;
        self.run_owned(&e, env)
    }

    /// The value of a tree; literals and variables are borrowed, so that reading them copies nothing.
    fn run<'v>(&mut self, e: &'v Expr, env: &Env<'v>) -> Res<Cow<'v, Value>> {
        self.step(1)?;
        if self.depth > 4 * limits::DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        let r = match e {
            Expr::Value(v) => Ok(Cow::Borrowed(v)),
            Expr::Name(n) => match (env.get(n), constant(n)) {
                (Some(v), _) => Ok(Cow::Borrowed(v)),
                (_, Some(v)) => Ok(Cow::Owned(v)),
                _ => {
                    let wrong = ExprError::from(format!("{n} is not defined; define it with .set or .param"));
                    Err(ExprError { undefined: Some(n.clone()), ..wrong })
                }
            },
            e => self.compute(e, env).map(Cow::Owned),
        };
        self.depth -= 1;
        r
    }

    pub(super) fn run_owned(&mut self, e: &Expr, env: &Env<'_>) -> Res<Value> {
        let v = self.run(e, env)?;
        self.budget.own(v)
    }

    fn run_all<'v>(&mut self, all: &'v [Expr], env: &Env<'v>) -> Res<Vec<Cow<'v, Value>>> {
        all.iter().map(|e| self.run(e, env)).collect()
    }

    fn compute(&mut self, e: &Expr, env: &Env<'_>) -> Res<Value> {
        match e {
            Expr::Value(_) | Expr::Name(_) => self.run_owned(e, env),
            Expr::FString(s) => self.interpolate_in(s, env).map(Value::Str),
            Expr::List(items) => {
                let items = items.iter().map(|i| self.run_owned(i, env)).collect::<Res<_>>()?;
                self.budget.checked(Value::List(items))
            }
            Expr::Range(a, b) => {
                let (a, b) = (self.range_bound(a, env)?, self.range_bound(b, env)?);
                self.budget.count(a, b as i128 + 1, 1)
            }
            Expr::Comprehension(item, names, source, filter) => {
                let source = self.run(source, env)?;
                let source = self.budget.list(source)?;
                let mut out = Vec::new();
                for v in source {
                    let bound = unpack(names, v)?;
                    out.extend(self.comprehend(item, filter.as_deref(), &bound, env)?);
                }
                self.budget.checked(Value::List(out))
            }
            Expr::Unary(op, e) => unary(op, &*self.run(e, env)?),
            Expr::Binary(op @ ("and" | "or"), a, b) => {
                let a = self.run(a, env)?;
                if a.truthy() == (*op == "or") { self.budget.own(a) } else { self.run_owned(b, env) }
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.run(a, env)?, self.run(b, env)?);
                self.step(a.weight() + b.weight())?;
                binary(op, a.into_owned(), b.into_owned())
            }
            Expr::If(a, c, b) => {
                let taken = if self.run(c, env)?.truthy() { a } else { b };
                self.run_owned(taken, env)
            }
            Expr::Index(e, i) => self.index(e, i, env),
            Expr::Slice(e, a, b) => self.slice(e, [a.as_deref(), b.as_deref()], env),
            Expr::Call(name, args) => {
                let args = self.run_all(args, env)?;
                let args: Vec<&Value> = args.iter().map(|a| &**a).collect();
                call(&mut self.budget, name, &args)
            }
            Expr::Method(target, name, args) => {
                let target = self.run(target, env)?;
                let args = self.run_all(args, env)?;
                let args: Vec<&Value> = args.iter().map(|a| &**a).collect();
                method(&mut self.budget, &target, name, &args)
            }
        }
    }

    /// A bound of `a..b`. One such as `n/2 - 1` may be a fraction, which is rounded down.
    fn range_bound(&mut self, e: &Expr, env: &Env<'_>) -> Res<i64> {
        match &*self.run(e, env)? {
            Value::Float(f) if f.abs() < 1e15 => Ok(f.floor() as i64),
            v => v.int(),
        }
    }

    /// `e[i]`; an index below 0 counts from the end.
    fn index(&mut self, e: &Expr, i: &Expr, env: &Env<'_>) -> Res<Value> {
        let i = self.run(i, env)?.int()?;
        let v = self.run(e, env)?;
        let length = match &*v {
            Value::List(l) => l.len(),
            Value::Str(s) => {
                self.step(s.len() / 16)?;
                s.chars().count()
            }
            other => return Err(format!("{} is not a list", clip(&other.show())).into()),
        };
        let at = usize::try_from(if i < 0 { i + length as i64 } else { i }).ok().filter(|at| *at < length);
        let at = at.ok_or_else(|| format!("index {i} is outside a list of {length}"))?;
        match &*v {
            Value::List(l) => self.budget.own(Cow::Borrowed(&l[at])),
            v => Ok(Value::Str(v.show().chars().skip(at).take(1).collect())),
        }
    }

    /// `e[from:to]`; bounds below 0 count from the end, and those outside are cut to it.
    fn slice(&mut self, e: &Expr, [from, to]: [Option<&Expr>; 2], env: &Env<'_>) -> Res<Value> {
        let v = self.run(e, env)?;
        let is_string = matches!(*v, Value::Str(_));
        let l = self.budget.list(v)?;
        let n = l.len() as i64;
        let mut bound = |e: Option<&Expr>, default: i64| -> Res<usize> {
            let i = e.map_or(Ok(default), |e| self.run(e, env)?.int())?;
            Ok(if i < 0 { i.saturating_add(n) } else { i }.clamp(0, n) as usize)
        };
        let (from, to) = (bound(from, 0)?, bound(to, n)?);
        let part = l[from..to.max(from)].to_vec();
        Ok(if is_string { Value::Str(part.iter().map(Value::show).collect()) } else { Value::List(part) })
    }

    /// The item of a comprehension for one element, unless the filter drops it.
    fn comprehend(
        &mut self,
        item: &Expr,
        filter: Option<&Expr>,
        bound: &[(String, Value)],
        env: &Env<'_>,
    ) -> Res<Option<Value>> {
        let Some(((name, value), rest)) = bound.split_first() else {
            let kept = match filter {
                Some(f) => self.run(f, env)?.truthy(),
                None => true,
            };
            return if kept { self.run_owned(item, env).map(Some) } else { Ok(None) };
        };
        self.comprehend(item, filter, rest, &Env::Bound(name, value, env))
    }
}

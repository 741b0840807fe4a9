//! Trees to values.

use super::error::{Res, Wrong, too_deep};
use super::operators::binary;
use super::parse::Parser;
use super::scope::{Env, Scope};
use super::tree::Expr;
use super::value::{Value, constant, unpack};
use crate::lex::{Token, clip, lex};
use crate::limits;
use std::borrow::Cow;

/// Evaluates expressions, counting steps so that no input runs for ever.
#[derive(Debug)]
pub(crate) struct Evaluator {
    steps: usize,
    depth: usize,
}

impl Evaluator {
    pub(crate) fn new(steps: usize) -> Self {
        Evaluator { steps, depth: 0 }
    }

    /// Counts work; all loops and copies of the macro language go through it.
    pub(crate) fn step(&mut self, n: usize) -> Res<()> {
        let left = self.steps.checked_sub(n);
        self.steps = left.unwrap_or(0);
        left.map(|_| ()).ok_or_else(|| Wrong::limit("the program takes too much work to expand; make loops smaller"))
    }

    pub(crate) fn eval(&mut self, text: &str, scope: &Scope) -> Res<Value> {
        let tokens = self.tokens(text)?;
        self.eval_in(&tokens, text, &Env::Top(scope))
    }

    /// The values of `first..last`, both included, or of a list.
    pub(crate) fn range(&mut self, text: &str, scope: &Scope) -> Res<Vec<Value>> {
        let tokens = self.tokens(text)?;
        let mut p = Parser::new(&tokens);
        let e = p.expr()?;
        let e = p.range_from(e, Parser::expr)?;
        p.end(text)?;
        let value = self.run(&e, &Env::Top(scope))?;
        self.list(value)
    }

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
                self.checked(Value::List(items))
            }
            e => {
                let v = self.run(e, env)?;
                self.own(v)
            }
        }
    }

    pub(super) fn tokens(&mut self, text: &str) -> Res<Vec<Token>> {
        self.step(1 + text.len() / 16)?;
        Ok(lex(text)?)
    }

    pub(super) fn eval_in(&mut self, tokens: &[Token], text: &str, env: &Env<'_>) -> Res<Value> {
        let mut p = Parser::new(tokens);
        let e = p.expr()?;
        p.end(text)?;
        let v = self.run(&e, env)?;
        self.own(v)
    }

    /// A copy, paid for: twice, as it takes memory besides time.
    fn own(&mut self, v: Cow<'_, Value>) -> Res<Value> {
        if let Cow::Borrowed(v) = v {
            self.step(2 * v.weight())?;
        }
        Ok(v.into_owned())
    }

    /// A list or the characters of a string.
    fn list(&mut self, v: Cow<'_, Value>) -> Res<Vec<Value>> {
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

    /// Refuses lists that nest too deep to walk.
    pub(super) fn checked(&mut self, v: Value) -> Res<Value> {
        if let Value::List(l) = &v {
            self.step(l.len())?;
        }
        if v.nesting() > limits::DEPTH { Err(Wrong::limit("lists are nested too deeply")) } else { Ok(v) }
    }

    fn run<'v>(&mut self, e: &'v Expr, env: &Env<'v>) -> Res<Cow<'v, Value>> {
        self.step(1)?;
        if self.depth > 4 * limits::DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        let r = match e {
            // What is only read is not copied.
            Expr::Value(v) => Ok(Cow::Borrowed(v)),
            Expr::Name(n) => match (env.get(n), constant(n)) {
                (Some(v), _) => Ok(Cow::Borrowed(v)),
                (_, Some(v)) => Ok(Cow::Owned(v)),
                _ => {
                    let wrong = Wrong::from(format!("{n} is not defined; define it with .set or .param"));
                    Err(Wrong { undefined: Some(n.clone()), ..wrong })
                }
            },
            e => self.compute(e, env).map(Cow::Owned),
        };
        self.depth -= 1;
        r
    }

    pub(super) fn run_owned(&mut self, e: &Expr, env: &Env<'_>) -> Res<Value> {
        let v = self.run(e, env)?;
        self.own(v)
    }

    fn compute(&mut self, e: &Expr, env: &Env<'_>) -> Res<Value> {
        match e {
            Expr::Value(_) | Expr::Name(_) => self.run_owned(e, env),
            Expr::FString(s) => self.interpolate_in(s, env).map(Value::Str),
            Expr::List(items) => {
                let items = items.iter().map(|i| self.run_owned(i, env)).collect::<Res<_>>()?;
                self.checked(Value::List(items))
            }
            Expr::Range(a, b) => {
                // A bound such as n/2 - 1 may be a fraction.
                let mut bound = |e| match &*self.run(e, env)? {
                    Value::Float(f) if f.abs() < 1e15 => Ok(f.floor() as i64),
                    v => v.int(),
                };
                let (a, b) = (bound(a)?, bound(b)?);
                self.count(a, b as i128 + 1, 1)
            }
            Expr::Comprehension(item, names, source, filter) => {
                let source = self.run(source, env)?;
                let source = self.list(source)?;
                let mut out = Vec::new();
                for v in source {
                    let bound = unpack(names, v)?;
                    out.extend(self.comprehend(item, filter.as_deref(), &bound, env)?);
                }
                self.checked(Value::List(out))
            }
            Expr::Unary(op, e) => {
                let v = self.run(e, env)?;
                match (*op, &*v) {
                    ("not", v) => Ok(Value::Bool(!v.truthy())),
                    (_, Value::Float(f)) => Ok(Value::Float(-f)),
                    (_, v) => Ok(v.int()?.checked_neg().map(Value::Int).ok_or("overflow")?),
                }
            }
            Expr::Binary(op @ ("and" | "or"), a, b) => {
                let a = self.run(a, env)?;
                if a.truthy() == (*op == "or") { self.own(a) } else { self.run_owned(b, env) }
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
            Expr::Index(e, i) => {
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
                    Value::List(l) => self.own(Cow::Borrowed(&l[at])),
                    v => Ok(Value::Str(v.show().chars().skip(at).take(1).collect())),
                }
            }
            Expr::Slice(e, a, b) => {
                let v = self.run(e, env)?;
                let is_string = matches!(*v, Value::Str(_));
                let l = self.list(v)?;
                let n = l.len() as i64;
                let mut bound = |e: &Option<Box<Expr>>, default: i64| -> Res<usize> {
                    let i = e.as_ref().map_or(Ok(default), |e| self.run(e, env)?.int())?;
                    Ok(if i < 0 { i.saturating_add(n) } else { i }.clamp(0, n) as usize)
                };
                let (a, b) = (bound(a, 0)?, bound(b, n)?);
                let part = l[a..b.max(a)].to_vec();
                Ok(if is_string { Value::Str(part.iter().map(Value::show).collect()) } else { Value::List(part) })
            }
            Expr::Call(name, args) => {
                let args = args.iter().map(|a| self.run(a, env)).collect::<Res<Vec<_>>>()?;
                let args: Vec<&Value> = args.iter().map(|a| &**a).collect();
                self.call(name, &args)
            }
            Expr::Method(target, name, args) => {
                let target = self.run(target, env)?;
                let args = args.iter().map(|a| self.run(a, env)).collect::<Res<Vec<_>>>()?;
                let args: Vec<&Value> = args.iter().map(|a| &**a).collect();
                match (&*target, name.as_str(), args.as_slice()) {
                    (Value::Str(sep), "join", [list @ Value::List(l)]) => {
                        self.step(list.weight() + l.len() * (sep.len() / 16))?;
                        let parts: Vec<String> = l.iter().map(Value::show).collect();
                        if parts.iter().map(|p| p.len() + sep.len()).sum::<usize>() > limits::STRING {
                            return Err(Wrong::limit("a joined string is too long"));
                        }
                        Ok(Value::Str(parts.join(sep)))
                    }
                    _ => Err(format!("there is no such method as {name}; known: string.join(list)").into()),
                }
            }
        }
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

//! The expression language of `{...}`, `.set`, `.for` and `.if`.

use crate::lex::{Token, clip, describe, lex, string_end};
use crate::limits;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What is wrong with an expression.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// `E-PARSE`, or `E-LIMIT` for what asks for too much.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The name that has no value, if that is it.
    pub(crate) undefined: Option<String>,
}

impl Wrong {
    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Wrong { code: "E-LIMIT", message: message.into(), undefined: None }
    }
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Wrong { code: "E-PARSE", message, undefined: None }
    }
}

impl From<&str> for Wrong {
    fn from(message: &str) -> Self {
        message.to_string().into()
    }
}

type Res<T> = Result<T, Wrong>;

fn too_deep() -> Wrong {
    Wrong::limit("an expression is nested too deeply; name parts of it with .set")
}

/// A value of the macro language.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(String),
    List(Vec<Value>),
}

impl Value {
    pub(crate) fn truthy(&self) -> bool {
        match self {
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Bool(b) => *b,
            Value::Str(s) => !s.is_empty(),
            Value::List(l) => !l.is_empty(),
        }
    }

    /// Text that stands for the value in a line.
    pub(crate) fn show(&self) -> String {
        match self {
            Value::Int(i) => i.to_string(),
            Value::Float(f) => format!("{f:?}"),
            Value::Bool(b) => b.to_string(),
            Value::Str(s) => s.clone(),
            Value::List(l) => l.iter().map(Value::show).collect::<Vec<_>>().join(", "),
        }
    }

    /// An expression that gives the value back.
    fn literal(&self) -> String {
        match self {
            Value::Str(s) => serde_json::Value::from(s.as_str()).to_string(),
            Value::List(l) => format!("[{}]", l.iter().map(Value::literal).collect::<Vec<_>>().join(", ")),
            other => other.show(),
        }
    }

    fn number(&self) -> Res<f64> {
        match self {
            Value::Int(i) => Ok(*i as f64),
            Value::Float(f) => Ok(*f),
            Value::Bool(b) => Ok(*b as u8 as f64),
            other => Err(format!("{} is not a number", clip(&other.show())).into()),
        }
    }

    fn int(&self) -> Res<i64> {
        match self {
            Value::Int(i) => Ok(*i),
            Value::Bool(b) => Ok(*b as i64),
            other => Err(format!("{} is not a whole number", clip(&other.show())).into()),
        }
    }

    /// Steps that copying the value costs.
    fn weight(&self) -> usize {
        match self {
            Value::Str(s) => 1 + s.len() / 16,
            Value::List(l) => l.iter().fold(1, |w, v| w + v.weight()),
            _ => 1,
        }
    }

    fn nesting(&self) -> usize {
        match self {
            Value::List(l) => 1 + l.iter().map(Value::nesting).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// Variables in scope.
pub(crate) type Scope = BTreeMap<String, Value>;

/// What a name means: the variables, and those that comprehensions bind on top of them.
enum Env<'a> {
    Top(&'a Scope),
    Bound(&'a str, &'a Value, &'a Env<'a>),
}

impl<'a> Env<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        match self {
            Env::Top(scope) => scope.get(name),
            Env::Bound(n, v, _) if *n == name => Some(v),
            Env::Bound(_, _, outer) => outer.get(name),
        }
    }
}

#[derive(Clone, Debug)]
enum Expr {
    Value(Value),
    Name(String),
    FString(String),
    List(Vec<Expr>),
    Range(Box<Expr>, Box<Expr>),
    Comprehension(Box<Expr>, Vec<String>, Box<Expr>, Option<Box<Expr>>),
    Unary(&'static str, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Index(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    Call(String, Vec<Expr>),
    Method(Box<Expr>, String, Vec<Expr>),
}

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

    /// Replaces `{expr}` by values; `{{` and `}}` stand for braces.
    pub(crate) fn interpolate(&mut self, line: &str, scope: &Scope) -> Res<String> {
        self.interpolate_in(line, &Env::Top(scope))
    }

    fn interpolate_in(&mut self, line: &str, env: &Env<'_>) -> Res<String> {
        self.step(line.len() / 16)?;
        if !line.contains(['{', '}']) {
            return Ok(line.into());
        }
        let mut out = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(i) = rest.find(['{', '}']) {
            out.push_str(&rest[..i]);
            let tail = &rest[i..];
            if tail.starts_with("{{") || tail.starts_with("}}") {
                out.push_str(&tail[..1]);
                rest = &tail[2..];
                continue;
            }
            if tail.starts_with('}') {
                return Err("a } stands alone; write }} for a brace".into());
            }
            let end = braces_end(tail).ok_or("a { is not closed; write {{ for a brace")?;
            out.push_str(&self.braces(&tail[1..end], env)?.show());
            if out.len() > limits::STRING {
                return Err(Wrong::limit("a line is too long"));
            }
            rest = &tail[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// As `interpolate` for the arguments of a call, where `{list}` stays a list and f-strings are left alone.
    fn interpolate_args(&mut self, text: &str, scope: &Scope) -> Res<String> {
        self.step(text.len() / 16)?;
        let env = Env::Top(scope);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(i) = rest.find(['{', '"', '\'']) {
            out.push_str(&rest[..i]);
            let tail = &rest[i..];
            let end = if tail.starts_with('{') {
                let end = braces_end(tail).ok_or("a { is not closed")?;
                let value = self.braces(&tail[1..end], &env)?;
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
                return Err(Wrong::limit("a line is too long"));
            }
            rest = &tail[end..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn braces(&mut self, text: &str, env: &Env<'_>) -> Res<Value> {
        let tokens = self.tokens(text)?;
        self.eval_in(&tokens, text, env)
    }

    fn tokens(&mut self, text: &str) -> Res<Vec<Token>> {
        self.step(1 + text.len() / 16)?;
        Ok(lex(text)?)
    }

    fn eval_in(&mut self, tokens: &[Token], text: &str, env: &Env<'_>) -> Res<Value> {
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
    fn checked(&mut self, v: Value) -> Res<Value> {
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

    fn run_owned(&mut self, e: &Expr, env: &Env<'_>) -> Res<Value> {
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

    /// Whole numbers from `start` up or down to `stop`, which is left out.
    fn count(&mut self, start: i64, stop: i128, step: i64) -> Res<Value> {
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

    fn call(&mut self, name: &str, args: &[&Value]) -> Res<Value> {
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

/// Values every program may name.
fn constant(name: &str) -> Option<Value> {
    use std::f64::consts;
    Some(match name {
        "pi" => Value::Float(consts::PI),
        "tau" => Value::Float(consts::TAU),
        "True" | "true" => Value::Bool(true),
        "False" | "false" => Value::Bool(false),
        _ => return None,
    })
}

/// Names and the values a loop gives them: one name the whole, several the parts of a list.
pub(crate) fn unpack(names: &[String], value: Value) -> Res<Vec<(String, Value)>> {
    match (names, value) {
        ([name], value) => Ok(vec![(name.clone(), value)]),
        (names, Value::List(parts)) if parts.len() == names.len() => Ok(names.iter().cloned().zip(parts).collect()),
        (names, value) => Err(format!("cannot unpack {} into {}", clip(&value.show()), clip(&names.join(", "))).into()),
    }
}

/// Position of the brace that closes the one at the start, strings skipped.
fn braces_end(s: &str) -> Option<usize> {
    let mut i = 1;
    let mut depth = 1;
    while let Some(c) = s[i..].chars().next() {
        match c {
            '"' | '\'' => {
                i += string_end(&s[i..])?;
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
        i += c.len_utf8();
    }
    None
}

fn binary(op: &str, a: Value, b: Value) -> Res<Value> {
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
            (Str(_), Str(_)) | (List(_), List(_)) => return Err(Wrong::limit("a string or list is too long")),
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

/// Recursive descent over the tokens of an expression.
pub(crate) struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Depth of the recursion.
    depth: usize,
    /// Height of the tree returned last: a chain of operators makes a high tree without any recursion.
    height: usize,
}

const LEVELS: [&[&str]; 5] =
    [&["or"], &["and"], &["==", "!=", "<=", ">=", "<", ">", "in"], &["+", "-"], &["*", "//", "/", "%"]];
/// The level of sums.
const SUM: usize = 3;

impl<'a> Parser<'a> {
    fn new(tokens: &'a [Token]) -> Self {
        Parser { tokens, at: 0, depth: 0, height: 0 }
    }

    fn end(&self, text: &str) -> Res<()> {
        match self.tokens.get(self.at) {
            None => Ok(()),
            Some(t) => Err(format!("unexpected {} in expression {:?}", describe(t), clip(text)).into()),
        }
    }

    fn peek(&self, s: &str) -> bool {
        match self.tokens.get(self.at) {
            Some(Token::Sym(t)) => *t == s,
            Some(Token::Id(t)) => t == s,
            _ => false,
        }
    }

    fn take(&mut self, s: &str) -> bool {
        let hit = self.peek(s);
        self.at += hit as usize;
        hit
    }

    fn expect(&mut self, s: &str) -> Res<()> {
        if self.take(s) {
            return Ok(());
        }
        Err(format!("expected {s:?} before {}", self.tokens.get(self.at).map_or("the end".into(), describe)).into())
    }

    fn name(&mut self, after: &str) -> Res<String> {
        let Some(Token::Id(name)) = self.tokens.get(self.at) else {
            return Err(format!("expected a name after {after}").into());
        };
        self.at += 1;
        Ok(name.clone())
    }

    /// Counts the recursion into `f`.
    fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        self.depth += 1;
        if self.depth > limits::DEPTH {
            return Err(too_deep());
        }
        let r = f(self);
        self.depth -= 1;
        r
    }

    /// Sets the height of a new tree.
    fn grown(&mut self, height: usize) -> Res<()> {
        self.height = height;
        if height > 2 * limits::DEPTH { Err(too_deep()) } else { Ok(()) }
    }

    fn expr(&mut self) -> Res<Expr> {
        self.nested(|p| {
            let e = p.level(0)?;
            if !p.take("if") {
                return Ok(e);
            }
            let mut height = p.height;
            let c = p.level(0)?;
            height = height.max(p.height);
            p.expect("else")?;
            let other = p.expr()?;
            p.grown(height.max(p.height) + 1)?;
            Ok(Expr::If(Box::new(e), Box::new(c), Box::new(other)))
        })
    }

    /// `first..last`, or `first` alone.
    fn range_from(&mut self, first: Expr, next: impl FnOnce(&mut Self) -> Res<Expr>) -> Res<Expr> {
        if !self.take("..") {
            return Ok(first);
        }
        let height = self.height;
        let last = next(self)?;
        self.grown(height.max(self.height) + 1)?;
        Ok(Expr::Range(Box::new(first), Box::new(last)))
    }

    fn level(&mut self, level: usize) -> Res<Expr> {
        let Some(ops) = LEVELS.get(level) else { return self.unary() };
        if level == 2 && self.take("not") {
            let e = self.nested(|p| p.level(2))?;
            self.grown(self.height + 1)?;
            return Ok(Expr::Unary("not", Box::new(e)));
        }
        let mut e = self.level(level + 1)?;
        loop {
            let height = self.height;
            let op = match ops.iter().find(|op| self.peek(op)) {
                Some(op) => *op,
                None if level == 2 && self.peek("not") => "not in",
                None => return Ok(e),
            };
            self.at += 1;
            if op == "not in" {
                self.expect("in")?;
            }
            let right = self.level(level + 1)?;
            self.grown(height.max(self.height) + 1)?;
            e = Expr::Binary(op, Box::new(e), Box::new(right));
        }
    }

    fn unary(&mut self) -> Res<Expr> {
        if self.take("-") {
            let e = self.nested(Self::unary)?;
            self.grown(self.height + 1)?;
            return Ok(Expr::Unary("-", Box::new(e)));
        }
        let e = self.postfix()?;
        if !self.take("**") {
            return Ok(e);
        }
        let height = self.height;
        let power = self.nested(Self::unary)?;
        self.grown(height.max(self.height) + 1)?;
        Ok(Expr::Binary("**", Box::new(e), Box::new(power)))
    }

    fn postfix(&mut self) -> Res<Expr> {
        let mut e = self.atom()?;
        loop {
            let mut height = self.height;
            if self.take("[") {
                if self.peek("]") {
                    return Err("an index is empty".into());
                }
                let mut part = |p: &mut Self, close: &str| -> Res<Option<Box<Expr>>> {
                    if p.peek(close) {
                        return Ok(None);
                    }
                    let part = p.expr()?;
                    height = height.max(p.height);
                    Ok(Some(Box::new(part)))
                };
                let first = part(self, ":")?;
                e = if self.take(":") {
                    Expr::Slice(Box::new(e), first, part(self, "]")?)
                } else {
                    Expr::Index(Box::new(e), first.ok_or("an index ends too early")?)
                };
                self.expect("]")?;
            } else if self.take(".") {
                let name = self.name(".")?;
                let of_math = matches!(&e, Expr::Name(m) if m == "math");
                if of_math && !self.peek("(") {
                    let value = if name == "e" { Some(Value::Float(std::f64::consts::E)) } else { constant(&name) };
                    e = Expr::Value(value.ok_or_else(|| format!("there is no math.{name}"))?);
                    continue;
                }
                self.expect("(")?;
                let args = self.list(")")?;
                height = height.max(self.height);
                // math.sqrt(x) is sqrt(x).
                e = if of_math { Expr::Call(name, args) } else { Expr::Method(Box::new(e), name, args) };
            } else {
                return Ok(e);
            }
            self.grown(height + 1)?;
        }
    }

    /// Expressions up to a closing symbol, which is consumed.
    fn list(&mut self, close: &str) -> Res<Vec<Expr>> {
        let (mut out, mut height) = (Vec::new(), 0);
        while !self.take(close) {
            if !out.is_empty() {
                self.expect(",")?;
                if self.take(close) {
                    break;
                }
            }
            out.push(self.expr()?);
            height = height.max(self.height);
        }
        self.height = height;
        Ok(out)
    }

    fn atom(&mut self) -> Res<Expr> {
        let token = self.tokens.get(self.at).ok_or("an expression ends too early")?;
        self.at += 1;
        self.height = 1;
        Ok(match token {
            Token::Int(i) => Expr::Value(Value::Int(*i)),
            Token::Float(f) => Expr::Value(Value::Float(*f)),
            Token::Str(s) => Expr::Value(Value::Str(s.clone())),
            Token::FStr(s) => Expr::FString(s.clone()),
            Token::Id(name) if self.take("(") => {
                let args = self.list(")")?;
                self.grown(self.height + 1)?;
                Expr::Call(name.clone(), args)
            }
            Token::Id(name) => Expr::Name(name.clone()),
            Token::Sym("(") => {
                let e = self.expr()?;
                self.expect(")")?;
                e
            }
            Token::Sym("[") => {
                if self.take("]") {
                    return Ok(Expr::List(Vec::new()));
                }
                let first = self.expr()?;
                if self.take("for") {
                    return self.comprehension(first);
                }
                let (mut items, height) = (vec![first], self.height);
                if self.take(",") {
                    items.extend(self.list("]")?);
                } else {
                    self.expect("]")?;
                }
                self.grown(height.max(self.height) + 1)?;
                Expr::List(items)
            }
            other => return Err(format!("unexpected {}", describe(other)).into()),
        })
    }

    fn comprehension(&mut self, item: Expr) -> Res<Expr> {
        let mut height = self.height;
        let mut names = vec![self.name("for")?];
        while self.take(",") {
            names.push(self.name(",")?);
        }
        self.expect("in")?;
        // Not a whole expression: an `if` belongs to the comprehension.
        let source = self.level(0)?;
        let source = self.range_from(source, |p| p.level(0))?;
        height = height.max(self.height);
        let filter = if self.take("if") { Some(Box::new(self.level(0)?)) } else { None };
        self.expect("]")?;
        // Each name is a scope of its own.
        self.grown(height.max(self.height) + 1 + names.len())?;
        Ok(Expr::Comprehension(Box::new(item), names, Box::new(source), filter))
    }
}

/// The number that begins a list of tokens, which may be a sum or product of numbers, and how many tokens it takes.
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

//! The expression language of `{...}`, `.set`, `.for` and `.if`, and the lexer it shares with assembly lines.

use crate::limits;
use std::collections::BTreeMap;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Id(String),
    Int(i64),
    Float(f64),
    Str(String),
    FStr(String),
    Sym(&'static str),
}

const SYMBOLS: [&str; 34] = [
    "->", "==", "!=", "<=", ">=", "&&", "||", "**", "//", "..", "(", ")", "[", "]", "{", "}", ",", ":", "=", "+", "-",
    "*", "/", "%", "<", ">", ".", "!", "@", "#", "?", "|", "&", "^",
];

/// Splits a line into tokens.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let f_string = c == 'f' && matches!(rest[1..].chars().next(), Some('"' | '\''));
        if c == '"' || c == '\'' || f_string {
            let body = &rest[f_string as usize..];
            let end = string_end(body).ok_or("a string is not closed")?;
            let literal = unescape(&body[1..end - 1])?;
            out.push(if f_string { Token::FStr(literal) } else { Token::Str(literal) });
            rest = &body[end..];
        } else if c.is_ascii_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            out.push(Token::Id(rest[..end].into()));
            rest = &rest[end..];
        } else if c.is_ascii_digit() {
            let end = number_end(rest);
            let number = &rest[..end];
            out.push(if number.contains(['.', 'e', 'E']) {
                Token::Float(number.parse().map_err(|_| format!("{number:?} is not a number"))?)
            } else {
                Token::Int(number.parse().map_err(|_| format!("{number:?} does not fit 64 bits"))?)
            });
            rest = &rest[end..];
        } else {
            let symbol =
                SYMBOLS.iter().find(|s| rest.starts_with(**s)).ok_or_else(|| format!("unexpected character {c:?}"))?;
            out.push(Token::Sym(symbol));
            rest = &rest[symbol.len()..];
        }
        rest = rest.trim_start();
    }
    Ok(out)
}

/// Length of the string literal that starts `s`, quotes included.
pub(crate) fn string_end(s: &str) -> Option<usize> {
    let quote = s.chars().next()?;
    let mut escaped = false;
    for (i, c) in s.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(i + 1),
            _ => {}
        }
    }
    None
}

fn unescape(s: &str) -> Result<String, String> {
    if !s.contains('\\') {
        return Ok(s.into());
    }
    // JSON's escapes, and \' besides.
    let json = format!("\"{}\"", s.replace("\\'", "'").replace('\t', "\\t"));
    serde_json::from_str(&json)
        .or_else(|_| serde_json::from_str(&json.replace("\\\"", "\"").replace('"', "\\\"")))
        .map_err(|_: serde_json::Error| format!("bad escape in string {s:?}"))
}

fn number_end(s: &str) -> usize {
    let b = s.as_bytes();
    let digits = |mut i: usize| {
        while i < b.len() && b[i].is_ascii_digit() {
            i += 1;
        }
        i
    };
    let mut i = digits(0);
    // `0..3` is a range, not `0.` and `.3`.
    if b.get(i) == Some(&b'.') && b.get(i + 1) != Some(&b'.') {
        i = digits(i + 1);
    }
    if matches!(b.get(i), Some(b'e' | b'E')) {
        let sign = matches!(b.get(i + 1), Some(b'+' | b'-')) as usize;
        let end = digits(i + 1 + sign);
        if end > i + 1 + sign {
            i = end;
        }
    }
    i
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

    fn number(&self) -> Result<f64, String> {
        match self {
            Value::Int(i) => Ok(*i as f64),
            Value::Float(f) => Ok(*f),
            Value::Bool(b) => Ok(*b as u8 as f64),
            other => Err(format!("{} is not a number", clip(&other.show()))),
        }
    }

    fn int(&self) -> Result<i64, String> {
        match self {
            Value::Int(i) => Ok(*i),
            Value::Bool(b) => Ok(*b as i64),
            other => Err(format!("{} is not a whole number", clip(&other.show()))),
        }
    }
}

fn clip(s: &str) -> String {
    s.chars().take(40).collect()
}

/// Variables in scope.
pub(crate) type Scope = BTreeMap<String, Value>;

#[derive(Clone, Debug)]
enum Expr {
    Value(Value),
    Name(String),
    FString(String),
    List(Vec<Expr>),
    Comprehension(Box<Expr>, String, Box<Expr>, Option<Box<Expr>>),
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

/// How an expression that names no variable is read.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Unknown {
    Error,
    /// As its own name: `BELL(q0, q1)` passes the strings.
    String,
}

impl Evaluator {
    pub(crate) fn new() -> Self {
        Evaluator { steps: 20_000_000, depth: 0 }
    }

    /// Counts work; all loops of the macro language go through it.
    pub(crate) fn step(&mut self, n: usize) -> Result<(), String> {
        self.steps = self.steps.checked_sub(n).ok_or("the expansion does too much work")?;
        Ok(())
    }

    pub(crate) fn eval(&mut self, text: &str, scope: &Scope, unknown: Unknown) -> Result<Value, String> {
        let tokens = lex(text)?;
        let mut p = Parser { tokens: &tokens, at: 0, depth: 0 };
        let e = p.expr()?;
        if p.at != tokens.len() {
            return Err(format!("unexpected {} in expression {:?}", describe(&tokens[p.at]), clip(text)));
        }
        self.run(&e, scope, unknown)
    }

    /// Evaluates the comma-separated arguments of a macro call.
    pub(crate) fn args(&mut self, tokens: &[Token], scope: &Scope) -> Result<Vec<Value>, String> {
        let mut p = Parser { tokens, at: 0, depth: 0 };
        let list = p.list(")")?;
        if p.at != tokens.len() {
            return Err("unexpected text after the macro call".into());
        }
        list.iter().map(|e| self.run(e, scope, Unknown::String)).collect()
    }

    /// Replaces `{expr}` by values; `{{` and `}}` stand for braces.
    pub(crate) fn interpolate(&mut self, line: &str, scope: &Scope) -> Result<String, String> {
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
            let value = self.eval(&tail[1..end], scope, Unknown::Error)?;
            out.push_str(&value.show());
            if out.len() > limits::STRING {
                return Err("a line is too long".into());
            }
            rest = &tail[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn run(&mut self, e: &Expr, scope: &Scope, unknown: Unknown) -> Result<Value, String> {
        self.step(1)?;
        if self.depth > 4 * limits::DEPTH {
            return Err("expression nested too deeply".into());
        }
        self.depth += 1;
        let r = self.run_inner(e, scope, unknown);
        self.depth -= 1;
        r
    }

    fn run_inner(&mut self, e: &Expr, scope: &Scope, unknown: Unknown) -> Result<Value, String> {
        let list = |v: Value| match v {
            Value::List(l) => Ok(l),
            Value::Str(s) => Ok(s.chars().map(|c| Value::Str(c.into())).collect()),
            other => Err(format!("{} is not a list", clip(&other.show()))),
        };
        match e {
            Expr::Value(v) => Ok(v.clone()),
            Expr::Name(n) => match scope.get(n) {
                Some(v) => {
                    if let Value::List(l) = v {
                        self.step(l.len())?;
                    }
                    Ok(v.clone())
                }
                None if n == "pi" => Ok(Value::Float(std::f64::consts::PI)),
                None if n == "True" || n == "true" => Ok(Value::Bool(true)),
                None if n == "False" || n == "false" => Ok(Value::Bool(false)),
                None if unknown == Unknown::String => Ok(Value::Str(n.clone())),
                None => Err(format!("{n} is not defined; define it with .set or .param")),
            },
            Expr::FString(s) => self.interpolate(s, scope).map(Value::Str),
            Expr::List(items) => {
                items.iter().map(|i| self.run(i, scope, unknown)).collect::<Result<_, _>>().map(Value::List)
            }
            Expr::Comprehension(item, name, source, filter) => {
                let source = list(self.run(source, scope, Unknown::Error)?)?;
                let mut inner = scope.clone();
                self.step(scope.len())?;
                let mut out = Vec::new();
                for v in source {
                    inner.insert(name.clone(), v);
                    if let Some(f) = filter
                        && !self.run(f, &inner, Unknown::Error)?.truthy()
                    {
                        continue;
                    }
                    out.push(self.run(item, &inner, Unknown::Error)?);
                }
                Ok(Value::List(out))
            }
            Expr::Unary(op, e) => {
                let v = self.run(e, scope, unknown)?;
                match (*op, v) {
                    ("not", v) => Ok(Value::Bool(!v.truthy())),
                    ("-", Value::Float(f)) => Ok(Value::Float(-f)),
                    ("-", v) => v.int()?.checked_neg().map(Value::Int).ok_or("overflow".into()),
                    (_, v) => Ok(v),
                }
            }
            Expr::Binary("and", a, b) => {
                let a = self.run(a, scope, unknown)?;
                if a.truthy() { self.run(b, scope, unknown) } else { Ok(a) }
            }
            Expr::Binary("or", a, b) => {
                let a = self.run(a, scope, unknown)?;
                if a.truthy() { Ok(a) } else { self.run(b, scope, unknown) }
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.run(a, scope, unknown)?, self.run(b, scope, unknown)?);
                let size = |v: &Value| match v {
                    Value::Str(s) => s.len() / 16,
                    Value::List(l) => l.len(),
                    _ => 0,
                };
                self.step(size(&a) + size(&b))?;
                binary(op, a, b)
            }
            Expr::If(a, c, b) => {
                let taken = if self.run(c, scope, unknown)?.truthy() { a } else { b };
                self.run(taken, scope, unknown)
            }
            Expr::Index(e, i) => {
                let l = list(self.run(e, scope, unknown)?)?;
                let i = self.run(i, scope, Unknown::Error)?.int()?;
                let at = if i < 0 { i + l.len() as i64 } else { i };
                usize::try_from(at)
                    .ok()
                    .and_then(|at| l.get(at).cloned())
                    .ok_or_else(|| format!("index {i} is outside a list of {}", l.len()))
            }
            Expr::Slice(e, a, b) => {
                let v = self.run(e, scope, unknown)?;
                let is_string = matches!(v, Value::Str(_));
                let l = list(v)?;
                let n = l.len() as i64;
                let mut bound = |e: &Option<Box<Expr>>, default: i64| -> Result<usize, String> {
                    let i = e.as_ref().map_or(Ok(default), |e| self.run(e, scope, Unknown::Error)?.int())?;
                    Ok(if i < 0 { i.saturating_add(n) } else { i }.clamp(0, n) as usize)
                };
                let (a, b) = (bound(a, 0)?, bound(b, n)?);
                let part = l[a..b.max(a)].to_vec();
                Ok(if is_string { Value::Str(part.iter().map(Value::show).collect()) } else { Value::List(part) })
            }
            Expr::Call(name, args) => {
                let args = args.iter().map(|a| self.run(a, scope, Unknown::Error)).collect::<Result<Vec<_>, _>>()?;
                self.call(name, args)
            }
            Expr::Method(target, name, args) => {
                let target = self.run(target, scope, Unknown::Error)?;
                let args = args.iter().map(|a| self.run(a, scope, Unknown::Error)).collect::<Result<Vec<_>, _>>()?;
                match (target, name.as_str(), args.as_slice()) {
                    (Value::Str(sep), "join", [Value::List(l)]) => {
                        let parts: Vec<String> = l.iter().map(Value::show).collect();
                        let size = parts.iter().map(|p| p.len() + sep.len()).sum::<usize>();
                        if size > limits::STRING {
                            return Err("a joined string is too long".into());
                        }
                        self.step(size / 16)?;
                        Ok(Value::Str(parts.join(&sep)))
                    }
                    _ => Err(format!("there is no such method as {name}; known: string.join(list)")),
                }
            }
        }
    }

    fn call(&mut self, name: &str, args: Vec<Value>) -> Result<Value, String> {
        let float = |f: fn(f64) -> f64| -> Result<Value, String> {
            let [v] = args.as_slice() else { return Err(format!("{name} takes one number")) };
            Ok(Value::Float(f(v.number()?)))
        };
        match (name, args.as_slice()) {
            ("len", [Value::List(l)]) => Ok(Value::Int(l.len() as i64)),
            ("len", [Value::Str(s)]) => Ok(Value::Int(s.chars().count() as i64)),
            ("range", a @ ([_] | [_, _] | [_, _, _])) => {
                let n = a.iter().map(Value::int).collect::<Result<Vec<_>, _>>()?;
                let (start, stop, step) = match n[..] {
                    [stop] => (0, stop, 1),
                    [start, stop] => (start, stop, 1),
                    _ => (n[0], n[1], n[2]),
                };
                if step == 0 {
                    return Err("range has step 0".into());
                }
                let mut out = Vec::new();
                let mut i = start as i128;
                while if step > 0 { i < stop as i128 } else { i > stop as i128 } {
                    self.step(1)?;
                    if out.len() >= limits::LIST {
                        return Err(format!("range is longer than {}", limits::LIST));
                    }
                    out.push(Value::Int(i as i64));
                    i += step as i128;
                }
                Ok(Value::List(out))
            }
            ("enumerate", [Value::List(l)]) => {
                self.step(l.len())?;
                Ok(Value::List(
                    l.iter().enumerate().map(|(i, v)| Value::List(vec![Value::Int(i as i64), v.clone()])).collect(),
                ))
            }
            ("min" | "max", a) if !a.is_empty() => {
                let items = if let [Value::List(l)] = a { l.as_slice() } else { a };
                let mut best = items.first().ok_or("min or max of nothing")?;
                for v in items {
                    let less = v.number()? < best.number()?;
                    if (name == "min") == less && v.number()? != best.number()? {
                        best = v;
                    }
                }
                Ok(best.clone())
            }
            ("abs", [Value::Float(f)]) => Ok(Value::Float(f.abs())),
            ("abs", [v]) => v.int()?.checked_abs().map(Value::Int).ok_or("overflow".into()),
            ("int", [Value::Str(s)]) => {
                s.trim().parse().map(Value::Int).map_err(|_| format!("{:?} is not a whole number", clip(s)))
            }
            ("int", [v]) => Ok(Value::Int(v.number()? as i64)),
            ("float", [Value::Str(s)]) => {
                s.trim().parse().map(Value::Float).map_err(|_| format!("{:?} is not a number", clip(s)))
            }
            ("float", [v]) => Ok(Value::Float(v.number()?)),
            ("str", [v]) => Ok(Value::Str(v.show())),
            ("sqrt", _) => float(f64::sqrt),
            ("sin", _) => float(f64::sin),
            ("cos", _) => float(f64::cos),
            ("acos", _) => float(f64::acos),
            ("asin", _) => float(f64::asin),
            ("atan", _) => float(f64::atan),
            ("log2", _) => float(f64::log2),
            _ => Err(format!("there is no function {name} of {} arguments", args.len())),
        }
    }
}

/// Position of the brace that closes the one at the start, strings skipped.
pub(crate) fn braces_end(s: &str) -> Option<usize> {
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

fn binary(op: &str, a: Value, b: Value) -> Result<Value, String> {
    use Value::*;
    let overflow = || "a whole number does not fit 64 bits".to_string();
    let zero = || "division by zero".to_string();
    let as_int = |v: &Value| matches!(v, Int(_) | Bool(_));
    let order = || -> Result<std::cmp::Ordering, String> {
        match (&a, &b) {
            (Str(a), Str(b)) => Ok(a.cmp(b)),
            _ => Ok(a.number()?.total_cmp(&b.number()?)),
        }
    };
    let equal = || match (&a, &b) {
        (Int(_) | Float(_) | Bool(_), Int(_) | Float(_) | Bool(_)) => a.number() == b.number(),
        _ => a == b,
    };
    Ok(match op {
        "==" => Bool(equal()),
        "!=" => Bool(!equal()),
        "<" => Bool(order()?.is_lt()),
        "<=" => Bool(order()?.is_le()),
        ">" => Bool(order()?.is_gt()),
        ">=" => Bool(order()?.is_ge()),
        "in" => match (&a, &b) {
            (Str(a), Str(b)) => Bool(b.contains(a.as_str())),
            (a, List(l)) => Bool(l.contains(a)),
            _ => return Err("in needs a list or a string".into()),
        },
        "+" => match (a, b) {
            (Str(a), Str(b)) if a.len() + b.len() <= limits::STRING => Str(a + &b),
            (List(mut a), List(b)) if a.len() + b.len() <= limits::LIST => {
                a.extend(b);
                List(a)
            }
            (Str(_), Str(_)) | (List(_), List(_)) => return Err("a string or list is too long".into()),
            (a, b) if as_int(&a) && as_int(&b) => Int(a.int()?.checked_add(b.int()?).ok_or_else(overflow)?),
            (a, b) => Float(a.number()? + b.number()?),
        },
        "-" | "*" | "//" | "%" | "**" if as_int(&a) && as_int(&b) => {
            let (x, y) = (a.int()?, b.int()?);
            match op {
                "-" => Int(x.checked_sub(y).ok_or_else(overflow)?),
                "*" => Int(x.checked_mul(y).ok_or_else(overflow)?),
                // Towards minus infinity, as the remainder has the divisor's sign.
                "//" | "%" if y == 0 => return Err(zero()),
                "//" => Int(i64::try_from((x as i128 - (x as i128 % y as i128 + y as i128) % y as i128) / y as i128)
                    .map_err(|_| overflow())?),
                "%" => Int(((x as i128 % y as i128 + y as i128) % y as i128) as i64),
                _ if y < 0 => Float((x as f64).powi(y.max(-10_000) as i32)),
                _ => Int(u32::try_from(y).ok().and_then(|y| x.checked_pow(y)).ok_or_else(overflow)?),
            }
        }
        "-" => Float(a.number()? - b.number()?),
        "*" => Float(a.number()? * b.number()?),
        "/" | "//" | "%" if b.number()? == 0.0 => return Err(zero()),
        "/" => Float(a.number()? / b.number()?),
        "//" => Float((a.number()? / b.number()?).floor()),
        "%" => Float(a.number()?.rem_euclid(b.number()?)),
        "**" => Float(a.number()?.powf(b.number()?)),
        _ => return Err(format!("unknown operator {op}")),
    })
}

pub(crate) fn describe(t: &Token) -> String {
    match t {
        Token::Id(s) => format!("{s:?}"),
        Token::Int(i) => i.to_string(),
        Token::Float(f) => f.to_string(),
        Token::Str(s) | Token::FStr(s) => format!("string {:?}", clip(s)),
        Token::Sym(s) => format!("{s:?}"),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

const LEVELS: [&[&str]; 5] =
    [&["or"], &["and"], &["==", "!=", "<=", ">=", "<", ">", "in"], &["+", "-"], &["*", "//", "/", "%"]];

impl Parser<'_> {
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

    fn expect(&mut self, s: &str) -> Result<(), String> {
        if self.take(s) {
            return Ok(());
        }
        Err(format!("expected {s:?} before {}", self.tokens.get(self.at).map_or("the end".into(), describe)))
    }

    fn expr(&mut self) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > limits::DEPTH {
            return Err("expression nested too deeply".into());
        }
        let e = self.level(0)?;
        let e = if self.take("if") {
            let c = self.level(0)?;
            self.expect("else")?;
            Expr::If(Box::new(e), Box::new(c), Box::new(self.expr()?))
        } else {
            e
        };
        self.depth -= 1;
        Ok(e)
    }

    fn level(&mut self, level: usize) -> Result<Expr, String> {
        let Some(ops) = LEVELS.get(level) else { return self.unary() };
        if level == 2 && self.take("not") {
            return Ok(Expr::Unary("not", Box::new(self.level(2)?)));
        }
        let mut e = self.level(level + 1)?;
        let mut terms = 0;
        while let Some(op) = ops.iter().find(|op| self.peek(op)) {
            self.at += 1;
            terms += 1;
            // Each term deepens the tree by one.
            if terms > limits::DEPTH {
                return Err("an expression has too many terms".into());
            }
            e = Expr::Binary(op, Box::new(e), Box::new(self.level(level + 1)?));
        }
        Ok(e)
    }

    fn unary(&mut self) -> Result<Expr, String> {
        if self.take("-") {
            self.depth += 1;
            if self.depth > limits::DEPTH {
                return Err("expression nested too deeply".into());
            }
            let e = self.unary()?;
            self.depth -= 1;
            return Ok(Expr::Unary("-", Box::new(e)));
        }
        let e = self.postfix()?;
        if self.take("**") {
            self.depth += 1;
            if self.depth > limits::DEPTH {
                return Err("expression nested too deeply".into());
            }
            let power = self.unary()?;
            self.depth -= 1;
            return Ok(Expr::Binary("**", Box::new(e), Box::new(power)));
        }
        Ok(e)
    }

    fn postfix(&mut self) -> Result<Expr, String> {
        let mut e = self.atom()?;
        let mut links = 0;
        loop {
            links += 1;
            if links > limits::DEPTH {
                return Err("expression nested too deeply".into());
            }
            if self.take("[") {
                let first = if self.peek(":") { None } else { Some(Box::new(self.expr()?)) };
                if self.take(":") {
                    let last = if self.peek("]") { None } else { Some(Box::new(self.expr()?)) };
                    e = Expr::Slice(Box::new(e), first, last);
                } else {
                    e = Expr::Index(Box::new(e), first.ok_or("an index is empty")?);
                }
                self.expect("]")?;
            } else if self.peek(".") {
                self.at += 1;
                let Some(Token::Id(name)) = self.tokens.get(self.at).cloned() else {
                    return Err("expected a name after .".into());
                };
                self.at += 1;
                self.expect("(")?;
                let args = self.list(")")?;
                // math.sqrt(x) is sqrt(x).
                e = match e {
                    Expr::Name(m) if m == "math" => Expr::Call(name, args),
                    e => Expr::Method(Box::new(e), name, args),
                };
            } else {
                return Ok(e);
            }
        }
    }

    /// Expressions up to a closing symbol, which is consumed.
    fn list(&mut self, close: &str) -> Result<Vec<Expr>, String> {
        let mut out = Vec::new();
        if self.take(close) {
            return Ok(out);
        }
        loop {
            out.push(self.expr()?);
            if self.take(close) {
                return Ok(out);
            }
            self.expect(",")?;
            if self.take(close) {
                return Ok(out);
            }
        }
    }

    fn atom(&mut self) -> Result<Expr, String> {
        let token = self.tokens.get(self.at).cloned().ok_or("an expression ends too early")?;
        self.at += 1;
        match token {
            Token::Int(i) => Ok(Expr::Value(Value::Int(i))),
            Token::Float(f) => Ok(Expr::Value(Value::Float(f))),
            Token::Str(s) => Ok(Expr::Value(Value::Str(s))),
            Token::FStr(s) => Ok(Expr::FString(s)),
            Token::Id(name) if self.take("(") => Ok(Expr::Call(name, self.list(")")?)),
            Token::Id(name) => Ok(Expr::Name(name)),
            Token::Sym("(") => {
                let e = self.expr()?;
                self.expect(")")?;
                Ok(e)
            }
            Token::Sym("[") => {
                if self.take("]") {
                    return Ok(Expr::List(Vec::new()));
                }
                let first = self.expr()?;
                if self.take("for") {
                    let Some(Token::Id(name)) = self.tokens.get(self.at).cloned() else {
                        return Err("expected a name after for".into());
                    };
                    self.at += 1;
                    self.expect("in")?;
                    let source = self.level(0)?;
                    let filter = if self.take("if") { Some(Box::new(self.level(0)?)) } else { None };
                    self.expect("]")?;
                    return Ok(Expr::Comprehension(Box::new(first), name, Box::new(source), filter));
                }
                let mut items = vec![first];
                if self.take(",") {
                    items.extend(self.list("]")?);
                } else {
                    self.expect("]")?;
                }
                Ok(Expr::List(items))
            }
            other => Err(format!("unexpected {}", describe(&other))),
        }
    }
}

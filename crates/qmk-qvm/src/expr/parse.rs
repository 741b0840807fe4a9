//! The parser of expressions: tokens to a tree, by recursive descent. Both the recursion and the height of the tree are
//! bounded, because evaluation recurses over the tree.

use super::error::{Res, too_deep};
use super::tree::Expr;
use super::value::{Value, constant};
use crate::lex::{Token, clip, describe};
use crate::limits;

/// Recursive descent over the tokens of an expression.
pub(crate) struct Parser<'a> {
    tokens: &'a [Token],
    pub(super) at: usize,
    /// Depth of the recursion now.
    depth: usize,
    /// Height of the tree returned last. A chain of operators makes a high tree without any recursion.
    height: usize,
}

/// Binary operators by precedence, weakest first; all associate to the left.
const LEVELS: [&[&str]; 5] =
    [&["or"], &["and"], &["==", "!=", "<=", ">=", "<", ">", "in"], &["+", "-"], &["*", "//", "/", "%"]];
/// The level of sums in [`LEVELS`].
pub(super) const SUM: usize = 3;

impl<'a> Parser<'a> {
    pub(super) fn new(tokens: &'a [Token]) -> Self {
        Parser { tokens, at: 0, depth: 0, height: 0 }
    }

    pub(super) fn end(&self, text: &str) -> Res<()> {
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

    /// Calls `f` one level deeper.
    fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        self.depth += 1;
        if self.depth > limits::DEPTH {
            return Err(too_deep());
        }
        let r = f(self);
        self.depth -= 1;
        r
    }

    /// Sets the height of a new tree, if it is allowed.
    fn grown(&mut self, height: usize) -> Res<()> {
        self.height = height;
        if height > 2 * limits::DEPTH { Err(too_deep()) } else { Ok(()) }
    }

    pub(super) fn expr(&mut self) -> Res<Expr> {
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
    pub(super) fn range_from(&mut self, first: Expr, next: impl FnOnce(&mut Self) -> Res<Expr>) -> Res<Expr> {
        if !self.take("..") {
            return Ok(first);
        }
        let height = self.height;
        let last = next(self)?;
        self.grown(height.max(self.height) + 1)?;
        Ok(Expr::Range(Box::new(first), Box::new(last)))
    }

    pub(super) fn level(&mut self, level: usize) -> Res<Expr> {
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

    /// Expressions up to a closing symbol, and that symbol.
    pub(super) fn list(&mut self, close: &str) -> Res<Vec<Expr>> {
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
        // An `if` here is the filter of the comprehension, not part of the source.
        let source = self.level(0)?;
        let source = self.range_from(source, |p| p.level(0))?;
        height = height.max(self.height);
        let filter = if self.take("if") { Some(Box::new(self.level(0)?)) } else { None };
        self.expect("]")?;
        // Evaluation recurses once for each name that it binds.
        self.grown(height.max(self.height) + 1 + names.len())?;
        Ok(Expr::Comprehension(Box::new(item), names, Box::new(source), filter))
    }
}

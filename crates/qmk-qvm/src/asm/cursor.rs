//! A cursor over the tokens of a line: operands, values and guards, by recursive descent.

use crate::expr::number;
use crate::graph::{Guard, Node};
use crate::lex::{Token, clip, describe};
use crate::limits::{self, nests_too_deep};
use crate::opcode::Kind;
use serde_json::Value;

pub(super) type LineError = (&'static str, String);

pub(super) fn parse_error<T>(message: impl Into<String>) -> Result<T, LineError> {
    Err(("E-PARSE", message.into()))
}

pub(super) struct Cursor<'a> {
    pub(super) tokens: &'a [Token],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let t = self.tokens.get(self.at);
        self.at += t.is_some() as usize;
        t
    }

    pub(super) fn end(&self) -> Result<(), LineError> {
        self.tokens.get(self.at).map_or(Ok(()), |t| parse_error(format!("unexpected {}", describe(t))))
    }

    fn peek(&self, s: &str) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Sym(t)) if *t == s)
    }

    pub(super) fn take(&mut self, s: &str) -> bool {
        let hit = self.peek(s);
        self.at += hit as usize;
        hit
    }

    pub(super) fn take_word(&mut self, s: &str) -> bool {
        let hit = matches!(self.tokens.get(self.at), Some(Token::Id(t)) if t == s);
        self.at += hit as usize;
        hit
    }

    fn id(&mut self) -> Result<String, LineError> {
        match self.next() {
            Some(Token::Id(s)) => Ok(s.clone()),
            Some(t) => parse_error(format!("expected an id, found {}", describe(t))),
            None => parse_error("expected an id at the end of the line"),
        }
    }

    pub(super) fn ids(&mut self) -> Result<Vec<String>, LineError> {
        let mut out = vec![self.id()?];
        while self.take(",") {
            out.push(self.id()?);
        }
        Ok(out)
    }

    pub(super) fn ids_until(&mut self, close: &str) -> Result<Vec<String>, LineError> {
        let mut out = Vec::new();
        while !self.take(close) {
            out.push(self.id()?);
            if !self.take(",") && !self.peek(close) && !matches!(self.tokens.get(self.at), Some(Token::Id(_))) {
                return parse_error(format!("expected {close:?}"));
            }
        }
        Ok(out)
    }

    /// Operands and `key=value` arguments, up to an arrow, a guard or a bracket.
    pub(super) fn operands(&mut self, node: &mut Node) -> Result<(), LineError> {
        loop {
            let (key, quoted) = match (self.tokens.get(self.at), self.tokens.get(self.at + 1)) {
                (Some(Token::Id(w)), next) if w == "if" && !matches!(next, Some(Token::Sym("=" | ","))) => {
                    return Ok(());
                }
                (Some(Token::Id(k)), Some(Token::Sym("="))) => (k.clone(), false),
                (Some(Token::Str(k)), Some(Token::Sym("="))) => (k.clone(), true),
                (Some(Token::Id(id)), _) => {
                    self.at += 1;
                    match node.op.kind() {
                        Kind::UseChan | Kind::CloseChan => node.chs.push(id.clone()),
                        _ => node.vqs.push(id.clone()),
                    }
                    if self.take(",") {
                        continue;
                    }
                    return Ok(());
                }
                _ => return Ok(()),
            };
            self.at += 2;
            let list = match key.as_str() {
                "inputs" => Some(&mut node.inputs),
                "vqs" => Some(&mut node.vqs),
                "chs" => Some(&mut node.chs),
                "produces" => Some(&mut node.produces),
                _ => None,
            };
            match list {
                Some(list) if !quoted => {
                    if self.take("[") {
                        list.extend(self.ids_until("]")?);
                    } else {
                        list.push(self.id()?);
                    }
                }
                _ => {
                    let value = self.value()?;
                    if node.args.insert(key.clone(), value).is_some() {
                        return parse_error(format!("argument {} is given twice", clip(&key)));
                    }
                }
            }
            if !self.take(",") {
                return Ok(());
            }
        }
    }

    /// The value of an argument: a string, `json"..."`, a word, or an expression of numbers.
    pub(super) fn value(&mut self) -> Result<Value, LineError> {
        let rest = &self.tokens[self.at..];
        let value = match rest {
            [] => return parse_error("expected a value at the end of the line"),
            [Token::Str(s), ..] => Value::String(s.clone()),
            [Token::Id(j), Token::Str(s), ..] if j == "json" => {
                self.at += 1;
                let value = serde_json::from_str(s).map_err(|e| match format!("json value: {e}") {
                    e if e.contains("recursion limit") => ("E-LIMIT", e),
                    e => ("E-PARSE", e),
                })?;
                if nests_too_deep(&value, limits::DEPTH) {
                    return Err(("E-LIMIT", format!("a value is nested deeper than {}", limits::DEPTH)));
                }
                value
            }
            [Token::Id(w), after @ ..]
                if w != "pi" && !matches!(after, [Token::Sym("+" | "-" | "*" | "/" | "//" | "%" | "**" | "("), ..]) =>
            {
                match w.as_str() {
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    "null" => Value::Null,
                    word => Value::String(word.into()),
                }
            }
            [Token::Id(_) | Token::Int(_) | Token::Float(_) | Token::Sym("-" | "("), ..] => {
                // A bracket opens the capabilities of the line, so no number continues behind it.
                let end = rest.iter().position(|t| *t == Token::Sym("[")).unwrap_or(rest.len());
                let (value, taken) = number(&rest[..end]).map_err(|w| (w.code, w.message))?;
                self.at += taken;
                return Ok(value);
            }
            [t, ..] => return parse_error(format!("expected a value, found {}", describe(t))),
        };
        self.at += 1;
        Ok(value)
    }

    /// A guard: `||` of `&&` of comparisons. Parentheses, `all(...)` and `any(...)` keep groups apart.
    pub(super) fn guard(&mut self, depth: usize) -> Result<Guard, LineError> {
        if depth > 2 * limits::DEPTH {
            return Err(("E-LIMIT", format!("guard nested deeper than {}", limits::DEPTH)));
        }
        let mut any = vec![self.conjunction(depth)?];
        while self.take("||") || self.take_word("or") {
            any.push(self.conjunction(depth)?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Guard::Or(any) })
    }

    fn conjunction(&mut self, depth: usize) -> Result<Guard, LineError> {
        let mut all = vec![self.comparison(depth)?];
        while self.take("&&") || self.take_word("and") {
            all.push(self.comparison(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Guard::And(all) })
    }

    fn comparison(&mut self, depth: usize) -> Result<Guard, LineError> {
        if self.take("(") {
            let g = self.guard(depth + 1)?;
            return if self.take(")") { Ok(g) } else { parse_error("expected \")\" in the guard") };
        }
        let event = self.id()?;
        if (event == "all" || event == "any") && self.take("(") {
            let mut parts = vec![self.guard(depth + 1)?];
            while self.take(",") {
                parts.push(self.guard(depth + 1)?);
            }
            if !self.take(")") {
                return parse_error("expected \")\" in the guard");
            }
            return Ok(if event == "all" { Guard::And(parts) } else { Guard::Or(parts) });
        }
        match (self.take("=="), self.next()) {
            (true, Some(Token::Int(v @ 0..=1))) => Ok(Guard::Equals(event, *v as u8)),
            _ => parse_error(format!("a guard compares an event with 0 or 1: {event}==1")),
        }
    }
}

//! The assembler: expanded lines to a graph.
//!
//! `label: OPCODE operands, key=value -> outputs if guard [CAPS]`

use crate::expr::{Token, describe, lex};
use crate::graph::{Graph, Guard, Node, Resources};
use crate::macros::{Line, expand};
use crate::opcode::{Kind, Opcode};
use crate::{Finding, ParseOptions, finding, is_id, limits};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Assembles a text.
///
/// # Errors
/// Every `E-PARSE`, `E-SCHEMA` and `E-LIMIT` finding.
pub fn assemble(text: &str, options: &ParseOptions) -> Result<Graph, Vec<Finding>> {
    if text.len() > limits::SOURCE_BYTES {
        return Err(vec![finding(
            "E-LIMIT",
            None,
            None,
            format!("source is longer than {} bytes", limits::SOURCE_BYTES),
        )]);
    }
    let lines = expand(text, options)?;
    let mut a = Assembler::default();
    let mut found = Vec::new();
    for line in &lines {
        if let Err((code, message)) = a.line(line) {
            found.push(finding(code, a.label.as_deref(), Some(line.line), message));
            if found.len() >= 1000 {
                break;
            }
        }
    }
    if found.is_empty() { Ok(a.finish()) } else { Err(found) }
}

type Problem = (&'static str, String);

#[derive(Default)]
struct Assembler {
    graph: Graph,
    vqs: Option<Vec<String>>,
    chs: Option<Vec<String>>,
    events: Option<Vec<String>>,
    labels: HashSet<String>,
    /// Label of the line under way, for findings.
    label: Option<String>,
    suffix: HashMap<String, u32>,
}

fn parse_error<T>(message: impl Into<String>) -> Result<T, Problem> {
    Err(("E-PARSE", message.into()))
}

/// Ids in order of first appearance, as a program without declarations declares them.
pub(crate) fn natural_resources(nodes: &[Node]) -> Resources {
    fn unique<'a>(ids: impl Iterator<Item = &'a String>) -> Vec<String> {
        let mut seen = HashSet::new();
        ids.filter(|id| seen.insert(id.as_str())).cloned().collect()
    }
    Resources {
        vqs: unique(nodes.iter().flat_map(|n| &n.vqs)),
        chs: unique(nodes.iter().flat_map(|n| &n.chs)),
        events: unique(nodes.iter().flat_map(|n| &n.produces)),
    }
}

impl Assembler {
    fn finish(mut self) -> Graph {
        let natural = natural_resources(&self.graph.nodes);
        self.graph.resources = Resources {
            vqs: self.vqs.unwrap_or(natural.vqs),
            chs: self.chs.unwrap_or(natural.chs),
            events: self.events.unwrap_or(natural.events),
        };
        self.graph
    }

    fn line(&mut self, line: &Line) -> Result<(), Problem> {
        self.label = None;
        if let Some(rest) = line.text.strip_prefix('.') {
            return self.directive(rest);
        }
        let tokens = lex(&line.text).map_err(|m| ("E-PARSE", m))?;
        let mut c = Cursor { tokens: &tokens, at: 0 };
        let mut label = None;
        if let [Token::Id(id), Token::Sym(":"), ..] = tokens.as_slice() {
            label = Some(id.clone());
            self.label = label.clone();
            c.at = 2;
        }
        let Some(Token::Id(name)) = c.next() else { return parse_error("expected label: OPCODE ...") };
        let Some(op) = Opcode::from_name(name) else {
            return Err(("E-SCHEMA", format!("unknown opcode or macro {name:?}")));
        };
        let id = match label {
            // Labels of a macro body may repeat from call to call.
            Some(l) if line.call > 0 && self.labels.contains(&l) => self.fresh(&l),
            Some(l) => l,
            None => self.fresh("n"),
        };
        self.labels.insert(id.clone());
        self.label = Some(id.clone());
        let mut node = Node {
            id,
            op,
            args: Map::new(),
            vqs: Vec::new(),
            chs: Vec::new(),
            inputs: Vec::new(),
            produces: Vec::new(),
            caps: Vec::new(),
            guard: None,
            line: Some(line.line),
        };
        c.operands(&mut node)?;
        if c.take("->") {
            let outputs = c.ids()?;
            match op.kind() {
                Kind::Alloc => node.vqs.extend(outputs),
                Kind::OpenChan => node.chs.extend(outputs),
                _ => node.produces.extend(outputs),
            }
        }
        if c.take_word("if") {
            node.guard = Some(c.guard(0)?);
        }
        if c.take("[") {
            node.caps = c.ids_until("]")?;
        }
        if let Some(t) = c.tokens.get(c.at) {
            return parse_error(format!("unexpected {}", describe(t)));
        }
        self.graph.nodes.push(node);
        Ok(())
    }

    fn fresh(&mut self, stem: &str) -> String {
        loop {
            let n = self.suffix.entry(stem.into()).or_insert(0);
            *n += 1;
            let id = if stem == "n" { format!("n{n}") } else { format!("{stem}_{n}") };
            if !self.labels.contains(&id) {
                return id;
            }
        }
    }

    fn directive(&mut self, rest: &str) -> Result<(), Problem> {
        let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let ids = || -> Result<Vec<String>, Problem> {
            let words: Vec<&str> = rest.split([' ', '\t', ',']).filter(|w| !w.is_empty()).collect();
            match words.iter().find(|w| !is_id(w)) {
                Some(bad) => parse_error(format!("{bad:?} is not an id ([A-Za-z_][A-Za-z0-9_]*)")),
                None => Ok(words.into_iter().map(String::from).collect()),
            }
        };
        let text = || match lex(rest).as_deref() {
            Ok([Token::Str(s)]) => Ok(s.clone()),
            _ => parse_error(format!(".{name} needs one string in double quotes")),
        };
        match name {
            "version" if rest.trim().trim_matches('"') == "0.1" => {}
            "version" => return Err(("E-SCHEMA", format!("version {} is not 0.1", rest.trim()))),
            "caps" => self.graph.caps.extend(ids()?),
            "vqs" => self.vqs.get_or_insert_default().extend(ids()?),
            "chs" => self.chs.get_or_insert_default().extend(ids()?),
            "events" => self.events.get_or_insert_default().extend(ids()?),
            "name" => self.graph.name = Some(text()?),
            "description" => self.graph.description = Some(text()?),
            "metadata" => match lex(rest).as_deref() {
                Ok([Token::Id(j), Token::Str(s)]) if j == "json" => match serde_json::from_str(s) {
                    Ok(Value::Object(m)) => self.graph.metadata = m,
                    _ => return parse_error(".metadata needs a JSON object"),
                },
                _ => return parse_error(".metadata needs json\"{...}\""),
            },
            _ => return parse_error(format!("unknown directive .{name}")),
        }
        Ok(())
    }
}

struct Cursor<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn next(&mut self) -> Option<&'a Token> {
        let t = self.tokens.get(self.at);
        self.at += t.is_some() as usize;
        t
    }

    fn peek(&self, s: &str) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Sym(t)) if *t == s)
    }

    fn take(&mut self, s: &str) -> bool {
        let hit = self.peek(s);
        self.at += hit as usize;
        hit
    }

    fn take_word(&mut self, s: &str) -> bool {
        let hit = matches!(self.tokens.get(self.at), Some(Token::Id(t)) if t == s);
        self.at += hit as usize;
        hit
    }

    fn id(&mut self) -> Result<String, Problem> {
        match self.next() {
            Some(Token::Id(s)) => Ok(s.clone()),
            Some(t) => parse_error(format!("expected an id, found {}", describe(t))),
            None => parse_error("expected an id at the end of the line"),
        }
    }

    fn ids(&mut self) -> Result<Vec<String>, Problem> {
        let mut out = vec![self.id()?];
        while self.take(",") {
            out.push(self.id()?);
        }
        Ok(out)
    }

    fn ids_until(&mut self, close: &str) -> Result<Vec<String>, Problem> {
        let mut out = Vec::new();
        while !self.take(close) {
            out.push(self.id()?);
            if !self.take(",") && !self.peek(close) && !matches!(self.tokens.get(self.at), Some(Token::Id(_))) {
                return parse_error(format!("expected {close:?}"));
            }
        }
        Ok(out)
    }

    fn operands(&mut self, node: &mut Node) -> Result<(), Problem> {
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
                        return parse_error(format!("argument {key} is given twice"));
                    }
                }
            }
            if !self.take(",") {
                return Ok(());
            }
        }
    }

    fn value(&mut self) -> Result<Value, Problem> {
        let negative = self.take("-");
        match (self.next(), negative) {
            (Some(Token::Int(i)), _) => Ok(Value::from(if negative { -i } else { *i })),
            (Some(Token::Float(f)), _) => serde_json::Number::from_f64(if negative { -f } else { *f })
                .map(Value::Number)
                .ok_or(("E-PARSE", "a number is not finite".into())),
            (Some(Token::Str(s)), false) => Ok(Value::String(s.clone())),
            (Some(Token::Id(j)), false) if j == "json" && matches!(self.tokens.get(self.at), Some(Token::Str(_))) => {
                let Some(Token::Str(s)) = self.next() else { return parse_error("expected json\"...\"") };
                serde_json::from_str(s).map_err(|e| ("E-PARSE", format!("json value: {e}")))
            }
            (Some(Token::Id(w)), false) => Ok(match w.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                word => Value::String(word.into()),
            }),
            (Some(t), _) => parse_error(format!("expected a value, found {}", describe(t))),
            (None, _) => parse_error("expected a value at the end of the line"),
        }
    }

    /// `||` of `&&` of comparisons; parentheses and `all(...)`, `any(...)` keep groups apart.
    fn guard(&mut self, depth: usize) -> Result<Guard, Problem> {
        if depth > 2 * limits::DEPTH {
            return Err(("E-LIMIT", format!("guard nested deeper than {}", limits::DEPTH)));
        }
        let mut any = vec![self.conjunction(depth)?];
        while self.take("||") || self.take_word("or") {
            any.push(self.conjunction(depth)?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Guard::Or(any) })
    }

    fn conjunction(&mut self, depth: usize) -> Result<Guard, Problem> {
        let mut all = vec![self.comparison(depth)?];
        while self.take("&&") || self.take_word("and") {
            all.push(self.comparison(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Guard::And(all) })
    }

    fn comparison(&mut self, depth: usize) -> Result<Guard, Problem> {
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

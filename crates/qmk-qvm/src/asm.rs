//! The assembler: expanded lines to a graph.
//!
//! `label: OPCODE operands, key=value -> outputs if guard [CAPS]`

use crate::expr::number;
use crate::graph::{Graph, Guard, Node, Resources};
use crate::lex::{Token, clip, describe, lex};
use crate::macros::{Line, expand};
use crate::opcode::{Kind, Opcode};
use crate::{Finding, ParseOptions, finding, is_id, limits, nests_too_deep, note_cut, too_long};
use foldhash::{HashMap, HashSet, HashSetExt};
use serde_json::{Map, Value};

/// Assembles a text.
///
/// # Errors
/// Every `E-PARSE`, `E-SCHEMA` and `E-LIMIT` finding, and `E-ARG` for parameters that the program does not have.
pub fn assemble(text: &str, options: &ParseOptions) -> Result<Graph, Vec<Finding>> {
    if let Some(f) = too_long(text) {
        return Err(vec![f]);
    }
    let (lines, mut found) = expand(text, options);
    note_cut(&mut found, limits::FINDINGS);
    // What was expanded up to a limit says nothing more.
    if found.iter().any(|f| f.code == "E-LIMIT") {
        return Err(found);
    }
    let plain = lines.iter().filter(|l| l.call == 0);
    let labels = plain.filter_map(|l| Some(l.text.split_once(':')?.0.trim())).filter(|l| is_id(l));
    let reserved = labels.map(String::from).collect();
    let mut a = Assembler { reserved, ..Assembler::default() };
    for line in &lines {
        if let Err((code, message)) = a.line(line) {
            let message = line.origin.as_deref().unwrap_or_default().to_string() + &message;
            found.push(finding(code, a.label.as_deref(), Some(line.line), message));
            if found.len() >= limits::FINDINGS || code == "E-LIMIT" {
                break;
            }
        }
    }
    found.sort_by_key(|f| f.line);
    note_cut(&mut found, limits::FINDINGS);
    if found.is_empty() { Ok(a.finish()) } else { Err(found) }
}

type Problem = (&'static str, String);

#[derive(Default)]
struct Assembler {
    graph: Graph,
    vqs: Option<Vec<String>>,
    chs: Option<Vec<String>>,
    events: Option<Vec<String>>,
    /// Labels outside of macros, whether met yet or not, and all labels met.
    reserved: HashSet<String>,
    labels: HashSet<String>,
    tokens: usize,
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
        let label = line.text.split_once(':').map(|(label, _)| label.trim()).filter(|l| is_id(l));
        self.label = label.map(String::from);
        if let Some(rest) = line.text.strip_prefix('.') {
            return self.directive(rest);
        }
        let tokens = lex(&line.text).map_err(|m| ("E-PARSE", m))?;
        self.count(tokens.len())?;
        let mut c = Cursor { tokens: &tokens, at: 0 };
        let mut label = None;
        if let [Token::Id(id), Token::Sym(":"), ..] = tokens.as_slice() {
            label = Some(id.clone());
            c.at = 2;
        }
        let Some(Token::Id(name)) = c.next() else { return parse_error("expected label: OPCODE ...") };
        let Some(op) = Opcode::from_name(name) else {
            return Err(("E-SCHEMA", format!("unknown opcode or macro {:?}{}", clip(name), Opcode::hint(name))));
        };
        let id = match label {
            // Labels of a macro body may repeat from call to call, and give way to those outside.
            Some(l) if line.call > 0 && self.taken(&l) => self.fresh(&l),
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
            let guard = c.guard(0)?;
            if guard.depth() > limits::GUARD_DEPTH {
                return Err(("E-LIMIT", format!("guard nested deeper than {}", limits::GUARD_DEPTH)));
            }
            node.guard = Some(guard);
        }
        if c.take("[") {
            node.caps = c.ids_until("]")?;
        }
        c.end()?;
        self.graph.nodes.push(node);
        Ok(())
    }

    fn count(&mut self, tokens: usize) -> Result<(), Problem> {
        self.tokens += tokens;
        if self.tokens <= limits::TOKENS {
            return Ok(());
        }
        Err(("E-LIMIT", format!("the program has more than {} words and symbols", limits::TOKENS)))
    }

    fn taken(&self, label: &str) -> bool {
        self.labels.contains(label) || self.reserved.contains(label)
    }

    fn fresh(&mut self, stem: &str) -> String {
        // Room for the number.
        let stem = &stem[..stem.len().min(limits::ID - 10)];
        loop {
            let n = self.suffix.entry(stem.into()).or_insert(0);
            *n += 1;
            let id = if stem == "n" { format!("n{n}") } else { format!("{stem}_{n}") };
            if !self.taken(&id) {
                return id;
            }
        }
    }

    fn directive(&mut self, rest: &str) -> Result<(), Problem> {
        let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let text = || match lex(rest).as_deref() {
            Ok([Token::Str(s)]) => Ok(s.clone()),
            _ => parse_error(format!(".{name} needs one string in double quotes")),
        };
        match name {
            "version" if rest.trim().trim_matches('"') == "0.1" => {}
            "version" => return Err(("E-SCHEMA", format!("version {} is not 0.1", clip(rest.trim())))),
            "caps" | "vqs" | "chs" | "events" => {
                let words: Vec<&str> = rest.split([' ', '\t', ',']).filter(|w| !w.is_empty()).collect();
                self.count(words.len())?;
                if let Some(bad) = words.iter().find(|w| !is_id(w)) {
                    return Err(("E-SCHEMA", format!("{:?} is not an id ([A-Za-z_][A-Za-z0-9_]*)", clip(bad))));
                }
                let list = match name {
                    "vqs" => self.vqs.get_or_insert_default(),
                    "chs" => self.chs.get_or_insert_default(),
                    "events" => self.events.get_or_insert_default(),
                    _ => &mut self.graph.caps,
                };
                list.extend(words.into_iter().map(String::from));
            }
            "name" => self.graph.name = Some(text()?),
            "description" => self.graph.description = Some(text()?),
            "metadata" => self.metadata(rest)?,
            _ => return parse_error(format!("unknown directive .{}", clip(name))),
        }
        Ok(())
    }

    /// `json"{...}"` gives all metadata, `key = value` adds one.
    fn metadata(&mut self, rest: &str) -> Result<(), Problem> {
        let tokens = lex(rest).map_err(|m| ("E-PARSE", m))?;
        let (entry, mut c) = match tokens.as_slice() {
            [Token::Id(k) | Token::Str(k), Token::Sym("="), ..] => (Some(k), Cursor { tokens: &tokens, at: 2 }),
            _ => (None, Cursor { tokens: &tokens, at: 0 }),
        };
        match (entry, c.value()?) {
            (_, value) if nests_too_deep(&value, limits::DEPTH - entry.is_some() as usize) => {
                return Err(("E-LIMIT", format!(".metadata is nested deeper than {}", limits::DEPTH)));
            }
            (Some(key), value) => {
                self.graph.metadata.insert(key.clone(), value);
            }
            (None, Value::Object(m)) => self.graph.metadata = m,
            _ => return parse_error(".metadata needs key = value or json\"{{...}}\""),
        }
        c.end()
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

    fn end(&self) -> Result<(), Problem> {
        self.tokens.get(self.at).map_or(Ok(()), |t| parse_error(format!("unexpected {}", describe(t))))
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
                        return parse_error(format!("argument {} is given twice", clip(&key)));
                    }
                }
            }
            if !self.take(",") {
                return Ok(());
            }
        }
    }

    fn value(&mut self) -> Result<Value, Problem> {
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
                // No number goes on behind a bracket, which opens capabilities.
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

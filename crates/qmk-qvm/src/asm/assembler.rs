//! Lines to nodes and declarations.

use super::cursor::{Cursor, LineError, parse_error};
use crate::findings::{end_cut_list, finding, too_long};
use crate::graph::{Graph, Node, Resources, natural_resources};
use crate::lex::{Token, clip, is_id, lex};
use crate::limits::{self, nests_too_deep};
use crate::macros::{Line, expand};
use crate::opcode::{Kind, Opcode};
use crate::options::ParseOptions;
use foldhash::{HashMap, HashSet};
use qmk_abi::rpc::Finding;
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
    end_cut_list(&mut found, limits::FINDINGS);
    // The expansion stopped at a limit, so its last lines may be cut and would give false findings.
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
    end_cut_list(&mut found, limits::FINDINGS);
    if found.is_empty() { Ok(a.finish()) } else { Err(found) }
}

#[derive(Default)]
struct Assembler {
    graph: Graph,
    vqs: Option<Vec<String>>,
    chs: Option<Vec<String>>,
    events: Option<Vec<String>>,
    /// Labels outside of macros, in the whole text. A label in a macro body must not take one of them.
    reserved: HashSet<String>,
    /// All labels so far.
    labels: HashSet<String>,
    /// Tokens of all lines so far.
    tokens: usize,
    /// Label of the current line, for findings.
    label: Option<String>,
    /// Last number given to each stem of a label.
    suffix: HashMap<String, u32>,
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

    fn line(&mut self, line: &Line) -> Result<(), LineError> {
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
            // A label in a macro body may repeat from call to call, and the labels outside have precedence.
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

    fn count(&mut self, tokens: usize) -> Result<(), LineError> {
        self.tokens += tokens;
        if self.tokens <= limits::TOKENS {
            return Ok(());
        }
        Err(("E-LIMIT", format!("the program has more than {} words and symbols", limits::TOKENS)))
    }

    fn taken(&self, label: &str) -> bool {
        self.labels.contains(label) || self.reserved.contains(label)
    }

    /// A label that is not taken: the stem and a number.
    fn fresh(&mut self, stem: &str) -> String {
        // Ten characters are left for the number.
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

    fn directive(&mut self, rest: &str) -> Result<(), LineError> {
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

    /// `.metadata json"{...}"` replaces all metadata, `.metadata key = value` adds one entry.
    fn metadata(&mut self, rest: &str) -> Result<(), LineError> {
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

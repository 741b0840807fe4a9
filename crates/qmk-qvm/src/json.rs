//! The JSON form of graphs, format 0.1. Start at [`read`]; `Graph::to_json` is its inverse.

use crate::findings::{TooLarge, end_cut_list, finding, too_long};
use crate::graph::{Graph, Guard, Node, Resources};
use crate::lex::{clip, is_id, without_mark};
use crate::limits::{self, nests_too_deep};
use crate::opcode::Opcode;
use qmk_abi::rpc::Finding;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

impl Guard {
    fn to_json(&self) -> Value {
        match self {
            Guard::Equals(e, v) => json!({"event": e, "equals": v}),
            Guard::And(c) => json!({"type": "and", "conditions": c.iter().map(Guard::to_json).collect::<Vec<_>>()}),
            Guard::Or(c) => json!({"type": "or", "conditions": c.iter().map(Guard::to_json).collect::<Vec<_>>()}),
        }
    }
}

impl Graph {
    /// The graph in format 0.1.
    pub fn to_json(&self) -> Value {
        let mut top = Map::new();
        top.insert("version".into(), "0.1".into());
        if let Some(name) = &self.name {
            top.insert("name".into(), name.as_str().into());
        }
        if let Some(text) = &self.description {
            top.insert("description".into(), text.as_str().into());
        }
        if !self.metadata.is_empty() {
            top.insert("metadata".into(), Value::Object(self.metadata.clone()));
        }
        let nodes = self.nodes.iter().map(|n| {
            let mut m = Map::new();
            m.insert("id".into(), n.id.as_str().into());
            m.insert("op".into(), n.op.name().into());
            if !n.args.is_empty() {
                m.insert("args".into(), Value::Object(n.args.clone()));
            }
            let lists =
                [("vqs", &n.vqs), ("chs", &n.chs), ("inputs", &n.inputs), ("produces", &n.produces), ("caps", &n.caps)];
            for (key, list) in lists {
                if !list.is_empty() {
                    m.insert(key.into(), json!(list));
                }
            }
            if let Some(g) = &n.guard {
                m.insert("guard".into(), g.to_json());
            }
            Value::Object(m)
        });
        top.insert("program".into(), json!({"nodes": nodes.collect::<Vec<_>>()}));
        let r = &self.resources;
        top.insert("resources".into(), json!({"vqs": r.vqs, "chs": r.chs, "events": r.events}));
        top.insert("caps".into(), json!(self.caps));
        Value::Object(top)
    }
}

#[derive(Deserialize)]
struct RawGraph<'a> {
    #[serde(borrow, default)]
    version: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    description: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    program: Option<&'a RawValue>,
    #[serde(borrow, default)]
    resources: Option<&'a RawValue>,
    #[serde(borrow, default)]
    caps: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawProgram<'a> {
    #[serde(borrow)]
    nodes: Vec<&'a RawValue>,
}

/// Reads the parts of a text and collects findings, with their lines.
struct Reader<'a> {
    text: &'a str,
    /// A byte offset into the text and its line, from which the next line is counted.
    at: usize,
    line: u32,
    found: Vec<Finding>,
}

impl Reader<'_> {
    fn report(&mut self, code: &str, node: Option<&str>, line: u32, message: impl Into<String>) {
        if self.found.len() < limits::FINDINGS {
            self.found.push(finding(code, node, Some(line), message));
        }
    }

    /// Line of a part of the text. Parts in textual order cost one pass over the text together.
    fn line_of(&mut self, part: &RawValue) -> u32 {
        let offset = (part.get().as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        if offset < self.at || offset > self.text.len() {
            (self.at, self.line) = (0, 1);
        }
        let offset = offset.min(self.text.len());
        self.line += self.text.as_bytes()[self.at..offset].iter().filter(|&&b| b == b'\n').count() as u32;
        self.at = offset;
        self.line
    }

    /// Line and value of a part. A well-formed part may have no value: 1e999, a lone surrogate, too deep a nesting.
    fn value(&mut self, part: &RawValue) -> (u32, Option<Value>) {
        let line = self.line_of(part);
        let value = serde_json::from_str::<Value>(part.get()).map_err(|e| {
            let (code, what) = match e.to_string() {
                e if e.starts_with("recursion limit") => ("E-LIMIT", "nested too deeply".into()),
                e => ("E-PARSE", format!("not a JSON value: {e}")),
            };
            self.report(code, None, line + (e.line() as u32).saturating_sub(1), what);
        });
        (line, value.ok())
    }
}

/// Parses a graph in format 0.1.
///
/// # Errors
/// Every `E-PARSE`, `E-SCHEMA` and `E-LIMIT` finding.
pub fn parse_json(text: &str) -> Result<Graph, Vec<Finding>> {
    read(text, limits::NODES)
}

/// As [`parse_json`], of at most `max_nodes` nodes.
pub(crate) fn read(text: &str, max_nodes: usize) -> Result<Graph, Vec<Finding>> {
    let text = without_mark(text);
    if let Some(f) = too_long(text) {
        return Err(vec![f]);
    }
    let bad_json =
        |e: serde_json::Error| vec![finding("E-PARSE", None, Some(e.line() as u32), format!("not JSON: {e}"))];
    // The whole text is checked first: every mismatch after this is one of the schema, not of the syntax.
    serde_json::from_str::<&RawValue>(text).map_err(bad_json)?;
    let raw: RawGraph<'_> = object(text).map_err(|(line, e)| {
        vec![finding("E-SCHEMA", None, Some(line), format!("a graph is a JSON object with a program: {e}"))]
    })?;
    let mut r = Reader { text, at: 0, line: 1, found: Vec::new() };
    let mut graph = Graph::default();
    match raw.version.map(|v| (v, r.value(v))) {
        None => r.report("E-SCHEMA", None, 1, "\"version\" is missing; this is format \"0.1\""),
        Some((v, (line, Some(value)))) if value != "0.1" => {
            r.report("E-SCHEMA", None, line, format!("version {} is not \"0.1\"", clip(v.get())));
        }
        _ => {}
    }
    for (key, raw, slot) in
        [("name", raw.name, &mut graph.name), ("description", raw.description, &mut graph.description)]
    {
        match raw.map(|v| r.value(v)) {
            Some((_, Some(Value::String(s)))) => *slot = Some(s),
            None | Some((_, None | Some(Value::Null))) => {}
            Some((line, _)) => r.report("E-SCHEMA", None, line, format!("{key:?} must be a string")),
        }
    }
    match raw.metadata.map(|v| r.value(v)) {
        Some((line, Some(m @ Value::Object(_)))) if nests_too_deep(&m, limits::DEPTH) => {
            r.report("E-LIMIT", None, line, format!("\"metadata\" is nested deeper than {}", limits::DEPTH));
        }
        Some((_, Some(Value::Object(m)))) => graph.metadata = m,
        None | Some((_, None | Some(Value::Null))) => {}
        Some((line, _)) => r.report("E-SCHEMA", None, line, "\"metadata\" must be an object"),
    }
    graph.nodes = nodes(raw.program, max_nodes, &mut r);
    match raw.resources.map(|v| r.value(v)) {
        Some((line, Some(Value::Object(m)))) => {
            let mut ids = |key: &str| id_list(m.get(key), key, None, line, &mut r);
            graph.resources = Resources { vqs: ids("vqs"), chs: ids("chs"), events: ids("events") };
        }
        None | Some((_, None)) => {}
        Some((line, _)) => r.report("E-SCHEMA", None, line, "\"resources\" must be an object"),
    }
    if let Some((line, Some(caps))) = raw.caps.map(|v| r.value(v)) {
        graph.caps = id_list(Some(&caps), "caps", None, line, &mut r);
    }
    end_cut_list(&mut r.found, limits::FINDINGS);
    if r.found.is_empty() { Ok(graph) } else { Err(r.found) }
}

/// Reads a struct from a JSON object. serde alone would also accept an array of the fields.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, (u32, String)> {
    if !text.trim_start().starts_with('{') {
        return Err((1, "it is none".into()));
    }
    serde_json::from_str(text).map_err(|e| (e.line() as u32, e.to_string()))
}

/// The ids in a list; a missing or null list is empty.
fn id_list(v: Option<&Value>, key: &str, node: Option<&str>, line: u32, r: &mut Reader<'_>) -> Vec<String> {
    let items = match v {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            r.report("E-SCHEMA", node, line, format!("{key:?} must be a list of ids"));
            return Vec::new();
        }
    };
    let mut ids = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Value::String(s) if is_id(s) => ids.push(s.clone()),
            _ if r.found.len() >= limits::FINDINGS => break,
            other => {
                let what = clip(&other.to_string());
                r.report("E-SCHEMA", node, line, format!("{what} in {key:?} is not an id ([A-Za-z_][A-Za-z0-9_]*)"));
            }
        }
    }
    ids
}

/// The nodes of a program, if it has at most `max_nodes`.
fn nodes(program: Option<&RawValue>, max_nodes: usize, r: &mut Reader<'_>) -> Vec<Node> {
    let mut nodes = Vec::new();
    match program.map(|p| (p, object::<RawProgram<'_>>(p.get()))) {
        None => r.report("E-SCHEMA", None, 1, "\"program\" is missing"),
        Some((p, Err(_))) => {
            let line = r.line_of(p);
            r.report("E-SCHEMA", None, line, "\"program\" must be {\"nodes\": [...]}");
        }
        Some((p, Ok(program))) if program.nodes.len() > max_nodes => {
            let line = r.line_of(p);
            r.report("E-LIMIT", None, line, TooLarge(max_nodes).to_string());
        }
        Some((_, Ok(program))) => {
            for (i, raw) in program.nodes.into_iter().enumerate() {
                if r.found.len() >= limits::FINDINGS {
                    break;
                }
                if let (line, Some(value)) = r.value(raw) {
                    nodes.extend(node(i, value, line, r));
                }
            }
        }
    }
    nodes
}

/// Node `index` of the program, unless it is no object or its opcode is unknown.
fn node(index: usize, v: Value, line: u32, r: &mut Reader<'_>) -> Option<Node> {
    let Value::Object(mut m) = v else {
        r.report("E-SCHEMA", None, line, format!("node {index} must be an object"));
        return None;
    };
    let id = match m.get("id") {
        Some(Value::String(s)) if is_id(s) => s.clone(),
        other => {
            let what = other.map_or("has no \"id\"".into(), |o| {
                format!("has id {}, which is not [A-Za-z_][A-Za-z0-9_]*", clip(&o.to_string()))
            });
            r.report("E-SCHEMA", None, line, format!("node {index} {what}"));
            String::new()
        }
    };
    let name = (!id.is_empty()).then_some(id.as_str());
    const KEYS: [&str; 9] = ["id", "op", "args", "vqs", "chs", "inputs", "produces", "caps", "guard"];
    for key in m.keys().filter(|k| !KEYS.contains(&k.as_str())) {
        r.report("E-SCHEMA", name, line, format!("unknown key {:?}; known: {}", clip(key), KEYS.join(", ")));
    }
    let op = match m.get("op") {
        Some(Value::String(s)) => Opcode::from_name(s).or_else(|| {
            r.report("E-SCHEMA", name, line, format!("unknown opcode {:?}{}", clip(s), Opcode::hint(s)));
            None
        }),
        _ => {
            r.report("E-SCHEMA", name, line, "\"op\" must be an opcode name");
            None
        }
    };
    let args = match m.get_mut("args") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(a)) if a.values().any(|v| nests_too_deep(v, limits::DEPTH)) => {
            r.report("E-LIMIT", name, line, format!("\"args\" is nested deeper than {}", limits::DEPTH));
            Map::new()
        }
        Some(Value::Object(a)) => std::mem::take(a),
        Some(_) => {
            r.report("E-SCHEMA", name, line, "\"args\" must be an object");
            Map::new()
        }
    };
    let guard = match m.get("guard") {
        None | Some(Value::Null) => None,
        Some(g) => match guard(g, 0) {
            Ok(g) => Some(g),
            Err((code, what)) => {
                r.report(code, name, line, what);
                None
            }
        },
    };
    let mut ids = |key: &str| id_list(m.get(key), key, name, line, r);
    let (vqs, chs, inputs, produces, caps) = (ids("vqs"), ids("chs"), ids("inputs"), ids("produces"), ids("caps"));
    Some(Node { op: op?, id, args, vqs, chs, inputs, produces, caps, guard, line: Some(line) })
}

fn guard(v: &Value, depth: usize) -> Result<Guard, (&'static str, String)> {
    let schema = |what: &str| Err(("E-SCHEMA", what.to_string()));
    if depth > limits::GUARD_DEPTH {
        return Err(("E-LIMIT", format!("guard nested deeper than {}", limits::GUARD_DEPTH)));
    }
    let Value::Object(m) = v else { return schema("a guard is an object") };
    if let Some(event) = m.get("event") {
        let (Value::String(e), Some(value @ 0..=1)) = (event, m.get("equals").and_then(Value::as_u64)) else {
            return schema("a guard is {\"event\": id, \"equals\": 0 or 1}");
        };
        if !is_id(e) || m.len() != 2 {
            return schema("a guard is {\"event\": id, \"equals\": 0 or 1}");
        }
        return Ok(Guard::Equals(e.clone(), value as u8));
    }
    let Some(Value::Array(items)) = m.get("conditions") else {
        return schema("a guard has \"event\" and \"equals\", or \"type\" and \"conditions\"");
    };
    if items.is_empty() || m.len() != 2 {
        return schema(
            "\"conditions\" must hold at least one guard, and nothing stands beside \"type\" and \"conditions\"",
        );
    }
    let parts = items.iter().map(|g| guard(g, depth + 1)).collect::<Result<Vec<_>, _>>()?;
    match m.get("type").and_then(Value::as_str) {
        Some("and") => Ok(Guard::And(parts)),
        Some("or") => Ok(Guard::Or(parts)),
        _ => schema("a guard's \"type\" is \"and\" or \"or\""),
    }
}

//! Graphs and their JSON form.

use crate::opcode::Opcode;
use crate::{finding, is_id, limits};
use qmk_abi::rpc::Finding;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// A QVM graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Free-form metadata.
    pub metadata: Map<String, Value>,
    /// Nodes in textual order.
    pub nodes: Vec<Node>,
    /// Declared resources.
    pub resources: Resources,
    /// Capabilities the graph asks for.
    pub caps: Vec<String>,
}

/// Declared ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Qubits.
    pub vqs: Vec<String>,
    /// Channels.
    pub chs: Vec<String>,
    /// Events.
    pub events: Vec<String>,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Id, unique in the graph.
    pub id: String,
    /// Operation.
    pub op: Opcode,
    /// Arguments.
    pub args: Map<String, Value>,
    /// Qubits.
    pub vqs: Vec<String>,
    /// Channels.
    pub chs: Vec<String>,
    /// Events read besides the guard's.
    pub inputs: Vec<String>,
    /// Events written.
    pub produces: Vec<String>,
    /// Capabilities the node declares.
    pub caps: Vec<String>,
    /// Condition.
    pub guard: Option<Guard>,
    /// Line of the source, from 1; not part of the node's identity.
    pub line: Option<u32>,
}

impl PartialEq for Node {
    fn eq(&self, o: &Node) -> bool {
        (&self.id, self.op, &self.args, &self.vqs, &self.chs, &self.inputs, &self.produces, &self.caps, &self.guard)
            == (&o.id, o.op, &o.args, &o.vqs, &o.chs, &o.inputs, &o.produces, &o.caps, &o.guard)
    }
}

/// A condition on events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The event has this value.
    Equals(String, u8),
    /// All hold.
    And(Vec<Guard>),
    /// One holds.
    Or(Vec<Guard>),
}

impl Guard {
    /// Calls `f` for each event read.
    pub fn events<'a>(&'a self, f: &mut impl FnMut(&'a str)) {
        match self {
            Guard::Equals(e, _) => f(e),
            Guard::And(c) | Guard::Or(c) => c.iter().for_each(|g| g.events(f)),
        }
    }

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

/// Turns byte offsets into lines, for offsets that never go back.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl Lines<'_> {
    /// Line of a slice of the text.
    fn of(&mut self, part: &RawValue) -> u32 {
        let offset = (part.get().as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        if offset < self.at || offset > self.text.len() {
            (self.at, self.line) = (0, 1);
        }
        let offset = offset.min(self.text.len());
        self.line += self.text.as_bytes()[self.at..offset].iter().filter(|&&b| b == b'\n').count() as u32;
        self.at = offset;
        self.line
    }
}

/// Parses a graph in format 0.1.
///
/// # Errors
/// Every `E-PARSE`, `E-SCHEMA` and `E-LIMIT` finding.
pub fn parse_json(text: &str) -> Result<Graph, Vec<Finding>> {
    if text.len() > limits::SOURCE_BYTES {
        return Err(vec![finding(
            "E-LIMIT",
            None,
            None,
            format!("source is longer than {} bytes", limits::SOURCE_BYTES),
        )]);
    }
    let bad_json =
        |e: serde_json::Error| vec![finding("E-PARSE", None, Some(e.line() as u32), format!("not JSON: {e}"))];
    // The whole text first: what follows may then call every mismatch a matter of schema.
    serde_json::from_str::<&RawValue>(text).map_err(bad_json)?;
    let raw: RawGraph<'_> = serde_json::from_str(text).map_err(|e| {
        vec![finding("E-SCHEMA", None, Some(e.line() as u32), format!("a graph is a JSON object with a program: {e}"))]
    })?;
    let mut lines = Lines { text, at: 0, line: 1 };
    let mut found = Vec::new();
    let mut graph = Graph::default();
    let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).unwrap_or(Value::Null);
    match raw.version {
        None => found.push(finding("E-SCHEMA", None, Some(1), "\"version\" is missing; this is format \"0.1\"")),
        Some(v) if value(v) != "0.1" => {
            let line = lines.of(v);
            found.push(finding("E-SCHEMA", None, Some(line), format!("version {} is not \"0.1\"", clip(v.get()))));
        }
        _ => {}
    }
    for (key, raw, slot) in
        [("name", raw.name, &mut graph.name), ("description", raw.description, &mut graph.description)]
    {
        match raw.map(|r| (r, value(r))) {
            Some((_, Value::String(s))) => *slot = Some(s),
            None | Some((_, Value::Null)) => {}
            Some((r, _)) => {
                found.push(finding("E-SCHEMA", None, Some(lines.of(r)), format!("{key:?} must be a string")))
            }
        }
    }
    match raw.metadata.map(|r| (r, value(r))) {
        Some((_, Value::Object(m))) => graph.metadata = m,
        None | Some((_, Value::Null)) => {}
        Some((r, _)) => found.push(finding("E-SCHEMA", None, Some(lines.of(r)), "\"metadata\" must be an object")),
    }
    match raw.program {
        None => found.push(finding("E-SCHEMA", None, Some(1), "\"program\" is missing")),
        Some(p) => match serde_json::from_str::<RawProgram<'_>>(p.get()) {
            Err(_) => {
                let line = lines.of(p);
                found.push(finding("E-SCHEMA", None, Some(line), "\"program\" must be {\"nodes\": [...]}"));
            }
            Ok(program) => {
                if program.nodes.len() > limits::NODES {
                    found.push(finding("E-LIMIT", None, None, format!("more than {} nodes", limits::NODES)));
                    return Err(found);
                }
                for (i, raw) in program.nodes.into_iter().enumerate() {
                    let line = lines.of(raw);
                    graph.nodes.extend(node(i, &value(raw), line, &mut found));
                }
            }
        },
    }
    if let Some(r) = raw.resources {
        let line = lines.of(r);
        match value(r) {
            Value::Object(m) => {
                let mut ids = |key: &str| id_list(m.get(key), key, None, line, &mut found);
                graph.resources = Resources { vqs: ids("vqs"), chs: ids("chs"), events: ids("events") };
            }
            _ => found.push(finding("E-SCHEMA", None, Some(line), "\"resources\" must be an object")),
        }
    }
    if let Some(c) = raw.caps {
        let line = lines.of(c);
        graph.caps = id_list(Some(&value(c)), "caps", None, line, &mut found);
    }
    if found.is_empty() { Ok(graph) } else { Err(found) }
}

/// A value shortened for a message.
fn clip(s: &str) -> String {
    if s.chars().count() > 60 { s.chars().take(57).chain("...".chars()).collect() } else { s.into() }
}

fn id_list(v: Option<&Value>, key: &str, node: Option<&str>, line: u32, found: &mut Vec<Finding>) -> Vec<String> {
    let mut bad = |what: String| found.push(finding("E-SCHEMA", node, Some(line), what));
    match v {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(|item| match item {
                Value::String(s) if is_id(s) => Some(s.clone()),
                other => {
                    bad(format!("{} in {key:?} is not an id ([A-Za-z_][A-Za-z0-9_]*)", clip(&other.to_string())));
                    None
                }
            })
            .collect(),
        Some(_) => {
            bad(format!("{key:?} must be a list of ids"));
            Vec::new()
        }
    }
}

fn node(index: usize, v: &Value, line: u32, found: &mut Vec<Finding>) -> Option<Node> {
    let Value::Object(m) = v else {
        found.push(finding("E-SCHEMA", None, Some(line), format!("node {index} must be an object")));
        return None;
    };
    let id = match m.get("id") {
        Some(Value::String(s)) if is_id(s) => s.clone(),
        other => {
            let what = other.map_or("has no \"id\"".into(), |o| {
                format!("has id {}, which is not [A-Za-z_][A-Za-z0-9_]*", clip(&o.to_string()))
            });
            found.push(finding("E-SCHEMA", None, Some(line), format!("node {index} {what}")));
            String::new()
        }
    };
    let name = (!id.is_empty()).then_some(id.as_str());
    const KEYS: [&str; 9] = ["id", "op", "args", "vqs", "chs", "inputs", "produces", "caps", "guard"];
    for key in m.keys().filter(|k| !KEYS.contains(&k.as_str())) {
        found.push(finding(
            "E-SCHEMA",
            name,
            Some(line),
            format!("unknown key {:?}; known: {}", clip(key), KEYS.join(", ")),
        ));
    }
    let op = match m.get("op") {
        Some(Value::String(s)) => Opcode::from_name(s).or_else(|| {
            found.push(finding("E-SCHEMA", name, Some(line), format!("unknown opcode {:?}", clip(s))));
            None
        }),
        _ => {
            found.push(finding("E-SCHEMA", name, Some(line), "\"op\" must be an opcode name"));
            None
        }
    };
    let args = match m.get("args") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(a)) => a.clone(),
        Some(_) => {
            found.push(finding("E-SCHEMA", name, Some(line), "\"args\" must be an object"));
            Map::new()
        }
    };
    let guard = match m.get("guard") {
        None | Some(Value::Null) => None,
        Some(g) => match guard(g, 0) {
            Ok(g) => Some(g),
            Err((code, what)) => {
                found.push(finding(code, name, Some(line), what));
                None
            }
        },
    };
    let mut ids = |key: &str| id_list(m.get(key), key, name, line, found);
    let (vqs, chs, inputs, produces, caps) = (ids("vqs"), ids("chs"), ids("inputs"), ids("produces"), ids("caps"));
    Some(Node { op: op?, id, args, vqs, chs, inputs, produces, caps, guard, line: Some(line) })
}

fn guard(v: &Value, depth: usize) -> Result<Guard, (&'static str, String)> {
    let schema = |what: &str| Err(("E-SCHEMA", what.to_string()));
    if depth > limits::DEPTH {
        return Err(("E-LIMIT", format!("guard nested deeper than {}", limits::DEPTH)));
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

//! The disassembler: a graph to assembly that assembles to the same graph.

use crate::graph::{Graph, Guard, Node, natural_resources};
use crate::lex::is_id;
use crate::opcode::Kind;
use serde_json::{Map, Value};
use std::fmt::Write;

/// Writes a graph as assembly. A graph that [`parse_json`](crate::parse_json) or [`assemble`](crate::assemble) made
/// assembles from this text to an equal graph.
pub fn disassemble(graph: &Graph) -> String {
    let mut out = String::from(".version 0.1\n");
    for (directive, text) in [("name", &graph.name), ("description", &graph.description)] {
        if let Some(text) = text {
            _ = writeln!(out, ".{directive} {}", quote(text));
        }
    }
    if !graph.metadata.is_empty() {
        _ = writeln!(out, ".metadata json{}", quote(&Value::Object(graph.metadata.clone()).to_string()));
    }
    if !graph.caps.is_empty() {
        _ = writeln!(out, ".caps {}", graph.caps.join(" "));
    }
    let natural = natural_resources(&graph.nodes);
    let r = &graph.resources;
    for (directive, have, natural) in
        [("vqs", &r.vqs, &natural.vqs), ("chs", &r.chs, &natural.chs), ("events", &r.events, &natural.events)]
    {
        if have != natural {
            _ = writeln!(out, ".{directive} {}", have.join(" "));
        }
    }
    out.push('\n');
    for n in &graph.nodes {
        node(&mut out, n);
    }
    out
}

/// A string literal. Braces are doubled, so that interpolation gives them back.
fn quote(s: &str) -> String {
    Value::String(s.into()).to_string().replace('{', "{{").replace('}', "}}")
}

fn value(v: &Value) -> String {
    match v {
        Value::String(s) => quote(s),
        Value::Number(n) if n.is_i64() || n.is_f64() => {
            // The lexer reads a minus sign apart from its digits, so it cannot read the smallest integer.
            let text = n.to_string();
            if n.as_i64() == Some(i64::MIN) { format!("json{}", quote(&text)) } else { text }
        }
        Value::Bool(_) | Value::Null => v.to_string(),
        other => format!("json{}", quote(&other.to_string())),
    }
}

fn node(out: &mut String, n: &Node) {
    let mut operands: Vec<String> = Vec::new();
    let empty = &Vec::new();
    // A list without a place of its own in this operation's line is written as key=[ids].
    let (plain, outputs, named) = match n.op.kind() {
        Kind::Alloc => (empty, &n.vqs, vec![("chs", &n.chs), ("produces", &n.produces)]),
        Kind::OpenChan => (&n.vqs, &n.chs, vec![("produces", &n.produces)]),
        Kind::UseChan | Kind::CloseChan => (&n.chs, &n.produces, vec![("vqs", &n.vqs)]),
        _ => (&n.vqs, &n.produces, vec![("chs", &n.chs)]),
    };
    // An operand called `if` would open a guard.
    let (plain, hidden) = if plain.iter().any(|p| p == "if") { (empty, Some(plain)) } else { (plain, None) };
    operands.extend(plain.iter().cloned());
    if let Some(list) = hidden {
        let key = if matches!(n.op.kind(), Kind::UseChan | Kind::CloseChan) { "chs" } else { "vqs" };
        operands.push(format!("{key}=[{}]", list.join(", ")));
    }
    for (key, list) in named.into_iter().chain([("inputs", &n.inputs)]) {
        if !list.is_empty() {
            operands.push(format!("{key}=[{}]", list.join(", ")));
        }
    }
    let args: &Map<String, Value> = &n.args;
    for (k, v) in args {
        let plain = is_id(k) && !matches!(k.as_str(), "vqs" | "chs" | "inputs" | "produces");
        let key = if plain { k.clone() } else { quote(k) };
        operands.push(format!("{key}={}", value(v)));
    }
    _ = write!(out, "{}: {}", n.id, n.op.name());
    if !operands.is_empty() {
        _ = write!(out, " {}", operands.join(", "));
    }
    if !outputs.is_empty() {
        _ = write!(out, " -> {}", outputs.join(", "));
    }
    if let Some(g) = &n.guard {
        out.push_str(" if ");
        guard(out, g, true);
    }
    if !n.caps.is_empty() {
        _ = write!(out, " [{}]", n.caps.join(", "));
    }
    out.push('\n');
}

fn guard(out: &mut String, g: &Guard, top: bool) {
    let (word, op, parts) = match g {
        Guard::Equals(e, v) => {
            _ = write!(out, "{e}=={v}");
            return;
        }
        Guard::And(p) => ("all", " && ", p),
        Guard::Or(p) => ("any", " || ", p),
    };
    // `(a==1)` would lose a group of one part; `all(a==1)` keeps it.
    let infix = parts.len() > 1;
    out.push_str(if !infix { word } else { "" });
    if !infix || !top {
        out.push('(');
    }
    for (i, p) in parts.iter().enumerate() {
        if i > 0 {
            out.push_str(op);
        }
        guard(out, p, false);
    }
    if !infix || !top {
        out.push(')');
    }
}

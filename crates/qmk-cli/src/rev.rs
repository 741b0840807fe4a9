//! `qmk rev`: the reversible segments of a program.

use crate::args::Input;
use crate::failure::Failure;
use crate::input::verified_graph;
use crate::output::print;
use serde_json::{Value, json};
use std::fmt::Write;

pub(crate) fn rev(file: &Input, as_json: bool) -> Result<(), Failure> {
    let graph = verified_graph(file)?;
    let segments = qmk_qvm::segments(&graph);
    let ids = |s: &qmk_qvm::Segment| s.nodes.iter().map(|&n| graph.nodes[n].id.clone()).collect::<Vec<_>>();
    if as_json {
        let all: Vec<Value> = segments.iter().map(|s| json!({"nodes": ids(s), "qubits": s.qubits})).collect();
        return print(&(json!({"segments": all}).to_string() + "\n"));
    }
    let mut text = format!("{}: {} reversible segments\n", file.file.display(), segments.len());
    for (i, s) in segments.iter().enumerate() {
        _ = writeln!(text, "{}: {} nodes on {}: {}", i + 1, s.nodes.len(), s.qubits.join(" "), ids(s).join(" "));
    }
    print(&text)
}

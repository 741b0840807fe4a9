//! `qmk show`: a program as a circuit diagram, in text or SVG.

use crate::args::Input;
use crate::diagram::Diagram;
use crate::failure::Failure;
use crate::input::verified_graph;
use crate::output::{print, write};
use crate::svg;
use serde_json::json;
use std::path::Path;

pub(crate) fn show(file: &Input, out: Option<&Path>, width: Option<usize>, as_json: bool) -> Result<(), Failure> {
    let graph = verified_graph(file)?;
    let title = graph.name.clone().unwrap_or_else(|| file.file.display().to_string());
    let diagram = Diagram::new(&title, &graph);
    if let Some(path) = out {
        write(Some(path), &svg::circuit(&diagram))?;
    }
    let width = width.or_else(|| ratatui::crossterm::terminal::size().ok().map(|s| s.0 as usize)).unwrap_or(100);
    let text = diagram.text(width.max(40));
    if as_json {
        let fields = json!({"title": title, "qubits": diagram.wires, "columns": diagram.columns.len(), "text": text, "note": diagram.note});
        return print(&(fields.to_string() + "\n"));
    }
    match out {
        Some(_) => Ok(()),
        None => print(&text),
    }
}

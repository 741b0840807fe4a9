//! Circuit diagrams: the layout of a program on wires and columns, and its text form.

use qmk_qvm::{Graph, Guard, Node};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;

/// Most wires and columns of a diagram.
const WIRES: usize = 100;
const COLUMNS: usize = 400;
/// Most characters of a name.
const NAME: usize = 16;

/// A circuit laid out: one wire per qubit, time from left to right. No two elements of a column overlap.
pub(crate) struct Diagram {
    pub(crate) title: String,
    pub(crate) wires: Vec<String>,
    pub(crate) columns: Vec<Vec<Element>>,
    /// How many qubits and operations are not drawn, if any.
    pub(crate) note: Option<String>,
}

/// One operation in a column.
pub(crate) struct Element {
    /// First and last wire that it covers, from 0 at the top.
    pub(crate) top: usize,
    pub(crate) bottom: usize,
    /// The text on each wire that it acts on.
    pub(crate) marks: Vec<(usize, String)>,
    /// Whether a vertical line joins the marks.
    pub(crate) joined: bool,
}

fn clip(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}~", &name[..end]),
        None => name.into(),
    }
}

fn condition(guard: &Guard) -> String {
    match guard {
        Guard::Equals(e, 1) => clip(e),
        Guard::Equals(e, _) => format!("!{}", clip(e)),
        Guard::And(c) if c.len() < 4 => c.iter().map(condition).collect::<Vec<_>>().join("&"),
        Guard::Or(c) if c.len() < 4 => format!("({})", c.iter().map(condition).collect::<Vec<_>>().join("|")),
        Guard::And(c) | Guard::Or(c) => format!("{} events", c.len()),
    }
}

/// The texts on the wires of a node, in the order of its qubits. The last also names the events written and read.
fn marks(node: &Node) -> Vec<String> {
    let symbol = node.op.symbol();
    let angle = ["theta", "angle"].iter().find_map(|k| node.args.get(*k)).and_then(Value::as_f64);
    let text = |k: &str| node.args.get(k).and_then(Value::as_str);
    let mut marks: Vec<String> = match (node.op.name(), node.vqs.len()) {
        ("APPLY_CNOT", 2) => vec!["o".into(), "X".into()],
        ("TELEPORT_CNOT", 2) => vec!["o".into(), "tX".into()],
        ("APPLY_CZ", 2) => vec!["o".into(), "Z".into()],
        ("APPLY_SWAP", 2) => vec!["x".into(), "x".into()],
        ("APPLY_TOFFOLI", 3) => vec!["o".into(), "o".into(), "X".into()],
        ("APPLY_CCZ", 3) => vec!["o".into(), "o".into(), "Z".into()],
        ("COND_PAULI", n) => {
            let mask: Vec<char> = text("mask").or(text("pauli")).unwrap_or_default().chars().collect();
            (0..n).map(|i| mask.get(i).map_or("P".into(), char::to_string)).collect()
        }
        (_, n) => vec![angle.map_or(symbol.into(), |a| format!("{symbol}({a:.3})")); n],
    };
    let mut after = String::new();
    if !node.produces.is_empty() {
        let names: Vec<String> = node.produces.iter().map(|e| clip(e)).collect();
        after = format!(":{}", names.join(","));
    }
    let inputs: Vec<String> = node.inputs.iter().take(4).map(|e| clip(e)).collect();
    let more = if node.inputs.len() > 4 { "^.." } else { "" };
    let conditions = [(!inputs.is_empty()).then(|| inputs.join("^") + more), node.guard.as_ref().map(condition)];
    let conditions: Vec<String> = conditions.into_iter().flatten().collect();
    if !conditions.is_empty() {
        after += &format!("?{}", conditions.join("&"));
    }
    if let Some(last) = marks.last_mut() {
        *last += &after;
    }
    marks
}

impl Diagram {
    /// Places each node in the first column where its wires are free and its events are known.
    pub(crate) fn new(title: &str, graph: &Graph) -> Diagram {
        let mut rows: HashMap<&str, usize> = HashMap::new();
        let mut wires = Vec::new();
        for q in graph.nodes.iter().flat_map(|n| &n.vqs) {
            rows.entry(q).or_insert_with(|| {
                wires.push(clip(q));
                wires.len() - 1
            });
        }
        let total = wires.len();
        wires.truncate(WIRES);
        let mut next = vec![0; wires.len()];
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut columns: Vec<Vec<Element>> = Vec::new();
        let mut hidden = 0usize;
        for node in &graph.nodes {
            let all: Vec<usize> = node.vqs.iter().filter_map(|q| rows.get(q.as_str()).copied()).collect();
            let mut marks: Vec<(usize, String)> = all.iter().copied().zip(marks(node)).collect();
            marks.retain(|(row, _)| *row < wires.len());
            let fence = node.op.name() == "FENCE_EPOCH";
            if fence && !wires.is_empty() {
                marks = (0..wires.len()).map(|row| (row, ":".to_string())).collect();
            }
            if marks.is_empty() {
                hidden += !all.is_empty() as usize;
                continue;
            }
            let separate = matches!(node.op.name(), "ALLOC_LQ" | "FREE_LQ" | "COND_PAULI");
            let joined = !separate && !fence && marks.len() > 1;
            let top = marks.iter().map(|m| m.0).min().unwrap_or(0);
            let bottom = marks.iter().map(|m| m.0).max().unwrap_or(0);
            let mut at = if joined || fence {
                next[top..=bottom].iter().copied().max().unwrap_or(0)
            } else {
                marks.iter().map(|m| next[m.0]).max().unwrap_or(0)
            };
            // A reader of an event stands to the right of its writer.
            let mut read = |e: &str| at = at.max(known.get(e).copied().unwrap_or(0));
            node.inputs.iter().for_each(|e| read(e));
            if let Some(guard) = &node.guard {
                guard.events(&mut |e| read(e));
            }
            if at >= COLUMNS {
                hidden += 1;
                continue;
            }
            if columns.len() <= at {
                columns.resize_with(at + 1, Vec::new);
            }
            node.produces.iter().for_each(|e| _ = known.insert(e, at + 1));
            if joined || fence {
                next[top..=bottom].fill(at + 1);
            } else {
                marks.iter().for_each(|m| next[m.0] = at + 1);
            }
            columns[at].push(Element { top, bottom, marks, joined });
        }
        let note = (hidden > 0 || total > wires.len()).then(|| {
            format!(
                "not drawn: {} of {total} qubits and {hidden} operations; the picture ends here",
                total - wires.len()
            )
        });
        Diagram { title: title.into(), wires, columns, note }
    }

    /// The diagram as text. Rows longer than `width` characters continue below, in blocks of columns.
    pub(crate) fn text(&self, width: usize) -> String {
        let label = self.wires.iter().map(|w| w.chars().count()).max().unwrap_or(0);
        let size = |c: &Vec<Element>| c.iter().flat_map(|b| &b.marks).map(|m| m.1.chars().count()).max().unwrap_or(1);
        let mut out = format!("{}\n", self.title);
        let mut from = 0;
        while from < self.columns.len() {
            let mut used = label + 3;
            let mut to = from;
            while to < self.columns.len() && (to == from || used + size(&self.columns[to]) + 2 <= width) {
                used += size(&self.columns[to]) + 2;
                to += 1;
            }
            if from > 0 {
                out.push('\n');
            }
            let mut lines: Vec<String> = self.wires.iter().map(|w| format!("{w:>label$}: ")).collect();
            for column in &self.columns[from..to] {
                let size = size(column);
                let mut cells: Vec<Option<String>> = vec![None; lines.len()];
                for b in column {
                    if b.joined {
                        cells[b.top..=b.bottom].fill(Some("|".into()));
                    }
                    for (row, mark) in &b.marks {
                        cells[*row] = Some(mark.clone());
                    }
                }
                for (line, cell) in lines.iter_mut().zip(cells) {
                    let cell = cell.unwrap_or_default();
                    _ = write!(line, "-{cell:-<size$}-");
                }
            }
            for line in lines {
                out += line.trim_end();
                out.push('\n');
            }
            from = to;
        }
        if let Some(note) = &self.note {
            _ = writeln!(out, "({note})");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Diagram;
    use expect_test::expect;
    use qmk_qvm::{Format, ParseOptions, parse};

    fn draw(text: &str, width: usize) -> String {
        Diagram::new("t", &parse(text, Format::Asm, &ParseOptions::default()).unwrap()).text(width)
    }

    #[test]
    fn a_line_per_qubit_and_a_column_per_step() {
        let text =
            "ALLOC_LQ -> a, b, c\nAPPLY_H a\nAPPLY_CNOT a, c\nMEASURE_Z a -> x\nAPPLY_X c if x == 1\nAPPLY_T b\n";
        expect![[r#"
            t
            a: -|0>--H--o--M:x------
            b: -|0>-----|--T--------
            c: -|0>-----X-------X?x-
        "#]]
        .assert_eq(&draw(text, 200));
    }

    #[test]
    fn wide_and_large_programs_are_folded_and_cut() {
        let mut text = String::from("ALLOC_LQ -> a\n");
        text += &"APPLY_H a\n".repeat(1000);
        let drawn = draw(&text, 80);
        assert!(drawn.lines().all(|l| l.len() <= 80 || l.starts_with('(')), "{drawn}");
        let rows: Vec<&str> = drawn.lines().collect();
        expect![[r#"
            t
            a: -|0>--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H-

            a: -H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H-
            a: -H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H--H-

            a: -H-
            (not drawn: 0 of 1 qubits and 601 operations; the picture ends here)"#]]
        .assert_eq(&[&rows[..4], &rows[rows.len() - 4..]].concat().join("\n"));
        let many: Vec<String> = (0..500).map(|i| format!("q{i}")).collect();
        let drawn = draw(&format!("ALLOC_LQ -> {}\n", many.join(", ")), 80);
        assert!(drawn.lines().count() == 102 && drawn.contains("400 of 500 qubits"), "{drawn}");
    }
}

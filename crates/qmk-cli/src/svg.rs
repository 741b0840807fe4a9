//! Histograms and circuit diagrams as SVG text.

use crate::diagram::Diagram;
use qmk_abi::rpc::RunReport;
use std::fmt::Write;

/// Most outcomes with bars of their own; the others share one bar.
const BARS: usize = 32;

/// Escapes text for an element or an attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // XML 1.0 cannot represent these characters, not even by a reference.
            c if (c.is_control() && c != '\t' && c != '\n') || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                out.push('\u{fffd}')
            }
            c => out.push(c),
        }
    }
    out
}

fn open(width: usize, height: usize, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" font-family=\"monospace\" font-size=\"12\">\n<title>{0}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"20\" font-size=\"14\">{0}</text>\n",
        escape(title)
    )
}

/// A bar chart of the counts: one bar per frequent outcome, one for the rest.
pub(crate) fn histogram(title: &str, r: &RunReport) -> String {
    let mut rows: Vec<(String, u64)> = r.counts.iter().map(|(k, n)| (k.clone(), *n)).collect();
    if rows.len() > BARS {
        rows.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let others = rows.split_off(BARS);
        rows.push((format!("{} others", others.len()), others.iter().map(|o| o.1).sum()));
    }
    let shown = |key: &str| match key.len() {
        0 => "(no events)".to_string(),
        33.. if key.is_ascii() => format!("{}...{}", &key[..14], &key[key.len() - 14..]),
        _ => key.to_string(),
    };
    let most = rows.iter().map(|r| r.1).max().unwrap_or(0).max(1);
    let left = 20 + 8 * rows.iter().map(|r| shown(&r.0).chars().count()).max().unwrap_or(0);
    let (bar, width) = (400usize, left + 400 + 140);
    let mut out = open(width, 60 + 20 * rows.len(), title);
    _ = writeln!(out, "<text x=\"10\" y=\"38\" fill=\"#555\">{} shots, seed {}</text>", r.shots, r.seed);
    for (i, (key, n)) in rows.iter().enumerate() {
        let y = 50 + 20 * i;
        let long = *n as f64 / most as f64 * bar as f64;
        let part = *n as f64 / r.shots.max(1) as f64;
        _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"{left}\" y=\"{y}\" width=\"{long:.2}\" \
             height=\"14\" fill=\"#4878a8\"/><text x=\"{:.2}\" y=\"{}\">{n} ({part:.4})</text>",
            left - 8,
            y + 11,
            escape(&shown(key)),
            left as f64 + long + 6.0,
            y + 11
        );
    }
    out + "</svg>\n"
}

/// A circuit diagram: the layout of a [`Diagram`] in pixels.
pub(crate) fn circuit(d: &Diagram) -> String {
    const ROW: usize = 36;
    let left = 30 + 8 * d.wires.iter().map(|w| w.chars().count()).max().unwrap_or(0);
    let mut at = Vec::with_capacity(d.columns.len());
    let mut x = left + 10;
    for column in &d.columns {
        let widest = column.iter().flat_map(|b| &b.marks).map(|m| m.1.chars().count()).max().unwrap_or(1);
        let width = 8 * widest + 14;
        at.push(x + width / 2);
        x += width + 10;
    }
    let y = |row: usize| 50 + ROW * row;
    let mut out = open(x + 20, 60 + ROW * d.wires.len() + if d.note.is_some() { 20 } else { 0 }, &d.title);
    for (row, name) in d.wires.iter().enumerate() {
        _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><path d=\"M{left} {1}H{x}\" stroke=\"black\"/>",
            left - 8,
            y(row),
            escape(name)
        );
    }
    for (column, &x) in d.columns.iter().zip(&at) {
        for b in column {
            if b.joined {
                _ = writeln!(out, "<path d=\"M{x} {}V{}\" stroke=\"black\"/>", y(b.top), y(b.bottom));
            }
            for (row, mark) in &b.marks {
                let y = y(*row);
                match mark.as_str() {
                    "o" => _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"4\"/>"),
                    ":" => {
                        _ = writeln!(
                            out,
                            "<path d=\"M{x} {}V{}\" stroke=\"gray\" stroke-dasharray=\"3\"/>",
                            y - 16,
                            y + 16
                        );
                    }
                    _ => {
                        let width = 8 * mark.chars().count() + 10;
                        _ = writeln!(
                            out,
                            "<rect x=\"{}\" y=\"{}\" width=\"{width}\" height=\"24\" fill=\"white\" stroke=\"black\"/>\
                             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                            x - width / 2,
                            y - 12,
                            y + 4,
                            escape(mark)
                        );
                    }
                }
            }
        }
    }
    if let Some(note) = &d.note {
        _ = writeln!(out, "<text x=\"10\" y=\"{}\" fill=\"#555\">{}</text>", y(d.wires.len()), escape(note));
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::{escape, histogram};
    use qmk_abi::rpc::RunReport;

    #[test]
    fn rare_outcomes_share_a_bar_and_names_are_escaped() {
        let counts = (0..40).map(|i| (format!("{i:06b}"), 100 - i)).collect();
        let report = RunReport { shots: 3220, counts, ..RunReport::default() };
        let text = histogram("<b> & \"c\"", &report);
        assert_eq!(text.matches("fill=\"#4878a8\"").count(), 33, "{text}");
        let others: u64 = (32..40).map(|i| 100 - i).sum();
        assert!(text.contains("8 others") && text.contains(&format!(">{others} (")), "{text}");
        assert!(text.contains("&lt;b&gt; &amp; &quot;c&quot;") && !text.contains("<b>"));
        assert_eq!(escape("a\u{1}b"), "a\u{fffd}b");
    }
}

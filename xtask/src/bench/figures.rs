//! Figures of benches that run as a whole, read from what their programs print.

use serde_json::Value;

/// One figure of a run; less is better.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
}

/// Width of the names in the table of the bench `cost` of `qmk-kernel`.
const NAME_WIDTH: usize = 64;

/// Figures of the table of the kernel's costs: a name of 64 characters, a value and its unit.
pub(super) fn of_costs(table: &str) -> Vec<Figure> {
    let figure = |line: &str| {
        let (name, rest) = line.split_at_checked(NAME_WIDTH)?;
        let mut words = rest.split_whitespace();
        let value = words.next()?.parse().ok()?;
        let unit = if words.next()? == "ns" { "ns" } else { "x" };
        Some(Figure { name: name.trim_end().into(), value, unit })
    };
    let mut figures: Vec<Figure> = table.lines().filter_map(figure).collect();
    for at in 1..figures.len() {
        // A row that goes on from the one above.
        if let Some(rest) = figures[at].name.strip_prefix("  ") {
            figures[at].name = format!("{}, {rest}", figures[at - 1].name);
        }
    }
    figures
}

/// Figures of the JSON of the bench `sched`, all in the modelled machine's own units, so that they are the same in each
/// run.
pub(super) fn of_schedules(rows: &Value) -> Vec<Figure> {
    const FIELDS: [(&str, &str, &str); 6] = [
        ("mix", "makespan", "epochs"),
        ("mix", "unfairness", "1 - Jain"),
        ("late", "waited", "epochs"),
        ("late", "epochs", "epochs"),
        ("deadlines", "refused", "programs"),
        ("deadlines", "missed", "programs"),
    ];
    let mut figures = Vec::new();
    for row in rows.as_array().into_iter().flatten() {
        for (kind, field, unit) in FIELDS {
            let value = match field {
                "unfairness" => row["jain"].as_f64().map(|jain| 1.0 - jain),
                _ => row[field].as_f64(),
            };
            if let (Some(name), Some(value)) = (row[kind].as_str(), value) {
                figures.push(Figure { name: format!("{kind} {name}: {field}"), value, unit });
            }
        }
    }
    figures
}

/// Figures of the JSON of the bench `rpc`: medians of the round trips of each call.
pub(super) fn of_calls(report: &Value) -> Vec<Figure> {
    let mut figures = Vec::new();
    for mode in ["ephemeral", "durable"] {
        for row in report[mode]["calls"].as_array().into_iter().flatten() {
            if let (Some(call), Some(form), Some(value)) =
                (row["call"].as_str(), row["form"].as_str(), row["p50_us"].as_f64())
            {
                figures.push(Figure { name: format!("{mode} {call} {form}"), value, unit: "us" });
            }
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn figure(name: &str, value: f64, unit: &'static str) -> Figure {
        Figure { name: name.into(), value, unit }
    }

    #[test]
    fn costs_are_read_from_their_table() {
        let table = format!(
            "{:64} {:8.2} ns goal   20.0 PASS\n{:64} {:8.2} x  goal    1.3 PASS\n{:64} {:8.2} x\n\nPASS\n",
            "lookup", 11.5, "lookup, large over small", 1.02, "  the same, going through all of them", 2.5
        );
        let expected = [
            figure("lookup", 11.5, "ns"),
            figure("lookup, large over small", 1.02, "x"),
            figure("lookup, large over small, the same, going through all of them", 2.5, "x"),
        ];
        assert_eq!(of_costs(&table), expected);
    }

    #[test]
    fn schedules_and_calls_are_read_from_their_reports() {
        let rows = json!([
            {"mix": "qft", "makespan": 120, "jain": null, "passes": true},
            {"late": "qft", "waited": 3, "epochs": 9},
            {"deadlines": "qft", "accepted": 4, "refused": 1, "missed": 0},
        ]);
        let expected = [
            figure("mix qft: makespan", 120.0, "epochs"),
            figure("late qft: waited", 3.0, "epochs"),
            figure("late qft: epochs", 9.0, "epochs"),
            figure("deadlines qft: refused", 1.0, "programs"),
            figure("deadlines qft: missed", 0.0, "programs"),
        ];
        assert_eq!(of_schedules(&rows), expected);
        let report = json!({"durable": {"calls": [{"call": "status", "form": "json", "p50_us": 12.5}]}});
        assert_eq!(of_calls(&report), [figure("durable status json", 12.5, "us")]);
    }
}

//! The same figures as the Azure Quantum Resource Estimator, for the cases of `reference/make.py`.

use qmk_estimate::{JobParams, estimate, parse_counts};
use serde_json::Value;

/// Every leaf of `want` stands in `got`: the same whole number or text, or a number that is the same but for rounding.
fn differences(at: &str, got: &Value, want: &Value, out: &mut Vec<String>) {
    match (got, want) {
        (Value::Object(g), Value::Object(w)) => {
            for (key, want) in w {
                differences(&format!("{at}.{key}"), g.get(key).unwrap_or(&Value::Null), want, out);
            }
            out.extend(
                g.keys().filter(|key| !w.contains_key(*key)).map(|key| format!("{at}.{key}: not in the reference")),
            );
        }
        (Value::Number(g), Value::Number(w)) if w.is_f64() => {
            let (g, w) = (g.as_f64().unwrap(), w.as_f64().unwrap());
            if (g - w).abs() > 1e-12 * w.abs() {
                out.push(format!("{at}: {g} instead of {w}"));
            }
        }
        _ if got == want => {}
        _ => out.push(format!("{at}: {got} instead of {want}")),
    }
}

#[test]
fn figures_are_those_of_the_reference() {
    let (mut cases, mut refused, mut full, mut wrong) = (0, 0, 0, Vec::new());
    for (line, text) in include_str!("reference/cases.jsonl").lines().enumerate() {
        let case: Value = serde_json::from_str(text).unwrap();
        let counts = parse_counts(&case["counts"].to_string()).unwrap().unwrap();
        let result = JobParams::parse(&case["params"].to_string()).and_then(|params| estimate(&counts, &params));
        cases += 1;
        match (result, case.get("error")) {
            (Ok(e), None) => {
                let mut got: Value = serde_json::from_str(&e.to_json()).unwrap();
                let want = &case["result"];
                full += usize::from(want.get("jobParams").is_some());
                got.as_object_mut().unwrap().retain(|key, _| want.get(key).is_some());
                differences(&format!("{}", line + 1), &got, want, &mut wrong);
            }
            (Err(_), Some(_)) => refused += 1,
            (Ok(_), Some(e)) => wrong.push(format!("{}: an estimate instead of {e}", line + 1)),
            (Err(e), None) => wrong.push(format!("{}: {e}", line + 1)),
        }
    }
    assert!(cases > 500 && refused > 10 && full > 15, "{cases} cases, {refused} refused, {full} in full");
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
}

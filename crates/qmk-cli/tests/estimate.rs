//! `qmk estimate` as a user meets it.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Exit code, standard output, standard error.
fn estimate(args: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_qmk")).arg("estimate").args(args).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).to_string_lossy().into_owned()
}

#[test]
fn every_example_has_an_estimate() {
    for entry in std::fs::read_dir(example("")).unwrap() {
        let path = entry.unwrap().path();
        let (code, out, err) = estimate(&[path.to_str().unwrap(), "--json"]);
        assert_eq!(code, 0, "{}: {err}", path.display());
        let report: Value = serde_json::from_str(&out).unwrap();
        assert!(report["physicalCounts"]["physicalQubits"].as_u64() > Some(0), "{}: {out}", path.display());
    }
}

#[test]
fn programs_and_counts_take_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let counts =
        write("counts.json", r#"{"numQubits": 100, "tCount": 1000, "rotationCount": 50, "rotationDepth": 20}"#);
    let (code, table, err) = estimate(&[&counts]);
    assert_eq!(code, 0, "{err}");
    let groups = ["Physical resources", "Breakdown", "Logical qubit", "T factory", "Logical counts", "Assumptions"];
    for group in groups {
        assert!(table.lines().any(|l| l == group), "{group}\n{table}");
    }
    let params =
        write("params.json", r#"{"qubitParams": {"name": "qubit_maj_ns_e4"}, "qecScheme": {"name": "floquet_code"}}"#);
    let (code, out, err) = estimate(&[&counts, "--params", &params, "--json"]);
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["jobParams"]["qecScheme"]["crossingPrefactor"], 0.07);
    let larger = |n: &str| {
        let (_, out, _) = estimate(&[&example("ghz.qvm"), "--param", n, "--json"]);
        let report: Value = serde_json::from_str(&out).unwrap();
        report["logicalCounts"]["numQubits"].as_u64().unwrap()
    };
    assert_eq!((larger("n=10"), larger("n=77")), (10, 77));

    let table = [
        (write("a.json", r#"{"numQubits": 1}"#), None, "INVALID_COUNTS", "nothing to estimate"),
        (write("b.json", r#"{"numQubits": 1, "tCoun": 1}"#), None, "INVALID_COUNTS", "unknown field `tCoun`"),
        (counts.clone(), Some(r#"{"qecSchem": {}}"#), "INVALID_PARAMS", "unknown field `qecSchem`"),
        (counts.clone(), Some(r#"{"errorBudget": 1.5}"#), "INVALID_PARAMS", "below 1"),
        (counts.clone(), Some(r#"{"estimateType": "frontier"}"#), "INVALID_PARAMS", "not available"),
        (counts.clone(), Some(r#"{"constraints": {"maxDuration": "1 ns"}}"#), "NO_SOLUTION", "maxDuration"),
        (write("c.qvm", "APPLY_H a"), None, "INVALID_GRAPH", "a"),
    ];
    for (file, params, code, message) in table {
        let params = params.map(|text| write("p.json", text));
        let mut args = vec![file.as_str(), "--json"];
        args.extend(params.as_deref().map(|p| ["--params", p]).iter().flatten());
        let (exit, out, _) = estimate(&args);
        let error: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((exit, error["error"]["code"].as_str()), (1, Some(code)), "{out}");
        assert!(error["error"]["message"].as_str().unwrap().contains(message), "{out}");
    }
    assert_eq!(estimate(&[&counts, "--param", "n=3"]).0, 2);
    assert_eq!(estimate(&["-", "--params", "-"]).0, 2);
}

//! `qmk estimate` as a user meets it.

mod common;

use common::{example, qmk};
use qmk_testkit::cli::Out;

fn estimate(args: &[&str]) -> Out {
    qmk(&[&["estimate"], args].concat())
}

#[test]
fn every_example_has_an_estimate() {
    for entry in std::fs::read_dir(example("")).unwrap() {
        let path = entry.unwrap().path();
        let out = estimate(&[path.to_str().unwrap(), "--json"]);
        assert_eq!(out.code, 0, "{}: {}", path.display(), out.stderr);
        let report = out.json();
        assert!(report["physicalCounts"]["physicalQubits"].as_u64() > Some(0), "{}: {report}", path.display());
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
    let Out { code, stdout: table, stderr } = estimate(&[&counts]);
    assert_eq!(code, 0, "{stderr}");
    let groups = ["Physical resources", "Breakdown", "Logical qubit", "T factory", "Logical counts", "Assumptions"];
    for group in groups {
        assert!(table.lines().any(|l| l == group), "{group}\n{table}");
    }
    let params =
        write("params.json", r#"{"qubitParams": {"name": "qubit_maj_ns_e4"}, "qecScheme": {"name": "floquet_code"}}"#);
    let out = estimate(&[&counts, "--params", &params, "--json"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert_eq!(out.json()["jobParams"]["qecScheme"]["crossingPrefactor"], 0.07);
    let larger = |n: &str| {
        let report = estimate(&[&example("ghz.qvm"), "--param", n, "--json"]).json();
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
        let out = estimate(&args);
        let error = out.json();
        assert_eq!((out.code, error["error"]["code"].as_str()), (1, Some(code)), "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(message), "{error}");
    }
    assert_eq!(estimate(&[&counts, "--param", "n=3"]).code, 2);
    assert_eq!(estimate(&["-", "--params", "-"]).code, 2);
}

//! `qmk qec` as a user meets it.

mod common;

use common::{QMK, qmk};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn document(args: &[&str]) -> Value {
    qmk(args).json()
}

fn text(args: &[&str]) -> String {
    let out = qmk(args);
    assert_eq!(out.code, 0, "{args:?}: {}", out.stderr);
    out.stdout
}

const D3: [&str; 8] = ["qec", "memory", "--code", "surface_code", "--distance", "3", "--p", "0.01"];

/// Without what is measured time.
fn timeless(mut v: Value) -> Value {
    if let Some(o) = v.as_object_mut() {
        o.remove("us_per_round");
        o.values_mut().for_each(|v| *v = timeless(v.take()));
    } else if let Some(a) = v.as_array_mut() {
        a.iter_mut().for_each(|v| *v = timeless(v.take()));
    }
    v
}

#[test]
fn a_memory_experiment_prints_a_table_or_one_document() {
    let out = document(&[&D3[..], &["--shots", "20000", "--seed", "3", "--json"]].concat());
    for key in ["shots", "failures", "logical_error_per_shot", "logical_error_per_round", "ci95", "us_per_round"] {
        assert!(!out[key].is_null(), "{key}: {out}");
    }
    assert_eq!((&out["shots"], &out["physical_qubits"], &out["rounds"]), (&json!(20000), &json!(17), &json!(3)));
    let (failures, per_shot) = (out["failures"].as_u64().unwrap(), out["logical_error_per_shot"].as_f64().unwrap());
    assert_eq!(per_shot, failures as f64 / 20000.0);
    // Stim and PyMatching find about 4.4 % here.
    assert!((0.03..0.06).contains(&per_shot), "{out}");
    let ci: Vec<f64> = out["ci95"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert!(ci[0] < per_shot && per_shot < ci[1] && ci[1] - ci[0] < 0.01, "{out}");
    let human = text(&[&D3[..], &["--shots", "1000"]].concat());
    assert!(human.contains("surface_code d=3, 3 rounds in basis Z") && human.contains("1000 shots, seed 0"), "{human}");
    assert!(human.contains("error per round") && human.contains("17"));
}

#[test]
fn threads_do_not_change_what_is_counted() {
    let run = |threads| {
        let how = ["--shots", "10500", "--seed", "9", "--json", "--threads", threads];
        timeless(document(&[&D3[..], &how].concat()))
    };
    assert_eq!(run("1"), run("3"));
    let dir = tempfile::tempdir().unwrap();
    let sweep = |threads: &str| {
        let out = dir.path().join(threads);
        let args = ["qec", "sweep", "--code", "surface_code", "--distances", "3,5", "--p", "5e-3,1e-2", "--json", "-o"];
        timeless(document(&[&args[..], &[&out.to_string_lossy(), "--threads", threads]].concat()))["points"].clone()
    };
    assert_eq!(sweep("1"), sweep("3"));
}

#[test]
fn what_is_out_of_range_is_refused_with_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("sweep").to_string_lossy().into_owned();
    let bad = dir.path().join("bad.stim").to_string_lossy().into_owned();
    std::fs::write(&bad, "R 0\nFROBNICATE 0\n").unwrap();
    let memory = |args: &[&str]| [&["qec", "memory"], args].concat().iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let sweep = |args: &[&str]| {
        let all = ["qec", "sweep", "--code", "surface_code", "-o", &out];
        [&all, args].concat().iter().map(|s| s.to_string()).collect::<Vec<_>>()
    };
    let d = |d, rest: &[&str]| memory(&[&["--code", "surface_code", "--distance", d], rest].concat());
    let table = [
        (d("3", &["--p", "0.6"]), 2, "between 0 and 0.5"),
        (d("3", &["--p", "-0.1"]), 2, "between 0 and 0.5"),
        (d("3", &["--p", "nan"]), 2, "between 0 and 0.5"),
        (d("1", &["--p", "0.01"]), 2, "between 2 and 51"),
        (d("0", &["--p", "0.01"]), 2, "between 2 and 51"),
        (d("4000000000", &["--p", "0.01"]), 2, "between 2 and 51"),
        (d("3", &["--p", "0.01", "--rounds", "0"]), 2, "1..=10000"),
        (d("3", &["--p", "0.01", "--rounds", "-3"]), 2, "1..=10000"),
        (d("3", &["--p", "0.01", "--rounds", "10001"]), 2, "1..=10000"),
        (d("51", &["--p", "0.01", "--rounds", "10000"]), 2, "at most 50 rounds"),
        (d("3", &["--p", "0.01", "--shots", "0"]), 2, "from 1 to"),
        (d("3", &["--p", "0.01", "--threads", "0"]), 2, "1..=1024"),
        (d("3", &["--p", "0.01", "--noise-model", "loud"]), 2, "known: uniform, sd6"),
        (d("3", &["--p", "0.01", "--set", "gate3=1"]), 2, "known: gate1, gate2"),
        (d("3", &["--p", "0.01", "--set", "gate2=2"]), 2, "between 0 and 0.9375"),
        (d("3", &["--p", "0.01", "--set", "gate2=x"]), 2, "not a number"),
        (d("3", &["--p", "0.01", "--decoder", "oracle"]), 2, "matching"),
        (d("3", &[]), 2, "--p"),
        (memory(&["--code", "toric", "--distance", "3", "--p", "0.01"]), 2, "known: surface_code, bacon_shor"),
        (memory(&["--code", "shyps", "--distance", "5", "--p", "0.01"]), 2, "4, 8 or 16"),
        (memory(&["--circuit", "no-such-file.stim"]), 1, "no-such-file.stim"),
        (memory(&["--circuit", "/dev/zero"]), 1, "regular file"),
        (memory(&["--circuit", &bad]), 1, "FROBNICATE"),
        (memory(&["--circuit", &bad, "--code", "shyps"]), 2, "cannot be used with"),
        (sweep(&["--distances", "3", "--p", "1e-2:1e-3:4"]), 2, "LOW < HIGH"),
        (sweep(&["--distances", "3", "--p", "1e-3:1e-2:1"]), 2, "2 to 1000"),
        (sweep(&["--distances", "3,99", "--p", "1e-3"]), 2, "between 2 and 51"),
        (sweep(&["--distances", "3", "--p", "1e-3", "--rounds", "0d"]), 2, "1 to 10000"),
        (sweep(&["--distances", "3", "--p", "1e-3", "--target-error", "0"]), 2, "above 0"),
        (sweep(&["--distances", "3", "--p", "1e-3", "--max-shots", "10"]), 2, "--max-shots 10"),
    ];
    for (args, code, says) in table {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = qmk(&args);
        assert_eq!(run.code, code, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(says) && run.stdout.is_empty(), "{args:?}: {}", run.stderr);
        let run = document(&[&args[..], &["--json"]].concat());
        assert!(run["error"]["message"].as_str().unwrap().contains(says), "{args:?}: {run}");
    }
    // What was refused left nothing behind.
    assert!(!Path::new(&out).exists());
}

#[test]
fn exported_circuits_run_as_the_codes_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("d3.stim").to_string_lossy().into_owned();
    let made = ["--code", "surface_code", "--distance", "3", "--p", "0.01"];
    text(&[&["qec", "circuit"], &made[..], &["-o", &file]].concat());
    let again = text(&["qec", "circuit", "--circuit", &file]);
    let lines = |t: &str| t.lines().filter(|l| !l.starts_with('#')).map(String::from).collect::<Vec<_>>();
    assert_eq!(lines(&std::fs::read_to_string(&file).unwrap()), lines(&again));
    assert_eq!(text(&[&["qec", "model"], &made[..]].concat()), text(&["qec", "model", "--circuit", &file]));
    let code = document(&[&D3[..], &["--json"]].concat());
    let circuit = document(&["qec", "memory", "--circuit", &file, "--rounds", "3", "--json"]);
    assert_eq!(code["what"], "surface_code d=3, 3 rounds in basis Z, uniform noise at p=0.01");
    assert_eq!(circuit["what"], file);
    let nameless = |mut v: Value| {
        v["what"].take();
        timeless(v)
    };
    assert_eq!(nameless(code), nameless(circuit));
    let random = dir.path().join("random.stim").to_string_lossy().into_owned();
    std::fs::write(&random, "RX 0\nM 0\nDETECTOR rec[-1]\nOBSERVABLE_INCLUDE(0) rec[-1]\n").unwrap();
    let out = qmk(&["qec", "memory", "--circuit", &random]);
    assert!(out.code == 1 && out.stderr.contains("detector 0 is random"), "{}", out.stderr);
}

fn sweep_args(out: &str) -> Vec<&str> {
    let args = "qec sweep --code surface_code --distances 3,5,7 --p 6e-3:1.4e-2:7 --target-error 0.02 --max-shots 100000 --json -o";
    args.split(' ').chain([out]).collect()
}

#[test]
fn a_killed_sweep_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (whole, killed) = (place("whole"), place("killed"));
    let (whole, killed) = (sweep_args(&whole), sweep_args(&killed));
    let expected = document(&whole);
    let file = dir.path().join("killed/points.jsonl");
    let count = || std::fs::read_to_string(&file).map_or(0, |t| t.lines().count());
    let mut child = QMK.command(&killed).stdout(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while count() < 4 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let held = std::fs::read_to_string(&file).unwrap();
    let before = held.lines().count();
    assert!((4..43).contains(&before), "{before}");
    // The kill came in the middle of a line, and before that in the middle of a point.
    let last: Value = serde_json::from_str(held.lines().nth(2).unwrap()).unwrap();
    let cut = held.lines().take(3).map(|l| format!("{l}\n")).collect::<String>() + r#"{"code":"surf"#;
    std::fs::write(&file, cut).unwrap();
    let resumed = document(&killed);
    assert_eq!(timeless(expected["points"].clone()), timeless(resumed["points"].clone()));
    assert_eq!(expected["threshold"], resumed["threshold"]);
    assert!(resumed["points"].as_array().unwrap().contains(&last), "a point was measured again");
    // Once more: nothing is left to do.
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(document(&killed)["points"], resumed["points"]);
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    // The threshold of this noise lies near 0.9 %.
    let threshold = &resumed["threshold"];
    assert!(threshold["found"] == true, "{threshold}");
    assert!((0.006..0.013).contains(&threshold["p"].as_f64().unwrap()), "{threshold}");
    let plot = std::fs::read_to_string(dir.path().join("killed/plot.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("d = 7") && plot.contains("threshold"));
    // A different sweep does not go there.
    let out = qmk(&[&killed[..], &["--seed", "1"]].concat());
    assert_eq!(out.code, 2, "{}", out.stderr);
    let says = ["different sweep", "seed is 0 there and 1 here"];
    assert!(says.iter().all(|s| out.stderr.contains(s)), "{}", out.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    // Nor does any go to a file of something else.
    let stray = dir.path().join("stray.jsonl");
    for content in ["my notes", "my notes\n", "{\"a\": 1}\n"] {
        std::fs::write(&stray, content).unwrap();
        assert_ne!(qmk(&sweep_args(&stray.to_string_lossy())).code, 0, "{content:?}");
        assert_eq!(std::fs::read_to_string(&stray).unwrap(), content);
    }
}

#[test]
fn bacon_shor_codes_have_a_best_size_instead_of_a_threshold() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bs.jsonl").to_string_lossy().into_owned();
    let args = ["qec", "sweep", "--code", "bacon_shor", "--distances", "3,5,7", "--p", "1e-3,1e-2", "--basis", "z"];
    let human = text(&[&args[..], &["--max-shots", "50000", "-o", &out]].concat());
    assert!(human.contains("no threshold") && human.contains("optimal size at p = 1.000e-2: d = 3"), "{human}");
    let json = document(&[&args[..], &["--max-shots", "50000", "-o", &out, "--json"]].concat());
    let best: Vec<u64> =
        json["optimal_size"].as_array().unwrap().iter().map(|o| o["distance"].as_u64().unwrap()).collect();
    assert!(best.len() == 2 && best[0] > 3 && best[1] == 3, "{json}");
    assert!(dir.path().join("bs.svg").exists());
}

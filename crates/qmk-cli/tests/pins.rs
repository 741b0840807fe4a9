//! What `qmk` prints for every program of `examples/`, byte for byte, but for times.
//!
//! The recordings stand in `tests/pins/cli`. `QMK_PINS=write cargo test -p qmk-cli --test pins` writes them anew;
//! [`qmk_tests::pins`] says when that is allowed.

mod common;

use common::QMK;
use qmk_testkit::cli::Out;
use qmk_tests::pins::{Pins, without_volatile};
use std::fmt::Write;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Runs `qmk` in the root of the workspace and writes down what it was given and what came out.
fn note(transcript: &mut String, args: &[&str]) -> String {
    let out = Out::of(QMK.command(args).current_dir(ROOT).env("COLUMNS", "100"));
    _ = writeln!(transcript, "$ qmk {}\n{}", args.join(" "), without_times(&without_volatile(&out.stdout)));
    if !out.stderr.is_empty() {
        _ = writeln!(transcript, "stderr: {}", without_volatile(&out.stderr));
    }
    if out.code != 0 {
        _ = writeln!(transcript, "exit code {}", out.code);
    }
    out.stdout
}

/// The last line of a histogram ends in the time that the run took.
fn without_times(text: &str) -> String {
    let line = |line: &str| match line.rsplit_once(" T states; ") {
        Some((before, _)) => format!("{before} T states; * ms here"),
        None => line.into(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_output_for_examples_is_as_recorded() {
    let mut pins = Pins::of(&Path::new(ROOT).join("tests/pins/cli"));
    let mut names: Vec<_> =
        std::fs::read_dir(Path::new(ROOT).join("examples")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert!(names.len() >= 24, "only {} examples", names.len());
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let name = name.into_string().unwrap();
        let file = &format!("examples/{name}");
        let mut out = String::new();
        for noise in ["ideal", "logical", "physical"] {
            note(&mut out, &["run", file, "--shots", "40", "--seed", "7", "--noise", noise, "--json"]);
        }
        note(&mut out, &["run", file, "--shots", "40", "--seed", "7"]);
        for args in [["verify"].as_slice(), &["rev"], &["estimate"], &["show", "--width", "100"]] {
            let args = [args, &[file]].concat();
            note(&mut out, &args);
            note(&mut out, &[args.as_slice(), &["--json"]].concat());
        }
        // To a graph, if it is none, and back to assembly.
        let graph = folder.path().join(&name).with_extension("json");
        let json = name.ends_with(".json");
        if json {
            std::fs::copy(Path::new(ROOT).join(file), &graph).unwrap();
        } else {
            std::fs::write(&graph, note(&mut out, &["asm", file])).unwrap();
        }
        let mut back = String::new();
        note(&mut back, &["disasm", graph.to_str().unwrap()]);
        out += &back.replace(graph.to_str().unwrap(), "GRAPH");
        pins.check(&format!("{name}.txt"), out.as_bytes());
    }
    pins.finish();
}

#[test]
fn the_help_is_as_recorded() {
    let mut pins = Pins::of(&Path::new(ROOT).join("tests/pins/help"));
    let mut out = String::new();
    note(&mut out, &["--help"]);
    for command in [
        "run",
        "verify",
        "asm",
        "disasm",
        "show",
        "rev",
        "estimate",
        "qec",
        "submit",
        "status",
        "wait",
        "result",
        "cancel",
        "telemetry",
        "resources",
        "token",
        "audit",
        "ps",
        "top",
        "completions",
    ] {
        note(&mut out, &[command, "--help"]);
    }
    pins.check("qmk.txt", out.as_bytes());
    pins.finish();
}

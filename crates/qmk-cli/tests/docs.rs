//! The examples of the documents are programs that run.

mod common;

use common::QMK;
use std::path::Path;

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)).unwrap()
}

/// The indented blocks of a document.
fn programs(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for line in text.lines() {
        match (line.strip_prefix("    "), found.last_mut()) {
            (Some(line), Some(block)) => *block += &format!("{line}\n"),
            (None, Some(block)) if !block.is_empty() => found.push(String::new()),
            _ => {}
        }
    }
    found.retain(|p| !p.is_empty());
    found
}

#[test]
fn the_programs_of_the_assembly_manual_run() {
    let programs = programs(&read("docs/reference/assembly.md"));
    // The first is the form of a line.
    assert!(programs.len() >= 4 && programs[0].starts_with("label: OPCODE"), "{programs:?}");
    for program in &programs[1..] {
        let out = QMK.run_with(&["run", "-"], program);
        assert_eq!(out.code, 0, "{program}{}", out.stderr);
    }
}

/// The examples are compiled and run where they stand as documentation of the crate.
#[test]
fn the_embedded_machines_of_the_documents_are_those_of_the_services() {
    let services = read("crates/qmk-services/src/lib.rs");
    for document in ["README.md", "docs/guide/server.md"] {
        let text = read(document);
        let example = text.split("```").find(|block| block.contains("Machine::start")).unwrap();
        let written: String =
            example.lines().skip(1).map(|l| format!("//! {l}\n").replace("//! \n", "//!\n")).collect();
        assert!(services.contains(&written), "{document}: {written}");
    }
}

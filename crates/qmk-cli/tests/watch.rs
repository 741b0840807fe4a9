//! Commands that show: jobs, the machine, programs, outcomes.

mod common;

use common::{example, qmk};
use expect_test::expect;
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimDevice;
use qmk_tests::server::LocalServer;
use std::process::{Command, Stdio};
use std::sync::Arc;

#[test]
fn ps_and_top_tell_what_a_server_does() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Arc::new(Machine::start(SimDevice::default(), MachineConfig::default()));
    let server = LocalServer::of(&dir.path().join("qmk.sock"), machine);
    let at = server.address();

    assert!(qmk(&["ps", "--connect", &at]).stdout.starts_with("STATE"));
    let submitted = qmk(&["submit", &example("grover.qvm"), "--shots", "7", "--connect", &at]);
    let job = submitted.stdout.trim();
    assert_eq!(qmk(&["wait", job, "--connect", &at]).code, 0);
    let text = qmk(&["ps", "--connect", &at]);
    let line = text.stdout.lines().nth(1).unwrap();
    assert!(line.starts_with("COMPLETED") && line.contains("100%") && line.ends_with(job), "{}", text.stdout);
    let list = qmk(&["ps", "--json", "--connect", &at]).json();
    assert_eq!((&list["jobs"][0]["shots"], &list["jobs"][0]["state"]), (&7.into(), &"COMPLETED".into()));
    assert_eq!(list["tenant"], "default");

    // Without a terminal it looks once.
    for args in [&["top", "--once", "--connect", &at][..], &["top", "--connect", &at]] {
        let top = qmk(args);
        assert_eq!(top.code, 0, "{}", top.stderr);
        assert!(top.stdout.contains("qubits 0/10000") && top.stdout.contains("\ndefault "), "{}", top.stdout);
        assert!(!top.stdout.contains('\u{1b}'), "{:?}", top.stdout);
    }
    let top = qmk(&["top", "--json", "--connect", &at]).json();
    assert_eq!((&top["tenants"][0]["jobs"]["completed"], &top["logical_qubits"]), (&1.into(), &10_000.into()));
    assert!(top["epoch"].as_u64() > Some(0) && top["epochs_per_second"].is_number());

    let picture = dir.path().join("result.svg");
    let result = qmk(&["result", job, "--json", "--svg", picture.to_str().unwrap(), "--connect", &at]);
    assert_eq!(result.json()["shots"], 7);
    assert!(std::fs::read_to_string(&picture).unwrap().contains("7 shots, seed 0"));
    let gone = format!("unix:{}", dir.path().join("none").display());
    assert_eq!((qmk(&["ps", "--connect", &gone]).code, qmk(&["top", "--connect", &gone]).code), (4, 4));
}

#[test]
fn a_run_draws_its_outcomes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bell.svg");
    let out = qmk(&["run", &example("bell.qvm"), "--json", "--svg", path.to_str().unwrap()]);
    let counts = out.json()["counts"].clone();
    let svg = std::fs::read_to_string(&path).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert_eq!(svg.matches("#4878a8").count(), 2);
    for key in ["00", "11"] {
        assert!(svg.contains(&format!(">{key}</text>")) && svg.contains(&format!(">{} (", counts[key])), "{svg}");
    }
    let nowhere = dir.path().join("no/such/place.svg");
    let out = qmk(&["run", &example("bell.qvm"), "--svg", nowhere.to_str().unwrap()]);
    assert!(out.code == 1 && out.stderr.contains("place.svg"), "{}", out.stderr);
}

/// A run long enough for the bar, with standard error as it is here: no terminal.
#[test]
fn progress_bars_are_for_terminals() {
    let dir = tempfile::tempdir().unwrap();
    let slow = dir.path().join("slow.qvm");
    std::fs::write(
        &slow,
        "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\nFREE_LQ a\n",
    )
    .unwrap();
    let slow = slow.to_str().unwrap();
    for more in [&[][..], &["--json"]] {
        let out = qmk(&[&["run", slow, "--shots", "3000000"], more].concat());
        assert_eq!((out.code, out.stderr.as_str()), (0, ""));
        assert!(!out.stdout.contains('\u{1b}') && !out.stdout.contains('\r'));
    }
    // On a terminal it shows, unless the output is for a machine.
    let Ok(probe) = Command::new("script").arg("--version").output() else { return };
    assert!(probe.status.success());
    for (json, shows) in [("", true), ("--json", false)] {
        let inner = format!("{} run {slow} --shots 60000000 {json}", env!("CARGO_BIN_EXE_qmk"));
        let out = Command::new("script").args(["-qec", &inner, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(text.contains("operations"), shows, "{text:?}");
    }
}

#[test]
fn every_example_can_be_drawn() {
    let mut drawn = 0;
    for file in std::fs::read_dir(example("")).unwrap() {
        let path = file.unwrap().path();
        let path = path.to_str().unwrap();
        let text = qmk(&["show", path, "--width", "100"]);
        assert_eq!(text.code, 0, "{path}: {}", text.stderr);
        assert!(text.stdout.lines().all(|l| l.chars().count() <= 100), "{path}: {}", text.stdout);
        assert!(text.stdout.lines().any(|l| l.contains(": -|0>-")), "{path}: {}", text.stdout);
        let rev = qmk(&["rev", path, "--json"]);
        assert!(rev.json()["segments"].is_array(), "{path}");
        drawn += 1;
    }
    assert!(drawn >= 24);
}

#[test]
fn show_draws_a_line_for_each_qubit() {
    let out = qmk(&["show", &example("bell.qvm"), "--width", "200"]);
    expect![[r#"
        bell
        a: -|0>--H--o--M:x--free-
        b: -|0>-----X--M:y--free-
    "#]]
    .assert_eq(&out.stdout);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.svg");
    let out = qmk(&["show", &example("teleportation.qvm"), "--svg", path.to_str().unwrap()]);
    assert_eq!((out.code, out.stdout.as_str()), (0, ""));
    let svg = std::fs::read_to_string(&path).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("M:x_bit") && svg.contains("X?x_bit"), "{svg}");
    assert_eq!(svg.matches("<circle").count(), 2);
    let bad = qmk(&["show", "/no/such/file"]);
    assert_eq!((bad.code, bad.stdout.as_str()), (1, ""));
}

#[test]
fn rev_lists_what_can_be_undone() {
    let out = qmk(&["rev", &example("bell.qvm"), "--json"]);
    assert_eq!(out.json(), serde_json::json!({"segments": [{"nodes": ["h", "cx"], "qubits": ["a", "b"]}]}));
    let text = qmk(&["rev", &example("bell.qvm")]).stdout;
    assert!(text.contains("1 reversible segments") && text.contains("1: 2 nodes on a b: h cx"), "{text}");
    // The corrections depend on outcomes of qubits that the preparation acted on.
    let segments = qmk(&["rev", &example("teleportation.qvm"), "--json"]).json();
    assert_eq!(segments["segments"].as_array().unwrap().len(), 2, "{segments}");
    assert_eq!(segments["segments"][1]["qubits"], serde_json::json!(["right"]));
}

#[test]
fn help_and_completions_name_every_command() {
    let help = qmk(&["--help"]).stdout;
    let commands = [
        "run",
        "verify",
        "asm",
        "disasm",
        "show",
        "rev",
        "submit",
        "status",
        "wait",
        "result",
        "cancel",
        "telemetry",
        "resources",
        "ps",
        "top",
        "completions",
    ];
    for command in commands {
        assert!(help.lines().any(|l| l.trim_start().starts_with(&format!("{command} "))), "{command}: {help}");
        let own = qmk(&[command, "--help"]).stdout;
        assert!(own.contains("Example"), "{own}");
        for shell in ["bash", "zsh", "fish"] {
            assert!(qmk(&["completions", shell]).stdout.contains(command), "{command} in {shell}");
        }
    }
    assert_eq!(qmk(&["completions", "tcsh"]).code, 2);
}

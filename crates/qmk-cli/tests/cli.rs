//! The `qmk` command as a user meets it: output, exit codes, one JSON document.

mod common;

use common::{QMK, example, qmk};
use expect_test::expect;
use qmk_qec::machine::NoisyDevice;
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimDevice;
use qmk_testkit::cli::Out;
use qmk_tests::server::LocalServer;
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

fn qmk_with(args: &[&str], stdin: &str) -> Out {
    QMK.run_with(args, stdin)
}

#[test]
fn run_prints_a_histogram_or_one_document() {
    let text = qmk(&["run", &example("bell.qvm")]);
    assert_eq!(text.code, 0, "{}", text.stderr);
    // The last line has the time.
    let (shown, _) = text.stdout.trim_end().rsplit_once('\n').unwrap();
    expect![[r#"
        bell.qvm: 1024 shots, seed 0
        events: x y
          00  472  0.4609  ##################################
          11  552  0.5391  ########################################"#]]
    .assert_eq(&shown.replace(&example("bell.qvm"), "bell.qvm"));
    let out = qmk(&["run", &example("bell.qvm"), "--shots", "100", "--seed", "5", "--json"]).json();
    let keys: Vec<&String> = out.as_object().unwrap().keys().collect();
    for key in [
        "shots",
        "seed",
        "events",
        "counts",
        "epochs",
        "logical_time_us",
        "physical_qubits",
        "t_states",
        "logical_error_probability",
        "peak_active_qubits",
        "wall_ms",
    ] {
        assert!(keys.iter().any(|k| *k == key), "{key} is missing");
    }
    assert_eq!((&out["shots"], &out["seed"], &out["events"]), (&json!(100), &json!(5), &json!(["x", "y"])));
    assert_eq!(out["epochs"]["total"].as_u64(), out["epochs"]["per_shot"].as_u64().map(|e| 100 * e));
    let counts = out["counts"].as_object().unwrap();
    assert_eq!(counts.values().map(|v| v.as_u64().unwrap()).sum::<u64>(), 100);
    assert!(counts.keys().all(|k| k == "00" || k == "11"));
    let again = qmk(&["run", &example("bell.qvm"), "--shots", "100", "--seed", "5", "--json"]).json();
    assert_eq!(again["counts"], out["counts"]);
}

#[test]
fn parameters_reach_the_program() {
    let out = qmk(&["run", &example("ghz.qvm"), "--param", "n=9", "--json"]).json();
    assert!(out["counts"].as_object().unwrap().contains_key("000000000"));
}

/// Programs that fail, each in its own way, in a folder that goes with them.
struct Failing {
    dir: tempfile::TempDir,
    bad: String,
    huge: String,
    magic: String,
}

impl Failing {
    fn new() -> Failing {
        let none = String::new();
        let mut p = Failing { dir: tempfile::tempdir().unwrap(), bad: none.clone(), huge: none.clone(), magic: none };
        p.bad = p.write("bad.qvm", "ALLOC_LQ -> a\nbroken: APPLY_H b\nFREE_LQ a\n");
        p.huge = p.write("huge.qvm", "ALLOC_LQ -> {\", \".join([f\"q{i}\" for i in range(10001)])}\n");
        p.magic = p.write(
            "magic.qvm",
            "ALLOC_LQ -> a, b, c\n.for q in [\"a\", \"b\", \"c\"]\nAPPLY_H {q}\n.endfor\n\
             APPLY_T a\nAPPLY_T b\nlast: APPLY_T c\nAPPLY_CNOT a, b\nAPPLY_CNOT b, c\n\
             .for q in [\"a\", \"b\", \"c\"]\nAPPLY_H {q}\nAPPLY_T {q}\n.endfor\n\
             APPLY_CNOT c, a\nAPPLY_CNOT b, a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a, b, c\n",
        );
        p
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }
}

#[test]
fn exit_codes_and_error_documents() {
    let (p, good) = (Failing::new(), example("bell.qvm"));
    let pipe = p.dir.path().join("pipe").to_string_lossy().into_owned();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let table: &[(&[&str], i32, &str)] = &[
        (&["run", "no-such-file.qvm"], 1, "IO"),
        (&["run", &p.bad], 1, "INVALID_GRAPH"),
        (&["run", &good, "--shots", "many"], 2, "USAGE"),
        (&["run", &good, "--param", "n"], 2, "USAGE"),
        (&["run", &good, "--param", "n=1"], 1, "INVALID_GRAPH"),
        (&["run", &good, "--param", "n=1", "--param", "n=1"], 2, "USAGE"),
        (&["run", &good, "--shots", "0"], 2, "USAGE"),
        (&["run", &good, "--seed", "-1"], 2, "USAGE"),
        (&["run", &good, "--shots", "100000001"], 3, "QUOTA_EXCEEDED"),
        (&["run", "/dev/zero"], 1, "IO"),
        (&["run", &pipe], 1, "IO"),
        (&["run", &good, "--noise", "loud"], 2, "USAGE"),
        (&["run", &good, "--deadline", "soon"], 2, "USAGE"),
        (&["run", &good, "--deadline", "100"], 3, "RESOURCE_EXHAUSTED"),
        (&["run", &good, "--profile", "logical:toric(d=7)"], 2, "USAGE"),
        (&["run", &p.huge], 3, "RESOURCE_EXHAUSTED"),
        (&["run", &p.magic, "--max-active", "2"], 3, "RESOURCE_EXHAUSTED"),
        (&["run", &good, "--max-active", "2", "--connect", "unix:/no/such/socket"], 2, "USAGE"),
        (&["run", &good, "--connect", "tcp:localhost:1"], 2, "USAGE"),
        (&["run", &good, "--connect", "unix:/no/such/socket"], 4, "CONNECTION"),
        (&["status", "nonsense"], 2, "USAGE"),
        (&["wait", "sess_1/job_01"], 2, "USAGE"),
        (&["result", "sess_1/1"], 2, "USAGE"),
        (&["frobnicate"], 2, "USAGE"),
    ];
    for (args, code, name) in table {
        let plain = qmk(args);
        assert_eq!(plain.code, *code, "{args:?}: {}", plain.stderr);
        assert!(plain.stdout.is_empty() && !plain.stderr.is_empty(), "{args:?}");
        let with_json = [*args, &["--json"]].concat();
        let out = qmk(&with_json);
        assert_eq!(out.code, *code, "{with_json:?}");
        assert_eq!(out.json()["error"]["code"], *name, "{with_json:?}: {}", out.stdout);
        assert!(!out.json()["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn messages_say_what_is_wrong_and_where() {
    let (p, good) = (Failing::new(), example("bell.qvm"));
    let findings = qmk(&["run", &p.bad, "--json"]).json()["error"]["findings"].clone();
    assert_eq!((&findings[0]["node"], &findings[0]["line"]), (&json!("broken"), &json!(2)));
    let says = |args: &[&str], words: &[&str]| {
        let out = qmk(args);
        assert!(words.iter().all(|w| out.stderr.contains(w)), "{words:?} in {}", out.stderr);
    };
    says(&["run", &p.bad], &["bad.qvm:2: error"]);
    says(&["run", &good, "--seed", "-1"], &["whole number from 0 to 18446744073709551615"]);
    says(&["run", &p.magic, "--max-active", "2"], &["node last, line 7", "--max-active"]);
    says(&["run", &good, "--param", "n=1"], &["E-ARG", "no parameter \"n\""]);
    says(&["run", &example("ghz.qvm"), "--param", "N=9"], &["no parameter \"N\"; it has n"]);
    says(&["run", &good, "--connect", "tcp:localhost:1"], &["unix:PATH"]);
    assert_eq!(qmk(&["run", &p.magic, "--max-active", "3"]).code, 0);
    says(&["run", &good, "--deadline", "100"], &["deadline of 100 epochs", "1024 shots take at least"]);
    let met = qmk(&["run", &good, "--deadline", "10000", "--json"]).json();
    assert!(met["epochs"]["total"].as_u64().unwrap() <= 10_000, "{met}");
    let dirty = p.write("dirty.qvm", "ALLOC_LQ -> a, b\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H b\nFREE_LQ a, b\n");
    says(&["run", &dirty], &["dirty.qvm: warning: 1 qubit is freed"]);
    // Warnings stand beside errors.
    let both = p.write("both.qvm", "ALLOC_LQ -> a\nAPPLY_H b\n");
    says(&["run", &both], &["error E-", "warning W-UNFREED"]);
}

#[test]
fn arguments_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.qvm"));
    let run = || Command::new(env!("CARGO_BIN_EXE_qmk")).arg("run").arg(&odd).arg("--json").output().unwrap();
    assert_eq!(run().status.code(), Some(1));
    std::fs::copy(example("bell.qvm"), &odd).unwrap();
    let out = run();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn an_empty_program_runs() {
    let out = qmk_with(&["run", "-", "--shots", "3", "--json"], "; nothing yet\n.events a b\n");
    assert_eq!((out.code, &out.json()["counts"]), (0, &json!({"00": 3})), "{}", out.stderr);
    assert!(out.stderr.contains("W-EMPTY"), "{}", out.stderr);
}

#[test]
fn a_short_text_may_be_a_long_program() {
    let text = "ALLOC_LQ -> a\n.for i in 1..400000\nAPPLY_H a\n.endfor\nMEASURE_Z a -> m\n";
    assert_eq!(qmk_with(&["verify", "-"], text).code, 0);
    let out = qmk_with(&["run", "-", "--shots", "1", "--json"], text);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert_eq!(out.json()["counts"], json!({"0": 1}));
}

#[test]
fn verify_lists_findings_and_warnings() {
    let out = qmk_with(&["verify", "-", "--json"], "ALLOC_LQ -> a\nAPPLY_H b\nMEASURE_Z c -> m");
    assert_eq!(out.code, 1);
    let v = out.json();
    assert_eq!(v["valid"], false);
    assert!(v["findings"].as_array().unwrap().iter().any(|f| f["line"] == 3 && f["severity"] == "error"));
    let ok = qmk(&["verify", &example("grover.qvm"), "--json"]);
    assert_eq!((ok.code, ok.json()), (0, json!({"valid": true, "findings": []})));
    let warned = qmk_with(&["verify", "-"], "ALLOC_LQ -> a\nAPPLY_H a");
    assert_eq!(warned.code, 0);
    assert!(warned.stdout.contains("warning W-UNFREED"), "{}", warned.stdout);
}

#[test]
fn asm_and_disasm_are_inverse() {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: &str| dir.path().join(n).to_string_lossy().into_owned();
    for name in ["bell.qvm", "repetition_code.qvm", "cuccaro_adder.qvm"] {
        assert_eq!(qmk(&["asm", &example(name), "-o", &path("g.json")]).code, 0);
        assert_eq!(qmk(&["disasm", &path("g.json"), "-o", &path("g.qvm")]).code, 0);
        assert_eq!(qmk(&["asm", &path("g.qvm"), "-o", &path("h.json")]).code, 0);
        let read = |n: &str| std::fs::read_to_string(path(n)).unwrap();
        assert_eq!(read("g.json"), read("h.json"), "{name}");
        let counts = |file: &str| qmk(&["run", file, "--json"]).json()["counts"].clone();
        assert_eq!(counts(&path("g.json")), counts(&example(name)), "{name}");
    }
}

#[test]
fn includes_stay_beside_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("lib.qvm"), ".macro PAIR(a, b)\nAPPLY_H {a}\nAPPLY_CNOT {a}, {b}\n.endmacro\n").unwrap();
    std::fs::write(dir.path().join("secret.qvm"), "").unwrap();
    let program = |include: &str| -> PathBuf {
        let text = format!(".include \"{include}\"\nALLOC_LQ -> a, b\nPAIR(a, b)\nMEASURE_Z a -> x\nFREE_LQ a, b\n");
        std::fs::write(inner.join("main.qvm"), text).unwrap();
        inner.join("main.qvm")
    };
    let main = program("lib.qvm");
    let run = qmk(&["run", main.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    program("../secret.qvm");
    let out = qmk(&["run", main.to_str().unwrap()]);
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("outside"), "{}", out.stderr);
}

#[test]
fn jobs_on_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::start(NoisyDevice::simulated(Default::default()), MachineConfig::default());
    let server = LocalServer::of(&dir.path().join("qmk.sock"), Arc::new(machine));
    let at = server.address();

    let local = qmk(&["run", &example("grover.qvm"), "--seed", "9", "--json"]).json();
    let remote = qmk(&["run", &example("grover.qvm"), "--seed", "9", "--json", "--connect", &at]).json();
    assert_eq!((&local["counts"], &local["epochs"]), (&remote["counts"], &remote["epochs"]));

    // Errors are those of the seed, wherever it runs.
    let wait = "ALLOC_LQ -> a\nAPPLY_S a\nAPPLY_S a\nMEASURE_Z a -> m\nFREE_LQ a\n";
    let noisy = |level: &str, more: &[&str]| {
        let profile = "logical:surface_code(d=3, p=0.008)";
        let args = ["run", "-", "--shots", "5000", "--json", "--noise", level, "--profile", profile];
        qmk_with(&[&args, more].concat(), wait)
    };
    let (here, there) = (noisy("logical", &[]).json(), noisy("logical", &["--connect", &at]).json());
    assert_eq!(here["counts"], there["counts"]);
    assert!(here["counts"]["1"].as_u64() > Some(10), "{here}");
    assert_eq!(noisy("ideal", &[]).json()["counts"], json!({"0": 5000}));

    let deadline = |epochs| qmk(&["submit", &example("grover.qvm"), "--deadline", epochs, "--connect", &at]);
    assert_eq!((deadline("1000").code, deadline("1000000").code), (3, 0));

    let submitted = qmk(&["submit", &example("grover.qvm"), "--seed", "9", "--connect", &at]);
    let job = submitted.stdout.trim();
    let waited = qmk(&["wait", job, "--timeout-ms", "20000", "--connect", &at]);
    assert_eq!((waited.code, waited.stdout.lines().count()), (0, 1), "{}", waited.stdout);
    assert!(waited.stdout.contains("COMPLETED") && waited.stdout.contains(job), "{}", waited.stdout);
    let status = qmk(&["status", job, "--connect", &at]).stdout;
    assert!(status.contains("state: COMPLETED") && !status.contains("events"), "{status}");
    let with_parameter = qmk(&["run", &example("ghz.qvm"), "--param", "n=3", "--json", "--connect", &at]).json();
    assert_eq!(with_parameter["events"].as_array().unwrap().len(), 3);
    assert_eq!(qmk(&["status", job, "--json", "--connect", &at]).json()["state"], "COMPLETED");
    assert_eq!(qmk(&["result", job, "--json", "--connect", &at]).json()["counts"], local["counts"]);
    assert!(qmk(&["telemetry", job, "--connect", &at]).stdout.contains("total_epochs"));
    assert_eq!(qmk(&["cancel", job, "--connect", &at]).code, 1);
    assert_eq!(qmk(&["result", "sess_0/job_1", "--connect", &at]).code, 1);
    let resources = qmk(&["resources", "--json", "--connect", &at]).json();
    assert_eq!(resources["machine"]["logical_qubits_free"], 10_000);
    assert_eq!(resources["quota"]["max_channels"], 5_000);

    let long = dir.path().join("long.qvm");
    std::fs::write(
        &long,
        "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\nFREE_LQ a\n",
    )
    .unwrap();
    let job = qmk(&["submit", long.to_str().unwrap(), "--shots", "100000000", "--connect", &at]).stdout;
    let late = qmk(&["wait", job.trim(), "--timeout-ms", "750", "--json", "--connect", &at]);
    assert_eq!((late.code, &late.json()["error"]["code"]), (4, &json!("TIMEOUT")));
    assert!(late.stderr.contains("has not ended after 750 ms"), "{}", late.stderr);
    assert_eq!(qmk(&["cancel", job.trim(), "--json", "--connect", &at]).json()["state"], "CANCELLED");
}

#[test]
fn a_flipped_bit_of_the_audit_log_is_located() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let machine = Arc::new(Machine::open(SimDevice::default(), MachineConfig::default(), &data).unwrap());
    let server = LocalServer::of(&dir.path().join("qmk.sock"), machine.clone());
    let at = server.address();
    for seed in ["1", "2", "3"] {
        let run = qmk(&["run", &example("bell.qvm"), "--seed", seed, "--shots", "10", "--connect", &at]);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    let head = qmk(&["audit", "head", "--json", "--connect", &at]);
    assert!(head.json()["size"].as_u64().unwrap() >= 12, "{}", head.stdout);
    let kept = dir.path().join("head.json");
    std::fs::write(&kept, &head.stdout).unwrap();
    let key = data.join("journal/key.pub");
    let proven = qmk(&["audit", "prove", "2", "--key", key.to_str().unwrap(), "--connect", &at]);
    assert_eq!(proven.code, 0, "{}", proven.stderr);
    assert!(proven.stdout.contains("submitted") && proven.stdout.contains("proven"), "{}", proven.stdout);
    let boot = qmk(&["audit", "prove", "0", "--json", "--connect", &at]);
    assert_eq!((boot.code, &boot.json()["error"]["code"]), (3, &json!("ACCESS_DENIED")));

    let dir = data.to_str().unwrap();
    let verify = ["audit", "verify", dir, "--key", key.to_str().unwrap(), "--head", kept.to_str().unwrap(), "--json"];
    // The server is still there.
    assert_eq!(qmk(&verify).json()["valid"], true);
    machine.close().unwrap();
    let entries = qmk(&verify).json()["entries"].as_u64().unwrap();
    let log = qmk(&["audit", "log", dir, "--json"]).json();
    assert_eq!(log.as_array().unwrap().len() as u64, entries);
    assert_eq!(log[2]["event"]["submitted"]["job"], 1);
    assert_eq!(qmk(&["audit", "log", dir]).stdout.lines().count() as u64, entries);
    assert_eq!(qmk(&["audit", "verify", dir]).code, 0);

    let file = data.join("journal/log");
    let mut bytes = std::fs::read(&file).unwrap();
    let source = bytes.windows(8).position(|w| w == b"ALLOC_LQ").unwrap();
    bytes[source + 3] ^= 4;
    std::fs::write(&file, &bytes).unwrap();
    let found = qmk(&verify);
    let v = found.json();
    assert_eq!((found.code, &v["valid"], &v["file"], &v["entries"]), (1, &json!(false), &json!("log"), &json!([2, 3])));
    let at = v["offset"].as_u64().unwrap() as usize;
    assert!((at..at + 200).contains(&source), "{v}");
    let text = qmk(&["audit", "verify", dir]);
    assert!(text.code == 1 && text.stdout.contains("entry 2: the entry does not match"), "{}", text.stdout);
    let log = qmk(&["audit", "log", dir]);
    assert!(log.code == 1 && log.stderr.contains("entry 2"), "{}", log.stderr);
    assert_eq!(qmk(&["audit", "verify", "/nowhere"]).code, 1);
}

#[test]
fn help_has_examples() {
    let job = ["wait", "result", "status", "cancel", "telemetry"];
    let all = ["run", "verify", "asm", "disasm", "submit", "resources"].into_iter().chain(job);
    let audit = ["head", "prove", "log", "verify"].map(|c| vec!["audit", c, "--help"]);
    for command in all.map(|c| vec![c, "--help"]).chain([vec!["--help"]]).chain(audit) {
        let out = qmk(&command);
        assert_eq!(out.code, 0);
        assert!(out.stdout.contains("Example"), "{command:?}");
    }
}

//! Two programs that answer as benches do, with figures of their own: nothing is timed here.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Arguments as a user gives them.
fn arguments(line: &str) -> Args {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    <Line as clap::Parser>::parse_from(std::iter::once("bench").chain(line.split_whitespace())).args
}

fn program(dir: &Path, name: &str, script: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn verdicts(rows: &[Comparison]) -> Vec<(&str, Verdict)> {
    rows.iter().map(|row| (row.name.as_str(), row.verdict())).collect()
}

/// A bench whose runs take these times by way, in microseconds.
fn served(dir: &Path, name: &str, rows: &str, kernel: u32, admitted: u32, device: u32) -> PathBuf {
    let script = format!(
        "case $1 in list) printf '{rows}';; serve) while read -r what how rest; do case $how in \
         kernel) echo ok {kernel}000 9;; admitted) echo ok {admitted}000 9;; *) echo ok {device}000 9;; esac; done;; esac"
    );
    program(dir, name, &script)
}

#[test]
fn a_slower_row_of_a_served_bench_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let rows = "ghz 1 kernel device\\nghz 100 device stim\\nbell 1 device stim\\n";
    let theirs = served(dir.path(), "theirs", rows, 1000, 400, 500);
    let ours = served(dir.path(), "ours", &format!("{rows}new 1 device stim\\n"), 1070, 403, 490);
    let found = served::compare(&ours, &theirs, &arguments("sim --runs 9")).unwrap();
    let expected = [
        ("ghz x1 kernel", Verdict::Worse),
        // 667 over 600.
        ("ghz x1 admission", Verdict::Worse),
        ("ghz x100 device", Verdict::Better),
        ("bell x1 device", Verdict::Better),
    ];
    assert_eq!(verdicts(&found), expected);
    assert!((found[0].ratio - 1.07).abs() < 1e-9 && found[0].pairs == 9, "{found:?}");
    let found = served::compare(&ours, &theirs, &arguments("sim --runs 9 --only bell")).unwrap();
    assert_eq!(verdicts(&found), [("bell x1 device", Verdict::Better)]);
    let found = served::compare(&theirs, &theirs, &arguments("sim --runs 9")).unwrap();
    assert!(found.iter().all(|row| row.verdict() == Verdict::Same), "{found:?}");
}

#[test]
fn figures_of_whole_runs_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    // Goals that are missed do not matter.
    let costs = |lookup: &str| format!("printf '%-64s %8.2f ns goal   20.0 FAIL\\n' 'lookup' {lookup}; exit 1");
    let (ours, theirs) = (program(dir.path(), "a", &costs("12.0")), program(dir.path(), "b", &costs("11.0")));
    let found = whole::compare(&ours, &theirs, Suite::Kernel, &arguments("kernel --runs 7")).unwrap();
    assert_eq!(verdicts(&found), [("lookup", Verdict::Worse)]);
    // Too few pairs decide nothing.
    let found = whole::compare(&ours, &theirs, Suite::Kernel, &arguments("kernel --runs 3")).unwrap();
    assert_eq!(verdicts(&found), [("lookup", Verdict::Unknown)]);

    let mixes = |makespan: u32| format!("echo '[{{\"mix\": \"qft\", \"makespan\": {makespan}, \"jain\": 0.99}}]'");
    let (ours, theirs) = (program(dir.path(), "c", &mixes(120)), program(dir.path(), "d", &mixes(100)));
    let found = whole::compare(&ours, &theirs, Suite::Sched, &arguments("sched")).unwrap();
    assert_eq!(verdicts(&found), [("mix qft: makespan", Verdict::Worse), ("mix qft: unfairness", Verdict::Same)]);

    let calls = |us: u32| {
        format!(
            "echo '{{\"durable\": {{\"calls\": [{{\"call\": \"status\", \"form\": \"json\", \"p50_us\": {us}}}]}}}}'"
        )
    };
    let (ours, theirs) = (program(dir.path(), "e", &calls(52)), program(dir.path(), "f", &calls(50)));
    let found = whole::compare(&ours, &theirs, Suite::Rpc, &arguments("rpc --runs 7")).unwrap();
    assert_eq!(verdicts(&found), [("durable status json", Verdict::Same)]);
    assert!(whole::compare(&ours, &theirs, Suite::Rpc, &arguments("rpc --only gone")).is_err());
}

#[test]
fn the_other_build_is_a_checkout_or_a_revision() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let named = root.to_str().unwrap();
    assert_eq!(checkout::root(root, named).unwrap(), root.canonicalize().unwrap());
    assert!(checkout::root(root, "no-such-revision").is_err_and(|e| e.contains("neither")));
}

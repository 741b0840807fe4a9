//! The journal as its owner, an auditor, a crash and an attacker meet it.

mod damage;
mod helpers;
mod proofs;

use crate::helpers::{copy, damage, entry, every, fill, works};
use qmk_journal::*;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_directory_has_one_journal_with_private_files() {
    use std::os::unix::fs::PermissionsExt;
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("state/journal");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (journal, _) = Journal::open(&dir).unwrap();
    assert_eq!(mode(&dir), 0o700);
    for file in fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    let error = Journal::open(&dir).unwrap_err();
    assert!(matches!(error, JournalError::Locked(_)));
    assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    journal.close().unwrap();
    works(&dir, 0);
}

#[test]
fn entries_of_all_sizes_are_kept_and_larger_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { durability: Durability::Disk, ..Options::default() };
    let (mut journal, _) = Journal::open_with(dir.path(), options).unwrap();
    let sizes = [0, 1, 65535, 65536, 1 << 20, MAX_ENTRY, 3];
    for size in sizes {
        journal.append(&vec![size as u8; size]).unwrap();
    }
    assert!(matches!(journal.append(&vec![0; MAX_ENTRY + 1]), Err(JournalError::TooLarge(_))));
    for (index, size) in sizes.iter().enumerate() {
        assert_eq!(journal.read(index as u64).unwrap(), vec![*size as u8; *size]);
    }
    drop(journal);
    let (journal, recovered) = Journal::open(dir.path()).unwrap();
    let read: Vec<_> = recovered.entries(0).unwrap().map(|read| read.unwrap().1.len()).collect();
    assert_eq!((read, journal.len()), (sizes.to_vec(), 7));
    assert_eq!(verify(dir.path()).unwrap().entries, 7);
}

#[test]
fn heads_are_stored_as_often_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { head_interval: Duration::from_millis(30), ..every(1000) };
    let begun = Instant::now();
    let (mut journal, _) = Journal::open_with(dir.path(), options).unwrap();
    for _ in 0..100 {
        journal.append(b"event").unwrap();
        journal.settle().unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let heads = verify(dir.path()).unwrap().heads;
    assert!((1..=begun.elapsed().as_millis() as u64 / 30).contains(&heads), "{heads}");
    std::thread::sleep(Duration::from_millis(31));
    journal.settle().unwrap();
    let heads = verify(dir.path()).unwrap().heads;
    std::thread::sleep(Duration::from_millis(31));
    journal.settle().unwrap();
    assert_eq!(verify(dir.path()).unwrap().heads, heads, "there was nothing new to sign");
}

#[test]
fn the_tail_alone_can_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let journal = fill(dir.path(), 25, every(10));
    let copied = copy(dir.path());
    drop(journal);
    let mut log = fs::read(copied.path().join("log")).unwrap();
    log[8 + 12 + 12 + 3] ^= 1;
    fs::write(copied.path().join("log"), &log).unwrap();
    let options = Options { check: Check::Tail, ..every(10) };
    let (journal, recovered) = Journal::open_with(copied.path(), options).unwrap();
    assert_eq!((journal.len(), recovered.rebuilt), (25, 5));
    assert_eq!(journal.read(24).unwrap(), entry(24));
    assert_eq!(damage(journal.read(1)).entries, Some(1..2));
    let mut entries = recovered.entries(0).unwrap();
    assert_eq!(entries.next().unwrap().unwrap(), (0, entry(0)));
    assert!(entries.next().unwrap().is_err() && entries.next().is_none());
}

/// Runs a test of this file in a process of its own, where it finds `JOURNAL` set to `dir`.
fn in_process(test: &str, dir: &Path, shell: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let script = format!("{shell} exec \"$0\" --exact {test} --nocapture --test-threads=1");
    let output = Command::new("sh").arg("-c").arg(script).arg(this).env("JOURNAL", dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The child says which entries are in; it is killed in the middle, while others read along.
#[test]
fn killing_the_process_loses_nothing() {
    if let Ok(dir) = std::env::var("JOURNAL") {
        let (mut journal, _) = Journal::open_with(Path::new(&dir), every(64)).unwrap();
        loop {
            let index = journal.append(&entry(journal.len())).unwrap();
            println!("appended {index}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut entries = 0;
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killing_the_process_loses_nothing", "--nocapture"])
            .env("JOURNAL", dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let appended = |line: String| line.strip_prefix("appended ").and_then(|index| index.parse::<u64>().ok());
        let enough = said.by_ref().filter_map(appended).find(|index| *index > 700 * round).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::Locked(_))));
        assert!(verify(dir.path()).unwrap().entries > enough);
        assert!(prove(dir.path(), 5).is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        let last = said.filter_map(appended).last().unwrap_or(enough);
        let verified = verify(dir.path()).unwrap();
        assert!(verified.entries > last && verified.signed > 600 * round);
        entries = verified.entries;
    }
    works(dir.path(), entries);
}

/// The child's part writes to a file that may not grow beyond some size, as on a full disk: the write comes up short.
#[test]
fn a_short_write_leaves_nothing_behind() {
    let Ok(dir) = std::env::var("JOURNAL") else {
        let dir = tempfile::tempdir().unwrap();
        in_process("a_short_write_leaves_nothing_behind", dir.path(), "trap '' XFSZ; ulimit -f 64;");
        let (journal, recovered) = Journal::open(dir.path()).unwrap();
        assert!(recovered.torn == 0 && journal.len() > 8);
        assert_eq!(journal.read(journal.len() - 1).unwrap(), b"small");
        drop(journal);
        verify(dir.path()).unwrap();
        return;
    };
    let (mut journal, _) = Journal::open(Path::new(&dir)).unwrap();
    let error = loop {
        if let Err(error) = journal.append(&[7; 3000]) {
            break error;
        }
    };
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    let entries = journal.len();
    assert_eq!(journal.append(b"small").unwrap(), entries);
    assert_eq!(journal.read(entries).unwrap(), b"small");
    journal.close().unwrap();
}

/// A million entries: memory stays flat. Prints times.
#[test]
fn a_million_entries_take_no_memory() {
    const ENTRIES: u64 = 1_000_000;
    let Ok(dir) = std::env::var("JOURNAL") else {
        let dir = tempfile::tempdir().unwrap();
        print!("{}", in_process("a_million_entries_take_no_memory", dir.path(), ""));
        return;
    };
    let dir = Path::new(&dir);
    let peak = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let (mut journal, _) = Journal::open(dir).unwrap();
    let mut early = 0;
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    for index in 0..ENTRIES {
        let one = Instant::now();
        journal.append(format!("{{\"event\":\"job.submitted\",\"job\":{index}}}").as_bytes()).unwrap();
        slowest = slowest.max(one.elapsed());
        if index == ENTRIES / 20 {
            early = peak();
        }
    }
    let append = begun.elapsed();
    let begun = Instant::now();
    for index in (0..ENTRIES).step_by(1009) {
        assert!(journal.inclusion(index, ENTRIES).unwrap().len() <= 20);
    }
    let proof = begun.elapsed() / (ENTRIES / 1009 + 1) as u32;
    let head = journal.head();
    journal.close().unwrap();
    let begun = Instant::now();
    let (journal, recovered) = Journal::open(dir).unwrap();
    let open = begun.elapsed();
    assert_eq!(recovered.entries(0).unwrap().map(Result::unwrap).count() as u64, ENTRIES);
    let key = journal.public_key().clone();
    drop(journal);
    let begun = Instant::now();
    assert_eq!(verify_against(dir, &key, &[head]).unwrap().entries, ENTRIES);
    let verify = begun.elapsed();
    for file in ["tree", "offsets"] {
        fs::remove_file(dir.join(file)).unwrap();
    }
    let begun = Instant::now();
    assert_eq!(Journal::open(dir).unwrap().1.rebuilt, ENTRIES);
    let rebuild = begun.elapsed();
    let late = peak();
    println!(
        "{:?} per append, {slowest:?} at most; {proof:?} per proof; open {open:?}, rebuild {rebuild:?}, verify {verify:?}; \
         peak memory {early} KiB after {} entries, {late} KiB at the end",
        append / ENTRIES as u32,
        ENTRIES / 20
    );
    assert!(late < early + 1024, "{early} KiB, then {late} KiB");
}

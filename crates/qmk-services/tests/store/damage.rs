//! Stores that lag, are damaged or come from elsewhere, and folders that others can change.

use super::{WIDE, client, cut, detached, events, knows, open, submit, wait, with_jobs};
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimDevice;
use qmk_testkit::Rng;
use std::fs;
use std::path::Path;

#[test]
fn a_store_that_lags_is_missing_or_damaged_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let machine = open(dir.path(), MachineConfig::default());
    let at = client(&machine);
    let session = detached(&at, "t");
    let first = submit(&at, &session, WIDE, 20, 1).unwrap();
    let counts = wait(&at, &first);
    machine.close().unwrap();
    drop((at, machine));
    let old = fs::read(dir.path().join("store")).unwrap();
    let machine = open(dir.path(), MachineConfig::default());
    let second = submit(&client(&machine), &session, WIDE, 30, 2).unwrap();
    let later = wait(&client(&machine), &second);
    machine.close().unwrap();
    drop(machine);
    let length = fs::metadata(dir.path().join("journal/log")).unwrap().len();
    for store in [Some(old.clone()), None, Some(b"rubbish".repeat(1000)), Some(Vec::new())] {
        let copy = cut(dir.path(), length, false);
        if let Some(bytes) = &store {
            fs::write(copy.path().join("store"), bytes).unwrap();
        }
        let machine = open(copy.path(), MachineConfig::default());
        let at = client(&machine);
        // Results are served, not made again: there is no entry of a new start.
        assert_eq!((wait(&at, &first), wait(&at, &second)), (counts.clone(), later.clone()));
        machine.close().unwrap();
        let ends = events(copy.path()).iter().filter(|e| e.contains("\"ended\"")).count();
        assert_eq!(ends, 2);
    }
    // A journal that was cut below what the store has seen is refused.
    let copy = cut(dir.path(), 8, true);
    let refused = Machine::open(SimDevice::default(), MachineConfig::default(), copy.path());
    let text = refused.err().unwrap().to_string();
    assert!(text.contains("has been cut"), "{text}");
}

#[test]
fn flipped_bits_in_the_store_change_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = with_jobs(dir.path(), 20);
    let good = fs::read(dir.path().join("store")).unwrap();
    let length = fs::metadata(dir.path().join("journal/log")).unwrap().len();
    // Zeros are unused pages, mostly.
    let used: Vec<usize> = (0..good.len()).filter(|&at| good[at] != 0).collect();
    let (mut rng, mut moved) = (Rng::new(1), 0);
    for case in 0..60 {
        let mut bytes = good.clone();
        for _ in 0..1 << (case % 8) {
            bytes[rng.pick(&used)] ^= 1 << rng.below(8);
        }
        let copy = cut(dir.path(), length, false);
        fs::write(copy.path().join("store"), bytes).unwrap();
        knows(copy.path(), &jobs, &format!("case {case}"));
        moved += u32::from(copy.path().join("store.damaged").exists());
    }
    // Many are in pages that hold nothing any more; how many depends on what was settled together.
    assert!(moved > 10, "{moved}");
    // Cut at any length.
    for length in [1, 4096, 100_000, good.len() - 1] {
        let copy = cut(dir.path(), fs::metadata(dir.path().join("journal/log")).unwrap().len(), false);
        fs::write(copy.path().join("store"), &good[..length]).unwrap();
        knows(copy.path(), &jobs, &format!("{length} bytes"));
    }
}

#[test]
fn a_store_that_is_overwritten_under_a_running_machine_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut jobs = with_jobs(dir.path(), 20);
    let mut rng = Rng::new(2);
    for round in 0..12 {
        let machine = open(dir.path(), MachineConfig { kept_jobs: 1, ..MachineConfig::default() });
        let at = client(&machine);
        let path = dir.path().join("store");
        let mut bytes = fs::read(&path).unwrap();
        match round % 3 {
            // All but the header, which redb keeps in memory.
            0 => bytes[4096..].fill(0xa5),
            1 => bytes[4096..].iter_mut().for_each(|byte| *byte ^= 1 << rng.below(8)),
            _ => bytes.truncate(8192),
        }
        // In place: it has the file open.
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        for (job, counts) in &jobs {
            assert_eq!(wait(&at, job), *counts, "round {round}");
        }
        let session = jobs[0].0.session_id.clone();
        for seed in 0..3 {
            let job = submit(&at, &session, WIDE, 5, seed).unwrap();
            let counts = wait(&at, &job);
            jobs.push((job, counts));
        }
        machine.close().unwrap();
        drop((at, machine));
        knows(dir.path(), &jobs, &format!("after round {round}"));
    }
}

#[test]
fn a_store_of_another_machine_is_not_believed() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let jobs = with_jobs(one.path(), 5);
    with_jobs(two.path(), 3);
    fs::copy(two.path().join("store"), one.path().join("store")).unwrap();
    knows(one.path(), &jobs, "another's");
    assert!(one.path().join("store.damaged").exists());
    // Of the same machine, before its journal was taken back and went another way.
    let three = cut(one.path(), fs::metadata(one.path().join("journal/log")).unwrap().len(), false);
    knows(one.path(), &jobs, "one way");
    knows(three.path(), &jobs, "another way");
    fs::copy(one.path().join("store"), three.path().join("store")).unwrap();
    knows(three.path(), &jobs, "the store of the first");
    assert!(three.path().join("store.damaged").exists());
}

#[test]
fn directories_that_others_can_change_and_links_in_them_are_refused() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let refused =
        |dir: &Path| Machine::open(SimDevice::default(), MachineConfig::default(), dir).err().map(|e| e.to_string());
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o770, 0o702, 0o1777] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert!(refused(dir.path()).unwrap().contains("chmod go-w"), "{mode:o}");
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let victim = tempfile::NamedTempFile::new().unwrap();
    fs::write(victim.path(), "precious").unwrap();
    for name in
        ["store", "store.new", "sessions.key", "sessions.new", "journal/key.new", "journal/log", "journal/heads"]
    {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("journal")).unwrap();
        symlink(victim.path(), dir.path().join(name)).unwrap();
        assert!(refused(dir.path()).is_some(), "{name}");
        assert_eq!(fs::read_to_string(victim.path()).unwrap(), "precious", "{name}");
    }
    // What a sudden end may have left is in no one's way.
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("journal")).unwrap();
    for name in ["store.new", "sessions.new", "journal/key.new"] {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    assert_eq!(refused(dir.path()), None);
}

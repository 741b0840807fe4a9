//! What a sudden end or an attacker leaves behind.

use crate::helpers::{copy, cut, damage, entry, every, fill, length, works};
use qmk_journal::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

const FILES: [&str; 6] = ["log", "tree", "offsets", "heads", "key", "key.pub"];

#[test]
fn a_write_torn_at_any_byte_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = fill(dir.path(), 14, every(10));
    let before = length(dir.path(), "log");
    journal.append(&entry(14)).unwrap();
    let after = length(dir.path(), "log");
    for end in before..=after {
        let torn = copy(dir.path());
        cut(torn.path(), "log", end);
        let whole = 14 + u64::from(end == after);
        let bytes = if end == after { 0 } else { end - before };
        assert_eq!(verify(torn.path()).map(|v| (v.entries, v.torn)).unwrap(), (whole, bytes));
        assert_eq!(works(torn.path(), whole).torn, bytes);
    }
    // A file that has grown but was not written, as a loss of power may leave it.
    for zeros in [1, 11, 12, 13, 5000] {
        let torn = copy(dir.path());
        cut(torn.path(), "log", after + zeros);
        assert_eq!(works(torn.path(), 15).torn, zeros);
    }
}

#[test]
fn a_journal_killed_at_any_point_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let _journal = fill(dir.path(), 45, every(10));
    // The last head covers 40 entries; five wait in memory.
    let ends: Vec<u64> = {
        let log = fs::read(dir.path().join("log")).unwrap();
        let mut at = 8;
        let mut ends = vec![at];
        while at < log.len() {
            at += 12 + u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
            ends.push(at);
        }
        ends.iter().map(|end| *end as u64).collect()
    };
    let (tree, offsets) = (length(dir.path(), "tree"), length(dir.path(), "offsets"));
    assert_eq!((tree, offsets), (32 * (80 - 2), 8 * 40));
    for entries in 40..=45 {
        for (tree_end, offsets_end) in [(tree, offsets), (tree - 1, offsets), (tree, 311), (0, 0), (333, 33), (tree, 0)]
        {
            let killed = copy(dir.path());
            cut(killed.path(), "log", ends[entries as usize]);
            cut(killed.path(), "tree", tree_end);
            cut(killed.path(), "offsets", offsets_end);
            assert_eq!(verify(killed.path()).unwrap().entries, entries);
            let whole = (tree_end, offsets_end) == (tree, offsets);
            assert_eq!(works(killed.path(), entries).rebuilt, if whole { entries - 40 } else { entries });
        }
    }
    // Without a head that says otherwise, tree and offsets may be ahead of the log, or hold anything.
    for head in [0, 13] {
        for entries in 0..=45 {
            let killed = copy(dir.path());
            cut(killed.path(), "heads", head);
            cut(killed.path(), "log", ends[entries as usize]);
            fs::write(killed.path().join("offsets"), [9; 8 * 42]).unwrap();
            works(killed.path(), entries);
        }
    }
    // A head torn at any byte is none.
    let heads = fs::read(dir.path().join("heads")).unwrap();
    let last = heads[..heads.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() as u64 + 1;
    for end in last..heads.len() as u64 {
        let killed = copy(dir.path());
        cut(killed.path(), "heads", end);
        assert_eq!(verify(killed.path()).unwrap().signed, 30);
        works(killed.path(), 45);
    }
    // But entries that a head has signed must be there.
    for entries in 0..40 {
        let killed = copy(dir.path());
        cut(killed.path(), "log", ends[entries as usize]);
        for found in [damage(verify(killed.path())), damage(Journal::open(killed.path()))] {
            assert_eq!((found.file, found.offset), ("log", ends[entries as usize]), "{found}");
        }
    }
    // Before the first entry, and within the magic bytes.
    for end in 0..=8 {
        let begun = tempfile::tempdir().unwrap();
        fs::write(begun.path().join("log"), &fs::read(dir.path().join("log")).unwrap()[..end]).unwrap();
        works(begun.path(), 0);
    }
}

/// Every bit of every file: found by `verify`, in that file, at that place.
#[test]
fn a_flipped_bit_anywhere_is_found_and_located() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = fill(dir.path(), 14, every(6));
    journal.settle().unwrap();
    let copied = copy(dir.path());
    let dir = copied.path();
    let good: BTreeMap<_, _> = FILES.iter().map(|file| (*file, fs::read(dir.join(file)).unwrap())).collect();
    let starts: Vec<_> = good["offsets"].chunks(8).map(|at| u64::from_le_bytes(at.try_into().unwrap())).collect();
    let last_head = good["heads"].iter().position(|byte| *byte == b'\n').unwrap() as u64 + 1;
    assert_eq!((verify(dir).unwrap().heads, starts.len()), (2, 14));
    for (name, bytes) in &good {
        let file = fs::File::options().write(true).open(dir.join(name)).unwrap();
        for bit in 0..8 * bytes.len() {
            let byte = bit as u64 / 8;
            file.write_all_at(&[bytes[bit / 8] ^ (1 << (bit % 8))], byte).unwrap();
            let found = damage(verify(dir));
            let at = |expected: u64| assert_eq!(found.offset, expected, "{name}, byte {byte}: {found}");
            assert_eq!(found.file, *name, "byte {byte}: {found}");
            match *name {
                "log" if byte >= 8 => {
                    let index = starts.partition_point(|start| *start <= byte) - 1;
                    at(starts[index]);
                    assert_eq!(found.entries, Some(index as u64..index as u64 + 1));
                }
                "log" | "tree" => at(byte),
                "offsets" => {
                    at(byte);
                    assert_eq!(found.entries, Some(byte / 8..byte / 8 + 1));
                }
                "heads" if byte < last_head => at(0),
                // Where the last head has lost its newline only, that is the place.
                "heads" => assert!([last_head, bytes.len() as u64 - 1].contains(&found.offset), "{found}"),
                _ => at(0),
            }
            // Opening finds it as well, unless it makes the bytes anew or has no use for them.
            let opening = matches!(*name, "log" | "key" | "key.pub") || *name == "heads" && byte >= last_head;
            if opening && bit % 8 == bit / 8 % 8 {
                let found = damage(Journal::open(dir));
                assert_eq!(found.file, *name, "byte {byte}: {found}");
                for lagging in ["tree", "offsets"] {
                    fs::write(dir.join(lagging), &good[lagging]).unwrap();
                }
            }
            file.write_all_at(&bytes[bit / 8..bit / 8 + 1], byte).unwrap();
        }
        assert_eq!(fs::read(dir.join(name)).unwrap(), *bytes);
    }
    // Another form of the same head, as JSON has many.
    let text = String::from_utf8(good["heads"].clone()).unwrap();
    fs::write(dir.join("heads"), text.replacen(':', ": ", 1)).unwrap();
    assert_eq!(damage(verify(dir)).offset, 0);
    fs::write(dir.join("heads"), text).unwrap();
    works(dir, 14);
}

/// Rewrites an entry, with its checksum, and makes tree and offsets fit.
fn forge(dir: &Path, index: usize) {
    let offsets = fs::read(dir.join("offsets")).unwrap();
    let start = u64::from_le_bytes(offsets[8 * index..8 * index + 8].try_into().unwrap()) as usize;
    let mut log = fs::read(dir.join("log")).unwrap();
    let length = u32::from_le_bytes(log[start..start + 4].try_into().unwrap()) as usize;
    let forged = vec![b'x'; length];
    let other = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(other.path()).unwrap();
    let mut at = 8;
    for entry in 0..offsets.len() / 8 {
        let length = u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
        let original = &log[at + 12..at + 12 + length];
        journal.append(if entry == index { &forged } else { original }).unwrap();
        at += 12 + length;
    }
    journal.close().unwrap();
    let remade = fs::read(other.path().join("log")).unwrap();
    log.splice(..at, remade);
    fs::write(dir.join("log"), log).unwrap();
    fs::copy(other.path().join("tree"), dir.join("tree")).unwrap();
}

#[test]
fn rewritten_history_is_found_between_two_heads() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = fill(dir.path(), 35, every(10));
    journal.settle().unwrap();
    let kept = journal.head();
    let key = journal.public_key().clone();
    for index in [1, 9, 12, 23, 29] {
        let forged = copy(dir.path());
        forge(forged.path(), index);
        let interval = index as u64 / 10 * 10;
        let found = damage(verify(forged.path()));
        assert_eq!((found.file, found.entries.clone()), ("log", Some(interval..interval + 10)), "{found}");
        damage(Journal::open(forged.path()));
    }
    // After the last stored head nobody knows better, but for who kept a head.
    let forged = copy(dir.path());
    forge(forged.path(), 33);
    assert_eq!(verify(forged.path()).unwrap().signed, 30);
    let found = damage(verify_against(forged.path(), &key, std::slice::from_ref(&kept)));
    assert_eq!(found.entries, Some(30..35));
    // Nor if log and heads are cut back together, or all is made anew.
    let cut_back = copy(dir.path());
    for (file, length) in [("heads", 0), ("tree", 0), ("offsets", 0), ("log", 8)] {
        cut(cut_back.path(), file, length);
    }
    assert_eq!(verify(cut_back.path()).unwrap().entries, 0);
    assert_eq!(damage(verify_against(cut_back.path(), &key, std::slice::from_ref(&kept))).entries, Some(0..35));
    let anew = tempfile::tempdir().unwrap();
    fill(anew.path(), 35, every(10)).close().unwrap();
    assert_eq!(damage(verify_against(anew.path(), &key, std::slice::from_ref(&kept))).file, "key.pub");
    assert_eq!(verify_against(dir.path(), &key, &[kept]).unwrap().entries, 35);
    // A log without its key is not given another one.
    let keyless = copy(dir.path());
    fs::remove_file(keyless.path().join("key")).unwrap();
    assert_eq!(damage(Journal::open(keyless.path())).file, "key");
    assert_eq!(verify(keyless.path()).unwrap().entries, 35);
}

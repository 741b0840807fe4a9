//! The journal as its owner, an auditor, a crash and an attacker meet it.

use qmk_journal::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const FILES: [&str; 6] = ["log", "tree", "offsets", "heads", "key", "key.pub"];

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn hash(text: &str) -> Hash {
    Hash(unhex(text).try_into().unwrap())
}

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index} ").repeat(index as usize % 5).into_bytes()
}

/// A head every `every` entries, as the batches are.
fn every(every: u64) -> Options {
    Options { batch: every as usize, head_entries: every, head_interval: Duration::MAX, ..Options::default() }
}

fn fill(dir: &Path, entries: u64, options: Options) -> Journal {
    let (mut journal, _) = Journal::open_with(dir, options).unwrap();
    for index in journal.len()..entries {
        assert_eq!(journal.append(&entry(index)).unwrap(), index);
    }
    journal
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

fn cut(dir: &Path, file: &str, length: u64) {
    fs::File::options().write(true).open(dir.join(file)).unwrap().set_len(length).unwrap();
}

fn length(dir: &Path, file: &str) -> u64 {
    fs::metadata(dir.join(file)).unwrap().len()
}

fn damage<T: std::fmt::Debug>(result: Result<T, JournalError>) -> Damage {
    match result {
        Err(JournalError::Damaged(damage)) => damage,
        other => panic!("no damage found: {other:?}"),
    }
}

/// Opens, compares all entries and some proofs, appends one more and verifies.
fn works(dir: &Path, entries: u64) -> Recovered {
    let (mut journal, recovered) = Journal::open(dir).unwrap();
    assert_eq!((journal.len(), recovered.entries), (entries, entries));
    for from in [0, entries / 2, entries, entries + 7] {
        let read: Vec<_> = recovered.entries(from).unwrap().map(Result::unwrap).collect();
        let expected: Vec<_> = (from..entries).map(|index| (index, entry(index))).collect();
        assert_eq!(read, expected);
    }
    journal.append(&entry(entries)).unwrap();
    let key = journal.public_key().clone();
    for index in 0..=entries {
        assert!(journal.prove(index).unwrap().verify(&key));
    }
    journal.close().unwrap();
    let verified = verify(dir).unwrap();
    assert_eq!((verified.entries, verified.signed, verified.torn), (entries + 1, entries + 1, 0));
    recovered
}

/// The definitions of RFC 9162, section 2.1, word for word.
mod naive {
    use super::{Hash, empty_root, leaf_hash, node_hash};

    fn split(n: usize) -> usize {
        n.next_power_of_two() / 2
    }

    pub(crate) fn root(entries: &[Vec<u8>]) -> Hash {
        match entries {
            [] => empty_root(),
            [one] => leaf_hash(one),
            more => {
                let (left, right) = more.split_at(split(more.len()));
                node_hash(&root(left), &root(right))
            }
        }
    }

    pub(crate) fn path(index: usize, entries: &[Vec<u8>]) -> Vec<Hash> {
        if entries.len() == 1 {
            return Vec::new();
        }
        let (left, right) = entries.split_at(split(entries.len()));
        let (mut path, sibling) = match index.checked_sub(left.len()) {
            None => (path(index, left), root(right)),
            Some(index) => (path(index, right), root(left)),
        };
        path.push(sibling);
        path
    }

    pub(crate) fn proof(old: usize, entries: &[Vec<u8>], known: bool) -> Vec<Hash> {
        if old == entries.len() {
            return if known { Vec::new() } else { vec![root(entries)] };
        }
        let (left, right) = entries.split_at(split(entries.len()));
        let (mut proof, sibling) = match old.checked_sub(left.len()) {
            None | Some(0) => (proof(old, left, known), root(right)),
            Some(old) => (proof(old, right, false), root(left)),
        };
        proof.push(sibling);
        proof
    }
}

/// The vectors of github.com/google/certificate-transparency, as they are in transparency-dev/merkle, `testonly`.
#[test]
fn trees_have_the_published_roots_and_proofs() {
    let leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let [l0, l1, l4] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ];
    let [n01, n23, n45, n67] = [
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    ];
    let [n03, n47] = [roots[4], "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"];
    let inclusions: [(u64, u64, &[&str]); 7] = [
        (0, 1, &[]),
        (0, 2, &[l1]),
        (1, 2, &[l0]),
        (2, 3, &[n01]),
        (1, 5, &[l0, n23, l4]),
        (0, 8, &[l1, n23, n47]),
        (5, 8, &[l4, n67, n03]),
    ];
    let consistencies: [(u64, u64, &[&str]); 4] =
        [(1, 1, &[]), (1, 8, &[l1, n23, n47]), (2, 5, &[n23, l4]), (6, 8, &[n45, n67, n03])];

    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.head().root, hash(roots[0]));
    for (leaf, root) in leaves.iter().zip(&roots[1..]) {
        journal.append(&unhex(leaf)).unwrap();
        assert_eq!(journal.head().root, hash(root));
    }
    for (index, size, path) in inclusions {
        let path: Vec<_> = path.iter().map(|node| hash(node)).collect();
        assert_eq!(journal.inclusion(index, size).unwrap(), path);
        let leaf = leaf_hash(&unhex(leaves[index as usize]));
        assert!(verify_inclusion(index, size, &leaf, &path, &hash(roots[size as usize])));
    }
    for (old, new, path) in consistencies {
        let path: Vec<_> = path.iter().map(|node| hash(node)).collect();
        assert_eq!(journal.consistency(old, new).unwrap(), path);
        assert!(verify_consistency(old, new, &hash(roots[old as usize]), &hash(roots[new as usize]), &path));
    }
}

/// Every way in which a proof can be off by one thing.
fn spoilt(path: &[Hash]) -> Vec<Vec<Hash>> {
    let mut wrong = vec![[path, &[empty_root()]].concat(), [&[empty_root()], path].concat()];
    for at in 0..path.len() {
        let mut flipped = path.to_vec();
        flipped[at].0[at % 32] ^= 1 << (at % 8);
        let mut shorter = path.to_vec();
        shorter.remove(at);
        wrong.extend([flipped, shorter]);
    }
    wrong
}

#[test]
fn all_proofs_of_small_trees_are_those_of_the_definitions() {
    const SIZE: usize = 70;
    let dir = tempfile::tempdir().unwrap();
    // Some nodes on disk, some in memory.
    let journal = fill(dir.path(), SIZE as u64, every(32));
    let entries: Vec<_> = (0..SIZE as u64).map(entry).collect();
    let roots: Vec<_> = (0..=SIZE).map(|size| naive::root(&entries[..size])).collect();
    for size in 0..=SIZE {
        let (n, root) = (size as u64, roots[size]);
        assert_eq!(journal.root(n).unwrap(), root);
        for index in 0..size {
            let (i, leaf) = (index as u64, leaf_hash(&entries[index]));
            let path = naive::path(index, &entries[..size]);
            assert_eq!(journal.inclusion(i, n).unwrap(), path);
            assert!(verify_inclusion(i, n, &leaf, &path, &root));
            assert!(!verify_inclusion(i, n, &empty_root(), &path, &root));
            assert!(!verify_inclusion(i, n, &leaf, &path, &empty_root()));
            assert!(!verify_inclusion(i + n, n, &leaf, &path, &root));
            assert!((0..n).all(|j| j == i || !verify_inclusion(j, n, &leaf, &path, &root)));
            assert!(spoilt(&path).iter().all(|path| !verify_inclusion(i, n, &leaf, path, &root)));
        }
        for (old, before) in roots[..=size].iter().enumerate().skip(1) {
            let m = old as u64;
            let path = naive::proof(old, &entries[..size], true);
            assert_eq!(journal.consistency(m, n).unwrap(), path);
            assert!(verify_consistency(m, n, before, &root, &path));
            assert!(!verify_consistency(m, n, &empty_root(), &root, &path));
            assert!(!verify_consistency(m, n, before, &empty_root(), &path));
            assert!(!verify_consistency(m, 4 * n, before, &root, &path));
            assert!(old == size || !verify_consistency(n, m, &root, before, &path));
            assert!(spoilt(&path).iter().all(|path| !verify_consistency(m, n, before, &root, path)));
        }
        assert_eq!(journal.consistency(0, n).unwrap(), []);
        assert!(verify_consistency(0, n, &empty_root(), &root, &[]));
        assert!(!verify_consistency(0, n, &roots[1], &root, &[]));
    }
    for (index, size) in [(0, 71), (70, 70), (u64::MAX, 70), (0, u64::MAX), (0, 0)] {
        assert!(matches!(journal.inclusion(index, size), Err(JournalError::OutOfRange { .. })));
    }
    assert!(matches!(journal.consistency(3, 2), Err(JournalError::OutOfRange { .. })));
    assert!(matches!(journal.consistency(3, 71), Err(JournalError::OutOfRange { .. })));
    assert!(matches!(journal.read(70), Err(JournalError::OutOfRange { .. })));
    assert!(!verify_inclusion(u64::MAX - 1, u64::MAX, &roots[1], &[roots[1]; 70], &roots[1]));
    assert!(!verify_consistency(1 << 63, u64::MAX, &roots[1], &roots[1], &[roots[1]; 70]));
}

#[test]
fn heads_and_proven_entries_are_checked_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let journal = fill(dir.path(), 10, Options::default());
    let key: PublicKey = journal.public_key().to_string().parse().unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("key.pub")).unwrap(), format!("{key}\n"));
    let head = journal.head();
    assert!(verify_head(&key, &head));
    assert_eq!(
        head.text(),
        format!("{}\n10\n{}\n", key.origin(), naive::root(&(0..10).map(entry).collect::<Vec<_>>()))
    );
    assert!(head.note(&key).starts_with(&format!("{}\n\u{2014} {} ", head.text(), key.origin())));
    for wrong in [
        SignedHead { size: 11, ..head.clone() },
        SignedHead { root: empty_root(), ..head.clone() },
        SignedHead { origin: "qmk/audit/0".into(), ..head.clone() },
        SignedHead { signature: [7; 64], ..head.clone() },
    ] {
        assert!(!verify_head(&key, &wrong));
    }
    let proven = journal.prove(3).unwrap();
    let json = serde_json::to_string(&proven).unwrap();
    assert_eq!(serde_json::from_str::<ProvenEntry>(&json).unwrap(), proven);
    assert!(proven.verify(&key));
    assert!(!ProvenEntry { index: 4, ..proven.clone() }.verify(&key));
    assert!(!ProvenEntry { entry: entry(4), ..proven.clone() }.verify(&key));
    let elsewhere = tempfile::tempdir().unwrap();
    let other = fill(elsewhere.path(), 10, Options::default());
    assert!(!proven.verify(other.public_key()));

    // From the files alone; nothing is signed until the journal settles.
    assert!(matches!(prove(dir.path(), 3), Err(JournalError::OutOfRange { entries: 0, .. })));
    journal.close().unwrap();
    for index in 0..10 {
        let proven = prove(dir.path(), index).unwrap();
        assert!(proven.verify(&key) && proven.entry == entry(index));
    }
    assert!(matches!(prove(dir.path(), 10), Err(JournalError::OutOfRange { entries: 10, .. })));
}

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

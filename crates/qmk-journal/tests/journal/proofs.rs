//! Roots and proofs, against the definitions and against published vectors.

use crate::helpers::{entry, every, fill};
use qmk_journal::*;
use std::fs;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn hash(text: &str) -> Hash {
    Hash(unhex(text).try_into().unwrap())
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

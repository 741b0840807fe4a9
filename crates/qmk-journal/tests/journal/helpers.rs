//! Journals to try things on.

use qmk_journal::*;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) fn entry(index: u64) -> Vec<u8> {
    format!("entry {index} ").repeat(index as usize % 5).into_bytes()
}

/// A head every `every` entries, as the batches are.
pub(crate) fn every(every: u64) -> Options {
    Options { batch: every as usize, head_entries: every, head_interval: Duration::MAX, ..Options::default() }
}

pub(crate) fn fill(dir: &Path, entries: u64, options: Options) -> Journal {
    let (mut journal, _) = Journal::open_with(dir, options).unwrap();
    for index in journal.len()..entries {
        assert_eq!(journal.append(&entry(index)).unwrap(), index);
    }
    journal
}

pub(crate) fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

pub(crate) fn cut(dir: &Path, file: &str, length: u64) {
    fs::File::options().write(true).open(dir.join(file)).unwrap().set_len(length).unwrap();
}

pub(crate) fn length(dir: &Path, file: &str) -> u64 {
    fs::metadata(dir.join(file)).unwrap().len()
}

pub(crate) fn damage<T: std::fmt::Debug>(result: Result<T, JournalError>) -> Damage {
    match result {
        Err(JournalError::Damaged(damage)) => damage,
        other => panic!("no damage found: {other:?}"),
    }
}

/// Opens, compares all entries and some proofs, appends one more and verifies.
pub(crate) fn works(dir: &Path, entries: u64) -> Recovered {
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

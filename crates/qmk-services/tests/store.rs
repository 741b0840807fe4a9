//! What a machine keeps: over restarts, at every boundary of two events, and within its limits.

use qmk_abi::rpc::*;
use qmk_client::{Client, Job, Policy, Program};
use qmk_services::store::{Entry, Event, unsigned_tail};
use qmk_services::{Machine, MachineConfig, Peer, policy};
use qmk_sim::SimDevice;
use qmk_testkit::Rng;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

type Sim = Machine<SimDevice>;

const COIN: &str = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\nFREE_LQ a\n";
const WIDE: &str = "ALLOC_LQ -> a, b, c, d\nAPPLY_H a\nAPPLY_H b\nAPPLY_H c\nAPPLY_H d\nMEASURE_Z a -> p\n\
                    MEASURE_Z b -> q\nMEASURE_Z c -> r\nMEASURE_Z d -> s\nFREE_LQ a, b, c, d\n";

fn open(dir: &Path, config: MachineConfig) -> Sim {
    Machine::open(SimDevice::default(), config, dir).unwrap()
}

fn client(machine: &Sim) -> Client {
    Client::over(machine.connect())
}

fn detached(client: &Client, tenant: &str) -> String {
    let create = SessionCreate { detached: true, tenant_id: Some(tenant.into()), ..SessionCreate::default() };
    client.session_with(create).unwrap().info().session_id.clone()
}

fn submit(client: &Client, session: &str, source: &str, shots: u64, seed: u64) -> Result<JobRef, Option<ErrorCode>> {
    let policy = Policy { shots, seed, ..Policy::default() };
    let submit = JobSubmit { session_id: session.into(), source: source.into(), format: Format::Asm, policy };
    match client.call(Request::JobSubmit(submit)).map_err(|e| e.code())? {
        Reply::Submitted(s) => Ok(JobRef { session_id: session.into(), job_id: s.job_id }),
        other => panic!("{other:?}"),
    }
}

fn wait(client: &Client, job: &JobRef) -> BTreeMap<String, u64> {
    Job::attach(client, job.clone()).wait(Some(Duration::from_secs(60))).unwrap().report.counts
}

/// What a machine that keeps nothing counts.
fn alone(source: &str, shots: u64, seed: u64) -> BTreeMap<String, u64> {
    let machine = Machine::start(SimDevice::default(), MachineConfig::default());
    let policy = Policy { shots, seed, ..Policy::default() };
    let session = Client::over(machine.connect()).session(&[]).unwrap();
    session.run(&Program::asm(source), policy).unwrap().report.counts
}

fn code<T: std::fmt::Debug>(result: Result<T, qmk_client::ClientError>) -> Option<ErrorCode> {
    result.unwrap_err().code()
}

fn events(dir: &Path) -> Vec<String> {
    let entries = qmk_journal::scan(&dir.join("journal")).unwrap();
    entries.map(|entry| serde_json::to_string(&Entry::decode(&entry.unwrap().1).unwrap()).unwrap()).collect()
}

/// A copy of a machine's directory, as a sudden end would leave it: with so many bytes of the log.
fn cut(dir: &Path, log: u64, with_store: bool) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("journal")).unwrap();
    for file in ["journal/log", "journal/key", "journal/key.pub", "sessions.key"] {
        fs::copy(dir.join(file), to.path().join(file)).unwrap();
    }
    if with_store {
        fs::copy(dir.join("store"), to.path().join("store")).unwrap();
    }
    fs::File::options().write(true).open(to.path().join("journal/log")).unwrap().set_len(log).unwrap();
    to
}

#[test]
fn results_sessions_and_numbers_outlive_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let machine = open(dir.path(), MachineConfig::default());
    let at = client(&machine);
    let session = detached(&at, "t");
    let done = submit(&at, &session, WIDE, 500, 7).unwrap();
    let before = Job::attach(&at, done.clone()).wait(None).unwrap();
    let cancelled = submit(&at, &session, COIN, 100_000_000, 1).unwrap();
    Job::attach(&at, cancelled.clone()).cancel().unwrap();
    let failed = submit(&at, &session, COIN, 100_000_000, 2).unwrap();
    machine.close().unwrap();
    drop((at, machine));

    // The hundred million shots begin again; on a machine that allows fewer qubits nothing could.
    let machine = open(dir.path(), MachineConfig { max_logical_qubits: Some(0), ..MachineConfig::default() });
    let at = client(&machine);
    assert_eq!(Job::attach(&at, done.clone()).result().unwrap(), before);
    let status = Job::attach(&at, done.clone()).status().unwrap();
    assert_eq!((status.state, status.events), (JobState::Completed, Some(before.last_shot.clone())));
    assert_eq!(code(Job::attach(&at, done.clone()).cancel()), Some(ErrorCode::AlreadyCompleted));
    let e = Job::attach(&at, cancelled.clone()).result().unwrap_err();
    assert!(e.to_string().ends_with("was cancelled"), "{e}");
    let e = Job::attach(&at, failed.clone()).result().unwrap_err();
    assert!(e.to_string().contains("could not be run again"), "{e}");
    // Another session's job is like none.
    let other = detached(&at, "t");
    let stolen = JobRef { session_id: other, job_id: done.job_id.clone() };
    assert_eq!(code(Job::attach(&at, stolen.clone()).result()), Some(ErrorCode::JobNotFound));
    assert_eq!(code(Job::attach(&at, stolen).status()), Some(ErrorCode::JobNotFound));
    drop((at, machine));

    let machine = open(dir.path(), MachineConfig::default());
    let at = client(&machine);
    let next = submit(&at, &session, COIN, 1, 0).unwrap();
    let number = |job: &JobRef| job.job_id[4..].parse::<u64>().unwrap();
    assert!(number(&next) > number(&failed), "{next:?} {failed:?}");
    at.call(Request::SessionClose(SessionRef { session_id: session })).unwrap();
    assert_eq!(code(Job::attach(&at, done.clone()).result()), Some(ErrorCode::SessionNotFound));
    drop((at, machine));
    let machine = open(dir.path(), MachineConfig::default());
    assert_eq!(code(Job::attach(&client(&machine), done).result()), Some(ErrorCode::SessionNotFound));
}

#[test]
fn a_sudden_end_between_any_two_events_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    // Lengths of the log after each answer, and what must hold from there on.
    let length = || fs::metadata(dir.path().join("journal/log")).unwrap().len();
    let machine = open(dir.path(), MachineConfig::default());
    let at = client(&machine);
    let mut opened = Vec::new();
    let mut taken = Vec::new();
    let mut cancelled = Vec::new();
    let mut lengths = vec![length()];
    for seed in 0..6 {
        let session = detached(&at, if seed % 2 == 0 { "even" } else { "odd" });
        opened.push((length(), session.clone()));
        let job = submit(&at, &session, WIDE, 50, seed).unwrap();
        taken.push((length(), job.clone(), seed));
        if seed == 3 {
            let hog = submit(&at, &session, COIN, 100_000_000, seed).unwrap();
            Job::attach(&at, hog.clone()).cancel().unwrap();
            cancelled.push((length(), hog));
        }
        wait(&at, &job);
    }
    machine.close().unwrap();
    drop((at, machine));
    // Frames of the log: a header of twelve bytes, of which the first four are the length.
    let log = fs::read(dir.path().join("journal/log")).unwrap();
    let mut offset = 8;
    while offset < log.len() {
        offset += 12 + u32::from_le_bytes(log[offset..offset + 4].try_into().unwrap()) as usize;
        lengths.push(offset as u64);
    }
    lengths.sort_unstable();
    lengths.dedup();
    let expected: Vec<_> = (0..6).map(|seed| alone(WIDE, 50, seed)).collect();
    let total = lengths.len();
    for (n, end) in lengths.into_iter().enumerate() {
        // Every other time in the middle of the next event.
        let torn = if n % 2 == 0 || n + 1 == total { 0 } else { 9 };
        let copy = cut(dir.path(), end + torn, false);
        let machine = open(copy.path(), MachineConfig::default());
        let at = client(&machine);
        for (after, session) in &opened {
            let there = at.call(Request::ResourceQuery(SessionRef { session_id: session.clone() })).is_ok();
            assert_eq!(there, *after <= end, "session {session} at {end}");
        }
        for (_, job, seed) in taken.iter().filter(|(after, ..)| *after <= end) {
            assert_eq!(wait(&at, job), expected[*seed as usize], "{job:?} at {end}");
        }
        for (_, job) in cancelled.iter().filter(|(after, _)| *after <= end) {
            assert_eq!(code(Job::attach(&at, job.clone()).result()), Some(ErrorCode::AlreadyCompleted));
        }
        machine.close().unwrap();
        qmk_journal::verify(&copy.path().join("journal")).unwrap();
    }
}

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

/// A directory with ended jobs of one session in it, and what they counted.
fn with_jobs(dir: &Path, jobs: u64) -> Vec<(JobRef, BTreeMap<String, u64>)> {
    let machine = open(dir, MachineConfig::default());
    let at = client(&machine);
    let session = detached(&at, "t");
    let jobs = (0..jobs).map(|seed| {
        let job = submit(&at, &session, WIDE, 10 + seed, seed).unwrap();
        let counts = wait(&at, &job);
        (job, counts)
    });
    let jobs = jobs.collect();
    machine.close().unwrap();
    jobs
}

/// Opens a machine in the directory, and checks that it knows the jobs and can take another.
fn knows(dir: &Path, jobs: &[(JobRef, BTreeMap<String, u64>)], context: &str) {
    let machine = open(dir, MachineConfig::default());
    let at = client(&machine);
    for (job, counts) in jobs {
        assert_eq!(wait(&at, job), *counts, "{context}");
    }
    let next = submit(&at, &jobs[0].0.session_id, COIN, 1, 0).unwrap();
    assert!(!jobs.iter().any(|(job, _)| job.job_id == next.job_id), "{context}: {next:?}");
    // So that the journal is as long however fast it goes.
    wait(&at, &next);
    assert_ne!(detached(&at, "t"), jobs[0].0.session_id, "{context}");
    machine.close().unwrap();
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
fn a_close_that_cannot_be_recorded_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let machine = open(dir.path(), MachineConfig::default());
    let at = client(&machine);
    let session = detached(&at, "t");
    let here = SessionRef { session_id: session };
    // The journal takes no more.
    machine.close().unwrap();
    let e = at.call(Request::SessionClose(here.clone())).unwrap_err();
    assert_eq!(e.code(), Some(ErrorCode::Internal), "{e}");
    at.call(Request::ResourceQuery(here.clone())).unwrap();
    drop((at, machine));
    let machine = open(dir.path(), MachineConfig::default());
    client(&machine).call(Request::ResourceQuery(here.clone())).unwrap();
    client(&machine).call(Request::SessionClose(here.clone())).unwrap();
    assert_eq!(code(client(&machine).call(Request::SessionClose(here))), Some(ErrorCode::SessionNotFound));
    machine.close().unwrap();
    assert_eq!(events(dir.path()).iter().filter(|e| e.contains("session_closed")).count(), 1);
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

#[test]
fn entries_without_the_heads_they_should_have_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = with_jobs(dir.path(), 2);
    knows(dir.path(), &jobs, "");
    let journal = dir.path().join("journal");
    let check = || {
        let verified = qmk_journal::verify(&journal).unwrap();
        unsigned_tail(&journal, verified.signed, verified.entries).unwrap()
    };
    assert_eq!(check(), None);
    let heads = fs::read_to_string(journal.join("heads")).unwrap();
    let lines: Vec<&str> = heads.split_inclusive('\n').collect();
    // Two for each run, at its start and its end.
    assert_eq!(lines.len(), 4);
    for (kept, honest) in [(0, false), (1, false), (2, false), (3, true)] {
        fs::write(journal.join("heads"), lines[..kept].concat()).unwrap();
        assert_eq!(check().is_none(), honest, "{kept}");
    }
    fs::remove_file(journal.join("heads")).unwrap();
    assert_eq!(check().unwrap().entries.unwrap().start, 0);
    // After a sudden end, whenever it comes, all is well.
    fs::write(journal.join("heads"), lines[..1].concat()).unwrap();
    let log = fs::read(journal.join("log")).unwrap();
    let mut end = 8;
    let (mut ends, mut starts) = (Vec::new(), 0);
    while end < log.len() {
        let length = u32::from_le_bytes(log[end..end + 4].try_into().unwrap()) as usize;
        let entry = Entry::decode(&log[end + 12..end + 12 + length]).unwrap();
        starts += u32::from(matches!(entry.event, Event::Booted { .. }));
        end += 12 + length;
        // The second start may end at once, but must sign before anything else.
        ends.push((end as u64, starts == 1 || matches!(entry.event, Event::Booted { .. })));
    }
    for (end, honest) in ends {
        let copy = cut(dir.path(), end, false);
        fs::copy(journal.join("heads"), copy.path().join("journal/heads")).unwrap();
        let journal = copy.path().join("journal");
        let verified = qmk_journal::verify(&journal).unwrap();
        assert_eq!(unsigned_tail(&journal, verified.signed, verified.entries).unwrap().is_none(), honest, "{end}");
    }
}

#[test]
fn memory_forgets_what_the_store_still_serves_and_the_store_keeps_no_more_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let config = MachineConfig { kept_jobs: 2, stored_jobs: 10, ..MachineConfig::default() };
    let machine = open(dir.path(), config.clone());
    let at = client(&machine);
    let (session, other) = (detached(&at, "t"), detached(&at, "other"));
    let apart = submit(&at, &other, WIDE, 5, 99).unwrap();
    let theirs = wait(&at, &apart);
    let mut jobs = Vec::new();
    for seed in 0..30 {
        let job = submit(&at, &session, WIDE, 20, seed).unwrap();
        let counts = wait(&at, &job);
        jobs.push((job, counts));
        // Settled or not.
        for (job, counts) in jobs.iter().rev().take(9) {
            assert_eq!(wait(&at, job), *counts);
        }
    }
    machine.close().unwrap();
    drop((at, machine));
    let machine = open(dir.path(), config.clone());
    let at = client(&machine);
    for (n, (job, counts)) in jobs.iter().enumerate() {
        match n {
            0..20 => assert_eq!(code(Job::attach(&at, job.clone()).result()), Some(ErrorCode::JobNotFound), "{n}"),
            _ => assert_eq!(wait(&at, job), *counts),
        }
    }
    assert_eq!(wait(&at, &apart), theirs);
    drop((at, machine));
    // Bytes count, too, but the last result always stays.
    let machine = open(dir.path(), MachineConfig { stored_bytes: 1, ..config });
    let at = client(&machine);
    let last = submit(&at, &session, WIDE, 20, 5).unwrap();
    let counts = wait(&at, &last);
    machine.close().unwrap();
    drop((at, machine));
    let machine = open(dir.path(), MachineConfig::default());
    let at = client(&machine);
    assert_eq!(wait(&at, &last), counts);
    assert_eq!(code(Job::attach(&at, jobs[29].0.clone()).result()), Some(ErrorCode::JobNotFound));
}

/// Clients that open a session for each job fill up the sessions there are, and lose nothing by it.
#[test]
fn sessions_that_make_room_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = || MachineConfig { max_sessions: 3, stored_jobs: 20, ..MachineConfig::default() };
    let list = |machine: &Sim| {
        let jobs = client(machine).observe(Some("t")).unwrap().jobs().unwrap();
        jobs.jobs.into_iter().map(|j| (j.job_id, j.state, j.shots)).collect::<Vec<_>>()
    };
    let mut jobs = Vec::new();
    {
        let machine = open(dir.path(), config());
        let client = client(&machine);
        for seed in 0..10 {
            let session = detached(&client, "t");
            let job = submit(&client, &session, COIN, 100 + seed, seed).unwrap();
            jobs.push((wait(&client, &job), job));
        }
        // One without jobs leaves nothing.
        let empty = detached(&client, "t");
        (0..3).for_each(|_| drop(detached(&client, "t")));
        let gone = Request::ResourceQuery(SessionRef { session_id: empty });
        assert_eq!(code(client.call(gone)), Some(ErrorCode::SessionNotFound));
        let all = list(&machine);
        assert_eq!(all.len(), 10);
        assert!(all.contains(&("job_7".into(), JobState::Completed, 106)), "{all:?}");
        for (counts, job) in &jobs {
            assert_eq!(wait(&client, job), *counts);
        }
        // What is set aside can be worked in again, and closed.
        let again = submit(&client, &jobs[0].1.session_id, COIN, 5, 5).unwrap();
        jobs.push((wait(&client, &again), again));
        let (_, closed) = jobs.remove(1);
        client.call(Request::SessionClose(SessionRef { session_id: closed.session_id.clone() })).unwrap();
        assert_eq!(code(Job::attach(&client, closed).status()), Some(ErrorCode::SessionNotFound));
    }
    let machine = open(dir.path(), config());
    assert_eq!(list(&machine).len(), 10);
    let client = client(&machine);
    for (counts, job) in &jobs {
        assert_eq!(wait(&client, job), *counts);
    }
    // There are no more sessions set aside than jobs in the store.
    let first = jobs[0].1.clone();
    for seed in 0..30 {
        let job = submit(&client, &detached(&client, "t"), COIN, 1, seed).unwrap();
        wait(&client, &job);
    }
    assert_eq!(code(Job::attach(&client, first).status()), Some(ErrorCode::SessionNotFound));
    drop(client);
    drop(machine);
    let closes = events(dir.path()).iter().filter(|e| e.contains("session_closed")).count();
    assert!(closes > 10, "{closes}");
    qmk_journal::verify(&dir.path().join("journal")).unwrap();
}

#[test]
fn to_look_leaves_no_entry_and_takes_no_capability() {
    let dir = tempfile::tempdir().unwrap();
    let machine = open(dir.path(), MachineConfig::default());
    let client = client(&machine);
    let before = events(dir.path()).len();
    let observer = client.observe(None).unwrap();
    observer.resources().unwrap();
    observer.jobs().unwrap();
    assert!(observer.info().granted.is_empty());
    let id = observer.info().session_id.clone();
    drop(observer);
    assert_eq!(events(dir.path()).len(), before);
    let gone = Request::ResourceQuery(SessionRef { session_id: id });
    assert_eq!(code(client.call(gone)), Some(ErrorCode::SessionNotFound));
    let wants = SessionCreate { observer: true, requested: vec!["CAP_ALLOC".into()], ..SessionCreate::default() };
    assert_eq!(code(client.session_with(wants).map(|s| s.info().clone())), Some(ErrorCode::InvalidParams));
    let observer = client.observe(None).unwrap();
    let refused = submit(&client, &observer.info().session_id, COIN, 1, 1).unwrap_err();
    assert_eq!(refused, Some(ErrorCode::InsufficientCaps));
}

#[test]
fn names_of_qubits_are_not_given_out_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let alloc = |client: &Client, session: &str| {
        let alloc = interactive::Alloc { session_id: session.into(), n: 2 };
        match client.call(Request::Interactive(interactive::Call::Alloc(alloc))).unwrap() {
            Reply::Interactive(interactive::Answer::Alloc(a)) => a.qubits,
            other => panic!("{other:?}"),
        }
    };
    let mut session = String::new();
    let mut names = std::collections::BTreeSet::new();
    for life in 0..3 {
        let machine = open(dir.path(), MachineConfig::default());
        let client = client(&machine);
        if life == 0 {
            session = detached(&client, "t");
        }
        for name in alloc(&client, &session).into_iter().chain(alloc(&client, &session)) {
            assert!(names.insert(name.clone()), "{name} is given out twice");
        }
        machine.leaving().store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn the_audit_log_says_who_and_shows_each_tenant_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let machine = open(dir.path(), MachineConfig::default());
    let at = client(&machine);
    let create = SessionCreate {
        requested: vec!["CAP_ALLOC".into(), "CAP_ADMIN".into()],
        tenant_id: Some("alice".into()),
        detached: true,
        ..SessionCreate::default()
    };
    let alice = at.session_with(create).unwrap().info().session_id.clone();
    let magic = "ALLOC_LQ -> a\nAPPLY_T a\nMEASURE_Z a -> m\nFREE_LQ a";
    assert_eq!(submit(&at, &alice, magic, 1, 0), Err(Some(ErrorCode::InsufficientCaps)));
    let bob = detached(&at, "bob");
    let Reply::AuditHead(head) = at.call(Request::AuditHead(AuditQuery {})).unwrap() else { panic!() };
    assert_eq!(head.size, 4);
    let prove = |session: &str, index| {
        at.call(Request::AuditProve(AuditProve { session_id: session.into(), index })).map_err(|e| e.to_string())
    };
    let key: qmk_journal::PublicKey = head.key.parse().unwrap();
    for (index, owner) in [(0, None), (1, Some(&alice)), (2, Some(&alice)), (3, Some(&bob))] {
        for session in [&alice, &bob] {
            match prove(session, index) {
                Ok(Reply::AuditProof(p)) => {
                    assert_eq!(Some(session), owner);
                    let AuditHead { origin, size, root, signature, .. } = &p.head;
                    let v = serde_json::json!({"index": index, "entry": p.entry, "path": p.path, "head":
                        {"origin": origin, "size": size, "root": root, "signature": signature}});
                    let proven: qmk_journal::ProvenEntry = serde_json::from_value(v).unwrap();
                    assert!(proven.verify(&key));
                }
                Ok(other) => panic!("{other:?}"),
                Err(e) => {
                    assert_ne!(Some(session), owner, "{e}");
                    assert_eq!(e, prove(session, 1000).unwrap_err().replace("1000", &index.to_string()));
                }
            }
        }
    }
    machine.close().unwrap();
    let events = events(dir.path());
    for (index, parts) in [
        (1, &["\"alice\"", "\"granted\":[\"CAP_ALLOC\"]", "\"denied\":[\"CAP_ADMIN\"]"][..]),
        (2, &["\"alice\"", "refused", "qmk_job_submit", "-32001"]),
    ] {
        assert!(parts.iter().all(|part| events[index].contains(part)), "{}", events[index]);
    }
    // Ids of sessions open doors, and are not in any file.
    for file in ["journal/log", "store"] {
        let bytes = fs::read(dir.path().join(file)).unwrap();
        for id in [&alice, &bob] {
            assert!(!bytes.windows(32).any(|w| w == &id.as_bytes()[5..]), "{file}");
        }
    }
    let ephemeral = Machine::start(SimDevice::default(), MachineConfig::default());
    let e = client(&ephemeral).call(Request::AuditHead(AuditQuery {})).unwrap_err();
    assert_eq!(e.code(), Some(ErrorCode::MethodNotFound));
}

#[test]
fn strangers_neither_fill_the_log_nor_write_in_anothers_name() {
    let dir = tempfile::tempdir().unwrap();
    let policy =
        policy::SitePolicy::parse("[tenants.alice]\nuids = [1]\ncapabilities = \"all\"\n", "p".as_ref()).unwrap();
    let config =
        MachineConfig { policy: Some(policy.into()), max_requests_per_second: Some(50), ..MachineConfig::default() };
    let machine = open(dir.path(), config);
    let stranger = Client::over(machine.connect_as(Peer { uid: 4_000_000, pid: 1 }));
    let ask = |tenant: String| {
        let create = SessionCreate { tenant_id: Some(tenant), ..SessionCreate::default() };
        stranger.session_with(create).map(drop).unwrap_err()
    };
    assert_eq!(ask("alice".into()).code(), Some(ErrorCode::AuthFailed));
    let long = "ä".repeat(1 << 20);
    let codes: Vec<_> = (0..1000).map(|_| ask(long.clone()).code()).collect();
    // Few are looked at, and the others told when to come again.
    assert!(codes.iter().filter(|c| **c == Some(ErrorCode::QuotaExceeded)).count() > 100);
    // Its own tenant's are the tenant's, and those by its rate are only counted.
    let alice = Client::over(machine.connect_as(Peer { uid: 1, pid: 2 })).session(&[]).unwrap();
    let refused = (0..500).filter(|_| alice.resources().is_err()).count();
    assert!(refused > 300);
    machine.close().unwrap();
    let entries = events(dir.path());
    let of = |what: &str| entries.iter().filter(|e| e.contains(what)).collect::<Vec<_>>();
    let own = of("refused");
    assert!(entries.iter().all(|e| e.len() < 400), "a long name is kept");
    assert!(own.iter().all(|e| e.contains("\"tenant\":null") && e.contains("\"uid\":4000000")), "{own:?}");
    assert!(own[0].contains("\"claimed\":\"alice\"") && own[1].contains(&format!("\"{}\"", "ä".repeat(64))));
    let left: u64 = of("refusals_left_out")
        .iter()
        .map(|e| {
            let v: serde_json::Value = serde_json::from_str(e).unwrap();
            v["event"]["refusals_left_out"]["count"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(own.len() as u64 + left, 1001 + refused as u64);
    assert!(of("refusals_left_out").iter().any(|e| e.contains("\"tenant\":\"alice\"")));
}

#[test]
fn entries_of_another_version_are_refused_not_guessed() {
    assert!(Entry::decode(&[]).is_none());
    assert!(Entry::decode(&[2, 0, 0, 0]).is_none());
    let long = [1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(Entry::decode(&long).is_none());
    let booted = Entry { at_ms: 1, tenant: None, event: Event::Booted { version: "v" } };
    assert_eq!(serde_json::to_value(booted).unwrap()["event"]["booted"]["version"], "v");
}

/// Not a test: `cargo test --release -p qmk-services --test store -- --ignored --nocapture` prints what recording
/// costs.
#[test]
#[ignore = "a measurement"]
fn submit_latency() {
    let dir = tempfile::tempdir().unwrap();
    let machines = [
        ("recorded", open(dir.path(), MachineConfig { max_jobs: 100_000, ..MachineConfig::default() })),
        (
            "ephemeral",
            Machine::start(SimDevice::default(), MachineConfig { max_jobs: 100_000, ..MachineConfig::default() }),
        ),
    ];
    for round in 0..3 {
        for (name, machine) in &machines {
            let at = client(machine);
            let session = detached(&at, "t");
            let mut took = Vec::new();
            for seed in 0..3000 {
                let start = std::time::Instant::now();
                let job = submit(&at, &session, WIDE, 1, seed).unwrap();
                took.push(start.elapsed());
                wait(&at, &job);
            }
            took.sort_unstable();
            println!("{round} {name}: p50 {:?}, p99 {:?}, max {:?}", took[1500], took[2970], took[2999]);
        }
    }
}

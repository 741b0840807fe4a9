//! What a machine keeps: over restarts, at every boundary of two events, and within its limits. `damage.rs` has stores
//! and folders that others have changed, `audit.rs` what the journal says to auditors.

mod audit;
mod damage;

use qmk_abi::rpc::*;
use qmk_client::{Client, Job, Policy, Program};
use qmk_services::store::Entry;
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimDevice;
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
    let session = Client::over(machine.connect()).session_default().unwrap();
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

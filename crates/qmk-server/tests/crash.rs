//! A server that is killed two hundred times under load, at random, and keeps every word that it gave.

use qmk_abi::rpc::{Format, JobRef, JobState, JobSubmit, Reply, Request, SessionCreate};
use qmk_client::{Client, ErrorCode, Job, Policy, Program};
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimDevice;
use qmk_testkit::Rng;
use qmk_testkit::server::listening;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::Duration;

type Counts = BTreeMap<String, u64>;

/// Programs of the load; the long one is seldom done in one life of the server.
const PROGRAMS: [(&str, u64); 3] = [
    ("ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_CNOT a, b\nMEASURE_Z a -> x\nMEASURE_Z b -> y\nFREE_LQ a, b\n", 40),
    ("ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_T a\nAPPLY_H a\nMEASURE_Z a -> x\nAPPLY_X b if x==1\nMEASURE_Z b -> y\n", 25),
    ("ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\nFREE_LQ a\n", 20_000),
];
const CLIENTS: u64 = 3;
const KILLS: usize = 200;

/// Ends with the test, however that ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn start(dir: &Path) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qmk-server"));
    Server(listening(command.arg("--socket").arg(dir.join("s")).arg("--data-dir").arg(dir.join("data"))))
}

/// What one client knows.
#[derive(Default)]
struct Known {
    session: Option<String>,
    /// Jobs that the server said it has taken on: program and seed.
    acknowledged: Vec<(String, usize, u64)>,
    /// Results that it gave.
    told: BTreeMap<String, Counts>,
    cancelled: Vec<String>,
}

/// Works until the server is gone.
fn load(path: &Path, known: &mut Known, random: &mut Rng) -> Result<(), qmk_client::ClientError> {
    let client = Client::connect(path.to_str().unwrap())?;
    let session = match &known.session {
        Some(session) => session.clone(),
        None => {
            let create = SessionCreate { detached: true, ..SessionCreate::default() };
            let session = client.session_with(create)?.info().session_id.clone();
            known.session.insert(session).clone()
        }
    };
    loop {
        let (program, seed) = (random.below(PROGRAMS.len()), random.below(1 << 40) as u64);
        let (source, shots) = PROGRAMS[program];
        let policy = Policy { shots, seed, ..Policy::default() };
        let submit = JobSubmit { session_id: session.clone(), source: source.into(), format: Format::Asm, policy };
        match client.call(Request::JobSubmit(submit)) {
            Ok(Reply::Submitted(s)) => known.acknowledged.push((s.job_id, program, seed)),
            Ok(other) => panic!("{other:?}"),
            Err(e) if e.code() == Some(ErrorCode::QuotaExceeded) => {}
            Err(e) => return Err(e),
        }
        // Results of any time, now and then; and a few jobs are not wanted any more.
        let some = random.below(known.acknowledged.len());
        let some = if random.below(4) == 0 { known.acknowledged.len() - 1 } else { some };
        let (job, ..) = &known.acknowledged[some];
        let reference = Job::attach(&client, JobRef { session_id: session.clone(), job_id: job.clone() });
        let status = reference.status()?;
        if status.state == JobState::Completed {
            let counts = reference.result()?.report.counts;
            let before = known.told.insert(job.clone(), counts.clone());
            assert!(before.is_none_or(|before| before == counts), "{job} has another result now");
        } else {
            assert!(!known.told.contains_key(job), "{job} was done and is {:?}", status.state);
            if random.below(4) == 0 && reference.cancel().is_ok() {
                known.cancelled.push(job.clone());
            }
        }
        std::thread::sleep(Duration::from_micros(random.below(3000) as u64));
    }
}

#[test]
fn a_killed_server_keeps_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let known: Vec<_> = (0..CLIENTS).map(|_| Mutex::new(Known::default())).collect();
    let mut random = Rng::new(2026);
    for _ in 0..KILLS {
        let mut server = start(dir.path());
        let (life, seed) = (Duration::from_micros(random.below(60_000) as u64), random.next());
        std::thread::scope(|scope| {
            for (n, known) in known.iter().enumerate() {
                let path = &path;
                scope.spawn(move || {
                    let gone = load(path, &mut known.lock().unwrap(), &mut Rng::new(seed ^ n as u64)).unwrap_err();
                    // Nothing but the end of the server ends the load.
                    let cut = [None, Some(ErrorCode::Internal)].contains(&gone.code());
                    assert!(cut && gone.to_string().contains("connection"), "{gone}");
                });
            }
            std::thread::sleep(life);
            server.0.kill().unwrap();
            server.0.wait().unwrap();
        });
    }

    let mut server = start(dir.path());
    let client = Client::connect(path.to_str().unwrap()).unwrap();
    let machine = Machine::start(SimDevice::default(), MachineConfig::default());
    let alone = Client::over(machine.connect()).session_default().unwrap();
    let (mut done, mut cancelled) = (0, 0);
    let mut numbers = std::collections::BTreeSet::new();
    for known in known {
        let known = known.into_inner().unwrap();
        let session = known.session.unwrap();
        for (job, program, seed) in known.acknowledged {
            assert!(numbers.insert(job.clone()), "{job} is two jobs");
            let reference = JobRef { session_id: session.clone(), job_id: job.clone() };
            let result = Job::attach(&client, reference).wait(Some(Duration::from_secs(60)));
            let result = match result {
                Ok(result) => result,
                // The answer to a request to cancel may have been lost, but not the job.
                Err(e) if e.code() == Some(ErrorCode::AlreadyCompleted) => {
                    cancelled += 1;
                    continue;
                }
                Err(e) => panic!("{job}: {e}"),
            };
            assert!(!known.cancelled.contains(&job), "{job} was cancelled");
            let (source, shots) = PROGRAMS[program];
            let policy = Policy { shots, seed, ..Policy::default() };
            let expected = alone.run(&Program::asm(source), policy).unwrap().report.counts;
            assert_eq!(result.report.counts, expected, "{job}, seed {seed}");
            assert!(known.told.get(&job).is_none_or(|told| *told == expected));
            done += 1;
        }
    }
    assert!(done > KILLS, "too little load: {done} done, {cancelled} cancelled");
    Command::new("kill").arg(server.0.id().to_string()).status().unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    let verified = qmk_journal::verify(&dir.path().join("data/journal")).unwrap();
    assert_eq!((verified.signed, verified.torn), (verified.entries, 0));
    println!("{done} jobs done, {cancelled} cancelled, {} entries", verified.entries);
}

/// A restart that was asked for keeps the sessions of connected clients, and what they have under way.
#[test]
fn sigterm_keeps_what_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(dir.path());
    let path = dir.path().join("s");
    let client = Client::connect(path.to_str().unwrap()).unwrap();
    let session = client.session_default().unwrap();
    let policy = Policy { shots: 300_000, seed: 5, ..Policy::default() };
    let job = session.submit(&Program::asm(PROGRAMS[2].0), policy).unwrap();
    Command::new("kill").arg(server.0.id().to_string()).status().unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    let mut server = start(dir.path());
    let client = Client::connect(path.to_str().unwrap()).unwrap();
    let result = Job::attach(&client, job.reference().clone()).wait(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(result.report.counts.values().sum::<u64>(), 300_000);
    server.0.kill().unwrap();
    server.0.wait().unwrap();
}

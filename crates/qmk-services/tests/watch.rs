//! What those who watch a machine are told.

use qmk_abi::rpc::*;
use qmk_client::{Client, Policy, Program, Session};
use qmk_services::policy::SitePolicy;
use qmk_services::{Machine, MachineConfig, Peer};
use qmk_sim::SimDevice;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

const COIN: &str = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\nFREE_LQ a\n";
const MAGIC: &str = "ALLOC_LQ -> a\nAPPLY_T a\nMEASURE_Z a -> m\nFREE_LQ a\n";

fn start(config: MachineConfig) -> Machine<SimDevice> {
    Machine::start(SimDevice::default(), config)
}

fn session(client: &Client, tenant: &str) -> Session {
    let create = SessionCreate { tenant_id: Some(tenant.into()), ..SessionCreate::default() };
    client.session_with(create).unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn jobs_are_listed_to_their_tenant_only() {
    let machine = start(MachineConfig::default());
    let client = Client::over(machine.connect());
    let (alice, other, bob) = (session(&client, "alice"), session(&client, "alice"), session(&client, "bob"));
    let coin = Program::asm(COIN);
    let done = alice.submit(&coin, Policy { shots: 10, ..Policy::default() }).unwrap();
    done.wait(None).unwrap();
    let long = Policy { shots: 50_000_000, priority: 3, ..Policy::default() };
    let runs = alice.submit(&coin, long).unwrap();
    let list = other.jobs().unwrap();
    assert_eq!((list.tenant.as_str(), list.more), ("alice", 0));
    let seen: Vec<_> = list.jobs.iter().map(|j| (j.job_id.as_str(), j.shots, j.priority, j.state.ended())).collect();
    let (runs_id, done_id) = (runs.reference().job_id.as_str(), done.reference().job_id.as_str());
    assert_eq!(seen, [(runs_id, 50_000_000, 3, false), (done_id, 10, 0, true)]);
    assert_eq!(list.jobs[0].session_id, alice.info().session_id);
    assert_eq!(list.jobs[1].progress.nodes_total, list.jobs[1].progress.nodes_executed);
    assert_eq!(bob.jobs().unwrap().jobs, []);
    runs.cancel().unwrap();
    assert_eq!(other.jobs().unwrap().jobs[0].state, JobState::Cancelled);
}

#[test]
fn the_list_is_bounded() {
    let machine = start(MachineConfig { max_jobs: 2000, ..MachineConfig::default() });
    let alice = session(&Client::over(machine.connect()), "alice");
    for _ in 0..1100 {
        alice.submit(&Program::asm(COIN), Policy { shots: 1_000_000, ..Policy::default() }).unwrap();
    }
    let list = alice.jobs().unwrap();
    assert_eq!((list.jobs.len() as u64 + list.more, list.jobs.len()), (1100, 1000));
}

#[test]
fn the_machine_is_accounted_for() {
    let machine = start(MachineConfig::default());
    let client = Client::over(machine.connect());
    let (alice, bob) = (session(&client, "alice"), session(&client, "bob"));
    let before = bob.machine_stats().unwrap();
    assert_eq!(before.logical_qubits_free, before.logical_qubits);
    let names: Vec<_> = before.tenants.iter().map(|t| (t.tenant.as_str(), t.sessions)).collect();
    assert_eq!(names, [("alice", 1), ("bob", 1)]);

    alice.run(&Program::asm(MAGIC), Policy::default()).unwrap();
    let long = alice.submit(&Program::asm(COIN), Policy { shots: 50_000_000, ..Policy::default() }).unwrap();
    eventually("the job runs", || long.status().unwrap().state == JobState::Running);
    let during = machine.stats();
    assert_eq!(during.logical_qubits - during.logical_qubits_free, 1);
    assert_eq!(during.strands_waiting + during.strands_running + during.strands_draining, 1);
    assert!(during.epoch > before.epoch && during.instructions >= before.instructions + 4, "{during:?}");
    let of = |stats: &MachineStats, name: &str| stats.tenants.iter().find(|t| t.tenant == name).unwrap().clone();
    let jobs = JobCounts { running: 1, completed: 1, ..JobCounts::default() };
    assert_eq!((of(&during, "alice").jobs, of(&during, "alice").logical_qubits), (jobs, 1));
    assert!(during.magic_spent > 0 && of(&during, "alice").magic_spent == during.magic_spent);
    assert_eq!(of(&during, "bob").jobs, JobCounts::default());

    // Jobs that end with their session were cancelled.
    drop(alice);
    let after = machine.stats();
    assert_eq!(of(&after, "alice").jobs, JobCounts { completed: 1, cancelled: 1, ..JobCounts::default() });
}

#[test]
fn counts_never_fall_when_tenants_are_forgotten() {
    let machine = start(MachineConfig { max_tenants: 1, ..MachineConfig::default() });
    let client = Client::over(machine.connect());
    let alice = session(&client, "alice");
    alice.run(&Program::asm(MAGIC), Policy::default()).unwrap();
    let spent = machine.stats().magic_spent;
    drop(alice);
    let bob = session(&client, "bob");
    let after = bob.machine_stats().unwrap();
    assert_eq!(after.tenants.len(), 1);
    assert!(spent > 0 && after.magic_spent == spent, "{spent} then {}", after.magic_spent);
}

#[test]
fn a_machine_of_many_owners_tells_no_one_of_the_others() {
    // Not the user who runs this, and not root.
    let own = std::process::id();
    let uid = std::fs::metadata("/proc/self").unwrap().uid() + 4321;
    let text = format!("[tenants.alice]\nuids = [{uid}]\ncapabilities = \"all\"\n");
    let policy = SitePolicy::parse(&text, "policy.toml".as_ref()).unwrap();
    let machine = start(MachineConfig { policy: Some(Arc::new(policy)), ..MachineConfig::default() });
    let alice = session(&Client::over(machine.connect_as(Peer { uid, pid: own })), "alice");
    let e = alice.machine_stats().unwrap_err();
    assert_eq!(e.code(), Some(ErrorCode::AccessDenied), "{e}");
    assert!(alice.jobs().unwrap().jobs.is_empty());
    let unknown = SessionRef { session_id: "sess_none".into() };
    let client = Client::over(machine.connect());
    for request in [Request::JobList(unknown.clone()), Request::MachineStats(unknown)] {
        assert_eq!(client.call(request).unwrap_err().code(), Some(ErrorCode::SessionNotFound));
    }
}

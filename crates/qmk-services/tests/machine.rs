//! The services as their clients meet them: fairness, and what happens when limits are reached.

use qmk_abi::rpc::*;
use qmk_abi::syscall::Patch;
use qmk_services::hal::{Device, forward_device};
use qmk_services::{Connection, Machine, MachineConfig};
use qmk_sim::{SimConfig, SimDevice};
use qmk_testkit::NullDevice;

type Sim = Machine<SimDevice>;

/// Depends on an outcome, so that each shot is one of its own and many take long.
const COIN: &str = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nAPPLY_H a if m==1\nMEASURE_Z a -> l\nFREE_LQ a\n";

fn start(config: MachineConfig) -> Sim {
    Machine::start(SimDevice::default(), config)
}

fn create(at: &impl Endpoint, tenant: &str) -> Result<String, RpcError> {
    let create = SessionCreate { tenant_id: Some(tenant.into()), ..SessionCreate::default() };
    match at.call(Request::SessionCreate(create))? {
        Reply::Session(s) => Ok(s.session_id),
        other => panic!("{other:?}"),
    }
}

fn submit(at: &Connection<SimDevice>, session: &str, source: &str, shots: u64) -> Result<JobRef, RpcError> {
    submit_with(at, session, source, Policy { shots, ..Policy::default() })
}

fn submit_with(at: &impl Endpoint, session: &str, source: &str, policy: Policy) -> Result<JobRef, RpcError> {
    let submit = JobSubmit { session_id: session.into(), source: source.into(), format: Format::Asm, policy };
    match at.call(Request::JobSubmit(submit))? {
        Reply::Submitted(s) => Ok(JobRef { session_id: session.into(), job_id: s.job_id }),
        other => panic!("{other:?}"),
    }
}

fn wait(at: &Connection<SimDevice>, job: &JobRef) -> JobStatus {
    let JobRef { session_id, job_id } = job.clone();
    match at.call(Request::JobWait(JobWait { session_id, job_id, timeout_ms: Some(60_000) })) {
        Ok(Reply::Status(s)) => s,
        other => panic!("{other:?}"),
    }
}

fn result(at: &Connection<SimDevice>, job: &JobRef) -> Result<JobResult, RpcError> {
    match at.call(Request::JobResult(job.clone()))? {
        Reply::Result(r) => Ok(JobResult::clone(&r)),
        other => panic!("{other:?}"),
    }
}

fn resources(at: &Connection<SimDevice>, session: &str) -> Result<Resources, RpcError> {
    match at.call(Request::ResourceQuery(SessionRef { session_id: session.into() }))? {
        Reply::Resources(r) => Ok(r),
        other => panic!("{other:?}"),
    }
}

fn open(at: &Connection<SimDevice>, session: &str) -> bool {
    resources(at, session).is_ok()
}

#[test]
fn many_jobs_of_one_tenant_do_not_hold_up_another() {
    let machine = start(MachineConfig::default());
    let (busy, quick) = (machine.connect(), machine.connect());
    let hog = create(&busy, "hog").unwrap();
    // The first thousand shots of any of these are done long before all shots are.
    let jobs: Vec<_> = (0..40).map(|_| submit(&busy, &hog, COIN, 100_000_000).unwrap()).collect();
    let session = create(&quick, "quick").unwrap();
    for _ in 0..20 {
        assert!(open(&quick, &session));
    }
    let job = submit(&quick, &session, COIN, 1000).unwrap();
    assert_eq!(wait(&quick, &job).state, JobState::Completed);
    // The job that came last ends first, and no job before it has had more than a small part of its shots meanwhile.
    for job in &jobs {
        let JobRef { session_id, job_id } = job.clone();
        let Ok(Reply::Status(s)) = busy.call(Request::JobStatus(JobRef { session_id, job_id })) else { panic!() };
        assert!(!s.state.ended() && s.progress.nodes_executed < s.progress.nodes_total / 10, "{s:?}");
    }
}

#[test]
fn sessions_left_behind_make_room() {
    let machine = start(MachineConfig { max_sessions: 3, ..MachineConfig::default() });
    // As the older client does it: a connection for each call.
    let ask = || machine.connect();
    let busy = create(&ask(), "t").unwrap();
    submit(&ask(), &busy, COIN, 100_000_000).unwrap();
    let bound = machine.connect();
    let kept = create(&bound, "t").unwrap();
    assert!(open(&bound, &kept));
    let mut last = create(&ask(), "t").unwrap();
    for _ in 0..20 {
        let next = create(&ask(), "t").unwrap();
        assert!(!open(&ask(), &last) && open(&ask(), &next) && open(&ask(), &busy) && open(&bound, &kept));
        last = next;
    }
    // The one used least recently goes.
    drop(bound);
    let first = create(&ask(), "t").unwrap();
    assert!(open(&ask(), &last) && open(&ask(), &first) && open(&ask(), &last));
    let next = create(&ask(), "t").unwrap();
    assert!(!open(&ask(), &first) && open(&ask(), &last) && open(&ask(), &next));
    // None can go.
    for session in [&last, &next] {
        submit(&ask(), session, COIN, 100_000_000).unwrap();
    }
    assert_eq!(create(&ask(), "t").unwrap_err().code, ErrorCode::QuotaExceeded);
    assert!(create(&ask(), "another").is_ok());
}

#[test]
fn tenants_that_hold_nothing_make_room() {
    let machine = start(MachineConfig { max_tenants: 3, ..MachineConfig::default() });
    let ask = || machine.connect();
    let busy = create(&ask(), "busy").unwrap();
    let job = submit(&ask(), &busy, COIN, 100_000_000).unwrap();
    for i in 0..20 {
        create(&ask(), &format!("passer-by {i}")).unwrap();
    }
    assert!(open(&ask(), &busy));
    for tenant in ["a", "b"] {
        let session = create(&ask(), tenant).unwrap();
        submit(&ask(), &session, COIN, 100_000_000).unwrap();
    }
    assert_eq!(create(&ask(), "c").unwrap_err().code, ErrorCode::ResourceExhausted);
    ask().call(Request::JobCancel(job)).unwrap();
    assert!(create(&ask(), "c").is_ok());
    assert!(!open(&ask(), &busy));
}

/// 64 measured coins: hardly two shots are alike.
const COINS: &str = ".set q = [f\"q{i}\" for i in range(64)]\nALLOC_LQ -> {\", \".join(q)}\n\
                     .for i in range(64)\nAPPLY_H q{i}\nMEASURE_Z q{i} -> m{i}\n.endfor\n";

#[test]
fn results_of_a_tenant_are_bounded_and_the_oldest_go_first() {
    let machine = start(MachineConfig { kept_bytes: 100_000, ..MachineConfig::default() });
    let at = machine.connect();
    let sessions = [create(&at, "t").unwrap(), create(&at, "t").unwrap()];
    let jobs: Vec<JobRef> = (0..4).map(|i| submit(&at, &sessions[i % 2], COINS, 300).unwrap()).collect();
    for job in &jobs {
        // Earlier results may be gone by now.
        _ = at.call(Request::JobWait(JobWait {
            session_id: job.session_id.clone(),
            job_id: job.job_id.clone(),
            timeout_ms: Some(60_000),
        }));
    }
    let there: Vec<bool> = jobs.iter().map(|j| result(&at, j).is_ok()).collect();
    assert_eq!(there.iter().filter(|t| **t).count(), 2, "{there:?}");
    assert!(!there[0] && there[3], "{there:?}");
    assert_eq!(result(&at, &jobs[3]).unwrap().report.counts.values().sum::<u64>(), 300);

    let large = submit(&at, &sessions[0], COINS, 100_000).unwrap();
    assert_eq!(wait(&at, &large).state, JobState::Failed);
    let why = result(&at, &large).unwrap_err();
    assert!(why.message.contains("fewer shots"), "{why}");
    // Many shots of few outcomes are small.
    let small = submit(&at, &sessions[0], COIN, 100_000).unwrap();
    assert_eq!(wait(&at, &small).state, JobState::Completed);
    assert_eq!(result(&at, &small).unwrap().report.counts.values().sum::<u64>(), 100_000);
}

#[test]
fn a_job_has_one_name() {
    let machine = start(MachineConfig::default());
    let at = machine.connect();
    let session = create(&at, "t").unwrap();
    let job = submit(&at, &session, COIN, 1).unwrap();
    assert_eq!(job.job_id, "job_1");
    assert_eq!(wait(&at, &job).state, JobState::Completed);
    for alias in ["job_01", "job_+1", "job_1 ", "job_", "1", "job_18446744073709551617"] {
        let e = result(&at, &JobRef { job_id: alias.into(), ..job.clone() }).unwrap_err();
        assert_eq!(e.code, ErrorCode::JobNotFound, "{alias}");
    }
}

#[test]
fn parameters_are_bounded() {
    let machine = start(MachineConfig::default());
    let at = machine.connect();
    let session = create(&at, "a").unwrap();
    let source = ".param x = 1\nALLOC_LQ -> a\nMEASURE_Z a -> m\nFREE_LQ a\n";
    let submit = |length| {
        let params = [("x".to_string(), "1".repeat(length))].into();
        submit_with(&at, &session, source, Policy { params, ..Policy::default() })
    };
    submit(10).unwrap();
    let e = submit(64 << 10).unwrap_err();
    assert!(e.code == ErrorCode::InvalidParams && e.message.contains("policy.params"), "{e}");
}

#[test]
fn too_much_magic_names_the_node_and_the_line() {
    let machine = start(MachineConfig { max_active: 2, ..MachineConfig::default() });
    let at = machine.connect();
    let session = create(&at, "t").unwrap();
    let text = "ALLOC_LQ -> a, b, c\n.for q in [\"a\", \"b\", \"c\"]\nAPPLY_H {q}\n.endfor\n\
                APPLY_T a\nAPPLY_T b\nculprit: APPLY_T c\nAPPLY_CNOT a, b\nAPPLY_CNOT b, c\n.for q in [\"a\", \"b\", \"c\"]\n\
                APPLY_H {q}\nAPPLY_T {q}\n.endfor\nAPPLY_CNOT c, a\nAPPLY_CNOT b, a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a, b, c\n";
    let job = submit(&at, &session, text, 1).unwrap();
    assert_eq!(wait(&at, &job).state, JobState::Failed);
    let e = result(&at, &job).unwrap_err();
    assert!(e.message.contains("node culprit, line 7,"), "{e}");
    assert!(e.message.contains("--max-active") && e.message.contains("max_active_qubits"), "{e}");
}

#[test]
fn a_deadline_is_met_or_refused_at_once() {
    let machine = start(MachineConfig::default());
    let at = machine.connect();
    let session = create(&at, "t").unwrap();
    // Forty T gates in a row take eighty epochs.
    let text = "ALLOC_LQ -> a\nAPPLY_H a\n.for i in 1..40\nAPPLY_T a\n.endfor\nMEASURE_X a -> m\nFREE_LQ a\n";
    let policy = |deadline| Policy { shots: 10, deadline_epochs: Some(deadline), ..Policy::default() };
    let e = submit_with(&at, &session, text, policy(829)).unwrap_err();
    assert_eq!(e.code, ErrorCode::ResourceExhausted);
    assert!(e.message.contains("deadline of 829 epochs") && e.message.contains("at least 830 epochs"), "{e}");
    assert_eq!(resources(&at, &session).unwrap().usage, Usage::default());
    // The magic states of one epoch come in the next, so it takes a little longer than the program alone.
    let job = submit_with(&at, &session, text, policy(900)).unwrap();
    assert_eq!(wait(&at, &job).state, JobState::Completed);
    let report = result(&at, &job).unwrap().report;
    assert!((830..=900).contains(&report.epochs.total), "{:?}", report.epochs);
    assert_eq!(report.counts.values().sum::<u64>(), 10);
}

#[test]
fn physical_qubits_are_those_of_the_profile() {
    let whole = start(MachineConfig::default());
    let at = whole.connect();
    let session = create(&at, "t").unwrap();
    let quota = resources(&at, &session).unwrap().quota;
    assert_eq!(quota.max_physical_qubits, 97 * quota.max_logical_qubits);

    // One qubit of distance 5 has 49 physical qubits, one of distance 7 has 97.
    let small = start(MachineConfig { max_physical_qubits: Some(96), ..MachineConfig::default() });
    let at = small.connect();
    let session = create(&at, "t").unwrap();
    assert_eq!(resources(&at, &session).unwrap().quota.max_physical_qubits, 96);
    let with = |profile: &str| {
        let policy = Policy { profile: Some(profile.into()), ..Policy::default() };
        submit_with(&at, &session, COIN, policy)
    };
    let e = with("logical:surface_code(d=7)").unwrap_err();
    assert_eq!(e.code, ErrorCode::QuotaExceeded);
    assert!(e.message.contains("physical qubits"), "{e}");
    let job = with("logical:surface_code(d=5)").unwrap();
    assert_eq!(wait(&at, &job).state, JobState::Completed);
    assert_eq!(result(&at, &job).unwrap().report.physical_qubits, 49);
    // Bacon-Shor patches of this distance have 65, two of them 130.
    let named = "ALLOC_LQ profile=\"logical:bacon_shor(d=5)\" -> a, b\nFREE_LQ a, b\n";
    let e = submit(&at, &session, named, 1).unwrap_err();
    assert_eq!(e.code, ErrorCode::QuotaExceeded, "{e}");
}

#[test]
fn qubits_freed_without_being_measured_are_told_of() {
    let machine = start(MachineConfig::default());
    let at = machine.connect();
    let session = create(&at, "t").unwrap();
    let warnings = |text: &str| {
        let job = submit(&at, &session, text, 1).unwrap();
        assert_eq!(wait(&at, &job).state, JobState::Completed);
        result(&at, &job).unwrap().report.warnings
    };
    let pair = "ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_CNOT a, b\n";
    let told = |n, whose| format!("{n} freed without being measured; {whose} state is reset first");
    assert_eq!(warnings(&format!("{pair}FREE_LQ a, b\n")), [told("2 qubits are", "their")]);
    assert_eq!(warnings(&format!("{pair}MEASURE_Z a -> m\nFREE_LQ a, b\n")), [told("1 qubit is", "its")]);
    assert!(warnings(&format!("{pair}MEASURE_Z a -> m\nMEASURE_X b -> n\nFREE_LQ a, b\n")).is_empty());
    assert!(warnings(&format!("{pair}RESET a\nRESET b\nFREE_LQ a, b\n")).is_empty());
    assert!(warnings("ALLOC_LQ -> a\nAPPLY_X a\nFREE_LQ a\n").is_empty());
}

#[test]
fn in_lockstep_all_shots_are_those_of_one_epoch() {
    // Whether a job is ever seen with some of its shots done.
    let seen = |lockstep, shots| {
        let machine = start(MachineConfig { lockstep, ..MachineConfig::default() });
        let at = machine.connect();
        let session = create(&at, "t").unwrap();
        let job = submit(&at, &session, COIN, shots).unwrap();
        loop {
            let Ok(Reply::Status(s)) = at.call(Request::JobStatus(job.clone())) else { panic!("no status") };
            let shot = s.progress.nodes_total / shots;
            if (shot + 1..s.progress.nodes_total).contains(&s.progress.nodes_executed) {
                return true;
            }
            if s.state.ended() {
                assert_eq!(s.state, JobState::Completed);
                return false;
            }
        }
    };
    assert!(!seen(true, 20_000_000));
    assert!(seen(false, 100_000_000));
}

#[test]
fn a_session_with_many_capabilities_ends_whole() {
    let machine = start(MachineConfig { max_jobs: 2000, ..MachineConfig::default() });
    let at = machine.connect();
    let (session, other) = (create(&at, "t").unwrap(), create(&at, "t").unwrap());
    // Two capabilities each, more than one step of the kernel deletes.
    for _ in 0..1500 {
        submit(&at, &session, COIN, 100_000_000).unwrap();
    }
    assert!(resources(&at, &other).unwrap().usage.jobs > 1400);
    assert!(at.call(Request::SessionClose(SessionRef { session_id: session })).is_ok());
    assert_eq!(resources(&at, &other).unwrap().usage, Usage::default());
}

/// A machine that has no patches.
struct Bare {
    inner: NullDevice,
}

impl Device for Bare {
    forward_device!(inner: NullDevice; except physical_qubits);

    fn physical_qubits(&self, _: Patch) -> Option<u32> {
        None
    }
}

#[test]
fn a_profile_that_the_machine_does_not_have_is_a_finding() {
    let machine = Machine::start(Bare { inner: NullDevice::new(10) }, MachineConfig::default());
    let at = machine.connect();
    let session = create(&at, "t").unwrap();
    let text = "ALLOC_LQ -> a\nhere: ALLOC_LQ profile=\"logical:floquet(d=9)\" -> b\nFREE_LQ a, b\n";
    let e = submit_with(&at, &session, text, Policy::default()).unwrap_err();
    assert_eq!(e.code, ErrorCode::InvalidGraph);
    let f = &e.findings[0];
    assert_eq!((f.code.as_str(), f.node.as_deref(), f.line), ("E-PROFILE", Some("here"), Some(2)));
    assert!(f.message.contains("floquet with distance 9"), "{f:?}");
    // Of a profile that the program does not name, no node can be named.
    let e = submit_with(&at, &session, COIN, Policy::default()).unwrap_err();
    assert_eq!((e.findings[0].node.as_deref(), e.findings[0].line), (None, None));
    assert!(e.message.contains("E-PROFILE") && e.message.contains("surface_code with distance 7"), "{e}");
}

/// Fourteen qubits that carry live magic at once: registers of 24 << 14 bytes.
const WIDE: &str = ".for i in 0..13\nALLOC_LQ -> q{i}\nAPPLY_H q{i}\nAPPLY_T q{i}\nAPPLY_H q{i}\n.endfor\n\
                    .for i in 1..13\nAPPLY_CNOT q{i}, q0\n.endfor\n\
                    .for i in 0..13\nMEASURE_Z q{i} -> m{i}\nFREE_LQ q{i}\n.endfor\n";

fn with_state_bytes(state_bytes: u64) -> Sim {
    let device = SimConfig { state_bytes, owner_state_bytes: Some(state_bytes), threads: 1, ..SimConfig::default() };
    Machine::start(SimDevice::new(device), MachineConfig { seed: Some(1), ..MachineConfig::default() })
}

#[test]
fn jobs_that_do_not_fit_together_wait_for_each_other() {
    let run = |machine: &Sim| {
        let at = machine.connect();
        let mut jobs = Vec::new();
        for tenant in ["a", "b", "c"] {
            let session = create(&at, tenant).unwrap();
            for (seed, shots) in [(1, 1), (2, 30), (3, 1), (4, 30)] {
                let policy = Policy { shots, seed, ..Policy::default() };
                jobs.push(submit_with(&at, &session, WIDE, policy).unwrap());
            }
        }
        let ended = |job: &JobRef| {
            let status = wait(&at, job);
            assert_eq!(status.state, JobState::Completed, "{status:?}");
            result(&at, job).unwrap().report.counts.clone()
        };
        jobs.iter().map(ended).collect::<Vec<_>>()
    };
    // A batch takes as much again as its registers.
    assert_eq!(run(&with_state_bytes(60 << 14)), run(&with_state_bytes(u64::MAX)));
}

#[test]
fn a_tenant_with_many_checkpoints_is_refused_before_the_memory_is_gone() {
    let machine = with_state_bytes(4 << 20);
    let at = machine.connect();
    let session_id = create(&at, "a").unwrap();
    let call = |call| at.call(Request::Interactive(call));
    // Half a mebibyte.
    call(interactive::Call::Alloc(interactive::Alloc { session_id: session_id.clone(), n: 1024 })).unwrap();
    let part = interactive::Part { session_id: session_id.clone(), job_id: None };
    let mut taken = Vec::new();
    let e = loop {
        match call(interactive::Call::Checkpoint(part.clone())) {
            Ok(Reply::Interactive(interactive::Answer::Checkpoint(info))) => taken.push(info.checkpoint_id),
            refused => break refused.unwrap_err(),
        }
    };
    assert_eq!((taken.len(), e.code), (7, ErrorCode::ResourceExhausted), "{e}");
    assert!(e.message.contains("524288 bytes") && e.message.contains("4194304"), "{e}");
    // What it needs comes back by no one's doing, so the job of another fails, with the reason.
    let other = create(&at, "b").unwrap();
    let status = wait(&at, &submit(&at, &other, WIDE, 1).unwrap());
    assert_eq!(status.state, JobState::Failed, "{status:?}");
    let checkpoint_id = taken.swap_remove(0);
    call(interactive::Call::DropCheckpoint(interactive::CheckpointRef { session_id, checkpoint_id })).unwrap();
    assert_eq!(wait(&at, &submit(&at, &other, WIDE, 1).unwrap()).state, JobState::Completed);
}

#[test]
fn a_tenant_holds_no_more_than_its_share_in_all_of_its_sessions() {
    let config = MachineConfig { max_held_qubits: Some(30), ..MachineConfig::default() };
    let machine = start(config);
    let at = machine.connect();
    let alloc = |session_id: &str, n| {
        let alloc = interactive::Alloc { session_id: session_id.into(), n };
        match at.call(Request::Interactive(interactive::Call::Alloc(alloc))) {
            Ok(Reply::Interactive(interactive::Answer::Alloc(taken))) => Ok(taken.qubits),
            refused => Err(refused.unwrap_err()),
        }
    };
    let [first, second, other] = ["a", "a", "b"].map(|tenant| create(&at, tenant).unwrap());
    let held = alloc(&first, 20).unwrap();
    let e = alloc(&second, 11).unwrap_err();
    assert_eq!(e.code, ErrorCode::QuotaExceeded, "{e}");
    assert!(e.message.contains("30 qubits") && e.message.contains("holds 20"), "{e}");
    alloc(&second, 10).unwrap();
    alloc(&other, 30).unwrap();
    // A program may take what there is.
    let wide = ".for i in 0..99\nALLOC_LQ -> q{i}\nMEASURE_Z q{i} -> m{i}\nFREE_LQ q{i}\n.endfor\n";
    assert_eq!(wait(&at, &submit(&at, &first, wide, 1).unwrap()).state, JobState::Completed);
    let release = interactive::Release { session_id: first.clone(), qubits: held, uncompute: false };
    at.call(Request::Interactive(interactive::Call::Release(release))).unwrap();
    alloc(&second, 20).unwrap();
}

#[test]
fn what_a_session_left_behind_comes_back_and_what_is_in_use_stays() {
    let held_idle = Some(std::time::Duration::from_secs(1));
    let machine = start(MachineConfig { held_idle, ..MachineConfig::default() });
    let at = machine.connect();
    let call = |call| at.call(Request::Interactive(call));
    let [left, used] = ["a", "b"].map(|tenant| create(&at, tenant).unwrap());
    for session_id in [&left, &used] {
        // More than are taken back at once.
        call(interactive::Call::Alloc(interactive::Alloc { session_id: session_id.clone(), n: 3000 })).unwrap();
        let part = interactive::Part { session_id: session_id.clone(), job_id: None };
        call(interactive::Call::Checkpoint(part)).unwrap();
    }
    // Calls of another session take back what no call has used for as long, and no more.
    let mut calls = 0;
    while resources(&at, &used).unwrap().machine.logical_qubits_free < 7000 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        calls += 1;
        assert!(calls < 3000, "nothing comes back");
    }
    let apply = |session: &str, name: &str| {
        let qubits = vec![name.to_string()];
        let apply = interactive::Apply { session_id: session.into(), op: "APPLY_H".into(), qubits, theta: None };
        call(interactive::Call::Apply(apply)).map(|_| ())
    };
    apply(&used, "q_1").unwrap();
    assert_eq!(apply(&left, "q_1").unwrap_err().code, ErrorCode::InvalidParams);
    // The session goes on, with other names.
    call(interactive::Call::Alloc(interactive::Alloc { session_id: left.clone(), n: 1 })).unwrap();
    apply(&left, "q_3002").unwrap();
}

//! Who may do what: the policy file, and a machine under one.

use qmk_abi::Rights;
use qmk_abi::rpc::*;
use qmk_services::policy::SitePolicy;
use qmk_services::{Connection, Machine, MachineConfig, Peer};
use qmk_sim::SimDevice;
use qmk_token::{Attenuation, Grant, Key, Token};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const COIN: &str = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a\n";
const MAGIC: &str = "ALLOC_LQ -> a\nAPPLY_T a\nMEASURE_Z a -> m\nFREE_LQ a\n";

/// Users that are neither root nor, most likely, who runs the test.
const ALICE: u32 = 4_000_000_001;
const BOB: u32 = 4_000_000_002;
const NOBODY: u32 = 4_000_000_003;

type At = Connection<SimDevice>;

/// What the coin needs.
const BASIC: Rights = Rights::ALLOC.union(Rights::COMPUTE).union(Rights::MEASURE);
/// Its names.
const NAMES: [&str; 3] = ["CAP_ALLOC", "CAP_COMPUTE", "CAP_MEASURE"];

fn parse(text: &str) -> Result<SitePolicy, String> {
    SitePolicy::parse(text, Path::new("site/policy.toml")).map_err(|e| e.to_string())
}

fn policy(text: &str) -> SitePolicy {
    let mut policy = parse(&text.replace("ALICE", &ALICE.to_string()).replace("BOB", &BOB.to_string())).unwrap();
    if let Some(tokens) = &mut policy.tokens {
        tokens.key = Some(key());
    }
    policy
}

fn key() -> Key {
    Key::new([9; 32])
}

fn start(policy: Option<SitePolicy>) -> Machine<SimDevice> {
    Machine::start(SimDevice::default(), MachineConfig { policy: policy.map(Arc::new), ..MachineConfig::default() })
}

fn open(at: &At, create: SessionCreate) -> Result<SessionInfo, RpcError> {
    match at.call(Request::SessionCreate(create))? {
        Reply::Session(s) => Ok(s),
        other => panic!("{other:?}"),
    }
}

fn open_for(at: &At, tenant: &str) -> Result<SessionInfo, RpcError> {
    open(at, SessionCreate { tenant_id: Some(tenant.into()), ..SessionCreate::default() })
}

fn open_with(at: &At, token: &Token) -> Result<SessionInfo, RpcError> {
    open(at, SessionCreate { token: Some(token.to_string()), ..SessionCreate::default() })
}

fn submit(at: &At, session: &str, source: &str, shots: u64) -> Result<JobRef, RpcError> {
    let policy = Policy { shots, ..Policy::default() };
    let submit = JobSubmit { session_id: session.into(), source: source.into(), format: Format::Asm, policy };
    match at.call(Request::JobSubmit(submit))? {
        Reply::Submitted(s) => Ok(JobRef { session_id: session.into(), job_id: s.job_id }),
        other => panic!("{other:?}"),
    }
}

fn wait(at: &At, job: &JobRef) -> Result<JobStatus, RpcError> {
    let JobRef { session_id, job_id } = job.clone();
    match at.call(Request::JobWait(JobWait { session_id, job_id, timeout_ms: Some(60_000) }))? {
        Reply::Status(s) => Ok(s),
        other => panic!("{other:?}"),
    }
}

fn resources(at: &At, session: &str) -> Result<Resources, RpcError> {
    match at.call(Request::ResourceQuery(SessionRef { session_id: session.into() }))? {
        Reply::Resources(r) => Ok(r),
        other => panic!("{other:?}"),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(tenant: &str, capabilities: Rights, expires: u64) -> Token {
    Token::issue(&key(), Grant::new(tenant, capabilities, expires, 4).unwrap()).unwrap()
}

fn code<T>(result: Result<T, RpcError>) -> ErrorCode {
    result.err().expect("should have been refused").code
}

/// The one of `docs/guide/server.md`.
fn documented() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/server.md");
    let text = std::fs::read_to_string(path).unwrap();
    text.split("```").find_map(|block| block.strip_prefix("toml\n[tokens]")).map(|b| format!("[tokens]{b}")).unwrap()
}

#[test]
fn the_documented_policy_says_what_the_document_says() {
    let policy = parse(&documented()).unwrap();
    assert_eq!(policy.tenants.keys().collect::<Vec<_>>(), ["chemistry", "optics", "students"]);
    let (chemistry, students) = (&policy.tenants["chemistry"], &policy.tenants["students"]);
    assert_eq!(chemistry.capabilities, Rights::CLASSES - Rights::ADMIN);
    assert_eq!((chemistry.weight, chemistry.quota.max_logical_qubits), (3, None));
    assert_eq!(students.capabilities, Rights::ALLOC | Rights::COMPUTE | Rights::MEASURE);
    assert_eq!(students.quota.max_shots, Some(10_000));
    assert!(policy.tenants["optics"].suspended);
    assert!(policy.may_offer("chemistry", "optics") && !policy.may_offer("chemistry", "students"));
    assert!(!policy.may_offer("students", "chemistry") && !policy.may_offer("chemistry", "none"));
    let tokens = policy.tokens.as_ref().unwrap();
    assert_eq!((tokens.revoked.len(), tokens.key_file.as_path()), (1, Path::new("site/token.key")));
    assert_eq!(policy.tenants_of(1001).collect::<Vec<_>>(), ["chemistry", "optics"]);
    // Every key there is stands in it.
    for key in ["max_physical_qubits", "max_channels", "max_jobs", "max_active_qubits", "max_sessions"] {
        assert!(documented().contains(&format!("{key} = ")), "{key}");
    }
}

#[test]
fn a_wrong_policy_is_refused_with_file_line_and_what_is_allowed() {
    let base = "[tenants.a]\nuids = [1]\ncapabilities = \"all\"\n";
    let cases: [(&str, &[&str]); 17] = [
        ("weight = 0", &[":4: ", "tenants.a.weight", "at least 1"]),
        ("weigth = 1", &[":4: ", "unknown field `weigth`", "`weight`", "`offers_to`"]),
        ("suspended = \"yes\"", &[":4: ", "suspended = \"yes\"", "expected a boolean"]),
        ("offers_to = [\n\"b\"]", &[":5: ", "tenants.a.offers_to", "\"b\" is no tenant", ": a"]),
        ("offers_to = \"some\"", &[":4: ", "expected a list of names, or \"all\""]),
        ("[tenants.a.quota]\nmax_jobs = -1", &[":5: ", "max_jobs = -1"]),
        ("[tenants.a.quota]\nmax_job = 1", &[":5: ", "unknown field `max_job`", "`max_jobs`"]),
        ("[tenants.a.quota]\nepochs_per_window = 1", &[":4: ", "tenants.a.quota", "window_epochs goes together"]),
        ("[tenants.a.quota]\nmax_requests_per_second = 0", &[":4: ", "at least 1"]),
        ("[tenants.b]\ncapabilities = [\"CAP_ADMIN\"]", &[":5: ", "\"CAP_ADMIN\"", "CAP_ALLOC", "CAP_MAGIC"]),
        ("[tenants.b]\nuids = [1]", &["missing field `capabilities`"]),
        ("[tenants.a]\nuids = [1]", &[":4: ", "duplicate key"]),
        ("[tenants.b]\nuids = [-1]\ncapabilities = []", &[":5: "]),
        ("[tenants.\"b\\u0000\"]\ncapabilities = []", &[":4: ", "no control characters"]),
        ("[tokens]\nkey = \"k\"\nrevoked = [\"xyz\"]", &[":6: ", "32 hexadecimal digits", "qmk token show"]),
        ("[tokens]\nkey = \"k\"\nmax_depth = 33", &[":6: ", "at most 32"]),
        ("[token]\nkey = \"k\"", &[":4: ", "unknown field `token`", "`tokens`"]),
    ];
    assert!(parse(base).is_ok());
    for (more, expected) in cases {
        let e = parse(&format!("{base}{more}\n")).unwrap_err();
        for part in expected.iter().chain(&["site/policy.toml:"]) {
            assert!(e.contains(part), "{more:?}: {e:?} has no {part:?}");
        }
    }
    assert!(parse("").unwrap_err().contains("no tenants; add a table [tenants.NAME]"));
}

#[test]
fn a_policy_is_read_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[tokens]\nkey = \"token.key\"\n[tenants.a]\ncapabilities = []\n");
    let e = SitePolicy::load(&file).unwrap_err().to_string();
    assert!(e.contains("policy.toml: tokens.key: ") && e.contains("token.key: No such file"), "{e}");
    Key::create(&dir.path().join("token.key")).unwrap();
    assert!(SitePolicy::load(&file).unwrap().tokens.unwrap().key.is_some());
    assert!(SitePolicy::load(dir.path()).unwrap_err().to_string().contains("not a regular file"));
    write(&"#".repeat((1 << 20) + 1));
    assert!(SitePolicy::load(&file).unwrap_err().to_string().contains("longer than"));
}

#[test]
fn without_a_policy_the_machine_is_the_owners() {
    let machine = start(None);
    let own = rustix::process::geteuid().as_raw();
    for owner in [machine.connect(), machine.connect_as(peer(own)), machine.connect_as(peer(0))] {
        assert_eq!(open(&owner, SessionCreate::default()).unwrap().granted.len(), 8);
        assert!(open_for(&owner, "anyone").is_ok());
    }
    let other = machine.connect_as(peer(ALICE));
    for create in [SessionCreate::default(), SessionCreate { tenant_id: Some("default".into()), ..Default::default() }]
    {
        assert_eq!(code(open(&other, create)), ErrorCode::AuthFailed);
    }
    let session = open(&machine.connect(), SessionCreate::default()).unwrap().session_id;
    let stolen = resources(&other, &session).unwrap_err();
    let none = resources(&other, "sess_0").unwrap_err();
    assert_eq!((stolen.code, &stolen), (ErrorCode::SessionNotFound, &none));
    // No token is good where there is no key.
    assert_eq!(code(open_with(&machine.connect(), &token("default", Rights::ALLOC, u64::MAX))), ErrorCode::AuthFailed);
}

fn peer(uid: u32) -> Peer {
    Peer { uid, pid: 1 }
}

const TWO: &str = "
[tokens]
key = \"token.key\"
max_depth = 2
[tenants.a]
uids = [ALICE]
capabilities = [\"CAP_ALLOC\", \"CAP_COMPUTE\", \"CAP_MEASURE\", \"CAP_MAGIC\"]
[tenants.b]
uids = [ALICE, BOB]
capabilities = \"all\"
[tenants.out]
uids = [BOB]
capabilities = \"all\"
suspended = true
";

#[test]
fn users_act_for_their_tenants_and_no_others() {
    let machine = start(Some(policy(TWO)));
    let at = |uid| machine.connect_as(peer(uid));
    let granted = open_for(&at(ALICE), "a").unwrap();
    assert_eq!(granted.granted, ["CAP_ALLOC", "CAP_COMPUTE", "CAP_MEASURE", "CAP_MAGIC"]);
    let requested = Some(["CAP_MAGIC", "CAP_LINK", "CAP_ADMIN", "nonsense"].map(String::from).to_vec());
    let some = SessionCreate { requested, tenant_id: Some("a".into()), ..SessionCreate::default() };
    let some = open(&at(ALICE), some).unwrap();
    assert_eq!(
        (some.granted, some.denied),
        (vec!["CAP_MAGIC".into()], ["CAP_LINK", "CAP_ADMIN", "nonsense"].map(String::from).to_vec())
    );
    assert_eq!(open_for(&at(ALICE), "b").unwrap().granted.len(), 8);

    let which = open(&at(ALICE), SessionCreate::default()).unwrap_err();
    assert!(which.code == ErrorCode::InvalidParams && which.message.ends_with("a, b"), "{which}");
    let theirs = open_for(&at(BOB), "a").unwrap_err();
    let none = open_for(&at(BOB), "nowhere").unwrap_err();
    assert_eq!((theirs.code, &theirs), (ErrorCode::AuthFailed, &none));
    assert_eq!(code(open_for(&at(BOB), "out")), ErrorCode::TenantSuspended);
    assert_eq!(code(open_for(&at(ALICE), "out")), ErrorCode::AuthFailed);
    let nobody = open(&at(NOBODY), SessionCreate::default()).unwrap_err();
    assert!(nobody.code == ErrorCode::AuthFailed && nobody.message.contains("4000000003"), "{nobody}");
    // The owner may act for all that there are.
    assert!(open_for(&machine.connect(), "a").is_ok());
    assert_eq!(code(open_for(&machine.connect(), "nowhere")), ErrorCode::AuthFailed);

    let session = granted.session_id;
    let job = submit(&at(ALICE), &session, COIN, 10).unwrap();
    assert_eq!(wait(&at(ALICE), &job).unwrap().state, JobState::Completed);
    for request in [
        Request::JobStatus(job.clone()),
        Request::JobResult(job.clone()),
        Request::JobCancel(job.clone()),
        Request::Telemetry(job),
        Request::SessionClose(SessionRef { session_id: session.clone() }),
    ] {
        assert_eq!(code(at(BOB).call(request)), ErrorCode::SessionNotFound);
    }
    assert!(resources(&at(ALICE), &session).is_ok());
    // Where both act for the tenant, both may use the session.
    let shared = open_for(&at(ALICE), "b").unwrap().session_id;
    assert!(resources(&at(BOB), &shared).is_ok());
}

#[test]
fn tokens_stand_for_a_tenant() {
    let machine = start(Some(policy(TWO)));
    let at = |uid| machine.connect_as(peer(uid));
    let good = token("a", BASIC | Rights::LINK, now() + 1000);
    let session = open_with(&at(NOBODY), &good).unwrap();
    assert_eq!(session.granted, NAMES, "what was asked for, the tenant has, and the token says");
    assert_eq!(submit(&at(NOBODY), &session.session_id, MAGIC, 1).unwrap_err().missing, ["CAP_MAGIC"]);
    let job = submit(&at(NOBODY), &session.session_id, COIN, 10).unwrap();
    wait(&at(NOBODY), &job).unwrap();
    // The user who opened it, those of the tenant, and who shows a token of the tenant.
    assert!(resources(&at(ALICE), &session.session_id).is_ok());
    assert_eq!(code(resources(&at(BOB), &session.session_id)), ErrorCode::SessionNotFound);
    let bob = at(BOB);
    let show = |at: &At, token: &Token| at.call(Request::Authenticate(Authenticate { token: token.to_string() }));
    show(&bob, &token("b", BASIC, now() + 1000)).unwrap();
    assert_eq!(code(resources(&bob, &session.session_id)), ErrorCode::SessionNotFound);
    let Ok(Reply::Authenticated(shown)) = show(&bob, &good) else { panic!() };
    assert_eq!((shown.tenant_id.as_str(), shown.capabilities), ("a", NAMES.map(String::from).to_vec()));
    assert!(resources(&bob, &session.session_id).is_ok());
    assert_eq!(open(&bob, SessionCreate::default()).unwrap().granted, NAMES, "the token that was shown");

    let named = |tenant: &str| SessionCreate {
        token: Some(good.to_string()),
        tenant_id: Some(tenant.into()),
        ..SessionCreate::default()
    };
    assert!(open(&at(ALICE), named("a")).is_ok());
    assert_eq!(code(open(&at(ALICE), named("b"))), ErrorCode::AuthFailed);
    assert_eq!(code(open_with(&at(ALICE), &token("out", BASIC, u64::MAX))), ErrorCode::TenantSuspended);

    // One and the same answer to all that the key does not vouch for.
    let forged = Token::issue(&Key::new([1; 32]), good.claims().clone()).unwrap();
    let unknown = token("nowhere", BASIC, u64::MAX);
    let texts = [forged.to_string(), unknown.to_string(), "qmk1.AAAA".into(), String::new(), "x".repeat(1 << 20)];
    let answers: Vec<RpcError> = texts
        .into_iter()
        .map(|text| open(&at(ALICE), SessionCreate { token: Some(text), ..SessionCreate::default() }).unwrap_err())
        .collect();
    assert!(answers.iter().all(|e| e == &answers[0] && e.code == ErrorCode::AuthFailed), "{answers:?}");
    let expired = open_with(&at(ALICE), &token("a", BASIC, now())).unwrap_err();
    assert!(expired.code == ErrorCode::AuthFailed && expired.message.contains("expired at"), "{expired}");

    let once = good.attenuate(&Attenuation::default()).unwrap();
    let twice = once.attenuate(&Attenuation::default()).unwrap();
    let thrice = twice.attenuate(&Attenuation::default()).unwrap();
    assert!(open_with(&at(NOBODY), &twice).is_ok());
    let deep = open_with(&at(NOBODY), &thrice).unwrap_err();
    assert!(deep.code == ErrorCode::AuthFailed && deep.message.contains("accepts 2"), "{deep}");
}

/// The time of the test that turns the clock.
static CLOCK: AtomicU64 = AtomicU64::new(1_000);

#[test]
fn what_an_expired_token_made_can_be_fetched_but_nothing_more_is_made_with_it() {
    let config = MachineConfig {
        policy: Some(Arc::new(policy(TWO))),
        unix_time: || CLOCK.load(Ordering::SeqCst),
        ..MachineConfig::default()
    };
    let machine = Machine::start(SimDevice::default(), config);
    let (alice, nobody) = (machine.connect_as(peer(ALICE)), machine.connect_as(peer(NOBODY)));
    let session = open_with(&nobody, &token("a", BASIC, 1_002)).unwrap().session_id;
    let job = submit(&nobody, &session, COIN, 10).unwrap();
    wait(&nobody, &job).unwrap();
    CLOCK.store(1_001, Ordering::SeqCst);
    assert!(nobody.call(Request::JobResult(job.clone())).is_ok() && submit(&nobody, &session, COIN, 10).is_ok());
    CLOCK.store(1_002, Ordering::SeqCst);
    assert_eq!(code(submit(&nobody, &session, COIN, 10)), ErrorCode::AuthFailed);
    assert_eq!(code(submit(&alice, &session, COIN, 10)), ErrorCode::AuthFailed);
    let late = nobody.call(Request::JobResult(job.clone())).unwrap_err();
    assert!(late.code == ErrorCode::AuthFailed && late.message.contains("ask for another"), "{late}");
    assert!(alice.call(Request::JobResult(job.clone())).is_ok(), "she acts for the tenant by who she is");
    // Before a policy is read again, and after.
    machine.set_policy(policy(TWO));
    let again = token("a", BASIC, 1_003).to_string();
    nobody.call(Request::Authenticate(Authenticate { token: again })).unwrap();
    assert!(nobody.call(Request::JobResult(job)).is_ok());
}

#[test]
fn a_new_policy_takes_back_what_it_does_not_give() {
    let machine = start(Some(policy(TWO)));
    let alice = machine.connect_as(peer(ALICE));
    let nobody = machine.connect_as(peer(NOBODY));
    let (kept, taken) = (token("a", BASIC, now() + 1000), token("a", BASIC, now() + 1000));
    let (mine, other) = (open_for(&alice, "a").unwrap().session_id, open_for(&alice, "b").unwrap().session_id);
    let by_kept = open_with(&nobody, &kept).unwrap().session_id;
    let by_taken = open_with(&nobody, &taken).unwrap().session_id;
    let job = submit(&nobody, &by_taken, COIN, 100_000_000).unwrap();

    let id = taken.claims().id;
    let revoked = TWO.replace("max_depth = 2", &format!("max_depth = 2\nrevoked = [\"{id}\"]"));
    machine.set_policy(policy(&revoked.replace("suspended = true", "suspended = false")));
    assert_eq!(code(wait(&nobody, &job)), ErrorCode::SessionNotFound);
    let e = open_with(&nobody, &taken.attenuate(&Attenuation::default()).unwrap()).unwrap_err();
    assert!(e.code == ErrorCode::AuthFailed && e.message.contains("revoked"), "{e}");
    assert!(resources(&nobody, &by_kept).is_ok() && resources(&alice, &mine).is_ok());
    assert!(open_for(&machine.connect_as(peer(BOB)), "out").is_ok(), "suspended no longer");

    machine.set_policy(policy(&TWO.replace(", \"CAP_MAGIC\"]", "]")));
    assert_eq!(code(resources(&alice, &mine)), ErrorCode::SessionNotFound, "it holds more than the tenant has now");
    assert!(resources(&nobody, &by_kept).is_ok() && resources(&alice, &other).is_ok());
    machine.set_policy(policy(
        &TWO.replace(
            "capabilities = \"all\"\n[tenants.out]",
            "capabilities = \"all\"\nsuspended = true\n[tenants.out]",
        ),
    ));
    assert_eq!(code(resources(&alice, &other)), ErrorCode::TenantSuspended);
    let mut rekeyed = policy(TWO);
    rekeyed.tokens.as_mut().unwrap().key = Some(Key::new([1; 32]));
    machine.set_policy(rekeyed);
    assert_eq!(code(resources(&nobody, &by_kept)), ErrorCode::SessionNotFound);
    assert!(resources(&alice, &other).is_ok());
}

#[test]
fn quotas_of_the_policy_are_kept() {
    let limited = |quota: &str| {
        policy(&format!("[tenants.a]\nuids = [ALICE]\ncapabilities = \"all\"\n[tenants.a.quota]\n{quota}\n"))
    };
    let with = |quota: &str| {
        let machine = start(Some(limited(quota)));
        let at = machine.connect_as(peer(ALICE));
        let info = open(&at, SessionCreate::default()).unwrap();
        (machine, at, info)
    };
    let (_m, at, info) = with(
        "max_logical_qubits = 3\nmax_physical_qubits = 400\nmax_channels = 1\nmax_jobs = 2\nmax_shots = 1000\nmax_sessions = 1",
    );
    let quota = QuotaInfo { max_logical_qubits: 3, max_physical_qubits: 400, max_channels: 1, max_jobs: 2 };
    assert_eq!((info.quota, resources(&at, &info.session_id).unwrap().quota), (quota, quota));
    let session = info.session_id;
    let many = |n| format!("ALLOC_LQ n={n} -> {{\", \".join([f\"q{{i}}\" for i in range({n})])}}\nMEASURE_Z q0 -> m\n");
    assert!(wait(&at, &submit(&at, &session, &many(3), 1).unwrap()).is_ok());
    assert_eq!(code(submit(&at, &session, &many(4), 1)), ErrorCode::QuotaExceeded);
    let wide = many(3).replacen("n=3", "n=3, profile=\"logical:surface_code(d=15)\"", 1);
    assert_eq!(code(submit(&at, &session, &wide, 1)), ErrorCode::QuotaExceeded, "physical qubits");
    assert_eq!(code(submit(&at, &session, COIN, 1001)), ErrorCode::QuotaExceeded);
    assert!(submit(&at, &session, COIN, 1000).is_ok());
    // It is in use on this connection, so it makes no room for another.
    assert_eq!(code(open(&at, SessionCreate::default())), ErrorCode::QuotaExceeded);

    let (_m, at, info) = with("max_jobs = 2");
    let forever = COIN.replace("FREE_LQ a", "APPLY_H a if m==1\nMEASURE_Z a -> l\nFREE_LQ a");
    let jobs: Vec<_> = (0..2).map(|_| submit(&at, &info.session_id, &forever, 100_000_000).unwrap()).collect();
    assert_eq!(code(submit(&at, &info.session_id, COIN, 1)), ErrorCode::QuotaExceeded);
    at.call(Request::JobCancel(jobs[0].clone())).unwrap();
    assert!(submit(&at, &info.session_id, COIN, 1).is_ok());

    // Live magic on more qubits than allowed.
    let two = "ALLOC_LQ -> a, b\nAPPLY_H a\nAPPLY_H b\nAPPLY_T a\nAPPLY_T b\nAPPLY_CNOT a, b\nAPPLY_H a\nAPPLY_H b\n\
               APPLY_T a\nAPPLY_T b\nAPPLY_CNOT b, a\nAPPLY_H a\nMEASURE_Z a -> x\nMEASURE_Z b -> y\nFREE_LQ a, b\n";
    let state =
        |at: &At, session: &str| submit(at, session, two, 1).and_then(|job| wait(at, &job)).map(|status| status.state);
    let (_m, at, info) = with("max_active_qubits = 2");
    assert_eq!(state(&at, &info.session_id), Ok(JobState::Completed));
    let (_m, at, info) = with("max_active_qubits = 0");
    assert_ne!(state(&at, &info.session_id), Ok(JobState::Completed));

    // A budget of magic states stretches a program over windows.
    let epochs = |quota: &str| {
        let (_m, at, info) = with(quota);
        let four = "ALLOC_LQ -> a\nAPPLY_T a\nAPPLY_T a\nAPPLY_T a\nAPPLY_T a\nMEASURE_Z a -> m\nFREE_LQ a\n";
        let job = submit(&at, &info.session_id, four, 1).unwrap();
        wait(&at, &job).unwrap().telemetry.unwrap().total_epochs
    };
    let free = epochs("max_jobs = 2");
    let scarce = epochs("magic_states_per_window = 1\nwindow_epochs = 500");
    assert!(free < 500 && scarce >= 1500, "{free} {scarce}");
    let scarce = epochs("epochs_per_window = 1\nwindow_epochs = 500");
    assert!(scarce >= 1500, "{scarce}");
}

#[test]
fn requests_are_counted() {
    let text = "[tenants.a]\nuids = [ALICE]\ncapabilities = \"all\"\n[tenants.a.quota]\nmax_requests_per_second = 4\n\
                [tenants.b]\nuids = [BOB]\ncapabilities = \"all\"\n";
    let machine = start(Some(policy(text)));
    let (alice, bob) = (machine.connect_as(peer(ALICE)), machine.connect_as(peer(BOB)));
    let session = open(&alice, SessionCreate::default()).unwrap().session_id;
    let job = submit(&alice, &session, COIN, 1).unwrap();
    wait(&alice, &job).unwrap();
    let mut refused = None;
    for _ in 0..40 {
        refused = refused.or(resources(&machine.connect_as(peer(ALICE)), &session).err());
    }
    let refused = refused.expect("40 requests at once are too many");
    assert!(refused.code == ErrorCode::QuotaExceeded && refused.message.contains("4 requests"), "{refused}");
    let refused = |r: Result<JobStatus, RpcError>| r.is_err_and(|e| e.code == ErrorCode::QuotaExceeded);
    assert!((0..40).any(|_| refused(wait(&alice, &job))), "a wait that is over at once counts");
    let theirs = open(&bob, SessionCreate::default()).unwrap().session_id;
    assert!((0..100).all(|_| resources(&bob, &theirs).is_ok()), "others are not held up");
    std::thread::sleep(Duration::from_millis(300));
    assert!(resources(&alice, &session).is_ok());
}

/// After a restart a session may do what its token and the policy of the day give it, and no more.
#[test]
fn sessions_come_back_under_their_token_and_todays_policy() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[tokens]\nkey = \"k\"\nrevoked = [REVOKED]\n[tenants.a]\nuids = [ALICE]\ncapabilities = CAPS\n";
    let site = |revoked: &str, caps: &str| policy(&text.replace("REVOKED", revoked).replace("CAPS", caps));
    let boot = |policy: SitePolicy, unix_time| {
        let config = MachineConfig { policy: Some(Arc::new(policy)), unix_time, ..MachineConfig::default() };
        Machine::open(SimDevice::default(), config, dir.path()).unwrap()
    };
    let at = |machine: &Machine<SimDevice>, uid| machine.connect_as(peer(uid));
    let detached = |token: Option<&Token>, at: &At| {
        let token = token.map(ToString::to_string);
        open(at, SessionCreate { token, detached: true, ..SessionCreate::default() }).unwrap().session_id
    };
    let alloc = |at: &At, session: &str| {
        let alloc = interactive::Alloc { session_id: session.into(), n: 1 };
        at.call(Request::Interactive(interactive::Call::Alloc(alloc)))
    };
    let list = |at: &At, session: &str| match at.call(Request::JobList(SessionRef { session_id: session.into() })) {
        Ok(Reply::Jobs(list)) => list.jobs.len(),
        other => panic!("{other:?}"),
    };
    let narrow = token("a", Rights::ALLOC, now() + 1000);
    let other = token("a", Rights::ALLOC, now() + 1000);
    let (wide, small, lost);
    {
        let machine = boot(site("", "\"all\""), now);
        let alice = at(&machine, ALICE);
        wide = detached(None, &alice);
        wait(&alice, &submit(&alice, &wide, COIN, 10).unwrap()).unwrap();
        // They are opened by someone who is no user of the tenant.
        let stranger = at(&machine, NOBODY);
        (small, lost) = (detached(Some(&narrow), &stranger), detached(Some(&other), &stranger));
        alloc(&stranger, &small).unwrap();
        assert_eq!(list(&stranger, &small), 0);
        machine.leaving().store(true, Ordering::Relaxed);
    }
    {
        let revoked = format!("\"{}\"", other.verify(&key()).unwrap().id);
        let machine = boot(site(&revoked, "\"all\""), now);
        let stranger = at(&machine, NOBODY);
        // It is found by whoever opened it, and still sees no session that may do more.
        alloc(&stranger, &small).unwrap();
        assert_eq!(list(&stranger, &small), 0);
        assert_eq!(code(alloc(&stranger, &wide)), ErrorCode::SessionNotFound);
        assert_eq!(code(alloc(&at(&machine, BOB), &small)), ErrorCode::SessionNotFound);
        assert_eq!(code(alloc(&stranger, &lost)), ErrorCode::SessionNotFound);
        assert_eq!(list(&at(&machine, ALICE), &wide), 1);
        machine.leaving().store(true, Ordering::Relaxed);
    }
    {
        let machine = boot(site("", "\"all\""), || now() + 2000);
        let stranger = at(&machine, NOBODY);
        assert_eq!(code(alloc(&stranger, &small)), ErrorCode::AuthFailed);
        // A close is for good.
        assert_eq!(code(alloc(&stranger, &lost)), ErrorCode::SessionNotFound);
        machine.leaving().store(true, Ordering::Relaxed);
    }
    let machine = boot(site("", "[\"CAP_ALLOC\"]"), now);
    assert_eq!(code(alloc(&at(&machine, ALICE), &wide)), ErrorCode::SessionNotFound);
    alloc(&at(&machine, NOBODY), &small).unwrap();
}

/// What will never be renewed is not waited for.
#[test]
fn a_quota_without_a_window_is_not_waited_for() {
    let limits = "window_epochs = 0\nmagic_states_per_window = 5\n[tenants.b]\nuids = [BOB]\ncapabilities = \"all\"\n\
                  [tenants.b.quota]\nepochs_per_window = 6\nwindow_epochs = 0\n";
    let machine = start(Some(policy(&format!(
        "[tenants.a]\nuids = [ALICE]\ncapabilities = \"all\"\n[tenants.a.quota]\n{limits}"
    ))));
    let alice = machine.connect_as(peer(ALICE));
    let session = open(&alice, SessionCreate::default()).unwrap().session_id;
    let many = |n: usize| format!("ALLOC_LQ -> a\n{}MEASURE_X a -> m\nFREE_LQ a\n", "APPLY_T a\nAPPLY_H a\n".repeat(n));
    let e = submit(&alice, &session, &many(6), 1).unwrap_err();
    assert!(e.code == ErrorCode::QuotaExceeded && e.message.contains("takes 6 magic states"), "{e}");
    wait(&alice, &submit(&alice, &session, &many(3), 1000).unwrap()).unwrap();
    assert_eq!(code(submit(&alice, &session, &many(3), 1)), ErrorCode::QuotaExceeded);
    // What jobs under way will take is not promised twice; what is taken otherwise may leave one without.
    let slow = format!("ALLOC_LQ -> z\n{}FENCE_EPOCH\n{}", "APPLY_H z\n".repeat(100_000), many(2));
    let job = submit(&alice, &session, &slow, 1).unwrap();
    assert_eq!(code(submit(&alice, &session, &many(1), 1)), ErrorCode::QuotaExceeded);
    let call = |call| alice.call(Request::Interactive(call)).unwrap();
    call(interactive::Call::Alloc(interactive::Alloc { session_id: session.clone(), n: 1 }));
    let apply = |op: &str| {
        let (qubits, session_id) = (vec!["q_1".into()], session.clone());
        call(interactive::Call::Apply(interactive::Apply { session_id, op: op.into(), qubits, theta: None }))
    };
    ["APPLY_T", "APPLY_H"].map(apply).into_iter().for_each(drop);
    let status = wait(&alice, &job).unwrap();
    assert_eq!(status.state, JobState::Failed);
    assert!(status.error.as_deref().is_some_and(|e| e.contains("5 magic states")), "{status:?}");
    // Epochs.
    let bob = machine.connect_as(peer(BOB));
    let session = open(&bob, SessionCreate::default()).unwrap().session_id;
    let chain = format!("ALLOC_LQ -> a\n{}MEASURE_Z a -> m\nFREE_LQ a\n", "APPLY_T a\nAPPLY_H a\n".repeat(40));
    let status = wait(&bob, &submit(&bob, &session, &chain, 1).unwrap()).unwrap();
    assert_eq!(status.state, JobState::Failed);
    assert!(status.error.as_deref().is_some_and(|e| e.contains("6 epochs")), "{status:?}");
}

/// Nobody can tell from one run of a machine what qubits held one by one will measure in another.
#[test]
fn outcomes_of_held_qubits_are_not_those_of_another_start() {
    let outcomes = |seed| {
        let config = MachineConfig { seed, ..MachineConfig::default() };
        let machine = Machine::start(SimDevice::default(), config);
        let at = machine.connect();
        let session = open(&at, SessionCreate::default()).unwrap().session_id;
        let call = |call| at.call(Request::Interactive(call)).unwrap();
        call(interactive::Call::Alloc(interactive::Alloc { session_id: session.clone(), n: 1 }));
        let step = |_| {
            let (op, qubits, session_id) = ("APPLY_H".into(), vec!["q_1".into()], session.clone());
            call(interactive::Call::Apply(interactive::Apply { session_id, op, qubits, theta: None }));
            let (session_id, qubit) = (session.clone(), "q_1".into());
            match call(interactive::Call::Measure(interactive::Measure { session_id, qubit, ..Default::default() })) {
                Reply::Interactive(interactive::Answer::Measure(m)) => m.outcome,
                other => panic!("{other:?}"),
            }
        };
        (0..100).map(step).collect::<Vec<u8>>()
    };
    // Equal by chance once in 2^100.
    assert_ne!(outcomes(None), outcomes(None));
    assert_eq!(outcomes(Some(4)), outcomes(Some(4)));
}

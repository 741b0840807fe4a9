//! What the journal says to auditors: who asked for what, what was refused, and whether entries are missing.

use super::{COIN, client, code, cut, detached, events, knows, open, submit, with_jobs};
use qmk_abi::rpc::*;
use qmk_client::Client;
use qmk_services::store::{Entry, Event, unsigned_tail};
use qmk_services::{Machine, MachineConfig, Peer, policy};
use qmk_sim::SimDevice;
use std::fs;

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
    let wants = SessionCreate { observer: true, requested: Some(vec!["CAP_ALLOC".into()]), ..SessionCreate::default() };
    assert_eq!(code(client.session_with(wants).map(|s| s.info().clone())), Some(ErrorCode::InvalidParams));
    let observer = client.observe(None).unwrap();
    let refused = submit(&client, &observer.info().session_id, COIN, 1, 1).unwrap_err();
    assert_eq!(refused, Some(ErrorCode::InsufficientCaps));
}

#[test]
fn the_audit_log_says_who_and_shows_each_tenant_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let machine = open(dir.path(), MachineConfig::default());
    let at = client(&machine);
    let create = SessionCreate {
        requested: Some(vec!["CAP_ALLOC".into(), "CAP_ADMIN".into()]),
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
    let alice = Client::over(machine.connect_as(Peer { uid: 1, pid: 2 })).session_default().unwrap();
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

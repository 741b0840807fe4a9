//! `qmk token`, and what its tokens are good for on a server.

mod common;

use common::QMK;
use qmk_server::{Connect, Peer};
use qmk_services::policy::SitePolicy;
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimDevice;
use qmk_testkit::cli::Out;
use qmk_tests::server::LocalServer;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

fn qmk_in(dir: &Path, args: &[&str], token: &str) -> Out {
    Out::of(QMK.command(args).current_dir(dir).env("QMK_TOKEN", token))
}

fn save(dir: &Path, name: &str, out: &Out) {
    assert_eq!(out.code, 0, "{}", out.stderr);
    std::fs::write(dir.join(name), &out.stdout).unwrap();
}

#[test]
fn tokens_are_made_narrowed_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let qmk = |args: &str| qmk_in(dir.path(), &args.split(' ').collect::<Vec<_>>(), "");
    assert_eq!(qmk("token key token.key").code, 0);
    let mode = dir.path().join("token.key").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = qmk("token key token.key --json");
    assert_eq!((again.code, again.json()["error"]["code"].as_str()), (1, Some("IO")));

    save(
        dir.path(),
        "a",
        &qmk("token issue --key token.key --tenant a --cap CAP_ALLOC --cap CAP_LINK --expires 4000000000"),
    );
    let shown = qmk("token show a --key token.key --json").json();
    assert_eq!((&shown["tenant"], &shown["expires"]), (&"a".into(), &4_000_000_000u64.into()));
    assert_eq!((&shown["depth"], &shown["verified"], &shown["expired"]), (&4.into(), &true.into(), &false.into()));
    save(dir.path(), "b", &qmk("token attenuate a --cap CAP_ALLOC --expires-in 1h --depth 0"));
    let text = qmk("token show b").stdout;
    for part in
        ["tenant: a\n", "capabilities: [\"CAP_ALLOC\"]\n", "depth: 0\n", "attenuations: 1\n", "verified: false\n"]
    {
        assert!(text.contains(part), "{text} has no {part}");
    }
    assert_eq!(shown["token_id"], qmk("token show b --json").json()["token_id"]);

    let wider = qmk("token attenuate b --json");
    assert_eq!((wider.code, wider.json()["error"]["code"].as_str()), (3, Some("AUTH_FAILED")));
    let wider = qmk("token attenuate a --cap CAP_MAGIC");
    assert!(wider.code == 3 && wider.stderr.contains("CAP_MAGIC"), "{}", wider.stderr);
    assert_eq!(qmk("token key other.key").code, 0);
    assert_eq!(qmk("token show a --key other.key").code, 3);
    std::fs::write(dir.path().join("c"), "no token").unwrap();
    let none = qmk("token show c --json");
    assert_eq!((none.code, none.json()["error"]["code"].as_str()), (1, Some("E-TOKEN")));
    for usage in
        ["--cap CAP_ADMIN", "--expires-in 5", "--expires-in 99999999999999999999d", "--expires-in 1h --expires 5"]
    {
        assert_eq!(qmk(&format!("token issue --key token.key --tenant a {usage}")).code, 2, "{usage}");
    }
    for command in ["token", "token key", "token issue", "token attenuate", "token show"] {
        assert!(qmk(&format!("{command} --help")).stdout.contains("Example"), "{command}");
    }
}

#[test]
fn a_server_takes_the_token_of_a_file_or_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let qmk_as = |args: &str, token: &str| qmk_in(dir.path(), &args.split(' ').collect::<Vec<_>>(), token);
    let qmk = |args: &str| qmk_as(args, "");
    assert_eq!(qmk("token key token.key").code, 0);
    let policy = dir.path().join("policy.toml");
    let text = "[tokens]\nkey = \"token.key\"\n[tenants.a]\ncapabilities = \"all\"\n[tenants.b]\ncapabilities = \"all\"\n\
                [tenants.b.quota]\nmax_channels = 7\n";
    std::fs::write(&policy, text).unwrap();
    let policy = Some(Arc::new(SitePolicy::load(&policy).unwrap()));
    let machine = Machine::start(SimDevice::default(), MachineConfig { policy, ..MachineConfig::default() });
    // Clients are those of another user, who has no tenant.
    let connect: Connect = Arc::new(move |peer| Box::new(machine.connect_as(Peer { uid: 4_000_000_001, ..peer })));
    let _server = LocalServer::start(&dir.path().join("qmk.sock"), connect);

    let caps = "--cap CAP_ALLOC --cap CAP_COMPUTE --cap CAP_MEASURE";
    save(dir.path(), "b", &qmk(&format!("token issue --key token.key --tenant b {caps}")));
    std::fs::write(dir.path().join("bell.qvm"), "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a\n").unwrap();
    std::fs::write(dir.path().join("t.qvm"), "ALLOC_LQ -> a\nAPPLY_T a\nMEASURE_Z a -> m\nFREE_LQ a\n").unwrap();
    let refused = qmk("resources --connect unix:qmk.sock --json");
    assert_eq!((refused.code, refused.json()["error"]["code"].as_str()), (3, Some("AUTH_FAILED")));
    let resources = qmk("resources --connect unix:qmk.sock --json --token b");
    assert_eq!(resources.json()["quota"]["max_channels"], 7);
    let secret = std::fs::read_to_string(dir.path().join("b")).unwrap();
    assert_eq!(qmk_as("resources --connect unix:qmk.sock", secret.trim()).code, 0);
    assert_eq!(qmk_as("resources --connect unix:qmk.sock", "qmk1.AAAA").code, 3);

    assert_eq!(qmk("run bell.qvm --connect unix:qmk.sock --token b --json").json()["shots"], 1024);
    assert_eq!(qmk("run t.qvm --connect unix:qmk.sock --token b").code, 3);
    assert_eq!(qmk("run bell.qvm --token b").code, 2, "an embedded machine knows no tokens");
    let job = qmk("submit bell.qvm --connect unix:qmk.sock --token b").stdout;
    let job = job.trim();
    assert_eq!(qmk(&format!("wait {job} --connect unix:qmk.sock --token b")).code, 0);
    assert_eq!(qmk(&format!("result {job} --connect unix:qmk.sock")).code, 0, "the user who opened the session");
    save(dir.path(), "a", &qmk("token issue --key token.key --tenant a"));
    assert_eq!(qmk("run t.qvm --connect unix:qmk.sock --token a").code, 0);
}

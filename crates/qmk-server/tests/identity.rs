//! Who connects is who the system says, and may do what the policy says.

#[allow(dead_code)]
mod common;

use common::{BELL, Server, eventually};
use qmk_client::{Client, ErrorCode, Policy, Program};
use qmk_token::{Grant, Key, Token};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The user of this process, by what it makes.
fn own_uid() -> u32 {
    tempfile::tempdir().unwrap().path().metadata().unwrap().uid()
}

/// Two tenants, the first of which is this user's.
fn policy(mine: &str) -> String {
    let (own, other) = (own_uid(), own_uid() + 1);
    format!(
        "[tenants.mine]\nuids = [{own}]\ncapabilities = [\"CAP_ALLOC\", \"CAP_COMPUTE\", \"CAP_MEASURE\"]\n{mine}\n\
         [tenants.theirs]\nuids = [{other}]\ncapabilities = \"all\"\n"
    )
}

fn write(dir: &Path, text: &str) {
    std::fs::write(dir.join("policy.toml"), text).unwrap();
}

/// A server under the policy in a directory.
fn start(dir: &Path, more: &str) -> Server {
    Server::start(&format!("policy = {:?}\n{more}", dir.join("policy.toml")))
}

fn hang_up(server: &Server) {
    assert!(Command::new("kill").arg("-HUP").arg(server.child.id().to_string()).status().unwrap().success());
}

#[test]
fn a_user_acts_for_the_tenant_of_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &policy("[tenants.mine.quota]\nmax_logical_qubits = 2\nmax_shots = 50\n"));
    let server = start(dir.path(), "");
    let client = server.client();
    let session = client.session_default().unwrap();
    let granted = ["CAP_ALLOC", "CAP_COMPUTE", "CAP_MEASURE"];
    assert_eq!(session.info().granted, granted, "who connects without a word is known");
    assert_eq!(session.info().quota.max_logical_qubits, 2);
    let shots = |shots| session.run(&Program::asm(BELL), Policy { shots, ..Policy::default() });
    assert_eq!(shots(50).unwrap().report.shots, 50);
    assert_eq!(shots(51).unwrap_err().code(), Some(ErrorCode::QuotaExceeded));
    let three = Program::asm("ALLOC_LQ -> a, b, c\nMEASURE_Z a -> m\n");
    assert_eq!(session.run(&three, Policy::default()).unwrap_err().code(), Some(ErrorCode::QuotaExceeded));
    assert_eq!(client.open().tenant("nowhere").start().err().unwrap().code(), Some(ErrorCode::AuthFailed));
}

#[test]
fn a_policy_is_read_again_on_hangup_and_a_wrong_one_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &policy(""));
    let log = dir.path().join("log");
    let config = format!("policy = {:?}\n", dir.path().join("policy.toml"));
    let server = Server::start_with_log(&config, std::fs::File::create(&log).unwrap());
    let client = server.client();
    let opened = || client.open().tenant("mine").start().err().and_then(|e| e.code());
    assert_eq!(opened(), None);
    write(dir.path(), &policy("suspended = true"));
    hang_up(&server);
    eventually("the tenant is suspended", || opened() == Some(ErrorCode::TenantSuspended));
    write(dir.path(), &policy("suspended = maybe"));
    hang_up(&server);
    eventually("the wrong policy is refused", || {
        std::fs::read_to_string(&log).unwrap().contains("the policy stays as it was")
    });
    assert_eq!(opened(), Some(ErrorCode::TenantSuspended));
    write(dir.path(), &policy(""));
    hang_up(&server);
    eventually("the tenant is back", || opened().is_none());
    drop(server);

    write(dir.path(), &policy("weight = 0"));
    let socket = dir.path().join("qmk.sock");
    let out = Server::command(&socket).arg("--policy").arg(dir.path().join("policy.toml")).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2));
    assert!(said.contains("policy.toml:4: tenants.mine.weight: a weight is at least 1"), "{said}");
}

#[test]
fn the_socket_has_the_mode_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &policy(""));
    let server = start(dir.path(), "socket_mode = \"0660\"");
    assert_eq!(std::fs::metadata(&server.path).unwrap().permissions().mode() & 0o777, 0o660);
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "socket_mode = \"0888\"").unwrap();
    let out = Server::command(&dir.path().join("x.sock")).arg("--config").arg(&file).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("three octal digits"));
}

/// Not a test: the client that another user runs.
#[test]
#[ignore = "run by another_user_is_another_user"]
fn other_user() {
    let Ok(path) = std::env::var("QMK_TEST_SOCKET") else { return };
    let client = Client::connect(&path).unwrap();
    let theirs = client.session_default().map(|s| s.info().granted.len()).map_err(|e| e.code());
    let mine = client.open().tenant("mine").start().err().and_then(|e| e.code());
    let session = std::env::var("QMK_TEST_SESSION").unwrap();
    let reference = qmk_abi::rpc::JobRef { session_id: session, job_id: "job_1".into() };
    let stolen = qmk_client::Job::attach(&client, reference).status().unwrap_err().code();
    let token = std::env::var("QMK_TEST_TOKEN").unwrap();
    let by_token = client.open().token(token).start().map(|s| s.info().granted.clone()).map_err(|e| e.code());
    assert_eq!(theirs, Ok(8));
    assert_eq!(mine, Some(ErrorCode::AuthFailed));
    assert_eq!(stolen, Some(ErrorCode::SessionNotFound));
    assert_eq!(by_token, Ok(vec!["CAP_ALLOC".into()]));
}

/// Only root can be another user. Elsewhere `qmk-services` tests the same rules, with users that are only claimed.
#[test]
fn another_user_is_another_user() {
    if own_uid() != 0 {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("token.key");
    Key::create(&key).unwrap();
    write(dir.path(), &format!("[tokens]\nkey = \"token.key\"\n{}", policy("")));
    let server = start(dir.path(), "socket_mode = \"0666\"");
    let holds = server.path.parent().unwrap();
    std::fs::set_permissions(holds, std::fs::Permissions::from_mode(0o711)).unwrap();
    let session = server.client().open().tenant("mine").detached().start().unwrap();
    session.submit(&Program::asm(BELL), Policy::default()).unwrap();
    let grant = Grant::new("mine", qmk_client::Cap::ALLOC, u64::MAX, 0).unwrap();
    let token = Token::issue(&Key::read(&key).unwrap(), grant).unwrap();
    // The other user may not be able to run this program where it lies.
    let program = holds.join("client");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let out = Command::new(program)
        .args(["--exact", "other_user", "--ignored", "--nocapture"])
        .env("QMK_TEST_SOCKET", &server.path)
        .env("QMK_TEST_SESSION", &session.info().session_id)
        .env("QMK_TEST_TOKEN", token.to_string())
        .current_dir("/")
        .uid(own_uid() + 1)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}

//! A machine that stops: what its clients are told, what the log says, how the server ends, and what is left on disk.

use qmk_abi::rpc::{Endpoint, Request, SessionRef};
use qmk_client::{Client, ErrorCode, Job, Policy, Program};
use qmk_server::{Limits, Server, daemon};
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimDevice;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

const COIN: &str = "ALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a\n";
const MANY_OUTCOMES: &str = ".for i in 1..24\nALLOC_LQ -> q{i}\nAPPLY_H q{i}\nMEASURE_Z q{i} -> m{i}\n.endfor\n";
const REASON: &str = "domain 3 holds 2 qubits and its table has 1";

/// Lines of the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

fn open(dir: &Path) -> Arc<Machine<SimDevice>> {
    // The threads of a server that ended may hold the store for a moment longer.
    for _ in 0..100 {
        match Machine::open(SimDevice::default(), MachineConfig::default(), dir) {
            Err(e) if format!("{e:?}").contains("DatabaseAlreadyOpen") => thread::sleep(Duration::from_millis(50)),
            opened => return Arc::new(opened.unwrap()),
        }
    }
    panic!("the store stays open")
}

#[test]
fn a_machine_that_stops_says_why_ends_the_server_with_4_and_opens_again() {
    let log = Log::default();
    tracing_subscriber::fmt().with_writer(log.clone()).with_max_level(tracing::Level::ERROR).with_ansi(false).init();
    let dir = tempfile::tempdir().unwrap();
    let (socket, data) = (dir.path().join("qmk.sock"), dir.path().join("data"));
    let machine = open(&data);
    let server = Server::bind(&socket, Limits::default()).unwrap();
    let ended = {
        let (machine, socket) = (machine.clone(), socket.clone());
        thread::spawn(move || daemon::serve(server, &machine, &socket, None))
    };
    let client = Client::connect(socket.to_str().unwrap()).unwrap();
    let session = client.open().detached().start().unwrap();
    let id = session.info().session_id.clone();
    let done = session.submit(&Program::asm(COIN), Policy { shots: 100, ..Policy::default() }).unwrap();
    let counts = done.wait(None).unwrap().report.counts;
    // One that does not end for a while.
    let long = Policy { shots: 3_000_000, ..Policy::default() };
    let unfinished = session.submit(&Program::asm(MANY_OUTCOMES), long).unwrap();

    let mut stream = UnixStream::connect(&socket).unwrap();
    let params = json!({"session_id": id, "job_id": unfinished.reference().job_id});
    let wait = json!({"jsonrpc": "2.0", "id": 1, "method": "qmk_job_wait", "params": params});
    stream.write_all(format!("{wait}\n").as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(300));
    machine.stop(REASON);

    // Calls under way, on the socket, and later ones.
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&reply["error"]["code"], &reply["error"]["data"]["reason"]),
        (&json!(-32603), &json!(REASON)),
        "{line}"
    );
    for _ in 0..2 {
        let query = Request::ResourceQuery(SessionRef { session_id: id.clone() });
        let e = machine.connect().call(query).unwrap_err();
        assert_eq!((e.code, e.stop_reason()), (ErrorCode::Internal, Some(REASON)), "{e}");
    }
    let (code, message) = ended.join().unwrap().unwrap_err();
    assert_eq!(code, 4);
    assert!(message.contains(REASON), "{message}");
    let lines = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(lines.lines().filter(|l| l.contains("ERROR") && l.contains(REASON)).count(), 1, "{lines}");

    // The journal is whole, what had ended is there, and what had not runs again.
    drop((session, client, machine));
    assert_eq!(qmk_journal::verify(&data.join("journal")).unwrap().torn, 0);
    let machine = open(&data);
    let client = Client::over(machine.connect());
    assert_eq!(Job::attach(&client, done.reference().clone()).result().unwrap().report.counts, counts);
    let again = Job::attach(&client, unfinished.reference().clone());
    assert!(!again.status().unwrap().state.ended());
    again.cancel().unwrap();
}

//! `cargo xtask bench rpc`: the server against a bare echo over a socket of the same kind, in the same process, with
//! the same bytes, in turns; then how many jobs it runs, and whether it grows. All of it twice: with a machine that keeps
//! nothing, and with one whose jobs and results outlive it.

mod calls;
mod load;
mod soak;
mod wire;

use qmk_server::{Connect, Limits, Server};
use qmk_services::{Machine, MachineConfig};
use qmk_sim::{SimConfig, SimDevice};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const USAGE: &str = "usage: rpc [--jobs N] [--pairs N] [--only calls|load|memory] [--json]; \
                     `cargo xtask bench rpc` drives it";

pub(crate) type Failure = Box<dyn std::error::Error>;

struct Args {
    jobs: u64,
    pairs: usize,
    only: Option<String>,
    json: bool,
}

fn main() -> Result<(), Failure> {
    // Cargo adds a flag of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [serve, dir, keeps] = &args[..]
        && serve == "serve"
    {
        return run_server(Path::new(dir), keeps.parse()?);
    }
    if let [soak, seconds] = &args[..]
        && soak == "soak"
    {
        return soak::run(&Process::start(true)?, std::time::Duration::from_secs(seconds.parse()?));
    }
    let mut wanted = Args { jobs: 100_000, pairs: 10_000, only: None, json: false };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--jobs" => wanted.jobs = value()?.parse()?,
            "--pairs" => wanted.pairs = value()?.parse()?,
            "--only" => wanted.only = Some(value()?),
            "--json" => wanted.json = true,
            _ => return Err(format!("unknown argument {arg}\n{USAGE}").into()),
        }
    }
    let wants = |part: &str| wanted.only.as_deref().is_none_or(|only| only == part);
    let mut record = json!({});
    let mut failed = 0;
    for (mode, keeps) in [("ephemeral", false), ("durable", true)] {
        if !wanted.json {
            println!("\n{mode} server");
        }
        if wants("calls") {
            // On one processor: where the scheduler puts two threads makes more of a difference than all they do.
            let all = rustix::thread::sched_getaffinity(None)?;
            let mut one = rustix::thread::CpuSet::new();
            (0..rustix::thread::CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).into_iter().for_each(|cpu| one.set(cpu));
            rustix::thread::sched_setaffinity(None, &one)?;
            let rows = calls::run(&Process::start(keeps)?, wanted.pairs, wanted.json)?;
            rustix::thread::sched_setaffinity(None, &all)?;
            failed += rows.iter().filter(|r| r["pass"] == false).count();
            record[mode]["calls"] = Value::Array(rows);
        }
        if wants("load") {
            record[mode]["load"] = Value::Array(load::throughput(&Process::start(keeps)?, wanted.json)?);
        }
        if wants("memory") {
            let memory = load::memory(&Process::start(keeps)?, wanted.jobs, wanted.json)?;
            failed += usize::from(memory["pass"] == false);
            record[mode]["memory"] = memory;
        }
    }
    if wanted.json {
        println!("{record:#}");
    }
    if failed > 0 { Err(format!("{failed} goals are missed").into()) } else { Ok(()) }
}

/// The server, and the echo beside it, as a process of their own.
pub(crate) struct Process {
    child: Child,
    dir: tempfile::TempDir,
}

impl Process {
    fn start(keeps: bool) -> Result<Process, Failure> {
        let dir = tempfile::tempdir()?;
        let mut child = Command::new(std::env::current_exe()?);
        child.arg("serve").arg(dir.path()).arg(keeps.to_string());
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Process { child, dir })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(self.dir.path().join("qmk.sock"))
    }

    /// A connection that answers by bytes: for each step so many after so many, around and around.
    pub(crate) fn echo(&self, steps: &[(usize, usize)]) -> std::io::Result<UnixStream> {
        let mut stream = UnixStream::connect(self.dir.path().join("echo.sock"))?;
        let mut head = vec![steps.len() as u8];
        for (request, reply) in steps {
            head.extend_from_slice(&(*request as u32).to_le_bytes());
            head.extend_from_slice(&(*reply as u32).to_le_bytes());
        }
        stream.write_all(&head)?;
        Ok(stream)
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn run_server(dir: &Path, keeps: bool) -> Result<(), Failure> {
    let echo = UnixListener::bind(dir.join("echo.sock"))?;
    std::thread::spawn(move || {
        for stream in echo.incoming().flatten() {
            std::thread::spawn(move || echo_bytes(stream));
        }
    });
    let config = MachineConfig { max_sessions: soak::SESSIONS, ..MachineConfig::default() };
    let device = SimDevice::new(SimConfig::default());
    let machine =
        if keeps { Machine::open(device, config, &dir.join("data"))? } else { Machine::start(device, config) };
    let machine = Arc::new(machine);
    let connect: Connect = Arc::new(move |peer| Box::new(machine.connect_as(peer).settling()));
    let path: PathBuf = dir.join("qmk.sock");
    let server = Server::bind(&path, Limits::default())?;
    // Ends with its client, whatever becomes of that.
    let stop = server.stop.clone();
    std::thread::spawn(move || {
        _ = std::io::stdin().read(&mut [0]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    println!("listening");
    Ok(server.run(&connect)?)
}

fn echo_bytes(mut stream: UnixStream) -> std::io::Result<()> {
    let mut count = [0];
    stream.read_exact(&mut count)?;
    let mut sizes = vec![[0u8; 4]; 2 * count[0] as usize];
    sizes.iter_mut().try_for_each(|s| stream.read_exact(s))?;
    let sizes: Vec<usize> = sizes.into_iter().map(|s| u32::from_le_bytes(s) as usize).collect();
    let mut bytes = vec![b'x'; sizes.iter().copied().max().unwrap_or(0)];
    for step in sizes.chunks_exact(2).cycle() {
        stream.read_exact(&mut bytes[..step[0]])?;
        stream.write_all(&bytes[..step[1]])?;
    }
    Ok(())
}

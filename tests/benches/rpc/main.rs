//! `cargo xtask bench rpc`: the server against a bare echo over a socket of the same kind, in the same process, with
//! the same bytes, in turns; then how many jobs it runs, and whether it grows. All of it twice: with a machine that
//! keeps nothing, and with one whose jobs and results outlive it.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod calls;
mod load;
mod process;
mod soak;
mod wire;

use process::{Failure, Process};
use qmk_server::{Connect, Limits, Server};
use qmk_services::{Machine, MachineConfig};
use qmk_sim::{SimConfig, SimDevice};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const USAGE: &str = "usage: rpc [--jobs N] [--pairs N] [--only calls|load|memory] [--json] [--out FILE]; \
                     `cargo xtask bench rpc` drives it";

struct Args {
    jobs: u64,
    pairs: usize,
    only: Option<String>,
    json: bool,
    /// Where to keep the report.
    out: Option<PathBuf>,
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
    let mut wanted = Args { jobs: 100_000, pairs: 10_000, only: None, json: false, out: None };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--jobs" => wanted.jobs = value()?.parse()?,
            "--pairs" => wanted.pairs = value()?.parse()?,
            "--only" => wanted.only = Some(value()?),
            "--json" => wanted.json = true,
            "--out" => wanted.out = Some(value()?.into()),
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
    if let Some(out) = wanted.out {
        std::fs::write(out, format!("{record:#}\n"))?;
    }
    if wanted.json {
        println!("{record:#}");
    }
    if failed > 0 { Err(format!("{failed} goals are missed").into()) } else { Ok(()) }
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

//! The `qmk-server` binary.
#![forbid(unsafe_code)]

use clap::Parser;
use qmk_server::{Connect, Limits, Server, default_socket};
use qmk_services::{Machine, MachineConfig};
use qmk_sim::{SimConfig, SimDevice};
use serde::Deserialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Serve a quantum machine to many clients over a Unix socket.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  qmk-server\n  qmk-server --socket /run/user/1000/qmk.sock\n  \
                  qmk run bell.qvm --connect unix:/tmp/qmk.sock\n\nConfiguration keys (TOML): socket, max_connections, \
                  max_message_bytes, logical_qubits, max_physical_qubits, max_jobs, max_shots, max_active_qubits, \
                  max_requests_per_second, max_nodes, max_session_bytes, stall_seconds, idle_seconds"
)]
struct Args {
    /// Socket to listen on [default: $XDG_RUNTIME_DIR/qmk.sock, else /tmp/qmk.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    socket: Option<PathBuf>,
    max_connections: Option<usize>,
    max_message_bytes: Option<usize>,
    logical_qubits: Option<u32>,
    max_physical_qubits: Option<u64>,
    max_jobs: Option<u32>,
    max_shots: Option<u64>,
    max_active_qubits: Option<u32>,
    max_requests_per_second: Option<u32>,
    max_nodes: Option<usize>,
    max_session_bytes: Option<usize>,
    /// Time for a message to come whole, and for each mebibyte of replies to be taken.
    stall_seconds: Option<u64>,
    /// Time without a request after which a connection is closed.
    idle_seconds: Option<u64>,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("qmk-server: {message}");
            ExitCode::from(code)
        }
    }
}

/// Reads a configuration: a regular file of at most a mebibyte, for a device or a pipe need not end.
fn read(path: &Path) -> std::io::Result<String> {
    const LIMIT: u64 = 1 << 20;
    let invalid = |what: String| Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, what));
    if !path.metadata()?.is_file() {
        return invalid("not a regular file".into());
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT { invalid(format!("longer than {LIMIT} bytes")) } else { Ok(text) }
}

fn run(args: Args) -> Result<(), (u8, String)> {
    let config: Config = match &args.config {
        None => Config::default(),
        Some(path) => {
            let text = read(path).map_err(|e| (2, format!("{}: {e}", path.display())))?;
            toml::from_str(&text).map_err(|e| (2, format!("{}: {e}", path.display())))?
        }
    };
    let path = args.socket.or(config.socket).unwrap_or_else(default_socket);
    let mut sim = SimConfig::default();
    sim.logical_qubits = config.logical_qubits.unwrap_or(sim.logical_qubits);
    // Results travel in replies, which many clients may ask for at once.
    let mut services = MachineConfig { kept_bytes: 64 << 20, ..MachineConfig::default() };
    services.max_physical_qubits = config.max_physical_qubits;
    services.max_jobs = config.max_jobs.unwrap_or(services.max_jobs);
    services.max_shots = config.max_shots.unwrap_or(services.max_shots);
    services.max_requests_per_second = config.max_requests_per_second;
    services.max_nodes = config.max_nodes;
    services.max_session_bytes = config.max_session_bytes.unwrap_or(services.max_session_bytes);
    services.max_active = config.max_active_qubits.unwrap_or(services.max_active);
    let mut limits = Limits::default();
    limits.connections = config.max_connections.unwrap_or(limits.connections);
    limits.stall = config.stall_seconds.map_or(limits.stall, Duration::from_secs);
    limits.idle = config.idle_seconds.map(Duration::from_secs);
    limits.message_bytes = config.max_message_bytes.unwrap_or(limits.message_bytes);

    let failed = |e: std::io::Error| (4, e.to_string());
    let machine = Arc::new(Machine::start(SimDevice::new(sim), services));
    let connect: Connect = Arc::new(move || Box::new(machine.connect().settling()));
    let server = Server::bind(&path, limits).map_err(failed)?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, server.stop.clone()).map_err(failed)?;
    }
    println!("qmk-server listening on unix:{}", path.display());
    server.run(&connect).map_err(failed)
}

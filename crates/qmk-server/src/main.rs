//! The `qmk-server` binary.
#![forbid(unsafe_code)]

use clap::Parser;
use qmk_server::log::{self, LogFormat};
use qmk_server::metrics::{Address, Exporter};
use qmk_server::{Connect, Limits, Server, default_socket};
use qmk_services::{Machine, MachineConfig};
use qmk_sim::{SimConfig, SimDevice};
use serde::Deserialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Serve a quantum machine to many clients over a Unix socket.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  qmk-server\n  qmk-server --socket /run/user/1000/qmk.sock\n  \
                  qmk-server --log info --metrics 127.0.0.1:9464\n  \
                  qmk run bell.qvm --connect unix:/tmp/qmk.sock\n\nConfiguration keys (TOML): socket, max_connections, \
                  max_message_bytes, logical_qubits, max_physical_qubits, max_jobs, max_shots, max_active_qubits"
)]
struct Args {
    /// Socket to listen on [default: $XDG_RUNTIME_DIR/qmk.sock, else /tmp/qmk.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Serve metrics for Prometheus: unix:PATH, or a port of this machine, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<Address>,
    /// Log to standard error: off, error, warn, info, debug, trace, or directives such as qmk_services=debug,warn
    #[arg(long, value_name = "FILTER", env = "QMK_LOG", default_value = "off")]
    log: String,
    /// How log lines are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
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
    log::start(&args.log, args.log_format).map_err(|e| (2, e))?;
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
    services.max_active = config.max_active_qubits.unwrap_or(services.max_active);
    let mut limits = Limits::default();
    limits.connections = config.max_connections.unwrap_or(limits.connections);
    limits.message_bytes = config.max_message_bytes.unwrap_or(limits.message_bytes);

    let failed = |e: std::io::Error| (4, e.to_string());
    let machine = Arc::new(Machine::start(SimDevice::new(sim), services));
    let watched = machine.clone();
    let connect: Connect = Arc::new(move || Box::new(machine.connect()));
    let server = Server::bind(&path, limits).map_err(failed)?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, server.stop.clone()).map_err(failed)?;
    }
    let exporter = args.metrics.as_ref();
    let exporter = exporter.map(|a| Exporter::start(a, move || watched.stats(), server.stop.clone()));
    let exporter = exporter.transpose().map_err(failed)?;
    if let Some(exporter) = &exporter {
        eprintln!("qmk-server: metrics at {}", exporter.address);
    }
    tracing::info!(socket = %path.display(), "listening");
    println!("qmk-server listening on unix:{}", path.display());
    let ended = server.run(&connect).map_err(failed);
    tracing::info!("stopped");
    ended
}

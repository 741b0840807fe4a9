//! The `qmk-server` binary.
#![forbid(unsafe_code)]

use clap::Parser;
use qmk_journal::JournalError;
use qmk_qec::machine::NoisyDevice;
use qmk_server::log::{self, LogFormat};
use qmk_server::metrics::{Address, Exporter};
use qmk_server::{Connect, Limits, Server, default_socket};
use qmk_services::policy::{PolicyError, SitePolicy};
use qmk_services::{Machine, MachineConfig, StoreError, store};
use qmk_sim::{SimConfig, SimDevice};
use serde::Deserialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Serve a quantum machine to many clients over a Unix socket.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  qmk-server\n  qmk-server --socket /run/user/1000/qmk.sock\n  \
                  qmk-server --data-dir /var/lib/qmk --log info --metrics 127.0.0.1:9464\n  \
                  qmk run bell.qvm --connect unix:/tmp/qmk.sock\n\nConfiguration keys (TOML): socket, socket_mode (as in \"0666\"), data_dir, \
                  ephemeral, stored_jobs, stored_bytes, max_connections, \
                  max_user_connections, max_message_bytes, logical_qubits, max_physical_qubits, max_jobs, max_shots, \
                  max_active_qubits, max_active_held_qubits, seed, \
                  max_requests_per_second, max_nodes, max_session_bytes, stall_seconds, idle_seconds,\npolicy \
                  (a file that says who may do what, see docs/guide/server.md; read again on SIGHUP)"
)]
struct Args {
    /// Socket to listen on [default: $XDG_RUNTIME_DIR/qmk.sock, else /tmp/qmk.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where jobs, results, sessions and the audit log are kept [default: a directory of the socket's own below
    /// $XDG_STATE_HOME/qmk, else ~/.local/state/qmk]
    #[arg(long, value_name = "PATH", conflicts_with = "ephemeral")]
    data_dir: Option<PathBuf>,
    /// Keep nothing: jobs, results and sessions end with the server, and there is no audit log
    #[arg(long)]
    ephemeral: bool,
    /// Configuration file
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Policy file: tenants, their users, limits, tokens [default: all belongs to the user who runs the server]
    #[arg(long, value_name = "FILE.toml")]
    policy: Option<PathBuf>,
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
    socket_mode: Option<String>,
    policy: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    ephemeral: Option<bool>,
    stored_jobs: Option<u64>,
    stored_bytes: Option<u64>,
    max_connections: Option<usize>,
    /// Connections of a user other than the owner.
    max_user_connections: Option<usize>,
    max_message_bytes: Option<usize>,
    logical_qubits: Option<u32>,
    max_physical_qubits: Option<u64>,
    max_jobs: Option<u32>,
    max_shots: Option<u64>,
    max_active_qubits: Option<u32>,
    max_active_held_qubits: Option<u32>,
    seed: Option<u64>,
    max_requests_per_second: Option<u32>,
    max_nodes: Option<usize>,
    max_session_bytes: Option<usize>,
    /// Time for a message to come whole, and for each mebibyte of replies to be taken.
    stall_seconds: Option<u64>,
    /// Time without a request after which a connection is closed.
    idle_seconds: Option<u64>,
}

/// Nodes of a program: building one of so many takes about 150 MB for a moment.
const MAX_NODES: usize = 250_000;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("qmk-server: {message}");
            ExitCode::from(code)
        }
    }
}

impl Config {
    /// What is wrong with values that are of the right kind.
    fn check(&self) -> Result<(), String> {
        let none = [
            ("max_connections", self.max_connections == Some(0)),
            ("max_user_connections", self.max_user_connections == Some(0)),
            ("max_message_bytes", self.max_message_bytes == Some(0)),
            ("logical_qubits", self.logical_qubits == Some(0)),
            ("max_nodes", self.max_nodes == Some(0)),
            ("max_requests_per_second", self.max_requests_per_second == Some(0)),
            ("stall_seconds", self.stall_seconds == Some(0)),
        ];
        if let Some((key, _)) = none.iter().find(|(_, zero)| *zero) {
            return Err(format!("{key} = 0: the server could do nothing; give at least 1"));
        }
        if self.ephemeral == Some(true) && self.data_dir.is_some() {
            return Err(
                "ephemeral = true keeps nothing, and data_dir says where to keep it; leave one of them out".into()
            );
        }
        Ok(())
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
    // From the start, for whoever starts the server may tell it to end at once.
    let notified = Arc::new(AtomicBool::new(false));
    let listen_to_signals = |flag: &Arc<AtomicBool>| {
        [SIGTERM, SIGINT].into_iter().try_for_each(|signal| signal_hook::flag::register(signal, flag.clone()).map(drop))
    };
    listen_to_signals(&notified).map_err(|e| (4, e.to_string()))?;
    log::start(&args.log, args.log_format).map_err(|e| (2, e))?;
    let config: Config = match &args.config {
        None => Config::default(),
        Some(path) => {
            let text = read(path).map_err(|e| (2, format!("{}: {e}", path.display())))?;
            toml::from_str(&text).map_err(|e| (2, format!("{}: {e}", path.display())))?
        }
    };
    if let Some(path) = &args.config {
        config.check().map_err(|what| (2, format!("{}: {what}", path.display())))?;
    }
    let given = args.data_dir.is_some();
    let path = args.socket.or(config.socket).unwrap_or_else(default_socket);
    let mut sim = SimConfig::default();
    sim.logical_qubits = config.logical_qubits.unwrap_or(sim.logical_qubits);
    // Results travel in replies, which many clients may ask for at once.
    let mut services = MachineConfig { kept_bytes: 64 << 20, ..MachineConfig::default() };
    services.max_physical_qubits = config.max_physical_qubits;
    services.max_jobs = config.max_jobs.unwrap_or(services.max_jobs);
    services.stored_jobs = config.stored_jobs.unwrap_or(services.stored_jobs);
    services.stored_bytes = config.stored_bytes.unwrap_or(services.stored_bytes);
    services.max_shots = config.max_shots.unwrap_or(services.max_shots);
    services.max_requests_per_second = config.max_requests_per_second;
    services.max_nodes = Some(config.max_nodes.unwrap_or(MAX_NODES));
    services.max_session_bytes = config.max_session_bytes.unwrap_or(services.max_session_bytes);
    services.max_active = config.max_active_qubits.unwrap_or(services.max_active);
    services.max_active_held = config.max_active_held_qubits.unwrap_or(services.max_active_held);
    services.seed = config.seed;
    let mut limits = Limits::default();
    limits.connections = config.max_connections.unwrap_or(limits.connections);
    limits.user_connections = config.max_user_connections;
    limits.stall = config.stall_seconds.map_or(limits.stall, Duration::from_secs);
    limits.idle = config.idle_seconds.map(Duration::from_secs);
    limits.message_bytes = config.max_message_bytes.unwrap_or(limits.message_bytes);

    if let Some(text) = &config.socket_mode {
        let mode = u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o777);
        let what = || (2, format!("socket_mode: {text:?} is no mode; expected three octal digits, such as \"0600\""));
        limits.socket_mode = mode.ok_or_else(what)?;
    }
    // A policy that the configuration names lies beside it.
    let beside = args.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let named = if args.policy.is_some() { None } else { args.config.as_ref() };
    let policy = args.policy.or(config.policy.map(|p| beside.join(p)));
    if let Some(path) = &policy {
        let wrong = |e: PolicyError| match named {
            Some(config) => (2, format!("{}: policy: {e}", config.display())),
            None => (2, e.to_string()),
        };
        services.policy = Some(Arc::new(SitePolicy::load(path).map_err(wrong)?));
    }

    let failed = |e: std::io::Error| (4, e.to_string());
    let mut server = Server::bind(&path, limits).map_err(failed)?;
    let place = match args.data_dir.or(config.data_dir) {
        // The command line has the last word.
        _ if args.ephemeral || config.ephemeral == Some(true) && !given => Place::Nowhere,
        Some(dir) => Place::Given(dir),
        None => store::default_dir(&path).map_or(Place::Nowhere, Place::Default),
    };
    let machine = match boot(sim, services, &place, args.ephemeral || config.ephemeral == Some(true), &notified) {
        // It waited for another server's directory, and need not any more.
        Err(_) if notified.load(Ordering::Relaxed) => return Ok(()),
        machine => Arc::new(machine?),
    };
    reload_on_hangup(machine.clone(), policy).map_err(failed)?;
    server.limits.keeps = machine.keeps();
    // Clients that the end of the server cuts off find their sessions again.
    server.stop = machine.leaving();
    let watched = machine.clone();
    let connect: Connect = {
        let machine = machine.clone();
        Arc::new(move |peer| Box::new(machine.connect_as(peer).settling()))
    };
    listen_to_signals(&server.stop).map_err(failed)?;
    if notified.load(Ordering::Relaxed) {
        server.stop.store(true, Ordering::Relaxed);
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
    ended?;
    machine.close().map_err(|e| (4, e.to_string()))
}

/// Where state is kept.
enum Place {
    Nowhere,
    Default(PathBuf),
    Given(PathBuf),
}

fn boot(
    sim: SimConfig,
    services: MachineConfig,
    place: &Place,
    asked: bool,
    notified: &AtomicBool,
) -> Result<Machine<NoisyDevice<SimDevice>>, (u8, String)> {
    let (Place::Default(dir) | Place::Given(dir)) = place else {
        if !asked {
            eprintln!("qmk-server: no home to keep state in, so nothing outlives this server; see --data-dir");
        }
        return Ok(Machine::start(NoisyDevice::simulated(sim), services));
    };
    // One that was told to end may take a few seconds.
    let deadline = Instant::now() + Duration::from_secs(7);
    loop {
        match Machine::open(NoisyDevice::simulated(sim.clone()), services.clone(), dir) {
            Ok(machine) => return Ok(machine),
            Err(StoreError::Journal(JournalError::Locked(_)))
                if Instant::now() < deadline && !notified.load(Ordering::Relaxed) =>
            {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(e @ (StoreError::Io { .. } | StoreError::Journal(JournalError::Io { .. })))
                if matches!(place, Place::Default(_)) =>
            {
                eprintln!("qmk-server: nothing outlives this server; see --data-dir: {}: {e}", dir.display());
                return Ok(Machine::start(NoisyDevice::simulated(sim), services));
            }
            Err(e) => return Err((4, format!("{}: {e}", dir.display()))),
        }
    }
}

/// Reads the policy again on each SIGHUP, if there is one.
fn reload_on_hangup(machine: Arc<Machine<NoisyDevice<SimDevice>>>, path: Option<PathBuf>) -> std::io::Result<()> {
    let mut hangups = Signals::new([SIGHUP])?;
    let reload = move || {
        for _ in hangups.forever() {
            let Some(path) = &path else {
                eprintln!("qmk-server: SIGHUP: there is no policy file to read again; see --policy");
                continue;
            };
            match SitePolicy::load(path) {
                Ok(policy) => {
                    machine.set_policy(policy);
                    eprintln!("qmk-server: {}: read again", path.display());
                }
                Err(e) => eprintln!("qmk-server: {e}; the policy stays as it was"),
            }
        }
    };
    std::thread::Builder::new().name("reload".into()).spawn(reload).map(drop)
}

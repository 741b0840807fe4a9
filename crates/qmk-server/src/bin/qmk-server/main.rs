//! The `qmk-server` binary.
#![forbid(unsafe_code)]

mod args;
mod boot;
mod config;

use args::Args;
use boot::{Place, boot};
use clap::Parser;
use config::{Config, MAX_NODES, read};
use qmk_qec::machine::NoisyDevice;
use qmk_server::log;
use qmk_server::metrics::Exporter;
use qmk_server::{Connect, Limits, Server, default_socket};
use qmk_services::policy::{PolicyError, SitePolicy};
use qmk_services::{Machine, MachineConfig, store};
use qmk_sim::{SimConfig, SimDevice};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("qmk-server: {message}");
            ExitCode::from(code)
        }
    }
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

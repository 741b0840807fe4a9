//! The `qmk-server` binary.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "what the operator must read, whatever the log filters out")]

mod args;
mod boot;
mod config;

use args::Args;
use boot::{Place, boot};
use clap::Parser;
use config::Config;
use qmk_qec::machine::NoisyDevice;
use qmk_server::daemon::{self, Failure, failed};
use qmk_server::{Server, default_socket, log};
use qmk_services::Machine;
use qmk_services::policy::{PolicyError, SitePolicy};
use qmk_sim::SimDevice;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("qmk-server: {message}");
            ExitCode::from(code)
        }
    }
}

/// Sets a flag at SIGTERM and SIGINT.
fn listen_to_signals(flag: &Arc<AtomicBool>) -> std::io::Result<()> {
    [SIGTERM, SIGINT].into_iter().try_for_each(|signal| signal_hook::flag::register(signal, flag.clone()).map(drop))
}

fn run(args: Args) -> Result<(), Failure> {
    // Before anything else: the process that starts the server may end it at once.
    let notified = Arc::new(AtomicBool::new(false));
    listen_to_signals(&notified).map_err(failed)?;
    log::start(&args.log, args.log_format).map_err(|e| (2, e))?;
    let config = Config::load(args.config.as_deref()).map_err(|e| (2, e))?;
    let limits = config.limits().map_err(|e| (2, e))?;
    let mut services = config.machine();
    let policy = policy_path(&args, &config);
    if let Some(path) = &policy {
        services.policy = Some(Arc::new(load_policy(path, &args)?));
    }
    let path = args.socket.as_ref().or(config.socket.as_ref()).map_or_else(default_socket, PathBuf::clone);
    let server = Server::bind(&path, limits).map_err(failed)?;
    let place = Place::choose(&args, &config, &path);
    let ephemeral = args.ephemeral || config.ephemeral == Some(true);
    let machine = match boot(config.sim(), services, &place, ephemeral, &notified) {
        // It waited for another server's directory until it was told to end.
        Err(_) if notified.load(Ordering::Relaxed) => return Ok(()),
        machine => Arc::new(machine?),
    };
    reload_on_hangup(machine.clone(), policy).map_err(failed)?;
    // The end of the machine ends the server, and the other way round.
    listen_to_signals(&machine.leaving()).map_err(failed)?;
    if notified.load(Ordering::Relaxed) {
        machine.leaving().store(true, Ordering::Relaxed);
    }
    daemon::serve(server, &machine, &path, args.metrics.as_ref())
}

/// The policy file: of the command line, else of the configuration, beside which it lies.
fn policy_path(args: &Args, config: &Config) -> Option<PathBuf> {
    let beside = args.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    args.policy.clone().or(config.policy.as_ref().map(|p| beside.join(p)))
}

fn load_policy(path: &Path, args: &Args) -> Result<SitePolicy, Failure> {
    let named = if args.policy.is_some() { None } else { args.config.as_ref() };
    SitePolicy::load(path).map_err(|e: PolicyError| match named {
        Some(config) => (2, format!("{}: policy: {e}", config.display())),
        None => (2, e.to_string()),
    })
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

//! The command line.

use clap::Parser;
use qmk_server::log::LogFormat;
use qmk_server::metrics::Address;
use std::path::PathBuf;

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
pub(crate) struct Args {
    /// Socket to listen on [default: $XDG_RUNTIME_DIR/qmk.sock, else /tmp/qmk.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Where jobs, results, sessions and the audit log are kept [default: a directory of the socket's own below
    /// $XDG_STATE_HOME/qmk, else ~/.local/state/qmk]
    #[arg(long, value_name = "PATH", conflicts_with = "ephemeral")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Keep nothing: jobs, results and sessions end with the server, and there is no audit log
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Configuration file
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Policy file: tenants, their users, limits, tokens [default: all belongs to the user who runs the server]
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) policy: Option<PathBuf>,
    /// Serve metrics for Prometheus: unix:PATH, or a port of this machine, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<Address>,
    /// Log to standard error: off, error, warn, info, debug, trace, or directives such as qmk_services=debug,warn
    #[arg(long, value_name = "FILTER", env = "QMK_LOG", default_value = "off")]
    pub(crate) log: String,
    /// How log lines are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

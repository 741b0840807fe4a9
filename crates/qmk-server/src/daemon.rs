//! The life of a server from the first client to the last: serving, and closing the machine.

use crate::metrics::{Address, Exporter};
use crate::server::{Connect, Server};
use qmk_services::Machine;
use qmk_services::hal::Device;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Exit code and message: 2 for an argument that cannot be used, 4 for a failure of the system or of the machine.
pub type Failure = (u8, String);

/// A failure of the operating system.
pub fn failed(e: io::Error) -> Failure {
    (4, e.to_string())
}

/// Serves clients of a machine until its flag [`Machine::leaving`] is set, then closes it. `path` is that of the
/// socket.
///
/// # Errors
/// 4, if the metrics cannot be served, accepting fails for good, the journal cannot be closed, or the machine has
/// stopped: its journal is closed like that of any other.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "whoever starts the server waits for these lines")]
pub fn serve<D: Device + Send + 'static>(
    mut server: Server,
    machine: &Arc<Machine<D>>,
    path: &Path,
    metrics: Option<&Address>,
) -> Result<(), Failure> {
    server.limits.keeps = machine.keeps();
    // Clients that the end of the server cuts off find their sessions again.
    server.stop = machine.leaving();
    let watched = machine.clone();
    let exporter = metrics.map(|a| Exporter::start(a, move || watched.stats(), server.stop.clone()));
    let exporter = exporter.transpose().map_err(failed)?;
    if let Some(exporter) = &exporter {
        eprintln!("qmk-server: metrics at {}", exporter.address);
    }
    tracing::info!(socket = %path.display(), "listening");
    println!("qmk-server listening on unix:{}", path.display());
    let connect: Connect = {
        let machine = machine.clone();
        Arc::new(move |peer| Box::new(machine.connect_as(peer).settling()))
    };
    let ended = server.run(&connect).map_err(failed);
    tracing::info!("stopped");
    ended?;
    machine.close().map_err(|e| (4, e.to_string()))?;
    match machine.stop_reason() {
        Some(reason) => {
            Err((4, format!("the machine has stopped: {reason}; jobs that had not ended run again at the next start")))
        }
        None => Ok(()),
    }
}

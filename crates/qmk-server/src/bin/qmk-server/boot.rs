//! How the machine is started, and where it keeps its state.

use crate::args::Args;
use crate::config::Config;
use qmk_journal::JournalError;
use qmk_qec::machine::NoisyDevice;
use qmk_services::{Machine, MachineConfig, StoreError, store};
use qmk_sim::{SimConfig, SimDevice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where state is kept.
pub(crate) enum Place {
    Nowhere,
    Default(PathBuf),
    Given(PathBuf),
}

impl Place {
    /// The command line has the last word, then the configuration, then the socket's own directory.
    pub(crate) fn choose(args: &Args, config: &Config, socket: &Path) -> Place {
        let given = args.data_dir.is_some();
        match args.data_dir.as_ref().or(config.data_dir.as_ref()) {
            _ if args.ephemeral || config.ephemeral == Some(true) && !given => Place::Nowhere,
            Some(dir) => Place::Given(dir.clone()),
            None => store::default_dir(socket).map_or(Place::Nowhere, Place::Default),
        }
    }
}

/// Starts the machine, on its directory if it has one. `asked` says that the user wants nothing kept.
///
/// # Errors
/// Exit code and message, if the directory cannot be used.
pub(crate) fn boot(
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
    // A server that was told to end may hold the directory for a few seconds more.
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

//! How the machine is started, and where it keeps its state.

use qmk_journal::JournalError;
use qmk_qec::machine::NoisyDevice;
use qmk_services::{Machine, MachineConfig, StoreError};
use qmk_sim::{SimConfig, SimDevice};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where state is kept.
pub(crate) enum Place {
    Nowhere,
    Default(PathBuf),
    Given(PathBuf),
}

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

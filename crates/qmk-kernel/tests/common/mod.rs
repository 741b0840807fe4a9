//! The simulated machine under the checks of the testkit.
#![allow(unreachable_pub, missing_docs, dead_code, reason = "each test takes what it needs")]

use qmk_sim::{SimConfig, SimDevice};

pub type Checked = qmk_testkit::Checked<SimDevice>;
pub type Model = qmk_testkit::model::Model<Checked>;

/// A small machine.
pub fn small(logical_qubits: u32) -> SimConfig {
    SimConfig { logical_qubits, routes_per_epoch: 3, magic_per_epoch: 2, threads: 1, ..SimConfig::default() }
}

/// A small machine, checked.
pub fn checked(logical_qubits: u32) -> Checked {
    Checked::over(SimDevice::new(small(logical_qubits)))
}

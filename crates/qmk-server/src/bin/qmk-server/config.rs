//! The configuration file.

use qmk_server::Limits;
use qmk_services::MachineConfig;
use qmk_sim::SimConfig;
use serde::Deserialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Its keys. A key that is absent leaves the default.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) socket_mode: Option<String>,
    pub(crate) policy: Option<PathBuf>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) ephemeral: Option<bool>,
    pub(crate) stored_jobs: Option<u64>,
    pub(crate) stored_bytes: Option<u64>,
    pub(crate) max_connections: Option<usize>,
    /// Connections of a user other than the owner.
    pub(crate) max_user_connections: Option<usize>,
    pub(crate) max_message_bytes: Option<usize>,
    pub(crate) logical_qubits: Option<u32>,
    pub(crate) max_physical_qubits: Option<u64>,
    pub(crate) max_jobs: Option<u32>,
    pub(crate) max_shots: Option<u64>,
    pub(crate) max_active_qubits: Option<u32>,
    pub(crate) max_active_held_qubits: Option<u32>,
    pub(crate) max_held_qubits: Option<u32>,
    pub(crate) held_idle_seconds: Option<u64>,
    /// Bytes of all states, and of those of one tenant.
    pub(crate) max_state_bytes: Option<u64>,
    pub(crate) max_tenant_state_bytes: Option<u64>,
    pub(crate) seed: Option<u64>,
    pub(crate) max_requests_per_second: Option<u32>,
    pub(crate) max_nodes: Option<usize>,
    pub(crate) max_session_bytes: Option<usize>,
    /// Time for a message to come whole, and for each mebibyte of replies to be taken.
    pub(crate) stall_seconds: Option<u64>,
    /// Time without a request after which a connection is closed.
    pub(crate) idle_seconds: Option<u64>,
}

/// Default of `max_nodes`: building a program of this size takes about 150 MB for a moment.
const MAX_NODES: usize = 250_000;

/// Default of `max_state_bytes`.
fn half_of_memory() -> u64 {
    let computer = rustix::system::sysinfo();
    (computer.totalram as u64).saturating_mul(computer.mem_unit.into()) / 2
}

impl Config {
    /// Reads and checks a configuration; all defaults without a path.
    ///
    /// # Errors
    /// What is wrong in which file.
    pub(crate) fn load(path: Option<&Path>) -> Result<Config, String> {
        let Some(path) = path else { return Ok(Config::default()) };
        let wrong = |e: String| format!("{}: {e}", path.display());
        let text = read(path).map_err(|e| wrong(e.to_string()))?;
        let config: Config = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        config.check().map_err(wrong)?;
        Ok(config)
    }

    pub(crate) fn sim(&self) -> SimConfig {
        let mut sim = SimConfig::default();
        sim.logical_qubits = self.logical_qubits.unwrap_or(sim.logical_qubits);
        sim.state_bytes = self.max_state_bytes.unwrap_or_else(half_of_memory);
        sim.owner_state_bytes = self.max_tenant_state_bytes;
        sim
    }

    pub(crate) fn machine(&self) -> MachineConfig {
        // Results travel in replies, which many clients may ask for at once.
        let mut machine = MachineConfig { kept_bytes: 64 << 20, ..MachineConfig::default() };
        machine.max_physical_qubits = self.max_physical_qubits;
        // Half of the machine, so that a session that is left behind leaves room for others.
        machine.max_held_qubits = Some(self.max_held_qubits.unwrap_or(self.sim().logical_qubits / 2));
        machine.held_idle = Some(Duration::from_secs(self.held_idle_seconds.unwrap_or(3600)));
        machine.max_jobs = self.max_jobs.unwrap_or(machine.max_jobs);
        machine.stored_jobs = self.stored_jobs.unwrap_or(machine.stored_jobs);
        machine.stored_bytes = self.stored_bytes.unwrap_or(machine.stored_bytes);
        machine.max_shots = self.max_shots.unwrap_or(machine.max_shots);
        machine.max_requests_per_second = self.max_requests_per_second;
        machine.max_nodes = Some(self.max_nodes.unwrap_or(MAX_NODES));
        machine.max_session_bytes = self.max_session_bytes.unwrap_or(machine.max_session_bytes);
        machine.max_active = self.max_active_qubits.unwrap_or(machine.max_active);
        machine.max_active_held = self.max_active_held_qubits.unwrap_or(machine.max_active_held);
        machine.seed = self.seed;
        machine
    }

    /// # Errors
    /// If the mode of the socket is not one.
    pub(crate) fn limits(&self) -> Result<Limits, String> {
        let mut limits = Limits::default();
        limits.connections = self.max_connections.unwrap_or(limits.connections);
        limits.user_connections = self.max_user_connections;
        limits.stall = self.stall_seconds.map_or(limits.stall, Duration::from_secs);
        limits.idle = self.idle_seconds.map(Duration::from_secs);
        limits.message_bytes = self.max_message_bytes.unwrap_or(limits.message_bytes);
        if let Some(text) = &self.socket_mode {
            let mode = u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o777);
            let what = || format!("socket_mode: {text:?} is no mode; expected three octal digits, such as \"0600\"");
            limits.socket_mode = mode.ok_or_else(what)?;
        }
        Ok(limits)
    }

    /// Refuses values of the right type that no server can work with.
    fn check(&self) -> Result<(), String> {
        let none = [
            ("max_connections", self.max_connections == Some(0)),
            ("max_user_connections", self.max_user_connections == Some(0)),
            ("max_message_bytes", self.max_message_bytes == Some(0)),
            ("logical_qubits", self.logical_qubits == Some(0)),
            ("held_idle_seconds", self.held_idle_seconds == Some(0)),
            ("max_state_bytes", self.max_state_bytes == Some(0)),
            ("max_tenant_state_bytes", self.max_tenant_state_bytes == Some(0)),
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

/// Reads a regular file of at most one mebibyte: a device or a pipe may never end.
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

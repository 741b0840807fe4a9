//! The configuration file.

use serde::Deserialize;
use std::io::Read;
use std::path::{Path, PathBuf};

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
    pub(crate) seed: Option<u64>,
    pub(crate) max_requests_per_second: Option<u32>,
    pub(crate) max_nodes: Option<usize>,
    pub(crate) max_session_bytes: Option<usize>,
    /// Time for a message to come whole, and for each mebibyte of replies to be taken.
    pub(crate) stall_seconds: Option<u64>,
    /// Time without a request after which a connection is closed.
    pub(crate) idle_seconds: Option<u64>,
}

/// Nodes of a program: building one of so many takes about 150 MB for a moment.
pub(crate) const MAX_NODES: usize = 250_000;

impl Config {
    /// What is wrong with values that are of the right kind.
    pub(crate) fn check(&self) -> Result<(), String> {
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
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    const LIMIT: u64 = 1 << 20;
    let invalid = |what: String| Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, what));
    if !path.metadata()?.is_file() {
        return invalid("not a regular file".into());
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT { invalid(format!("longer than {LIMIT} bytes")) } else { Ok(text) }
}

//! The directory of a machine: where it lies, and the secret in it.

use super::error::StoreError;
use qmk_journal::files;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

pub(super) const JOURNAL: &str = "journal";
pub(super) const STORE: &str = "store";
pub(super) const SECRET: &str = "sessions.key";

/// Default directory of a server that listens on this socket: one of the socket's own below
/// `$XDG_STATE_HOME/qmk`, else `~/.local/state/qmk`; none without a home.
pub fn default_dir(socket: &Path) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let socket = std::path::absolute(socket).ok()?;
    let hash = Sha256::digest(socket.as_os_str().as_encoded_bytes());
    Some(state.join("qmk").join(hash[..8].iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}"))))
}

/// The directory of a machine's journal, given that or the machine's.
pub fn journal_dir(dir: &Path) -> PathBuf {
    let inner = dir.join(JOURNAL);
    if inner.is_dir() { inner } else { dir.into() }
}

/// Reads the secret, or makes one; says whether it did.
pub(super) fn secret(dir: &Path) -> Result<([u8; 32], bool), StoreError> {
    let path = dir.join(SECRET);
    match files::open(&path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(64).read_to_end(&mut bytes).map_err(StoreError::io(&path))?;
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not a secret of 32 bytes");
            Ok((bytes.try_into().map_err(|_| StoreError::io(&path)(wrong()))?, false))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut secret = [0; 32];
            let mut made = || {
                getrandom::fill(&mut secret).map_err(|e| io::Error::other(e.to_string()))?;
                let new = path.with_extension("new");
                let mut file = files::create_new(&new)?;
                file.write_all(&secret)?;
                file.sync_all()?;
                std::fs::rename(&new, &path)?;
                File::open(dir)?.sync_all()
            };
            made().map_err(StoreError::io(&path))?;
            Ok((secret, true))
        }
        Err(e) => Err(StoreError::io(&path)(e)),
    }
}

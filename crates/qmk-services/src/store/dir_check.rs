//! Whether a directory is fit to keep state in.

use super::error::StoreError;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Refuses a directory that others can change: they could have the server write to files of their choice, and believe
/// what they wrote. One that is not there will be made.
pub(super) fn check(dir: &Path, name: &str) -> Result<(), StoreError> {
    let found = match std::fs::metadata(dir) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(StoreError::io(dir)(e)),
    };
    let refuse = |what: String| Err(StoreError::Unsafe(format!("{name} {what}")));
    let (owner, me) = (found.uid(), rustix::process::geteuid().as_raw());
    if !found.is_dir() {
        return refuse("is not one, and state is kept in one; see --data-dir".into());
    }
    if owner != me {
        return refuse(format!(
            "belongs to user {owner}, who could change what the server, run by user {me}, keeps in it; run the server \
             as that user, or name a directory of one's own with --data-dir"
        ));
    }
    if found.mode() & 0o022 != 0 {
        return refuse(format!(
            "can be written by users other than its owner (mode {:04o}); if all in it is the server's, run `chmod go-w` on \
             it, else name another directory with --data-dir",
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

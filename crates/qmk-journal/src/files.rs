//! Opening and making files in a private directory, without following symbolic links.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

fn options() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Opens a file for reading and writing.
///
/// # Errors
/// Those of the file system. A symbolic link is not followed.
pub fn open(path: &Path) -> io::Result<File> {
    options().open(path)
}

/// Opens a file for reading and writing. A missing file is made, with mode 0600.
///
/// # Errors
/// Those of the file system. A symbolic link is not followed.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    options().create(true).truncate(false).open(path)
}

/// Makes a file. A regular file of that name is left over from a sudden end and is replaced.
///
/// # Errors
/// Those of the file system. Anything but a regular file stays.
pub fn create_new(path: &Path) -> io::Result<File> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        std::fs::remove_file(path)?;
    }
    options().create_new(true).open(path)
}

//! Opening and making files in a directory that is one's own, without following links that someone may have left there.

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
pub fn open(path: &Path) -> io::Result<File> {
    options().open(path)
}

/// Opens a file for reading and writing, and makes it if need be.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    options().create(true).truncate(false).open(path)
}

/// Makes a file that was not there. A regular file of the name, which a sudden end has left, is none.
pub fn create_new(path: &Path) -> io::Result<File> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        std::fs::remove_file(path)?;
    }
    options().create_new(true).open(path)
}

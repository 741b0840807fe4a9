//! Sockets in the file system.

use qmk_abi::rpc::{SOCKET_DIR, SOCKET_NAME};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Where a server listens unless another socket is named: `$XDG_RUNTIME_DIR/qmk.sock`, else `/tmp/qmk.sock`. Clients
/// look there, too.
pub fn default_socket() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| SOCKET_DIR.into(), PathBuf::from).join(SOCKET_NAME)
}

pub(crate) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|m| (m.dev(), m.ino()))
}

/// Binds, sets the mode, and only then listens, so that no one connects before the mode is set.
fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listen(&socket, 128)?;
    Ok(socket.into())
}

/// Listens at a path. A stale socket is replaced, a live one refused.
pub(crate) fn bind_socket(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let taken = |what: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{}: {what}", path.display())));
    if let Ok(meta) = path.symlink_metadata() {
        if !meta.file_type().is_socket() {
            return taken("exists and is not a socket");
        }
        if UnixStream::connect(path).is_ok() {
            return taken("another server listens there");
        }
        std::fs::remove_file(path)?;
    }
    let at = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let listener = listen(path, mode).map_err(at)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

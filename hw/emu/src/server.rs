//! An emulated adapter for other processes: served on a vfio-user socket, to one client at a time.
//!
//! What can't be done is logged, and shows as what hardware would do: all ones, a lost write, a DMA fault. Only a message
//! that makes no sense is refused. DMA is by shared memory: ranges that come without a file descriptor can't be reached.

mod device;
mod session;

use self::device::Device;
use crate::Adapter;
use rustix::net::{Shutdown, shutdown};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest path of a Unix socket, without the zero at its end.
const MAX_PATH: usize = 107;
/// A socket that can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The path doesn't fit in a socket address.
    #[error("{}: the path has {len} bytes, a socket's has at most {MAX_PATH}; use a shorter one", path.display())]
    PathTooLong {
        /// The socket.
        path: PathBuf,
        /// Bytes of it.
        len: usize,
    },
    /// There is something else at the path.
    #[error("{}: exists and is not a socket; remove it or use another path", path.display())]
    NotSocket {
        /// The path.
        path: PathBuf,
    },
    /// Another server listens on it.
    #[error("{}: another server listens on this socket; end it or use another path", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket can't be made.
    #[error("{}: can't listen on a socket there: {source}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A socket on which an adapter is served. Dropping it takes no further clients and removes the socket; a client that is
/// connected stays until it hangs up.
#[derive(Debug)]
pub struct SocketServer {
    path: PathBuf,
    /// The socket's device and inode: a later socket at the same path is not removed.
    made: Option<(u64, u64)>,
    listener: OwnedFd,
    ending: Arc<AtomicBool>,
}

impl SocketServer {
    /// Serves `adapter` on a new socket at `path`. A socket that is there and on which nobody listens is replaced.
    ///
    /// # Errors
    /// When the path is of no use, in use, or the system refuses.
    pub fn start(adapter: Adapter, path: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { path: path.to_owned(), source };
        let listener = listen(path)?;
        let inode = |path: &Path| fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        let server = Self {
            path: path.to_owned(),
            made: inode(path),
            listener: listener.try_clone().map_err(failed)?.into(),
            ending: Arc::new(AtomicBool::new(false)),
        };
        let (ending, shown) = (Arc::clone(&server.ending), path.display().to_string());
        std::thread::Builder::new()
            .name("vfio-user".to_owned())
            .spawn(move || serve(&listener, &mut Device::new(adapter), &ending, &shown))
            .map_err(failed)?;
        Ok(server)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // Wakes the thread when it waits for a client.
        let _ = shutdown(&self.listener, Shutdown::Both);
        let there = fs::symlink_metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()));
        if there.is_some() && there == self.made {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let len = path.as_os_str().len();
    if len > MAX_PATH {
        return Err(ServeError::PathTooLong { path: path.to_owned(), len });
    }
    if let Ok(meta) = fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(ServeError::NotSocket { path: path.to_owned() });
        }
        // Only a socket that refuses is left over; one that answers, or says anything else, is somebody's.
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(|source| ServeError::Listen { path: path.to_owned(), source })?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(ServeError::InUse { path: path.to_owned() }),
        }
    }
    UnixListener::bind(path).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { path: path.to_owned() },
        _ => ServeError::Listen { path: path.to_owned(), source },
    })
}

/// Serves one client after the other.
fn serve(listener: &UnixListener, device: &mut Device, ending: &AtomicBool, socket: &str) {
    /// Before the next try, when the system has no descriptor for a client.
    const PAUSE: Duration = Duration::from_millis(100);
    while !ending.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                match session::serve(&stream, device) {
                    Ok(()) => log::info!("{socket}: the client hung up"),
                    Err(error) => log::info!("{socket}: the client is gone: {error}"),
                }
                device.client_left();
            }
            Err(_) if ending.load(Ordering::Relaxed) => {}
            Err(error) => {
                log::warn!("{socket}: can't take a client: {error}");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Lab, Pacing};

    #[test]
    fn only_a_socket_that_is_left_over_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let adapter = || Lab::new(Pacing::Real).add(Config::default());
        let start = |path: &Path| SocketServer::start(adapter(), path);
        drop(UnixListener::bind(&path).unwrap());
        let server = start(&path).unwrap();
        assert!(matches!(start(&path), Err(ServeError::InUse { .. })));
        assert_eq!(server.path(), path);
        drop(server);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(start(&path), Err(ServeError::NotSocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert!(matches!(start(&dir.path().join("x".repeat(108))), Err(ServeError::PathTooLong { .. })));
        assert!(matches!(start(&dir.path().join("no/such/dir")), Err(ServeError::Listen { .. })));
    }
}

//! Why no adapter can be had from a vfio-user socket.

use opx_bus::BusError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A socket that gave no adapter. Every message names the socket and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The path doesn't fit in a socket address.
    #[error("{}: the path has {len} bytes, a socket's has at most 107; use a shorter one", path.display())]
    PathTooLong {
        /// The socket.
        path: PathBuf,
        /// Bytes of it.
        len: usize,
    },
    /// There is nothing at the path.
    #[error("{}: no such socket; start the server first (opx-emu --socket {})", path.display(), path.display())]
    Missing {
        /// The socket.
        path: PathBuf,
    },
    /// What is at the path is no socket.
    #[error("{}: not a socket; give the path that the vfio-user server listens on", path.display())]
    NotSocket {
        /// The path.
        path: PathBuf,
    },
    /// Nobody listens.
    #[error("{}: nobody listens on this socket (connection refused); start the server again", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
    },
    /// The connection failed for another reason.
    #[error("{}: can't connect: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Connected, but nothing came back.
    #[error(
        "{}: connected, but no answer within {limit:?}: the server is busy with another client (it serves one at a time) or is no vfio-user server; end the other client or check the path",
        path.display()
    )]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// What came back isn't the protocol.
    #[error("{}: not a vfio-user server ({what}); check the path", path.display())]
    NotVfioUser {
        /// The socket.
        path: PathBuf,
        /// What was seen.
        what: String,
    },
    /// The server speaks another version.
    #[error("{}: the server speaks vfio-user {major}.{minor}, this is version 0.0; use a matching server", path.display())]
    Version {
        /// The socket.
        path: PathBuf,
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// The device isn't a PCI function.
    #[error("{}: the server's device is not a PCI function; serve an HFI1 there", path.display())]
    NotPci {
        /// The socket.
        path: PathBuf,
    },
    /// The function isn't an HFI1.
    #[error("{}: PCI function {vendor:04x}:{device:04x} is not an HFI1 (8086:24f0 or 8086:24f1); serve an HFI1 there", path.display())]
    NotHfi1 {
        /// The socket.
        path: PathBuf,
        /// PCI vendor id.
        vendor: u16,
        /// PCI device id.
        device: u16,
    },
    /// A region has the wrong length.
    #[error("{}: {region} has {len:#x} bytes, an HFI1 has {expected}; the server is broken or serves another device", path.display())]
    RegionLength {
        /// The socket.
        path: PathBuf,
        /// "BAR 0" or "config space".
        region: &'static str,
        /// Bytes the server says.
        len: u64,
        /// What it should be.
        expected: &'static str,
    },
    /// The server refused or went away after the connection was made.
    #[error(transparent)]
    Bus(#[from] BusError),
}

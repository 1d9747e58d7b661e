//! Linux guests under QEMU on emulated adapters: the environment from Debian packages, the initrd, the machine.
//!
//! A scenario is written like this: get an [`Environment`], put programs, modules and a script into an [`Initrd`], start
//! an [`Emulator`] and a [`Guest`] on its sockets, wait for marker lines, and judge by [`Guest::finish`].

mod cpio;
mod emulator;
mod environment;
mod error;
mod initrd;
mod kernel;
mod lines;
mod machine;
mod packages;
mod process;

pub use emulator::{Emulator, EmulatorOptions};
pub use environment::{Environment, Kernel};
pub use error::GuestError;
pub use initrd::{End, Initrd};
pub use machine::{Guest, GuestOptions, Iommu, attach};
pub use process::output;

use std::path::{Path, PathBuf};

/// Where one scenario keeps its files: logs in a folder that stays, sockets in one that goes.
#[derive(Debug)]
pub struct Run {
    logs: PathBuf,
    sockets: tempfile::TempDir,
}

impl Run {
    /// An empty folder for `scenario`'s logs below `base`; what an earlier run left there is removed.
    ///
    /// # Errors
    /// When the folders can't be made.
    pub fn new(base: &Path, scenario: &str) -> Result<Self, GuestError> {
        let logs = base.join(scenario);
        let failed = GuestError::file("make the folder", &logs);
        if logs.exists() {
            std::fs::remove_dir_all(&logs).map_err(&failed)?;
        }
        std::fs::create_dir_all(&logs).map_err(&failed)?;
        // A socket's path has at most 107 bytes, so it doesn't go below the target folder.
        let sockets = tempfile::Builder::new().prefix("opx-guest-").tempdir();
        let sockets = sockets.map_err(GuestError::file("make a folder in", &std::env::temp_dir()))?;
        Ok(Self { logs, sockets })
    }

    /// Where the console and the other logs are.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The path of a socket of this run.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.sockets.path().join(name)
    }
}

//! Where adapters are looked for, and what is found there: sysfs, and folders with sockets of emulated adapters.

use clap::Args;
use opx_hw::discover::{self, DEVICES, Found, SYSFS, VENDOR};
use opx_hw::vfio_user::{Limits, OpenError, VfioUserBus};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Sockets that are looked at, at most: anyone may fill a folder.
const MOST_SOCKETS: usize = 64;
/// How long a server may take to show that it is one. A busy one is told from a dead one by its silence.
const LIMITS: Limits = Limits { connect: Duration::from_millis(500), request: Duration::from_millis(500) };

/// Where to look; elsewhere in tests.
#[derive(Debug, Args)]
pub struct Places {
    /// Where sysfs is.
    #[arg(long, global = true, hide = true, value_name = "DIR", default_value = SYSFS)]
    sysfs: PathBuf,

    /// Where runtime files of the system are.
    #[arg(long, global = true, hide = true, value_name = "DIR", default_value = "/run")]
    run: PathBuf,
}

impl Places {
    /// The adapters that sysfs shows.
    pub fn pci(&self) -> Vec<Found> {
        discover::scan(&self.sysfs)
    }

    /// Folders in which sockets of emulated adapters are expected.
    fn socket_dirs(&self) -> Vec<PathBuf> {
        // The standard for XDG_RUNTIME_DIR says to ignore paths that aren't absolute.
        let user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
        user.into_iter().chain([self.run.clone()]).map(|dir| dir.join("opx")).collect()
    }

    /// The sockets in those folders.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let mut sockets: Vec<PathBuf> = self.socket_dirs().iter().flat_map(|dir| sockets_in(dir)).collect();
        sockets.sort();
        sockets.dedup();
        sockets.truncate(MOST_SOCKETS);
        sockets
    }

    /// What was looked for and where, for the message that nothing was found.
    pub fn looked(&self) -> String {
        let [discrete, integrated] = DEVICES;
        let devices = self.sysfs.join("bus/pci/devices");
        let dirs = self.socket_dirs().iter().map(|dir| dir.join("*.sock").display().to_string()).collect::<Vec<_>>();
        format!(
            "looked for PCI functions {VENDOR:04x}:{discrete:04x} and {VENDOR:04x}:{integrated:04x} in {}, and for vfio-user sockets {}",
            devices.display(),
            dirs.join(", ")
        )
    }
}

fn sockets_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        .filter(|path| fs::metadata(path).is_ok_and(|file| file.file_type().is_socket()))
        .collect()
}

/// Connects to each socket, all at once, and hangs up again: the PCI vendor and device id, or what is wrong with it.
pub fn check_sockets(sockets: &[PathBuf]) -> Vec<Result<(u16, u16), OpenError>> {
    std::thread::scope(|scope| {
        let start = |path| std::thread::Builder::new().spawn_scoped(scope, move || check(path)).ok();
        // Collected so that all run before the first is waited for.
        let checks: Vec<_> = sockets.iter().map(|path| (path, start(path))).collect();
        checks
            .into_iter()
            .map(|(path, thread)| match thread {
                Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // The system has no thread left for it.
                None => check(path),
            })
            .collect()
    })
}

fn check(path: &Path) -> Result<(u16, u16), OpenError> {
    use opx_bus::PciFunction as _;
    let bus = VfioUserBus::open_with(path, LIMITS)?;
    let mut ids = [0; 4];
    bus.config_read(0, &mut ids)?;
    let [a, b, c, d] = ids;
    Ok((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])))
}

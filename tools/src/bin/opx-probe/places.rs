//! Where adapters are looked for, and what is found there: sysfs, and folders with sockets of emulated adapters.

use clap::Args;
use opx_defs::csr;
use opx_defs::units::Guid;
use opx_hw::discover::{self, DEVICES, Found, SYSFS, VENDOR};
use opx_hw::pci_address::PciAddress;
use opx_hw::vfio::Roots;
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

    /// Where device files are.
    #[arg(long, global = true, hide = true, value_name = "DIR", default_value = "/dev")]
    dev: PathBuf,

    /// Where processes are.
    #[arg(long, global = true, hide = true, value_name = "DIR", default_value = "/proc")]
    proc: PathBuf,
}

/// What an adapter behind a socket says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// PCI vendor and device id.
    pub ids: (u16, u16),
    /// GUID and logical link state; none while its link side is held in reset.
    pub port: Option<(Guid, u64)>,
}

impl Places {
    /// Where the kernel shows itself.
    pub fn roots(&self) -> Roots {
        Roots { sysfs: self.sysfs.clone(), dev: self.dev.clone(), proc: self.proc.clone() }
    }

    /// A file of a PCI function in sysfs, without blanks around it.
    pub fn function_text(&self, address: PciAddress, file: &str) -> Option<String> {
        let path = self.sysfs.join("bus/pci/devices").join(address.to_string()).join(file);
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    }

    /// Names in a folder of a PCI function.
    pub fn function_names(&self, address: PciAddress, folder: &str) -> Vec<String> {
        let path = self.sysfs.join("bus/pci/devices").join(address.to_string()).join(folder);
        let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

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

/// Connects to each socket, all at once, and hangs up again: what it says, or what is wrong with it.
pub fn check_sockets(sockets: &[PathBuf]) -> Vec<Result<Served, OpenError>> {
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

fn check(path: &Path) -> Result<Served, OpenError> {
    use opx_bus::PciFunction as _;
    let bus = VfioUserBus::open_with(path, LIMITS)?;
    let mut ids = [0; 4];
    bus.config_read(0, &mut ids)?;
    let [a, b, c, d] = ids;
    let in_reset = csr::CCE_DC_CTRL::DC_RESET.is_set(bus.read64(csr::CCE_DC_CTRL.off()));
    let port = (!in_reset).then(|| {
        let config = bus.read64(csr::DCC_CFG_PORT_CONFIG.off());
        let guid = Guid(bus.read64(csr::DC_DC8051_CFG_LOCAL_GUID.off()));
        (guid, csr::DCC_CFG_PORT_CONFIG::LINK_STATE.get(config))
    });
    Ok(Served { ids: (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])), port })
}

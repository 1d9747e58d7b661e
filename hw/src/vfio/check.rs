//! Looks in sysfs whether VFIO can open a function, before VFIO is touched: its own errors are numbers.

use super::error::OpenError;
use crate::discover::{SYSFS, function_dir, hex16, is_hfi1, link_name, scan};
use crate::pci_address::PciAddress;
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel shows itself; other places in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// sysfs.
    pub sysfs: PathBuf,
    /// Device files.
    pub dev: PathBuf,
    /// Processes.
    pub proc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sysfs: SYSFS.into(), dev: "/dev".into(), proc: "/proc".into() }
    }
}

/// A function that VFIO should be able to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    /// Its folder in sysfs.
    pub dir: PathBuf,
    /// Its IOMMU group.
    pub group: u32,
}

/// Drivers that may hold other functions of a group: VFIO's, and those that never start DMA of their own.
const HARMLESS: [&str; 3] = ["vfio-pci", "pci-stub", "pcieport"];

impl Roots {
    /// Checks everything that sysfs and /dev can tell about `address`.
    pub(super) fn check(&self, address: PciAddress) -> Result<Ready, OpenError> {
        let dir = function_dir(&self.sysfs, address);
        let adapters = || scan(&self.sysfs).iter().map(|found| found.address).collect();
        if !dir.is_dir() {
            return Err(OpenError::NotFound { address, looked_at: dir, adapters: adapters() });
        }
        let id = hex16(&dir, "vendor").zip(hex16(&dir, "device"));
        if !id.is_some_and(|(vendor, device)| is_hfi1(vendor, device)) {
            return Err(OpenError::NotHfi1 { address, id, adapters: adapters() });
        }
        // Before the driver: without an IOMMU, binding vfio-pci fails with an error that doesn't say why.
        let group = link_name(&dir, "iommu_group").and_then(|name| name.parse().ok());
        let group = group.ok_or(OpenError::NoIommuGroup { address })?;
        let driver = link_name(&dir, "driver");
        if driver.as_deref() != Some("vfio-pci") {
            return Err(OpenError::Driver { address, driver });
        }
        let mates = self.mates(address);
        if !mates.is_empty() {
            return Err(OpenError::GroupNotViable { address, group, mates });
        }
        for file in [self.container_file(), self.group_file(group)] {
            if !file.exists() {
                return Err(OpenError::NoDeviceFile { address, file });
            }
        }
        Ok(Ready { dir, group })
    }

    /// The other functions of a function's IOMMU group whose drivers keep VFIO from opening it, with those drivers.
    pub fn mates(&self, address: PciAddress) -> Vec<(PciAddress, String)> {
        let dir = function_dir(&self.sysfs, address);
        let Ok(entries) = fs::read_dir(dir.join("iommu_group/devices")) else { return Vec::new() };
        let mut mates: Vec<_> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|mate| *mate != address)
            .filter_map(|mate| Some((mate, link_name(&function_dir(&self.sysfs, mate), "driver")?)))
            .filter(|(_, driver)| !HARMLESS.contains(&driver.as_str()))
            .collect();
        mates.sort();
        mates
    }

    fn container_file(&self) -> PathBuf {
        self.dev.join("vfio/vfio")
    }

    fn group_file(&self, group: u32) -> PathBuf {
        self.dev.join(format!("vfio/{group}"))
    }

    /// What it means that the group's file can't be opened.
    pub(super) fn group_error(&self, address: PciAddress, group: u32, source: io::Error) -> OpenError {
        let file = self.group_file(group);
        match Errno::from_io_error(&source) {
            Some(Errno::BUSY) => OpenError::Busy { address, group, holder: self.holder(&file) },
            _ => file_error(address, file, source),
        }
    }

    /// What it means that the container's file can't be opened.
    pub(super) fn container_error(&self, address: PciAddress, source: io::Error) -> OpenError {
        file_error(address, self.container_file(), source)
    }

    /// The process that has a device file open, as far as this user may see: its id and name.
    pub fn holder(&self, file: &Path) -> Option<(u32, String)> {
        fs::read_dir(&self.proc).ok()?.flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let fds = fs::read_dir(entry.path().join("fd")).ok()?;
            let holds = fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == file));
            holds.then(|| (pid, name(&entry.path())))
        })
    }
}

/// The name of a process, whose folder in proc this is, for a message: any user names a process as they like.
fn name(process: &Path) -> String {
    let name = fs::read(process.join("comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim().escape_debug().to_string()
}

fn file_error(address: PciAddress, file: PathBuf, source: io::Error) -> OpenError {
    match Errno::from_io_error(&source) {
        Some(Errno::ACCESS | Errno::PERM) => OpenError::Permission { address, file },
        Some(Errno::NOENT) => OpenError::NoDeviceFile { address, file },
        _ => OpenError::DeviceFile { address, file, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::tests::Tree;
    use std::os::unix::fs::symlink;

    const HFI1: (&str, &str) = ("0x8086", "0x24f0");

    fn roots(tree: &Tree) -> Roots {
        Roots { sysfs: tree.path().into(), dev: tree.path().join("dev"), proc: tree.path().join("proc") }
    }

    /// A tree with one adapter that is ready to be opened.
    fn ready() -> Tree {
        let tree = Tree::new();
        tree.function("0000:af:00.0", HFI1, Some("vfio-pci"), Some(17));
        fs::create_dir_all(tree.path().join("dev/vfio")).unwrap();
        fs::write(tree.path().join("dev/vfio/vfio"), "").unwrap();
        fs::write(tree.path().join("dev/vfio/17"), "").unwrap();
        tree
    }

    fn address(text: &str) -> PciAddress {
        text.parse().unwrap()
    }

    fn refusal(tree: &Tree, at: &str) -> String {
        let text = roots(tree).check(address(at)).unwrap_err().to_string();
        assert!(!text.contains('\n'), "{text}");
        assert!(text.starts_with(&address(at).to_string()), "{text}");
        text
    }

    #[test]
    fn a_process_cant_break_a_message_by_its_name() {
        let tree = ready();
        let (file, process) = (tree.path().join("dev/vfio/17"), tree.path().join("proc/12"));
        fs::create_dir_all(process.join("fd")).unwrap();
        symlink(&file, process.join("fd/3")).unwrap();
        fs::write(process.join("comm"), b"a\x1b[2J\nb\xff\n").unwrap();
        assert_eq!(roots(&tree).holder(&file), Some((12, "a\\u{1b}[2J\\nb\u{fffd}".to_owned())));
    }

    #[test]
    fn a_ready_function_passes() {
        let tree = ready();
        let checked = roots(&tree).check(address("af:00.0")).unwrap();
        assert_eq!(checked, Ready { dir: tree.path().join("bus/pci/devices/0000:af:00.0"), group: 17 });
    }

    #[test]
    fn a_missing_function_is_named_with_what_there_is() {
        let text = refusal(&ready(), "12:00.0");
        assert!(text.contains("bus/pci/devices/0000:12:00.0 doesn't exist"), "{text}");
        assert!(text.ends_with("HFI1 adapters of this machine: 0000:af:00.0"), "{text}");
        assert!(refusal(&Tree::new(), "12:00.0").ends_with("machine: none"));
    }

    #[test]
    fn another_device_is_refused_by_its_ids() {
        let tree = ready();
        tree.function("0000:00:1f.0", ("0x8086", "0x1234"), Some("vfio-pci"), Some(3));
        let text = refusal(&tree, "00:1f.0");
        assert!(text.contains("8086:1234 is not an HFI1"), "{text}");
        tree.function("0000:00:1e.0", ("?", ""), None, None);
        assert!(refusal(&tree, "00:1e.0").contains("unreadable ids"));
    }

    #[test]
    fn the_wrong_driver_is_named_with_the_cure() {
        let tree = ready();
        tree.function("0000:b0:00.0", HFI1, Some("hfi1"), Some(18));
        tree.function("0000:b1:00.0", HFI1, None, Some(19));
        let text = refusal(&tree, "b0:00.0");
        assert!(text.contains("bound to driver hfi1") && text.contains("sudo opx-probe bind 0000:b0:00.0"), "{text}");
        assert!(refusal(&tree, "b1:00.0").contains("bound to no driver"));
    }

    #[test]
    fn no_iommu_is_told_before_the_driver() {
        let tree = ready();
        tree.function("0000:b0:00.0", HFI1, Some("hfi1"), None);
        assert!(refusal(&tree, "b0:00.0").contains("enable the IOMMU"));
    }

    #[test]
    fn mates_that_are_in_the_way_are_named() {
        let tree = ready();
        tree.function("0000:ae:00.0", ("0x8086", "0x2030"), Some("pcieport"), Some(17));
        tree.function("0000:af:00.1", ("0x8086", "0x0001"), None, Some(17));
        assert!(roots(&tree).check(address("af:00.0")).is_ok());
        tree.function("0000:af:00.3", ("0x8086", "0x0001"), Some("nvme"), Some(17));
        tree.function("0000:af:00.2", ("0x8086", "0x0001"), Some("e1000e"), Some(17));
        let text = refusal(&tree, "af:00.0");
        assert!(
            text.contains("group 17 is shared with 0000:af:00.2 (driver e1000e), 0000:af:00.3 (driver nvme);"),
            "{text}"
        );
    }

    #[test]
    fn missing_device_files_are_named() {
        let tree = ready();
        fs::remove_file(tree.path().join("dev/vfio/17")).unwrap();
        assert!(refusal(&tree, "af:00.0").contains("dev/vfio/17 doesn't exist"));
        fs::remove_file(tree.path().join("dev/vfio/vfio")).unwrap();
        assert!(refusal(&tree, "af:00.0").contains("dev/vfio/vfio doesn't exist"));
    }

    #[test]
    fn a_group_that_cant_be_opened_is_explained() {
        let tree = ready();
        let roots = roots(&tree);
        let explain = |errno: Errno| roots.group_error(address("af:00.0"), 17, errno.into()).to_string();
        assert!(explain(Errno::ACCESS).contains("chown $USER"));
        assert!(explain(Errno::NOENT).contains("modprobe vfio-pci"));
        assert!(explain(Errno::IO).contains("dev/vfio/17: "));
        assert!(explain(Errno::BUSY).contains("in use by another process"));
        let fds = tree.path().join("proc/4711/fd");
        fs::create_dir_all(&fds).unwrap();
        fs::create_dir_all(tree.path().join("proc/self")).unwrap();
        fs::write(tree.path().join("proc/4711/comm"), "opx-loopback\n").unwrap();
        symlink("/dev/null", fds.join("0")).unwrap();
        assert!(explain(Errno::BUSY).contains("in use by another process"));
        symlink(tree.path().join("dev/vfio/17"), fds.join("1")).unwrap();
        assert!(explain(Errno::BUSY).contains("in use by process 4711 (opx-loopback)"));
        assert!(roots.container_error(address("af:00.0"), Errno::ACCESS.into()).to_string().contains("dev/vfio/vfio"));
    }
}

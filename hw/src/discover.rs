//! Which HFI1 adapters this machine has, as sysfs tells it; nothing is opened and nothing is changed.

use crate::pci_address::PciAddress;
use std::fs;
use std::path::{Path, PathBuf};

/// Where sysfs is on a running system.
pub const SYSFS: &str = "/sys";
/// PCI vendor id of Intel.
pub const VENDOR: u16 = 0x8086;
/// PCI device ids of the HFI1: discrete, and integrated in the processor package (`hfi1 init.c:hfi1_pci_tbl`).
pub const DEVICES: [u16; 2] = [0x24f0, 0x24f1];

/// One adapter as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it sits.
    pub address: PciAddress,
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// Subsystem vendor and device id, where sysfs has them.
    pub subsystem: Option<(u16, u16)>,
    /// The kernel driver that is bound, if any.
    pub driver: Option<String>,
    /// The IOMMU group, if there is an IOMMU.
    pub iommu_group: Option<u32>,
    /// The NUMA node it hangs on, where that is known.
    pub numa_node: Option<u32>,
    /// Bytes of BAR 0, where sysfs has them.
    pub bar0_len: Option<u64>,
}

/// Whether the ids are those of an HFI1.
pub fn is_hfi1(vendor: u16, device: u16) -> bool {
    vendor == VENDOR && DEVICES.contains(&device)
}

/// Finds the HFI1 adapters, in the order of their addresses. `sysfs` is [`SYSFS`], or a copy of such a tree.
///
/// What can't be read or makes no sense is left out: a tree without PCI has no adapters.
pub fn scan(sysfs: &Path) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(sysfs.join("bus/pci/devices")) else { return Vec::new() };
    let mut found: Vec<Found> = entries
        .flatten()
        .filter_map(|entry| {
            let address: PciAddress = entry.file_name().to_str()?.parse().ok()?;
            let vendor = hex16(&entry.path(), "vendor")?;
            let device = hex16(&entry.path(), "device")?;
            is_hfi1(vendor, device).then(|| look(sysfs, address, vendor, device))
        })
        .collect();
    found.sort_by_key(|found| found.address);
    found
}

/// Where a function's files are.
pub(crate) fn function_dir(sysfs: &Path, address: PciAddress) -> PathBuf {
    sysfs.join("bus/pci/devices").join(address.to_string())
}

/// Reads a 16-bit id such as `0x8086`.
pub(crate) fn hex16(dir: &Path, file: &str) -> Option<u16> {
    u16::from_str_radix(fs::read_to_string(dir.join(file)).ok()?.trim().strip_prefix("0x")?, 16).ok()
}

/// The last part of a symbolic link: the name of the driver or the number of the group.
pub(crate) fn link_name(dir: &Path, link: &str) -> Option<String> {
    Some(fs::read_link(dir.join(link)).ok()?.file_name()?.to_str()?.to_owned())
}

fn look(sysfs: &Path, address: PciAddress, vendor: u16, device: u16) -> Found {
    let dir = function_dir(sysfs, address);
    let number = |file: &str| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u32>().ok();
    Found {
        address,
        vendor,
        device,
        subsystem: hex16(&dir, "subsystem_vendor").zip(hex16(&dir, "subsystem_device")),
        driver: link_name(&dir, "driver"),
        iommu_group: link_name(&dir, "iommu_group").and_then(|name| name.parse().ok()),
        // The kernel writes -1 when it doesn't know.
        numa_node: number("numa_node"),
        bar0_len: bar0_len(&dir),
    }
}

/// The first line of `resource` holds BAR 0's first byte, last byte and flags.
fn bar0_len(dir: &Path) -> Option<u64> {
    let text = fs::read_to_string(dir.join("resource")).ok()?;
    let mut words = text.lines().next()?.split_whitespace();
    let mut next = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (start, end) = (next()?, next()?);
    // An unassigned BAR is all zeros.
    if end == 0 { None } else { end.checked_sub(start)?.checked_add(1) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A made-up sysfs tree.
    pub(crate) struct Tree(pub(crate) TempDir);

    impl Tree {
        pub(crate) fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("bus/pci/devices")).unwrap();
            Self(dir)
        }

        pub(crate) fn path(&self) -> &Path {
            self.0.path()
        }

        /// Adds a function with files, and links for driver and group.
        pub(crate) fn function(&self, address: &str, ids: (&str, &str), driver: Option<&str>, group: Option<u32>) {
            let dir = self.path().join("bus/pci/devices").join(address);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("vendor"), format!("{}\n", ids.0)).unwrap();
            fs::write(dir.join("device"), format!("{}\n", ids.1)).unwrap();
            if let Some(driver) = driver {
                symlink(format!("../../../bus/pci/drivers/{driver}"), dir.join("driver")).unwrap();
            }
            if let Some(group) = group {
                let members = self.path().join(format!("kernel/iommu_groups/{group}/devices"));
                fs::create_dir_all(&members).unwrap();
                symlink(&dir, members.join(address)).unwrap();
                symlink(self.path().join(format!("kernel/iommu_groups/{group}")), dir.join("iommu_group")).unwrap();
            }
        }

        pub(crate) fn file(&self, address: &str, name: &str, text: &str) {
            fs::write(self.path().join("bus/pci/devices").join(address).join(name), text).unwrap();
        }
    }

    #[test]
    fn adapters_are_found_and_others_are_not() {
        let tree = Tree::new();
        tree.function("0000:d8:00.0", ("0x8086", "0x24f1"), None, None);
        tree.function("0000:af:00.0", ("0x8086", "0x24f0"), Some("vfio-pci"), Some(17));
        tree.function("0000:00:1f.0", ("0x8086", "0x1234"), Some("lpc_ich"), Some(3));
        tree.function("0000:01:00.0", ("0x15b3", "0x24f0"), None, None);
        tree.file("0000:af:00.0", "numa_node", "1\n");
        tree.file("0000:d8:00.0", "numa_node", "-1\n");
        tree.file(
            "0000:af:00.0",
            "resource",
            "0x00000000f8000000 0x00000000fbffffff 0x000000000014220c\n0x0 0x0 0x0\n",
        );
        tree.file("0000:af:00.0", "subsystem_vendor", "0x8086\n");
        tree.file("0000:af:00.0", "subsystem_device", "0x2628\n");
        let found = scan(tree.path());
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            Found {
                address: "af:00.0".parse().unwrap(),
                vendor: 0x8086,
                device: 0x24f0,
                subsystem: Some((0x8086, 0x2628)),
                driver: Some("vfio-pci".into()),
                iommu_group: Some(17),
                numa_node: Some(1),
                bar0_len: Some(64 << 20),
            }
        );
        assert_eq!((found[1].device, found[1].numa_node, found[1].driver.clone()), (0x24f1, None, None));
    }

    #[test]
    fn odd_contents_are_left_out() {
        let tree = Tree::new();
        for (address, vendor, device) in [
            ("not-an-address", "0x8086", "0x24f0"),
            ("0000:01:00.0", "", ""),
            ("0000:02:00.0", "8086", "24f0"),
            ("0000:03:00.0", "0x8086", "0x24f0ffff"),
        ] {
            tree.function(address, (vendor, device), None, None);
        }
        fs::write(tree.path().join("bus/pci/devices/0000:04:00.0"), "a file, not a folder").unwrap();
        tree.function("0000:05:00.0", ("0x8086", "0x24f0"), None, None);
        fs::write(tree.path().join("bus/pci/devices/0000:05:00.0/vendor"), [0xff, 0xfe]).unwrap();
        assert_eq!(scan(tree.path()), []);
        for resource in ["", "\n", "0x5", "0x5 0x1 0x0", "x y z", "0x0 0x0 0x0", "0x0 0xffffffffffffffff 0x0"] {
            tree.function("0000:06:00.0", ("0x8086", "0x24f0"), None, None);
            tree.file("0000:06:00.0", "resource", resource);
            tree.file("0000:06:00.0", "numa_node", "seven");
            let found = scan(tree.path());
            assert_eq!(
                found.iter().map(|f| (f.bar0_len, f.numa_node)).collect::<Vec<_>>(),
                [(None, None)],
                "{resource}"
            );
        }
    }

    #[test]
    fn no_sysfs_has_no_adapters() {
        assert_eq!(scan(Path::new("/nonexistent")), []);
    }
}

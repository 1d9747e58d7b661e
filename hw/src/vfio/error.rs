//! Why an adapter of this machine can't be opened through VFIO.

use crate::pci_address::{AddressError, PciAddress};
use opx_bus::BusError;
use std::io;
use std::path::PathBuf;
use vfio_ioctls::VfioError;

/// An adapter that can't be had. Every message names the function and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address makes no sense.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no such function.
    #[error("{address}: no such PCI function ({} doesn't exist); HFI1 adapters of this machine: {}", looked_at.display(), list(adapters))]
    NotFound {
        /// The function.
        address: PciAddress,
        /// Where its files should be.
        looked_at: PathBuf,
        /// The adapters that there are.
        adapters: Vec<PciAddress>,
    },
    /// The function isn't an HFI1.
    #[error("{address}: PCI function {} is not an HFI1 (8086:24f0 or 8086:24f1); HFI1 adapters of this machine: {}", ids(*id), list(adapters))]
    NotHfi1 {
        /// The function.
        address: PciAddress,
        /// Vendor and device id, where they can be read.
        id: Option<(u16, u16)>,
        /// The adapters that there are.
        adapters: Vec<PciAddress>,
    },
    /// There is no IOMMU for it.
    #[error(
        "{address}: no IOMMU group, so VFIO can't confine its DMA; enable the IOMMU (VT-d or AMD-Vi in the firmware, intel_iommu=on on the kernel's command line)"
    )]
    NoIommuGroup {
        /// The function.
        address: PciAddress,
    },
    /// Another driver, or none, is bound.
    #[error("{address}: bound to {}, not to vfio-pci; bind it: sudo opx-probe bind {address}", driver.as_deref().map_or("no driver".to_owned(), |d| format!("driver {d}")))]
    Driver {
        /// The function.
        address: PciAddress,
        /// The driver, if there is one.
        driver: Option<String>,
    },
    /// Others in the group are in use by the kernel.
    #[error("{address}: IOMMU group {group} is shared with {}; unbind these functions or bind them to vfio-pci", mates.iter().map(|(a, d)| format!("{a} (driver {d})")).collect::<Vec<_>>().join(", "))]
    GroupNotViable {
        /// The function.
        address: PciAddress,
        /// Its group.
        group: u32,
        /// The others that are in the way, and their drivers.
        mates: Vec<(PciAddress, String)>,
    },
    /// A device file isn't there.
    #[error("{address}: {} doesn't exist; load the driver: modprobe vfio-pci", file.display())]
    NoDeviceFile {
        /// The function.
        address: PciAddress,
        /// The file.
        file: PathBuf,
    },
    /// A device file may not be opened.
    #[error("{address}: no permission to open {} for reading and writing; give it to this user: chown $USER {}", file.display(), file.display())]
    Permission {
        /// The function.
        address: PciAddress,
        /// The file.
        file: PathBuf,
    },
    /// Another process has the group.
    #[error("{address}: IOMMU group {group} is in use by {}; end that first", holder.as_ref().map_or("another process".to_owned(), |(pid, name)| format!("process {pid} ({name})")))]
    Busy {
        /// The function.
        address: PciAddress,
        /// Its group.
        group: u32,
        /// Process id and name, where /proc shows them.
        holder: Option<(u32, String)>,
    },
    /// A device file can't be opened for another reason.
    #[error("{address}: can't open {}: {source}", file.display())]
    DeviceFile {
        /// The function.
        address: PciAddress,
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// VFIO refused.
    #[error("{address}: VFIO: {source}; see the kernel's log (dmesg) for the reason")]
    Vfio {
        /// The function.
        address: PciAddress,
        /// The cause.
        source: VfioError,
    },
    /// A region has the wrong length.
    #[error(
        "{address}: {region} has {len:#x} bytes, an HFI1 has {expected}; the firmware gave it no room, or the device is broken"
    )]
    RegionLength {
        /// The function.
        address: PciAddress,
        /// "BAR 0" or "config space".
        region: &'static str,
        /// Bytes it has.
        len: u64,
        /// What it should be.
        expected: &'static str,
    },
    /// BAR 0 can't be mapped.
    #[error("{address}: can't map BAR 0 ({len:#x} bytes): {source}")]
    Map {
        /// The function.
        address: PciAddress,
        /// Bytes.
        len: u64,
        /// The cause.
        source: io::Error,
    },
    /// The first accesses failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

fn list(adapters: &[PciAddress]) -> String {
    if adapters.is_empty() {
        return "none".to_owned();
    }
    adapters.iter().map(PciAddress::to_string).collect::<Vec<_>>().join(", ")
}

fn ids(id: Option<(u16, u16)>) -> String {
    id.map_or("with unreadable ids".to_owned(), |(vendor, device)| format!("{vendor:04x}:{device:04x}"))
}

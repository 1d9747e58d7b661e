//! Whether the kernel has VFIO: vfio-pci, its IOMMU back end, and not the mode without an IOMMU.

use crate::doctor::finding::Findings;
use crate::doctor::node::Node;

/// Endings of a module's file.
const ENDINGS: [&str; 4] = ["ko", "ko.xz", "ko.zst", "ko.gz"];

/// Whether a module's file is there, or the module is built in.
pub fn has_module(node: &Node<'_>, folder: &str, name: &str) -> bool {
    let release = node.facts.text("proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = format!("lib/modules/{release}");
    let built_in = node.facts.text(&format!("{modules}/modules.builtin")).unwrap_or_default();
    ENDINGS.iter().any(|ending| node.facts.exists(&format!("{modules}/kernel/drivers/{folder}/{name}.{ending}")))
        || built_in.lines().any(|line| line.ends_with(&format!("/{name}.ko")))
}

/// Checks it.
pub fn check(node: &Node<'_>, found: &mut Findings) {
    if node.facts.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode").as_deref() == Some("Y") {
        found.bad(
            "no-iommu-mode",
            "VFIO runs without an IOMMU: a device may write anywhere in memory, and pages may move under it",
            "echo N | sudo tee /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, take the option out of /etc/modprobe.d, and switch the IOMMU on",
        );
    }
    if !node.facts.exists("sys/bus/pci/drivers/vfio-pci") {
        if has_module(node, "vfio/pci", "vfio-pci") {
            found.bad("vfio-pci-not-loaded", "the driver vfio-pci isn't loaded", "sudo modprobe vfio-pci");
        } else {
            found.bad(
                "vfio-pci-missing",
                "this kernel has no driver vfio-pci",
                "install the package with the rest of the kernel's modules (linux-modules-extra), or a kernel with CONFIG_VFIO_PCI=m",
            );
        }
    } else if !node.facts.exists("sys/module/vfio_iommu_type1") {
        found.bad(
            "vfio-type1-not-loaded",
            "vfio-pci is loaded, but not the part of VFIO that maps memory",
            "sudo modprobe vfio_iommu_type1",
        );
    }
    if !found.has_trouble() {
        found.ok("vfio-pci and its IOMMU back end are loaded");
    }
}

//! What the kernel's log says of the adapters.

use crate::doctor::finding::Findings;
use crate::doctor::node::Node;

/// Checks it.
pub fn check(node: &Node<'_>, found: &mut Findings) {
    let Some(log) = node.facts.log() else {
        return found.unknown(
            "this user may not read the kernel's log, which would tell of RMRR, DMA faults and failed probes",
            "run it with sudo, or: sudo sysctl kernel.dmesg_restrict=0",
        );
    };
    for adapter in &node.adapters {
        let found = found.about(&adapter.address);
        let short = adapter.address.strip_prefix("0000:").unwrap_or(&adapter.address);
        let last =
            |wanted: &dyn Fn(&str) -> bool| log.iter().rev().find(|line| line.contains(short) && wanted(line.as_str()));
        // iommu.c:__iommu_take_dma_ownership's wording since 6.6, and intel/iommu.c's before.
        let demanded = |line: &str| line.contains("1:1 mapping") || line.contains("platform RMRR");
        if let Some(line) = last(&demanded) {
            found.bad(
                "rmrr",
                format!("the firmware keeps memory mapped for it (RMRR), so the kernel gives it to nobody: {line}"),
                "ask the node's maker for a BIOS without it; HPE: switch off \"shared memory features\" of the slot (conrep, hprmrr)",
            );
        }
        let fault = |line: &str| {
            line.contains("fault addr") && line.contains("DMAR")
                || line.contains("AMD-Vi") && line.contains("IO_PAGE_FAULT")
        };
        if let Some(line) = last(&fault) {
            found.warn(
                "dma-faults",
                format!("the IOMMU stopped an access of it: {line}"),
                "a process ended while the adapter was at work, or a driver is wrong; if it goes on, send the maintainers this log",
            );
        }
        if let Some(line) = last(&|line: &str| line.contains("Critical temperature reached")) {
            found.bad(
                "too-hot",
                format!("it stopped because it was too hot: {line}"),
                "see to fans and air flow; then reset it by a reboot",
            );
        }
        let failed = |line: &str| line.contains("hfi1") && line.contains("probe") && line.contains("failed with error");
        if let Some(line) = last(&failed) {
            found.warn(
                "hfi1-failed",
                format!("Linux's driver couldn't start it: {line}"),
                "see the lines before this one in the kernel's log",
            );
        }
    }
    if !found.has_trouble() {
        found.ok("nothing is said against the adapters");
    }
}

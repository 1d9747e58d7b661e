//! Whether there is an adapter, answers, and has its place in the address space.

use crate::doctor::finding::Findings;
use crate::doctor::node::Node;

/// Checks it.
pub fn check(node: &Node<'_>, found: &mut Findings) {
    if node.adapters.is_empty() {
        found.bad(
            "no-adapter",
            "no HFI1 (8086:24f0, 8086:24f1) is among the PCI functions",
            "see that the adapter sits in its slot and that the slot is on in the BIOS; then cold-boot, or: echo 1 | sudo tee /sys/bus/pci/rescan",
        );
    }
    for adapter in &node.adapters {
        let found = found.about(&adapter.address);
        let config = node.facts.bytes(&adapter.file("config")).unwrap_or_default();
        if config.len() >= 4 && config.iter().take(64).all(|byte| *byte == 0xff) {
            found.bad(
                "adapter-gone",
                "it doesn't answer: config space reads as all ones",
                format!(
                    "cold-boot the node; without one: echo 1 | sudo tee /sys/bus/pci/devices/{}/remove /sys/bus/pci/rescan",
                    adapter.address
                ),
            );
            continue;
        }
        let resource = node.facts.text(&adapter.file("resource")).unwrap_or_default();
        let mut words = resource.lines().next().unwrap_or_default().split_whitespace();
        let mut next = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        match next().zip(next()) {
            Some((start, end)) if start == 0 || end <= start => found.bad(
                "bar-not-assigned",
                "its registers (BAR 0, 64 MiB) have no addresses: the firmware found no room for them",
                "switch on \"Above 4G decoding\" (\"MMIO above 4 GB\") in the BIOS, or boot with pci=realloc",
            ),
            Some(_) => found.ok(format!("{}, with registers in place", adapter.ids)),
            None => found.unknown(format!("{}; where its registers are can't be read", adapter.ids), "see lspci -v"),
        }
    }
}

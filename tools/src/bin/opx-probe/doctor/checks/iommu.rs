//! Whether the IOMMU is on, and what it makes of the adapter: its group, its interrupts, what the firmware demands.

use crate::doctor::finding::Findings;
use crate::doctor::node::{Adapter, Node, function_file};

/// How a word gets onto the kernel's command line.
const HOW: &str = "in GRUB_CMDLINE_LINUX of /etc/default/grub; then update-grub (or grub2-mkconfig), and reboot";
/// Drivers that may hold other functions of a group: VFIO's, and those that start no DMA of their own.
const HARMLESS: [&str; 3] = ["vfio-pci", "pci-stub", "pcieport"];

fn is_on(node: &Node<'_>) -> bool {
    !node.facts.names("sys/class/iommu").is_empty() || !node.facts.names("sys/kernel/iommu_groups").is_empty()
}

/// Off in the firmware is told from off on the command line by the table that the firmware gives the kernel.
pub fn check(node: &Node<'_>, found: &mut Findings) {
    if is_on(node) {
        return found.ok("the IOMMU is on");
    }
    let table = |name: &str| node.facts.exists(&format!("sys/firmware/acpi/tables/{name}"));
    let (intel, amd) = (table("DMAR"), table("IVRS"));
    let off = [("intel_iommu", "off"), ("amd_iommu", "off"), ("iommu", "off")];
    if let Some((key, value)) = off.iter().find(|(key, value)| node.booted_with(key, value)) {
        found.bad(
            "iommu-switched-off",
            format!("the IOMMU is off: the kernel was booted with {key}={value}"),
            format!("take {key}={value} away {HOW}"),
        );
    } else if intel && !node.booted_with("intel_iommu", "on") {
        found.bad(
            "iommu-not-switched-on",
            "the IOMMU is on in the BIOS, but this kernel doesn't use it unless it is told to",
            format!("add intel_iommu=on {HOW}"),
        );
    } else if intel || amd {
        let name = if intel { "DMAR" } else { "AMD-Vi" };
        let said = node.log_lines(&[name]).last().map_or(String::new(), |line| format!(": {line}"));
        found.bad(
            "iommu-failed",
            format!("the IOMMU is on in the BIOS, but the kernel couldn't start it{said}"),
            format!("look for {name} in the kernel's log, and for a newer BIOS"),
        );
    } else if node.is_virtual() {
        found.bad(
            "no-virtual-iommu",
            "this is a virtual machine without an IOMMU",
            "give it one (QEMU: -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on,caching-mode=on)",
        );
    } else {
        found.bad(
            "iommu-off-in-firmware",
            "the IOMMU is off in the BIOS: it gives the kernel no table of one (DMAR, IVRS)",
            "switch on \"Intel VT for Directed I/O (VT-d)\", or \"IOMMU\" on AMD, in the BIOS",
        );
    }
}

/// VFIO opens a group only whole.
pub fn groups(node: &Node<'_>, found: &mut Findings) {
    if !is_on(node) {
        return;
    }
    for adapter in &node.adapters {
        let Some(group) = &adapter.group else {
            found.about(&adapter.address).bad(
                "no-iommu-group",
                "it is in no IOMMU group: the IOMMU doesn't stand before its slot",
                "put it into another slot, one that belongs to a processor; look for DMAR or AMD-Vi in the kernel's log",
            );
            continue;
        };
        one_group(node, adapter, group, found.about(&adapter.address));
    }
}

fn one_group(node: &Node<'_>, adapter: &Adapter, group: &str, found: &mut Findings) {
    let members = node.facts.names(&format!("sys/kernel/iommu_groups/{group}/devices"));
    let is_bridge =
        |mate: &str| node.facts.text(&function_file(mate, "class")).is_some_and(|class| class.starts_with("0x0604"));
    let mates: Vec<(String, Option<String>)> = members
        .into_iter()
        .filter(|mate| *mate != adapter.address && !is_bridge(mate))
        .map(|mate| (mate.clone(), node.facts.link(&function_file(&mate, "driver"))))
        .collect();
    let blocking: Vec<&(String, Option<String>)> = mates
        .iter()
        .filter(|(_, driver)| driver.as_ref().is_some_and(|driver| !HARMLESS.contains(&driver.as_str())))
        .collect();
    let describe = |(mate, driver): &(String, Option<String>)| match driver {
        Some(driver) => format!("{mate} (bound to {driver})"),
        None => format!("{mate} (bound to nothing)"),
    };
    if let Some((mate, driver)) = blocking.first() {
        let names: Vec<String> = blocking.iter().map(|mate| describe(mate)).collect();
        let driver = driver.as_deref().unwrap_or_default();
        found.bad(
            "group-not-viable",
            format!("IOMMU group {group} isn't viable: {} is in it too, and VFIO opens a group only whole", names.join(", ")),
            format!(
                "if the node can do without it: echo {mate} | sudo tee /sys/bus/pci/drivers/{driver}/unbind; else another slot, or ACS on in the BIOS, so that the adapter gets a group of its own"
            ),
        );
    } else if mates.is_empty() {
        found.ok(format!("alone in IOMMU group {group}"));
    } else {
        let names: Vec<String> = mates.iter().map(describe).collect();
        found.warn(
            "group-shared",
            format!(
                "who opens the adapter owns {} too: IOMMU group {group} has them both, for want of ACS between them",
                names.join(", ")
            ),
            "another slot, or ACS on in the BIOS, gives the adapter a group of its own",
        );
    }
}

/// VFIO refuses a device whose interrupts could be forged (`vfio_iommu_type1.c:vfio_iommu_type1_attach_group`).
pub fn interrupts(node: &Node<'_>, found: &mut Findings) {
    let allowed =
        node.facts.text("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts").as_deref() == Some("Y");
    let refused = !node.log_lines(&["No interrupt remapping support"]).is_empty()
        || node.booted_with("intremap", "off")
        || node.booted_with("iommu", "nointremap");
    if allowed {
        found.warn(
            "unsafe-interrupts",
            "VFIO is told to do without interrupt remapping: who owns a device can forge any interrupt",
            "take allow_unsafe_interrupts away from the options of vfio_iommu_type1 in /etc/modprobe.d",
        );
    } else if refused {
        found.bad(
            "no-interrupt-remapping",
            "the IOMMU doesn't remap interrupts, and VFIO refuses a device whose interrupts could be forged",
            "switch on interrupt remapping (x2APIC) in the BIOS and take intremap=off off the command line; on a machine of trusted users alone: options vfio_iommu_type1 allow_unsafe_interrupts=1 in /etc/modprobe.d/vfio.conf",
        );
    } else {
        found.ok("nothing speaks against interrupt remapping");
    }
}

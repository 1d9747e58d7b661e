//! The PCI Express link: speed, width, settings, errors.

use crate::doctor::finding::Findings;
use crate::doctor::node::{Node, function_file};

/// Id of the PCI Express capability, and registers in it.
const PCIE: u8 = 0x10;
const DEVICE_CAPABILITIES: usize = 0x04;
const DEVICE_CONTROL: usize = 0x08;
const LINK_CONTROL: usize = 0x10;
/// Bytes of config space that everyone may read; the capabilities come after them.
const PUBLIC: usize = 64;
/// Read requests shorter than this cost SDMA a part of its rate.
const LEAST_READ_REQUEST: u32 = 512;

/// The number at the start of a text such as "8.0 GT/s PCIe".
fn figure(node: &Node<'_>, address: &str, name: &str) -> Option<f64> {
    node.facts.text(&function_file(address, name))?.split_whitespace().next()?.parse().ok()
}

/// What the link was trained to, against what both of its ends can do.
pub fn link(node: &Node<'_>, found: &mut Findings) {
    for adapter in &node.adapters {
        let found = found.about(&adapter.address);
        let of = |name: &str| figure(node, &adapter.address, name);
        let port = node.facts.parent(&adapter.address);
        let of_port = |name: &str| figure(node, port.as_deref()?, name);
        let (Some(speed), Some(most), Some(width), Some(widest)) =
            (of("current_link_speed"), of("max_link_speed"), of("current_link_width"), of("max_link_width"))
        else {
            found.unknown("speed and width of the link can't be read", "see LnkSta in lspci -vv");
            continue;
        };
        let slot_most = of_port("max_link_speed").unwrap_or(most);
        let slot_widest = of_port("max_link_width").unwrap_or(widest);
        let port = port.unwrap_or_default();
        if slot_most < most {
            found.warn(
                "slot-too-slow",
                format!("the slot (port {port}) does {slot_most} GT/s at most, the adapter {most} GT/s"),
                "put the adapter into a slot of generation 3 or later, or raise the slot's speed in the BIOS",
            );
        } else if speed < most {
            found.warn(
                "pcie-speed-low",
                format!("the link runs at {speed} GT/s, both ends can do {most} GT/s"),
                "load hfi1 once after power-on: it makes the adapter's step to generation 3; else seat the adapter anew and see the slot's speed in the BIOS",
            );
        }
        if slot_widest < widest {
            found.warn(
                "slot-too-narrow",
                format!("the slot (port {port}) has {slot_widest} lanes, the adapter {widest}: 100 Gb/s need 16"),
                "put the adapter into a slot with 16 lanes, and see in the BIOS that the slot isn't split",
            );
        } else if width < widest {
            found.warn(
                "pcie-width-low",
                format!("the link came up with {width} lanes of {widest}"),
                "seat the adapter anew and clean its contacts; try another slot",
            );
        }
        if !found.has_trouble() {
            found.ok(format!("{speed} GT/s, {width} lanes"));
        }
    }
}

/// The PCI Express capability in config space.
fn capability(config: &[u8]) -> Option<usize> {
    let byte = |at: usize| config.get(at).copied();
    let mut at = usize::from(byte(0x34)? & !3);
    // A list of capabilities has no room for more; a broken one may be a ring.
    for _ in 0..48 {
        if at < PUBLIC {
            return None;
        }
        if byte(at)? == PCIE {
            return Some(at);
        }
        at = usize::from(byte(at + 1)? & !3);
    }
    None
}

fn word(config: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes([*config.get(at)?, *config.get(at + 1)?]))
}

/// Lengths of packets and power saving, from config space.
pub fn settings(node: &Node<'_>, found: &mut Findings) {
    for adapter in &node.adapters {
        let found = found.about(&adapter.address);
        let address = &adapter.address;
        let config = node.facts.bytes(&adapter.file("config")).unwrap_or_default();
        let registers = capability(&config).and_then(|at| {
            let capabilities = word(&config, at + DEVICE_CAPABILITIES)?;
            Some((capabilities, word(&config, at + DEVICE_CONTROL)?, word(&config, at + LINK_CONTROL)?))
        });
        let Some((capabilities, control, link)) = registers else {
            found.unknown("the settings are in a part of config space that only root may read", "run it with sudo");
            continue;
        };
        let supported = |config: &[u8]| Some(word(config, capability(config)? + DEVICE_CAPABILITIES)? & 7);
        let port = node.facts.parent(address).and_then(|port| node.facts.bytes(&function_file(&port, "config")));
        let most = port.and_then(|port| supported(&port)).unwrap_or(7).min(capabilities & 7);
        let payload = 128u32 << (control >> 5 & 7);
        let request = 128u32 << (control >> 12 & 7);
        if payload < 128 << most {
            found.warn(
                "max-payload-low",
                format!("packets on PCIe carry {payload} bytes, both ends can do {}", 128 << most),
                "boot with pci=pcie_bus_perf, or set Max Payload Size to Auto in the BIOS",
            );
        }
        if request < LEAST_READ_REQUEST {
            found.warn(
                "max-read-request-low",
                format!("read requests on PCIe ask for {request} bytes at most"),
                format!("sudo setpci -s {address} CAP_EXP+8.w=5000:7000 (4096 bytes)"),
            );
        }
        if link & 3 != 0 {
            found.warn(
                "aspm-on",
                "the link saves power between packets (ASPM), which each first packet waits for",
                format!("boot with pcie_aspm=off, or: sudo setpci -s {address} CAP_EXP+10.w=0:3"),
            );
        }
        if !found.has_trouble() {
            found.ok(format!("payload {payload} bytes, read requests {request} bytes, ASPM off"));
        }
    }
}

/// What the kernel counted of errors on the link.
pub fn errors(node: &Node<'_>, found: &mut Findings) {
    for adapter in &node.adapters {
        let found = found.about(&adapter.address);
        let count = |kind: &str| {
            let text = node.facts.text(&adapter.file(&format!("aer_dev_{kind}")))?;
            text.lines()
                .find_map(|line| line.strip_prefix("TOTAL_ERR_")?.split_whitespace().nth(1)?.parse::<u64>().ok())
        };
        let (corrected, other) = (count("correctable"), count("nonfatal").unwrap_or(0) + count("fatal").unwrap_or(0));
        let said = node.log_lines(&["PCIe Bus Error", &adapter.address]);
        let said = said.last().map_or(String::new(), |line| format!("; the kernel's log: {line}"));
        let mend = "seat the adapter anew, clean its contacts, try another slot; then look for newer BIOS and firmware";
        match corrected {
            _ if other > 0 => {
                found.bad("pcie-errors", format!("{other} uncorrected errors on PCIe since boot{said}"), mend)
            }
            Some(corrected) if corrected > 0 => {
                let text =
                    format!("{corrected} errors on PCIe since boot that were corrected: each costs a replay{said}");
                found.warn("pcie-corrected-errors", text, mend);
            }
            Some(_) => found.ok("no errors on PCIe since boot"),
            None => found.unknown("the kernel keeps no counts of errors on PCIe", "boot without pci=noaer"),
        }
    }
}

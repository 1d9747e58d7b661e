//! Whether the files are there that are loaded into the chip.

use crate::doctor::finding::Findings;
use crate::doctor::node::Node;

/// Without these nothing works (`hfi1 firmware.c`); hfi1_sbus.fw and hfi1_pcie.fw are for Linux's driver alone.
const FILES: [&str; 2] = ["hfi1_fabric.fw", "hfi1_dc8051.fw"];
const FOLDER: &str = "lib/firmware";

/// Checks it.
pub fn check(node: &Node<'_>, found: &mut Findings) {
    let exists = |name: &str| node.facts.exists(&format!("{FOLDER}/{name}"));
    let missing: Vec<&str> = FILES.into_iter().filter(|name| !exists(name)).collect();
    let packed = |name: &&str| ["xz", "zst"].into_iter().find(|ending| exists(&format!("{name}.{ending}")));
    let all = missing.join(", ");
    match missing.first().and_then(packed) {
        None if missing.is_empty() => found.ok(format!("{} are in /{FOLDER}", FILES.join(" and "))),
        None => found.bad(
            "firmware-missing",
            format!("{all} not found in /{FOLDER}"),
            "install firmware-intel-misc (Debian 13), firmware-misc-nonfree (Debian 12) or linux-firmware",
        ),
        Some(ending) => {
            let tool = if ending == "xz" { "xz -dk" } else { "zstd -dk" };
            let files: Vec<String> = missing.iter().map(|name| format!("/{FOLDER}/{name}.{ending}")).collect();
            let text =
                format!("{all} only compressed in /{FOLDER}: the kernel unpacks them for hfi1, nobody does here");
            found.bad("firmware-compressed", text, format!("sudo {tool} {}", files.join(" ")));
        }
    }
}

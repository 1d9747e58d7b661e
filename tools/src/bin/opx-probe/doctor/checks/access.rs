//! Whether this user may open the adapter's files, and who has them open already.

use super::memory::MEMLOCK_BYTES;
use crate::doctor::facts::{Mode, Process};
use crate::doctor::finding::Findings;
use crate::doctor::node::Node;

/// Linux's capability to pass over files' permissions.
const CAP_DAC_OVERRIDE: u32 = 1;
/// Devices of hfi1 that are looked at, more than a node has.
const HFI1_DEVICES: u32 = 16;

/// Whether the process has a capability.
pub fn capable(node: &Node<'_>, capability: u32) -> bool {
    let set = node.status("CapEff").and_then(|text| u64::from_str_radix(&text, 16).ok());
    set.unwrap_or(0) >> capability & 1 != 0
}

/// Whether the process may read and write a file.
fn may_use(node: &Node<'_>, file: Mode) -> bool {
    // The second of the four is the effective one, by which files are judged.
    let effective = |key: &str| node.status(key)?.split_whitespace().nth(1)?.parse::<u32>().ok();
    let groups = node.status("Groups").unwrap_or_default();
    let in_group =
        effective("Gid") == Some(file.gid) || groups.split_whitespace().any(|group| group.parse() == Ok(file.gid));
    let bits = match (effective("Uid") == Some(file.uid), in_group) {
        (true, _) => file.mode >> 6,
        (false, true) => file.mode >> 3,
        (false, false) => file.mode,
    };
    bits & 6 == 6 || capable(node, CAP_DAC_OVERRIDE)
}

fn in_container(node: &Node<'_>) -> bool {
    node.facts.exists(".dockerenv") || node.facts.exists("run/.containerenv")
}

/// `/dev/vfio/vfio` and the group's file.
pub fn permission(node: &Node<'_>, found: &mut Findings) {
    for adapter in node.adapters.iter().filter(|adapter| adapter.driver.as_deref() == Some("vfio-pci")) {
        let Some(group) = &adapter.group else { continue };
        let found = found.about(&adapter.address);
        let file = format!("/dev/vfio/{group}");
        let files = ["/dev/vfio/vfio", &file].map(|file| (file.to_owned(), node.facts.mode(file)));
        if let Some((missing, _)) = files.iter().find(|(_, mode)| mode.is_none()) {
            if in_container(node) {
                found.bad(
                    "container-without-vfio",
                    format!("{missing} isn't in this container"),
                    format!(
                        "start it with --device /dev/vfio/vfio --device {file} --ulimit memlock={MEMLOCK_BYTES}:{MEMLOCK_BYTES}"
                    ),
                );
            } else {
                found.bad(
                    "no-device-file",
                    format!("{missing} doesn't exist"),
                    "sudo modprobe vfio-pci; and see that udev runs",
                );
            }
        } else if let Some((closed, mode)) =
            files.iter().find(|(_, mode)| !mode.is_some_and(|mode| may_use(node, mode)))
        {
            let mode = mode.unwrap_or(Mode { mode: 0, uid: 0, gid: 0 });
            found.bad(
                "no-permission",
                format!(
                    "this user may not read and write {closed} (mode {:04o}, owner {}, group {})",
                    mode.mode, mode.uid, mode.gid
                ),
                format!(
                    "sudo chown $USER {closed}; for good: SUBSYSTEM==\"vfio\", GROUP=\"hpc\", MODE=\"0660\" in /etc/udev/rules.d/70-opx.rules"
                ),
            );
        } else {
            found.ok(format!("this user may open {file}"));
        }
    }
}

/// A group is opened by one process at a time; hfi1's devices by several, and they lose them when it is unbound.
pub fn in_use(node: &Node<'_>, found: &mut Findings) {
    let describe = |holders: &[Process]| {
        holders
            .iter()
            .map(|process| format!("process {} ({})", process.pid, process.name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let pids = |holders: &[Process]| holders.iter().map(|p| p.pid.to_string()).collect::<Vec<_>>().join(" ");
    for adapter in &node.adapters {
        let found = found.about(&adapter.address);
        match (adapter.driver.as_deref(), &adapter.group) {
            (Some("vfio-pci"), Some(group)) => {
                let holders = node.facts.holders(&format!("/dev/vfio/{group}"));
                if holders.is_empty() {
                    found.ok("no process that this user can see has it open");
                } else {
                    let text = format!("in use by {}; one process at a time can open it", describe(&holders));
                    found.bad("busy", text, format!("end it, or wait until it ends: kill {}", pids(&holders)));
                }
            }
            (Some("hfi1"), _) => {
                let holders: Vec<Process> =
                    (0..HFI1_DEVICES).flat_map(|n| node.facts.holders(&format!("/dev/hfi1_{n}"))).collect();
                if !holders.is_empty() {
                    let text = format!("{} would lose the adapter if it were taken from hfi1", describe(&holders));
                    found.warn("in-use-through-hfi1", text, format!("end that first: kill {}", pids(&holders)));
                }
            }
            _ => {}
        }
    }
}

//! Which driver has the adapter, now and after the next boot.

use super::vfio::has_module;
use crate::doctor::finding::Findings;
use crate::doctor::node::{Adapter, Node};

/// Checks it.
pub fn check(node: &Node<'_>, found: &mut Findings) {
    for adapter in &node.adapters {
        let found = found.about(&adapter.address);
        let bind = format!("sudo opx-probe bind {}", adapter.address);
        match adapter.driver.as_deref() {
            Some("vfio-pci") if !stays(node, adapter) => found.warn(
                "hfi1-at-next-boot",
                "bound to vfio-pci, but nothing keeps hfi1 from taking it at the next boot",
                format!(
                    "sudo driverctl set-override {} vfio-pci, or: echo 'options vfio-pci ids={}' and 'softdep hfi1 pre: vfio-pci' into /etc/modprobe.d/opx.conf",
                    adapter.address, adapter.ids
                ),
            ),
            Some("vfio-pci") => found.ok("bound to vfio-pci"),
            Some("hfi1") => found.bad("bound-to-hfi1", "bound to hfi1, Linux's own driver for it", bind),
            Some(driver) => {
                found.bad("bound-to-another-driver", format!("bound to {driver}, which can't be used here"), bind);
            }
            None => found.bad("bound-to-nothing", "bound to no driver", bind),
        }
    }
}

/// Whether the adapter will be vfio-pci's after a boot, or at least not hfi1's.
fn stays(node: &Node<'_>, adapter: &Adapter) -> bool {
    let ids = |list: &str| list.split(',').any(|id| id.to_ascii_lowercase().starts_with(&adapter.ids));
    let line = node.facts.text("proc/cmdline").unwrap_or_default();
    let by_command_line = line.split_whitespace().any(|word| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key.replace('-', "_").as_str() {
            "vfio_pci.ids" => ids(value),
            "modprobe.blacklist" | "module_blacklist" => value.split(',').any(|name| name == "hfi1"),
            _ => false,
        }
    });
    let by_modprobe = || {
        let files = node.facts.names("etc/modprobe.d").into_iter().filter(|name| name.ends_with(".conf"));
        files.filter_map(|name| node.facts.text(&format!("etc/modprobe.d/{name}"))).any(|text| {
            text.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words[..] {
                    ["blacklist" | "install", "hfi1", ..] => true,
                    ["options", "vfio-pci" | "vfio_pci", ..] => {
                        words.iter().filter_map(|word| word.strip_prefix("ids=")).any(ids)
                    }
                    _ => false,
                }
            })
        })
    };
    let by_driverctl = || {
        node.facts
            .text(&format!("etc/driverctl.d/pci-{}", adapter.address))
            .is_some_and(|text| text.contains("vfio-pci"))
    };
    by_command_line || by_modprobe() || by_driverctl() || !has_module(node, "infiniband/hw/hfi1", "hfi1")
}

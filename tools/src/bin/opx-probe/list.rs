//! `opx-probe list`: the adapters of this machine, and the emulated ones that are served on sockets.

use crate::cli::List;
use crate::places::{Places, check_sockets};
use crate::{Outcome, render};
use opx_hw::discover::Found;
use opx_hw::vfio_user::OpenError;
use serde::Serialize;
use std::path::Path;

/// All that was found.
#[derive(Debug, Serialize)]
struct Listing {
    version: u32,
    adapters: Vec<Entry>,
}

/// One adapter, or a socket that might have been one.
#[derive(Debug, Serialize)]
struct Entry {
    /// As `--adapter` takes it.
    adapter: String,
    kind: &'static str,
    device: Option<String>,
    subsystem: Option<String>,
    driver: Option<String>,
    iommu_group: Option<u32>,
    numa_node: Option<u32>,
    bar0_bytes: Option<u64>,
    usable: bool,
    /// What keeps it from being used.
    problem: Option<String>,
}

impl Entry {
    fn pci(found: &Found) -> Self {
        let id = |(vendor, device): (u16, u16)| format!("{vendor:04x}:{device:04x}");
        let problem = match (&found.driver, found.iommu_group) {
            (_, None) => Some("no IOMMU group: enable the IOMMU in the firmware and the kernel".to_owned()),
            (Some(driver), _) if driver == "vfio-pci" => None,
            (Some(driver), _) => Some(format!("bound to {driver}: bind it to vfio-pci to use it here")),
            (None, _) => Some("bound to no driver: bind it to vfio-pci to use it here".to_owned()),
        };
        Self {
            adapter: found.address.to_string(),
            kind: "pci",
            device: Some(id((found.vendor, found.device))),
            subsystem: found.subsystem.map(id),
            driver: found.driver.clone(),
            iommu_group: found.iommu_group,
            numa_node: found.numa_node,
            bar0_bytes: found.bar0_len,
            usable: problem.is_none(),
            problem,
        }
    }

    fn socket(path: &Path, checked: Result<(u16, u16), OpenError>) -> Self {
        let (device, problem) = match checked {
            Ok((vendor, device)) => (Some(format!("{vendor:04x}:{device:04x}")), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            adapter: format!("vfio-user:{}", path.display()),
            kind: "vfio-user",
            device,
            subsystem: None,
            driver: None,
            iommu_group: None,
            numa_node: None,
            bar0_bytes: None,
            usable: problem.is_none(),
            problem,
        }
    }

    /// A PCI adapter is one whether it can be used or not; a socket only when an HFI1 answers there.
    fn is_adapter(&self) -> bool {
        self.kind == "pci" || self.usable
    }
}

/// Lists them.
pub fn run(places: &Places, args: &List) -> anyhow::Result<Outcome> {
    let mut sockets = args.socket.clone();
    sockets.extend(places.sockets().into_iter().filter(|socket| !args.socket.contains(socket)));
    let mut adapters: Vec<Entry> = places.pci().iter().map(Entry::pci).collect();
    let checked = check_sockets(&sockets);
    adapters.extend(sockets.iter().zip(checked).map(|(path, checked)| Entry::socket(path, checked)));

    let named =
        |entry: &&Entry| args.socket.iter().any(|path| entry.adapter == format!("vfio-user:{}", path.display()));
    let problem = if let Some(entry) = adapters.iter().filter(named).find(|entry| !entry.usable) {
        entry.problem.clone()
    } else if adapters.iter().any(Entry::is_adapter) {
        None
    } else {
        Some(format!(
            "no adapter found: {}; start one with opx-emu --socket PATH and name it with --socket PATH",
            places.looked()
        ))
    };
    let listing = Listing { version: render::JSON_VERSION, adapters };
    let text = match (args.json, listing.adapters.is_empty()) {
        (true, _) => render::json(&listing)?,
        (false, true) => String::new(),
        (false, false) => table(&listing.adapters),
    };
    Ok(Outcome { text, problem, trouble: false })
}

fn table(adapters: &[Entry]) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    render::table(
        &["adapter", "device", "driver", "IOMMU group", "NUMA node", "state"],
        adapters.iter().map(|entry| {
            vec![
                entry.adapter.clone(),
                or_dash(entry.device.clone()),
                or_dash(entry.driver.clone()),
                or_dash(entry.iommu_group.map(|group| group.to_string())),
                or_dash(entry.numa_node.map(|node| node.to_string())),
                entry.problem.clone().unwrap_or_else(|| "ready".to_owned()),
            ]
        }),
    )
}

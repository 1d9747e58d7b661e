//! `opx-probe list`: the adapters of this machine, and the emulated ones that are served on sockets.

use crate::cli::List;
use crate::names::constant;
use crate::places::{Places, Served, check_sockets};
use crate::{Outcome, render};
use opx_hw::discover::Found;
use opx_hw::pci_address::PciAddress;
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
    guid: Option<String>,
    serial: Option<String>,
    pcie: Option<Pcie>,
    /// Logical state of the link, as far as it can be seen without opening the adapter.
    link: Option<String>,
    /// Who has it open, through VFIO or hfi1, as far as this user may see.
    holder: Option<Holder>,
    usable: bool,
    /// What keeps it from being used.
    problem: Option<String>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Holder {
    pid: u32,
    command: String,
}

impl Holder {
    /// The process that has the device file open by which an adapter with this driver is used.
    fn find(places: &Places, found: &Found) -> Option<Self> {
        let roots = places.roots();
        let file = match found.driver.as_deref()? {
            "vfio-pci" => roots.dev.join(format!("vfio/{}", found.iommu_group?)),
            // hfi1 device.c:hfi1_cdev_init names it by the unit, which its InfiniBand device has before udev renames that.
            "hfi1" => {
                let names = places.function_names(found.address, "infiniband");
                roots.dev.join(names.into_iter().filter(|name| name.starts_with("hfi1_")).min()?)
            }
            _ => return None,
        };
        let (pid, command) = roots.holder(&file)?;
        Some(Self { pid, command })
    }
}

/// The PCI Express link, as the kernel shows it.
#[derive(Debug, Serialize)]
struct Pcie {
    speed_gts: f64,
    width: u8,
    max_speed_gts: Option<f64>,
    max_width: Option<u8>,
}

impl Pcie {
    fn read(places: &Places, address: PciAddress) -> Option<Self> {
        // "8.0 GT/s PCIe"
        let speed = |file| places.function_text(address, file)?.split_whitespace().next()?.parse().ok();
        let width = |file| places.function_text(address, file)?.parse().ok();
        Some(Self {
            speed_gts: speed("current_link_speed")?,
            width: width("current_link_width")?,
            max_speed_gts: speed("max_link_speed"),
            max_width: width("max_link_width"),
        })
    }
}

/// What hfi1 shows of an adapter that it has, whatever name udev gave to that (rdma-core renames hfi1_0 to opap129s0).
struct Kernel {
    guid: Option<String>,
    serial: Option<String>,
    link: Option<String>,
}

impl Kernel {
    fn read(places: &Places, address: PciAddress) -> Self {
        let name = places.function_names(address, "infiniband").into_iter().min();
        let file = |file: &str| places.function_text(address, &format!("infiniband/{}/{file}", name.as_ref()?));
        // "4: ACTIVE"
        let link = file("ports/1/state").map(|state| state.split(": ").last().unwrap_or_default().to_owned());
        Self { guid: file("node_guid"), serial: file("serial"), link }
    }
}

impl Entry {
    fn pci(places: &Places, found: &Found) -> Self {
        let kernel = Kernel::read(places, found.address);
        let id = |(vendor, device): (u16, u16)| format!("{vendor:04x}:{device:04x}");
        let holder = Holder::find(places, found);
        let in_use = holder.as_ref().zip(found.driver.as_ref());
        let in_use = in_use.map(|(Holder { pid, command }, driver)| {
            format!("in use through {driver} by process {pid} ({command}); end that first")
        });
        let problem = in_use.or_else(|| match (&found.driver, found.iommu_group) {
            (_, None) => Some("no IOMMU group: switch the IOMMU on; `opx-probe doctor` tells how".to_owned()),
            (Some(driver), _) if driver == "vfio-pci" => None,
            (Some(driver), _) => Some(format!("bound to {driver}: sudo opx-probe bind {}", found.address)),
            (None, _) => Some(format!("bound to no driver: sudo opx-probe bind {}", found.address)),
        });
        Self {
            adapter: found.address.to_string(),
            kind: "pci",
            device: Some(id((found.vendor, found.device))),
            subsystem: found.subsystem.map(id),
            driver: found.driver.clone(),
            iommu_group: found.iommu_group,
            numa_node: found.numa_node,
            bar0_bytes: found.bar0_len,
            guid: kernel.guid,
            serial: kernel.serial,
            pcie: Pcie::read(places, found.address),
            link: kernel.link,
            holder,
            usable: problem.is_none(),
            problem,
        }
    }

    fn socket(path: &Path, checked: Result<Served, OpenError>) -> Self {
        let (device, port, problem) = match checked {
            Ok(Served { ids: (vendor, device), port }) => (Some(format!("{vendor:04x}:{device:04x}")), port, None),
            Err(error) => (None, None, Some(error.to_string())),
        };
        let (guid, link) = port.unzip();
        Self {
            adapter: format!("vfio-user:{}", path.display()),
            kind: "vfio-user",
            device,
            subsystem: None,
            driver: None,
            iommu_group: None,
            numa_node: None,
            bar0_bytes: None,
            guid: guid.map(|guid| guid.to_string()),
            serial: None,
            pcie: None,
            link: link.map(|code| constant("lstate", "LSTATE_", code)),
            holder: None,
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
    let mut adapters: Vec<Entry> = places.pci().iter().map(|found| Entry::pci(places, found)).collect();
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
    let number = |number: Option<u32>| or_dash(number.map(|number| number.to_string()));
    let pcie = |pcie: &Pcie| format!("{}GT/s x{}", pcie.speed_gts, pcie.width);
    let mut text = render::table(
        &["adapter", "serial or GUID", "driver", "group", "NUMA", "PCIe", "link"],
        adapters.iter().map(|entry| {
            vec![
                entry.adapter.clone(),
                or_dash(entry.serial.clone().or(entry.guid.clone())),
                or_dash(entry.driver.clone()),
                number(entry.iommu_group),
                number(entry.numa_node),
                or_dash(entry.pcie.as_ref().map(pcie)),
                or_dash(entry.link.clone()),
            ]
        }),
    );
    for entry in adapters {
        if let Some(problem) = &entry.problem {
            text += &render::wrapped(&format!("{}: {problem}", entry.adapter), 2);
            text.push('\n');
        }
    }
    text
}

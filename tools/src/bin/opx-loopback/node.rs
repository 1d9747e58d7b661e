//! The machine that a run was made on, for its report: what decides how fast an adapter can be, and what maintainers ask for first.
//!
//! Nothing here says whose machine it is: no GUIDs, serial numbers, addresses, paths or names of users; of the kernel's command
//! line only what is about the IOMMU and VFIO; of `opx-probe doctor` only the names of the troubles. The name of the machine is in
//! it only when it was asked for.

use opx_hw::vfio::PioMapping;
use opx_hw::{Hfi, discover};
use opx_tools::adapter::{AdapterSpec, AnyBus};
use opx_tools::pci::{Link, Pci};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long `opx-probe doctor` may take.
const DOCTOR_LIMIT: Duration = Duration::from_secs(20);
/// Beginnings of the kernel's options that are told.
const OPTIONS: [&str; 8] = ["intel_iommu", "amd_iommu", "iommu", "vfio", "pci=", "pcie_aspm", "isolcpus", "nohz_full"];

/// The machine.
#[derive(Debug, Serialize)]
pub struct Node {
    /// Its name, if that was asked for.
    pub host_name: Option<String>,
    /// Seconds since 1970 when the report was made.
    pub unix_time: u64,
    /// Version of opx.
    pub opx: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// Its options about the IOMMU, VFIO and PCI.
    pub kernel_options: Vec<String>,
    /// The processor.
    pub processor: Option<String>,
    /// How many there are.
    pub processors: usize,
    /// The governor of the first.
    pub governor: Option<String>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// The adapter.
    pub adapter: Adapter,
    /// What `opx-probe doctor` says; none when that isn't beside this program.
    pub doctor: Option<Doctor>,
}

/// The adapter, as far as it isn't about whose it is.
#[derive(Debug, Serialize)]
pub struct Adapter {
    /// How it is reached: "emulated", "vfio-user" or "vfio".
    pub bus: &'static str,
    /// PCI vendor and device, of function and board.
    pub device: String,
    /// Likewise.
    pub subsystem: String,
    /// Revision of the chip.
    pub chip_revision: String,
    /// What it is made of; 0 is silicon.
    pub icode: u8,
    /// Version of the firmware of the link's microcontroller.
    pub firmware: Option<String>,
    /// The PCI Express link; none without a PCI Express capability.
    pub pcie: Option<Link>,
    /// How stores reach the PIO window.
    pub pio_window: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Whether there is an IOMMU group for it, and of which type that is.
    pub iommu: Option<String>,
    /// Lanes and rate of the fabric link, "4 x 25781 Mb/s".
    pub link: Option<String>,
    /// Largest payload, bytes.
    pub mtu: Option<u32>,
}

/// What `opx-probe doctor` says.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Doctor {
    /// Bad things.
    pub bad: u64,
    /// Warnings.
    pub warnings: u64,
    /// Names of the troubles, see docs/opx-probe.md.
    pub troubles: Vec<String>,
}

impl Node {
    /// Looks at this machine and at an open adapter.
    pub fn look(spec: &AdapterSpec, hfi: &Hfi<AnyBus>, with_name: bool) -> Self {
        let system = rustix::system::uname();
        let text = |path: &str| fs::read_to_string(path).ok();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            host_name: with_name.then(|| system.nodename().to_string_lossy().into_owned()),
            unix_time: now.map_or(0, |time| time.as_secs()),
            opx: env!("CARGO_PKG_VERSION"),
            kernel: system.release().to_string_lossy().into_owned(),
            kernel_options: text("/proc/cmdline").map(|line| options(&line)).unwrap_or_default(),
            processor: text("/proc/cpuinfo").and_then(|text| value(&text, "model name")),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            governor: text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").map(|name| name.trim().to_owned()),
            memory_bytes: text("/proc/meminfo").and_then(|text| kilobytes(&text)),
            adapter: Adapter::look(spec, hfi),
            doctor: doctor(),
        }
    }
}

impl Adapter {
    fn look(spec: &AdapterSpec, hfi: &Hfi<AnyBus>) -> Self {
        let info = hfi.info();
        let pci = Pci::read(hfi.bus()).ok();
        let found = match spec {
            AdapterSpec::Vfio(address) => {
                discover::scan(Path::new(discover::SYSFS)).into_iter().find(|found| found.address == *address)
            }
            AdapterSpec::Emulated | AdapterSpec::VfioUser(_) => None,
        };
        let iommu = found.as_ref().and_then(|found| found.iommu_group).map(|group| {
            let kind = fs::read_to_string(format!("/sys/kernel/iommu_groups/{group}/type")).unwrap_or_default();
            format!("group of type {}", kind.trim())
        });
        let (major, minor) = info.chip_revision();
        Self {
            bus: match spec {
                AdapterSpec::Emulated => "emulated",
                AdapterSpec::VfioUser(_) => "vfio-user",
                AdapterSpec::Vfio(_) => "vfio",
            },
            device: pci.as_ref().map_or_else(|| format!("8086:{:04x}", info.device), |pci| pci.device.clone()),
            subsystem: pci.as_ref().map(|pci| pci.subsystem.clone()).unwrap_or_default(),
            chip_revision: format!("{major}.{minor:#x}"),
            icode: info.icode,
            firmware: info.firmware.map(|version| version.to_string()),
            pcie: pci.and_then(|pci| pci.link),
            pio_window: match hfi.bus() {
                AnyBus::Vfio(bus) => Some(match bus.pio_mapping() {
                    PioMapping::WriteCombined => "write-combined".to_owned(),
                    PioMapping::Uncached { .. } => "uncached".to_owned(),
                }),
                AnyBus::Emulated(_) | AnyBus::VfioUser(_) => None,
            },
            numa_node: found.and_then(|found| found.numa_node),
            iommu,
            link: hfi.link_info().map(|link| format!("{} x {} Mb/s", link.lanes, link.lane_rate_mbps)),
            mtu: hfi.link_info().map(|link| link.mtu),
        }
    }
}

/// The kernel's options that are about the IOMMU, VFIO and PCI.
fn options(line: &str) -> Vec<String> {
    let told = |option: &&str| OPTIONS.iter().any(|start| option.starts_with(start));
    line.split_whitespace().filter(told).map(str::to_owned).collect()
}

/// The value of the first line `name : value`.
fn value(text: &str, name: &str) -> Option<String> {
    let (_, value) = text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

fn kilobytes(text: &str) -> Option<u64> {
    value(text, "MemTotal")?.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Asks the opx-probe that is beside this program.
fn doctor() -> Option<Doctor> {
    let program = std::env::current_exe().ok()?.with_file_name("opx-probe");
    let said = tempfile::tempfile().ok()?;
    let mut command = Command::new(program);
    command.args(["doctor", "--json"]).stdin(Stdio::null()).stderr(Stdio::null()).stdout(said.try_clone().ok()?);
    let mut child = command.spawn().ok()?;
    let begin = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if begin.elapsed() > DOCTOR_LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut said = said;
    std::io::Seek::rewind(&mut said).ok()?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut said, &mut text).ok()?;
    Doctor::read(&text)
}

impl Doctor {
    fn read(text: &str) -> Option<Self> {
        let said: serde_json::Value = serde_json::from_str(text).ok()?;
        let findings = said.get("findings")?.as_array()?;
        let mut troubles: Vec<String> =
            findings.iter().filter_map(|finding| Some(finding.get("trouble")?.as_str()?.to_owned())).collect();
        troubles.dedup();
        Some(Self { bad: said.get("bad")?.as_u64()?, warnings: said.get("warnings")?.as_u64()?, troubles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_told_of_the_command_line() {
        let line = "BOOT_IMAGE=/vmlinuz root=UUID=1234 intel_iommu=on iommu=pt user=secret vfio-pci.ids=8086:24f0\n";
        assert_eq!(options(line), ["intel_iommu=on", "iommu=pt", "vfio-pci.ids=8086:24f0"]);
    }

    #[test]
    fn values_are_found_by_their_names() {
        let text = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\nMemTotal:       12 kB\n";
        assert_eq!(value(text, "model name").as_deref(), Some("A: B"));
        assert_eq!((value(text, "model"), kilobytes(text)), (None, Some(12 << 10)));
    }

    #[test]
    fn the_doctor_is_told_by_the_names_of_troubles() {
        let text = r#"{ "version": 1, "bad": 1, "warnings": 2, "findings": [
            { "trouble": "busy", "text": "process 1 (of alice)" }, { "trouble": null }, { "trouble": "numa-remote" } ] }"#;
        let troubles = vec!["busy".to_owned(), "numa-remote".to_owned()];
        assert_eq!(Doctor::read(text), Some(Doctor { bad: 1, warnings: 2, troubles }));
        assert_eq!(Doctor::read("{}"), None);
    }
}

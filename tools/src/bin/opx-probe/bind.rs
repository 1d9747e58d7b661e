//! `opx-probe bind` and `unbind`: which kernel driver has an adapter, changed in steps that can be shown first.

use crate::places::Places;
use crate::{Outcome, cli, render};
use opx_hw::discover::{self, is_hfi1};
use opx_hw::pci_address::PciAddress;
use opx_hw::vfio::Roots;
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The driver through which a process gets an adapter.
const VFIO: &str = "vfio-pci";
/// Linux's own driver.
const HFI1: &str = "hfi1";
/// Devices of hfi1 whose users are looked for, more than a node has.
const HFI1_DEVICES: u32 = 16;

/// Why an adapter stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// No such adapter.
    #[error("{address}: no HFI1 adapter is there{}", if adapters.is_empty() { "; this machine has none".to_owned() } else { format!("; there are {}", adapters.join(", ")) })]
    NotFound {
        /// What was asked for.
        address: PciAddress,
        /// Those that there are.
        adapters: Vec<String>,
    },
    /// Without an IOMMU vfio-pci refuses it.
    #[error("{address}: no IOMMU group: switch the IOMMU on first; `opx-probe doctor` tells how")]
    NoGroup {
        /// The adapter.
        address: PciAddress,
    },
    /// The driver isn't there.
    #[error("{address}: the driver {driver} isn't loaded: sudo modprobe {driver}")]
    NoDriver {
        /// The adapter.
        address: PciAddress,
        /// The driver.
        driver: &'static str,
    },
    /// Others would go with it.
    #[error(
        "{address}: refused: {mates} would be taken along, as {group} is opened only whole; unbind it first if the node can do without it, or use another slot"
    )]
    TakenAlong {
        /// The adapter.
        address: PciAddress,
        /// The group.
        group: String,
        /// The others, with their drivers.
        mates: String,
    },
    /// Someone would lose it.
    #[error("{address}: refused: process {pid} ({name}) has {} open; end it first", file.display())]
    InUse {
        /// The adapter.
        address: PciAddress,
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
        /// The device file.
        file: PathBuf,
    },
    /// The kernel's file can't be written.
    #[error("{address}: can't write \"{text}\" to {}: {source}{}", path.display(), if source.kind() == io::ErrorKind::PermissionDenied { "; run it with sudo" } else { "; see the kernel's log (dmesg)" })]
    Write {
        /// The adapter.
        address: PciAddress,
        /// The file.
        path: PathBuf,
        /// What was to be written.
        text: String,
        /// The cause.
        source: io::Error,
    },
    /// All was written, and yet.
    #[error(
        "{address}: the kernel took every step, but it is bound to {now}, not to {wanted}; see the kernel's log (dmesg)"
    )]
    NotBound {
        /// The adapter.
        address: PciAddress,
        /// What has it.
        now: String,
        /// What should have it.
        wanted: &'static str,
    },
}

/// One write to a file of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The file.
    path: PathBuf,
    /// What is written; empty clears it.
    text: String,
}

/// What is to be done.
#[derive(Debug, Serialize)]
struct Plan {
    version: u32,
    adapter: String,
    from: Option<String>,
    to: &'static str,
    /// Whether the steps were only shown.
    dry_run: bool,
    steps: Vec<Step>,
    /// What is left to do.
    note: Option<String>,
}

/// Who carries out the steps: the kernel, or a test.
pub trait Kernel {
    /// Writes `text` to a file.
    fn write(&mut self, path: &Path, text: &str) -> io::Result<()>;
}

/// The files of the running kernel.
struct Sysfs;

impl Kernel for Sysfs {
    fn write(&mut self, path: &Path, text: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
    }
}

/// Binds an adapter to vfio-pci.
pub fn bind(places: &Places, args: &cli::Bind) -> anyhow::Result<Outcome> {
    run(&places.roots(), args, VFIO, &mut Sysfs)
}

/// Gives an adapter back to hfi1.
pub fn unbind(places: &Places, args: &cli::Bind) -> anyhow::Result<Outcome> {
    run(&places.roots(), args, HFI1, &mut Sysfs)
}

fn run(roots: &Roots, args: &cli::Bind, to: &'static str, kernel: &mut dyn Kernel) -> anyhow::Result<Outcome> {
    let plan = plan(roots, args.address, to, args.dry_run)?;
    if !args.dry_run {
        carry_out(roots, args.address, &plan, kernel)?;
    }
    let text = if args.json { render::json(&plan)? } else { plan.text() };
    Ok(text.into())
}

fn function_dir(roots: &Roots, address: PciAddress) -> PathBuf {
    roots.sysfs.join("bus/pci/devices").join(address.to_string())
}

fn driver_of(roots: &Roots, address: PciAddress) -> Option<String> {
    let link = fs::read_link(function_dir(roots, address).join("driver")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

/// Checks what can be known beforehand, and says what is to be written.
fn plan(roots: &Roots, address: PciAddress, to: &'static str, dry_run: bool) -> Result<Plan, BindError> {
    let found = discover::scan(&roots.sysfs);
    let Some(adapter) = found.iter().find(|found| found.address == address && is_hfi1(found.vendor, found.device))
    else {
        let adapters = found.iter().map(|found| found.address.to_string()).collect();
        return Err(BindError::NotFound { address, adapters });
    };
    let from = adapter.driver.clone();
    let drivers = roots.sysfs.join("bus/pci/drivers");
    let loaded = drivers.join(to).is_dir();
    let mut plan = Plan {
        version: render::JSON_VERSION,
        adapter: address.to_string(),
        from: from.clone(),
        to,
        dry_run,
        steps: Vec::new(),
        note: None,
    };
    if from.as_deref() == Some(to) {
        return Ok(plan);
    }
    if to == VFIO {
        let group = adapter.iommu_group.ok_or(BindError::NoGroup { address })?;
        if !loaded {
            return Err(BindError::NoDriver { address, driver: VFIO });
        }
        let mates = roots.mates(address);
        if !mates.is_empty() {
            let mates = mates.iter().map(|(mate, driver)| format!("{mate} (bound to {driver})")).collect::<Vec<_>>();
            return Err(BindError::TakenAlong {
                address,
                group: format!("IOMMU group {group}"),
                mates: mates.join(", "),
            });
        }
    }
    for file in files_in_use(roots, from.as_deref(), adapter.iommu_group) {
        if let Some((pid, name)) = roots.holder(&file) {
            return Err(BindError::InUse { address, pid, name, file });
        }
    }
    let mut step = |path: PathBuf, text: String| plan.steps.push(Step { path, text });
    let override_text = if to == VFIO { VFIO } else { "" };
    step(function_dir(roots, address).join("driver_override"), override_text.to_owned());
    if let Some(from) = &from {
        step(drivers.join(from).join("unbind"), address.to_string());
    }
    if loaded {
        step(roots.sysfs.join("bus/pci/drivers_probe"), address.to_string());
    } else {
        plan.note = Some(format!("{to} isn't loaded; it takes the adapter when it is: sudo modprobe {to}"));
    }
    Ok(plan)
}

/// Device files whose users would lose the adapter.
fn files_in_use(roots: &Roots, driver: Option<&str>, group: Option<u32>) -> Vec<PathBuf> {
    match (driver, group) {
        (Some(VFIO), Some(group)) => vec![roots.dev.join(format!("vfio/{group}"))],
        (Some(HFI1), _) => (0..HFI1_DEVICES).map(|n| roots.dev.join(format!("hfi1_{n}"))).collect(),
        _ => Vec::new(),
    }
}

fn carry_out(roots: &Roots, address: PciAddress, plan: &Plan, kernel: &mut dyn Kernel) -> Result<(), BindError> {
    for Step { path, text } in &plan.steps {
        // An empty line clears an override.
        let line = format!("{text}\n");
        kernel.write(path, &line).map_err(|source| BindError::Write {
            address,
            path: path.clone(),
            text: text.clone(),
            source,
        })?;
    }
    let now = driver_of(roots, address);
    if plan.note.is_none() && now.as_deref() != Some(plan.to) {
        let now = now.unwrap_or_else(|| "nothing".to_owned());
        return Err(BindError::NotBound { address, now, wanted: plan.to });
    }
    Ok(())
}

impl Plan {
    fn text(&self) -> String {
        if self.steps.is_empty() {
            return format!("{}: already bound to {}\n", self.adapter, self.to);
        }
        let mut text = String::new();
        if self.dry_run {
            for Step { path, text: what } in &self.steps {
                let what = if what.is_empty() { String::new() } else { format!(" {what}") };
                text += &format!("echo{what} > {}\n", path.display());
            }
        } else if self.note.is_none() {
            let from = self.from.as_deref().unwrap_or("nothing");
            text += &format!("{}: bound to {}, before to {from}\n", self.adapter, self.to);
        }
        if let Some(note) = &self.note {
            text += &format!("{}: {note}\n", self.adapter);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const HFI: &str = "0000:af:00.0";

    /// A made-up sysfs, in which writes do what the kernel would do; all are recorded.
    struct Machine {
        dir: TempDir,
        written: Vec<(String, String)>,
        /// The driver takes nothing.
        stubborn: bool,
    }

    impl Machine {
        fn new(driver: Option<&str>) -> Self {
            let machine = Self { dir: tempfile::tempdir().unwrap(), written: Vec::new(), stubborn: false };
            for driver in [VFIO, HFI1, "ixgbe"] {
                fs::create_dir_all(machine.path(&format!("sys/bus/pci/drivers/{driver}"))).unwrap();
            }
            fs::create_dir_all(machine.path("dev/vfio")).unwrap();
            machine.function(HFI, "0x24f0", driver);
            machine
        }

        fn path(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn roots(&self) -> Roots {
            Roots { sysfs: self.path("sys"), dev: self.path("dev"), proc: self.path("proc") }
        }

        fn function(&self, address: &str, device: &str, driver: Option<&str>) {
            let dir = self.path(&format!("sys/bus/pci/devices/{address}"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("vendor"), "0x8086\n").unwrap();
            fs::write(dir.join("device"), format!("{device}\n")).unwrap();
            let group = self.path("sys/kernel/iommu_groups/17");
            fs::create_dir_all(group.join("devices").join(address)).unwrap();
            symlink(group, dir.join("iommu_group")).unwrap();
            self.bound(address, driver);
        }

        fn bound(&self, address: &str, driver: Option<&str>) {
            let link = self.path(&format!("sys/bus/pci/devices/{address}/driver"));
            let _ = fs::remove_file(&link);
            if let Some(driver) = driver {
                symlink(self.path(&format!("sys/bus/pci/drivers/{driver}")), link).unwrap();
            }
        }

        fn held(&self, pid: u32, name: &str, file: &str) {
            let dir = self.path(&format!("proc/{pid}/fd"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(self.path(&format!("proc/{pid}/comm")), name).unwrap();
            symlink(self.path(file), dir.join("3")).unwrap();
        }

        fn run(&mut self, to: &'static str, dry_run: bool) -> Result<String, String> {
            let args = cli::Bind { address: HFI.parse().unwrap(), dry_run, json: false };
            let roots = self.roots();
            super::run(&roots, &args, to, self).map(|outcome| outcome.text).map_err(|error| error.to_string())
        }
    }

    impl Kernel for Machine {
        fn write(&mut self, path: &Path, text: &str) -> io::Result<()> {
            let path = path.strip_prefix(self.dir.path()).unwrap().to_str().unwrap().to_owned();
            match path.rsplit('/').next() {
                Some("unbind") => self.bound(text.trim(), None),
                Some("drivers_probe") if !self.stubborn => {
                    let vfio = self.written.iter().rfind(|(path, _)| path.ends_with("driver_override")).unwrap().1
                        == "vfio-pci\n";
                    self.bound(text.trim(), Some(if vfio { VFIO } else { HFI1 }));
                }
                _ => {}
            }
            self.written.push((path, text.to_owned()));
            Ok(())
        }
    }

    fn written(machine: &Machine) -> Vec<(&str, &str)> {
        machine.written.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect()
    }

    #[test]
    fn an_adapter_goes_to_vfio_and_back() {
        let mut machine = Machine::new(Some(HFI1));
        assert_eq!(machine.run(VFIO, false).unwrap(), "0000:af:00.0: bound to vfio-pci, before to hfi1\n");
        assert_eq!(
            written(&machine),
            [
                ("sys/bus/pci/devices/0000:af:00.0/driver_override", "vfio-pci\n"),
                ("sys/bus/pci/drivers/hfi1/unbind", "0000:af:00.0\n"),
                ("sys/bus/pci/drivers_probe", "0000:af:00.0\n"),
            ]
        );
        assert_eq!(machine.run(VFIO, false).unwrap(), "0000:af:00.0: already bound to vfio-pci\n");
        assert_eq!(machine.written.len(), 3);
        assert_eq!(machine.run(HFI1, false).unwrap(), "0000:af:00.0: bound to hfi1, before to vfio-pci\n");
        assert_eq!(written(&machine)[3], ("sys/bus/pci/devices/0000:af:00.0/driver_override", "\n"));
    }

    #[test]
    fn a_dry_run_shows_the_steps_and_writes_nothing() {
        let mut machine = Machine::new(None);
        let text = machine.run(VFIO, true).unwrap();
        let sys = machine.path("sys/bus/pci").display().to_string();
        let override_file = format!("{sys}/devices/{HFI}/driver_override");
        assert_eq!(text, format!("echo vfio-pci > {override_file}\necho {HFI} > {sys}/drivers_probe\n"));
        machine.bound(HFI, Some(VFIO));
        let text = machine.run(HFI1, true).unwrap();
        assert!(
            text.starts_with(&format!("echo > {override_file}\necho {HFI} > {sys}/drivers/vfio-pci/unbind\n")),
            "{text}"
        );
        assert!(machine.written.is_empty());
    }

    #[test]
    fn others_are_not_taken_along() {
        let mut machine = Machine::new(Some(HFI1));
        machine.function("0000:af:00.1", "0x10fb", Some("ixgbe"));
        let error = machine.run(VFIO, false).unwrap_err();
        assert!(
            error.contains("refused: 0000:af:00.1 (bound to ixgbe) would be taken along, as IOMMU group 17"),
            "{error}"
        );
        assert!(machine.written.is_empty());
        machine.bound("0000:af:00.1", None);
        machine.run(VFIO, false).unwrap();
    }

    #[test]
    fn nobody_loses_an_adapter() {
        let mut machine = Machine::new(Some(HFI1));
        machine.held(12, "opafm\n", "dev/hfi1_0");
        assert!(machine.run(VFIO, false).unwrap_err().contains("refused: process 12 (opafm) has"));
        machine.bound(HFI, Some(VFIO));
        machine.run(HFI1, true).unwrap();
        machine.held(13, "opx-loopback\n", "dev/vfio/17");
        assert!(machine.run(HFI1, false).unwrap_err().contains("refused: process 13 (opx-loopback) has"));
        assert!(machine.written.is_empty());
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut machine = Machine::new(None);
        fs::remove_dir(machine.path("sys/bus/pci/drivers/vfio-pci")).unwrap();
        assert!(machine.run(VFIO, false).unwrap_err().ends_with("isn't loaded: sudo modprobe vfio-pci"));
        fs::remove_file(machine.path(&format!("sys/bus/pci/devices/{HFI}/iommu_group"))).unwrap();
        assert!(machine.run(VFIO, false).unwrap_err().contains("no IOMMU group"));
        fs::remove_dir(machine.path("sys/bus/pci/drivers/hfi1")).unwrap();
        assert!(machine.run(HFI1, false).unwrap().contains("hfi1 isn't loaded; it takes the adapter when it is"));
        machine.function("0000:b0:00.0", "0x24f1", None);
        fs::remove_dir_all(machine.path(&format!("sys/bus/pci/devices/{HFI}"))).unwrap();
        assert!(machine.run(VFIO, false).unwrap_err().ends_with("no HFI1 adapter is there; there are 0000:b0:00.0"));
    }

    #[test]
    fn a_kernel_that_does_not_obey_is_told() {
        let mut machine = Machine::new(Some(HFI1));
        machine.stubborn = true;
        assert!(machine.run(VFIO, false).unwrap_err().contains("bound to nothing, not to vfio-pci"));
        let denied = BindError::Write {
            address: HFI.parse().unwrap(),
            path: "/sys/x".into(),
            text: "y".into(),
            source: io::ErrorKind::PermissionDenied.into(),
        };
        assert!(denied.to_string().ends_with("; run it with sudo"));
    }
}

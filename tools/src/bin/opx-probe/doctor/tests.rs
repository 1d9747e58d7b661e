//! Each trouble on a made-up node: a healthy one, and one thing changed.

use super::checks::MEMLOCK_BYTES;
use super::facts::{Extra, FACTS_VERSION, Facts, Mode, Process};
use super::{Report, examine};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

const HFI: &str = "0000:af:00.0";
const PORT: &str = "0000:ae:00.0";
const KERNEL: &str = "7.2.12-test";

/// A folder in memory where there is such a place: these tests make thousands of small files.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Facts of a node, as files.
struct Machine {
    dir: TempDir,
    extra: Extra,
}

impl Machine {
    /// One on which all is well.
    fn healthy() -> Self {
        let mut machine = Self { dir: folder(), extra: Extra::default() };
        machine.extra.version = FACTS_VERSION;
        machine.extra.parents.insert(HFI.into(), PORT.into());
        machine.extra.modes.insert("/dev/vfio/vfio".into(), Mode { mode: 0o666, uid: 0, gid: 0 });
        machine.extra.modes.insert("/dev/vfio/17".into(), Mode { mode: 0o660, uid: 0, gid: 1000 });
        machine.function(HFI, "0x8086", "0x24f0", "0x020800", Some("vfio-pci"));
        machine.function(PORT, "0x8086", "0x2030", "0x060400", Some("pcieport"));
        machine.member(17, HFI);
        machine.file(&format!("sys/bus/pci/devices/{HFI}/resource"), "0xf8000000 0xfbffffff 0x14220c\n");
        for address in [HFI, PORT] {
            machine.of(address, "current_link_speed", "8.0 GT/s PCIe");
            machine.of(address, "max_link_speed", "8.0 GT/s PCIe");
            machine.of(address, "current_link_width", "16");
            machine.of(address, "max_link_width", "16");
            // Payload 256 of 256 bytes, read requests of 512, no ASPM.
            machine.config(address, 1, 1 << 5 | 2 << 12, 0);
        }
        machine.of(HFI, "numa_node", "1");
        machine.of(HFI, "aer_dev_correctable", "RxErr 0\nTOTAL_ERR_COR 0");
        machine.of(HFI, "aer_dev_nonfatal", "TOTAL_ERR_NONFATAL 0");
        machine.of(HFI, "aer_dev_fatal", "TOTAL_ERR_FATAL 0");
        for (file, text) in [
            ("sys/class/iommu/dmar0", ""),
            ("sys/firmware/acpi/tables/DMAR", ""),
            ("sys/bus/pci/drivers/vfio-pci/new_id", ""),
            ("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "N"),
            ("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "64"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "60"),
            ("sys/devices/system/node/node0/cpulist", "0-3"),
            ("sys/devices/system/node/node1/cpulist", "4-7"),
            ("sys/devices/system/cpu/online", "0-7"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
            ("sys/kernel/security/lockdown", "[none] integrity confidentiality"),
            ("proc/sys/kernel/osrelease", KERNEL),
            ("proc/sys/kernel/io_uring_disabled", "0"),
            ("proc/cmdline", "root=/dev/sda1 intel_iommu=on vfio-pci.ids=8086:24f0"),
            ("proc/cpuinfo", "processor : 0\nflags : fpu pat avx2"),
            (&format!("lib/modules/{KERNEL}/kernel/drivers/infiniband/hw/hfi1/hfi1.ko.xz"), ""),
            ("lib/firmware/hfi1_fabric.fw", ""),
            ("lib/firmware/hfi1_dc8051.fw", ""),
            ("kernel.log", "DMAR: IOMMU enabled"),
        ] {
            machine.file(file, text);
        }
        for cpu in 0..8 {
            machine.file(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"), "performance");
            let (a, b) = (cpu % 4, cpu % 4 + 4);
            machine
                .file(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), &format!("{a},{b}"));
        }
        machine.limits(1 << 30, 1 << 30, 1024);
        machine.process(1000, "0-7", 0);
        machine
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn remove(&self, path: &str) -> &Self {
        let path = self.dir.path().join(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        self
    }

    fn of(&self, address: &str, name: &str, text: &str) -> &Self {
        self.file(&format!("sys/bus/pci/devices/{address}/{name}"), text)
    }

    fn function(&self, address: &str, vendor: &str, device: &str, class: &str, driver: Option<&str>) {
        for (name, text) in [("vendor", vendor), ("device", device), ("class", class)] {
            self.of(address, name, text);
        }
        self.driver(address, driver);
    }

    fn driver(&self, address: &str, driver: Option<&str>) {
        let link = self.dir.path().join(format!("sys/bus/pci/devices/{address}/driver"));
        let _ = fs::remove_file(&link);
        if let Some(driver) = driver {
            symlink(format!("../../../../bus/pci/drivers/{driver}"), link).unwrap();
        }
    }

    fn member(&self, group: u32, address: &str) {
        self.file(&format!("sys/kernel/iommu_groups/{group}/devices/{address}"), "");
        let link = self.dir.path().join(format!("sys/bus/pci/devices/{address}/iommu_group"));
        symlink(format!("../../../../kernel/iommu_groups/{group}"), link).unwrap();
    }

    /// Config space with a PCI Express capability at 0x70.
    fn config(&self, address: &str, supported: u16, control: u16, link: u16) {
        let mut config = [0; 256];
        config[0x34] = 0x70;
        config[0x70] = 0x10;
        config[0x74..0x76].copy_from_slice(&supported.to_le_bytes());
        config[0x78..0x7a].copy_from_slice(&control.to_le_bytes());
        config[0x80..0x82].copy_from_slice(&link.to_le_bytes());
        config[0] = 0x86;
        let path = self.dir.path().join(format!("sys/bus/pci/devices/{address}/config"));
        fs::write(path, config).unwrap();
    }

    fn limits(&self, soft: u64, hard: u64, files: u64) {
        let text = format!(
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max open files            {files}              524288               files\n\
             Max locked memory         {soft}               {hard}               bytes\n"
        );
        self.file("proc/self/limits", &text);
    }

    fn process(&self, uid: u32, cpus: &str, capabilities: u64) {
        let text = format!(
            "Name:\tdoctor\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t1000\t1000\t1000\t1000\nGroups:\t1000 \n\
             CapEff:\t{capabilities:016x}\nCpus_allowed_list:\t{cpus}\n"
        );
        self.file("proc/self/status", &text);
    }

    fn log(&self, line: &str) {
        self.file("kernel.log", &format!("DMAR: IOMMU enabled\n{line}\n"));
    }

    fn facts(&self) -> Facts {
        self.file("facts.json", &serde_json::to_string(&self.extra).unwrap());
        Facts::saved(self.dir.path()).unwrap()
    }

    fn report(&self) -> Report {
        examine(&self.facts())
    }
}

fn troubles(report: &Report) -> BTreeSet<&'static str> {
    report.findings.iter().filter_map(|finding| finding.trouble).collect()
}

/// What is changed, the troubles that must be named, and what must be said.
type Case = (&'static str, &'static str, fn(&mut Machine));

/// With the IOMMU off there are no groups, and nothing that was bound for it.
fn without_iommu(machine: &mut Machine, line: &str) {
    machine.remove("sys/class/iommu").remove("sys/kernel/iommu_groups");
    machine.remove(&format!("sys/bus/pci/devices/{HFI}/iommu_group"));
    machine.file("proc/cmdline", &format!("vfio-pci.ids=8086:24f0 {line}"));
}

const CASES: &[Case] = &[
    ("no-adapter", "8086:24f0", |m| {
        m.of(HFI, "device", "0x1234");
    }),
    ("adapter-gone", "all ones", |m| {
        fs::write(m.dir.path().join(format!("sys/bus/pci/devices/{HFI}/config")), [0xff; 64]).unwrap();
    }),
    ("bar-not-assigned", "Above 4G decoding", |m| {
        m.of(HFI, "resource", "0x0 0x0 0x0");
    }),
    ("iommu-switched-off", "intel_iommu=off", |m| without_iommu(m, "intel_iommu=off")),
    ("iommu-not-switched-on", "add intel_iommu=on", |m| without_iommu(m, "quiet")),
    ("iommu-failed", "DMAR: DRHD: broken", |m| {
        without_iommu(m, "intel_iommu=on");
        m.log("DMAR: DRHD: broken");
    }),
    ("no-virtual-iommu", "-device intel-iommu", |m| {
        without_iommu(m, "quiet");
        m.remove("sys/firmware").file("proc/cpuinfo", "flags : pat hypervisor");
    }),
    ("iommu-off-in-firmware", "VT-d", |m| {
        without_iommu(m, "intel_iommu=on");
        m.remove("sys/firmware");
    }),
    ("no-iommu-group", "in no IOMMU group", |m| {
        m.remove(&format!("sys/bus/pci/devices/{HFI}/iommu_group"));
    }),
    ("group-not-viable", "0000:af:00.1 (bound to ixgbe) is in it too", |m| {
        m.function("0000:af:00.1", "0x8086", "0x10fb", "0x020000", Some("ixgbe"));
        m.member(17, "0000:af:00.1");
        m.member(17, PORT);
    }),
    ("group-shared", "owns 0000:af:00.1 (bound to nothing) too", |m| {
        m.function("0000:af:00.1", "0x8086", "0x10fb", "0x020000", None);
        m.member(17, "0000:af:00.1");
    }),
    ("rmrr", "maker for a BIOS", |m| {
        m.log("vfio-pci 0000:af:00.0: Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping. Contact your platform vendor.");
    }),
    ("rmrr", "maker for a BIOS", |m| {
        m.log("vfio-pci 0000:af:00.0: Device is ineligible for IOMMU domain attach due to platform RMRR requirement.  Contact your platform vendor.");
    }),
    ("no-interrupt-remapping", "refuses", |m| {
        m.log("vfio_iommu_type1_attach_group: No interrupt remapping support.  Use the module param \"allow_unsafe_interrupts\" to enable VFIO IOMMU support on this platform");
    }),
    ("unsafe-interrupts", "forge", |m| {
        m.file("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n");
    }),
    ("no-iommu-mode", "anywhere in memory", |m| {
        m.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    }),
    ("vfio-pci-missing", "CONFIG_VFIO_PCI", |m| {
        m.remove("sys/bus/pci/drivers/vfio-pci").remove("sys/module/vfio_iommu_type1");
    }),
    ("vfio-pci-not-loaded", "modprobe vfio-pci", |m| {
        m.remove("sys/bus/pci/drivers/vfio-pci").remove("sys/module/vfio_iommu_type1");
        m.file(&format!("lib/modules/{KERNEL}/kernel/drivers/vfio/pci/vfio-pci.ko.zst"), "");
    }),
    ("vfio-type1-not-loaded", "modprobe vfio_iommu_type1", |m| {
        m.remove("sys/module/vfio_iommu_type1");
    }),
    ("bound-to-hfi1", "opx-probe bind 0000:af:00.0", |m| m.driver(HFI, Some("hfi1"))),
    ("bound-to-nothing", "bound to no driver", |m| m.driver(HFI, None)),
    ("bound-to-another-driver", "bound to uio_pci_generic", |m| m.driver(HFI, Some("uio_pci_generic"))),
    ("hfi1-at-next-boot", "driverctl set-override 0000:af:00.0", |m| {
        m.file("proc/cmdline", "intel_iommu=on");
    }),
    ("no-device-file", "/dev/vfio/17 doesn't exist", |m| {
        m.extra.modes.remove("/dev/vfio/17");
    }),
    ("container-without-vfio", "--device /dev/vfio/17 --ulimit memlock=", |m| {
        m.extra.modes.clear();
        m.file("run/.containerenv", "");
    }),
    ("no-permission", "mode 0600, owner 0", |m| {
        m.extra.modes.insert("/dev/vfio/17".into(), Mode { mode: 0o600, uid: 0, gid: 0 });
    }),
    ("busy", "process 4711 (opx-loopback)", |m| {
        m.extra.holders.insert("/dev/vfio/17".into(), vec![Process { pid: 4711, name: "opx-loopback".into() }]);
    }),
    ("in-use-through-hfi1", "process 12 (opafm)", |m| {
        m.driver(HFI, Some("hfi1"));
        m.extra.holders.insert("/dev/hfi1_0".into(), vec![Process { pid: 12, name: "opafm".into() }]);
    }),
    ("memlock", "may lock 8388608 bytes; an endpoint of default size needs 33554432", |m| {
        m.limits(8 << 20, 8 << 20, 1024)
    }),
    ("memlock", "ulimit -l 32768", |m| m.limits(8 << 20, MEMLOCK_BYTES, 1024)),
    ("few-files", "may open 64 files", |m| m.limits(1 << 30, 1 << 30, 64)),
    ("no-huge-pages", "nr_hugepages", |m| {
        m.file("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0");
    }),
    ("no-huge-pages", "CONFIG_HUGETLBFS", |m| {
        m.remove("sys/kernel/mm/hugepages");
    }),
    ("huge-pages-used-up", "all 64 huge pages", |m| {
        m.file("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0");
    }),
    ("no-write-combining", "nopat", |m| {
        m.file("proc/cpuinfo", "flags : fpu");
    }),
    ("no-write-combining", "nopat", |m| m.log("x86/PAT: PAT not supported by the CPU.")),
    ("pcie-speed-low", "runs at 2.5 GT/s, both ends can do 8 GT/s", |m| {
        m.of(HFI, "current_link_speed", "2.5 GT/s PCIe");
    }),
    ("slot-too-slow", "does 5 GT/s at most", |m| {
        m.of(PORT, "max_link_speed", "5.0 GT/s PCIe").of(HFI, "current_link_speed", "5.0 GT/s PCIe");
    }),
    ("pcie-width-low", "8 lanes of 16", |m| {
        m.of(HFI, "current_link_width", "8");
    }),
    ("slot-too-narrow", "has 8 lanes, the adapter 16", |m| {
        m.of(PORT, "max_link_width", "8").of(HFI, "current_link_width", "8");
    }),
    ("max-payload-low", "carry 128 bytes, both ends can do 256", |m| m.config(HFI, 1, 2 << 12, 0)),
    ("max-read-request-low", "128 bytes at most", |m| m.config(HFI, 1, 1 << 5, 0)),
    ("aspm-on", "pcie_aspm=off", |m| m.config(HFI, 1, 1 << 5 | 2 << 12, 2)),
    ("pcie-errors", "3 uncorrected errors", |m| {
        m.of(HFI, "aer_dev_fatal", "TOTAL_ERR_FATAL 3");
    }),
    ("pcie-corrected-errors", "severity=Corrected", |m| {
        m.of(HFI, "aer_dev_correctable", "RxErr 9\nTOTAL_ERR_COR 9");
        m.log("pcieport 0000:ae:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID) 0000:af:00.0");
    }),
    ("dma-faults", "fault addr 0x100003000", |m| {
        m.log("DMAR: [DMA Write NO_PASID] Request device [af:00.0] fault addr 0x100003000 [fault reason 0x05] PTE Write access is not set");
    }),
    ("dma-faults", "IO_PAGE_FAULT", |m| {
        m.log("vfio-pci 0000:af:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000e address=0x1000 flags=0x0020]");
    }),
    ("numa-unknown", "2 NUMA nodes", |m| {
        m.of(HFI, "numa_node", "-1");
    }),
    ("numa-remote", "numactl --cpunodebind=1", |m| m.process(1000, "0-3", 0)),
    ("smt-siblings", "processors 0 and 4", |m| m.process(1000, "0,4", 0)),
    ("cpu-governor", "\"powersave\"", |m| {
        m.file("sys/devices/system/cpu/cpu5/cpufreq/scaling_governor", "powersave\n");
    }),
    ("irqbalance", "disable --now irqbalance", |m| {
        m.extra.running.insert("irqbalance".into());
    }),
    ("clock-not-tsc", "keeps time by hpet", |m| {
        m.file("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    }),
    ("no-zero-copy-receive", "Linux 6.12.107-amd64", |m| {
        m.file("proc/sys/kernel/osrelease", "6.12.107-amd64");
    }),
    ("io-uring-disabled", "for everyone", |m| {
        m.file("proc/sys/kernel/io_uring_disabled", "2");
    }),
    ("lockdown", "[integrity]", |m| {
        m.file("sys/kernel/security/lockdown", "none [integrity] confidentiality");
    }),
    ("firmware-missing", "hfi1_dc8051.fw not found", |m| {
        m.remove("lib/firmware/hfi1_dc8051.fw");
    }),
    ("firmware-compressed", "xz -dk /lib/firmware/hfi1_fabric.fw.xz", |m| {
        m.remove("lib/firmware/hfi1_fabric.fw").file("lib/firmware/hfi1_fabric.fw.xz", "");
    }),
    ("too-hot", "fans", |m| {
        m.log("hfi1 0000:af:00.0: hfi1_0: Critical temperature reached! Forcing device into freeze mode!")
    }),
    ("hfi1-failed", "error -12", |m| m.log("hfi1 0000:af:00.0: probe with driver hfi1 failed with error -12")),
];

/// Troubles that another one brings with it.
fn also(trouble: &str) -> &'static [&'static str] {
    match trouble {
        "in-use-through-hfi1" => &["bound-to-hfi1"],
        _ => &[],
    }
}

#[test]
fn a_healthy_node_has_no_trouble() {
    let report = Machine::healthy().report();
    assert_eq!(troubles(&report), BTreeSet::new());
    assert!(report.findings.iter().all(|finding| finding.state == super::State::Ok), "{:#?}", report.findings);
}

/// Exactly the trouble that there is, with what matters about it.
#[test]
fn each_trouble_is_named_and_no_other() {
    for (trouble, says, change) in CASES {
        let mut machine = Machine::healthy();
        change(&mut machine);
        let report = machine.report();
        let expected: BTreeSet<_> = also(trouble).iter().copied().chain([*trouble]).collect();
        assert_eq!(troubles(&report), expected, "{trouble}: {:#?}", report.findings);
        let finding = report.findings.iter().find(|finding| finding.trouble == Some(trouble)).unwrap();
        let all = format!("{} {}", finding.text, finding.mend.as_ref().unwrap());
        assert!(all.contains(says), "{trouble}: {all}");
        assert!(!all.contains('\n'), "{trouble}: {all}");
    }
}

#[test]
fn the_manual_names_each_trouble() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/opx-probe.md");
    let manual = fs::read_to_string(manual).unwrap();
    let named: BTreeSet<&str> =
        manual.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    let tested: BTreeSet<&str> = CASES.iter().map(|(trouble, ..)| *trouble).collect();
    assert_eq!(named, tested);
    assert!(tested.len() >= 50, "{}", tested.len());
}

#[test]
fn each_trouble_stands_among_the_symptoms() {
    let symptoms = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md");
    let symptoms = fs::read_to_string(symptoms).unwrap();
    let missing: Vec<&str> =
        CASES.iter().map(|(trouble, ..)| *trouble).filter(|name| !symptoms.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What keeps hfi1 away after a boot, and what doesn't.
#[test]
fn ways_to_keep_an_adapter_are_known() {
    for (file, text, stays) in [
        ("proc/cmdline", "modprobe.blacklist=nouveau,hfi1", true),
        ("proc/cmdline", "vfio_pci.ids=10de:1234,8086:24F0", true),
        ("proc/cmdline", "vfio-pci.ids=8086:24f1", false),
        ("etc/modprobe.d/a.conf", "blacklist hfi1", true),
        ("etc/modprobe.d/a.conf", "options vfio-pci disable_vga=1 ids=8086:24f0", true),
        ("etc/modprobe.d/a.conf", "# blacklist hfi1", false),
        ("etc/modprobe.d/a.txt", "blacklist hfi1", false),
        ("etc/driverctl.d/pci-0000:af:00.0", "vfio-pci\n", true),
    ] {
        let machine = Machine::healthy();
        machine.file("proc/cmdline", "quiet").file(file, text);
        assert_eq!(troubles(&machine.report()).contains("hfi1-at-next-boot"), !stays, "{file}: {text}");
    }
}

#[test]
fn capabilities_pass_over_limits_and_permissions() {
    let machine = Machine::healthy();
    machine.limits(65536, 65536, 1024);
    machine.process(0, "0-7", 1 << 14);
    assert_eq!(troubles(&machine.report()), BTreeSet::new());
}

/// What a check can't see is unknown, which isn't trouble.
#[test]
fn what_may_not_be_read_is_unknown() {
    let machine = Machine::healthy();
    machine.remove("kernel.log").remove("proc/self/limits");
    fs::write(machine.dir.path().join(format!("sys/bus/pci/devices/{HFI}/config")), [0; 64]).unwrap();
    let report = machine.report();
    assert_eq!(troubles(&report), BTreeSet::new());
    assert_eq!(report.unknown, 3);
}

/// A saved copy says the same as its original, and holds nothing that no check looks at.
#[test]
fn saved_facts_say_the_same() {
    for (trouble, _, change) in CASES {
        let mut machine = Machine::healthy();
        machine.file("etc/shadow", "secret").file("kernel.log", "DMAR: on\nsecret of someone\n");
        change(&mut machine);
        let facts = machine.facts();
        let before = examine(&facts);
        let copy = folder();
        facts.save(copy.path()).unwrap();
        let after = examine(&Facts::saved(copy.path()).unwrap());
        assert_eq!(before.findings, after.findings, "{trouble}");
        assert!(!copy.path().join("etc/shadow").exists());
        assert!(!fs::read_to_string(copy.path().join("kernel.log")).unwrap().contains("secret"));
    }
}

/// Facts come from strangers, too: whatever is in them, there is an answer.
#[test]
fn nonsense_in_facts_is_survived() {
    let machine = Machine::healthy();
    let mut files = Vec::new();
    let mut folders = vec![machine.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    let nonsense = [&b""[..], b"\xff\xfe\x00", b"-1", b"99999999999999999999", b"0x 0x\n=,-", &[0x70; 256]];
    // Each in another one alone, then each in all of them.
    for (file, nonsense) in files.iter().zip(nonsense.iter().cycle()) {
        let kept = fs::read(file).unwrap();
        fs::write(file, nonsense).unwrap();
        examine(&machine.facts());
        fs::write(file, kept).unwrap();
    }
    for nonsense in nonsense {
        files.iter().for_each(|file| fs::write(file, nonsense).unwrap());
        examine(&machine.facts());
    }
}

#[test]
fn copies_that_are_none_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |dir: &Path| Facts::saved(dir).unwrap_err().to_string();
    assert!(refusal(&dir.path().join("none")).contains("is no folder with saved facts"));
    assert!(refusal(dir.path()).contains("is no folder with saved facts"));
    fs::write(dir.path().join("facts.json"), "{").unwrap();
    assert!(refusal(dir.path()).contains("damaged"));
    fs::write(dir.path().join("facts.json"), r#"{"version": 9}"#).unwrap();
    assert!(refusal(dir.path()).contains("version 9, this program knows 1"));
}

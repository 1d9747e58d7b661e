//! Our own driver and tools in a guest, on an adapter behind stock vfio-pci and a translating IOMMU.

use crate::{hfi1, programs};
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Iommu, Kernel, Run,
};
use serde_json::Value;
use std::path::PathBuf;

/// What the scenarios bring about in the kernel's log.
pub const EXPECTED: [&str; 4] = [
    "vfio-pci 0000:01:00.0: resetting",
    "vfio-pci 0000:01:00.0: reset done",
    "vfio_pin_pages_remote: RLIMIT_MEMLOCK (65536) exceeded",
    // Of an adapter that doesn't answer any more.
    "vfio-pci 0000:01:00.0: timed out waiting for pending transaction",
];
/// Where the adapter is: alone behind the first root port.
const ADAPTER: &str = "0000:01:00.0";
/// VFIO.
pub const VFIO: [&str; 2] = ["vfio_pci", "vfio_iommu_type1"];
/// Functions of the contract suite.
const CONTRACTS: u32 = 15;

/// On the kernel of trixie.
pub fn trixie(run: &Run) -> Result<(), GuestError> {
    scenario(run, Kernel::Trixie)
}

/// On the kernel of trixie-backports.
pub fn backports(run: &Run) -> Result<(), GuestError> {
    scenario(run, Kernel::Backports)
}

fn scenario(run: &Run, kernel: Kernel) -> Result<(), GuestError> {
    let environment = Environment::get(kernel)?;
    let mut initrd = initrd(&environment, include_str!("vfio.sh"), &VFIO)?;
    // Linux's driver needs the files that Intel signed; ours is tried with both.
    initrd.module("hfi1", "")?;
    for file in ["dc8051", "fabric", "pcie", "sbus"] {
        initrd.packaged(&format!("usr/lib/firmware/hfi1_{file}.fw"))?;
    }
    initrd.file("etc/passwd", 0o644, "root:x:0:0:root:/root:\nuser:x:1000:1000:user:/:\n");
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 1, arguments: Vec::new() })?;
    let options =
        GuestOptions { adapters: emulator.sockets().to_vec(), iommu: Iommu::Translating, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &options)?;
    let steps = Steps::take(&mut guest, &environment)?;
    steps.refused("hfi1", "bound to driver hfi1, not to vfio-pci; bind it: ")?;
    steps.refused("unbound", "bound to no driver, not to vfio-pci; bind it: ")?;
    adapter_is_seen(&steps)?;
    steps.passed_with("plan", &format!("{ADAPTER}, link "))?;
    ladder_passed(&steps, "ladder")?;
    contract_holds(&steps, &emulator)?;
    let group = steps.group()?;
    steps.refused("permission", &format!("no permission to open /dev/vfio/{group} for reading and writing; "))?;
    steps.refused("memlock", "must be locked and RLIMIT_MEMLOCK is 65536 bytes in all: raise it")?;
    let holder = steps.value("opx: holder ")?;
    steps.refused("busy", &format!("IOMMU group {group} is in use by process {holder} (opx-loopback)"))?;
    ladder_passed(&steps, "user")?;
    hfi1::judge_adapters(emulator).map(drop)
}

/// Without an IOMMU there is no group, and no DMA that VFIO could confine.
pub fn without_iommu(run: &Run) -> Result<(), GuestError> {
    let environment = Environment::get(Kernel::Trixie)?;
    let initrd = initrd(&environment, "step alone opx-loopback --adapter $adapter", &VFIO)?;
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 1, arguments: Vec::new() })?;
    let options = GuestOptions { adapters: emulator.sockets().to_vec(), ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &options)?;
    let steps = Steps::take(&mut guest, &environment)?;
    steps.refused("alone", "no IOMMU group, so VFIO can't confine its DMA; enable the IOMMU")
}

/// A root with our programs and these modules loaded, that runs `script`.
pub fn initrd<'a>(environment: &'a Environment, script: &str, modules: &[&str]) -> Result<Initrd<'a>, GuestError> {
    initrd_of(environment, script, modules, programs::build()?)
}

/// The same with these programs of ours.
pub fn initrd_of<'a>(
    environment: &'a Environment,
    script: &str,
    modules: &[&str],
    programs: Vec<(String, PathBuf)>,
) -> Result<Initrd<'a>, GuestError> {
    let mut initrd = Initrd::new(environment, &[include_str!("steps.sh"), script].concat())?;
    for module in modules {
        initrd.module(module, "")?;
    }
    for (name, path) in programs {
        initrd.local_file(&path, &format!("usr/bin/{name}"))?;
    }
    programs::firmware(&mut initrd, "firmware")?;
    Ok(initrd)
}

/// opx-probe's three commands show the adapter as it is.
fn adapter_is_seen(steps: &Steps) -> Result<(), GuestError> {
    let (list, info, csr) = (steps.json("list")?, steps.json("info")?, steps.json("csr")?);
    for (step, what, is, should) in [
        ("list", "the number of adapters", &list["adapters"][1], Value::Null),
        ("list", "the address", &list["adapters"][0]["adapter"], ADAPTER.into()),
        ("list", "the driver", &list["adapters"][0]["driver"], "vfio-pci".into()),
        ("list", "the verdict", &list["adapters"][0]["usable"], true.into()),
        ("info", "the ids", &info["pci"]["device"], "8086:24f0".into()),
        ("info", "the stepping", &info["chip"]["stepping"], "B0".into()),
        ("info", "the receive contexts", &info["sizes"]["receive_contexts"], 160.into()),
        ("csr", "the revision", &csr["registers"][0]["value"], info["chip"]["revision"].clone()),
    ] {
        steps.expect(step, what, is, &should)?;
    }
    Ok(())
}

/// The contract suite passed, and the emulated adapter was refused the memory that isn't mapped.
fn contract_holds(steps: &Steps, emulator: &Emulator) -> Result<(), GuestError> {
    steps.tests_passed("contract", CONTRACTS)?;
    match count(emulator, "dma_faults")? {
        0 => Err(steps.judged("the adapter met no DMA fault".to_owned())),
        _ => Ok(()),
    }
}

/// What the adapter has counted so far.
pub fn count(emulator: &Emulator, name: &str) -> Result<u64, GuestError> {
    let counts = emulator.ask("counts 0")?;
    let count = counts.split(' ').filter_map(|count| count.split_once('=')).find(|(key, _)| *key == name);
    let count = count.and_then(|(_, value)| value.parse().ok());
    count.ok_or_else(|| GuestError::Content(format!("opx-emu doesn't count {name}: {counts}")))
}

/// A run of opx-loopback passed every rung.
fn ladder_passed(steps: &Steps, step: &str) -> Result<(), GuestError> {
    let report = steps.json(step)?;
    let rungs = report["rungs"].as_array().map_or(&[][..], Vec::as_slice);
    let passed: Vec<&str> =
        rungs.iter().filter(|rung| rung["verdict"] == "passed").filter_map(|rung| rung["rung"].as_str()).collect();
    // As the program itself lists them.
    let listed = steps.said("out", "rungs");
    steps.expect(step, "whether there are rungs", &!listed.is_empty(), &true)?;
    steps.expect(step, "the rungs that passed", &passed[..], &listed[..])?;
    steps.expect(step, "the adapter", &report["adapter"], &Value::from(ADAPTER))?;
    steps.expect(step, "the verdict", &report["passed"], &Value::from(true))
}

/// What the steps of the script said.
pub struct Steps {
    release: String,
    lines: Vec<String>,
}

impl Steps {
    /// Waits for the end of the guest, and judges all but the steps.
    pub fn take(guest: &mut Guest, environment: &Environment) -> Result<Self, GuestError> {
        Self::take_expecting(guest, environment, &EXPECTED)
    }

    /// The same, where the kernel's log may have other warnings.
    pub fn take_expecting(guest: &mut Guest, environment: &Environment, expected: &[&str]) -> Result<Self, GuestError> {
        hfi1::judge_guest(environment, guest, expected)?;
        Ok(Self { release: environment.image().release().to_owned(), lines: guest.lines() })
    }

    /// A judgement that names the kernel.
    pub fn judged(&self, what: String) -> GuestError {
        GuestError::Judged(format!("{what}, on kernel {}", self.release))
    }

    /// A step's exit status.
    pub fn status(&self, step: &str) -> Result<i32, GuestError> {
        let prefix = format!("exit {step}: ");
        let status = self.lines.iter().find_map(|line| line.strip_prefix(&prefix)?.trim().parse().ok());
        status.ok_or_else(|| self.judged(format!("step {step} didn't end")))
    }

    /// What stands behind `prefix` in a line of its own.
    fn value(&self, prefix: &str) -> Result<&str, GuestError> {
        let value = self.lines.iter().find_map(|line| line.strip_prefix(prefix));
        value.ok_or_else(|| self.judged(format!("no line says {prefix:?}")))
    }

    /// The adapter's IOMMU group.
    fn group(&self) -> Result<u64, GuestError> {
        let group = self.json("list")?["adapters"][0]["iommu_group"].as_u64();
        group.ok_or_else(|| self.judged("the adapter has no IOMMU group".to_owned()))
    }

    /// The lines that a step wrote to a stream, `out` or `err`.
    pub fn said(&self, stream: &str, step: &str) -> Vec<&str> {
        let prefix = format!("{stream} {step}: ");
        self.lines.iter().filter_map(|line| line.strip_prefix(&prefix)).collect()
    }

    fn expect<T: PartialEq + std::fmt::Debug + ?Sized>(
        &self,
        step: &str,
        what: &str,
        is: &T,
        should: &T,
    ) -> Result<(), GuestError> {
        if is == should {
            return Ok(());
        }
        Err(self.judged(format!("step {step}: {what}: {is:?} instead of {should:?}")))
    }

    /// The JSON that a successful step printed.
    fn json(&self, step: &str) -> Result<Value, GuestError> {
        let (status, mut errors) = (self.status(step)?, self.said("err", step));
        // What opx-loopback says before it begins.
        errors.retain(|line| !line.ends_with(": what is done to it") && !line.starts_with("  - "));
        if status != 0 || !errors.is_empty() {
            return Err(self.judged(format!("step {step} exits with {status}: {}", errors.join("; "))));
        }
        let text = self.said("out", step).join("\n");
        serde_json::from_str(&text).map_err(|error| self.judged(format!("step {step} printed no JSON: {error}")))
    }

    /// A step was refused, with exit code 2 and one line that names the adapter and has `reason` in it.
    pub fn refused(&self, step: &str, reason: &str) -> Result<(), GuestError> {
        self.expect(step, "the exit status", &self.status(step)?, &2)?;
        self.expect(step, "standard output", &self.said("out", step)[..], &[][..])?;
        self.told(step, reason)
    }

    /// A step that runs a test program passed at least so many tests, and failed none.
    pub fn tests_passed(&self, step: &str, least: u32) -> Result<(), GuestError> {
        let (status, said) = (self.status(step)?, self.said("out", step));
        let summary = said.iter().find_map(|line| line.strip_prefix("test result: ok. "));
        let passed = summary.and_then(|line| line.split_once(" passed; 0 failed; 0 ignored; ")?.0.parse::<u32>().ok());
        if status == 0 && passed.is_some_and(|passed| passed >= least) {
            return Ok(());
        }
        let said = [said, self.said("err", step)].concat().join("\n");
        Err(self.judged(format!("the tests of step {step} exit with {status}:\n{said}")))
    }

    /// A step succeeded, and a line that it wrote begins like this.
    pub fn passed_with(&self, step: &str, start: &str) -> Result<(), GuestError> {
        let (status, said) = (self.status(step)?, self.said("out", step));
        if status == 0 && said.iter().any(|line| line.starts_with(start)) {
            return Ok(());
        }
        let said = [said, self.said("err", step)].concat().join("\n");
        Err(self.judged(format!("step {step} exits with {status}, without a line {start:?}:\n{said}")))
    }

    /// A step wrote one line of error that names the adapter and has `reason` in it.
    pub fn told(&self, step: &str, reason: &str) -> Result<(), GuestError> {
        // Before opx-loopback begins it says what it does to an adapter.
        let is_plan = |line: &&&str| line.ends_with(": what is done to it") || line.starts_with("  - ");
        match self.said("err", step).iter().filter(|line| !is_plan(line)).collect::<Vec<_>>()[..] {
            [line] if line.contains(ADAPTER) && line.contains(reason) => Ok(()),
            ref lines => Err(self.judged(format!("step {step} says {lines:?}, not one line with {reason:?}"))),
        }
    }
}

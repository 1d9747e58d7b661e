//! Our own driver and tools in a guest, on an adapter behind stock vfio-pci and a translating IOMMU.

use crate::programs;
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Iommu, Kernel, Run,
};
use serde_json::Value;
use std::time::Duration;

/// Longest time for all of it. It takes about half a minute on two processors.
const LIMIT: Duration = Duration::from_secs(240);
/// Where the adapter is: alone behind the first root port.
const ADAPTER: &str = "0000:01:00.0";
/// What opx-loopback has to pass, in order.
const RUNGS: [&str; 8] =
    ["registers", "interrupts", "pio", "sdma", "eager receive", "messages", "rendezvous", "reliability"];

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
    let programs = programs::build()?;
    let mut initrd = Initrd::new(&environment, include_str!("vfio.sh"))?;
    for module in ["vfio_pci", "vfio_iommu_type1"] {
        initrd.module(module, "")?;
    }
    for (name, path) in &programs {
        initrd.local_file(path, &format!("usr/bin/{name}"))?;
    }
    programs::firmware(&mut initrd)?;
    let emulator = Emulator::start(run, &EmulatorOptions { adapters: 1, arguments: Vec::new() })?;
    let options =
        GuestOptions { adapters: emulator.sockets().to_vec(), iommu: Iommu::Translating, ..GuestOptions::default() };
    let mut guest = Guest::start(run, &environment, &initrd.build(End::PowerOff), &options)?;
    let status = guest.finish(LIMIT)?;
    let steps = Steps { release: environment.image().release(), lines: guest.lines() };
    if status != 0 {
        return Err(steps.judged(format!("the script exits with {status}")));
    }
    steps.refused("unbound", "bound to no driver, not to vfio-pci;")?;
    adapter_is_seen(&steps)?;
    ladder_passed(&steps, "ladder")?;
    emulator.end().map(drop)
}

/// opx-probe's three commands show the adapter as it is.
fn adapter_is_seen(steps: &Steps<'_>) -> Result<(), GuestError> {
    let list = steps.json("list")?;
    let info = steps.json("info")?;
    let csr = steps.json("csr")?;
    println!("{list}\n{info}\n{csr}");
    Ok(())
}

/// A run of opx-loopback passed every rung.
fn ladder_passed(steps: &Steps<'_>, step: &str) -> Result<(), GuestError> {
    let report = steps.json(step)?;
    let rungs = report["rungs"].as_array().map_or(&[][..], Vec::as_slice);
    let passed: Vec<&str> =
        rungs.iter().filter(|rung| rung["verdict"] == "passed").filter_map(|rung| rung["rung"].as_str()).collect();
    steps.expect(step, "the rungs that passed", &passed[..], &RUNGS[..])?;
    steps.expect(step, "the adapter", &report["adapter"], &Value::from(ADAPTER))?;
    steps.expect(step, "the verdict", &report["passed"], &Value::from(true))
}

/// What the steps of the script said.
struct Steps<'a> {
    release: &'a str,
    lines: Vec<String>,
}

impl Steps<'_> {
    fn judged(&self, what: String) -> GuestError {
        GuestError::Judged(format!("{what}, on kernel {}", self.release))
    }

    /// A step's exit status.
    fn status(&self, step: &str) -> Result<i32, GuestError> {
        let prefix = format!("exit {step}: ");
        let status = self.lines.iter().find_map(|line| line.strip_prefix(&prefix)?.trim().parse().ok());
        status.ok_or_else(|| self.judged(format!("step {step} didn't end")))
    }

    /// The lines that a step wrote to a stream, `out` or `err`.
    fn said(&self, stream: &str, step: &str) -> Vec<&str> {
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
        let (status, errors) = (self.status(step)?, self.said("err", step));
        if status != 0 || !errors.is_empty() {
            return Err(self.judged(format!("step {step} exits with {status}: {}", errors.join("; "))));
        }
        let text = self.said("out", step).join("\n");
        serde_json::from_str(&text).map_err(|error| self.judged(format!("step {step} printed no JSON: {error}")))
    }

    /// A step was refused, with exit code 2 and one line that names the adapter and has `reason` in it.
    fn refused(&self, step: &str, reason: &str) -> Result<(), GuestError> {
        self.expect(step, "the exit status", &self.status(step)?, &2)?;
        self.expect(step, "standard output", &self.said("out", step)[..], &[][..])?;
        match self.said("err", step)[..] {
            [line] if line.contains(ADAPTER) && line.contains(reason) => Ok(()),
            ref lines => Err(self.judged(format!("step {step} says {lines:?}, not one line with {reason:?}"))),
        }
    }
}

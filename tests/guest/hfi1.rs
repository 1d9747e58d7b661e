//! What the scenarios with Linux's own hfi1 driver share: shell functions, and the judgement of the kernel's log and of the
//! adapters' counts.

pub use crate::stock::stock_software;
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Iommu, Kernel, Run,
};
use std::time::Duration;

/// Shell functions that the scenarios' scripts begin with.
pub const SHELL: &str = include_str!("hfi1.sh");

/// Longest time until the guest says what is awaited, or ends. It is for guests that hang: the longest scenario takes about a
/// minute on two processors, and busy ones are given their time.
pub const LIMIT: Duration = Duration::from_secs(900);

/// Warnings, since the first module was loaded, that say nothing against the adapter, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("clocksource:", "software emulation is slow"),
    ("hrtimer: interrupt took", "software emulation is slow"),
    ("perf: interrupt took too long", "software emulation is slow"),
    ("sched: DL replenish lagged too much", "software emulation is slow"),
    ("workqueue: ", "software emulation is slow"),
    ("Invalid PCI NUMA node", "the guest has one node"),
    ("System BIOS may need to be upgraded", "follows from the line before"),
    ("get_platform_config: Failed", "the EPROM is blank"),
    ("hfi1_platform.dat failed with error -2", "no package has that file"),
    ("No default platform config file found", "follows from the line before"),
    ("parse_platform_config: Missing config file", "follows from the line before"),
    ("Number of kernel receive queues is too large", "the guest has two processors"),
    ("tune_serdes: Unknown port type", "without a platform configuration the port's type is unknown"),
    ("has double dereference in TP_printk", "from 7.3 on the kernel checks the texts of a module's trace events"),
    ("SubnSet(OPA_PortInfo) smlid", "the driver tells each change of the manager's LID as a warning"),
];

/// The warnings with a trace for which that holds as well, by the function that warns.
const ALLOWED_TRACES: &[(&str, &str)] =
    &[("test_double_dereference", "from 7.3 on the kernel checks the texts of a module's trace events")];

/// What a scenario with two cabled adapters in one guest is made of.
pub struct Setup<'a> {
    /// The guest's kernel.
    pub kernel: Kernel,
    /// What the adapters say they are made of.
    pub icode: &'a str,
    /// What translates their addresses.
    pub iommu: Iommu,
    /// Parameters of the driver.
    pub module: &'a str,
    /// Programs besides the usual ones.
    pub programs: &'a [&'a str],
    /// Assignments before the script.
    pub variables: String,
    /// The script.
    pub script: &'a str,
    /// How the guest ends.
    pub end: End,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            kernel: Kernel::Trixie,
            icode: "silicon",
            iommu: Iommu::None,
            module: "",
            programs: &[],
            variables: String::new(),
            script: "",
            end: End::PowerOff,
        }
    }
}

/// A guest with two adapters, whose cable is plugged in.
pub struct Cabled {
    environment: Environment,
    /// The adapters.
    pub emulator: Emulator,
    /// The guest.
    pub guest: Guest,
}

impl Cabled {
    /// Starts the guest, and plugs the cable in when its script asks for it.
    pub fn start(run: &Run, setup: &Setup<'_>) -> Result<Self, GuestError> {
        let environment = Environment::get(setup.kernel)?;
        let script = [SHELL, &setup.variables, setup.script].concat();
        let mut initrd = Initrd::new(&environment, &script)?;
        stock_software(&mut initrd, setup.module)?;
        for program in setup.programs {
            initrd.program(program)?;
        }
        let initrd = initrd.build(setup.end);
        let arguments = ["--icode", setup.icode].map(str::to_owned).to_vec();
        let emulator = Emulator::start(run, &EmulatorOptions { adapters: 2, arguments })?;
        let adapters = emulator.sockets().to_vec();
        // The fabric manager alone takes 740 MB.
        let options = GuestOptions { adapters, memory: 3072, iommu: setup.iommu, ..GuestOptions::default() };
        let guest = Guest::start(run, &environment, &initrd, &options)?;
        let mut cabled = Self { environment, emulator, guest };
        cabled.answer("plug", |emulator| emulator.ask("plug").map(drop))?;
        Ok(cabled)
    }

    /// Does what the script asks for next, which must be this.
    pub fn answer(
        &mut self,
        asked: &str,
        act: impl FnOnce(&Emulator) -> Result<(), GuestError>,
    ) -> Result<(), GuestError> {
        let line = self.guest.wait_for("opx-ask: ", LIMIT)?;
        if line.trim_start_matches("opx-ask: ") != asked {
            return Err(GuestError::Judged(format!("the script says {line:?} where it should ask for {asked}")));
        }
        act(&self.emulator)?;
        self.guest.send("done")
    }

    /// Waits for the guest's end and judges it; see [`judge_guest`].
    pub fn judge(&mut self, expected: &[&str]) -> Result<(), GuestError> {
        self.judge_until(expected, None)
    }

    /// The same; what the kernel says from the first line with `last` on isn't judged.
    pub fn judge_until(&mut self, expected: &[&str], last: Option<&str>) -> Result<(), GuestError> {
        judge_log(&self.environment, &mut self.guest, expected, last)
    }
}

/// Waits for the end of a guest's scenario and judges its status and the kernel's log.
pub fn judge_guest(environment: &Environment, guest: &mut Guest, expected: &[&str]) -> Result<(), GuestError> {
    judge_log(environment, guest, expected, None)
}

fn judge_log(
    environment: &Environment,
    guest: &mut Guest,
    expected: &[&str],
    last: Option<&str>,
) -> Result<(), GuestError> {
    let status = guest.finish(LIMIT)?;
    let judged = |what: String| {
        let (release, log) = (environment.image().release(), guest.console().display());
        Err(GuestError::Judged(format!("{what} on kernel {release}; see {log}")))
    };
    if status != 0 {
        return judged(format!("the scenario exits with {status}"));
    }
    let warnings = without_allowed_traces(guest.kernel_warnings());
    let foreign =
        |line: &&String| !ALLOWED.iter().map(|(known, _)| known).chain(expected).any(|known| line.contains(known));
    let mut before = warnings.iter().take_while(|line| last.is_none_or(|last| !line.contains(last)));
    match before.find(foreign) {
        Some(line) => judged(format!("the kernel complains: {line}")),
        None => Ok(()),
    }
}

/// Leaves out what lies between the first line of such a trace and its last.
fn without_allowed_traces(mut warnings: Vec<String>) -> Vec<String> {
    let mut allowed = false;
    warnings.retain(|line| {
        allowed |= line.contains("WARNING: ") && ALLOWED_TRACES.iter().any(|(function, _)| line.contains(function));
        let keep = !allowed;
        allowed &= !line.contains("---[ end trace");
        keep
    });
    warnings
}

/// Ends the adapters, judges what they lack, and gives their reports.
pub fn judge_adapters(emulator: Emulator) -> Result<Vec<String>, GuestError> {
    let report = emulator.end()?;
    let unmodelled = |line: &&String| line.contains("aren't modelled") && !line.ends_with(": 0");
    match report.iter().find(unmodelled) {
        Some(line) => Err(GuestError::Judged(format!("{line}: {report:?}"))),
        None => Ok(report),
    }
}

/// The number after `name` in each adapter's report.
pub fn counts(report: &[String], name: &str) -> Vec<u64> {
    let number = |line: &String| {
        let rest = line.split_once(name)?.1.trim_start();
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    report.iter().filter_map(number).collect()
}

/// Checks that both adapters have counted something.
pub fn both_counted(report: &[String], names: &[&str]) -> Result<(), GuestError> {
    for name in names {
        let found = counts(report, name);
        if found.len() != 2 || found.contains(&0) {
            return Err(GuestError::Judged(format!("the adapters' reports have {name:?} {found:?}: {report:?}")));
        }
    }
    Ok(())
}

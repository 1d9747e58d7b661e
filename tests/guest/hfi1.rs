//! What the scenarios with Linux's own hfi1 driver share: shell functions, and the judgement of the kernel's log and of the
//! adapters' counts.

pub use crate::stock::stock_software;
use opx_tests::guest::{Emulator, Environment, Guest, GuestError};
use std::time::Duration;

/// Shell functions that the scenarios' scripts begin with.
pub const SHELL: &str = include_str!("hfi1.sh");

/// Longest time for a scenario. The longest takes about a minute on two processors.
const LIMIT: Duration = Duration::from_secs(300);

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
    ("SubnSet(OPA_PortInfo) smlid", "the driver tells each change of the manager's LID as a warning"),
];

/// Waits for the scenario's end and judges its status, the kernel's log, and what the adapters lack. Gives the adapters'
/// reports. `expected`: what this scenario brings about in the kernel's log.
pub fn judge(
    environment: &Environment,
    mut guest: Guest,
    emulator: Emulator,
    expected: &[&str],
) -> Result<Vec<String>, GuestError> {
    judge_guest(environment, &mut guest, expected)?;
    judge_adapters(emulator)
}

/// Waits for the end of a guest's scenario and judges its status and the kernel's log.
pub fn judge_guest(environment: &Environment, guest: &mut Guest, expected: &[&str]) -> Result<(), GuestError> {
    let status = guest.finish(LIMIT)?;
    let judged = |what: String| {
        let (release, log) = (environment.image().release(), guest.console().display());
        Err(GuestError::Judged(format!("{what} on kernel {release}; see {log}")))
    };
    if status != 0 {
        return judged(format!("the scenario exits with {status}"));
    }
    let warnings = guest.kernel_warnings();
    let foreign =
        |line: &&String| !ALLOWED.iter().map(|(known, _)| known).chain(expected).any(|known| line.contains(known));
    match warnings.iter().find(foreign) {
        Some(line) => judged(format!("the kernel complains: {line}")),
        None => Ok(()),
    }
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

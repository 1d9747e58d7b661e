//! Which clock a process reads: what the kernel and the processor say of the time-stamp counter, and the rule over that.
//!
//! The counter is read only where nothing speaks against it: the processor calls it invariant, the kernel keeps time by it,
//! and all processors that this process may run on are in one socket (libfabric's OPX has that last rule, too). What can't be
//! read speaks against it. `kvm-clock` and Hyper-V's clocks do as well: where the counter of a virtual machine can be trusted,
//! Linux ranks `tsc` above them (`arch/x86/kernel/kvmclock.c:kvmclock_init`,
//! `drivers/clocksource/hyperv_timer.c:hv_init_tsc_clocksource`).

use crate::cycles::{Counter, CycleClock, Cycles};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

/// What a clock in real time reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockSource {
    /// `CLOCK_MONOTONIC`, by the kernel's vDSO.
    System,
    /// The processor's cycle counter (time-stamp counter).
    Cycles,
}

impl ClockSource {
    /// Its name: `system` or `cycles`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Cycles => "cycles",
        }
    }
}

impl fmt::Display for ClockSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No clock has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no clock; there are \"system\" and \"cycles\"")]
pub struct UnknownClock(String);

impl FromStr for ClockSource {
    type Err = UnknownClock;

    fn from_str(name: &str) -> Result<Self, UnknownClock> {
        let found = [Self::System, Self::Cycles].into_iter().find(|source| source.name() == name);
        found.ok_or_else(|| UnknownClock(name.to_owned()))
    }
}

/// A processor, by the kernel's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu(pub u32);

/// Why a process reads the system's clock and not the cycle counter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhySystem {
    /// It was told to.
    #[error("{} says so", ClockChoice::VARIABLE)]
    Told,
    /// Not an x86-64 processor with `rdtscp`.
    #[error("the processor has no cycle counter that can be read in order")]
    NoCounter,
    /// The counter changes its rate, or stops.
    #[error("the cycle counter's rate isn't constant (the processor doesn't call it invariant)")]
    NotInvariant,
    /// The kernel trusts another clock more.
    #[error("the kernel keeps time by {0}, not by tsc")]
    Clocksource(String),
    /// The kernel doesn't say what it keeps time by.
    #[error("the kernel's clocksource can't be read")]
    ClocksourceUnknown,
    /// The kernel doesn't say where this process may run.
    #[error("the processors that this process may run on can't be read")]
    AffinityUnknown,
    /// The kernel doesn't say in which socket a processor is.
    #[error("the socket of processor {} can't be read", .0.0)]
    SocketUnknown(Cpu),
    /// The counters of several sockets need not agree.
    #[error("processors {} and {} are in different sockets; bind the process to one (numactl, taskset)", .0.0, .1.0)]
    Sockets(Cpu, Cpu),
    /// The counter's rate couldn't be measured: the process got too little of the processor, or the counter is slow.
    #[error("the cycle counter's rate couldn't be measured")]
    NotMeasured,
}

/// What the rule looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    /// Whether the processor's counter is invariant; `None` without one.
    invariant: Option<bool>,
    clocksource: Option<String>,
    /// The processors that this process may run on, each with its socket where that can be read; empty when unknown.
    sockets: Vec<(Cpu, Option<u32>)>,
}

impl Facts {
    fn gather(sysfs: &Path, invariant: Option<bool>, allowed: &BTreeSet<Cpu>) -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        let socket = |cpu: Cpu| {
            let package = format!("devices/system/cpu/cpu{}/topology/physical_package_id", cpu.0);
            // -1 is an unknown one.
            read(&sysfs.join(package))?.trim().parse().ok()
        };
        let clocksource = read(&sysfs.join("devices/system/clocksource/clocksource0/current_clocksource"));
        Self {
            invariant,
            clocksource: clocksource.map(|name| name.trim().to_owned()),
            sockets: allowed.iter().map(|cpu| (*cpu, socket(*cpu))).collect(),
        }
    }

    /// The rule: the first thing that speaks against the counter.
    fn trust(&self) -> Result<(), WhySystem> {
        match self.invariant {
            None => return Err(WhySystem::NoCounter),
            Some(false) => return Err(WhySystem::NotInvariant),
            Some(true) => {}
        }
        match self.clocksource.as_deref() {
            None => return Err(WhySystem::ClocksourceUnknown),
            Some("tsc") => {}
            Some(other) => return Err(WhySystem::Clocksource(other.to_owned())),
        }
        let mut first = None;
        for (cpu, socket) in &self.sockets {
            let socket = socket.ok_or(WhySystem::SocketUnknown(*cpu))?;
            let (first, of_first) = *first.get_or_insert((*cpu, socket));
            if socket != of_first {
                return Err(WhySystem::Sockets(first, *cpu));
            }
        }
        first.map(|_| ()).ok_or(WhySystem::AffinityUnknown)
    }
}

/// The processors that any thread of this process may run on: the thread that asks may be bound more narrowly than others.
/// Empty when that can't be read, as on machines of more than 1024 processors.
fn allowed() -> BTreeSet<Cpu> {
    let read = || -> std::io::Result<_> {
        let mut allowed = BTreeSet::new();
        for task in std::fs::read_dir("/proc/self/task")? {
            let name = task?.file_name();
            let Some(thread) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
                continue;
            };
            let cpus = match sched_getaffinity(Some(thread)) {
                Ok(cpus) => cpus,
                // It has just ended.
                Err(rustix::io::Errno::SRCH) => continue,
                Err(error) => return Err(error.into()),
            };
            allowed.extend((0..CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)).map(|cpu| Cpu(cpu as u32)));
        }
        Ok(allowed)
    };
    read().unwrap_or_default()
}

/// The choice between the two clocks, by what was `told` or else by `trust`.
fn choose<C>(
    told: Option<ClockSource>,
    trust: impl FnOnce() -> Result<(), WhySystem>,
    cycles: impl FnOnce() -> Result<C, WhySystem>,
) -> Result<C, WhySystem> {
    match told {
        Some(ClockSource::System) => Err(WhySystem::Told),
        Some(ClockSource::Cycles) => cycles(),
        None => trust().and_then(|()| cycles()),
    }
}

/// The clock of this process, chosen when the first one is needed and kept from then on.
///
/// ```
/// use opx_bus::clock_choice::{ClockChoice, ClockSource};
/// let choice = ClockChoice::of_this_process();
/// match choice.why_system() {
///     None => assert_eq!(choice.source(), ClockSource::Cycles),
///     Some(why) => println!("the system's clock is read, because {why}"),
/// }
/// ```
#[derive(Debug)]
pub struct ClockChoice(Result<Cycles, WhySystem>);

impl ClockChoice {
    /// The variable that names a clock: `system`, or `cycles` also where the rule is against it.
    pub const VARIABLE: &str = "OPX_CLOCK";

    /// The choice; the first call makes it, which takes some milliseconds.
    pub fn of_this_process() -> &'static Self {
        static CHOICE: OnceLock<ClockChoice> = OnceLock::new();
        CHOICE.get_or_init(Self::make)
    }

    fn make() -> Self {
        let told = std::env::var_os(Self::VARIABLE).and_then(|name| {
            let told = name.to_string_lossy().parse::<ClockSource>();
            told.inspect_err(|why| log::warn!("{}: {why}; opx chooses by itself", Self::VARIABLE)).ok()
        });
        let counter = Counter::find();
        let trust = || Facts::gather(Path::new("/sys"), counter.map(Counter::is_invariant), &allowed()).trust();
        let cycles = || Cycles::measure(counter.ok_or(WhySystem::NoCounter)?).ok_or(WhySystem::NotMeasured);
        let choice = choose(told, trust, cycles);
        match &choice {
            Ok(_) => log::debug!("clock: the processor's cycle counter"),
            Err(why) if told == Some(ClockSource::Cycles) => {
                log::warn!("{}: {why}; the system's clock is read", Self::VARIABLE);
            }
            Err(why) => log::debug!("clock: the system's, because {why}"),
        }
        Self(choice)
    }

    /// What is read.
    pub const fn source(&self) -> ClockSource {
        match self.0 {
            Ok(_) => ClockSource::Cycles,
            Err(_) => ClockSource::System,
        }
    }

    /// Why it is the system's clock, when it is.
    pub fn why_system(&self) -> Option<&WhySystem> {
        self.0.as_ref().err()
    }

    /// A clock on the counter that starts now, when that is what is read.
    pub(crate) fn start_cycles(&self) -> Option<CycleClock> {
        self.0.as_ref().ok().map(|cycles| cycles.start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A machine's sysfs: its clocksource, and what each processor's package file holds.
    fn sysfs(clocksource: Option<&str>, packages: &[Option<&str>]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: String, text: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        };
        if let Some(name) = clocksource {
            write("devices/system/clocksource/clocksource0/current_clocksource".to_owned(), name);
        }
        for (cpu, package) in packages.iter().enumerate() {
            if let Some(package) = package {
                write(format!("devices/system/cpu/cpu{cpu}/topology/physical_package_id"), package);
            }
        }
        tree
    }

    #[test]
    fn the_counter_is_read_only_where_nothing_speaks_against_it() {
        use WhySystem::*;
        const GOOD: Option<bool> = Some(true);
        const TSC: Option<&str> = Some("tsc");
        const TWO_SOCKETS: &[Option<&str>] = &[Some("0"), Some("0"), Some("1"), Some("1")];
        type Case<'a> =
            (&'a str, Option<bool>, Option<&'a str>, &'a [Option<&'a str>], &'a [u32], Result<(), WhySystem>);
        let cases: &[Case<'_>] = &[
            ("one core", GOOD, TSC, &[Some("0")], &[0], Ok(())),
            ("one socket", GOOD, TSC, &[Some("0"), Some("0")], &[0, 1], Ok(())),
            ("one socket, not the first", GOOD, TSC, TWO_SOCKETS, &[2, 3], Ok(())),
            ("one core of two sockets", GOOD, TSC, TWO_SOCKETS, &[3], Ok(())),
            ("two sockets", GOOD, TSC, TWO_SOCKETS, &[0, 1, 2, 3], Err(Sockets(Cpu(0), Cpu(2)))),
            ("a core of each", GOOD, TSC, TWO_SOCKETS, &[1, 3], Err(Sockets(Cpu(1), Cpu(3)))),
            ("no package file", GOOD, TSC, &[Some("0"), None], &[0, 1], Err(SocketUnknown(Cpu(1)))),
            ("of another's core", GOOD, TSC, &[Some("0"), None], &[0], Ok(())),
            ("unknown package", GOOD, TSC, &[Some("-1"), Some("-1")], &[0, 1], Err(SocketUnknown(Cpu(0)))),
            ("odd package file", GOOD, TSC, &[Some("")], &[0], Err(SocketUnknown(Cpu(0)))),
            ("no sysfs", GOOD, None, &[], &[0], Err(ClocksourceUnknown)),
            ("no affinity", GOOD, TSC, &[Some("0")], &[], Err(AffinityUnknown)),
            ("unstable", GOOD, Some("hpet"), &[Some("0")], &[0], Err(Clocksource("hpet".to_owned()))),
            ("a guest's", GOOD, Some("kvm-clock"), &[Some("0")], &[0], Err(Clocksource("kvm-clock".to_owned()))),
            ("rate varies", Some(false), Some("tsc"), &[Some("0")], &[0], Err(NotInvariant)),
            ("no counter", None, Some("tsc"), &[Some("0")], &[0], Err(NoCounter)),
        ];
        for (what, invariant, clocksource, packages, cpus, expected) in cases {
            let tree = sysfs(*clocksource, packages);
            let allowed = cpus.iter().copied().map(Cpu).collect();
            let facts = Facts::gather(tree.path(), *invariant, &allowed);
            assert_eq!(&facts.trust(), expected, "{what}: {facts:?}");
        }
    }

    #[test]
    fn what_is_told_goes_before_the_rule() {
        let (good, bad) = (|| Ok(()), || Err(WhySystem::NotInvariant));
        let measured = || Ok("cycles");
        let unmeasured = || Err::<&str, _>(WhySystem::NotMeasured);
        assert_eq!(choose(None, good, measured), Ok("cycles"));
        assert_eq!(choose(None, bad, measured), Err(WhySystem::NotInvariant));
        assert_eq!(choose(None, good, unmeasured), Err(WhySystem::NotMeasured));
        assert_eq!(choose(Some(ClockSource::System), good, measured), Err(WhySystem::Told));
        assert_eq!(choose(Some(ClockSource::Cycles), bad, measured), Ok("cycles"));
        assert_eq!(choose(Some(ClockSource::Cycles), bad, unmeasured), Err(WhySystem::NotMeasured));
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed().is_empty());
    }

    #[test]
    fn clocks_have_names() {
        for source in [ClockSource::System, ClockSource::Cycles] {
            assert_eq!(source.name().parse(), Ok(source));
        }
        assert!("tsc".parse::<ClockSource>().unwrap_err().to_string().contains("\"cycles\""));
    }
}

//! The instruction counter: a program runs itself as a child and has it do one instruction at a time (ptrace).
//!
//! Counts repeat exactly on the same binary. They say nothing of time: not of caches, nor of stores to a device. A string
//! instruction (`rep movsb`) counts as one.

use crate::instruction::{Kind, kind};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

/// Set in the child.
const TRACED: &str = "OPX_BENCH_TRACED";
/// Set by who wants to know where the instructions go: a folder.
const PATHS: &str = "OPX_BENCH_PATHS";
/// What the child raises before and after each counted run. Its parent keeps it from being delivered.
const MARK: Signal = Signal::SIGUSR1;
/// Counted runs of each case, and those in a short run (`--test`), which only shows that the bench runs.
const RUNS: usize = 64;
const FEW_RUNS: usize = 8;
/// Runs before them that warm it up.
const WARM_UP: usize = 64;
/// A run of so many instructions is no hot path: somebody waits for something.
const MOST_STEPS: u64 = 10_000_000;

/// Why nothing could be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program couldn't be run again.
    #[error("can't run this program once more to count its instructions: {0}")]
    Child(#[from] std::io::Error),
    /// The kernel refuses to trace.
    #[error("can't trace a child ({0}); in a container allow ptrace (--cap-add=SYS_PTRACE)")]
    Trace(#[from] Errno),
    /// The child did something else than what its parent expected.
    #[error("the counted program {0}")]
    Lost(String),
}

/// What one run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steps {
    /// Instructions.
    pub instructions: u64,
    /// System calls among them.
    pub system_calls: u64,
    /// Fences.
    pub fences: u64,
    /// Locked accesses.
    pub locked: u64,
    /// Divisions.
    pub divisions: u64,
}

impl Steps {
    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            instructions: f(self.instructions, other.instructions),
            system_calls: f(self.system_calls, other.system_calls),
            fences: f(self.fences, other.fences),
            locked: f(self.locked, other.locked),
            divisions: f(self.divisions, other.divisions),
        }
    }

    fn add(&mut self, kind: Kind) {
        self.instructions += 1;
        match kind {
            Kind::Plain => {}
            Kind::SystemCall => self.system_calls += 1,
            Kind::Fence => self.fences += 1,
            Kind::Locked => self.locked += 1,
            Kind::Division => self.divisions += 1,
        }
    }
}

/// The counted runs of one case, after a warm-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The case.
    pub name: String,
    /// Each run, in order.
    pub runs: Vec<Steps>,
}

impl Counted {
    /// Instructions of the run in the middle: what a run takes as a rule.
    pub fn median(&self) -> u64 {
        let mut all: Vec<u64> = self.runs.iter().map(|run| run.instructions).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    }

    /// Instructions of a run on average: with what happens only now and then.
    pub fn mean(&self) -> f64 {
        self.total().instructions as f64 / self.runs.len().max(1) as f64
    }

    /// Instructions of the longest run.
    pub fn most(&self) -> u64 {
        self.runs.iter().map(|run| run.instructions).max().unwrap_or(0)
    }

    /// All runs together.
    pub fn total(&self) -> Steps {
        self.runs.iter().fold(Steps::default(), |sum, run| sum.zip(*run, |a, b| a + b))
    }
}

/// Pieces of code to be counted.
///
/// With `OPX_BENCH_PATHS=FOLDER` the instructions of each case's last run are written there, in order, to a file a case: one address
/// a line, as `addr2line -ife PROGRAM` takes them to tell the lines of source.
///
/// ```no_run
/// let mut cases = opx_bench::Cases::default();
/// let mut sum = 0u64;
/// cases.add("an addition", || sum = std::hint::black_box(sum + 1));
/// for case in cases.count()? {
///     println!("{}: {} instructions", case.name, case.median());
/// }
/// # Ok::<(), opx_bench::Error>(())
/// ```
#[derive(Default)]
pub struct Cases<'a> {
    names: Vec<String>,
    cases: Vec<Box<dyn FnMut() + 'a>>,
}

impl std::fmt::Debug for Cases<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cases").field("names", &self.names).finish()
    }
}

impl<'a> Cases<'a> {
    /// Adds a piece of code. It runs 128 times, the second half of them counted; in a short run fewer are counted. What it
    /// needs between two runs is done by [`Cases::add_with`].
    pub fn add(&mut self, name: &str, work: impl FnMut() + 'a) {
        self.add_with(name, (), |()| {}, {
            let mut work = work;
            move |()| work()
        });
    }

    /// Adds a piece of code that works on `state`, which `before` prepares for each run without being counted.
    pub fn add_with<S: 'a>(
        &mut self,
        name: &str,
        mut state: S,
        mut before: impl FnMut(&mut S) + 'a,
        mut work: impl FnMut(&mut S) + 'a,
    ) {
        self.names.push(name.to_owned());
        self.cases.push(Box::new(move || {
            for run in 0..WARM_UP + runs() {
                before(&mut state);
                if run < WARM_UP {
                    work(&mut state);
                } else {
                    bracket(|| work(&mut state));
                }
            }
        }));
    }

    /// Counts. The program is run once more for that, up to here: what it does before must be repeatable. In that second
    /// run this doesn't return.
    ///
    /// # Errors
    /// When the program can't be run once more, may not be traced, or doesn't get as far as here.
    pub fn count(mut self) -> Result<Vec<Counted>, Error> {
        if std::env::var_os(TRACED).is_some() {
            ptrace::traceme()?;
            bracket(|| {});
            for case in &mut self.cases {
                case();
            }
            std::process::exit(0);
        }
        let child =
            Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(TRACED, "1").spawn()?;
        let wanted = runs();
        let mut paths = Paths::new(&self.names, wanted);
        let mut brackets = trace(Pid::from_raw(child.id().cast_signed()), &mut paths)?.into_iter();
        let lost = || Error::Lost("ended early".to_owned());
        let empty = brackets.next().ok_or_else(lost)?;
        let mut counted = Vec::new();
        for name in self.names {
            let runs: Vec<Steps> =
                brackets.by_ref().take(wanted).map(|run| run.zip(empty, u64::saturating_sub)).collect();
            if runs.len() < wanted {
                return Err(lost());
            }
            counted.push(Counted { name, runs });
        }
        Ok(counted)
    }
}

/// Whether the program was told to run its cases a few times only, as criterion's benches are.
pub fn is_short() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

fn runs() -> usize {
    if is_short() { FEW_RUNS } else { RUNS }
}

/// Runs `work` between two marks.
#[inline(never)]
fn bracket(work: impl FnOnce()) {
    // Without a tracer nothing would catch the signal; `count` has made sure that there is one.
    let _ = raise(MARK);
    work();
    let _ = raise(MARK);
}

/// Where the instructions of each case's last run are written, if anybody asked for that.
struct Paths<'a> {
    folder: PathBuf,
    names: &'a [String],
    /// Runs of a case; the empty one comes before them all.
    runs: usize,
    /// Those of the run that is counted now.
    addresses: Vec<u64>,
}

impl<'a> Paths<'a> {
    fn new(names: &'a [String], runs: usize) -> Option<Self> {
        let folder = std::env::var_os(PATHS)?.into();
        Some(Self { folder, names, runs, addresses: Vec::new() })
    }

    /// The run number `bracket` of `child` is over.
    fn end(&mut self, child: Pid, bracket: usize) -> Result<(), Error> {
        let addresses = std::mem::take(&mut self.addresses);
        let last = bracket.is_multiple_of(self.runs);
        if let Some(name) = (bracket / self.runs).checked_sub(1).and_then(|case| self.names.get(case)).filter(|_| last)
        {
            let base = load_address(child)?;
            let lines: String = addresses.iter().map(|at| format!("{:#x}\n", at.wrapping_sub(base))).collect();
            std::fs::write(self.folder.join(name.replace([' ', ':', ','], "-")), lines)?;
        }
        Ok(())
    }
}

/// Where the program lies in the child's memory.
fn load_address(child: Pid) -> std::io::Result<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{child}/maps"))?;
    let program = std::env::current_exe()?;
    let first = maps.lines().find(|line| line.ends_with(&*program.to_string_lossy()));
    let start = first.and_then(|line| line.split('-').next()).and_then(|start| u64::from_str_radix(start, 16).ok());
    Ok(start.unwrap_or(0))
}

/// Follows the child to its end and gives what lay between its marks, two by two.
fn trace(child: Pid, paths: &mut Option<Paths>) -> Result<Vec<Steps>, Error> {
    let mut brackets = Vec::new();
    let mut inside: Option<Steps> = None;
    let mut at = 0;
    // The program's code doesn't change: each instruction is looked at once.
    let mut kinds = HashMap::new();
    loop {
        match waitpid(child, None)? {
            WaitStatus::Stopped(_, MARK) => {
                inside = match inside {
                    Some(steps) => {
                        if let Some(paths) = paths {
                            paths.end(child, brackets.len())?;
                        }
                        brackets.push(steps);
                        None
                    }
                    None => Some(Steps::default()),
                };
            }
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            WaitStatus::Stopped(_, signal) => {
                ptrace::kill(child)?;
                return Err(Error::Lost(format!("got {signal}")));
            }
            WaitStatus::Exited(_, 0) => return Ok(brackets),
            other => return Err(Error::Lost(format!("ended with {other:?}"))),
        }
        let Some(steps) = &mut inside else {
            ptrace::cont(child, None)?;
            continue;
        };
        let next = ptrace::getregs(child)?.rip;
        // A string instruction stops after each repetition, where it is.
        if next != at {
            at = next;
            if let Some(paths) = paths {
                paths.addresses.push(next);
            }
            steps.add(*kinds.entry(next).or_insert_with(|| kind(&bytes_at(child, next))));
            if steps.instructions > MOST_STEPS {
                ptrace::kill(child)?;
                return Err(Error::Lost(format!("does more than {MOST_STEPS} instructions in one run")));
            }
        }
        ptrace::step(child, None)?;
    }
}

/// The first bytes of the instruction at `address`.
fn bytes_at(child: Pid, address: u64) -> [u8; 8] {
    ptrace::read(child, address as ptrace::AddressType).map_or([0; 8], |word| word.to_le_bytes())
}

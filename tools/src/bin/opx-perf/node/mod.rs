//! Shared memory between two processes of this node, by several libraries in turn: `--node`.
//!
//! Each round runs every transport once, in two processes of their own, one on each of two processors. How far these are apart is
//! measured before and after each round, by a cache line that goes back and forth: on many machines it changes, and everything
//! else with it.

mod cores;
mod mpi;
mod ours;
mod table;
mod ucx;

use crate::libfabric;
use crate::pattern::{Answerer, Asker, Job, Pattern, ROTATION, STALL};
use crate::transport::{Access, Transport};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

pub use cores::Cores;
pub use table::Table;

/// What a result begins with in a player's output; other lines are the library's.
const RESULT: &str = "opx-perf-result";
/// Longest time without a line from a player, who says something after each job; one that stalls while it is at one ends itself
/// after [`STALL`], if it is one of ours.
const QUIET: Duration = STALL.saturating_mul(10);
/// Messages under way at a time, unless told otherwise.
const WINDOW: u32 = 64;
/// Messages of each size whose content is looked at.
const CHECKED: u64 = 4;

/// A library that carries messages between processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Library {
    /// This project's own: an endpoint whose peer is on the same machine.
    Opx,
    /// A provider of libfabric.
    Libfabric(String),
    /// Open MPI.
    OpenMpi,
    /// MPICH.
    Mpich,
    /// UCX, by its own `ucx_perftest`.
    Ucx,
}

impl Library {
    /// Whether it can play a measurement. A provider of libfabric's may lack operations on memory all the same.
    fn can(&self, job: &Job) -> bool {
        match self {
            Self::Opx | Self::Libfabric(_) => true,
            Self::OpenMpi | Self::Mpich => job.pattern.access().is_none(),
            // It has one buffer, which can't rotate.
            Self::Ucx => job.pattern.access().is_none() && !job.rotating,
        }
    }

    /// Whether it is this project's.
    pub fn is_ours(&self) -> bool {
        *self == Self::Opx
    }
}

impl FromStr for Library {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "opx" => Ok(Self::Opx),
            "openmpi" => Ok(Self::OpenMpi),
            "mpich" => Ok(Self::Mpich),
            "ucx" => Ok(Self::Ucx),
            _ => match text.strip_prefix("libfabric:") {
                Some(provider) if !provider.is_empty() => Ok(Self::Libfabric(provider.to_owned())),
                _ => Err("name opx, openmpi, mpich, ucx, or libfabric:PROVIDER".to_owned()),
            },
        }
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opx => f.write_str("opx"),
            Self::Libfabric(provider) => write!(f, "libfabric:{provider}"),
            Self::OpenMpi => f.write_str("openmpi"),
            Self::Mpich => f.write_str("mpich"),
            Self::Ucx => f.write_str("ucx"),
        }
    }
}

/// What one end of a pair is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Asks and takes the time.
    Asks,
    /// Answers.
    Answers,
}

/// The time for all messages of a job.
type Timed = (Job, Duration);

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who takes part.
    pub libraries: Vec<Library>,
    /// What is measured.
    pub jobs: Vec<Job>,
    /// How often each.
    pub rounds: u16,
    /// The processors of the two ends.
    pub cores: Cores,
    /// libfabric.
    pub library: PathBuf,
}

impl Plan {
    /// Runs all libraries, round after round.
    ///
    /// # Errors
    /// When one of them isn't there or fails.
    pub fn run(&self) -> Result<Table> {
        let mut table = Table::new(&self.libraries, &self.jobs);
        for _ in 0..self.rounds {
            let before = self.cores.line_back_and_forth()?;
            let mut round = Vec::new();
            for library in &self.libraries {
                round.push(self.play(library).with_context(|| library.to_string())?);
            }
            table.add(before, self.cores.line_back_and_forth()?, round);
        }
        Ok(table)
    }

    /// What a library took for each job; `None` for what it can't play.
    fn play(&self, library: &Library) -> Result<Vec<Option<Duration>>> {
        let jobs: Vec<Job> = self.jobs.iter().copied().filter(|job| library.can(job)).collect();
        let results = match library {
            _ if jobs.is_empty() => Vec::new(),
            Library::Ucx => ucx::play(self, &jobs)?,
            Library::OpenMpi => {
                let mpirun = ["mpirun.openmpi", "--allow-run-as-root", "--bind-to", "none"];
                self.under_mpirun(library, &jobs, &mpirun)?
            }
            Library::Mpich => self.under_mpirun(library, &jobs, &["mpirun.mpich", "-bind-to", "none"])?,
            Library::Opx | Library::Libfabric(_) => self.as_two(library, &jobs)?,
        };
        let mut times = Vec::new();
        for job in &self.jobs {
            let time = results.iter().find(|(played, _)| played == job).map(|(_, time)| *time);
            let may_lack = matches!(library, Library::Libfabric(_)) && job.pattern.access().is_some();
            ensure!(time.is_some() || may_lack || !library.can(job), "it has no result of {job}");
            times.push(time);
        }
        Ok(times)
    }

    /// This program again, as an end.
    fn end(&self, command: &mut Command, library: &Library, jobs: &[Job]) -> Result<()> {
        let jobs: Vec<String> = jobs.iter().map(Job::to_string).collect();
        command.arg(std::env::current_exe().context("can't find this program to start its ends")?);
        command.args(["--node", &library.to_string(), "--cores", &self.cores.to_string()]);
        command.arg("--library").arg(&self.library).arg("--node-end").arg(jobs.join(","));
        Ok(())
    }

    fn under_mpirun(&self, library: &Library, jobs: &[Job], mpirun: &[&str]) -> Result<Vec<Timed>> {
        let mut command = Command::new(mpirun.first().copied().unwrap_or_default());
        command.args(mpirun.iter().skip(1)).args(["-n", "2"]);
        self.end(&mut command, library, jobs)?;
        results(Player::start(command)?)
    }

    fn as_two(&self, library: &Library, jobs: &[Job]) -> Result<Vec<Timed>> {
        let (one, other) = UnixStream::pair().context("can't make a socket")?;
        let mut players = Vec::new();
        for (socket, side) in [(one, "asks"), (other, "answers")] {
            let mut command = Command::new("/usr/bin/env");
            self.end(&mut command, library, jobs)?;
            command.args(["--side", side]).stdin(OwnedFd::from(socket));
            players.push(Player::start(command)?);
        }
        let answers = players.pop();
        let found = players.pop().map(results).unwrap_or_else(|| bail!("no end was started"))?;
        answers.map(results).transpose()?;
        Ok(found)
    }
}

/// A process of this run, ended with it.
struct Player(Child);

impl Player {
    fn start(mut command: Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdout(Stdio::piped()).spawn();
        Ok(Self(child.with_context(|| format!("can't start {name}; is its package installed?"))?))
    }

    /// What it prints until it ends.
    ///
    /// # Errors
    /// When there is no more of it for [`QUIET`]: it hangs.
    fn lines(&mut self) -> Result<Vec<String>> {
        let out = self.0.stdout.take().context("a player has no output")?;
        let (tell, told) = mpsc::channel();
        // It ends with the output, or at the first line that nobody waits for any more.
        std::thread::spawn(move || BufReader::new(out).lines().try_for_each(|line| tell.send(line)));
        let mut lines = Vec::new();
        loop {
            match told.recv_timeout(QUIET) {
                Ok(line) => lines.push(line.context("a player's output broke off")?),
                Err(RecvTimeoutError::Disconnected) => return Ok(lines),
                Err(RecvTimeoutError::Timeout) => bail!("a player has said nothing for {QUIET:?}"),
            }
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a player has measured, once it has ended.
fn results(mut player: Player) -> Result<Vec<Timed>> {
    let mut found = Vec::new();
    for line in player.lines()? {
        let Some((_, result)) = line.split_once(RESULT) else { continue };
        let mut words = result.split_whitespace();
        let (job, time) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let job = job.parse().map_err(|why: String| anyhow::anyhow!(why))?;
        found.push((job, Duration::from_nanos(time.parse().context("a player's time")?)));
    }
    let status = player.0.wait().context("a player is gone")?;
    ensure!(status.success(), "a player ended with {status}");
    Ok(found)
}

/// Prints what the conductor reads.
fn tell(job: &Job, time: Duration) {
    println!("{RESULT} {job} {}", time.as_nanos());
}

/// This process is an end: plays the jobs.
///
/// # Errors
/// When the library isn't there or fails.
pub fn play(library: &Library, jobs: &[Job], side: Option<Side>, cores: Cores, file: &Path) -> Result<()> {
    match library {
        Library::OpenMpi | Library::Mpich => mpi::play(library, jobs, cores),
        Library::Ucx => bail!("ucx_perftest is its own ends"),
        Library::Opx => {
            let side = side.context("an end needs its side")?;
            cores.pin(side)?;
            let (mut end, _before) = ours::one(side, exchange)?;
            play_on(&mut end, side, jobs)
        }
        Library::Libfabric(provider) => {
            let side = side.context("an end needs its side")?;
            cores.pin(side)?;
            let needs: Vec<Access> = jobs.iter().filter_map(|job| job.pattern.access()).collect();
            let mut end = libfabric::one(file, provider, &needs, exchange)?;
            play_on(&mut end, side, jobs)
        }
    }
}

/// Tells the other end this one's name, and gives its. The socket to it is this process' standard input.
fn exchange(name: &[u8]) -> Result<Vec<u8>> {
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.write_all(&u32::try_from(name.len())?.to_le_bytes())?;
    socket.write_all(name)?;
    let mut len = [0; 4];
    socket.read_exact(&mut len)?;
    let mut theirs = vec![0; u32::from_le_bytes(len).min(4096) as usize];
    socket.read_exact(&mut theirs)?;
    Ok(theirs)
}

/// Plays one side over a transport.
fn play_on<T: Transport>(end: &mut T, side: Side, jobs: &[Job]) -> Result<()> {
    if side == Side::Answers {
        let mut answerer = Answerer::new(end)?;
        while !answerer.is_over() {
            answerer.step(end)?;
        }
        return Ok(());
    }
    let can = |job: &&Job| job.pattern.access().is_none_or(|access| end.can(access));
    let jobs: Vec<&Job> = jobs.iter().filter(can).collect();
    let mut meanwhile = || Ok(());
    let mut asker = Asker::new(end, &mut meanwhile);
    asker.time_all_only();
    for job in jobs {
        asker.check(job.pattern, job.size, CHECKED)?;
        tell(job, asker.measure(job)?.time);
    }
    asker.finish()
}

/// What is measured: how long messages take, how many short ones pass, and how many bytes of long ones, also in memory that
/// rotates.
pub fn jobs(count: Option<u64>) -> Vec<Job> {
    let latency = [8, 64, 1 << 10, 8 << 10].map(|size| (Pattern::Latency, size, false));
    let bandwidth = [8, 8 << 10, 64 << 10, 1 << 20, 4 << 20].map(|size| (Pattern::Bandwidth, size, false));
    let rotating = [8 << 10, 64 << 10, 1 << 20, 4 << 20].map(|size| (Pattern::Bandwidth, size, true));
    let jobs = latency.into_iter().chain(bandwidth).chain(rotating).map(|(pattern, size, rotating)| {
        let window = if pattern == Pattern::Latency { 1 } else { WINDOW };
        job(pattern, size, window, rotating, count)
    });
    jobs.collect()
}

/// A measurement; `count` messages of it count, or as many as take long enough.
pub fn job(pattern: Pattern, size: usize, window: u32, rotating: bool, count: Option<u64>) -> Job {
    let fitting = (512 << 20) / size.max(1) as u64;
    let most = if pattern.is_latency() { 20_000 } else { 400_000 };
    let count = count.unwrap_or(fitting.clamp(64, most));
    // All that rotates is touched before time is taken.
    let touched = if rotating { (ROTATION / size.max(1)) as u64 + 2 * u64::from(window) } else { 1 };
    Job { pattern, size, window, warmup: (count / 10).max(touched), count, rotating }
}

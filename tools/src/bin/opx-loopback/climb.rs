//! The rungs of a level, one after the other, and what each came to.

use crate::cli::{Cli, Role};
use crate::level::{self, LADDER, Level, SOAK};
use crate::report::{FileHashes, Line, Report, Tally, Verdict};
use crate::rig::{Failure, Outcome, Rig, verdict};
use crate::{errors, faults, rungs, sweep};
use anyhow::Error;
use indicatif::ProgressBar;
use opx_bus::PciFunction;
use opx_defs::time::Instant;
use opx_hw::counters::Counters;
use opx_tools::adapter::AnyBus;
use std::fs::File;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Why a rung wasn't begun.
const OUT_OF_TIME: &str = "the time is up; --duration gives more";

/// Runs the rungs of the level in order, then sends the file. A rung that fails doesn't end the ladder; an adapter that is
/// gone does.
///
/// # Errors
/// When the adapter can't be used any further, or a signal came.
pub fn climb(
    cli: &Cli,
    rig: &Rig<AnyBus>,
    file: Option<File>,
    report: &mut Report,
    bar: &ProgressBar,
) -> Result<(), Error> {
    let first = rig.hfi.counters()?;
    let mut climb = Climb { rig, report, bar, ends: None, measured: None };
    let climbed = if cli.role.is_none() { climb.rungs(cli) } else { Ok(()) };
    // Also of a run that is cut short, while the adapter answers.
    let last = rig.hfi.counters();
    if let Ok(last) = &last {
        let measured = climb.measured.as_ref().map(|(before, after)| (before, after.as_ref().unwrap_or(last)));
        climb.report.errors = Some(errors::grown(&first, last, measured));
    }
    climbed?;
    last?;
    climb.ends = None;
    climb.file(cli, file)
}

struct Climb<'a> {
    rig: &'a Rig<AnyBus>,
    report: &'a mut Report,
    bar: &'a ProgressBar,
    /// When nothing further is begun.
    ends: Option<Instant>,
    /// What the counters showed before latency and bandwidth, and after them when it came to that.
    measured: Option<(Counters, Option<Counters>)>,
}

impl Climb<'_> {
    /// The ladder, and what the level has above it.
    fn rungs(&mut self, cli: &Cli) -> Result<(), Error> {
        let rig = self.rig;
        let now = rig.hfi.bus().now();
        self.ends = cli.duration.or(cli.level.limit(&cli.adapter)).map(|limit| now + limit);
        self.bar.set_length(cli.level.rungs(&cli.adapter).len() as u64);
        for rung in LADDER {
            self.step(rung.name, || (rung.run)(rig))?;
        }
        match cli.level {
            Level::Quick => Ok(()),
            Level::Full => self.measure(cli),
            Level::Soak => self.soak(),
        }
    }

    /// Runs a rung and adds its line.
    fn step(&mut self, rung: &'static str, run: impl FnOnce() -> Outcome) -> Result<(), Error> {
        let line = self.time(rung, run)?;
        self.report.rungs.push(line);
        self.bar.inc(1);
        Ok(())
    }

    fn time(&self, rung: &'static str, run: impl FnOnce() -> Outcome) -> Result<Line, Error> {
        self.bar.set_message(rung);
        let bus = self.rig.hfi.bus();
        let start = bus.now();
        if self.ends.is_some_and(|ends| start >= ends) {
            let verdict = Verdict::NotRun(OUT_OF_TIME.to_owned());
            return Ok(Line { rung, tally: Tally::default(), time: Duration::ZERO, verdict });
        }
        let outcome = run();
        let time = bus.now().since(start);
        match (verdict(&outcome), outcome) {
            (Some(verdict), outcome) => Ok(Line { rung, tally: outcome.unwrap_or_default(), time, verdict }),
            (None, Err(Failure::Adapter(error))) => Err(error.context(format!("rung \"{rung}\" was cut short"))),
            (None, _) => Err(Error::new(Failure::Stopped).context(format!("rung \"{rung}\" was cut short"))),
        }
    }

    /// Latency, bandwidth, the errors that the adapter counted meanwhile, and faults.
    fn measure(&mut self, cli: &Cli) -> Result<(), Error> {
        let rig = self.rig;
        let before = rig.hfi.counters()?;
        self.measured = Some((before.clone(), None));
        // What there is of a sweep that is cut short stays.
        let mut latency = Vec::new();
        let ran = self.step(level::LATENCY, || sweep::latency(rig, &mut latency));
        self.report.latency = latency;
        ran?;
        let mut bandwidth = Vec::new();
        let ran = self.step(level::BANDWIDTH, || sweep::bandwidth(rig, &mut bandwidth));
        self.report.bandwidth = bandwidth;
        ran?;
        let after = rig.hfi.counters()?;
        self.measured = Some((before.clone(), Some(after.clone())));
        self.step(level::ERRORS, || none_of(&before, &after))?;
        if cli.level.rungs(&cli.adapter).contains(&level::FAULTS) {
            self.step(level::FAULTS, || faults::rung(cli))?;
        }
        Ok(())
    }

    /// Repeats messages of all kinds until the time is up or a signal comes, each round with other data. A rung that has failed
    /// isn't repeated.
    ///
    /// # Errors
    /// When the adapter can't be used any further, or a signal came before each of them had run once.
    fn soak(&mut self) -> Result<(), Error> {
        let first = self.report.rungs.len();
        for round in 0.. {
            let rig = self.rig.with_seed(self.rig.seed.wrapping_add(round));
            for (n, rung) in (first..).zip(SOAK) {
                let before = self.report.rungs.get(n).map(|line| line.verdict == Verdict::Passed);
                if before == Some(false) {
                    continue;
                }
                match (self.time(rung.name, || (rung.run)(&rig)), self.report.rungs.get_mut(n)) {
                    // Each has run: a signal is how a soak ends before its time.
                    (Err(error), _) if round > 0 && is_stopped(&error) => return Ok(()),
                    (Err(error), _) => return Err(error),
                    (Ok(line), None) => self.report.rungs.push(line),
                    (Ok(line), Some(all)) => all.add(&line, rig.seed),
                }
                self.bar.inc(u64::from(round == 0));
            }
            let now = rig.hfi.bus().now();
            let over = rig.stop.load(Ordering::Relaxed) || self.ends.is_some_and(|ends| now >= ends);
            let lines = self.report.rungs.get(first..).unwrap_or_default();
            if over || lines.iter().all(|line| line.verdict != Verdict::Passed) {
                break;
            }
        }
        Ok(())
    }

    /// Sends the file, if there is one.
    fn file(&mut self, cli: &Cli, file: Option<File>) -> Result<(), Error> {
        let (rig, bar) = (self.rig, self.bar);
        let mut hashes = FileHashes::default();
        let shown = |done: u64, all: u64| {
            bar.set_length(all);
            bar.set_position(done);
        };
        match (cli.role, file) {
            (None, Some(file)) => self.step("file", || rungs::file(rig, file, shown, &mut hashes))?,
            (Some(Role::Sender), Some(file)) => {
                self.step("send file", || rungs::send_file(rig, file, shown, &mut hashes))?;
            }
            (Some(Role::Receiver), _) => {
                self.step("receive file", || rungs::receive_file(rig, shown, &mut hashes))?;
            }
            (_, None) => return Ok(()),
        }
        self.report.file = Some(hashes);
        Ok(())
    }
}

/// Whether this program was asked to end.
fn is_stopped(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(Failure::Stopped))
}

/// Passes when no counter of errors has grown.
fn none_of(before: &Counters, after: &Counters) -> Outcome {
    let grown = errors::grown(before, after, None);
    let told: Vec<String> =
        grown.iter().map(|error| format!("{} {}", error.counter, error.after - error.before)).collect();
    match told.is_empty() {
        true => Ok(Tally { messages: after.iter().count() as u64, ..Tally::default() }),
        false => Err(Failure::wrong(format!("the adapter counted errors: {}", told.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::TimesOf;
    use crate::safety::FoundLink;
    use clap::Parser;
    use opx_emu::{Icode, Pacing};
    use opx_hw::{Hfi, LinkMode, Options};
    use opx_tools::adapter::{self, AdapterSpec};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    fn rig() -> Rig<AnyBus> {
        let config = opx_emu::Config { icode: Icode::FunctionalSimulator, ..opx_emu::Config::default() };
        let options = adapter::Options { pacing: Pacing::Virtual, config, ..adapter::Options::default() };
        let bus = adapter::open(&AdapterSpec::Emulated, &options).unwrap();
        let hfi = Hfi::open(bus.clone(), Options::default()).unwrap();
        hfi.link_up(LinkMode::Loopback).unwrap();
        let (emulated, config) = (bus.emulated().cloned(), opx_stack::Config::default());
        Rig { hfi, emulated, config, seed: 1, faults: None, stop: Arc::new(AtomicBool::new(false)) }
    }

    #[test]
    fn a_soak_that_is_stopped_before_its_rungs_have_run_doesnt_pass() {
        let rig = rig();
        rig.stop.store(true, Ordering::Relaxed);
        let mut report = Report::new(Level::Soak, "emulated".to_owned(), FoundLink::Down, TimesOf::SimulatedClock, 1);
        report.rungs.push(Line {
            rung: "registers",
            tally: Tally::default(),
            time: Duration::ZERO,
            verdict: Verdict::Passed,
        });
        let bar = ProgressBar::hidden();
        let mut climb = Climb { rig: &rig, report: &mut report, bar: &bar, ends: None, measured: None };
        assert!(is_stopped(&climb.soak().unwrap_err()));
    }

    /// Climbs, and is stopped once `rungs` of them have ended.
    fn stopped_after(rungs: u64, args: &[&str]) -> Report {
        let cli = Cli::try_parse_from(["x", "--virtual-time"].iter().chain(args)).unwrap();
        let rig = rig();
        let mut report = Report::new(cli.level, "emulated".to_owned(), FoundLink::Down, TimesOf::SimulatedClock, 1);
        let bar = ProgressBar::hidden();
        let climbed = std::thread::scope(|scope| {
            scope.spawn(|| {
                while bar.position() < rungs && !bar.is_finished() {
                    std::thread::yield_now();
                }
                rig.stop.store(true, Ordering::Relaxed);
            });
            let climbed = climb(&cli, &rig, None, &mut report, &bar);
            bar.finish();
            climbed
        });
        assert!(is_stopped(&climbed.unwrap_err()));
        report
    }

    #[test]
    fn a_run_that_is_cut_short_has_what_there_was_until_then() {
        // A sweep takes far longer than a thread needs to see that it has begun.
        let report = stopped_after(LADDER.len() as u64 + 1, &["--level", "full"]);
        assert_eq!(report.rungs.last().map(|line| line.rung), Some(level::LATENCY));
        assert!(!report.latency.is_empty() && report.latency.iter().all(|row| row.messages > 0));
        // The ladder provokes errors, and the adapter still tells of them.
        assert!(report.errors.is_some_and(|errors| !errors.is_empty()));
    }
}

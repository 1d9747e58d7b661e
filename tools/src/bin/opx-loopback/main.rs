//! opx-loopback: takes one adapter from its registers to reliable messages and tells how far it got.
#![forbid(unsafe_code)]

mod cli;
mod data;
mod faults;
mod report;
mod rig;
mod rungs;

use anyhow::Context;
use cli::{Cli, Role};
use indicatif::{ProgressBar, ProgressStyle};
use opx_bus::PciFunction;
use opx_emu::Pacing;
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{Config, job_key_of_this_process};
use opx_tools::adapter::{self, AnyBus};
use opx_tools::cli::{complain, parse, with_causes};
use opx_tools::firmware::Firmware;
use report::{FileHashes, Line, Report};
use rig::{Failure, GIVE_UP_AFTER, Outcome, Rig, verdict};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long the other end of a cable may take to appear.
const CABLE_LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
    let cli: Cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if let Err(error) = opx_stack::observe::dump_on_sigusr2() {
        log::warn!("can't catch SIGUSR2: {error}; there will be no state dumps");
    }
    // Kept open beyond what is told: for an adapter that doesn't answer, closing it may take the kernel a minute.
    let mut open = None;
    match run(&cli, &mut open) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&with_causes(&error)),
    }
}

/// Runs everything; `true` when every rung passed. The adapter is left in `open`.
fn run(cli: &Cli, open: &mut Option<AnyBus>) -> anyhow::Result<bool> {
    cli.check()?;
    if let Some(which) = &cli.faults {
        return faults::run(cli, which);
    }
    let file = cli.file.as_deref().map(open_file).transpose()?;

    let bus = adapter::open(
        &cli.adapter,
        &adapter::Options {
            pacing: if cli.virtual_time { Pacing::Virtual } else { Pacing::Real },
            config: opx_emu::Config { icode: cli.icode.into(), ..opx_emu::Config::default() },
            ..adapter::Options::default()
        },
    )?;
    *open = Some(bus.clone());
    // Firmware made for the emulated adapter lives as long as the run.
    let firmware = Firmware::find(cli.firmware.as_deref(), &cli.adapter)?;
    let job_key = job_key_of_this_process()?;
    let options = Options { firmware_dir: Some(firmware.dir().to_owned()), job_key, ..Options::default() };
    let hfi = Hfi::open(bus.clone(), options)?;
    hfi.link_up(match cli.role {
        None => LinkMode::Loopback,
        Some(_) => LinkMode::Cable { timeout: CABLE_LIMIT },
    })?;
    let mut config = Config::from_env();
    config.reliability.give_up_after = GIVE_UP_AFTER;
    let rig = Rig { hfi, emulated: bus.emulated().cloned(), config, seed: cli.seed, faults: cli.wire_faults() };

    let mut report = Report::new(cli.adapter.to_string(), cli.seed, cli.virtual_time);
    let bar = progress_bar(cli);
    let climbed = climb(cli, &rig, file, &mut report, &bar);
    bar.finish_and_clear();
    climbed?;
    report.close();
    let text = if cli.json { serde_json::to_string_pretty(&report)? } else { report.text() };
    print(&text)?;
    Ok(report.passed)
}

/// Prints the result.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("can't write to stdout"),
    }
}

/// Runs the rungs in order. A rung that fails doesn't end the ladder; an adapter that is gone does.
fn climb(
    cli: &Cli,
    rig: &Rig<AnyBus>,
    file: Option<File>,
    report: &mut Report,
    bar: &ProgressBar,
) -> Result<(), anyhow::Error> {
    type Rung = fn(&Rig<AnyBus>) -> Outcome;
    let ladder: &[(&'static str, Rung)] = match cli.role {
        Some(_) => &[],
        None => &[
            ("registers", rungs::registers),
            ("interrupts", rungs::interrupts),
            ("pio", rungs::pio),
            ("pio errors", rungs::pio_errors),
            ("sdma", rungs::sdma),
            ("sdma runs", rungs::sdma_runs),
            ("sdma errors", rungs::sdma_errors),
            ("eager receive", rungs::eager_receive),
            ("expected receive", rungs::expected_receive),
            ("steering", rungs::steering),
            ("messages", rungs::messages),
            ("rendezvous", rungs::rendezvous),
            ("zero copy", rungs::zero_copy),
            ("reliability", rungs::reliability),
        ],
    };
    bar.set_length(ladder.len() as u64);
    for (name, rung) in ladder {
        bar.set_message(*name);
        step(rig, report, name, || rung(rig))?;
        bar.inc(1);
    }

    let mut hashes = FileHashes::default();
    let shown = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    bar.set_message("file");
    match (cli.role, file) {
        (None, Some(file)) => step(rig, report, "file", || rungs::file(rig, file, shown, &mut hashes))?,
        (Some(Role::Sender), Some(file)) => {
            step(rig, report, "send file", || rungs::send_file(rig, file, shown, &mut hashes))?;
        }
        (Some(Role::Receiver), _) => {
            step(rig, report, "receive file", || rungs::receive_file(rig, shown, &mut hashes))?;
        }
        (_, None) => return Ok(()),
    }
    report.file = Some(hashes);
    Ok(())
}

fn step(
    rig: &Rig<AnyBus>,
    report: &mut Report,
    rung: &'static str,
    run: impl FnOnce() -> Outcome,
) -> Result<(), anyhow::Error> {
    let bus = rig.hfi.bus();
    let start = bus.now();
    let outcome = run();
    let time = bus.now().since(start);
    match (verdict(&outcome), outcome) {
        (Some(verdict), outcome) => {
            report.rungs.push(Line { rung, tally: outcome.unwrap_or_default(), time, verdict });
            Ok(())
        }
        (None, Err(Failure::Adapter(error))) => Err(error.context(format!("rung \"{rung}\" was cut short"))),
        (None, _) => Ok(()),
    }
}

/// Opens the file to be sent, or tells what is wrong with it.
fn open_file(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    let unreadable =
        |error| anyhow::anyhow!("can't read --file {shown}: {error}; give a file that is there and may be read");
    // Before it is opened: opening a pipe waits for somebody to write to it.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        anyhow::bail!("--file {shown} isn't a regular file; give one whose length is known");
    }
    if metadata.len() == 0 {
        anyhow::bail!("--file {shown} is empty; give one with something to send");
    }
    File::open(path).map_err(unreadable)
}

fn progress_bar(cli: &Cli) -> ProgressBar {
    use std::io::IsTerminal;
    if cli.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:14} [{bar:40}] {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(1).with_style(style)
}

//! opx-loopback: takes one adapter from its registers to reliable messages and tells how far it got.
#![forbid(unsafe_code)]

mod cli;
mod climb;
mod data;
mod errors;
mod faults;
mod level;
mod node;
mod output;
mod page;
mod plots;
mod report;
mod rig;
mod rungs;
mod safety;
mod sweep;
mod tables;

use anyhow::{Context, bail};
use cli::Cli;
use opx_emu::Pacing;
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::observe::Recording;
use opx_stack::{Config, job_key_of_this_process};
use opx_tools::adapter::{self, AdapterSpec, AnyBus};
use opx_tools::cli::{complain, parse, with_causes};
use opx_tools::firmware::Firmware;
use output::{Place, print, progress_bar};
use report::{Report, TimesOf};
use rig::{GIVE_UP_AFTER, Rig};
use safety::Found;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How long the other end of a cable may take to appear.
const CABLE_LIMIT: Duration = Duration::from_secs(60);
/// Exit code of a second signal: that of a shell for SIGINT.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    // What the VFIO crate cannot close any more when an adapter is taken away is told by the operation that it stopped.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error,vfio_ioctls=off")).init();
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
    if let (Some(which), false) = (&cli.faults, cli.list) {
        return faults::run(cli, which);
    }
    if cli.list {
        print(&cli.level.rungs(&cli.adapter).join("\n"))?;
        return Ok(true);
    }
    let file = cli.file.as_deref().map(open_file).transpose()?;
    let place = cli.report.as_deref().map(Place::check).transpose()?;

    let bus = adapter::open(
        &cli.adapter,
        &adapter::Options {
            pacing: if cli.virtual_time { Pacing::Virtual } else { Pacing::Real },
            config: opx_emu::Config { icode: cli.icode.into(), ..opx_emu::Config::default() },
            ..adapter::Options::default()
        },
    )?;
    *open = Some(bus.clone());
    let found = Found::read(&bus)?;
    let plan = safety::shown(&safety::plan(cli, &found));
    if cli.dry_run {
        print(plan.trim_end())?;
        safety::check(cli, &found)?;
        return Ok(true);
    }
    safety::check(cli, &found)?;
    if matches!(cli.adapter, AdapterSpec::Vfio(_)) {
        // Nobody is left to tell when stderr is closed.
        let _ = write!(std::io::stderr(), "{plan}");
    }
    // From here on the adapter is changed, and given back however this ends.
    let ran = test(cli, &bus, &found, file);
    let given_back = match cli.adapter {
        AdapterSpec::Emulated => Ok(()),
        AdapterSpec::VfioUser(_) | AdapterSpec::Vfio(_) => found.put_back(&bus),
    };
    let mut passed = false;
    let mut errors = Vec::new();
    match ran {
        Ok((report, cut_short)) => {
            passed = report.passed;
            match cut_short {
                // Printed before it is written: a full disk loses nothing.
                None => errors.extend(show(cli, &report).err()),
                Some(error) => errors.push(error),
            }
            // One that was cut short is what maintainers need most.
            errors.extend(place.and_then(|place| place.write(&report).err()));
        }
        Err(error) => errors.push(error),
    }
    errors.extend(given_back.context("the adapter couldn't be given back as it was found").err());
    match errors.is_empty() {
        true => Ok(passed),
        false => bail!(errors.iter().map(with_causes).collect::<Vec<_>>().join("; ")),
    }
}

/// Prints the report.
fn show(cli: &Cli, report: &Report) -> anyhow::Result<()> {
    print(&if cli.json { serde_json::to_string_pretty(report)? } else { report.text() })
}

/// Brings the adapter up and runs the rungs. Gives what was found, and why there is no more of it.
fn test(cli: &Cli, bus: &AnyBus, found: &Found, file: Option<File>) -> anyhow::Result<(Report, Option<anyhow::Error>)> {
    // A first signal ends the run in order, a second one at once.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("can't catch signals")?;
    }
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
    // It is the adapter that is tried, also in a job that has peers on this machine.
    config.shared_memory.enabled = false;
    config.reliability.give_up_after = GIVE_UP_AFTER;
    if let Some(dir) = &cli.recorder {
        config.recorder = Recording::Directory(dir.clone());
    }
    let rig = Rig { hfi, emulated: bus.emulated().cloned(), config, seed: cli.seed, faults: cli.wire_faults(), stop };
    let times_of = match cli.adapter {
        _ if cli.virtual_time => TimesOf::SimulatedClock,
        AdapterSpec::Vfio(_) => TimesOf::Hardware,
        AdapterSpec::Emulated | AdapterSpec::VfioUser(_) => TimesOf::Emulator,
    };
    let mut report = Report::new(cli.level, named(&cli.adapter), found.link, times_of, cli.seed);
    let bar = progress_bar(cli);
    let cut_short = climb::climb(cli, &rig, file, &mut report, &bar).err();
    bar.finish_and_clear();
    // The adapter's full name may tell whose folder its socket is in.
    let named = |error| with_causes(error).replace(&cli.adapter.to_string(), &report.adapter);
    report.cut_short = cut_short.as_ref().map(named);
    if cli.report.is_some() {
        report.node = Some(node::Node::look(&cli.adapter, &rig.hfi, cli.host_name));
    }
    report.close();
    Ok((report, cut_short))
}

/// Opens the file to be sent, or tells what is wrong with it.
fn open_file(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    let unreadable =
        |error| anyhow::anyhow!("can't read --file {shown}: {error}; give a file that is there and may be read");
    // Before it is opened: opening a pipe waits for somebody to write to it.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        bail!("--file {shown} isn't a regular file; give one whose length is known");
    }
    if metadata.len() == 0 {
        bail!("--file {shown} is empty; give one with something to send");
    }
    File::open(path).map_err(unreadable)
}

/// The adapter for a report, which doesn't tell in whose folder a socket is.
fn named(adapter: &AdapterSpec) -> String {
    match adapter {
        AdapterSpec::VfioUser(path) => match path.file_name() {
            Some(name) => format!("vfio-user:{}", Path::new(name).display()),
            None => "vfio-user".to_owned(),
        },
        AdapterSpec::Emulated | AdapterSpec::Vfio(_) => adapter.to_string(),
    }
}

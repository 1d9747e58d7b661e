//! opx-perf: how long messages take and how many pass, beside libfabric's providers if asked for.

mod cli;
mod libfabric;
mod node;
mod opx;
mod pattern;
mod plot;
mod report;
mod transport;

use anyhow::{Context, Result};
use cli::{Cli, Role};
use opx::Opx;
use opx_bus::PciFunction;
use opx_emu::Pacing;
use opx_hw::{Hfi, LinkMode, Options};
use opx_stack::{Address, Config, Endpoint, job_key_of_this_process};
use opx_tools::adapter::{self, AnyBus};
use opx_tools::cli::{complain, parse, with_causes};
use opx_tools::firmware::Firmware;
use pattern::{Answerer, Asker, Job, Measured};
use report::{Line, Report};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use transport::Transport;

/// How long the other end of a cable may take to appear.
const CABLE_LIMIT: Duration = Duration::from_secs(60);
/// Messages of each size whose content is looked at.
const CHECKED: u64 = 4;
/// How long an end that is done answers the other's questions: it may not know yet that all has arrived.
const LINGER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // What the VFIO crate cannot close any more when an adapter is taken away is told by the operation that it stopped.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error,vfio_ioctls=off")).init();
    let cli: Cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&with_causes(&error)),
    }
}

fn run(cli: &Cli) -> Result<()> {
    cli.check()?;
    if let [library, ..] = &cli.node[..] {
        if !cli.node_end.is_empty() {
            return node::play(library, &cli.node_end, cli.side, cli.cores, &cli.library);
        }
        let (libraries, jobs, library) = (cli.node.clone(), cli.node_jobs(), cli.library.clone());
        let plan = node::Plan { libraries, jobs, rounds: cli.rounds, cores: cli.cores, library };
        let table = plan.run()?;
        return tell(cli, &table.report()?, |_| table.text());
    }
    let options = adapter::Options {
        pacing: Pacing::Real,
        config: opx_emu::Config { icode: cli.icode.into(), ..opx_emu::Config::default() },
        ..adapter::Options::default()
    };
    let bus = adapter::open(&cli.adapter, &options)?;
    let firmware = Firmware::find(cli.firmware.as_deref(), &cli.adapter)?;
    let job_key = job_key_of_this_process()?;
    let hfi = Hfi::open(
        bus.clone(),
        Options { firmware_dir: Some(firmware.dir().to_owned()), job_key, ..Options::default() },
    )?;
    hfi.link_up(match cli.role {
        None => LinkMode::Loopback,
        Some(_) => LinkMode::Cable { timeout: CABLE_LIMIT },
    })?;
    let with_histograms = |report: &Report| report.text(cli.histogram);
    match cli.role {
        None => tell(cli, &in_one_process(cli, &hfi, &bus)?, with_histograms),
        Some(Role::Client) => tell(cli, &client(cli, &hfi, &bus)?, with_histograms),
        Some(Role::Server) => serve(&hfi, &bus),
    }
}

/// What the environment says, but that the adapter is what is measured: `--node` is for the machine's memory; and that there is room
/// for as many receives as may be asked for.
fn config() -> Config {
    let mut config = Config::from_env();
    config.shared_memory.enabled = false;
    config.operations = config.operations.max(1 << 17);
    config
}

/// Both ends on this thread.
fn in_one_process(cli: &Cli, hfi: &Hfi<AnyBus>, bus: &AnyBus) -> Result<Report> {
    let ends = (Endpoint::open(hfi, config())?, Endpoint::open(hfi, config())?);
    let (a, b) = (ends.0.address(), ends.1.address());
    let mut opx = Both::new(Opx::new(ends.0, b, Some(bus.clone())), Opx::new(ends.1, a, Some(bus.clone())))?;
    let mut others = Vec::new();
    for provider in &cli.libfabric {
        let (asks, answers) = libfabric::pair(&cli.library, provider, &cli.needs())?;
        others.push(Both::new(asks, answers)?);
    }
    let mut report = Report::new(cli.adapter.to_string(), "both in one process");
    opx.with(|asker| asker.deepen(cli.posted))?;
    others.iter_mut().try_for_each(|other| other.with(|asker| asker.deepen(cli.posted)))?;
    for job in cli.jobs() {
        if !cli.unchecked {
            opx.check(&job)?;
            others.iter_mut().filter(|other| other.can(&job)).try_for_each(|other| other.check(&job))?;
        }
        let mut others: Vec<_> = others.iter_mut().filter(|other| other.can(&job)).collect();
        let mut rounds = vec![Vec::new(); 1 + others.len()];
        for _ in 0..cli.rounds {
            let mut each = rounds.iter_mut();
            each.next().map(|all| opx.measure(&job).map(|round| all.push(round))).transpose()?;
            for (other, all) in others.iter_mut().zip(each) {
                all.push(other.measure(&job)?);
            }
        }
        let labels = std::iter::once(opx.label()).chain(others.iter().map(|other| other.label()));
        report.lines.extend(labels.zip(&rounds).map(|(label, rounds)| Line::new(&label, &job, rounds)));
    }
    Ok(report)
}

/// Two ends of one transport, driven by one thread.
struct Both<T: Transport> {
    asks: T,
    answers: T,
    answerer: Answerer,
}

impl<T: Transport> Both<T> {
    fn new(asks: T, mut answers: T) -> Result<Self> {
        let answerer = Answerer::new(&mut answers)?;
        Ok(Self { asks, answers, answerer })
    }

    fn label(&self) -> String {
        self.asks.label()
    }

    /// Whether it can do what is to be measured.
    fn can(&self, job: &Job) -> bool {
        job.pattern.access().is_none_or(|access| self.asks.can(access))
    }

    fn check(&mut self, job: &Job) -> Result<()> {
        self.with(|asker| asker.check(job.pattern, job.size, CHECKED))
    }

    fn measure(&mut self, job: &Job) -> Result<Measured> {
        self.with(|asker| asker.measure(job))
    }

    fn with<R>(&mut self, run: impl FnOnce(&mut Asker<'_, T>) -> Result<R>) -> Result<R> {
        let Self { asks, answers, answerer } = self;
        let label = asks.label();
        let mut meanwhile = || answerer.step(answers).map(drop);
        run(&mut Asker::new(asks, &mut meanwhile)).context(label)
    }
}

/// This end of a cable, and the other, which has opened one endpoint as well: so it has the same receive context.
fn end(hfi: &Hfi<AnyBus>, bus: &AnyBus) -> Result<Opx<AnyBus>> {
    let end = Endpoint::open(hfi, config())?;
    let lid = hfi.link_info().map_or(end.address().lid, |link| link.peer_lid);
    let peer = Address { lid, rx: end.address().rx };
    Ok(Opx::new(end, peer, Some(bus.clone())))
}

/// The asking end of a cable.
fn client(cli: &Cli, hfi: &Hfi<AnyBus>, bus: &AnyBus) -> Result<Report> {
    let mut end = end(hfi, bus)?;
    let mut report = Report::new(cli.adapter.to_string(), "one of two processes");
    let label = end.label();
    let mut meanwhile = || Ok(());
    let mut asker = Asker::new(&mut end, &mut meanwhile);
    asker.deepen(cli.posted)?;
    for job in cli.jobs() {
        if !cli.unchecked {
            asker.check(job.pattern, job.size, CHECKED)?;
        }
        let rounds = (0..cli.rounds).map(|_| asker.measure(&job)).collect::<Result<Vec<_>>>()?;
        report.lines.push(Line::new(&label, &job, &rounds));
    }
    asker.finish()?;
    linger(&mut end)?;
    Ok(report)
}

/// The answering end of a cable.
fn serve(hfi: &Hfi<AnyBus>, bus: &AnyBus) -> Result<()> {
    let mut end = end(hfi, bus)?;
    let mut answerer = Answerer::new(&mut end)?;
    while !answerer.is_over() {
        if !answerer.step(&mut end)? {
            end.relax();
        }
    }
    linger(&mut end)
}

/// Goes on until all is acknowledged, and the other end has been silent for a while.
fn linger<B: PciFunction>(end: &mut Opx<B>) -> Result<()> {
    let (mut last, mut seen) = (Instant::now(), end.packets_in());
    while !end.is_quiet() || last.elapsed() < LINGER {
        if end.poll()?.is_none() {
            end.relax();
        }
        if end.packets_in() != seen {
            (last, seen) = (Instant::now(), end.packets_in());
        }
    }
    Ok(())
}

/// Prints the result, for people as `text` has it.
fn tell(cli: &Cli, report: &Report, text: impl FnOnce(&Report) -> String) -> Result<()> {
    if let Some(path) = &cli.plot {
        plot::write(path, report)?;
    }
    print(&if cli.json { serde_json::to_string_pretty(report)? } else { text(report) })
}

fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("can't write to stdout"),
    }
}

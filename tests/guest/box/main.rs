//! opx-box: a Linux guest with two cabled Omni-Path adapters, the fabric manager running, and Debian's tools inside; on the
//! terminal, or for one command whose exit status it returns. Needs neither root nor KVM.
#![forbid(unsafe_code)]

#[path = "../../../tools/src/manual.rs"]
mod manual;
#[path = "../stock.rs"]
mod stock;

use clap::{Parser, ValueEnum};
use opx_tests::guest::{
    Emulator, EmulatorOptions, End, Environment, Guest, GuestError, GuestOptions, Initrd, Kernel, Run, attach,
};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A Linux guest with two Omni-Path adapters joined by a cable, under Linux's own driver and fabric manager.
///
/// Without a command it gives a shell on this terminal; leave it with `exit`. With one, it runs it in the guest once
/// both ports are ACTIVE, prints what it prints, and ends with its exit status.
#[derive(Debug, Parser)]
#[command(name = "opx-box", version)]
struct Args {
    /// The guest's kernel. PSM2 works on 6.12 only: 7.2 refuses to map its receive buffers.
    #[arg(long, value_enum, default_value_t = KernelArg::Trixie)]
    kernel: KernelArg,

    /// Files to put into the guest's folder /root.
    #[arg(long, value_name = "PATH")]
    file: Vec<PathBuf>,

    /// Longest time for the command, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    limit: u64,

    /// Folder for logs.
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,

    /// The command, for the guest's shell.
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

/// Which kernel of Debian.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum KernelArg {
    /// Linux 6.12.
    #[value(name = "6.12")]
    Trixie,
    /// Linux 7.2.
    #[value(name = "7.2")]
    Backports,
}

/// Exit code when the guest doesn't come as far as the command.
const BROKEN: u8 = 125;

fn main() -> ExitCode {
    if let Some(folder) = manual::asked(std::env::args_os().skip(1)) {
        return manual::write::<Args>(&folder).map_or_else(|error| broken(&error), |()| ExitCode::SUCCESS);
    }
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => broken(&error),
    }
}

fn broken(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("opx-box: {error}");
    ExitCode::from(BROKEN)
}

fn run(args: &Args) -> Result<ExitCode, GuestError> {
    let environment = Environment::get(match args.kernel {
        KernelArg::Trixie => Kernel::Trixie,
        KernelArg::Backports => Kernel::Backports,
    })?;
    let mut initrd = Initrd::new(&environment, include_str!("box.sh"))?;
    stock::stock_software(&mut initrd, "")?;
    for file in &args.file {
        let name = file.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy());
        initrd.local_file(file, &format!("root/{name}"))?;
    }
    let interactive = args.command.is_empty();
    if !interactive {
        initrd.file("command", 0o755, args.command.join(" "));
    }
    let base = args.logs.clone().unwrap_or_else(std::env::temp_dir);
    let run = Run::new(&base, &format!("opx-box-{}", std::process::id()))?;
    let arguments = ["--cable", "--link-time", "3"].map(str::to_owned).to_vec();
    let emulator = Emulator::start(&run, &EmulatorOptions { adapters: 2, arguments })?;
    let options = GuestOptions { adapters: emulator.sockets().to_vec(), memory: 3072, ..GuestOptions::default() };
    let image = initrd.build(End::PowerOff);
    let code = if interactive {
        eprintln!("opx-box: starting; a shell comes when both ports are ACTIVE. Logs: {}", run.logs().display());
        attach(&run, &environment, &image, &options)?;
        ExitCode::SUCCESS
    } else {
        let mut guest = Guest::start(&run, &environment, &image, &options)?;
        relay(&mut guest, Duration::from_secs(args.limit))?
    };
    emulator.end()?;
    if args.logs.is_none() {
        // Kept only where somebody asked for them, or when something went wrong.
        let _ = std::fs::remove_dir_all(run.logs());
    }
    Ok(code)
}

/// Prints what the command prints, and gives its exit status.
fn relay(guest: &mut Guest, limit: Duration) -> Result<ExitCode, GuestError> {
    const UP: Duration = Duration::from_secs(600);
    guest.wait_for("opx-box: begin", UP)?;
    let deadline = std::time::Instant::now() + limit;
    let mut out = std::io::stdout();
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let line = guest.wait_for("", left)?;
        if let Some(status) = line.strip_prefix("opx-box: end ") {
            guest.finish(UP)?;
            return Ok(ExitCode::from(status.trim().parse::<u8>().unwrap_or(BROKEN)));
        }
        // Whoever reads may have seen enough; the command still runs to its end.
        let _ = writeln!(out, "{line}");
    }
}

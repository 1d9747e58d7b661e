//! Command line of opx-probe.

use crate::places::Places;
use clap::{Args, Parser, Subcommand, value_parser};
use opx_hw::pci_address::PciAddress;
use opx_tools::adapter::AdapterSpec;
use opx_tools::cli::seconds;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Look at Omni-Path HFI1 adapters and at the node that they are in.
///
/// Exit code: 0 all is well, 1 trouble was found, 2 it couldn't be done.
#[derive(Debug, Parser)]
#[command(name = "opx-probe", version, about)]
pub struct Cli {
    /// Where to look.
    #[command(flatten)]
    pub places: Places,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the adapters of this machine, and the emulated ones that are served on sockets.
    List(List),
    /// Show what an adapter is: identity, sizes, PCIe link, port state, temperature.
    Info(Info),
    /// Registers by name, pattern or offset: read, write, dump, diff, list.
    Csr(Csr),
    /// Bind an adapter to vfio-pci, so that a process can open it.
    Bind(Bind),
    /// Give an adapter back to hfi1, Linux's own driver.
    Unbind(Bind),
    /// Show the fabric link.
    Link(Target),
    /// Show the send and receive contexts that are on.
    Contexts(Contexts),
    /// Show the SDMA engines.
    Sdma(Target),
    /// Show the hardware's counters, once or again and again with their rates.
    Counters(Counters),
    /// Show the cable or module in the adapter's cage; drives the pins of its bus.
    Qsfp(Target),
    /// Show bytes of the adapter's EPROM and its platform configuration; drives the EPROM's controller.
    Eprom(Eprom),
    /// Show the chip's temperature and its limits; exit code 1 when it is too hot.
    Temperature(Target),
    /// Show the firmware files, and whether the chip's microcontroller runs.
    Firmware(Firmware),
    /// Say which errors stand in the chip's registers; exit code 1 when there are any.
    Errors(Target),
    /// Show the flight recorders and state dumps of a process, or a file of either.
    Record(Record),
    /// Show an adapter on the whole screen, again and again.
    Top(Top),
    /// Serve counters and states over HTTP in the OpenMetrics format.
    Export(Export),
    /// Print completions for a shell.
    Completions(Completions),
    /// Write manual pages into a folder.
    Man(Man),
    /// Check the whole node, and say what is wrong and how to mend it.
    Doctor(Doctor),
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// A vfio-user socket to look at too; give it more than once for more.
    #[arg(long, value_name = "PATH")]
    pub socket: Vec<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which adapter, and how it is shown.
#[derive(Debug, Args)]
pub struct Target {
    /// Adapter: "emulated", "vfio-user:SOCKET", or a PCI address such as 0000:af:00.0. Default: the only one there is.
    #[arg(long, value_name = "ADAPTER")]
    pub adapter: Option<AdapterSpec>,

    /// Let the emulated adapter show the registers of a dump.
    #[arg(long, value_name = "DUMP", requires = "adapter")]
    pub load: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct Info {
    /// Which adapter.
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `csr`.
#[derive(Debug, Args)]
pub struct Csr {
    /// What to do with registers.
    #[command(subcommand)]
    pub command: CsrCommand,
}

/// What to do with registers.
#[derive(Debug, Subcommand)]
pub enum CsrCommand {
    /// Read registers and decode their fields.
    Read(CsrRead),
    /// Write a register; says what that changes, and does it with --write only.
    Write(CsrWrite),
    /// Read everything that can be read, to be compared or loaded later.
    Dump(CsrDump),
    /// Compare two dumps, or a dump with an adapter; exit code 1 when they differ.
    Diff(CsrDiff),
    /// List the known registers; needs no adapter.
    List(CsrList),
}

/// Arguments of `csr read`.
#[derive(Debug, Args)]
pub struct CsrRead {
    /// Name, pattern with * and ?, or offset in BAR 0 (decimal, or hexadecimal with 0x).
    #[arg(value_name = "NAME|OFFSET")]
    pub register: String,

    /// Only this instance of registers that there are several of: context, engine or table entry.
    #[arg(long, value_name = "N")]
    pub index: Option<u32>,

    /// Which adapter.
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `csr write`.
#[derive(Debug, Args)]
pub struct CsrWrite {
    /// Name, or offset in BAR 0 (decimal, or hexadecimal with 0x).
    #[arg(value_name = "NAME|OFFSET")]
    pub register: String,

    /// A number for the whole register, or FIELD=NUMBER for some of its bits.
    #[arg(value_name = "VALUE", required = true)]
    pub value: Vec<String>,

    /// The instance, of a register that there are several of.
    #[arg(long, value_name = "N")]
    pub index: Option<u32>,

    /// Write it; without this, only say what would change.
    #[arg(long)]
    pub write: bool,

    /// Which adapter.
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `csr dump`.
#[derive(Debug, Args)]
pub struct CsrDump {
    /// Name, or pattern with * and ?.
    #[arg(value_name = "NAME", default_value = "*")]
    pub register: String,

    /// Save it to a file; else it goes to stdout.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,

    /// Which adapter.
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `csr diff`.
#[derive(Debug, Args)]
pub struct CsrDiff {
    /// The older dump.
    #[arg(value_name = "DUMP")]
    pub old: PathBuf,

    /// The newer dump; without it, the adapter as it is now.
    #[arg(value_name = "DUMP")]
    pub new: Option<PathBuf>,

    /// Which adapter.
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `csr list`.
#[derive(Debug, Args)]
pub struct CsrList {
    /// Name, or pattern with * and ?.
    #[arg(value_name = "NAME", default_value = "*")]
    pub register: String,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Look at facts that were saved on another machine, not at this one.
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,

    /// Save what the checks look at into a folder, to be looked at elsewhere; lines of the kernel's log are among it.
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    pub save: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bind` and `unbind`.
#[derive(Debug, Args)]
pub struct Bind {
    /// PCI address, such as 0000:af:00.0.
    #[arg(value_name = "ADDRESS")]
    pub address: PciAddress,

    /// Print the steps and take none.
    #[arg(long)]
    pub dry_run: bool,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `contexts`.
#[derive(Debug, Args)]
pub struct Contexts {
    /// Those that are off, too.
    #[arg(long)]
    pub all: bool,

    /// Which adapter.
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `counters`.
#[derive(Debug, Args)]
pub struct Counters {
    /// hfi1's name, or a pattern with * and ?.
    #[arg(value_name = "NAME", default_value = "*")]
    pub name: String,

    /// Those that show 0, too; with --watch, those that stand still.
    #[arg(long)]
    pub all: bool,

    /// Look again every so many seconds, and show what has grown and how fast; with --json, a line each time.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, num_args = 0..=1, default_missing_value = "1")]
    pub watch: Option<Duration>,

    /// End after so many looks.
    #[arg(long, value_name = "N", requires = "watch")]
    pub count: Option<u64>,

    /// Which adapter.
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `eprom`.
#[derive(Debug, Args)]
pub struct Eprom {
    /// First byte to show.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: u32,

    /// Bytes to show, at most 64 KiB.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(0..=65536))]
    pub length: u32,

    /// Save the platform configuration to a file.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,

    /// Which adapter.
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `firmware`.
#[derive(Debug, Args)]
pub struct Firmware {
    /// Where the files are.
    #[arg(long, value_name = "DIR", default_value = "/lib/firmware")]
    pub firmware: PathBuf,

    /// Which adapter.
    #[command(flatten)]
    pub target: Target,
}

/// Arguments of `record`.
#[derive(Debug, Args)]
pub struct Record {
    /// Number of a process, or a file: of a flight recorder (.rec) or a state dump (.out).
    #[arg(value_name = "PID|FILE")]
    pub what: String,

    /// Ask the process for state dumps first, by SIGUSR2; refused when that would end it.
    #[arg(long)]
    pub dump: bool,

    /// Seconds to wait for those dumps: endpoints look for the signal every 250 ms, and then each writes its own.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5", requires = "dump", allow_negative_numbers = true)]
    pub wait: Duration,

    /// Only the last so many packets of each recorder.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,

    /// Of state dumps also what is 0, and the backtrace.
    #[arg(long)]
    pub all: bool,

    /// Print JSON; it has everything.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    pub interval: Duration,

    /// End after so many looks.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,

    /// Adapter: "emulated", "vfio-user:SOCKET", or a PCI address such as 0000:af:00.0. Default: the only one there is.
    #[arg(long, value_name = "ADAPTER")]
    pub adapter: Option<AdapterSpec>,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Where to listen; anyone who reaches it may read the metrics.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9824")]
    pub listen: SocketAddr,

    /// Adapter: "emulated", "vfio-user:SOCKET", or a PCI address such as 0000:af:00.0. Default: the only one there is.
    #[arg(long, value_name = "ADAPTER")]
    pub adapter: Option<AdapterSpec>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell.
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Where to write them.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

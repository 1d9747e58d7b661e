//! Command line of opx-probe.

use crate::places::Places;
use clap::{Args, Parser, Subcommand};
use opx_tools::adapter::AdapterSpec;
use std::path::PathBuf;

/// Look at Omni-Path HFI1 adapters: which there are, what one is, and what its registers hold. Nothing is written to them.
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
    /// Read registers by name, pattern or offset, and decode their fields.
    Csr(Csr),
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

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct Info {
    /// Adapter: "emulated", "vfio-user:SOCKET", or a PCI address such as 0000:af:00.0. Default: the only one there is.
    #[arg(long, value_name = "ADAPTER")]
    pub adapter: Option<AdapterSpec>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `csr`.
#[derive(Debug, Args)]
pub struct Csr {
    /// Name, pattern with * and ?, or offset in BAR 0 (decimal, or hexadecimal with 0x).
    #[arg(value_name = "NAME|OFFSET", required_unless_present = "list")]
    pub register: Option<String>,

    /// Only this instance of registers that there are several of: context, engine or table entry.
    #[arg(long, value_name = "N", conflicts_with = "list")]
    pub index: Option<u32>,

    /// Adapter: "emulated", "vfio-user:SOCKET", or a PCI address such as 0000:af:00.0. Default: the only one there is.
    #[arg(long, value_name = "ADAPTER", conflicts_with = "list")]
    pub adapter: Option<AdapterSpec>,

    /// List the known registers instead of reading any; needs no adapter.
    #[arg(long)]
    pub list: bool,

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

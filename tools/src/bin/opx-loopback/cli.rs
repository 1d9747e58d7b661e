//! Command line of opx-loopback, checked as far as it can be before an adapter is touched.

use clap::{Parser, ValueEnum};
use opx_bus::PacketFaults;
use opx_tools::adapter::AdapterSpec;
use opx_tools::cli::{IcodeArg, percent};
use std::path::PathBuf;

/// Exercise one adapter from its registers up to reliable messages, looped back to itself.
#[derive(Debug, Parser)]
#[command(name = "opx-loopback", version, about)]
pub struct Cli {
    /// Adapter: "emulated", "vfio-user:SOCKET", or a PCI address such as 0000:af:00.0.
    #[arg(long, value_name = "ADAPTER", default_value = "emulated")]
    pub adapter: AdapterSpec,

    /// Send this file's bytes too and print the SHA-256 of what was sent and of what arrived.
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,

    /// Percentage of packets to lose in the rungs that recover from it.
    #[arg(long, value_name = "PERCENT", value_parser = percent, allow_negative_numbers = true)]
    pub loss: Option<f64>,

    /// Percentage of packets to deliver twice.
    #[arg(long, value_name = "PERCENT", value_parser = percent, allow_negative_numbers = true)]
    pub dup: Option<f64>,

    /// Percentage of packets to deliver late.
    #[arg(long, value_name = "PERCENT", value_parser = percent, allow_negative_numbers = true)]
    pub reorder: Option<f64>,

    /// Percentage of packets to flip a bit in.
    #[arg(long, value_name = "PERCENT", value_parser = percent, allow_negative_numbers = true)]
    pub corrupt: Option<f64>,

    /// Seed of the faults and of the test data.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub seed: u64,

    /// Run adapter and protocol on one thread and a simulated clock; only for the emulated adapter.
    #[arg(long)]
    pub virtual_time: bool,

    /// What the emulated adapter is made of.
    #[arg(long, value_enum, default_value_t = IcodeArg::Silicon)]
    pub icode: IcodeArg,

    /// Folder with the adapter's firmware files. Without it, /lib/firmware, and for an emulated adapter files made for it.
    #[arg(long, value_name = "DIR")]
    pub firmware: Option<PathBuf>,

    /// Be one end of a cable instead of both ends of a loopback: the other end runs the other role.
    #[arg(long, value_enum)]
    pub role: Option<Role>,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which end of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Sends the file.
    Sender,
    /// Receives what the sender sends.
    Receiver,
}

impl Cli {
    /// The faults that were asked for, if any was.
    pub fn faults(&self) -> Option<PacketFaults> {
        let shares = [self.loss, self.dup, self.reorder, self.corrupt];
        shares.iter().any(Option::is_some).then(|| PacketFaults {
            loss: self.loss.unwrap_or(0.0),
            duplicate: self.dup.unwrap_or(0.0),
            reorder: self.reorder.unwrap_or(0.0),
            corrupt: self.corrupt.unwrap_or(0.0),
        })
    }

    /// Checks what one option alone can't show.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.virtual_time && self.adapter != AdapterSpec::Emulated {
            anyhow::bail!("--virtual-time needs the emulated adapter; leave out --adapter or --virtual-time");
        }
        match self.role {
            Some(_) if self.adapter == AdapterSpec::Emulated => {
                anyhow::bail!("--role needs an adapter with a cable; serve two with opx-emu --cable and name a socket")
            }
            Some(Role::Sender) if self.file.is_none() => {
                anyhow::bail!("--role sender needs --file with what to send")
            }
            Some(Role::Receiver) if self.file.is_some() => {
                anyhow::bail!("--role receiver takes what the sender sends; leave out --file")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_contradict_each_other_are_told() {
        let parse = |args: &[&str]| Cli::try_parse_from(args).unwrap().check();
        assert!(parse(&["x", "--virtual-time"]).is_ok());
        assert!(parse(&["x", "--virtual-time", "--adapter", "vfio-user:/tmp/a"]).is_err());
        assert!(parse(&["x", "--role", "receiver"]).is_err());
        assert!(parse(&["x", "--role", "sender", "--adapter", "vfio-user:/tmp/a"]).is_err());
    }
}

//! Command line of opx-loopback, checked as far as it can be before an adapter is touched.

use crate::level::Level;
use clap::{Parser, ValueEnum};
use opx_bus::PacketFaults;
use opx_emu::Fault;
use opx_tools::adapter::AdapterSpec;
use opx_tools::cli::{IcodeArg, percent};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Exercise one adapter from its registers up to reliable messages, looped back to itself.
///
/// Exit code: 0 all of it passed, 1 something didn't, 2 it couldn't be done.
#[derive(Debug, Parser)]
#[command(name = "opx-loopback", version, about)]
pub struct Cli {
    /// Adapter: "emulated", "vfio-user:SOCKET", or a PCI address such as 0000:af:00.0.
    #[arg(long, value_name = "ADAPTER", default_value = "emulated")]
    pub adapter: AdapterSpec,

    /// How much is tried.
    #[arg(long, value_enum, default_value_t = Level::Quick)]
    pub level: Level,

    /// After so long nothing further is begun: seconds, or with a unit, as 90s, 10m, 2h. Default: for soak 10m, for an adapter
    /// of this machine 1m (quick) and 15m (full), else as long as it takes.
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true)]
    pub duration: Option<Duration>,

    /// Write a report that can be sent to others: into a folder as opx-loopback.json and opx-loopback.html, or the one that
    /// the name of a file ends with, .json or .html. It doesn't tell whose machine it is.
    #[arg(long, value_name = "DIR|FILE")]
    pub report: Option<PathBuf>,

    /// Put the machine's name into the report.
    #[arg(long, requires = "report")]
    pub host_name: bool,

    /// Print the names of the level's rungs, and do nothing.
    #[arg(long)]
    pub list: bool,

    /// Look at the adapter, say what would be done to it and whether that may be, and change nothing.
    #[arg(long, conflicts_with = "faults")]
    pub dry_run: bool,

    /// Use the adapter although its link is up in a fabric. It is taken out of that, and stays out until a driver brings it up
    /// again.
    #[arg(long)]
    pub take_down_link: bool,

    /// Keep a flight recorder of each endpoint in a file of this folder, for opx-probe record.
    #[arg(long, value_name = "DIR")]
    pub recorder: Option<PathBuf>,

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

    /// Instead of the ladder: let an emulated adapter have each of these faults at a packet in the midst of traffic, on a
    /// simulated clock, and see that the driver recovers. "all" (which --faults alone means), "list" to print their names,
    /// or names separated by commas; see docs/faults.md.
    #[arg(long, value_name = "WHICH", num_args = 0..=1, default_missing_value = "all")]
    pub faults: Option<Which>,

    /// With --faults: packets of the unit that go well before the fault.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "faults")]
    pub after: u64,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Faults asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Only their names.
    List,
    /// These, one after the other.
    These(Vec<Fault>),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |name: &str| name.trim().parse::<Fault>().map_err(|error| format!("`{}`: {error}", shorten(name)));
        match text {
            "list" => Ok(Self::List),
            "all" => Ok(Self::These(Fault::all().collect())),
            names => names.split(',').map(one).collect::<Result<_, _>>().map(Self::These),
        }
    }
}

/// User input is cut off where it would make the message unreadable.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
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
    pub fn wire_faults(&self) -> Option<PacketFaults> {
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
        if self.faults.is_some()
            && (self.adapter != AdapterSpec::Emulated || self.role.is_some() || self.file.is_some())
        {
            anyhow::bail!("--faults makes emulated adapters of its own; leave out --adapter, --role and --file");
        }
        if let Some(dir) = self.recorder.as_deref().filter(|dir| !dir.is_dir()) {
            anyhow::bail!("--recorder {}: no such folder; name one that can be written to", dir.display());
        }
        if self.level != Level::Quick && (self.role.is_some() || self.faults.is_some()) {
            anyhow::bail!("--level is about the ladder; leave out --role and --faults, or --level");
        }
        if self.faults.is_some() && self.report.is_some() {
            anyhow::bail!(
                "--faults has a form of its own; leave out --report, or use --level full, which has the faults in it"
            );
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

/// The longest that can be asked for.
const WEEK: f64 = 7.0 * 86_400.0;

/// Reads a time with or without a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('h') => (number, 3600.0),
        Some(number) if text.ends_with('m') => (number, 60.0),
        Some(number) => (number, 1.0),
        None => (text, 1.0),
    };
    match number.parse::<f64>().map(|number| number * unit) {
        Ok(seconds) if (0.0..=WEEK).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give seconds, or a number with s, m or h, up to a week".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_bounds() {
        for (text, seconds) in [("0.5", 0.5), ("90", 90.0), ("90s", 90.0), ("10m", 600.0), ("168h", WEEK)] {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "s", "-1", "169h", "NaN", "inf", "1d", "10 m", "1ms"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn faults_are_asked_for_by_name() {
        let which = |args: &[&str]| Cli::try_parse_from(args).unwrap().faults;
        assert_eq!(which(&["x"]), None);
        assert_eq!(which(&["x", "--faults", "list"]), Some(Which::List));
        assert_eq!(which(&["x", "--faults"]), Some(Which::These(Fault::all().collect())));
        let two: Vec<Fault> = Fault::all().take(2).collect();
        let names = two.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(",");
        assert_eq!(which(&["x", "--faults", &names]), Some(Which::These(two)));
        assert!(Cli::try_parse_from(["x", "--faults", "gremlins"]).unwrap_err().to_string().contains("gremlins"));
    }

    #[test]
    fn options_that_contradict_each_other_are_told() {
        let parse = |args: &[&str]| Cli::try_parse_from(args).unwrap().check();
        assert!(parse(&["x", "--virtual-time"]).is_ok());
        assert!(parse(&["x", "--virtual-time", "--adapter", "vfio-user:/tmp/a"]).is_err());
        assert!(parse(&["x", "--role", "receiver"]).is_err());
        assert!(parse(&["x", "--faults", "--adapter", "vfio-user:/tmp/a"]).is_err());
        assert!(parse(&["x", "--faults", "list"]).is_ok());
        assert!(parse(&["x", "--level", "full", "--faults"]).is_err());
        assert!(parse(&["x", "--report", "r", "--faults"]).is_err());
        assert!(parse(&["x", "--level", "soak", "--role", "receiver", "--adapter", "vfio-user:/tmp/a"]).is_err());
        assert!(parse(&["x", "--role", "sender", "--adapter", "vfio-user:/tmp/a"]).is_err());
    }
}

//! A socket by which a test changes the bench while it runs: pulls the cable, plugs it in, spoils packets, asks for counts.
//!
//! Each line is a command, each answer one line that begins with `ok` or `error`.
//!
//! | command | what it does |
//! |---|---|
//! | `pull` | pulls the cable out of both adapters, or the wire out of the one |
//! | `plug` | puts it back |
//! | `remove ADAPTER` | takes an adapter out of its slot, for good |
//! | `faults ADAPTER [loss=P] [dup=P] [reorder=P] [corrupt=P] [seed=N]` | spoils packets that arrive at an adapter, 0 or 1; what isn't named is 0 |
//! | `forge ADAPTER [pkey=P] [jkey=P] [slid=P] [dlid=P] [seed=N]` | lets copies with a wrong key or LID arrive before packets on data lanes; what isn't named is 0 |
//! | `pace ADAPTER [rate=N] [credit=N]` | megabits a second, and bytes on their way at most, of what comes to an adapter, until the cable is pulled; what isn't named is as usual |
//! | `inject ADAPTER FAULT [unit=N] [after=N]` | lets an adapter have a fault of docs/faults.md at the packet of a unit that follows so many others |
//! | `counts ADAPTER` | packets, faults and drops so far |
//! | `unmodelled ADAPTER` | how many registers were accessed that aren't modelled |

use crate::cli::percent;
use opx_bus::PacketFaults;
use opx_emu::tcp_wire::TcpWire;
use opx_emu::{Adapter, DropReason, Fault, Forgeries, Lab, Pace};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest command, bytes.
const MAX_LINE: u64 = 256;

/// A bench that is changed while it runs.
pub struct Bench {
    /// Where the adapters are.
    pub lab: Arc<Lab>,
    /// The adapters, in the order of their sockets.
    pub adapters: Vec<Adapter>,
    /// The wire of the one adapter to another process, if there is one.
    pub wire: Option<Arc<TcpWire>>,
}

/// A control socket. Dropping it removes the socket.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    /// Takes commands for `bench` on a new socket at `path`, from one client at a time.
    ///
    /// # Errors
    /// When the socket can't be made, for example because something is there already.
    pub fn start(path: &Path, bench: Bench) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let control = Self { path: path.to_owned() };
        let bench = Arc::new(bench);
        std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            for client in listener.incoming() {
                // Whoever breaks off is followed by the next.
                let _ = client.and_then(|client| serve(&bench, client));
            }
        })?;
        Ok(control)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(bench: &Bench, mut client: UnixStream) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?);
    loop {
        let mut line = String::new();
        let read = Read::by_ref(&mut lines).take(MAX_LINE).read_line(&mut line)?;
        if read == 0 {
            return Ok(());
        }
        let answer = match bench.command(line.trim()) {
            Ok(answer) if answer.is_empty() => "ok".to_owned(),
            Ok(answer) => format!("ok {answer}"),
            Err(problem) => format!("error {problem}"),
        };
        writeln!(client, "{answer}")?;
    }
}

impl Bench {
    /// Carries a command out; the answer, or what is wrong with it.
    fn command(&self, line: &str) -> Result<String, String> {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        match (command, &rest[..]) {
            ("pull", []) => {
                self.wire.iter().for_each(|wire| wire.pull());
                self.adapters.iter().for_each(|adapter| self.lab.pull(adapter));
                Ok(String::new())
            }
            ("plug", []) => match (&self.adapters[..], &self.wire) {
                (_, Some(wire)) => {
                    wire.plug();
                    Ok(String::new())
                }
                ([a, b], None) => {
                    self.lab.cable(a, b);
                    Ok(String::new())
                }
                (others, None) => Err(format!("a cable joins two adapters, there are {}", others.len())),
            },
            ("remove", [adapter]) => {
                self.lab.remove(self.adapter(adapter)?);
                Ok(String::new())
            }
            ("faults", [adapter, settings @ ..]) => self.faults(adapter, settings),
            ("forge", [adapter, settings @ ..]) => self.forge(adapter, settings),
            ("pace", [adapter, settings @ ..]) => self.pace(adapter, settings),
            ("inject", [adapter, fault, settings @ ..]) => self.inject(adapter, fault, settings),
            ("counts", [adapter]) => Ok(counts(self.adapter(adapter)?)),
            ("unmodelled", [adapter]) => Ok(self.adapter(adapter)?.unmodelled().len().to_string()),
            _ => {
                let commands = "pull, plug, remove N, faults N [loss=P]..., forge N [pkey=P]..., pace N [rate=N]..., \
                                inject N FAULT..., counts N, unmodelled N";
                Err(format!("no such command: {commands}"))
            }
        }
    }

    fn adapter(&self, number: &str) -> Result<&Adapter, String> {
        let adapter = number.parse::<usize>().ok().and_then(|number| self.adapters.get(number));
        adapter.ok_or_else(|| format!("there is no adapter {number}, there are {}", self.adapters.len()))
    }

    fn inject(&self, adapter: &str, fault: &str, settings: &[&str]) -> Result<String, String> {
        let adapter = self.adapter(adapter)?;
        let fault: Fault = fault.parse().map_err(|problem| format!("{fault}: {problem}"))?;
        let (mut unit, mut after) = (0, 0);
        for setting in settings {
            let (name, value) = setting.split_once('=').ok_or_else(|| format!("{setting} isn't NAME=VALUE"))?;
            match name {
                "unit" => unit = value.parse().map_err(|_| format!("{setting}: not a unit's number"))?,
                "after" => after = value.parse().map_err(|_| format!("{setting}: not a number"))?,
                _ => return Err(format!("{name}: no such setting; unit, after")),
            }
        }
        if adapter.inject(fault, unit, after) {
            Ok(String::new())
        } else {
            Err("too many faults wait already".to_owned())
        }
    }

    fn forge(&self, adapter: &str, settings: &[&str]) -> Result<String, String> {
        let adapter = self.adapter(adapter)?;
        let (mut shares, mut seed) = (Forgeries::default(), 1);
        for setting in settings {
            let (name, value) = setting.split_once('=').ok_or_else(|| format!("{setting} isn't NAME=VALUE"))?;
            let share = || percent(value).map_err(|problem| format!("{setting}: {problem}"));
            match name {
                "pkey" => shares.partition_key = share()?,
                "jkey" => shares.job_key = share()?,
                "slid" => shares.source_lid = share()?,
                "dlid" => shares.destination_lid = share()?,
                "seed" => seed = value.parse().map_err(|_| format!("{setting}: not a number"))?,
                _ => return Err(format!("{name}: no such forgery; pkey, jkey, slid, dlid, seed")),
            }
        }
        adapter.set_forgeries(shares, seed);
        Ok(String::new())
    }

    fn pace(&self, adapter: &str, settings: &[&str]) -> Result<String, String> {
        let adapter = self.adapter(adapter)?;
        let mut pace = Pace::default();
        for setting in settings {
            let (name, value) = setting.split_once('=').ok_or_else(|| format!("{setting} isn't NAME=VALUE"))?;
            let number = value.parse().ok().filter(|number| *number > 0);
            let number: u32 = number.ok_or_else(|| format!("{setting}: not a number above 0"))?;
            match name {
                "rate" => pace.megabits = number,
                "credit" => pace.credit = number as usize,
                _ => return Err(format!("{name}: no such setting; rate, credit")),
            }
        }
        if adapter.set_pace(pace) { Ok(String::new()) } else { Err("no cable is plugged in".to_owned()) }
    }

    fn faults(&self, adapter: &str, settings: &[&str]) -> Result<String, String> {
        let adapter = self.adapter(adapter)?;
        let (mut faults, mut seed) = (PacketFaults::default(), 1);
        for setting in settings {
            let (name, value) = setting.split_once('=').ok_or_else(|| format!("{setting} isn't NAME=VALUE"))?;
            let share = || percent(value).map_err(|problem| format!("{setting}: {problem}"));
            match name {
                "loss" => faults.loss = share()?,
                "dup" => faults.duplicate = share()?,
                "reorder" => faults.reorder = share()?,
                "corrupt" => faults.corrupt = share()?,
                "seed" => seed = value.parse().map_err(|_| format!("{setting}: not a number"))?,
                _ => return Err(format!("{name}: no such fault; loss, dup, reorder, corrupt, seed")),
            }
        }
        adapter.set_wire_faults(faults, seed);
        Ok(String::new())
    }
}

fn counts(adapter: &Adapter) -> String {
    let (counts, faults, forged) = (adapter.counts(), adapter.fault_counts(), adapter.forgery_counts());
    let mut line = format!(
        "sent={} received={} lost={} doubled={} reordered={} corrupted={} pkey={} jkey={} slid={} dlid={} \
         link_full={} credit_short={} dma_faults={} resets={}",
        counts.packets_sent,
        counts.packets_received,
        faults.lost,
        faults.doubled,
        faults.reordered,
        faults.corrupted,
        forged.partition_key,
        forged.job_key,
        forged.source_lid,
        forged.destination_lid,
        counts.link_full,
        counts.credit_short,
        counts.dma_faults,
        counts.resets
    );
    for reason in DropReason::ALL.into_iter().filter(|reason| counts.dropped(*reason) > 0) {
        line += &format!(" {reason:?}={}", counts.dropped(reason));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_emu::{Config, Pacing};

    #[test]
    fn commands_are_carried_out_or_told_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let lab = Arc::new(Lab::new(Pacing::Real));
        let adapters = vec![lab.add(Config::default()), lab.add(Config::default())];
        let control = Control::start(&path, Bench { lab, adapters, wire: None }).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        let mut answers = BufReader::new(client.try_clone().unwrap());
        let mut ask = |line: &str| {
            writeln!(client, "{line}").unwrap();
            let mut answer = String::new();
            answers.read_line(&mut answer).unwrap();
            answer.trim().to_owned()
        };
        for line in ["plug", "pull", "pull", "plug", "faults 0 loss=1 seed=3", "faults 1", "unmodelled 1"] {
            assert!(ask(line).starts_with("ok"), "{line}");
        }
        assert_eq!(ask("forge 0 pkey=1 jkey=2 slid=3 dlid=4 seed=5"), "ok");
        assert_eq!(ask("pace 0 rate=10 credit=4096"), "ok");
        assert_eq!(ask("remove 1"), "ok");
        assert!(ask("counts 0").starts_with("ok sent=0 received=0 lost=0"));
        assert_eq!(ask("inject 0 egress-config-parity unit=0 after=1000000"), "ok");
        for line in [
            "",
            "inject 0 gremlins",
            "inject 0 egress-config-parity after=x",
            "inject 0 egress-config-parity when=1",
            "jump",
            "counts",
            "counts 2",
            "faults 0 loss=200",
            "faults 0 wind=1",
            "faults 0 loss",
            "forge 0 pkey=200",
            "forge 0 lid=1",
            "pace 0 rate=0",
            "pace 0 speed=1",
            "pace 0",
            "pull 3",
            "remove 2",
        ] {
            assert!(ask(line).starts_with("error"), "{line}");
        }
        drop(control);
        assert!(!path.exists());
    }
}

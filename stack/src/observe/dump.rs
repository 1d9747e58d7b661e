//! State dumps: all that an endpoint is doing, in a text file of the shape of OPX's (`opx_debug.c`), on request or when the process
//! gets SIGUSR2.
//!
//! The signal's handler sets a flag and does nothing else. Each endpoint looks at the flag with the adapter's health, four
//! times a second ([`crate::Config::health_interval`]), and writes its own file from there: that takes nothing from the way of packets,
//! and an endpoint is never looked into while it is in the middle of something. It also means that an endpoint whose owner doesn't call
//! `progress` writes nothing.

use super::Record;
use crate::Address;
use opx_defs::wire::opx::Generation;
use opx_reliability::{RxFlowState, TxFlowState};
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Flows of each direction that a dump tells of, those with something to tell first. An endpoint may have 131,072.
pub(crate) const MOST_FLOWS: usize = 1024;
/// Lines of the caller's stack.
const MOST_FRAMES: usize = 256;

/// Set by the signal's handler.
static SIGNALLED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// How often dumps were asked for.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Has every endpoint of this process write its state to a file of the working directory when the process gets SIGUSR2. A second call
/// does nothing.
///
/// A handler that was there before is called too, once for each signal; what the default would be, to end the process, no longer
/// happens, nor is anything done for a signal that was ignored. A handler that is installed later takes this one's place,
/// unless it calls the one before it, as those of the crate `signal-hook` do.
///
/// ```
/// opx_stack::observe::dump_on_sigusr2()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When the handler can't be installed.
pub fn dump_on_sigusr2() -> io::Result<()> {
    if SIGNALLED.get().is_some() {
        return Ok(());
    }
    let flag = Arc::new(AtomicBool::new(false));
    if SIGNALLED.set(flag.clone()).is_ok() {
        signal_hook::flag::register(signal_hook::consts::SIGUSR2, flag)?;
    }
    Ok(())
}

/// How often dumps have been asked for so far. Every endpoint writes one when this differs from what it was.
pub(crate) fn asked() -> u32 {
    if SIGNALLED.get().is_some_and(|flag| flag.swap(false, Ordering::Relaxed)) {
        ASKED.fetch_add(1, Ordering::Relaxed);
    }
    ASKED.load(Ordering::Relaxed)
}

/// The name of an endpoint's file: `<hostname>-<process>-<LID>-<context>.out`, the last two in hexadecimal and the context as OPX has
/// it in its addresses, with the sub-context in the low byte.
pub(crate) fn file_name(me: Address, extension: &str) -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy().replace('/', "_");
    format!("{host}-{}-{:06X}-{:04X}.{extension}", std::process::id(), me.lid.0, context(me))
}

/// A receive context as it lies in OPX's addresses, big-endian, read as the machine's number.
fn context(address: Address) -> u16 {
    u16::from(address.rx) << 8
}

/// A line of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// How many are in a queue. Where OPX prints the address of its first element, too, there is a dash here.
    Queue(usize),
    Number(u64),
    /// With so many hexadecimal digits.
    Hex(u64, usize),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Queue(len) => write!(f, "- ({len})"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Hex(value, digits) => write!(f, "{value:0digits$X}"),
        }
    }
}

/// A part of a dump with a title.
pub(crate) type Section = (&'static str, Vec<(String, Value)>);

/// All that a dump tells.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) adapter: String,
    pub(crate) me: Address,
    pub(crate) generation: Generation,
    pub(crate) sections: Vec<Section>,
    /// Flows to be told of, and how many there are.
    pub(crate) rx_flows: (Vec<RxFlowState>, usize),
    pub(crate) tx_flows: (Vec<TxFlowState>, usize),
    pub(crate) records: Option<Vec<Record>>,
}

impl State {
    /// Writes it to a new file, in place of one of the same name.
    pub(crate) fn write_file(&self, directory: &Path) -> io::Result<PathBuf> {
        let path = directory.join(file_name(self.me, "out"));
        // Through no link that somebody has put there.
        let no_links = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(no_links).open(&path)?;
        let mut out = BufWriter::new(file);
        self.write(&mut out)?;
        out.flush()?;
        Ok(path)
    }

    /// Writes it as OPX does.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let pid = std::process::id();
        writeln!(out, "({pid}) {:=<56}", "")?;
        writeln!(out, "({pid}) opx_ep : {} on {}", self.me, self.adapter)?;
        writeln!(out, "({pid}) {:=<56}", "")?;
        for (title, lines) in &self.sections {
            writeln!(out, "({pid}) {:-^56}", format!(" {title} "))?;
            for (name, value) in lines {
                writeln!(out, "({pid}) {name:39}: {value}")?;
            }
        }
        self.write_rx_flows(out, pid)?;
        self.write_tx_flows(out, pid)?;
        if let Some(records) = &self.records {
            writeln!(out, "({pid}) {:-^56}", " Flight recorder ")?;
            for record in records {
                writeln!(out, "({pid}) @ {}", record.line(self.generation))?;
            }
        }
        // Where the caller of `progress` is.
        writeln!(out, "({pid}) {:-^56}", " Backtrace ")?;
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        trace.lines().take(MOST_FRAMES).try_for_each(|line| writeln!(out, "{line}"))
    }

    fn write_rx_flows(&self, out: &mut impl Write, pid: u32) -> io::Result<()> {
        const WIDTH: usize = 97;
        let (flows, all) = &self.rx_flows;
        writeln!(out, "({pid}) {:#^WIDTH$}", " RX Flow RB Tree ")?;
        writeln!(out, "({pid}) #{:30}Expected    Unexpected Queue{:37}#", "", "")?;
        writeln!(
            out,
            "({pid}) # Flow Key                     PSN         Count    First PSN   Last PSN   Ptr{:18}#",
            ""
        )?;
        writeln!(out, "({pid}) # {:-<93} #", "")?;
        for flow in flows {
            let (first, last) = flow.span.unwrap_or((0, 0));
            let key = self.key(flow.peer.into(), self.me);
            writeln!(
                out,
                "({pid}) # {key}    {:08X}    {:06X}   {:06X}      {:06X}     {:016X}     #",
                flow.next,
                flow.early,
                first & 0xff_ffff,
                last & 0xff_ffff,
                0,
            )?;
        }
        more(out, pid, flows.len(), *all)?;
        writeln!(out, "({pid}) {:#<WIDTH$}", "")
    }

    fn write_tx_flows(&self, out: &mut impl Write, pid: u32) -> io::Result<()> {
        const WIDTH: usize = 106;
        let (flows, all) = &self.tx_flows;
        writeln!(out, "({pid}) {:#^WIDTH$}", " TX Flow RB Tree ")?;
        writeln!(out, "({pid}) #{:64}Bytes      Replay         Replays       #", "")?;
        writeln!(
            out,
            "({pid}) # Flow Key                     Next PSN  Throttle  Nack_Count  Outstanding  Count   First PSN   \
             Last PSN #"
        )?;
        writeln!(out, "({pid}) # {:-<102} #", "")?;
        for flow in flows {
            let key = self.key(self.me, flow.peer.into());
            let (next, throttle, nacks) = (flow.next.get(), u8::from(flow.throttled), u8::from(flow.nacked));
            write!(out, "({pid}) # {key}     {next:06X}   {throttle:4}    {nacks:8}    {:8}  ", flow.bytes)?;
            match flow.outstanding {
                Some((first, last)) => writeln!(
                    out,
                    "   {:6}    {:06X}      {:06X}   #{}",
                    flow.replays,
                    first.get(),
                    last.get(),
                    if flow.dead { " given up" } else { "" }
                )?,
                None if flow.dead => writeln!(out, "        0       N/A         N/A   # given up")?,
                None => writeln!(out, "        0       N/A         N/A   #")?,
            }
        }
        more(out, pid, flows.len(), *all)?;
        writeln!(out, "({pid}) {:#<WIDTH$}", "")
    }

    /// A flow's key as OPX writes it.
    fn key(&self, from: Address, to: Address) -> String {
        format!("[{:06X}.{:04X}.{:06X}.{:04X}]", from.lid.0, context(from), to.lid.0, context(to))
    }
}

fn more(out: &mut impl Write, pid: u32, told: usize, all: usize) -> io::Result<()> {
    if all > told { writeln!(out, "({pid}) # and {} more", all - told) } else { Ok(()) }
}

//! Serves emulated HFI1 adapters on vfio-user sockets: each alone in loopback, two of them joined by a cable, or one joined over
//! TCP with that of another opx-emu.
#![forbid(unsafe_code)]

use clap::Parser;
use opx_bus::PacketFaults;
use opx_defs::csr;
use opx_defs::units::Guid;
use opx_emu::server::{ServeError, SocketServer};
use opx_emu::tcp_wire::{StartWireError, TcpWire, WireOptions, WirePlace};
use opx_emu::{Adapter, Config, DropReason, Lab, Pacing};
use opx_tools::cli::{self, IcodeArg};
use opx_tools::control::{Bench, Control};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// GUID of the adapter at the connecting end of a wire: that of a lab's second adapter, since a driver refuses a far port with
/// its own. The listening end has a lab's first.
const CONNECTING_GUID: Guid = Guid(0x0011_7501_0002_0b01);

/// Serves emulated Omni-Path HFI1 adapters on vfio-user sockets.
///
/// Prints "ready SOCKET" for each socket once it listens. SIGUSR1 prints statistics and the accesses to registers that
/// aren't modelled; so does the end, at SIGINT or SIGTERM.
///
/// To join adapters on two machines: opx-emu --socket a.sock --wire listen:0.0.0.0:4791 on one,
/// opx-emu --socket b.sock --wire connect:HOST:4791 on the other.
///
/// Exit code: 0 ended by SIGINT or SIGTERM, 2 it couldn't be done.
#[derive(Debug, Parser)]
#[command(name = "opx-emu", version)]
struct Args {
    /// Where to serve an adapter; give it more than once for more adapters.
    #[arg(long, value_name = "PATH", required = true)]
    socket: Vec<PathBuf>,

    /// Join the ports of two adapters with a cable.
    #[arg(long)]
    cable: bool,

    /// Join the port of the one adapter over TCP with that of another opx-emu: "listen:ADDRESS:PORT" at one end,
    /// "connect:ADDRESS:PORT" at the other. Listening, it prints "wire ADDRESS:PORT" after the sockets. Anybody who reaches the
    /// address can be the other end.
    #[arg(long, value_name = "PLACE", conflicts_with = "cable")]
    wire: Option<WirePlace>,

    /// What the adapter says it is made of.
    #[arg(long, value_enum, default_value_t = IcodeArg::Silicon)]
    icode: IcodeArg,

    /// Seconds that two ports take to train a link. Linux's driver crashes when the link comes up before it has
    /// registered its InfiniBand device: give a guest 2.
    #[arg(long, value_name = "SECONDS", default_value = "0.1", value_parser = cli::seconds, allow_negative_numbers = true)]
    link_time: Duration,

    /// Percentage of arriving packets that are lost.
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = cli::percent, allow_negative_numbers = true)]
    loss: f64,

    /// Percentage of arriving packets that are doubled.
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = cli::percent, allow_negative_numbers = true)]
    dup: f64,

    /// Percentage of arriving packets that others overtake.
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = cli::percent, allow_negative_numbers = true)]
    reorder: f64,

    /// Percentage of arriving packets in which a bit is flipped.
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = cli::percent, allow_negative_numbers = true)]
    corrupt: f64,

    /// Where to take commands that pull the cable, plug it in or spoil packets (see the documentation of the emulator).
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,

    /// Seed of the faults; each further adapter takes the next number.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    seed: u64,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("--cable joins two adapters, but there are {0} sockets; give --socket twice")]
    Cable(usize),
    #[error("--wire has one adapter at its end, but there are {0} sockets; give --socket once")]
    Wire(usize),
    #[error(transparent)]
    StartWire(#[from] StartWireError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("{}: can't take commands there: {source}; use a path where nothing is", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    #[error("can't catch signals: {0}")]
    Signals(io::Error),
    #[error("can't write to stdout: {0}")]
    Stdout(io::Error),
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let result = cli::parse::<Args>().and_then(|args| run(&args).map_err(|error| cli::complain(&error)));
    result.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

fn run(args: &Args) -> Result<(), StartError> {
    if args.cable && args.socket.len() != 2 {
        return Err(StartError::Cable(args.socket.len()));
    }
    if args.wire.is_some() && args.socket.len() != 1 {
        return Err(StartError::Wire(args.socket.len()));
    }
    // Before the first socket, so that none is left behind by an early signal.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).map_err(StartError::Signals)?;
    let lab = Arc::new(Lab::new(Pacing::Real));
    let icode = args.icode.into();
    let faults = PacketFaults { loss: args.loss, duplicate: args.dup, reorder: args.reorder, corrupt: args.corrupt };
    let mut served = Vec::new();
    for (path, seed) in args.socket.iter().zip((0..).map(|n| args.seed.wrapping_add(n))) {
        let guid = if matches!(args.wire, Some(WirePlace::Connect(_))) { CONNECTING_GUID } else { Guid(0) };
        let adapter = lab.add(Config { icode, guid, link_time: args.link_time, ..Config::default() });
        if !faults.is_none() {
            adapter.set_wire_faults(faults, seed);
        }
        served.push((adapter.clone(), SocketServer::start(adapter, path)?));
    }
    if let ([(a, _), (b, _)], true) = (&served[..], args.cable) {
        lab.cable(a, b);
    }
    let wire = match (&served[..], &args.wire) {
        ([(adapter, _)], Some(place)) => Some(Arc::new(TcpWire::start(adapter, place, WireOptions::default())?)),
        _ => None,
    };
    let control = |path: &PathBuf| {
        let adapters = served.iter().map(|(adapter, _)| adapter.clone()).collect();
        Control::start(path, Bench { lab: Arc::clone(&lab), adapters, wire: wire.clone() })
            .map_err(|source| StartError::Control { path: path.clone(), source })
    };
    let _control = args.control.as_ref().map(control).transpose()?;
    let mut out = io::stdout();
    for (_, server) in &served {
        writeln!(out, "ready {}", server.path().display()).map_err(StartError::Stdout)?;
    }
    if let Some(address) = wire.as_ref().and_then(|wire| wire.local_address()) {
        writeln!(out, "wire {address}").map_err(StartError::Stdout)?;
    }
    out.flush().map_err(StartError::Stdout)?;
    for signal in signals.forever() {
        // Whoever read "ready" may have closed the pipe since; that ends nothing.
        let _ = report(&mut out, &served, wire.as_deref());
        if signal != SIGUSR1 {
            break;
        }
    }
    Ok(())
}

/// Prints what the adapters did, and what was asked of them that they don't have.
fn report(out: &mut impl Write, served: &[(Adapter, SocketServer)], wire: Option<&TcpWire>) -> io::Result<()> {
    for (adapter, server) in served {
        let (counts, faults) = (adapter.counts(), adapter.fault_counts());
        writeln!(out, "{}:", server.path().display())?;
        writeln!(
            out,
            "  packets sent {} ({} bytes), received {} ({} bytes); interrupts {}, resets {}, DMA faults {}",
            counts.packets_sent,
            counts.bytes_sent,
            counts.packets_received,
            counts.bytes_received,
            counts.interrupts,
            counts.resets,
            counts.dma_faults
        )?;
        writeln!(
            out,
            "  sent by SDMA {}; placed by TID {}, in flows {}, headers suppressed {}",
            counts.sdma_packets, counts.expected_packets, counts.flow_packets, counts.headers_suppressed
        )?;
        writeln!(
            out,
            "  faults dealt: lost {}, doubled {}, reordered {}, corrupted {}",
            faults.lost, faults.doubled, faults.reordered, faults.corrupted
        )?;
        let forged = adapter.forgery_counts();
        writeln!(
            out,
            "  forged: partition key {}, job key {}, SLID {}, DLID {}; link full {}, short of PIO credit {}",
            forged.partition_key,
            forged.job_key,
            forged.source_lid,
            forged.destination_lid,
            counts.link_full,
            counts.credit_short
        )?;
        for reason in DropReason::ALL.into_iter().filter(|reason| counts.dropped(*reason) > 0) {
            writeln!(out, "  dropped {reason:?}: {}", counts.dropped(reason))?;
        }
        let unmodelled = adapter.unmodelled();
        writeln!(out, "  registers accessed that aren't modelled: {}", unmodelled.len())?;
        for access in unmodelled {
            let name = csr::by_offset(access.offset).map_or("unknown", |(csr, ..)| csr.name);
            writeln!(out, "    {} {name}: {} reads, {} writes", access.offset, access.reads, access.writes)?;
        }
    }
    if let Some(wire) = wire {
        let status = wire.status();
        let now = status.connected.map_or_else(|| "not joined".to_owned(), |means| format!("joined, by {means}"));
        writeln!(
            out,
            "wire {}: {now}; connections {}, failures {}",
            wire.place(),
            status.connections,
            status.failures
        )?;
        if let Some(why) = status.last_failure {
            writeln!(out, "  last failure: {why}")?;
        }
    }
    out.flush()
}

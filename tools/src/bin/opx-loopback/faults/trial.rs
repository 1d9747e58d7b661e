//! One fault: an adapter of its own, traffic of all kinds between two endpoints, the fault at its packet, and traffic again
//! when it is over.

use super::seen::Seen;
use crate::cli::Cli;
use crate::data;
use crate::rig::{Failure, GIVE_UP_AFTER, Watch};
use anyhow::Context;
use opx_bus::PciFunction;
use opx_emu::{Adapter, EmuBus, Fault, Lab, Pacing};
use opx_hw::{DownReason, Hfi, LinkMode, LinkState, Options};
use opx_stack::{Completion, Config, Endpoint, Pattern, SendError};
use std::path::PathBuf;
use std::time::Duration;

/// Messages each way before the fault is planned, while it happens, and afterwards.
const BEFORE: u32 = 16;
const DURING: u32 = 160;
const AFTERWARDS: u32 = 48;
/// After the fault's messages the endpoints have nothing to send for so long that they miss what went astray without
/// holding a message up.
const IDLE: Duration = Duration::from_secs(1);
/// Messages under way at a time.
const WINDOW: u32 = 8;
const TAG: u64 = 1;

/// An adapter to be hurt.
pub struct Trial {
    adapter: Adapter,
    options: Options,
    hfi: Hfi<EmuBus>,
    config: Config,
    seed: u64,
}

/// Lengths for PIO, for SDMA and for rendezvous.
fn length(n: u32) -> usize {
    let n = n as usize;
    match n % 8 {
        0..4 => n * 37 % 500,
        4..7 => 600 + n * 211 % 7000,
        _ => 9000 + n * 4099 % 60_000,
    }
}

impl Trial {
    /// An adapter of its own on a simulated clock, its link up.
    pub fn new(cli: &Cli, firmware: Option<PathBuf>) -> anyhow::Result<Self> {
        let chip = opx_emu::Config {
            icode: cli.icode.into(),
            link_time: Duration::from_millis(1),
            ..opx_emu::Config::default()
        };
        let adapter = Lab::new(Pacing::Virtual).add(chip);
        let options = Options { firmware_dir: firmware, ..Options::default() };
        let hfi = Hfi::open(adapter.bus(), options.clone()).context("the adapter can't be opened before the fault")?;
        hfi.link_up(LinkMode::Loopback)?;
        let mut config = Config { health_interval: Duration::from_millis(1), seed: cli.seed, ..Config::default() };
        config.reliability.give_up_after = GIVE_UP_AFTER;
        Ok(Self { adapter, options, hfi, config, seed: cli.seed })
    }

    /// Has the fault after `after` packets of the unit that it belongs to. Gives what the caller saw of it.
    pub fn run(mut self, fault: Fault, after: u64) -> Result<String, Failure> {
        let mut ends = Ends::open(&self)?;
        ends.exchange(&self, BEFORE, Duration::ZERO, || true)?;
        let before = Seen::now(&self.hfi, &ends);
        let unit = match fault {
            Fault::Pio(_) => ends.a.send_context().0,
            Fault::Sdma(_) => ends.a.sdma_engine().0.into(),
            Fault::Receive(_) => ends.b.address().rx.into(),
            Fault::Chip(_) => 0,
        };
        if !self.adapter.inject(fault, unit, after) {
            return Err(Failure::wrong("too many faults wait"));
        }
        // A chip that is too hot takes part in nothing.
        let hot = |hfi: &Hfi<EmuBus>| hfi.link_state() == LinkState::Down(DownReason::Overheated);
        match ends.exchange(&self, DURING, IDLE, || !hot(&self.hfi)) {
            // That its contexts can't be had back is right.
            Err(_) if hot(&self.hfi) => {}
            exchanged => exchanged?,
        }
        if self.adapter.faults_waiting() > 0 {
            return Err(Failure::wrong(format!("unit {unit} had fewer than {after} packets, so nothing happened")));
        }
        let mut seen = Seen::now(&self.hfi, &ends).since(&before);
        if hot(&self.hfi) {
            drop(ends);
            self = self.reopen()?;
            ends = Ends::open(&self)?;
            seen.push_str("; the adapter had to be opened again");
        }
        let settled = Seen::now(&self.hfi, &ends);
        ends.exchange(&self, AFTERWARDS, IDLE, || true)?;
        let later = Seen::now(&self.hfi, &ends);
        if later.troubles() != settled.troubles() {
            return Err(Failure::wrong(format!("it isn't over: {}", later.since(&settled))));
        }
        if self.hfi.link_state() != LinkState::Active {
            return Err(Failure::wrong(format!("in the end the link is {}", self.hfi.link_state())));
        }
        let strays = self.adapter.counts().dma_faults;
        if strays > 0 {
            return Err(Failure::wrong(format!("the adapter reached for {strays} addresses that it wasn't given")));
        }
        Ok(seen)
    }

    fn reopen(self) -> Result<Self, Failure> {
        let Self { adapter, options, hfi, config, seed } = self;
        // An adapter has one owner: closing it ends what a new one began.
        drop(hfi);
        let hfi = Hfi::open(adapter.bus(), options.clone()).map_err(|error| Failure::wrong(error.to_string()))?;
        hfi.link_up(LinkMode::Loopback)?;
        Ok(Self { adapter, options, hfi, config, seed })
    }
}

/// Two endpoints on the adapter.
pub struct Ends {
    /// The one whose contexts are hurt, but for receiving.
    pub a: Endpoint<EmuBus>,
    /// The other.
    pub b: Endpoint<EmuBus>,
    /// Messages so far each way.
    sent: u32,
}

impl Ends {
    fn open(trial: &Trial) -> Result<Self, Failure> {
        let a = Endpoint::open(&trial.hfi, trial.config.clone())?;
        let b = Endpoint::open(&trial.hfi, trial.config.clone())?;
        Ok(Self { a, b, sent: 0 })
    }

    /// Sends `count` messages each way and checks each, once; lasts no less than `least`. Ends early when `go_on` says no.
    fn exchange(
        &mut self,
        trial: &Trial,
        count: u32,
        least: Duration,
        go_on: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        let mut ways = [Way::default(), Way::default()];
        let first = self.sent;
        self.sent += count;
        let mut watch = Watch::new(&trial.hfi);
        let (bus, start) = (trial.hfi.bus(), trial.hfi.bus().now());
        let is_done = |ends: &Self, ways: &[Way; 2]| {
            ways.iter().all(|way| way.is_done(count)) && ends.a.is_quiet() && ends.b.is_quiet()
        };
        while go_on() {
            let done = is_done(self, &ways);
            if done && bus.now().since(start) >= least {
                break;
            }
            for (n, way) in ways.iter_mut().enumerate() {
                let (from, to) = if n == 0 { (&mut self.a, &mut self.b) } else { (&mut self.b, &mut self.a) };
                way.start(trial.seed, first, count, from, to)?;
            }
            let busy = self.a.progress()? | self.b.progress()?;
            for end in 0..2 {
                let endpoint = if end == 0 { &mut self.a } else { &mut self.b };
                while let Some(completion) = endpoint.poll_completion() {
                    watch.alive();
                    match completion {
                        Completion::Sent { .. } => ways[end].acknowledged += 1,
                        Completion::Received { context, len, buffer, .. } => {
                            ways[1 - end].check(trial.seed, first, context, &buffer.bytes()[..len])?;
                        }
                        Completion::Failed { error, .. } => return Err(Failure::wrong(error.to_string())),
                        other => return Err(Failure::wrong(format!("nobody asked for {other:?}"))),
                    }
                }
            }
            // What the owner of an adapter does for a link that went down.
            if matches!(trial.hfi.link_state(), LinkState::Down(reason) if reason != DownReason::Overheated) {
                trial.hfi.link_up(LinkMode::Loopback)?;
            }
            if done && !busy {
                bus.pause(trial.config.health_interval);
                continue;
            }
            watch.step(busy)?;
        }
        Ok(())
    }
}

/// One direction of an exchange.
#[derive(Default)]
struct Way {
    posted: u32,
    sent: u32,
    acknowledged: u32,
    received: Vec<bool>,
}

impl Way {
    fn is_done(&self, count: u32) -> bool {
        self.acknowledged == count && self.received.iter().filter(|arrived| **arrived).count() == count as usize
    }

    fn start(
        &mut self,
        seed: u64,
        first: u32,
        count: u32,
        from: &mut Endpoint<EmuBus>,
        to: &mut Endpoint<EmuBus>,
    ) -> Result<(), Failure> {
        while self.posted < count && self.posted < self.acknowledged + 2 * WINDOW {
            let buffer = vec![0; length(first + self.posted)];
            let posted = to.tag_receive(Pattern::exact(TAG), buffer, self.posted.into());
            posted.map_err(|no| Failure::wrong(no.error.to_string()))?;
            self.posted += 1;
            self.received.push(false);
        }
        while self.sent < self.posted && self.sent < self.acknowledged + WINDOW {
            let n = first + self.sent;
            let message = data::make(seed.wrapping_add(n.into()), length(n));
            match from.tag_send(to.address(), TAG, message, self.sent.into()) {
                Ok(()) => self.sent += 1,
                Err(no) if matches!(no.error, SendError::Again(_)) => break,
                Err(no) => return Err(Failure::wrong(no.error.to_string())),
            }
        }
        Ok(())
    }

    fn check(&mut self, seed: u64, first: u32, context: u64, message: &[u8]) -> Result<(), Failure> {
        let n = first.wrapping_add(context as u32);
        match self.received.get_mut(context as usize) {
            Some(arrived) if !*arrived => *arrived = true,
            _ => return Err(Failure::wrong(format!("message {n} arrived twice"))),
        }
        if message.len() != length(n) {
            return Err(Failure::wrong(format!("message {n} arrived with {} bytes", message.len())));
        }
        match data::first_difference(seed.wrapping_add(n.into()), message) {
            Some(at) => Err(Failure::wrong(format!("message {n} differs from byte {at} on"))),
            None => Ok(()),
        }
    }
}

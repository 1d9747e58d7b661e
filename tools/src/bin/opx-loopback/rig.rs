//! What every rung works with: the open adapter, the faults asked for, and the failures a rung can end with.

use crate::report::{Tally, Verdict};
use opx_bus::chance::FaultCounts;
use opx_bus::{ALL_ONES, BusError, PacketFaults, PciFunction};
use opx_defs::csr;
use opx_defs::time::Instant;
use opx_emu::Adapter;
use opx_hw::{ContextError, Gone, Hfi, LinkError};
use opx_stack::{Config, Endpoint, EndpointError, OpenError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest time, by the adapter's clock, that a rung may go on without a message being completed: a large one may take
/// long on a bad wire. Nothing getting through at all ends a rung earlier, by [`GIVE_UP_AFTER`].
const STALL: Duration = Duration::from_secs(60);
/// How often a rung that waits looks whether the adapter is still there.
const LOOK: Duration = Duration::from_millis(100);
/// How long an endpoint tries to reach a peer. Both ends are at work all the time here, so silence means that nothing
/// gets through.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(15);

/// Why a rung didn't pass.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something was wrong.
    #[error("{0}")]
    Wrong(String),
    /// It can't run on this adapter.
    #[error("{0}")]
    CannotRun(String),
    /// The adapter can't be used any further.
    #[error(transparent)]
    Adapter(anyhow::Error),
    /// Somebody asked this program to end.
    #[error("stopped by a signal")]
    Stopped,
}

impl Failure {
    /// A failure with a sentence that says what was wrong.
    pub fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong(what.into())
    }
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        Self::Adapter(error.into())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Adapter(error.into())
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        Self::Adapter(error.into())
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::Adapter(error.into())
    }
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        Self::Adapter(error.into())
    }
}

impl From<Gone> for Failure {
    fn from(error: Gone) -> Self {
        Self::Adapter(error.into())
    }
}

/// What a rung gives: its counts, or why it didn't pass.
pub type Outcome = Result<Tally, Failure>;

/// The verdict of an outcome, unless it ends the whole run.
pub fn verdict(outcome: &Outcome) -> Option<Verdict> {
    match outcome {
        Ok(_) => Some(Verdict::Passed),
        Err(Failure::Wrong(why)) => Some(Verdict::Failed(why.clone())),
        Err(Failure::CannotRun(why)) => Some(Verdict::NotRun(why.clone())),
        Err(Failure::Adapter(_) | Failure::Stopped) => None,
    }
}

/// An open adapter whose link is up, and how to test it.
pub struct Rig<B: PciFunction> {
    /// The adapter.
    pub hfi: Hfi<B>,
    /// The emulated adapter itself, when it is in this process: its wire can be spoilt.
    pub emulated: Option<Adapter>,
    /// Settings of endpoints.
    pub config: Config,
    /// Seed of data and faults.
    pub seed: u64,
    /// Faults asked for, if any were.
    pub faults: Option<PacketFaults>,
    /// Set when this program is to end.
    pub stop: Arc<AtomicBool>,
}

impl<B: PciFunction> Rig<B> {
    /// The same with another seed.
    pub fn with_seed(&self, seed: u64) -> Self {
        let Self { hfi, emulated, config, faults, stop, .. } = self;
        let (hfi, emulated, config) = (hfi.clone(), emulated.clone(), config.clone());
        Self { hfi, emulated, config, seed, faults: *faults, stop: Arc::clone(stop) }
    }

    /// Opens two endpoints on the adapter, with `faults` between them.
    pub fn pair(&self, faults: PacketFaults) -> Result<Pair<'_, B>, Failure> {
        let mut config = self.config.clone();
        match &self.emulated {
            Some(adapter) => adapter.set_wire_faults(faults, self.seed),
            None => config.receive_faults = faults,
        }
        let before = self.wire_faults();
        config.seed = self.seed;
        let a = Endpoint::open(&self.hfi, config.clone())?;
        config.seed = self.seed.wrapping_add(1);
        let b = Endpoint::open(&self.hfi, config)?;
        Ok(Pair { rig: self, a, b, before, watch: Watch::of(self) })
    }

    /// Faults that were put on the wire so far.
    pub fn wire_faults(&self) -> FaultCounts {
        self.emulated.as_ref().map(Adapter::fault_counts).unwrap_or_default()
    }
}

/// Two endpoints on one adapter, driven by one thread.
pub struct Pair<'a, B: PciFunction> {
    rig: &'a Rig<B>,
    /// One end.
    pub a: Endpoint<B>,
    /// The other.
    pub b: Endpoint<B>,
    before: FaultCounts,
    watch: Watch<B>,
}

impl<B: PciFunction> Pair<'_, B> {
    /// Moves both ends on; lets time pass when there was nothing to do.
    pub fn step(&mut self) -> Result<(), Failure> {
        let busy = self.a.progress()? | self.b.progress()?;
        self.watch.step(busy)
    }

    /// Something was completed: the run isn't stuck.
    pub fn alive(&mut self) {
        self.watch.alive();
    }

    /// Goes on until everything that was sent has been acknowledged.
    pub fn settle(&mut self) -> Result<(), Failure> {
        while !(self.a.is_quiet() && self.b.is_quiet()) {
            self.step()?;
        }
        Ok(())
    }

    /// Adds up what was injected and sent again, and mends the wire.
    pub fn close(mut self, mut tally: Tally) -> Outcome {
        self.settle()?;
        let wire = self.rig.wire_faults();
        tally.faults += wire.total() - self.before.total();
        for end in [&self.a, &self.b] {
            tally.faults += end.receive_fault_counts().total();
            tally.retransmits += end.reliability_counters().replays_sent;
        }
        if let Some(adapter) = &self.rig.emulated {
            adapter.set_wire_faults(PacketFaults::default(), self.rig.seed);
        }
        Ok(tally)
    }
}

/// Notices that nothing moves any more.
pub struct Watch<B: PciFunction> {
    bus: B,
    alive: Instant,
    next_look: Instant,
    stop: Arc<AtomicBool>,
}

impl<B: PciFunction> Watch<B> {
    /// A watch on the clock of an adapter.
    pub fn new(hfi: &Hfi<B>) -> Self {
        let bus = hfi.bus().clone();
        let now = bus.now();
        Self { bus, alive: now, next_look: now + LOOK, stop: Arc::default() }
    }

    /// Likewise, and one that notices that this program is to end.
    pub fn of(rig: &Rig<B>) -> Self {
        Self { stop: Arc::clone(&rig.stop), ..Self::new(&rig.hfi) }
    }

    /// One turn of a polling loop. Lets time pass when the turn did nothing.
    pub fn step(&mut self, busy: bool) -> Result<(), Failure> {
        if !busy {
            self.bus.relax();
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure::Stopped);
        }
        let now = self.bus.now();
        if now.since(self.alive) >= STALL {
            return Err(Failure::wrong(format!("nothing arrived for {STALL:?}")));
        }
        if !busy && now >= self.next_look {
            self.next_look = now + LOOK;
            self.look()?;
        }
        Ok(())
    }

    /// Whether the adapter is still there: what it wrote into memory stays as it was when it is gone.
    fn look(&self) -> Result<(), Failure> {
        let gone = self.bus.gone().or_else(|| {
            let all_ones = self.bus.read64(csr::CCE_REVISION.off()) == ALL_ONES;
            all_ones.then(|| self.bus.gone().unwrap_or_else(|| "CCE_REVISION reads as all ones".to_owned()))
        });
        match gone {
            None => Ok(()),
            Some(why) => Err(Failure::Adapter(anyhow::anyhow!(
                "{}: the adapter is gone ({why}); check that it is still plugged in, powered and served",
                self.bus.name()
            ))),
        }
    }

    /// Something was completed.
    pub fn alive(&mut self) {
        self.alive = self.bus.now();
    }
}

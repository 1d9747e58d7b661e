//! An adapter at a moment: all that `top` and `export` show of it.

use crate::contexts::Contexts;
use crate::counters::{self, Counters};
use crate::errors::Errors;
use crate::link::Link;
use crate::registers::Registers;
use crate::sdma::Engines;
use crate::temperature::Temperature;
use opx_bus::{BusError, PciFunction};
use opx_defs::time::Instant;
use opx_hw::counters::{Counter, catalogue};

/// The counters from which rates are made: flits of 8 bytes, and packets.
pub const FLITS: [&str; 2] = ["DcXmitFlits", "DcRcvFlits"];
/// Packets out and in.
pub const PACKETS: [&str; 2] = ["DcXmitPkts", "DcRcvPkts"];

/// All of it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The adapter's name.
    pub adapter: String,
    /// When, by the bus's clock.
    pub at: Instant,
    /// The link.
    pub link: Link,
    /// Contexts that are on.
    pub contexts: Contexts,
    /// SDMA engines.
    pub engines: Engines,
    /// Errors that stand.
    pub errors: Errors,
    /// The thermometer.
    pub temperature: Temperature,
    /// Counters of the hardware.
    pub counters: Counters,
}

impl Snapshot {
    /// Looks at all of it.
    pub fn take<B: PciFunction>(registers: &Registers<B>) -> Result<Self, BusError> {
        Self::with(registers, &counters::rows("*").unwrap_or_default())
    }

    /// Looks at what a screen shows: of the counters only those that rates are made from, since reading each costs the
    /// processor a round trip to the adapter.
    pub fn for_screen<B: PciFunction>(registers: &Registers<B>) -> Result<Self, BusError> {
        let is_shown = |row: &&Counter| FLITS.contains(&row.name) || PACKETS.contains(&row.name);
        Self::with(registers, &catalogue().filter(is_shown).collect::<Vec<_>>())
    }

    fn with<B: PciFunction>(registers: &Registers<B>, rows: &[&'static Counter]) -> Result<Self, BusError> {
        Ok(Self {
            adapter: registers.bus().name().to_owned(),
            at: registers.bus().now(),
            link: Link::read(registers)?,
            contexts: Contexts::read(registers, false)?,
            engines: Engines::read(registers)?,
            errors: Errors::read(registers)?,
            temperature: Temperature::read(registers)?,
            counters: Counters::read(registers, rows)?,
        })
    }

    /// What a counter of the whole adapter shows.
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.counters.counters.iter().find(|counter| counter.name == name && counter.index.is_none()).map(|c| c.value)
    }

    /// How fast a counter has grown since an earlier look, by the second.
    pub fn rate(&self, earlier: &Self, name: &str) -> Option<f64> {
        let seconds = self.at.since(earlier.at).as_secs_f64();
        let grown = self.counter(name)?.checked_sub(earlier.counter(name)?)?;
        (seconds > 0.0).then(|| grown as f64 / seconds)
    }
}

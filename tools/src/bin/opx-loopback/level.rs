//! How much is tried: the levels, the rungs of each, and how long each may go on.

use crate::rig::{Outcome, Rig};
use crate::rungs;
use clap::ValueEnum;
use opx_tools::adapter::{AdapterSpec, AnyBus};
use serde::Serialize;
use std::time::Duration;

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The ladder: from registers to reliable messages; seconds, and a minute at most.
    Quick,
    /// The ladder, latency and bandwidth by size, errors meanwhile, and the faults of an emulated adapter.
    Full,
    /// The ladder, then messages of all kinds again and again for as long as --duration says.
    Soak,
}

/// A rung that needs nothing but the rig.
pub struct Rung {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&Rig<AnyBus>) -> Outcome,
}

/// The ladder, from the bottom.
pub const LADDER: &[Rung] = &[
    Rung { name: "registers", run: rungs::registers },
    Rung { name: "interrupts", run: rungs::interrupts },
    Rung { name: "pio", run: rungs::pio },
    Rung { name: "pio errors", run: rungs::pio_errors },
    Rung { name: "sdma", run: rungs::sdma },
    Rung { name: "sdma runs", run: rungs::sdma_runs },
    Rung { name: "sdma errors", run: rungs::sdma_errors },
    Rung { name: "eager receive", run: rungs::eager_receive },
    Rung { name: "expected receive", run: rungs::expected_receive },
    Rung { name: "steering", run: rungs::steering },
    Rung { name: "messages", run: rungs::messages },
    Rung { name: "rendezvous", run: rungs::rendezvous },
    Rung { name: "zero copy", run: rungs::zero_copy },
    Rung { name: "reliability", run: rungs::reliability },
];

/// What a soak repeats, under the names that its lines have.
pub const SOAK: &[Rung] = &[
    Rung { name: "soak: messages", run: rungs::messages },
    Rung { name: "soak: rendezvous", run: rungs::rendezvous },
    Rung { name: "soak: zero copy", run: rungs::zero_copy },
    Rung { name: "soak: reliability", run: rungs::reliability },
];

/// The rungs of a full run above the ladder.
pub const LATENCY: &str = "latency";
/// Messages one way, by size.
pub const BANDWIDTH: &str = "bandwidth";
/// Whether the adapter counted errors while those two ran.
pub const ERRORS: &str = "errors";
/// What an adapter made for this process is hurt with.
pub const FAULTS: &str = "faults";

impl Level {
    /// The names of its rungs, in order.
    pub fn rungs(self, adapter: &AdapterSpec) -> Vec<&'static str> {
        let more: &[&str] = match (self, adapter) {
            (Self::Quick | Self::Soak, _) => &[],
            (Self::Full, AdapterSpec::Emulated) => &[LATENCY, BANDWIDTH, ERRORS, FAULTS],
            (Self::Full, _) => &[LATENCY, BANDWIDTH, ERRORS],
        };
        let soak = if self == Self::Soak { SOAK } else { &[] };
        let names = LADDER.iter().chain(soak).map(|rung| rung.name);
        names.chain(more.iter().copied()).collect()
    }

    /// The longest that it may take when --duration doesn't say: after that, nothing further is begun. How long an emulated
    /// adapter takes depends on what else its machine does, so it isn't held to that.
    pub fn limit(self, adapter: &AdapterSpec) -> Option<Duration> {
        let minutes = match (self, adapter) {
            (Self::Soak, _) => 10,
            (_, AdapterSpec::Emulated | AdapterSpec::VfioUser(_)) => return None,
            (Self::Quick, _) => 1,
            (Self::Full, _) => 15,
        };
        Some(Duration::from_secs(minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_begins_with_the_ladder() {
        let hardware: AdapterSpec = "af:00.0".parse().unwrap();
        for level in [Level::Quick, Level::Full, Level::Soak] {
            for adapter in [&AdapterSpec::Emulated, &hardware] {
                let rungs = level.rungs(adapter);
                assert!(rungs.iter().zip(LADDER).all(|(name, rung)| *name == rung.name));
                assert_eq!(rungs.len() > LADDER.len(), level != Level::Quick);
                assert_eq!(rungs.contains(&FAULTS), level == Level::Full && *adapter == AdapterSpec::Emulated);
            }
            assert!(level.limit(&hardware).is_some());
        }
        assert_eq!(Level::Quick.limit(&AdapterSpec::Emulated), None);
    }
}

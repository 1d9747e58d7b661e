//! What the driver's caller can see of a fault: everything that was counted because of it.

use super::trial::Ends;
use opx_emu::EmuBus;
use opx_hw::Hfi;
use std::fmt::Write;

/// Names and values of all that is counted, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen(Vec<(String, u64)>);

impl Seen {
    /// What is counted now.
    pub fn now(hfi: &Hfi<EmuBus>, ends: &Ends) -> Self {
        let mut all: Vec<(String, u64)> = hfi.counts().all().collect();
        let both = |count: fn(&opx_stack::Endpoint<EmuBus>) -> u64| count(&ends.a) + count(&ends.b);
        all.extend([
            ("recoveries of an endpoint".to_owned(), both(|end| end.counters().recoveries)),
            ("restarts of a send context".to_owned(), both(|end| end.pio_counters().restarts)),
            ("restarts of an SDMA engine".to_owned(), both(|end| end.sdma_counters().restarts)),
            ("broken packets".to_owned(), both(|end| end.counters().packets_in_error)),
            ("packets that make no sense".to_owned(), both(|end| end.counters().malformed)),
            (RESENT.to_owned(), both(|end| end.reliability_counters().replays_sent)),
        ]);
        Self(all)
    }

    /// What grew since `before`, in words.
    pub fn since(&self, before: &Self) -> String {
        let mut text = String::new();
        for (name, now) in &self.0 {
            if ORDINARY.contains(&name.as_str()) {
                continue;
            }
            let then = before.0.iter().find(|(other, _)| other == name).map_or(0, |(_, value)| *value);
            if *now > then {
                let _ = write!(text, "{}{name}: {}", if text.is_empty() { "" } else { "; " }, now - then);
            }
        }
        if text.is_empty() { "nothing".to_owned() } else { text }
    }

    /// What must stand still once a fault is over. A packet that is sent once too often is the protocol's affair, and
    /// interrupts come with ordinary work.
    pub fn troubles(&self) -> Vec<&(String, u64)> {
        self.0.iter().filter(|(name, _)| name != RESENT && !ORDINARY.contains(&name.as_str())).collect()
    }
}

const RESENT: &str = "packets sent again";
const ORDINARY: [&str; 2] = ["interrupts", "dc8051_events"];

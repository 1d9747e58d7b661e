//! Faults put into packets as they are taken from the header queue: for adapters whose wire nobody can spoil.
//!
//! A corrupted packet is dropped as one whose checksum the adapter found wrong, because the adapter has already checked it.

use opx_bus::chance::FaultCounts;
use opx_bus::{Chance, PacketFaults};
use opx_defs::wire::opx::Header;
use std::collections::VecDeque;

/// A packet that is held back.
#[derive(Debug)]
struct Delayed {
    overtaken_by: u32,
    header: Header,
    payload: Vec<u8>,
}

/// Deals faults to received packets.
#[derive(Debug)]
pub(crate) struct ReceiveFaults {
    faults: PacketFaults,
    chance: Chance,
    counts: FaultCounts,
    delayed: VecDeque<Delayed>,
    /// No faults are to be dealt.
    none: bool,
}

impl ReceiveFaults {
    /// Most packets held back at a time.
    const MOST_DELAYED: usize = 64;

    pub(crate) fn new(faults: PacketFaults, seed: u64) -> Self {
        let none = faults.is_none();
        Self { faults, chance: Chance::new(seed), counts: FaultCounts::default(), delayed: VecDeque::new(), none }
    }

    /// Whether packets go through untouched.
    #[inline]
    pub(crate) fn is_off(&self) -> bool {
        // Nothing is delayed without faults.
        self.none
    }

    pub(crate) fn counts(&self) -> FaultCounts {
        self.counts
    }

    /// How often the packet is to be processed now: 0, 1 or 2 times.
    pub(crate) fn deal(&mut self, header: &Header, payload: &[u8]) -> u32 {
        let fate = self.faults.deal(&mut self.chance, &mut self.counts);
        if fate.lost || fate.flipped.is_some() {
            return 0;
        }
        if fate.overtaken_by > 0 && self.delayed.len() < Self::MOST_DELAYED {
            self.delayed.push_back(Delayed {
                overtaken_by: fate.overtaken_by,
                header: *header,
                payload: payload.to_vec(),
            });
            return u32::from(fate.doubled);
        }
        1 + u32::from(fate.doubled)
    }

    /// As [`ReceiveFaults::deal`], for a packet whose payload is where it belongs already: it can't come later than that.
    pub(crate) fn deal_placed(&mut self) -> u32 {
        if self.none {
            return 1;
        }
        let fate = self.faults.deal(&mut self.chance, &mut self.counts);
        if fate.lost || fate.flipped.is_some() { 0 } else { 1 + u32::from(fate.doubled) }
    }

    /// A packet has passed; gives one that was overtaken often enough.
    pub(crate) fn passed(&mut self) {
        for delayed in &mut self.delayed {
            delayed.overtaken_by = delayed.overtaken_by.saturating_sub(1);
        }
    }

    /// The next packet whose time has come; with `all`, any that is held back.
    pub(crate) fn due(&mut self, all: bool) -> Option<(Header, Vec<u8>)> {
        let at = self.delayed.iter().position(|delayed| all || delayed.overtaken_by == 0)?;
        self.delayed.remove(at).map(|delayed| (delayed.header, delayed.payload))
    }
}

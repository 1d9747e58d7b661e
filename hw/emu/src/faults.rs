//! Faults of the wire: packets lost, doubled, delayed past others, or with a flipped bit, by a seeded chance.

use crate::packet::Packet;
use opx_bus::chance::FaultCounts;
use opx_bus::{Chance, PacketFaults};
use opx_defs::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// Longest time a packet is held back when no others come to overtake it.
pub const HOLD_TIME: Duration = Duration::from_micros(50);
/// Packets held back at a time; beyond that they are delivered in order.
const HELD: usize = 64;

#[derive(Debug)]
struct Held {
    packet: Packet,
    copies: u32,
    /// Packets that have yet to overtake it.
    overtakers: u32,
    until: Instant,
}

/// Spoils packets that come off the wire.
#[derive(Debug)]
pub struct WireFaults {
    faults: PacketFaults,
    chance: Chance,
    counts: FaultCounts,
    held: VecDeque<Held>,
}

impl Default for WireFaults {
    fn default() -> Self {
        let (faults, counts) = (PacketFaults::default(), FaultCounts::default());
        Self { faults, chance: Chance::new(0), counts, held: VecDeque::new() }
    }
}

impl WireFaults {
    /// Sets the shares and the seed; what is held back stays so.
    pub fn set(&mut self, faults: PacketFaults, seed: u64) {
        self.faults = faults;
        self.chance = Chance::new(seed);
    }

    /// How often each fault was dealt.
    pub fn counts(&self) -> FaultCounts {
        self.counts
    }

    /// Nothing is spoiled and nothing held back: packets need not pass here.
    pub fn is_idle(&self) -> bool {
        self.faults.is_none() && self.held.is_empty()
    }

    /// Deals with a packet: what arrives now goes to `arrive`. `true` when it was held back, until `HOLD_TIME` from now.
    pub fn pass(&mut self, now: Instant, mut packet: Packet, mut arrive: impl FnMut(Packet)) -> bool {
        let fate = self.faults.deal(&mut self.chance, &mut self.counts);
        if fate.lost {
            return false;
        }
        if let Some(random) = fate.flipped {
            packet.flip(random);
        }
        let copies = 1 + u32::from(fate.doubled);
        if fate.overtaken_by > 0 && self.held.len() < HELD {
            self.held.push_back(Held { packet, copies, overtakers: fate.overtaken_by, until: now + HOLD_TIME });
            return true;
        }
        for _ in 1..copies {
            arrive(packet.clone());
        }
        arrive(packet);
        for held in &mut self.held {
            held.overtakers = held.overtakers.saturating_sub(1);
        }
        self.let_go(|held| held.overtakers == 0, arrive);
        false
    }

    /// Lets go of packets whose time is over.
    pub fn release(&mut self, now: Instant, arrive: impl FnMut(Packet)) {
        self.let_go(|held| held.until <= now, arrive);
    }

    fn let_go(&mut self, free: impl Fn(&Held) -> bool, mut arrive: impl FnMut(Packet)) {
        if !self.held.iter().any(&free) {
            return;
        }
        let (freed, held): (VecDeque<Held>, VecDeque<Held>) =
            std::mem::take(&mut self.held).into_iter().partition(free);
        self.held = held;
        for Held { packet, copies, .. } in freed {
            for _ in 1..copies {
                arrive(packet.clone());
            }
            arrive(packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Vl;

    fn run(faults: PacketFaults, count: u32) -> (Vec<u32>, FaultCounts) {
        let mut wire = WireFaults::default();
        wire.set(faults, 5);
        let mut arrived = Vec::new();
        let number = |packet: Packet| packet.bytes.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        for n in 0..count {
            let bytes = n.to_le_bytes().to_vec();
            let packet = Packet { bytes, vl: Vl(0), sc4: false, bypass: false };
            wire.pass(Instant::ZERO, packet, |packet| arrived.push(number(packet)));
        }
        wire.release(Instant::FAR, |packet| arrived.push(number(packet)));
        (arrived, wire.counts())
    }

    #[test]
    fn every_packet_arrives_once_but_for_the_faults_counted() {
        let (arrived, counts) = run(PacketFaults { loss: 5.0, duplicate: 3.0, reorder: 10.0, corrupt: 0.0 }, 2000);
        assert!(counts.lost > 0 && counts.doubled > 0 && counts.reordered > 0);
        assert_eq!(arrived.len() as u64, 2000 - counts.lost + counts.doubled);
        assert!(arrived.windows(2).any(|pair| matches!(pair, [a, b] if a > b)));
        let mut sorted = arrived.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len() as u64, 2000 - counts.lost);
    }

    #[test]
    fn reordering_is_bounded() {
        let (arrived, _) = run(PacketFaults { reorder: 50.0, ..PacketFaults::default() }, 1000);
        // At most 64 are held, each for at most 8 packets that were not held themselves.
        for (position, number) in arrived.iter().enumerate() {
            assert!(position.abs_diff(*number as usize) <= 80, "{number} at {position}");
        }
    }
}

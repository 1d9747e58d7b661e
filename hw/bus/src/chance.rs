//! Seeded chance, and the share of packets that a wire or a receiver is told to spoil.

/// A small random generator (SplitMix64): the same seed gives the same numbers on every machine.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// A generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit` (0 when `limit` is 0).
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// `true` in `percent` of a hundred calls.
    pub fn percent(&mut self, percent: f64) -> bool {
        percent > 0.0 && (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * 100.0 < percent
    }
}

/// Shares of packets to spoil, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PacketFaults {
    /// Lost.
    pub loss: f64,
    /// Delivered twice.
    pub duplicate: f64,
    /// Delivered later than packets sent after them.
    pub reorder: f64,
    /// Delivered with a flipped bit.
    pub corrupt: f64,
}

/// What happens to one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fate {
    /// It is lost; nothing else happens to it.
    pub lost: bool,
    /// It is delivered twice.
    pub doubled: bool,
    /// It is overtaken by this many packets; 0 for in order.
    pub overtaken_by: u32,
    /// A bit of it is flipped: `Some(random number)` to choose the bit from.
    pub flipped: Option<u64>,
}

/// How often each fault was dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts {
    /// Packets lost.
    pub lost: u64,
    /// Packets doubled.
    pub doubled: u64,
    /// Packets delayed past others.
    pub reordered: u64,
    /// Packets with a flipped bit.
    pub corrupted: u64,
}

impl FaultCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.lost + self.doubled + self.reordered + self.corrupted
    }
}

impl PacketFaults {
    /// Whether nothing is to be spoiled.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Decides what happens to the next packet and counts it.
    pub fn deal(&self, chance: &mut Chance, counts: &mut FaultCounts) -> Fate {
        // Every packet draws the same number of times, so that one share doesn't shift the draws of another.
        let lost = chance.percent(self.loss);
        let doubled = chance.percent(self.duplicate);
        let reordered = chance.percent(self.reorder);
        let corrupted = chance.percent(self.corrupt);
        let (distance, bit) = (1 + chance.below(8) as u32, chance.next_u64());
        if lost {
            counts.lost += 1;
            return Fate { lost: true, ..Fate::default() };
        }
        counts.doubled += u64::from(doubled);
        counts.reordered += u64::from(reordered);
        counts.corrupted += u64::from(corrupted);
        Fate {
            lost: false,
            doubled,
            overtaken_by: if reordered { distance } else { 0 },
            flipped: corrupted.then_some(bit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_come_out() {
        let faults = PacketFaults { loss: 10.0, duplicate: 5.0, reorder: 1.0, corrupt: 0.0 };
        let (mut chance, mut counts) = (Chance::new(7), FaultCounts::default());
        for _ in 0..100_000 {
            faults.deal(&mut chance, &mut counts);
        }
        assert!((9_500..10_500).contains(&counts.lost), "{counts:?}");
        assert!((4_200..4_800).contains(&counts.doubled), "{counts:?}");
        assert!((800..1_000).contains(&counts.reordered), "{counts:?}");
        assert_eq!(counts.corrupted, 0);
    }

    #[test]
    fn a_seed_repeats() {
        let draw =
            |seed| (0..10).map(|_| 0).scan(Chance::new(seed), |c, _: i32| Some(c.next_u64())).collect::<Vec<_>>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}

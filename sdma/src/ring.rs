//! Ring arithmetic: which descriptor slots are free, and the generation that goes into each.
//!
//! Counts run on for ever; a slot is a count modulo the ring's length, a generation how often the ring was filled,
//! modulo 4 (`sdma.c:add_gen`).

/// Where software and the engine are in a ring of a power-of-two number of slots.
#[derive(Debug, Clone)]
pub struct Ring {
    entries: u32,
    /// Slots filled since the engine was started.
    tail: u64,
    /// Slots that the engine is known to be done with.
    head: u64,
}

impl Ring {
    /// An empty ring. `entries` is a power of two; the chip takes 64 to 32768.
    pub fn new(entries: u32) -> Self {
        debug_assert!(entries.is_power_of_two());
        Self { entries, tail: 0, head: 0 }
    }

    /// Free slots. One always stays empty: a full ring would look like an empty one.
    pub fn free(&self) -> u32 {
        self.entries - 1 - (self.tail - self.head) as u32
    }

    /// Count of slots filled since the start.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Count of slots that the engine is done with.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The slot that a count falls on.
    pub fn slot(&self, count: u64) -> u32 {
        (count % u64::from(self.entries)) as u32
    }

    /// Takes the next slot: its number and generation. The caller has looked at [`Ring::free`].
    pub fn push(&mut self) -> (u32, u64) {
        debug_assert!(self.free() > 0);
        let at = (self.slot(self.tail), (self.tail / u64::from(self.entries)) & 3);
        self.tail += 1;
        at
    }

    /// Takes the engine's head, a slot number; `false` when it isn't between the old head and the tail.
    pub fn advance(&mut self, head: u32) -> bool {
        let ahead = u64::from(head.wrapping_sub(self.slot(self.head)) % self.entries);
        let sane = head < self.entries && ahead <= self.tail - self.head;
        if sane {
            self.head += ahead;
        }
        sane
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slots_and_generations_follow_the_count(steps in proptest::collection::vec((any::<bool>(), 1u32..70), 1..400)) {
            let mut ring = Ring::new(64);
            let (mut filled, mut done) = (0u64, 0u64);
            for (fill, many) in steps {
                if fill {
                    for _ in 0..many.min(ring.free()) {
                        prop_assert_eq!(ring.push(), ((filled % 64) as u32, filled / 64 % 4));
                        filled += 1;
                    }
                } else {
                    done = (done + u64::from(many)).min(filled);
                    prop_assert!(ring.advance((done % 64) as u32));
                }
                prop_assert_eq!(u64::from(ring.free()), 63 - (filled - done));
                prop_assert_eq!((ring.head(), ring.tail()), (done, filled));
            }
        }
    }

    #[test]
    fn a_head_beyond_the_tail_is_refused() {
        let mut ring = Ring::new(64);
        ring.push();
        assert!(!ring.advance(2));
        assert!(!ring.advance(64));
        assert!(ring.advance(1));
    }
}

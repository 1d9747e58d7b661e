//! Ring arithmetic: which descriptor slots are free, and the generation that goes into each.
//!
//! Counts run on for ever; a slot is a count modulo the ring's length, a generation how often the ring was filled,
//! modulo 4 (`sdma.c:add_gen`).

/// Where software and the engine are in a ring of a power-of-two number of slots.
#[derive(Debug, Clone, Copy)]
pub struct Ring {
    /// Slots, less one: a slot is a count and this.
    mask: u32,
    /// The length's logarithm: a count shifted by it tells how often the ring was filled.
    shift: u32,
    /// Slots filled since the engine was started.
    tail: u64,
    /// Slots that the engine is known to be done with.
    head: u64,
    /// Of which the head in memory has told so far: it may be behind what the register told.
    told: u64,
}

impl Ring {
    /// An empty ring. `entries` is a power of two; the chip takes 64 to 32768.
    pub fn new(entries: u32) -> Self {
        debug_assert!(entries.is_power_of_two());
        Self { mask: entries.wrapping_sub(1), shift: entries.trailing_zeros(), tail: 0, head: 0, told: 0 }
    }

    /// Slots that are free when those from `used` on, no later than the head, aren't. One always stays empty: a full ring
    /// would look like an empty one.
    #[inline]
    pub fn free_from(&self, used: u64) -> u32 {
        self.mask.wrapping_sub(self.tail.wrapping_sub(used) as u32)
    }

    /// Count of slots filled since the start.
    #[inline]
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Count of slots that the engine is done with.
    #[inline]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The slot that a count falls on.
    #[inline]
    pub fn slot(&self, count: u64) -> u32 {
        count as u32 & self.mask
    }

    /// Takes the next slot: its number and generation. The caller has looked at [`Ring::free_from`].
    #[inline]
    pub fn push(&mut self) -> (u32, u64) {
        debug_assert!(self.free_from(self.head) > 0);
        let at = (self.slot(self.tail), (self.tail >> (self.shift & 63)) & 3);
        self.tail = self.tail.wrapping_add(1);
        at
    }

    /// Takes the head that the engine wrote to memory, a slot number; `false` when it can't be one.
    ///
    /// It counts on from what memory told before, not from the head: after a look at the register the one in memory may be
    /// old, and an old slot looks like one almost a whole ring ahead. So this may be told less than is done, never more.
    #[inline]
    pub fn advance(&mut self, slot: u32) -> bool {
        let ahead = slot.wrapping_sub(self.slot(self.told)) & self.mask;
        let count = self.told.wrapping_add(ahead.into());
        let sane = slot <= self.mask && count <= self.tail;
        if sane {
            self.told = count;
            self.head = self.head.max(count);
        }
        sane
    }

    /// Takes the head from the register; `memory` is what memory told before the register was read. `false` when it isn't
    /// between the old head and the tail.
    pub fn advance_by_register(&mut self, slot: u32, memory: u32) -> bool {
        let ahead = u64::from(slot.wrapping_sub(self.slot(self.head)) & self.mask);
        let sane = slot <= self.mask && ahead <= self.tail.wrapping_sub(self.head);
        if sane {
            self.head = self.head.wrapping_add(ahead);
            // Memory is behind the register by less than a ring; what no ring has says nothing.
            let behind = if memory <= self.mask { self.slot(self.head).wrapping_sub(memory) & self.mask } else { 0 };
            self.told = self.head.saturating_sub(behind.into());
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
                    for _ in 0..many.min(ring.free_from(ring.head())) {
                        prop_assert_eq!(ring.push(), ((filled % 64) as u32, filled / 64 % 4));
                        filled += 1;
                    }
                } else {
                    done = (done + u64::from(many)).min(filled);
                    prop_assert!(ring.advance((done % 64) as u32));
                }
                prop_assert_eq!(u64::from(ring.free_from(ring.head())), 63 - (filled - done));
                prop_assert_eq!((ring.head(), ring.tail()), (done, filled));
            }
        }
    }

    proptest! {
        /// Memory tells late, loses some of it, and now and then the register is asked: what is known as done is done, and
        /// after a look at the register all of it is known.
        #[test]
        fn nothing_is_known_as_done_before_it_is(steps in proptest::collection::vec((0u8..5, 1u64..64), 1..600)) {
            let mut ring = Ring::new(64);
            let (mut filled, mut done, mut memory) = (0u64, 0u64, 0u64);
            for (step, many) in steps {
                match step {
                    0 => for _ in 0..many.min(ring.free_from(ring.head()).into()) {
                        ring.push();
                        filled += 1;
                    },
                    // The engine goes on, and tells memory of it or not.
                    1 | 2 => {
                        done = (done + many).min(filled);
                        if step == 1 {
                            memory = done;
                        }
                    }
                    3 => {
                        ring.advance((memory % 64) as u32);
                        prop_assert!(ring.head() <= done);
                    }
                    _ => {
                        prop_assert!(ring.advance_by_register((done % 64) as u32, (memory % 64) as u32));
                        prop_assert_eq!(ring.head(), done);
                    }
                }
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
        assert!(!ring.advance_by_register(2, 1));
    }
}

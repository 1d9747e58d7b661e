//! Credit accounting of one send context: how many of its 64-byte blocks are free.
//!
//! The chip counts freed blocks modulo 2048 since the context was enabled and writes the counter to host memory;
//! software counts what it has filled. Only the difference of the two means anything (`pio.c:sc_buffer_alloc`).

use opx_defs::credit::CREDIT_MODULUS;
use opx_defs::units::Blocks;

/// A count of blocks modulo 2048: it can be added to and subtracted, not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Count(u16);

impl Count {
    fn plus(self, blocks: Blocks) -> Self {
        Self(self.0.wrapping_add(blocks.0) % CREDIT_MODULUS)
    }

    fn since(self, earlier: Self) -> Blocks {
        Blocks(self.0.wrapping_sub(earlier.0) % CREDIT_MODULUS)
    }
}

/// The blocks of a send context.
#[derive(Debug, Clone)]
pub struct Credits {
    depth: Blocks,
    /// Blocks known to be free: all that a packet on its way has to look at.
    available: Blocks,
    /// The chip's counter as it was last told.
    freed: Count,
    /// The same, not modulo anything.
    freed_in_all: u64,
}

impl Credits {
    /// All blocks of a context of `depth` blocks free, as after it was enabled.
    pub fn new(depth: Blocks) -> Self {
        Self { depth, available: depth, freed: Count::default(), freed_in_all: 0 }
    }

    /// Blocks that are free, as far as the last counter told.
    #[inline]
    pub fn available(&self) -> Blocks {
        self.available
    }

    /// Blocks filled and not yet known to be free.
    #[inline]
    pub fn outstanding(&self) -> Blocks {
        Blocks(self.depth.0.wrapping_sub(self.available.0))
    }

    /// Blocks that were taken so far.
    pub fn taken(&self) -> u64 {
        self.freed_in_all.wrapping_add(self.outstanding().0.into())
    }

    /// Takes `blocks`, or nothing when fewer are free.
    #[inline]
    pub fn take(&mut self, blocks: Blocks) -> bool {
        let enough = blocks <= self.available;
        if enough {
            self.available = Blocks(self.available.0.wrapping_sub(blocks.0));
        }
        enough
    }

    /// Takes the counter that the chip returned; `false` when it claims more than was filled, which no chip does.
    #[inline]
    pub fn returned(&mut self, counter: Blocks) -> bool {
        let counter = Count::default().plus(counter);
        let freed = counter.since(self.freed);
        let sane = freed <= self.outstanding();
        if sane {
            self.freed = counter;
            self.freed_in_all = self.freed_in_all.wrapping_add(freed.0.into());
            self.available = Blocks(self.available.0.wrapping_add(freed.0));
        }
        sane
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against plain counters that never wrap.
        #[test]
        fn agrees_with_unbounded_counters(
            depth in 1u16..=1024,
            steps in proptest::collection::vec((any::<bool>(), 1u16..200), 1..2000),
        ) {
            let mut credits = Credits::new(Blocks(depth));
            let (mut filled, mut freed) = (0u64, 0u64);
            for (fill, blocks) in steps {
                if fill {
                    let fits = filled + u64::from(blocks) - freed <= u64::from(depth);
                    prop_assert_eq!(credits.take(Blocks(blocks)), fits);
                    filled += if fits { u64::from(blocks) } else { 0 };
                } else {
                    freed = (freed + u64::from(blocks)).min(filled);
                    prop_assert!(credits.returned(Blocks((freed % 2048) as u16)));
                }
                prop_assert_eq!(u64::from(credits.outstanding().0), filled - freed);
                prop_assert_eq!(u64::from(credits.available().0), u64::from(depth) - (filled - freed));
                prop_assert_eq!(credits.taken(), filled);
            }
        }
    }

    #[test]
    fn a_counter_ahead_of_what_was_filled_is_refused() {
        let mut credits = Credits::new(Blocks(100));
        assert!(credits.take(Blocks(10)));
        assert!(!credits.returned(Blocks(11)));
        assert_eq!(credits.outstanding(), Blocks(10));
        assert!(credits.returned(Blocks(10)));
        assert!(!credits.returned(Blocks(9)));
    }
}

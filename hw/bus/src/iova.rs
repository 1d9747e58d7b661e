//! Which I/O addresses are free: first fit over the holes between the blocks that are handed out.

use opx_defs::units::Iova;
use std::collections::BTreeMap;

/// Hands out ranges of I/O addresses.
#[derive(Debug)]
pub struct IovaAllocator {
    start: u64,
    end: u64,
    used: BTreeMap<u64, u64>,
}

impl IovaAllocator {
    /// An allocator over `start..end`, in bytes.
    pub fn new(start: Iova, end: Iova) -> Self {
        Self { start: start.0, end: end.0, used: BTreeMap::new() }
    }

    /// Takes `len` bytes at a multiple of `align` (a power of two); `None` when no hole is large enough.
    pub fn take(&mut self, len: u64, align: u64) -> Option<Iova> {
        let mut at = self.start.checked_next_multiple_of(align)?;
        for (&used, &used_len) in &self.used {
            if at.checked_add(len)? <= used {
                break;
            }
            at = at.max(used.checked_add(used_len)?.checked_next_multiple_of(align)?);
        }
        if at.checked_add(len)? > self.end {
            return None;
        }
        self.used.insert(at, len);
        Some(Iova(at))
    }

    /// Gives a range back by its start.
    pub fn give_back(&mut self, start: Iova) {
        self.used.remove(&start.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_never_overlap(ops in proptest::collection::vec((1u64..64, 0u32..4, any::<bool>()), 1..100)) {
            let mut allocator = IovaAllocator::new(Iova(0x1000), Iova(0x20_0000));
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (pages, align, free) in ops {
                if free && !held.is_empty() {
                    let (at, _) = held.swap_remove(pages as usize % held.len());
                    allocator.give_back(Iova(at));
                } else if let Some(at) = allocator.take(pages * 4096, 4096 << align) {
                    prop_assert_eq!(at.0 % (4096 << align), 0);
                    prop_assert!(at.0 >= 0x1000 && at.0 + pages * 4096 <= 0x20_0000);
                    for &(other, len) in &held {
                        prop_assert!(at.0 + pages * 4096 <= other || other + len <= at.0);
                    }
                    held.push((at.0, pages * 4096));
                }
            }
        }
    }

    #[test]
    fn a_full_space_gives_nothing() {
        let mut allocator = IovaAllocator::new(Iova(0), Iova(0x2000));
        assert_eq!(allocator.take(0x2000, 0x1000), Some(Iova(0)));
        assert_eq!(allocator.take(1, 1), None);
        allocator.give_back(Iova(0));
        assert_eq!(allocator.take(0x1000, 0x1000), Some(Iova(0)));
        assert_eq!(allocator.take(u64::MAX, 1), None);
    }
}

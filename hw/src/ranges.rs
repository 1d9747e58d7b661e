//! Which parts of a memory on the chip are free: first fit over the holes between the ranges that are handed out.

use std::collections::BTreeMap;

/// Hands out ranges of a memory that is counted in equal units.
#[derive(Debug)]
pub(crate) struct Ranges {
    start: u32,
    end: u32,
    used: BTreeMap<u32, u32>,
}

impl Ranges {
    pub fn new(start: u32, end: u32) -> Self {
        Self { start, end: end.max(start), used: BTreeMap::new() }
    }

    /// The holes, as start and length.
    fn holes(&self) -> impl Iterator<Item = (u32, u32)> {
        let starts = std::iter::once(self.start).chain(self.used.iter().map(|(start, len)| start + len));
        let ends = self.used.keys().copied().chain(std::iter::once(self.end));
        starts.zip(ends).map(|(start, end)| (start, end - start))
    }

    /// Takes `len` units (at least one); the error is the length of the largest hole.
    pub fn take(&mut self, len: u32) -> Result<u32, u32> {
        let len = len.max(1);
        let fits = self.holes().find(|(_, hole)| *hole >= len);
        match fits {
            Some((start, _)) => {
                self.used.insert(start, len);
                Ok(start)
            }
            None => Err(self.largest()),
        }
    }

    /// Length of the largest hole.
    pub fn largest(&self) -> u32 {
        self.holes().map(|(_, hole)| hole).max().unwrap_or(0)
    }

    /// Units that are free.
    pub fn free(&self) -> u32 {
        self.holes().map(|(_, hole)| hole).sum()
    }

    /// Gives a range back by its start.
    pub fn give_back(&mut self, start: u32) {
        self.used.remove(&start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_never_overlap(ops in proptest::collection::vec((1u32..40, any::<bool>()), 1..100)) {
            let mut ranges = Ranges::new(1, 200);
            let mut held: Vec<(u32, u32)> = Vec::new();
            for (len, free) in ops {
                if free && !held.is_empty() {
                    let (start, _) = held.swap_remove(len as usize % held.len());
                    ranges.give_back(start);
                    continue;
                }
                match ranges.take(len) {
                    Ok(start) => {
                        prop_assert!(start >= 1 && start + len <= 200);
                        for &(other, other_len) in &held {
                            prop_assert!(start + len <= other || other + other_len <= start);
                        }
                        held.push((start, len));
                    }
                    Err(largest) => prop_assert!(largest < len),
                }
            }
        }
    }

    #[test]
    fn what_is_given_back_is_found_again() {
        let mut ranges = Ranges::new(1, 11);
        assert_eq!((ranges.take(4), ranges.take(4), ranges.take(4)), (Ok(1), Ok(5), Err(2)));
        ranges.give_back(1);
        assert_eq!((ranges.take(5), ranges.take(3)), (Err(4), Ok(1)));
    }
}

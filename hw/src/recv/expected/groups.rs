//! Which RcvArray entries of a context are free, in groups of 8 as they lie in one line of write-combined stores.

/// Entries in a group (`chip.h:RCV_INCREMENT`).
const GROUP: u16 = 8;

/// Hands out entries. As in `user_exp_rcv.c:hfi1_user_exp_rcv_setup`, whole groups go first; what is left over is taken from
/// groups that are in use already, so that whole ones stay whole.
#[derive(Debug)]
pub(super) struct Groups {
    /// A bit for each entry that is taken.
    taken: Vec<u8>,
    /// Groups with nothing taken, and groups with a part taken: a bit each.
    empty: Set,
    partial: Set,
    free: u16,
}

/// At most 256 small numbers.
#[derive(Debug, Default)]
struct Set {
    words: [u64; 4],
}

impl Set {
    fn set(&mut self, number: u16, on: bool) {
        if let Some(word) = self.words.get_mut(usize::from(number / 64)) {
            let bit = 1 << (number % 64);
            *word = if on { *word | bit } else { *word & !bit };
        }
    }

    fn first(&self) -> Option<u16> {
        (0u16..).zip(self.words).find(|(_, word)| *word != 0).map(|(i, word)| i * 64 + word.trailing_zeros() as u16)
    }
}

impl Groups {
    /// `entries` free entries, a multiple of 8 of at most 2048.
    pub fn new(entries: u16) -> Self {
        let groups = entries / GROUP;
        let mut empty = Set::default();
        for group in 0..groups {
            empty.set(group, true);
        }
        Self { taken: vec![0; groups.into()], empty, partial: Set::default(), free: groups * GROUP }
    }

    /// How many entries are free.
    pub fn free(&self) -> u16 {
        self.free
    }

    /// Takes the next entry for a buffer that needs `wanted` more.
    pub fn take(&mut self, wanted: usize) -> Option<u16> {
        let (empty, partial) = (self.empty.first(), self.partial.first());
        let group = if wanted >= usize::from(GROUP) { empty.or(partial) } else { partial.or(empty) }?;
        let taken = self.taken.get_mut(usize::from(group))?;
        let bit = taken.trailing_ones() as u16;
        *taken |= 1 << bit;
        let full = *taken == u8::MAX;
        self.empty.set(group, false);
        self.partial.set(group, !full);
        self.free -= 1;
        Some(group * GROUP + bit)
    }

    /// Takes the rest of the group that `entry` is in, as far as it is free and wanted: the next entry.
    pub fn take_next(&mut self, entry: u16) -> Option<u16> {
        let (group, next) = (entry / GROUP, entry % GROUP + 1);
        let taken = self.taken.get_mut(usize::from(group))?;
        if next >= GROUP || *taken & 1 << next != 0 {
            return None;
        }
        *taken |= 1 << next;
        let full = *taken == u8::MAX;
        self.partial.set(group, !full);
        self.free -= 1;
        Some(group * GROUP + next)
    }

    /// Gives an entry back.
    pub fn give_back(&mut self, entry: u16) {
        let (group, bit) = (entry / GROUP, 1 << (entry % GROUP));
        let Some(taken) = self.taken.get_mut(usize::from(group)) else { return };
        if *taken & bit == 0 {
            return;
        }
        *taken &= !bit;
        let empty = *taken == 0;
        self.empty.set(group, empty);
        self.partial.set(group, !empty);
        self.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn no_entry_is_taken_twice(groups in 1u16..=256, steps in proptest::collection::vec((any::<u16>(), 0u8..4), 1..300)) {
            let mut free = Groups::new(groups * 8);
            let mut held = BTreeSet::new();
            let mut last = None;
            for (pick, step) in steps {
                let taken = match step {
                    0 => match held.iter().nth(usize::from(pick) % held.len().max(1)).copied() {
                        Some(entry) => {
                            held.remove(&entry);
                            free.give_back(entry);
                            free.give_back(entry);
                            None
                        }
                        None => None,
                    },
                    1 => last.and_then(|last| free.take_next(last)),
                    _ => {
                        let taken = free.take(usize::from(pick % 20));
                        prop_assert_eq!(taken.is_none(), held.len() == usize::from(groups) * 8);
                        taken
                    }
                };
                if let Some(entry) = taken {
                    prop_assert!(entry < groups * 8 && held.insert(entry));
                    last = Some(entry);
                }
                prop_assert_eq!(usize::from(free.free()), usize::from(groups) * 8 - held.len());
            }
        }
    }

    #[test]
    fn whole_groups_stay_whole() {
        let mut free = Groups::new(32);
        assert_eq!(free.take(1), Some(0));
        assert_eq!(free.take(9), Some(8), "a large buffer begins a group");
        assert_eq!(free.take_next(8), Some(9));
        assert_eq!(free.take(1), Some(1), "a small one fills up what was begun");
        free.give_back(8);
        free.give_back(9);
        assert_eq!(free.take(8), Some(8));
    }
}

//! What of the caller's memory a context has RcvArray entries for: kept after use, found again by address.
//!
//! Each entry stands for one piece of memory, and pieces never overlap, as in PSM2's `ips_tidcache.c`. A buffer takes the
//! pieces that are there already and makes new ones for the gaps between them.

use super::groups::Groups;
use std::collections::BTreeMap;
use std::ops::Range;

const PAGE: u64 = 4096;
/// The largest piece: that of one RcvArray entry (`chip.h:MAX_EXPECTED_BUFFER`).
const LARGEST: u64 = 2 << 20;
const NONE: u16 = u16::MAX;

/// What becomes of an RcvArray entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is to hold the piece of `len` bytes that this process sees at `address`.
    Fill { address: u64, len: u32 },
    /// It is to hold nothing.
    Empty,
}

/// Why a buffer can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// It needs so many entries more than can be freed.
    Entries(u16),
    /// It needs so many bytes more than may be behind entries.
    Bytes(u64),
}

/// How often what happened. The counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpectedCounts {
    /// Buffers made.
    pub buffers: u64,
    /// Pieces of them that were there already.
    pub hits: u64,
    /// Pieces of them for which an entry was written.
    pub misses: u64,
    /// Pieces given up to make room.
    pub evicted: u64,
    /// Pieces given up because their memory went.
    pub invalidated: u64,
    /// Buffers that couldn't be made for want of entries or bytes.
    pub refused: u64,
}

/// A piece of memory with an entry.
#[derive(Debug)]
struct Piece<M> {
    start: u64,
    len: u32,
    /// Buffers that use it.
    users: u32,
    /// It isn't found any more; its entry is empty already and goes back when its last user does.
    dead: bool,
    /// Neighbours among the idle ones.
    before: u16,
    after: u16,
    /// Keeps the memory mapped.
    memory: M,
}

/// The pieces.
#[derive(Debug)]
pub(super) struct Cache<M> {
    groups: Groups,
    /// By entry.
    pieces: Vec<Option<Piece<M>>>,
    /// Entries by the first address of their piece.
    by_start: BTreeMap<u64, u16>,
    /// The idle piece that was used longest ago, and the one used last.
    oldest: u16,
    newest: u16,
    bytes: u64,
    most_bytes: u64,
    /// What the pieces that were given up kept mapped: let go once the chip knows.
    freed: Vec<M>,
    pub counts: ExpectedCounts,
}

impl<M: Clone> Cache<M> {
    /// Room for `entries` pieces that together have at most `most_bytes`.
    pub fn new(entries: u16, most_bytes: u64) -> Self {
        Self {
            groups: Groups::new(entries),
            pieces: (0..entries).map(|_| None).collect(),
            by_start: BTreeMap::new(),
            oldest: NONE,
            newest: NONE,
            bytes: 0,
            most_bytes,
            freed: Vec::new(),
            counts: ExpectedCounts::default(),
        }
    }

    fn piece(&self, entry: u16) -> Option<&Piece<M>> {
        self.pieces.get(usize::from(entry))?.as_ref()
    }

    fn piece_mut(&mut self, entry: u16) -> Option<&mut Piece<M>> {
        self.pieces.get_mut(usize::from(entry))?.as_mut()
    }

    /// First address and length of an entry's piece.
    pub fn place(&self, entry: u16) -> Option<(u64, u32)> {
        self.piece(entry).map(|piece| (piece.start, piece.len))
    }

    /// Whether an entry's piece is still good.
    pub fn is_live(&self, entry: u16) -> bool {
        self.piece(entry).is_some_and(|piece| !piece.dead)
    }

    /// Bytes behind entries.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The piece that `address` is in.
    fn find(&self, address: u64) -> Option<(u16, u64)> {
        let (start, entry) = self.by_start.range(..=address).next_back()?;
        let end = start + u64::from(self.piece(*entry)?.len);
        (end > address).then_some((*entry, end))
    }

    fn link(&mut self, entry: u16) {
        let newest = self.newest;
        if let Some(piece) = self.piece_mut(entry) {
            (piece.before, piece.after) = (newest, NONE);
        }
        match self.piece_mut(newest) {
            Some(piece) => piece.after = entry,
            None => self.oldest = entry,
        }
        self.newest = entry;
    }

    fn unlink(&mut self, entry: u16) {
        let Some((before, after)) = self.piece(entry).map(|piece| (piece.before, piece.after)) else { return };
        match self.piece_mut(before) {
            Some(piece) => piece.after = after,
            None => self.oldest = after,
        }
        match self.piece_mut(after) {
            Some(piece) => piece.before = before,
            None => self.newest = before,
        }
    }

    fn hold(&mut self, entry: u16) {
        let Some(piece) = self.piece_mut(entry) else { return };
        piece.users += 1;
        if piece.users == 1 {
            self.unlink(entry);
        }
    }

    /// Lets go of an entry whose piece nobody uses and nobody finds any more.
    fn free(&mut self, entry: u16) {
        if let Some(piece) = self.pieces.get_mut(usize::from(entry)).and_then(Option::take) {
            self.bytes -= u64::from(piece.len);
            self.freed.push(piece.memory);
            self.groups.give_back(entry);
        }
    }

    /// Gives up the piece that was idle longest; `false` when none is.
    fn evict(&mut self, change: &mut impl FnMut(u16, Change, Option<&M>)) -> bool {
        let entry = self.oldest;
        let Some(start) = self.piece(entry).map(|piece| piece.start) else { return false };
        self.by_start.remove(&start);
        self.unlink(entry);
        change(entry, Change::Empty, None);
        self.free(entry);
        self.counts.evicted += 1;
        true
    }

    /// Takes entries for all of `range`, which lies in `memory`; they are put into `entries` in the order of addresses.
    pub fn acquire(
        &mut self,
        range: Range<u64>,
        memory: &M,
        entries: &mut Vec<u16>,
        change: &mut impl FnMut(u16, Change, Option<&M>),
    ) -> Result<(), Full> {
        entries.clear();
        let (mut at, end) = (range.start & !(PAGE - 1), range.end.next_multiple_of(PAGE));
        let mut failed = None;
        while at < end && failed.is_none() {
            if let Some((entry, piece_end)) = self.find(at) {
                self.hold(entry);
                entries.push(entry);
                self.counts.hits += 1;
                at = piece_end;
                continue;
            }
            let gap_end = self.by_start.range(at..end).next().map_or(end, |(start, _)| *start);
            failed = self.fill(at..gap_end, memory, entries, change).err();
            at = gap_end;
        }
        match failed {
            None => {
                self.counts.buffers += 1;
                Ok(())
            }
            Some(full) => {
                for entry in entries.drain(..) {
                    self.release(entry);
                }
                self.counts.refused += 1;
                Err(full)
            }
        }
    }

    /// Makes pieces for a gap.
    fn fill(
        &mut self,
        gap: Range<u64>,
        memory: &M,
        entries: &mut Vec<u16>,
        change: &mut impl FnMut(u16, Change, Option<&M>),
    ) -> Result<(), Full> {
        let needed = pieces_of(gap.clone()).count();
        let len = gap.end - gap.start;
        while usize::from(self.groups.free()) < needed {
            if !self.evict(change) {
                let lacking = needed - usize::from(self.groups.free());
                return Err(Full::Entries(u16::try_from(lacking).unwrap_or(u16::MAX)));
            }
        }
        while self.bytes + len > self.most_bytes {
            if !self.evict(change) {
                return Err(Full::Bytes(self.bytes + len - self.most_bytes));
            }
        }
        let mut last = None;
        for (n, (start, len)) in pieces_of(gap).enumerate() {
            // Halves of a pair can be told to the sender as one.
            let next = last.and_then(|last| self.groups.take_next(last));
            let Some(entry) = next.or_else(|| self.groups.take(needed - n)) else { return Err(Full::Entries(1)) };
            change(entry, Change::Fill { address: start, len }, Some(memory));
            let piece = Piece { start, len, users: 1, dead: false, before: NONE, after: NONE, memory: memory.clone() };
            if let Some(place) = self.pieces.get_mut(usize::from(entry)) {
                *place = Some(piece);
            }
            self.by_start.insert(start, entry);
            self.bytes += u64::from(len);
            self.counts.misses += 1;
            entries.push(entry);
            last = Some(entry);
        }
        Ok(())
    }

    /// A user is done with an entry.
    pub fn release(&mut self, entry: u16) {
        let Some(piece) = self.piece_mut(entry) else { return };
        piece.users = piece.users.saturating_sub(1);
        match (piece.users, piece.dead) {
            (0, false) => self.link(entry),
            (0, true) => self.free(entry),
            _ => {}
        }
    }

    /// The memory at `range` goes: nothing of it is found any more, and no packet is written to it.
    pub fn invalidate(&mut self, range: Range<u64>, change: &mut impl FnMut(u16, Change, Option<&M>)) {
        let first = self.find(range.start).and_then(|(entry, _)| self.piece(entry)).map_or(range.start, |p| p.start);
        while let Some((start, entry)) = self.by_start.range(first..range.end).next().map(|(s, e)| (*s, *e)) {
            self.by_start.remove(&start);
            change(entry, Change::Empty, None);
            self.counts.invalidated += 1;
            match self.piece_mut(entry) {
                Some(piece) if piece.users > 0 => piece.dead = true,
                _ => {
                    self.unlink(entry);
                    self.free(entry);
                }
            }
        }
    }

    /// What may be unmapped once the chip has seen all changes.
    pub fn take_freed(&mut self) -> Vec<M> {
        std::mem::take(&mut self.freed)
    }

    /// Whether something waits to be unmapped.
    pub fn has_freed(&self) -> bool {
        !self.freed.is_empty()
    }
}

/// Cuts whole pages into pieces of a power of two, the largest first (`user_exp_rcv.c:find_phys_blocks`).
pub(super) fn pieces_of(range: Range<u64>) -> impl Iterator<Item = (u64, u32)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let left = range.end.saturating_sub(at);
        let len = 1 << left.min(LARGEST).checked_ilog2()?;
        let piece = (at, len);
        at += u64::from(len);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// What a piece keeps mapped: the number of times its page range was mapped anew.
    type Version = u32;

    #[derive(Debug, Clone)]
    enum Step {
        Acquire { page: u64, pages: u64 },
        Release { which: usize },
        Invalidate { page: u64, pages: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        let range = || (0u64..64, 1u64..24);
        prop_oneof![
            3 => range().prop_map(|(page, pages)| Step::Acquire { page, pages }),
            2 => any::<usize>().prop_map(|which| Step::Release { which }),
            1 => range().prop_map(|(page, pages)| Step::Invalidate { page, pages }),
        ]
    }

    /// The chip's array and, page by page, how often its memory was mapped anew: a model with no cache at all.
    #[derive(Default)]
    struct Model {
        array: HashMap<u16, (u64, u32, Version)>,
        version: Vec<Version>,
        held: Vec<(Range<u64>, Vec<u16>)>,
    }

    proptest! {
        /// Whatever is asked for, in whatever order: a buffer's entries cover it without gap, they point to memory as it is
        /// mapped now, entries in use are never given to anybody else, and the limits hold.
        #[test]
        fn nothing_is_found_that_was_invalidated(
            steps in proptest::collection::vec(step(), 1..120),
            groups in 1u16..6,
            most_pages in 8u64..80,
        ) {
            let mut cache = Cache::<Version>::new(groups * 8, most_pages * PAGE);
            let mut model = Model { version: vec![0; 128], ..Model::default() };
            let mut entries = Vec::new();
            for step in steps {
                match step {
                    Step::Acquire { page, pages } => {
                        // Not on page boundaries.
                        let range = page * PAGE + 100..(page + pages) * PAGE - 50;
                        let array = &mut model.array;
                        let versions = &model.version;
                        let mut apply = |entry: u16, change: Change, memory: Option<&Version>| match change {
                            Change::Fill { address, len } => {
                                array.insert(entry, (address, len, *memory.unwrap()));
                            }
                            Change::Empty => { array.remove(&entry); }
                        };
                        // All pages of a request are of one mapping: the newest version among them.
                        let memory = versions[page as usize..(page + pages) as usize].iter().copied().max().unwrap();
                        match cache.acquire(range.clone(), &memory, &mut entries, &mut apply) {
                            Ok(()) => {
                                let mut at = range.start & !(PAGE - 1);
                                let mut first = true;
                                for entry in &entries {
                                    let (start, len, version) = model.array[entry];
                                    prop_assert!(if first { start <= at } else { start == at }, "gap before entry {}", entry);
                                    at = start + u64::from(len);
                                    first = false;
                                    prop_assert!(len.is_power_of_two() && len >= 4096);
                                    for page in start / PAGE..at / PAGE {
                                        prop_assert!(version >= model.version[page as usize], "old memory handed out");
                                    }
                                }
                                prop_assert!(at >= range.end);
                                model.held.push((range, entries.clone()));
                            }
                            Err(_) => prop_assert!(entries.is_empty()),
                        }
                    }
                    Step::Release { which } => {
                        if !model.held.is_empty() {
                            let (_, entries) = model.held.swap_remove(which % model.held.len());
                            for entry in entries {
                                cache.release(entry);
                            }
                        }
                    }
                    Step::Invalidate { page, pages } => {
                        let range = page * PAGE..(page + pages) * PAGE;
                        let array = &mut model.array;
                        cache.invalidate(range.clone(), &mut |entry, change, _| {
                            assert_eq!(change, Change::Empty);
                            array.remove(&entry);
                        });
                        let newest = *model.version.iter().max().unwrap() + 1;
                        model.version[page as usize..(page + pages) as usize].fill(newest);
                        // The chip writes nothing there any more.
                        for (start, len, _) in model.array.values() {
                            prop_assert!(*start >= range.end || start + u64::from(*len) <= range.start);
                        }
                    }
                }
                // Entries in use are either as they were, or dead and empty.
                for (_, entries) in &model.held {
                    for entry in entries {
                        prop_assert_eq!(cache.is_live(*entry), model.array.contains_key(entry));
                    }
                }
                // Pieces in the array never overlap.
                let mut pieces: Vec<_> = model.array.values().collect();
                pieces.sort();
                for pair in pieces.windows(2) {
                    prop_assert!(pair[0].0 + u64::from(pair[0].1) <= pair[1].0);
                }
                prop_assert!(cache.bytes() <= most_pages * PAGE);
                cache.take_freed();
            }
            // In the end everything can be given up: nothing was lost.
            for (_, entries) in std::mem::take(&mut model.held) {
                entries.into_iter().for_each(|entry| cache.release(entry));
            }
            cache.invalidate(0..u64::MAX, &mut |_, _, _| {});
            prop_assert_eq!((cache.bytes(), cache.groups.free()), (0, groups * 8));
            prop_assert!(cache.pieces.iter().all(Option::is_none));
            prop_assert_eq!((cache.oldest, cache.newest), (NONE, NONE));
        }
    }

    fn take(cache: &mut Cache<()>, pages: Range<u64>) -> Result<Vec<u16>, Full> {
        let mut entries = Vec::new();
        cache.acquire(pages.start * PAGE..pages.end * PAGE, &(), &mut entries, &mut |_, _, _| {}).map(|()| entries)
    }

    #[test]
    fn what_overlaps_is_shared() {
        let mut cache = Cache::new(16, 1 << 30);
        let first = take(&mut cache, 2..6).unwrap();
        assert_eq!(first, [0]);
        // One page before it, the piece itself, two behind it.
        assert_eq!(take(&mut cache, 1..8).unwrap(), [1, 0, 2]);
        assert_eq!((cache.counts.hits, cache.counts.misses), (1, 3));
    }

    #[test]
    fn the_longest_idle_goes_first_and_one_in_use_never() {
        let mut cache = Cache::new(8, 8 * PAGE);
        let held: Vec<_> = (0..8).map(|i| take(&mut cache, 10 * i..10 * i + 1).unwrap()[0]).collect();
        assert_eq!(take(&mut cache, 100..101), Err(Full::Entries(1)));
        for i in [3, 1, 2] {
            cache.release(held[i]);
        }
        // Used again, so that it isn't the oldest any more.
        assert_eq!(take(&mut cache, 30..31).unwrap(), [held[3]]);
        cache.release(held[3]);
        assert_eq!(take(&mut cache, 100..101).unwrap(), [held[1]]);
        assert_eq!(take(&mut cache, 110..111).unwrap(), [held[2]]);
        assert_eq!(take(&mut cache, 120..121).unwrap(), [held[3]]);
        assert_eq!((cache.counts.evicted, cache.counts.refused), (3, 1));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut cache = Cache::new(64, 10 * PAGE);
        let eight = take(&mut cache, 0..8).unwrap();
        assert_eq!(take(&mut cache, 20..24), Err(Full::Bytes(2 * PAGE)));
        eight.into_iter().for_each(|entry| cache.release(entry));
        assert!(take(&mut cache, 20..24).is_ok());
        assert_eq!(cache.bytes(), 4 * PAGE);
        assert!(take(&mut cache, 20..31).is_err(), "more than there ever may be");
    }

    #[test]
    fn pieces_are_powers_of_two() {
        let pieces: Vec<_> = pieces_of(PAGE..PAGE + (5 << 20) + 3 * PAGE).map(|(_, len)| len).collect();
        assert_eq!(pieces, [2 << 20, 2 << 20, 1 << 20, 8192, 4096]);
    }
}

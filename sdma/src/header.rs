//! Entries for headers that an engine stores, so that packets like an earlier one need only name what differs (AHG).

use opx_defs::sdma::HEADER_ENTRIES;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// One of the 32 entries of an engine for a stored header (`sdma.c:sdma_ahg_alloc`). Dropping it frees the entry; packets
/// that use it and are queued already aren't harmed, because the engine works in order.
#[derive(Debug)]
pub struct HeaderEntry {
    taken: Arc<AtomicU32>,
    index: u8,
}

impl HeaderEntry {
    pub(crate) fn index(&self) -> u8 {
        self.index
    }
}

impl Drop for HeaderEntry {
    fn drop(&mut self) {
        self.taken.fetch_and(!(1 << self.index), Ordering::Release);
    }
}

/// The entries of one engine.
#[derive(Debug, Default)]
pub(crate) struct HeaderStore {
    taken: Arc<AtomicU32>,
    /// Dwords that a queued packet stores in each entry; 0 when none has since the engine was started.
    dwords: [u8; HEADER_ENTRIES as usize],
}

impl HeaderStore {
    /// Takes a free entry.
    pub fn open(&mut self) -> Option<HeaderEntry> {
        // Only this takes entries, and it has the store for itself: a bit that is free stays so.
        let index = (!self.taken.load(Ordering::Acquire)).trailing_zeros();
        if index >= HEADER_ENTRIES {
            return None;
        }
        self.taken.fetch_or(1 << index, Ordering::Acquire);
        let index = index as u8;
        self.set_dwords(index, 0);
        Some(HeaderEntry { taken: Arc::clone(&self.taken), index })
    }

    /// Whether an entry is one of this engine's.
    pub fn owns(&self, entry: &HeaderEntry) -> bool {
        Arc::ptr_eq(&self.taken, &entry.taken)
    }

    /// Dwords of the header in an entry; 0 when there is none.
    pub fn dwords(&self, entry: &HeaderEntry) -> u8 {
        self.dwords.get(usize::from(entry.index)).copied().unwrap_or(0)
    }

    /// A packet stores so many dwords.
    pub fn store(&mut self, entry: &HeaderEntry, dwords: u8) {
        self.set_dwords(entry.index, dwords);
    }

    fn set_dwords(&mut self, index: u8, dwords: u8) {
        if let Some(stored) = self.dwords.get_mut(usize::from(index)) {
            *stored = dwords;
        }
    }

    /// What packets were to store isn't, because they aren't queued; a bit for each entry.
    pub fn unstore(&mut self, entries: u32) {
        for (_, dwords) in self.dwords.iter_mut().enumerate().filter(|(entry, _)| entries >> entry & 1 != 0) {
            *dwords = 0;
        }
    }

    /// The engine was stopped: what it has stored isn't known.
    pub fn forget(&mut self) {
        self.dwords = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_two_entries_come_and_go() {
        let mut store = HeaderStore::default();
        let mut entries: Vec<_> = std::iter::from_fn(|| store.open()).collect();
        assert_eq!(entries.iter().map(HeaderEntry::index).collect::<Vec<_>>(), (0..32).collect::<Vec<_>>());
        assert!(entries.iter().all(|entry| store.owns(entry)));
        assert!(!HeaderStore::default().owns(&entries[0]));
        store.store(&entries[7], 16);
        assert_eq!(store.dwords(&entries[7]), 16);
        entries.remove(7);
        let again = store.open().unwrap();
        assert_eq!((again.index(), store.dwords(&again)), (7, 0), "what an earlier owner stored is nobody's");
        assert!(store.open().is_none());
    }
}

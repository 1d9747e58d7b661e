//! The application's memory that the adapter can reach: mapped when it is first used, kept for the next time, and let go when
//! its owner has dropped it or other memory needs the room.

use opx_bus::{PciFunction, SharedMem};
use opx_hw::{Hfi, Memory};
use std::collections::HashMap;

/// Memory that is mapped.
#[derive(Debug)]
struct Mapped {
    memory: Memory,
    /// When it was asked for last.
    used: u64,
    /// Handles to the memory that belong to its mapping.
    own: usize,
}

/// Mappings, by where the memory begins. Two pieces of memory don't begin at one place while one of them is here, since a
/// mapping keeps its memory.
#[derive(Debug)]
pub(crate) struct Mappings {
    all: HashMap<u64, Mapped>,
    bytes: usize,
    most_bytes: usize,
    clock: u64,
    counts: MappingCounts,
}

/// How often what happened to the application's memory. The counters only grow; their names are those of OPX's registration
/// cache, which holds TIDs as well: here they are written for each transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MappingCounts {
    /// Memory that was mapped already.
    pub tid_cache_hit: u64,
    /// Memory that had to be mapped.
    pub tid_cache_miss: u64,
    /// Mappings given up for want of room, the one that was used longest ago first.
    pub tid_cache_flush_lru: u64,
    /// Mappings given up because nobody else had the memory any more.
    pub tid_cache_flush_not_lru: u64,
    /// Memory that couldn't be mapped: its bytes are copied.
    pub tid_cache_full: u64,
}

impl Mappings {
    /// None yet; at most `most_bytes` are kept.
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self { all: HashMap::new(), bytes: 0, most_bytes, clock: 0, counts: MappingCounts::default() }
    }

    pub(crate) fn counts(&self) -> MappingCounts {
        self.counts
    }

    /// Lets the adapter reach `memory` for as long as the result is held, and perhaps longer. `None` when it can't.
    pub(crate) fn get<B: PciFunction>(&mut self, hfi: &Hfi<B>, memory: &SharedMem) -> Option<Memory> {
        self.clock += 1;
        if let Some(mapped) = self.all.get_mut(&memory.address())
            && mapped.memory.len() == memory.len()
        {
            mapped.used = self.clock;
            self.counts.tid_cache_hit += 1;
            return Some(mapped.memory.clone());
        }
        self.counts.tid_cache_miss += 1;
        self.forget_unowned();
        let before = memory.holders();
        let mut mapped = hfi.map(memory);
        while mapped.is_err() && self.forget_oldest() {
            mapped = hfi.map(memory);
        }
        let mapped = match mapped {
            Ok(mapped) => mapped,
            Err(error) => {
                log::debug!("{error}");
                self.counts.tid_cache_full += 1;
                return None;
            }
        };
        let own = memory.holders().saturating_sub(before);
        while self.bytes.saturating_add(memory.len()) > self.most_bytes && self.forget_oldest() {}
        if memory.len() <= self.most_bytes {
            self.bytes += memory.len();
            let entry = Mapped { memory: mapped.clone(), used: self.clock, own };
            if let Some(old) = self.all.insert(memory.address(), entry) {
                self.bytes -= old.memory.len();
            }
        }
        Some(mapped)
    }

    fn forget_unowned(&mut self) {
        let Self { all, bytes, counts, .. } = self;
        all.retain(|_, mapped| {
            let owned = mapped.memory.memory().holders() > mapped.own;
            if !owned {
                *bytes -= mapped.memory.len();
                counts.tid_cache_flush_not_lru += 1;
            }
            owned
        });
    }

    fn forget_oldest(&mut self) -> bool {
        let oldest = self.all.iter().min_by_key(|(_, mapped)| mapped.used).map(|(address, _)| *address);
        let Some(mapped) = oldest.and_then(|address| self.all.remove(&address)) else { return false };
        self.bytes -= mapped.memory.len();
        self.counts.tid_cache_flush_lru += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_emu::{Config as Chip, EmuBus, Icode, Lab, Pacing};
    use opx_hw::Options;

    fn hfi() -> Hfi<EmuBus> {
        let adapter = Lab::new(Pacing::Virtual).add(Chip { icode: Icode::FunctionalSimulator, ..Chip::default() });
        Hfi::open(adapter.bus(), Options::default()).unwrap()
    }

    #[test]
    fn memory_is_mapped_once_and_forgotten_with_its_owner() {
        let (hfi, mut mappings) = (hfi(), Mappings::new(1 << 30));
        let (a, b) = (SharedMem::new(8192).unwrap(), SharedMem::new(4096).unwrap());
        let first = mappings.get(&hfi, &a).unwrap();
        assert_eq!(mappings.get(&hfi, &a.clone()).unwrap().iova(5), first.iova(5));
        assert_ne!(mappings.get(&hfi, &b).unwrap().iova(0), first.iova(0));
        let counts = MappingCounts { tid_cache_hit: 1, tid_cache_miss: 2, ..MappingCounts::default() };
        assert_eq!(mappings.counts(), counts);
        drop((a, first));
        mappings.get(&hfi, &SharedMem::new(4096).unwrap()).unwrap();
        assert_eq!(mappings.counts(), MappingCounts { tid_cache_miss: 3, tid_cache_flush_not_lru: 1, ..counts });
        assert_eq!((mappings.all.len(), mappings.bytes), (2, 8192));
    }

    #[test]
    fn the_longest_unused_goes_first_and_what_is_held_stays_mapped() {
        let (hfi, mut mappings) = (hfi(), Mappings::new(3 * 4096));
        let all: Vec<_> = (0..4).map(|_| SharedMem::new(4096).unwrap()).collect();
        let held = mappings.get(&hfi, &all[0]).unwrap();
        for memory in [&all[1], &all[2], &all[1], &all[3]] {
            mappings.get(&hfi, memory).unwrap();
        }
        assert_eq!((mappings.all.len(), mappings.counts().tid_cache_flush_lru), (3, 1));
        assert_ne!(mappings.get(&hfi, &all[0]).unwrap().iova(0), held.iova(0), "it was forgotten and mapped anew");
        assert!(!mappings.all.contains_key(&all[2].address()), "used longest ago");
        let large = SharedMem::new(4 * 4096).unwrap();
        mappings.get(&hfi, &large).unwrap();
        assert!(mappings.all.is_empty() && mappings.bytes == 0, "more than is ever kept");
    }
}

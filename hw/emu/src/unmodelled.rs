//! Accesses to registers that aren't modelled: counted by offset, so that they can be listed.

use opx_defs::units::BarOff;
use std::collections::BTreeMap;

/// Offsets kept apart; accesses to further ones are counted together.
const OFFSETS: usize = 4096;

/// Accesses to one offset that no block takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmodelled {
    /// Where. Offsets beyond the first 4096 different ones are counted at `u32::MAX`.
    pub offset: BarOff,
    /// Reads; each gave 0.
    pub reads: u64,
    /// Writes; each was ignored.
    pub writes: u64,
}

/// The counts by offset.
#[derive(Debug, Default)]
pub struct UnmodelledMap {
    map: BTreeMap<BarOff, (u64, u64)>,
}

impl UnmodelledMap {
    fn entry(&mut self, offset: BarOff) -> &mut (u64, u64) {
        let full = self.map.len() >= OFFSETS && !self.map.contains_key(&offset);
        self.map.entry(if full { BarOff(u32::MAX) } else { offset }).or_default()
    }

    /// Counts a read.
    pub fn read(&mut self, offset: BarOff) {
        self.entry(offset).0 += 1;
    }

    /// Counts a write.
    pub fn write(&mut self, offset: BarOff) {
        self.entry(offset).1 += 1;
    }

    /// The counts, by offset.
    pub fn list(&self) -> Vec<Unmodelled> {
        self.map.iter().map(|(&offset, &(reads, writes))| Unmodelled { offset, reads, writes }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let mut map = UnmodelledMap::default();
        for offset in 0..10_000 {
            map.read(BarOff(offset * 8));
            map.write(BarOff(offset * 8));
        }
        let list = map.list();
        assert_eq!(list.len(), OFFSETS + 1);
        assert_eq!(list.iter().map(|u| u.reads).sum::<u64>(), 10_000);
        assert_eq!(list.last().unwrap().offset, BarOff(u32::MAX));
    }
}

//! The RcvArray: where the eager and the expected buffers of all receive contexts lie.

use opx_defs::rcvarray::RcvArrayEntry;

/// The entries.
#[derive(Debug)]
pub struct RcvArray {
    entries: Vec<RcvArrayEntry>,
}

impl RcvArray {
    /// An array of `entries` entries, all empty.
    pub fn new(entries: u32) -> Self {
        Self { entries: vec![RcvArrayEntry::default(); entries as usize] }
    }

    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Software writes an entry; `false` when there is none of that index. A write without the write-enable bit is the
    /// filling of a write-combining line and changes nothing (`exp_rcv.h:rcv_array_wc_fill`).
    pub fn write(&mut self, index: u32, value: u64) -> bool {
        let Some(entry) = self.entries.get_mut(index as usize) else { return false };
        let value = RcvArrayEntry(value);
        if value.is_write_enabled() {
            *entry = value;
        }
        true
    }

    /// An entry that holds a buffer.
    pub fn buffer(&self, index: u32) -> Option<RcvArrayEntry> {
        self.entries.get(index as usize).copied().filter(|entry| !entry.is_empty())
    }

    /// What software reads back; `None` beyond the array.
    pub fn read(&self, index: u32) -> Option<u64> {
        self.entries.get(index as usize).map(|entry| entry.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Iova;

    #[test]
    fn only_enabled_writes_count() {
        let mut array = RcvArray::new(8);
        let entry = RcvArrayEntry::new(Iova(0x5000), 8192).unwrap();
        assert!(array.write(3, entry.0));
        assert!(array.write(3, 0));
        assert_eq!(array.buffer(3), Some(entry));
        assert!(array.write(3, RcvArrayEntry::INVALID.0));
        assert_eq!(array.buffer(3), None);
        assert!(!array.write(8, entry.0));
        assert_eq!(array.buffer(u32::MAX), None);
    }
}

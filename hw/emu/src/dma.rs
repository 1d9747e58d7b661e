//! The host memory that the adapter reaches: I/O addresses mapped to shared memory.

use opx_bus::SharedMem;
use opx_defs::units::Iova;
use std::collections::BTreeMap;

/// An access to host memory that didn't go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DmaFault {
    /// No memory is mapped there.
    #[error("no memory is mapped at I/O address {0}")]
    Unmapped(Iova),
    /// The bus-master bit in the PCI command register is off.
    #[error("bus mastering is off: no access to I/O address {0}")]
    NotMaster(Iova),
}

/// A mapping that can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The range is empty, wraps around, or leaves the memory.
    #[error("a range of {len:#x} bytes at I/O address {iova} doesn't fit in the memory given for it")]
    BadRange {
        /// Address.
        iova: Iova,
        /// Bytes.
        len: u64,
    },
    /// It overlaps a range that is mapped already.
    #[error("{len:#x} bytes at I/O address {iova} overlap a range that is mapped already; unmap that first")]
    Overlap {
        /// Address.
        iova: Iova,
        /// Bytes.
        len: u64,
    },
}

#[derive(Debug)]
struct Range {
    len: u64,
    memory: SharedMem,
    offset: usize,
}

/// The address space behind the adapter's bus-master interface.
#[derive(Debug, Default)]
pub struct DmaSpace {
    ranges: BTreeMap<u64, Range>,
    /// Whether the PCI command register lets the function start transfers.
    pub master: bool,
    /// Accesses refused.
    pub faults: u64,
    /// The last of them.
    pub last_fault: Option<DmaFault>,
}

impl DmaSpace {
    /// Maps `len` bytes at `offset` of `memory` to `iova`.
    pub fn map(&mut self, iova: Iova, len: u64, memory: SharedMem, offset: usize) -> Result<(), MapError> {
        let fits = usize::try_from(len).ok().and_then(|len| offset.checked_add(len)).is_some_and(|e| e <= memory.len());
        let Some(last) = len.checked_sub(1).and_then(|l| iova.0.checked_add(l)).filter(|_| fits) else {
            return Err(MapError::BadRange { iova, len });
        };
        let before = self.ranges.range(..=last).next_back();
        if before.is_some_and(|(start, range)| start + (range.len - 1) >= iova.0) {
            return Err(MapError::Overlap { iova, len });
        }
        self.ranges.insert(iova.0, Range { len, memory, offset });
        Ok(())
    }

    /// Takes away every range that lies within `len` bytes from `iova`.
    pub fn unmap(&mut self, iova: Iova, len: u64) {
        let last = iova.0.saturating_add(len.saturating_sub(1));
        let gone: Vec<u64> = self
            .ranges
            .range(iova.0..=last)
            .filter(|(start, range)| *start + (range.len - 1) <= last)
            .map(|(s, _)| *s)
            .collect();
        for start in gone {
            self.ranges.remove(&start);
        }
    }

    /// Takes every range away.
    pub fn unmap_all(&mut self) {
        self.ranges.clear();
    }

    fn fault(&mut self, fault: DmaFault) -> DmaFault {
        self.faults += 1;
        self.last_fault = Some(fault);
        fault
    }

    /// The memory at `at`, the offset in it, and how many bytes follow in the same range.
    fn find(&self, at: Iova) -> Option<(&SharedMem, usize, usize)> {
        let (start, range) = self.ranges.range(..=at.0).next_back()?;
        let within = at.0 - start;
        if within >= range.len {
            return None;
        }
        let left = usize::try_from(range.len - within).unwrap_or(usize::MAX);
        Some((&range.memory, range.offset + usize::try_from(within).ok()?, left))
    }

    /// Splits `len` bytes at `iova` at the borders of ranges; refused as a whole before the first byte moves.
    fn check(&mut self, iova: Iova, len: usize) -> Result<(), DmaFault> {
        if !self.master {
            return Err(self.fault(DmaFault::NotMaster(iova)));
        }
        let mut done = 0;
        while done < len {
            let at = iova.plus(done as u64);
            match self.find(at) {
                Some((_, _, left)) => done += left.min(len - done),
                None => return Err(self.fault(DmaFault::Unmapped(at))),
            }
        }
        Ok(())
    }

    /// Reads host memory.
    pub fn read(&mut self, iova: Iova, data: &mut [u8]) -> Result<(), DmaFault> {
        // As a rule one range holds all of it.
        if self.master
            && let Some((memory, offset, left)) = self.find(iova)
            && data.len() <= left
        {
            memory.read(offset, data);
            return Ok(());
        }
        self.check(iova, data.len())?;
        let mut done = 0;
        while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some((memory, offset, left)) = self.find(iova.plus(done as u64)) else { break };
            let step = left.min(rest.len());
            let (part, _) = rest.split_at_mut(step);
            memory.read(offset, part);
            done += step;
        }
        Ok(())
    }

    /// Writes host memory.
    pub fn write(&mut self, iova: Iova, data: &[u8]) -> Result<(), DmaFault> {
        // As a rule one range holds all of it.
        if self.master
            && let Some((memory, offset, left)) = self.find(iova)
            && data.len() <= left
        {
            memory.write(offset, data);
            return Ok(());
        }
        self.check(iova, data.len())?;
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let Some((memory, offset, left)) = self.find(iova.plus(done as u64)) else { break };
            let (part, _) = rest.split_at(left.min(rest.len()));
            memory.write(offset, part);
            done += part.len();
        }
        Ok(())
    }

    /// Reads a qword; one access when it is aligned, so that it is never seen half written.
    #[cfg(test)]
    pub fn read_u64(&mut self, iova: Iova) -> Result<u64, DmaFault> {
        if self.master
            && let Some((memory, offset, 8..)) = self.find(iova)
            && offset.is_multiple_of(8)
        {
            return Ok(memory.read_u64(offset));
        }
        let mut bytes = [0; 8];
        self.read(iova, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a qword after everything written before; one access when it is aligned.
    pub fn write_u64(&mut self, iova: Iova, value: u64) -> Result<(), DmaFault> {
        if self.master
            && let Some((memory, offset, 8..)) = self.find(iova)
            && offset.is_multiple_of(8)
        {
            memory.write_u64(offset, value);
            return Ok(());
        }
        self.write(iova, &value.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> (DmaSpace, SharedMem, SharedMem) {
        let (a, b) = (SharedMem::new(8192).unwrap(), SharedMem::new(4096).unwrap());
        let mut space = DmaSpace { master: true, ..DmaSpace::default() };
        space.map(Iova(0x1000), 4096, a.clone(), 4096).unwrap();
        space.map(Iova(0x2000), 4096, b.clone(), 0).unwrap();
        (space, a, b)
    }

    #[test]
    fn a_transfer_crosses_ranges() {
        let (mut space, a, b) = space();
        let data: Vec<u8> = (0..100).collect();
        space.write(Iova(0x2000 - 33), &data).unwrap();
        let (mut first, mut rest, mut all) = ([0; 33], [0; 67], [0; 100]);
        a.read(8192 - 33, &mut first);
        b.read(0, &mut rest);
        assert_eq!((&first[..], &rest[..]), data.split_at(33));
        space.read(Iova(0x2000 - 33), &mut all).unwrap();
        assert_eq!(all[..], data[..]);
        space.write_u64(Iova(0x1ffc), 0x1122_3344_5566_7788).unwrap();
        assert_eq!(space.read_u64(Iova(0x1ffc)).unwrap(), 0x1122_3344_5566_7788);
    }

    #[test]
    fn faults_are_counted_and_move_nothing() {
        let (mut space, _a, b) = space();
        assert_eq!(space.write(Iova(0x2ffc), &[1; 8]), Err(DmaFault::Unmapped(Iova(0x3000))));
        assert_eq!(b.read_u64(0xff8), 0);
        assert_eq!(space.read_u64(Iova(0)), Err(DmaFault::Unmapped(Iova(0))));
        space.master = false;
        assert_eq!(space.read_u64(Iova(0x1000)), Err(DmaFault::NotMaster(Iova(0x1000))));
        assert_eq!(space.faults, 3);
        assert_eq!(space.write(Iova(u64::MAX), &[0; 8]), Err(DmaFault::NotMaster(Iova(u64::MAX))));
    }

    #[test]
    fn ranges_are_checked() {
        let (mut space, a, _b) = space();
        assert!(matches!(space.map(Iova(0x1800), 4096, a.clone(), 0), Err(MapError::Overlap { .. })));
        assert!(matches!(space.map(Iova(0x800), 0x801, a.clone(), 0), Err(MapError::Overlap { .. })));
        assert!(matches!(space.map(Iova(0x8000), 0, a.clone(), 0), Err(MapError::BadRange { .. })));
        assert!(matches!(space.map(Iova(0x8000), 8193, a.clone(), 0), Err(MapError::BadRange { .. })));
        assert!(matches!(space.map(Iova(u64::MAX), 2, a.clone(), 0), Err(MapError::BadRange { .. })));
        space.unmap(Iova(0x1000), 4096);
        assert!(space.read_u64(Iova(0x1000)).is_err());
        assert!(space.read_u64(Iova(0x2000)).is_ok());
        space.map(Iova(0x1000), 4096, a, 0).unwrap();
    }
}

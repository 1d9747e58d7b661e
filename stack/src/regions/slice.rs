//! A part of a region that somebody may use: found by key and checked, kept in memory while it is used.

use super::{Access, Region, RegionError, cells};
use crate::atomics::{AtomicOp, Form, MAX_SIZE, Op, raw};
use opx_bus::SharedMem;
use opx_defs::units::Iova;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// Either lets its holder read.
const READ: Access = Access::LOCAL_READ.union(Access::REMOTE_READ);
/// Either lets its holder write.
const WRITE: Access = Access::LOCAL_WRITE.union(Access::REMOTE_WRITE);

/// Bytes of a region, with the rights that were asked for when they were found. While there is one, the region's memory stays.
///
/// Reads and writes go through [`SharedMem`]: others may change the memory at the same time, and a copy may then hold some of
/// either. Atomic operations are atomic among themselves, see [`super`].
pub struct RegionSlice {
    region: Arc<Region>,
    /// In the region's memory.
    start: usize,
    len: usize,
    rights: Access,
}

impl fmt::Debug for RegionSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionSlice")
            .field("range", &self.range())
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

impl RegionSlice {
    /// `len` bytes at `offset` of a region, if they are inside and the region grants `rights`.
    pub(super) fn new(region: Arc<Region>, offset: u64, len: u64, rights: Access) -> Result<Self, RegionError> {
        let missing = rights.difference(region.access);
        if !missing.is_empty() {
            return Err(RegionError::Access { key: region.key, missing });
        }
        let size = region.range.len() as u64;
        let inside = offset.checked_add(len).is_some_and(|end| end <= size);
        match (usize::try_from(offset), usize::try_from(len)) {
            // Inside the region, so inside the memory.
            (Ok(offset), Ok(len)) if inside => Ok(Self { start: region.range.start + offset, len, rights, region }),
            _ => Err(RegionError::Outside { key: region.key, offset, len, size }),
        }
    }

    /// The region's key.
    pub fn key(&self) -> u64 {
        self.region.key
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory it lies in, for an engine that reads or writes it. What may be done there is [`RegionSlice::rights`].
    pub fn memory(&self) -> &SharedMem {
        self.region.memory.memory()
    }

    /// Where the adapter sees its first byte, if the region's memory is mapped for one. The engine may use it while there is this
    /// slice.
    pub fn iova(&self) -> Option<Iova> {
        self.region.memory.iova(self.start)
    }

    /// Where in [`RegionSlice::memory`] it lies.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// What was asked for, and may be done.
    pub fn rights(&self) -> Access {
        self.rights
    }

    /// That one of `rights` was asked for.
    fn need(&self, rights: Access) -> Result<(), RegionError> {
        if self.rights.intersects(rights) {
            return Ok(());
        }
        Err(RegionError::Access { key: self.region.key, missing: rights })
    }

    /// The place in memory of `len` bytes at `at`.
    fn part(&self, at: usize, len: usize) -> Result<usize, RegionError> {
        let (offset, len) = (at as u64, len as u64);
        match offset.checked_add(len) {
            Some(end) if end <= self.len as u64 => Ok(self.start + at),
            _ => Err(RegionError::Outside { key: self.region.key, offset, len, size: self.len as u64 }),
        }
    }

    /// Copies bytes at `at` out.
    ///
    /// # Errors
    /// When they aren't all inside, or no right to read was asked for.
    pub fn read(&self, at: usize, out: &mut [u8]) -> Result<(), RegionError> {
        self.need(READ)?;
        self.memory().read(self.part(at, out.len())?, out);
        Ok(())
    }

    /// Copies bytes in at `at`.
    ///
    /// # Errors
    /// When they aren't all inside, or no right to write was asked for.
    pub fn write(&self, at: usize, data: &[u8]) -> Result<(), RegionError> {
        self.need(WRITE)?;
        self.memory().write(self.part(at, data.len())?, data);
        Ok(())
    }

    /// Applies an atomic operation to all of it: see [`AtomicOp::apply`].
    ///
    /// # Errors
    /// As there, and when no right to write was asked for.
    pub fn apply(&self, op: &AtomicOp, operand: &[u8]) -> Result<(), RegionError> {
        self.need(WRITE)?;
        op.check(Form::Update, self.len, operand.len(), None, None)?;
        self.each(op, Some(operand), None, None)
    }

    /// Applies an atomic operation to all of it and gives what was there: see [`AtomicOp::fetch_apply`].
    ///
    /// # Errors
    /// As there, and when no right to read and, but for READ, to write was asked for.
    pub fn fetch_apply(&self, op: &AtomicOp, operand: &[u8], result: &mut [u8]) -> Result<(), RegionError> {
        self.need(READ)?;
        if op.op() != Op::Read {
            self.need(WRITE)?;
        }
        op.check(Form::Fetch, self.len, operand.len(), None, Some(result.len()))?;
        self.each(op, Some(operand), None, Some(result))
    }

    /// Compares, applies an atomic operation to all of it and gives what was there: see [`AtomicOp::compare`].
    ///
    /// # Errors
    /// As there, and when no rights to read and write were asked for.
    pub fn compare(&self, op: &AtomicOp, compare: &[u8], operand: &[u8], result: &mut [u8]) -> Result<(), RegionError> {
        self.need(READ)?;
        self.need(WRITE)?;
        op.check(Form::Compare, self.len, operand.len(), Some(compare.len()), Some(result.len()))?;
        self.each(op, Some(operand), Some(compare), Some(result))
    }

    /// Goes through the elements, whose lengths have been checked, with all other atomic operations on this memory kept away.
    fn each(
        &self,
        op: &AtomicOp,
        operand: Option<&[u8]>,
        compare: Option<&[u8]>,
        result: Option<&mut [u8]>,
    ) -> Result<(), RegionError> {
        if !self.region.process.is_here() {
            return Err(RegionError::Forked);
        }
        let _alone = self.region.atomics.lock().unwrap_or_else(PoisonError::into_inner);
        // A loop for each size that there is, in which copies of elements are loads and stores.
        match op.datatype().size() {
            1 => self.each_of::<1>(op, operand, compare, result),
            2 => self.each_of::<2>(op, operand, compare, result),
            4 => self.each_of::<4>(op, operand, compare, result),
            8 => self.each_of::<8>(op, operand, compare, result),
            16 => self.each_of::<16>(op, operand, compare, result),
            _ => self.each_of::<MAX_SIZE>(op, operand, compare, result),
        }
        Ok(())
    }

    fn each_of<const SIZE: usize>(
        &self,
        op: &AtomicOp,
        operand: Option<&[u8]>,
        compare: Option<&[u8]>,
        result: Option<&mut [u8]>,
    ) {
        let mut results = result.map(|result| result.as_chunks_mut::<SIZE>().0.iter_mut());
        for at in (0..self.len).step_by(SIZE) {
            let (operand, compare) = (raw(operand, at, SIZE), raw(compare, at, SIZE));
            let change = |old: &_| op.element(old, &operand, &compare);
            let old = cells::update(self.memory(), self.start + at, SIZE, change);
            if let Some(result) = results.as_mut().and_then(Iterator::next) {
                result.copy_from_slice(&old[..SIZE]);
            }
        }
    }
}

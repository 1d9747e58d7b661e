//! A block of memory that the function can reach, and that is unmapped when it is dropped.

use crate::{ProcessMark, SharedMem};
use opx_defs::units::Iova;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Takes a block's mapping away; implemented by each bus.
pub trait DmaUnmap: Send + Sync {
    /// The block at `iova` is dropped: the function may no longer reach it.
    fn dma_unmap(&self, iova: Iova, memory: &SharedMem);
}

/// DMA memory. The function may change it at any time: bytes are copied out once, checked, then used.
pub struct DmaBlock {
    memory: SharedMem,
    iova: Iova,
    owner: Arc<dyn DmaUnmap>,
    process: ProcessMark,
}

impl std::fmt::Debug for DmaBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DmaBlock").field("iova", &self.iova).field("memory", &self.memory).finish()
    }
}

impl DmaBlock {
    /// A block that the bus `owner` has mapped at `iova`.
    pub fn new(memory: SharedMem, iova: Iova, owner: Arc<dyn DmaUnmap>) -> Self {
        Self { memory, iova, owner, process: ProcessMark::here() }
    }

    /// Where the function sees byte `offset`.
    ///
    /// # Panics
    /// When `offset` is beyond the block.
    pub fn iova(&self, offset: usize) -> Iova {
        assert!(offset <= self.len(), "offset {offset:#x} is beyond the block");
        self.iova.plus(offset as u64)
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// The memory, for accesses as in [`SharedMem`].
    pub fn memory(&self) -> &SharedMem {
        &self.memory
    }

    /// Reads 8 bytes at a multiple of 8; see [`SharedMem::read_u64`].
    #[inline]
    pub fn read_u64(&self, offset: usize) -> u64 {
        self.memory.read_u64(offset)
    }

    /// Writes 8 bytes at a multiple of 8; see [`SharedMem::write_u64`].
    #[inline]
    pub fn write_u64(&self, offset: usize, value: u64) {
        self.memory.write_u64(offset, value);
    }

    /// Copies bytes out; see [`SharedMem::read`].
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        self.memory.read(offset, data);
    }

    /// Copies bytes in; see [`SharedMem::write`].
    pub fn write(&self, offset: usize, data: &[u8]) {
        self.memory.write(offset, data);
    }

    /// Copies a value out.
    pub fn read_obj<T: FromBytes + IntoBytes>(&self, offset: usize) -> T {
        let mut value = T::new_zeroed();
        self.memory.read(offset, value.as_mut_bytes());
        value
    }

    /// Copies a value in.
    pub fn write_obj<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) {
        self.memory.write(offset, value.as_bytes());
    }
}

impl Drop for DmaBlock {
    fn drop(&mut self) {
        // A child that was forked has a copy of this value, but the mapping is its parent's.
        if self.process.is_here() {
            self.owner.dma_unmap(self.iova, &self.memory);
        }
    }
}

//! A piece of a packet in memory that the adapter may reach.

use opx_bus::DmaBlock;
use opx_defs::units::Iova;
use std::ops::Range;

/// A piece of a packet in DMA memory.
///
/// The first fragment of a packet begins with the PBC; all fragments of a packet together are whole dwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    iova: Iova,
    len: u32,
}

impl Fragment {
    /// Bytes `range` of a block; `None` when they aren't inside of it or there are none.
    ///
    /// The block is known to be mapped now. Keep it until the packet's token is back: if it is dropped earlier, the engine
    /// halts with MEM_READ as soon as it meets the packet, or has read what it needs by then. It never reads anything else,
    /// because the mapping goes with the block.
    pub fn of(block: &DmaBlock, range: Range<usize>) -> Option<Self> {
        let len = range.end.checked_sub(range.start).filter(|len| *len > 0)?;
        if range.end > block.len() {
            return None;
        }
        Some(Self { iova: block.iova(range.start), len: u32::try_from(len).ok()? })
    }

    /// `len` bytes at `iova`, for who manages mapped memory himself. Memory that isn't mapped halts the engine with MEM_READ.
    #[inline]
    pub const fn raw(iova: Iova, len: u32) -> Self {
        Self { iova, len }
    }

    /// Where it begins.
    #[inline]
    pub const fn iova(self) -> Iova {
        self.iova
    }

    /// Bytes.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "an empty one is refused")]
    pub const fn len(self) -> u32 {
        self.len
    }
}

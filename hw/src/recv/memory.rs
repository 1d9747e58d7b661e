//! Memory of the caller's that the adapter can reach, for as long as somebody needs it.

use super::expected::Forget;
use crate::error::ContextError;
use crate::hfi::{Hfi, lock};
use opx_bus::{DmaBlock, PciFunction, ProcessMark, SharedMem};
use opx_defs::units::Iova;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, Weak};

/// Memory that the adapter can reach. Clones are handles to the same; when the last of them is dropped, every context
/// forgets what it has of the memory, and the adapter can no longer reach it.
///
/// It is [`SharedMem`], not a slice: what a device may write to at any time can't be a Rust reference. The kernel's way of
/// noticing that a process unmaps a buffer (an MMU notifier) isn't there for user programs, so memory is owned here: it stays
/// mapped in the process until the adapter is done with it.
#[derive(Clone)]
pub struct Memory {
    handle: Arc<Handle>,
}

struct Handle {
    mapping: Arc<Mapping>,
    process: ProcessMark,
}

impl Handle {
    fn new(block: DmaBlock) -> Self {
        Self { mapping: Arc::new(Mapping { block, kept_by: Mutex::default() }), process: ProcessMark::here() }
    }
}

/// The memory and its mapping: contexts hold it while they have entries for it.
pub(super) struct Mapping {
    block: DmaBlock,
    /// Contexts that may have kept something of it.
    kept_by: Mutex<Vec<Weak<dyn Forget>>>,
}

impl Mapping {
    /// Where this process sees the memory: the key by which it is kept.
    pub fn range(&self) -> Range<u64> {
        let start = self.block.memory().address();
        start..start + self.block.len() as u64
    }

    /// Where the function sees the byte at `address` of this process; the address is in the range.
    pub fn iova(&self, address: u64) -> Iova {
        let offset = address.wrapping_sub(self.block.memory().address());
        self.block.iova(usize::try_from(offset).unwrap_or(usize::MAX).min(self.block.len()))
    }

    /// A context is about to keep something: it will be told to forget it.
    pub fn kept_by<F: Forget>(&self, context: &Arc<F>) {
        let mut kept_by = lock(&self.kept_by);
        let same = |known: &Weak<dyn Forget>| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(context));
        if !kept_by.iter().any(same) {
            kept_by.retain(|known| known.strong_count() > 0);
            let weak = Arc::downgrade(context);
            kept_by.push(weak);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // What contexts keep of it is their process': a child that was forked has copies.
        if !self.process.is_here() {
            return;
        }
        let kept_by = std::mem::take(&mut *lock(&self.mapping.kept_by));
        for context in kept_by.iter().filter_map(Weak::upgrade) {
            context.forget(self.mapping.range());
        }
    }
}

impl Memory {
    pub(super) fn mapping(&self) -> &Arc<Mapping> {
        &self.handle.mapping
    }

    /// What is in it.
    pub fn memory(&self) -> &SharedMem {
        self.mapping().block.memory()
    }

    /// Where the adapter sees the byte at `offset`; one beyond the end gives the end.
    pub fn iova(&self, offset: usize) -> Iova {
        let block = &self.mapping().block;
        block.iova(offset.min(block.len()))
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.mapping().block.len()
    }

    /// Whether there are none; never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("block", &self.mapping().block).finish()
    }
}

impl<B: PciFunction> Hfi<B> {
    /// Lets the adapter reach memory of the caller's, so that expected packets can be received into it. Takes a system
    /// call on a real adapter: done once for a buffer that is used often.
    ///
    /// # Errors
    /// When address space or the limit of locked memory runs out, or the bus can't map memory of that kind.
    pub fn map(&self, memory: &SharedMem) -> Result<Memory, ContextError> {
        self.inner.regs.check_ours()?;
        let block = self.bus().dma_map(memory)?;
        Ok(Memory { handle: Arc::new(Handle::new(block)) })
    }

    /// New memory that the adapter can reach, zeroed, `len` bytes rounded up to whole pages.
    ///
    /// # Errors
    /// As [`Hfi::map`], and when memory runs out.
    pub fn memory(&self, len: usize) -> Result<Memory, ContextError> {
        self.inner.regs.check_ours()?;
        let block = self.bus().dma_alloc(len)?;
        Ok(Memory { handle: Arc::new(Handle::new(block)) })
    }
}

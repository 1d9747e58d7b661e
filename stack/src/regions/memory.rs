//! What a region can be made of.

use opx_bus::{DmaBlock, SharedMem};
use opx_defs::units::Iova;
use std::sync::Arc;

/// Memory for a region.
#[derive(Debug, Clone)]
pub enum RegionMemory {
    /// Memory that the processor copies to and from.
    Shared(SharedMem),
    /// Memory that an adapter reaches too. It stays mapped for the adapter until the region and all its slices are gone.
    Block(Arc<DmaBlock>),
}

impl RegionMemory {
    /// The memory, as the processor sees it.
    pub fn memory(&self) -> &SharedMem {
        match self {
            Self::Shared(memory) => memory,
            Self::Block(block) => block.memory(),
        }
    }

    /// Where the adapter sees the byte at `offset`, if it does.
    pub fn iova(&self, offset: usize) -> Option<Iova> {
        match self {
            Self::Block(block) if offset <= block.len() => Some(block.iova(offset)),
            _ => None,
        }
    }
}

impl From<SharedMem> for RegionMemory {
    fn from(memory: SharedMem) -> Self {
        Self::Shared(memory)
    }
}

impl From<DmaBlock> for RegionMemory {
    fn from(block: DmaBlock) -> Self {
        Self::Block(Arc::new(block))
    }
}

impl From<Arc<DmaBlock>> for RegionMemory {
    fn from(block: Arc<DmaBlock>) -> Self {
        Self::Block(block)
    }
}

//! Faults of an SDMA engine.

use opx_defs::csr::{self, SEND_DMA_ENG_ERR_STATUS as ENGINE, SEND_DMA_ERR_STATUS as BLOCK};
use opx_defs::freezing;

super::faults! {
    /// A fault of an SDMA engine at one of its packets.
    SdmaFault {
        /// The engine stops at the packet without any error bit.
        Stall = "sdma-stall",
        /// The engine gives up on a fetch that isn't answered (SDMA_TIMEOUT).
        Timeout = "sdma-timeout",
        /// What the engine reads from host memory arrives marked as broken (SDMA_MEM_READ).
        MemRead = "sdma-mem-read",
        /// Header generation leaves the store of headers (SDMA_HEADER_ADDRESS).
        HeaderAddress = "sdma-header-address",
        /// Two bits flip in the descriptor table.
        DescTable = "sdma-desc-table",
        /// Two bits flip in the memory where packets are assembled.
        Assembly = "sdma-assembly",
        /// Two bits flip in the memory that tracks packets.
        PacketTracking = "sdma-packet-tracking",
        /// Two bits flip in the store of headers.
        HeaderStorage = "sdma-header-storage",
        /// Two bits flip in the queue of header requests.
        HeaderRequestFifo = "sdma-header-request-fifo",
        /// One bit flips in the descriptor table, and is mended.
        DescTableMended = "sdma-desc-table-mended",
        /// One bit flips in the memory where packets are assembled, and is mended.
        AssemblyMended = "sdma-assembly-mended",
        /// One bit flips in the memory that tracks packets, and is mended.
        PacketTrackingMended = "sdma-packet-tracking-mended",
        /// One bit flips in the store of headers, and is mended.
        HeaderStorageMended = "sdma-header-storage-mended",
        /// One bit flips in the queue of header requests, and is mended.
        HeaderRequestFifoMended = "sdma-header-request-fifo-mended",
        /// The packet leaves, but the head isn't written to host memory.
        LostHead = "sdma-lost-head",
        /// The packet leaves, and the head that goes to host memory lies far outside of the ring.
        WildHead = "sdma-wild-head",
        /// The packet leaves, but raises no interrupt.
        LostInterrupt = "sdma-lost-interrupt",
        /// An answer to a read can't be told to whom it belongs; the chip freezes (SDMA_RPY_TAG).
        RpyTag = "sdma-rpy-tag",
        /// The parity of a register of the block is wrong; the chip freezes (SDMA_CSR_PARITY).
        CsrParity = "sdma-csr-parity",
        /// Two bits flip in the table of reads that are underway; the chip freezes.
        RequestTracking = "sdma-request-tracking",
        /// One bit flips in the table of reads that are underway, and is mended.
        RequestTrackingMended = "sdma-request-tracking-mended",
    }
}

impl SdmaFault {
    /// The error that halts the engine, if the fault is one.
    pub(crate) const fn engine_error(self) -> Option<csr::Field> {
        match self {
            Self::Timeout => Some(ENGINE::SDMA_TIMEOUT_ERR),
            Self::MemRead => Some(ENGINE::SDMA_MEM_READ_ERR),
            Self::HeaderAddress => Some(ENGINE::SDMA_HEADER_ADDRESS_ERR),
            Self::DescTable => Some(ENGINE::SDMA_DESC_TABLE_UNC_ERR),
            Self::Assembly => Some(ENGINE::SDMA_ASSEMBLY_UNC_ERR),
            Self::PacketTracking => Some(ENGINE::SDMA_PACKET_TRACKING_UNC_ERR),
            Self::HeaderStorage => Some(ENGINE::SDMA_HEADER_STORAGE_UNC_ERR),
            Self::HeaderRequestFifo => Some(ENGINE::SDMA_HEADER_REQUEST_FIFO_UNC_ERR),
            _ => None,
        }
    }

    /// The bits of SEND_DMA_ENG_ERR_STATUS for something that the engine has mended, if the fault is such.
    ///
    /// Source: `chip.c:access_sdma_desc_table_cor_err_cnt` and its like; `chip_registers.h` has no names for them.
    pub(crate) const fn mended(self) -> Option<u64> {
        match self {
            Self::DescTableMended => Some(1 << 19),
            Self::AssemblyMended => Some(1 << 20),
            Self::PacketTrackingMended => Some(1 << 21),
            Self::HeaderStorageMended => Some(1 << 22),
            Self::HeaderRequestFifoMended => Some(1 << 23),
            _ => None,
        }
    }

    /// The error of the whole block, if the fault is one, and whether the chip freezes on it.
    pub(crate) const fn block_error(self) -> Option<(u64, bool)> {
        let bits = match self {
            Self::RpyTag => BLOCK::SDMA_RPY_TAG_ERR.mask(),
            Self::CsrParity => BLOCK::SDMA_CSR_PARITY_ERR.mask(),
            Self::RequestTracking => BLOCK::SDMA_PCIE_REQ_TRACKING_UNC_ERR.mask(),
            Self::RequestTrackingMended => BLOCK::SDMA_PCIE_REQ_TRACKING_COR_ERR.mask(),
            _ => return None,
        };
        Some((bits, bits & freezing::SDMA != 0))
    }
}

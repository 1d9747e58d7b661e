//! Faults of a send context.

use opx_defs::csr::{Field, SEND_CTXT_ERR_STATUS as ERR};

super::faults! {
    /// A fault of a send context at one of its packets, when its last block has been stored.
    PioFault {
        /// The context halts with PIO_INCONSISTENT_SOP_ERR.
        InconsistentSop = "pio-inconsistent-sop",
        /// The context halts with PIO_DISALLOWED_PACKET_ERR, and no check says why.
        DisallowedPacket = "pio-disallowed-packet",
        /// The context halts with PIO_WRITE_CROSSES_BOUNDARY_ERR.
        WriteCrossesBoundary = "pio-write-crosses-boundary",
        /// The context halts with PIO_WRITE_OVERFLOW_ERR.
        WriteOverflow = "pio-write-overflow",
        /// The context halts with PIO_WRITE_OUT_OF_BOUNDS_ERR.
        WriteOutOfBounds = "pio-write-out-of-bounds",
        /// The blocks of the packet leave, but their credits never come back.
        LostCredits = "pio-lost-credits",
        /// The context's next credit word doesn't get to host memory.
        LostReturn = "pio-lost-return",
        /// The context's next credit word tells of 1000 blocks more than are free.
        GarbledReturn = "pio-garbled-return",
        /// The packet never leaves, and so don't those behind it, until the context is enabled anew.
        Stall = "pio-stall",
    }
}

impl PioFault {
    /// The error that halts the context, when that is how the fault shows.
    pub(crate) const fn error(self) -> Option<Field> {
        Some(match self {
            Self::InconsistentSop => ERR::PIO_INCONSISTENT_SOP_ERR,
            Self::DisallowedPacket => ERR::PIO_DISALLOWED_PACKET_ERR,
            Self::WriteCrossesBoundary => ERR::PIO_WRITE_CROSSES_BOUNDARY_ERR,
            Self::WriteOverflow => ERR::PIO_WRITE_OVERFLOW_ERR,
            Self::WriteOutOfBounds => ERR::PIO_WRITE_OUT_OF_BOUNDS_ERR,
            _ => return None,
        })
    }
}

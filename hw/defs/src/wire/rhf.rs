//! RHF, the receive header flags: the last qword of each header-queue entry, written last.
//!
//! Source: `common.h RHF_*`, `driver.c`.

use crate::units::Dwords;

/// What kind of packet the receive engine saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RcvType {
    /// KDETH with a TID: the payload went to an expected buffer.
    Expected,
    /// KDETH without a TID: the payload is in an eager buffer.
    Eager,
    /// InfiniBand transport.
    Ib,
    /// The packet is broken.
    Error,
    /// Not a 9B packet.
    Bypass,
    /// An undefined code, 5 to 7.
    Invalid(u8),
}

impl RcvType {
    /// The 3-bit code.
    pub const fn code(self) -> u64 {
        match self {
            Self::Expected => 0,
            Self::Eager => 1,
            Self::Ib => 2,
            Self::Error => 3,
            Self::Bypass => 4,
            Self::Invalid(code) => code as u64 & 7,
        }
    }
}

/// Receive header flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rhf(pub u64);

impl Rhf {
    /// The first sequence number after a context is enabled.
    pub const FIRST_SEQ: u8 = 1;
    /// The last sequence number; 1 follows it.
    pub const LAST_SEQ: u8 = 13;
    /// Any of these bits means that something is wrong with the packet.
    pub const ERRORS: u64 = 0x7ff << 53;
    /// The packet's checksum is wrong.
    pub const ICRC_ERR: u64 = 1 << 63;
    /// An ECC error while it was stored.
    pub const ECC_ERR: u64 = 1 << 61;
    /// The length in the header and the length on the wire differ.
    pub const LEN_ERR: u64 = 1 << 60;
    /// The TID of an expected packet isn't usable.
    pub const TID_ERR: u64 = 1 << 59;
    /// The link layer reported an error.
    pub const DC_ERR: u64 = 1 << 55;
    /// The link layer reported an uncorrectable error.
    pub const DC_UNC_ERR: u64 = 1 << 54;
    /// The KDETH header is shorter than it should be.
    pub const KHDR_LEN_ERR: u64 = 1 << 53;

    /// Flags of a packet of `length` dwords from LRH to ICRC.
    pub const fn new(length: Dwords, kind: RcvType, seq: u8, header_offset: Dwords) -> Self {
        Self(
            (length.0 as u64 & 0xfff)
                | kind.code() << 12
                | (seq as u64 & 0xf) << 28
                | (header_offset.0 as u64 & 0x1ff) << 44,
        )
    }

    /// The same with the payload's place: buffer `index`, `offset` 64-byte units into it.
    #[must_use]
    pub const fn eager(self, index: u16, offset: u16) -> Self {
        Self(self.0 | 1 << 15 | (index as u64 & 0x7ff) << 16 | (offset as u64 & 0xfff) << 32)
    }

    /// Length in dwords, LRH to ICRC.
    pub const fn length(self) -> Dwords {
        Dwords(self.0 as u32 & 0xfff)
    }

    /// Kind of packet.
    pub const fn kind(self) -> RcvType {
        match (self.0 >> 12) as u8 & 7 {
            0 => RcvType::Expected,
            1 => RcvType::Eager,
            2 => RcvType::Ib,
            3 => RcvType::Error,
            4 => RcvType::Bypass,
            code => RcvType::Invalid(code),
        }
    }

    /// Whether the payload is in an eager buffer.
    pub const fn uses_eager(self) -> bool {
        self.0 & 1 << 15 != 0
    }

    /// Index of the eager buffer, 0 to 2047.
    pub const fn eager_index(self) -> u16 {
        (self.0 >> 16) as u16 & 0x7ff
    }

    /// Offset in the eager buffer, in 64-byte units.
    pub const fn eager_offset(self) -> u16 {
        (self.0 >> 32) as u16 & 0xfff
    }

    /// Sequence number, 1 to 13.
    pub const fn seq(self) -> u8 {
        (self.0 >> 28) as u8 & 0xf
    }

    /// Where the header begins, in dwords from the start of the entry.
    pub const fn header_offset(self) -> Dwords {
        Dwords((self.0 >> 44) as u32 & 0x1ff)
    }

    /// The error bits.
    pub const fn errors(self) -> u64 {
        self.0 & Self::ERRORS
    }

    /// The 3-bit code that tells which check a packet of type "error" or "expected" failed.
    pub const fn type_error(self) -> u8 {
        (self.0 >> 56) as u8 & 7
    }

    /// An expected packet of the flow's generation has the wrong sequence number (`common.h RHF_RTE_EXPECTED_FLOW_SEQ_ERR`).
    pub const fn is_flow_seq_err(self) -> bool {
        matches!(self.kind(), RcvType::Expected) && self.type_error() & 2 != 0
    }

    /// An expected packet has another generation than its flow (`common.h RHF_RTE_EXPECTED_FLOW_GEN_ERR`).
    pub const fn is_flow_gen_err(self) -> bool {
        matches!(self.kind(), RcvType::Expected) && self.type_error() & 4 != 0
    }

    /// The sequence number that follows `seq`.
    pub const fn next_seq(seq: u8) -> u8 {
        if seq >= Self::LAST_SEQ { Self::FIRST_SEQ } else { seq + 1 }
    }
}

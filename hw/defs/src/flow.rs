//! TID flows: the numbers that a receive context expects in the packets of one flow, and what it does with others.
//!
//! Source: `tid_rdma.c:kern_set_hw_flow, kern_clear_hw_flow`, PSM2 `opa_user_gen1.h:hfi_tidflow_set_entry,
//! hfi_tidflow_reset`.

use core::fmt;

/// A packet's number in a flow: BTH word 2 without the acknowledge request. The generation changes when the receiver starts
/// anew, so that packets of before don't fit any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowPsn {
    /// 20 bits; [`FlowPsn::RESERVED`] is never sent.
    pub generation: u32,
    /// 11 bits.
    pub seq: u16,
}

impl FlowPsn {
    /// Highest sequence number.
    pub const MAX_SEQ: u16 = 0x7ff;
    /// The generation that no packet carries (`tid_rdma.c:KERN_GENERATION_RESERVED`).
    pub const RESERVED: u32 = 0xf_ffff;

    /// The two parts of 31 bits.
    pub const fn from_bits(bits: u32) -> Self {
        Self { generation: bits >> 11 & Self::RESERVED, seq: bits as u16 & Self::MAX_SEQ }
    }

    /// The 31 bits.
    pub const fn bits(self) -> u32 {
        (self.generation & Self::RESERVED) << 11 | (self.seq & Self::MAX_SEQ) as u32
    }

    /// The number of the next packet: only the sequence number counts on, and wraps.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { generation: self.generation, seq: (self.seq + 1) & Self::MAX_SEQ }
    }

    /// The generation after this one; the reserved one is left out (`ips_tidflow.c:ips_tfgen_allocate`).
    pub const fn next_generation(self) -> u32 {
        let next = (self.generation + 1) & Self::RESERVED;
        if next == Self::RESERVED { 0 } else { next }
    }
}

impl fmt::Display for FlowPsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}.{}", self.generation, self.seq)
    }
}

/// An entry of RCV_TID_FLOW_TABLE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TidFlow(pub u64);

impl TidFlow {
    const VALID: u64 = 1 << 32;
    const HDR_SUPP: u64 = 1 << 33;
    const KEEP_AFTER_SEQ_ERR: u64 = 1 << 34;
    const KEEP_ON_GEN_ERR: u64 = 1 << 35;
    const SEQ_MISMATCH: u64 = 1 << 37;
    const GEN_MISMATCH: u64 = 1 << 38;

    /// Nothing is looked at: every packet is taken.
    pub const OFF: Self = Self(0);

    /// What a flow has that nobody uses: packets for it are dropped, payload and header.
    pub const CLOSED: Self = Self(
        (FlowPsn::RESERVED as u64) << 11
            | FlowPsn::MAX_SEQ as u64
            | Self::VALID
            | Self::KEEP_AFTER_SEQ_ERR
            | Self::SEQ_MISMATCH
            | Self::GEN_MISMATCH,
    );

    /// Expects `psn` next. Headers may be suppressed when `suppress`; packets with another number come with their header, but
    /// of another generation without payload. Clears what was noted about mismatches.
    pub const fn expecting(psn: FlowPsn, suppress: bool) -> Self {
        let suppress = if suppress { Self::HDR_SUPP } else { 0 };
        Self(
            psn.bits() as u64
                | Self::VALID
                | suppress
                | Self::KEEP_AFTER_SEQ_ERR
                | Self::KEEP_ON_GEN_ERR
                | Self::SEQ_MISMATCH
                | Self::GEN_MISMATCH,
        )
    }

    /// The number that the next packet must have.
    pub const fn psn(self) -> FlowPsn {
        FlowPsn::from_bits(self.0 as u32 & 0x7fff_ffff)
    }

    /// Whether packets are judged by it.
    pub const fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// A packet of this generation had the wrong sequence number since the entry was written.
    pub const fn seq_mismatch(self) -> bool {
        self.0 & Self::SEQ_MISMATCH != 0
    }

    /// A packet of another generation came since the entry was written.
    pub const fn gen_mismatch(self) -> bool {
        self.0 & Self::GEN_MISMATCH != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_those_of_driver_and_psm2() {
        // Seen in a guest: 0xd_7fff_f800 of the kernel (without the two status bits, which read as 0), 0x5_7fff_ffff of PSM2.
        let status = 3 << 37;
        let reserved = FlowPsn { generation: FlowPsn::RESERVED, seq: 0 };
        assert_eq!(TidFlow::expecting(reserved, false).0 & !status, 0xd_7fff_f800);
        assert_eq!(TidFlow::CLOSED.0 & !status, 0x5_7fff_ffff);
        let psn = FlowPsn { generation: 5, seq: 9 };
        let entry = TidFlow::expecting(psn, true);
        assert_eq!((entry.0 & !status, entry.psn()), (0xf << 32 | 5 << 11 | 9, psn));
    }

    #[test]
    fn numbers_wrap_where_they_do_in_the_chip() {
        let last = FlowPsn { generation: 5, seq: 0x7ff };
        assert_eq!(last.next(), FlowPsn { generation: 5, seq: 0 });
        assert_eq!(FlowPsn { generation: 0xf_fffe, seq: 0 }.next_generation(), 0);
        assert_eq!(FlowPsn::from_bits(last.bits() | 1 << 31), last);
    }
}

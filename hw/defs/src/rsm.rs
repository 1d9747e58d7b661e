//! Rules of the receive-side mapping: which packets get their receive context from the map table, and by which of their bits.
//!
//! Source: `chip.c:add_rsm_rule, init_fecn_handling, hfi1_init_vnic_rsm, hfi1_init_aip_rsm`.

use crate::csr;
use crate::wire::rhf::RcvType;

/// Bits of a header by which rules can go. They count in qwords: of a 9B header in big-endian ones, of a 16B header in
/// little-endian ones; bit 64 is the lowest of the second qword.
pub mod bit {
    /// 9B: what follows the LRH, 2 bits; 2 is a BTH.
    pub const LNH: u16 = 48;
    /// 9B: service class, 4 bits.
    pub const SC: u16 = 60;
    /// 9B: destination queue pair, 24 bits; of KDETH packets the lowest 8 are the context.
    pub const DEST_QP: u16 = 64;
    /// 9B: forward congestion.
    pub const FECN: u16 = 95;
    /// KDETH: the header may be suppressed.
    pub const KDETH_SH: u16 = 133;
    /// 16B: kind of header, 2 bits; 2 is 16B.
    pub const L2: u16 = 61;
    /// 16B: what follows the header, 8 bits.
    pub const L4: u16 = 64;
    /// 16B: entropy, 16 bits.
    pub const ENTROPY: u16 = 96;
}

/// A rule. Packets of its kind whose two fields match take their context from the map table, at the rule's place there plus
/// the exclusive or of its two indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RsmRule {
    kind: RcvType,
    select: u64,
    matching: u64,
}

impl RsmRule {
    /// A rule that takes every packet of `kind`, without an index.
    pub const fn new(kind: RcvType) -> Self {
        Self { kind, select: 0, matching: 0 }
    }

    /// The same, for packets whose bits from `bit` on, under `mask`, are `value`.
    #[must_use]
    pub const fn field1(self, bit: u16, mask: u8, value: u8) -> Self {
        use csr::{RCV_RSM_MATCH as field, RCV_RSM_SELECT as place};
        Self {
            select: place::FIELD1_OFFSET.set(self.select, bit as u64),
            matching: field::VALUE1.set(field::MASK1.set(self.matching, mask as u64), value as u64),
            ..self
        }
    }

    /// The same as [`RsmRule::field1`] with a second condition.
    #[must_use]
    pub const fn field2(self, bit: u16, mask: u8, value: u8) -> Self {
        use csr::{RCV_RSM_MATCH as field, RCV_RSM_SELECT as place};
        Self {
            select: place::FIELD2_OFFSET.set(self.select, bit as u64),
            matching: field::VALUE2.set(field::MASK2.set(self.matching, mask as u64), value as u64),
            ..self
        }
    }

    /// The same, with `width` bits (at most 8) from `bit` on as an index.
    #[must_use]
    pub const fn index1(self, bit: u16, width: u8) -> Self {
        use csr::RCV_RSM_SELECT as place;
        let width = if width > 8 { 8 } else { width };
        let moved = place::INDEX1_OFFSET.set(self.select, bit as u64);
        Self { select: place::INDEX1_WIDTH.set(moved, width as u64), ..self }
    }

    /// The same as [`RsmRule::index1`] with a second index.
    #[must_use]
    pub const fn index2(self, bit: u16, width: u8) -> Self {
        use csr::RCV_RSM_SELECT as place;
        let width = if width > 8 { 8 } else { width };
        let moved = place::INDEX2_OFFSET.set(self.select, bit as u64);
        Self { select: place::INDEX2_WIDTH.set(moved, width as u64), ..self }
    }

    /// How many places of the map table the rule needs: a power of two up to 256.
    pub const fn places(self) -> u32 {
        use csr::RCV_RSM_SELECT as place;
        let (one, two) = (place::INDEX1_WIDTH.get(self.select), place::INDEX2_WIDTH.get(self.select));
        1 << if one > two { one } else { two }
    }

    /// RCV_RSM_CFG of rule `slot` whose places begin at `first`; not 0, which would be no rule.
    pub const fn cfg(self, slot: u32, first: u8) -> u64 {
        let kind = csr::RCV_RSM_CFG::PACKET_TYPE.put(self.kind.code());
        csr::RCV_RSM_CFG::OFFSET.put(first as u64) | 1 << (slot & 3) | kind
    }

    /// RCV_RSM_SELECT.
    pub const fn select(self) -> u64 {
        self.select
    }

    /// RCV_RSM_MATCH.
    pub const fn matching(self) -> u64 {
        self.matching
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_rules_come_out_as_its_values() {
        // init_fecn_handling with 161 places from -1 on: seen as RCV_RSM_CFG0 in a guest, 0xfd_0000_0001.
        let fecn =
            RsmRule::new(RcvType::Expected).field1(bit::FECN, 1, 1).field2(bit::KDETH_SH, 1, 1).index1(bit::DEST_QP, 8);
        assert_eq!((fecn.cfg(0, 0xfd), fecn.places()), (0xfd_0000_0001, 256));
        assert_eq!(fecn.select(), 95 | 133 << 16 | 64 << 32 | 8 << 44);
        assert_eq!(fecn.matching(), 0x0101_0101);
        // hfi1_init_vnic_rsm, with the entropy alone.
        let vnic =
            RsmRule::new(RcvType::Bypass).field1(bit::L2, 3, 2).field2(bit::L4, 0xff, 0x78).index2(bit::ENTROPY, 3);
        assert_eq!((vnic.cfg(1, 8), vnic.places()), (4 << 60 | 8 << 32 | 2, 8));
        assert_eq!(vnic.select(), 61 | 64 << 16 | 96 << 48 | 3 << 60);
        assert_eq!(vnic.matching(), 3 | 2 << 8 | 0xff << 16 | 0x78 << 24);
    }
}

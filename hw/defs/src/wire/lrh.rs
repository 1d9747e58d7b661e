//! LRH, the local route header of a 9B packet: four big-endian 16-bit words.
//!
//! Source: `hfi.h`, InfiniBand local route header with Omni-Path's service class in place of the virtual lane.

use crate::units::{Dwords, Lid, Sc, Sl};

/// Bytes of the header.
pub const LRH_BYTES: usize = 8;

/// What follows the LRH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHeader {
    /// BTH.
    Bth,
    /// GRH, then BTH.
    Grh,
    /// Anything else: the chip drops it.
    Other(u8),
}

/// A local route header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lrh {
    /// Service class; only bits 3:0 are in the header, bit 4 travels beside it.
    pub sc: Sc,
    /// Service level.
    pub sl: Sl,
    /// What follows.
    pub next: NextHeader,
    /// Where to.
    pub dlid: Lid,
    /// Where from.
    pub slid: Lid,
    /// Length in dwords, LRH to ICRC.
    pub length: Dwords,
}

impl Lrh {
    /// The header as it lies in memory.
    pub const fn encode(self) -> [u8; LRH_BYTES] {
        let lnh = match self.next {
            NextHeader::Bth => 2,
            NextHeader::Grh => 3,
            NextHeader::Other(code) => code as u16 & 3,
        };
        let w0 = ((self.sc.0 as u16 & 0xf) << 12 | (self.sl.0 as u16 & 0xf) << 4 | lnh).to_be_bytes();
        let dlid = (self.dlid.0 as u16).to_be_bytes();
        let length = (self.length.0 as u16 & 0xfff).to_be_bytes();
        let slid = (self.slid.0 as u16).to_be_bytes();
        [w0[0], w0[1], dlid[0], dlid[1], length[0], length[1], slid[0], slid[1]]
    }

    /// Reads a header.
    pub const fn decode(b: [u8; LRH_BYTES]) -> Self {
        let next = match b[1] & 3 {
            2 => NextHeader::Bth,
            3 => NextHeader::Grh,
            code => NextHeader::Other(code),
        };
        Self {
            sc: Sc(b[0] >> 4),
            sl: Sl(b[1] >> 4),
            next,
            dlid: Lid(u16::from_be_bytes([b[2], b[3]]) as u32),
            length: Dwords((u16::from_be_bytes([b[4], b[5]]) & 0xfff) as u32),
            slid: Lid(u16::from_be_bytes([b[6], b[7]]) as u32),
        }
    }
}

//! The header of a 16B packet: four little-endian dwords. The chip calls such packets bypass packets.
//!
//! Source: `hfi.h OPA_16B_*, hfi1_16B_get_*`.

use crate::units::{Lid, Pkey, Sc};

/// Bytes of the header.
pub const LRH16_BYTES: usize = 16;
/// The code of this kind of header.
pub const L2_16B: u8 = 2;
/// L4 of a packet with a BTH.
pub const L4_IB_LOCAL: u8 = 0x09;
/// L4 of a packet with a GRH, then a BTH.
pub const L4_IB_GLOBAL: u8 = 0x0a;
/// L4 of an Ethernet frame (`opa_vnic.h OPA_VNIC_L4_ETHR`).
pub const L4_ETHERNET: u8 = 0x78;

/// A 16B header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lrh16 {
    /// Where from, 24 bits.
    pub slid: Lid,
    /// Where to, 24 bits.
    pub dlid: Lid,
    /// Length of the whole packet in qwords, 11 bits.
    pub qwords: u16,
    /// Service class, 5 bits.
    pub sc: Sc,
    /// Routing control, 3 bits.
    pub rc: u8,
    /// Forward congestion.
    pub fecn: bool,
    /// Backward congestion.
    pub becn: bool,
    /// Kind of header; [`L2_16B`].
    pub l2: u8,
    /// What follows.
    pub l4: u8,
    /// Partition key.
    pub pkey: Pkey,
    /// A number by which a flow is told from others.
    pub entropy: u16,
    /// Age.
    pub age: u8,
}

impl Lrh16 {
    /// The header as it lies in memory.
    pub const fn encode(self) -> [u8; LRH16_BYTES] {
        let w0 = self.slid.0 & 0xf_ffff | (self.qwords as u32 & 0x7ff) << 20 | (self.becn as u32) << 31;
        let w1 = self.dlid.0 & 0xf_ffff
            | (self.sc.0 as u32 & 0x1f) << 20
            | (self.rc as u32 & 7) << 25
            | (self.fecn as u32) << 28
            | (self.l2 as u32 & 3) << 29;
        let w2 = self.l4 as u32
            | (self.slid.0 >> 20 & 0xf) << 8
            | (self.dlid.0 >> 20 & 0xf) << 12
            | (self.pkey.0 as u32) << 16;
        let w3 = self.entropy as u32 | (self.age as u32) << 16;
        let all = w0 as u128 | (w1 as u128) << 32 | (w2 as u128) << 64 | (w3 as u128) << 96;
        all.to_le_bytes()
    }

    /// Reads a header.
    pub const fn decode(bytes: [u8; LRH16_BYTES]) -> Self {
        let all = u128::from_le_bytes(bytes);
        let (w0, w1, w2, w3) = (all as u32, (all >> 32) as u32, (all >> 64) as u32, (all >> 96) as u32);
        Self {
            slid: Lid(w0 & 0xf_ffff | (w2 >> 8 & 0xf) << 20),
            dlid: Lid(w1 & 0xf_ffff | (w2 >> 12 & 0xf) << 20),
            qwords: (w0 >> 20) as u16 & 0x7ff,
            sc: Sc((w1 >> 20) as u8 & 0x1f),
            rc: (w1 >> 25) as u8 & 7,
            fecn: w1 & 1 << 28 != 0,
            becn: w0 & 1 << 31 != 0,
            l2: (w1 >> 29) as u8 & 3,
            l4: w2 as u8,
            pkey: Pkey((w2 >> 16) as u16),
            entropy: w3 as u16,
            age: (w3 >> 16) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_driver_has_them() {
        let header = Lrh16 {
            slid: Lid(0xa1_2345),
            dlid: Lid(0xb5_4321),
            qwords: 0x155,
            sc: Sc(0x1f),
            rc: 5,
            fecn: true,
            becn: false,
            l2: L2_16B,
            l4: L4_ETHERNET,
            pkey: Pkey(0x8001),
            entropy: 0xbeef,
            age: 7,
        };
        let bytes = header.encode();
        let w = |i: usize| u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
        assert_eq!((w(0), w(1)), (0x1_2345 | 0x155 << 20, 0x5_4321 | 0x1f << 20 | 5 << 25 | 1 << 28 | 2 << 29));
        assert_eq!((w(2), w(3)), (0x78 | 0xa << 8 | 0xb << 12 | 0x8001 << 16, 0xbeef | 7 << 16));
        assert_eq!(Lrh16::decode(bytes), header);
        for bit in 0..128 {
            // The highest byte and bit 63 (the link transfer mark, which is on the wire only) have no meaning here.
            let back = Lrh16::decode((1u128 << bit).to_le_bytes()).encode();
            assert_eq!(u128::from_le_bytes(back), if bit < 120 && bit != 63 { 1 << bit } else { 0 }, "bit {bit}");
        }
    }
}

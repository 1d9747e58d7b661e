//! The headers of a 9B packet, as far as the chip looks at them on the way out and on the way in.

use opx_defs::wire::bth::{BTH_BYTES, Bth};
use opx_defs::wire::kdeth::{KDETH_BYTES, Kdeth};
use opx_defs::wire::lrh::{LRH_BYTES, Lrh, NextHeader};

/// Bytes of a GRH.
const GRH_BYTES: usize = 40;

/// What the chip reads in a packet that has LRH and BTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Local route header.
    pub lrh: Lrh,
    /// Base transport header.
    pub bth: Bth,
    /// Third dword of the BTH: the packet sequence number and the acknowledge request.
    pub psn: u32,
    /// The solicited-event bit of the BTH.
    pub solicited: bool,
    /// Where what follows the BTH begins.
    pub end: usize,
}

impl Headers {
    /// Reads LRH, GRH and BTH; `None` when the packet is too short for them or isn't of a transport with a BTH.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let lrh = Lrh::decode(*bytes.first_chunk::<LRH_BYTES>()?);
        let bth_at = match lrh.next {
            NextHeader::Bth => LRH_BYTES,
            NextHeader::Grh => LRH_BYTES + GRH_BYTES,
            NextHeader::Other(_) => return None,
        };
        let raw = bytes.get(bth_at..)?.first_chunk::<BTH_BYTES>()?;
        let (front, psn) = raw.split_first_chunk::<8>()?;
        Some(Self {
            lrh,
            bth: Bth::decode(*front),
            psn: u32::from_be_bytes(*psn.first_chunk()?),
            solicited: front.get(1).is_some_and(|flags| flags & 0x80 != 0),
            end: bth_at + BTH_BYTES,
        })
    }

    /// The first two dwords of the KDETH section; `None` when the packet is too short for the whole section.
    pub fn kdeth(&self, bytes: &[u8]) -> Option<Kdeth> {
        bytes.get(self.end..self.end + KDETH_BYTES)?.first_chunk::<8>().map(|raw| Kdeth::decode(*raw))
    }

    /// Bytes of the extended transport headers that follow the BTH of an InfiniBand packet.
    ///
    /// Source: `verbs.c:hdr_len_by_opcode`, whose values include LRH and BTH; opcodes that it doesn't know have none.
    pub fn extended_bytes(&self) -> usize {
        // The high three bits are the service (0 RC, 1 UC, 3 UD), the low five the operation.
        match (self.bth.opcode >> 5, self.bth.opcode & 0x1f) {
            // TID RDMA, 0xf0 to 0xf7, has a KDETH section.
            (7, 0x10..=0x17) => KDETH_BYTES,
            (0, 3 | 5 | 9 | 0x16 | 0x17) | (1, 3 | 5 | 9) => 4,
            (0, 6 | 0xa | 0xc) | (1, 6 | 0xa) => 16,
            (0 | 1, 0xb) => 20,
            (0, 0xd | 0xf | 0x10 | 0x11) => 4,
            (0, 0x12) => 12,
            (0, 0x13 | 0x14) => 28,
            (3, 4) => 8,
            (3, 5) => 12,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_opcode(opcode: u8) -> usize {
        let mut bytes = [0; 60];
        (bytes[1], bytes[8]) = (2, opcode);
        Headers::read(&bytes).unwrap().extended_bytes()
    }

    #[test]
    fn lengths_are_those_of_the_driver() {
        // RC: send only, with immediate, RDMA write first, write only with immediate, read request, ACK, atomics.
        for (opcode, bytes) in
            [(4, 0), (5, 4), (6, 16), (0xb, 20), (0xc, 16), (0xe, 0), (0x11, 4), (0x12, 12), (0x13, 28)]
        {
            assert_eq!(with_opcode(opcode), bytes, "RC {opcode:#x}");
        }
        assert_eq!((with_opcode(0x64), with_opcode(0x65)), (8, 12));
        assert_eq!((with_opcode(0x2a), with_opcode(0xf2), with_opcode(0xc0)), (16, 36, 0));
    }

    #[test]
    fn a_grh_moves_the_bth() {
        let mut bytes = [0; 60];
        bytes[1] = 3;
        bytes[8 + 40] = 0x64;
        let headers = Headers::read(&bytes).unwrap();
        assert_eq!((headers.bth.opcode, headers.end), (0x64, 60));
        assert_eq!(Headers::read(&bytes[..59]), None);
        bytes[1] = 1;
        assert_eq!(Headers::read(&bytes), None);
    }
}

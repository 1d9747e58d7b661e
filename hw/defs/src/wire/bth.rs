//! BTH, the base transport header: three big-endian dwords.

use crate::units::Pkey;

/// Bytes of the header.
pub const BTH_BYTES: usize = 12;

/// The part of a base transport header that means the same for every packet; the third dword is the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bth {
    /// Opcode.
    pub opcode: u8,
    /// Partition key.
    pub pkey: Pkey,
    /// Destination queue pair, 24 bits. For KDETH packets: prefix, flow and sub-context, receive context.
    pub dest_qp: u32,
}

impl Bth {
    /// The first two dwords as they lie in memory.
    pub const fn encode(self) -> [u8; 8] {
        let pkey = self.pkey.0.to_be_bytes();
        let qp = self.dest_qp.to_be_bytes();
        [self.opcode, 0, pkey[0], pkey[1], 0, qp[1], qp[2], qp[3]]
    }

    /// Reads the first two dwords.
    pub const fn decode(b: [u8; 8]) -> Self {
        Self {
            opcode: b[0],
            pkey: Pkey(u16::from_be_bytes([b[2], b[3]])),
            dest_qp: u32::from_be_bytes([0, b[5], b[6], b[7]]),
        }
    }

    /// The prefix in bits 23:16 of the queue pair; 0x80 by default marks a KDETH packet (`chip.c:init_kdeth_qp`).
    pub const fn qp_prefix(self) -> u8 {
        (self.dest_qp >> 16) as u8
    }

    /// The receive context that a KDETH packet names.
    pub const fn kdeth_context(self) -> u8 {
        self.dest_qp as u8
    }
}

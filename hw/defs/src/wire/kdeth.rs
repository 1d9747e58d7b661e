//! KDETH, the header that names a job key and, for expected packets, a TID: two little-endian dwords and seven of software's.
//!
//! Source: `hfi1_user.h KDETH_*`.

use crate::units::JobKey;

/// Bytes of the whole section.
pub const KDETH_BYTES: usize = 36;
/// The only version there is.
pub const KDETH_VERSION: u32 = 1;

/// The first two dwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kdeth {
    /// Offset, OM, TID, TIDCtrl, INTR, SH, version.
    pub dw0: u32,
    /// Job key and header checksum.
    pub dw1: u32,
}

impl Kdeth {
    /// Reads the two dwords.
    pub const fn decode(b: [u8; 8]) -> Self {
        Self { dw0: u32::from_le_bytes([b[0], b[1], b[2], b[3]]), dw1: u32::from_le_bytes([b[4], b[5], b[6], b[7]]) }
    }

    /// Version; must be [`KDETH_VERSION`].
    pub const fn version(self) -> u32 {
        self.dw0 >> 30
    }

    /// Offset of the data in the TID's buffers, bytes.
    pub const fn offset_bytes(self) -> u32 {
        let unit = if self.dw0 & 1 << 15 != 0 { 64 } else { 4 };
        (self.dw0 & 0x7fff) * unit
    }

    /// Index of the pair of RcvArray entries.
    pub const fn tid(self) -> u16 {
        (self.dw0 >> 16) as u16 & 0x3ff
    }

    /// Which entries of the pair: 0 none (eager), 1 first, 2 second, 3 both one after the other.
    pub const fn tid_ctrl(self) -> u8 {
        (self.dw0 >> 26) as u8 & 3
    }

    /// Whether the receiver is to be interrupted.
    pub const fn interrupt(self) -> bool {
        self.dw0 & 1 << 28 != 0
    }

    /// Whether the header may be suppressed.
    pub const fn suppress_header(self) -> bool {
        self.dw0 & 1 << 29 != 0
    }

    /// Job key.
    pub const fn job_key(self) -> JobKey {
        JobKey(self.dw1 as u16)
    }
}

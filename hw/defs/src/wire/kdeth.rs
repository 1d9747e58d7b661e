//! KDETH, the header that names a job key and, for expected packets, a TID: two little-endian dwords and seven of software's.
//!
//! Source: `hfi1_user.h KDETH_*`.

use crate::tid::Tid;
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
    const OM: u32 = 1 << 15;
    const INTR: u32 = 1 << 28;
    const SH: u32 = 1 << 29;

    /// Of an eager packet.
    pub const fn eager(job_key: JobKey) -> Self {
        Self { dw0: KDETH_VERSION << 30, dw1: job_key.0 as u32 }
    }

    /// Of a packet whose payload goes to `offset` bytes in the memory behind `tid`; `None` when that offset isn't in there or
    /// can't be expressed. Offsets count in units of 64 bytes for a TID of 128 KiB or more, else of 4
    /// (`exp_rcv.h KDETH_OM_MAX_SIZE`, PSM2 `ips_proto_expected.c`).
    pub const fn expected(job_key: JobKey, tid: Tid, offset: u32) -> Option<Self> {
        let (unit, om) = if tid.bytes() >= 1 << 17 { (64, Self::OM) } else { (4, 0) };
        if offset >= tid.bytes() || !offset.is_multiple_of(unit) {
            return None;
        }
        let dw0 = KDETH_VERSION << 30 | tid.ctrl().code() << 26 | (tid.pair() as u32) << 16 | om | (offset / unit);
        Some(Self { dw0, dw1: job_key.0 as u32 })
    }

    /// The same, letting the receiver suppress the header.
    #[must_use]
    pub const fn suppress(self) -> Self {
        Self { dw0: self.dw0 | Self::SH, ..self }
    }

    /// The same, asking for an interrupt.
    #[must_use]
    pub const fn urgent(self) -> Self {
        Self { dw0: self.dw0 | Self::INTR, ..self }
    }

    /// The two dwords as they lie in memory.
    pub const fn encode(self) -> [u8; 8] {
        (self.dw0 as u64 | (self.dw1 as u64) << 32).to_le_bytes()
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read() {
        let small = Tid::of_entry(7, 31).unwrap();
        let kdeth = Kdeth::expected(JobKey(5), small, 4100).unwrap().suppress();
        assert_eq!((kdeth.tid(), kdeth.tid_ctrl(), kdeth.offset_bytes()), (3, 2, 4100));
        assert!(kdeth.suppress_header() && !kdeth.interrupt() && kdeth.version() == KDETH_VERSION);
        assert_eq!(Kdeth::decode(kdeth.encode()), kdeth);
        let large = Tid::of_entry(0, 32).unwrap();
        assert_eq!(Kdeth::expected(JobKey(5), large, 131_008).map(|k| k.offset_bytes()), Some(131_008));
        let none = [(small, 2), (small, 31 * 4096), (large, 4), (large, 1 << 17)];
        for (tid, offset) in none {
            assert_eq!(Kdeth::expected(JobKey(5), tid, offset), None, "{offset}");
        }
        assert_eq!((Kdeth::eager(JobKey(9)).tid_ctrl(), Kdeth::eager(JobKey(9)).job_key()), (0, JobKey(9)));
    }
}

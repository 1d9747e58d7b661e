//! RcvArray entries: where an eager buffer or an expected-receive buffer lies in host memory.
//!
//! Source: `chip.c:hfi1_put_tid`, `chip_registers.h RCV_ARRAY_RT_*`.

use crate::units::Iova;

/// A value for one RcvArray entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RcvArrayEntry(pub u64);

impl RcvArrayEntry {
    const WRITE_ENABLE: u64 = 1 << 63;
    const PAGE_SHIFT: u32 = 12;

    /// Removes what the entry held.
    pub const INVALID: Self = Self(Self::WRITE_ENABLE);

    /// An entry for `len` bytes at `addr`; `None` unless `addr` is page aligned and `len` is a power of two from
    /// 4 KiB to 2 MiB (256 KiB for eager buffers: the caller's rule).
    pub const fn new(addr: Iova, len: u32) -> Option<Self> {
        if !addr.0.is_multiple_of(4096) || !len.is_power_of_two() || len < 4096 || len > 2 << 20 || addr.0 >> 48 != 0 {
            return None;
        }
        let code = (len.trailing_zeros() - Self::PAGE_SHIFT + 1) as u64;
        Some(Self(Self::WRITE_ENABLE | code << 36 | addr.0 >> Self::PAGE_SHIFT))
    }

    /// Whether the chip takes the write at all: fills of a write-combining line have this bit clear.
    pub const fn is_write_enabled(self) -> bool {
        self.0 & Self::WRITE_ENABLE != 0
    }

    /// The buffer's address.
    pub const fn addr(self) -> Iova {
        Iova((self.0 & 0xf_ffff_ffff) << Self::PAGE_SHIFT)
    }

    /// The buffer's length in bytes, `None` when the entry holds no buffer or an undefined size code.
    pub const fn len(self) -> Option<u32> {
        match self.0 >> 36 & 0xf {
            code @ 1..=10 => Some(4096 << (code - 1)),
            _ => None,
        }
    }

    /// Whether the entry holds no buffer.
    pub const fn is_empty(self) -> bool {
        self.len().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_codes_are_those_of_the_driver() {
        let e = RcvArrayEntry::new(Iova(0x12_3000), 4096).unwrap();
        assert_eq!(e.0, 1 << 63 | 1 << 36 | 0x123);
        assert_eq!(RcvArrayEntry::new(Iova(0), 2 << 20).unwrap().0 >> 36 & 0xf, 10);
        assert_eq!((e.addr(), e.len()), (Iova(0x12_3000), Some(4096)));
        assert_eq!(RcvArrayEntry::new(Iova(0x800), 4096), None);
        assert_eq!(RcvArrayEntry::new(Iova(0), 5000), None);
        assert!(RcvArrayEntry::INVALID.is_empty());
    }
}

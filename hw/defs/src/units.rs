//! Units and ids: a bare integer never crosses a boundary between crates.

use core::fmt;

/// Byte offset in BAR0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BarOff(pub u32);

impl BarOff {
    /// The offset `bytes` further on.
    pub const fn plus(self, bytes: u32) -> Self {
        Self(self.0 + bytes)
    }
}

impl fmt::Display for BarOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#09x}", self.0)
    }
}

/// Address by which the adapter reaches a byte of host memory (translated by the IOMMU).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Iova(pub u64);

impl Iova {
    /// The address `bytes` further on; wraps as the hardware's adder does.
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

macro_rules! unit {
    ($(#[$meta:meta])* $name:ident($inner:ty), $display:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $display, self.0)
            }
        }
    };
}

unit!(
    /// Local identifier of a port. 9B packets carry the low 16 bits.
    Lid(u32), "{:#x}"
);
unit!(
    /// Partition key.
    Pkey(u16), "{:#06x}"
);
unit!(
    /// Job key: a receive context takes only packets that carry its own.
    JobKey(u16), "{:#06x}"
);
unit!(
    /// Virtual lane, 0 to 7 for data and 15 for management.
    Vl(u8), "{}"
);
unit!(
    /// Service class, 0 to 31; 15 is management.
    Sc(u8), "{}"
);
unit!(
    /// Service level, 0 to 31.
    Sl(u8), "{}"
);
unit!(
    /// Hardware number of a receive context, 0 to 159.
    RcvCtxt(u16), "{}"
);
unit!(
    /// Hardware number of a send context, 0 to 159.
    SendCtxt(u16), "{}"
);
unit!(
    /// Number of an SDMA engine, 0 to 15.
    SdmaEngine(u8), "{}"
);
unit!(
    /// 64-byte blocks: of PIO memory, of SDMA memory, or of send credit.
    Blocks(u16), "{}"
);
unit!(
    /// 32-bit words.
    Dwords(u32), "{}"
);
unit!(
    /// MSI-X vector number.
    Vector(u16), "{}"
);

impl Dwords {
    /// The number of whole words that hold `bytes`.
    pub const fn holding(bytes: u32) -> Self {
        Self(bytes.div_ceil(4))
    }

    /// The same length in bytes.
    pub const fn bytes(self) -> u32 {
        self.0 * 4
    }

    /// 64-byte blocks that hold this many words.
    pub const fn blocks(self) -> Blocks {
        Blocks(self.0.div_ceil(16) as u16)
    }
}

/// Globally unique id of a port (EUI-64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guid(pub u64);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0.to_be_bytes();
        write!(f, "{:02x}{:02x}:{:02x}{:02x}:{:02x}{:02x}:{:02x}{:02x}", b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7])
    }
}

/// Packet sequence number: 24 bits that wrap. Two of them can only be compared within half of the space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Psn(u32);

impl Psn {
    /// The highest number, after which comes 0.
    pub const MAX: Self = Self(0xff_ffff);
    /// The number of different values.
    pub const SPACE: u32 = 1 << 24;

    /// The number in the low 24 bits of `value`.
    pub const fn new(value: u32) -> Self {
        Self(value & Self::MAX.0)
    }

    /// The number as an integer below 2^24.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number `count` places on.
    pub const fn plus(self, count: u32) -> Self {
        Self::new(self.0.wrapping_add(count))
    }

    /// The number after this one.
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// How many places after `earlier` this number is, going forward: 0 to 2^24 - 1.
    pub const fn distance_from(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0) & Self::MAX.0
    }

    /// Whether this number comes before `other`, within half of the space.
    pub const fn is_before(self, other: Self) -> bool {
        let ahead = other.distance_from(self);
        ahead != 0 && ahead < Self::SPACE / 2
    }
}

impl fmt::Debug for Psn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Psn({:#x})", self.0)
    }
}

impl fmt::Display for Psn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psn_wraps_at_24_bits() {
        assert_eq!(Psn::MAX.next(), Psn::new(0));
        assert!(Psn::MAX.is_before(Psn::new(0)));
        assert!(!Psn::new(0).is_before(Psn::MAX));
        assert!(!Psn::new(5).is_before(Psn::new(5)));
        assert_eq!(Psn::new(1).distance_from(Psn::MAX), 2);
    }

    #[test]
    fn dwords_round_up() {
        assert_eq!(Dwords::holding(5), Dwords(2));
        assert_eq!(Dwords(16).blocks(), Blocks(1));
        assert_eq!(Dwords(17).blocks(), Blocks(2));
    }
}

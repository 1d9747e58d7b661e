//! SDMA descriptors: 16 bytes each, in a ring in host memory.
//!
//! Source: `sdma.h SDMA_DESC*`, `sdma_txreq.h`.

use crate::units::Iova;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes that one descriptor can name.
pub const DESC_MAX_BYTES: u32 = 0x3fff;

/// One descriptor as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SdmaDesc {
    /// Flags, byte count and address.
    pub qw0: U64,
    /// Completion flags, generation and header edits.
    pub qw1: U64,
}

const _: () = assert!(size_of::<SdmaDesc>() == 16);

impl SdmaDesc {
    const FIRST: u64 = 1 << 63;
    const LAST: u64 = 1 << 62;
    const HEAD_TO_HOST: u64 = 1 << 0;
    const INT_REQ: u64 = 1 << 1;

    /// A descriptor for `bytes` (at most [`DESC_MAX_BYTES`], more is cut off) at `addr`.
    pub const fn new(addr: Iova, bytes: u32) -> Self {
        let count = (bytes & DESC_MAX_BYTES) as u64;
        Self { qw0: U64::new(count << 48 | (addr.0 & 0xffff_ffff_ffff)), qw1: U64::new(0) }
    }

    /// The same, marked as the first of a packet.
    #[must_use]
    pub const fn first(self) -> Self {
        Self { qw0: U64::new(self.qw0.get() | Self::FIRST), ..self }
    }

    /// The same, marked as the last of a packet.
    #[must_use]
    pub const fn last(self) -> Self {
        Self { qw0: U64::new(self.qw0.get() | Self::LAST), ..self }
    }

    /// The same, asking for the head to be written to host memory when it is done.
    #[must_use]
    pub const fn head_to_host(self) -> Self {
        Self { qw1: U64::new(self.qw1.get() | Self::HEAD_TO_HOST), ..self }
    }

    /// The same, asking for an interrupt when it is done.
    #[must_use]
    pub const fn interrupt(self) -> Self {
        Self { qw1: U64::new(self.qw1.get() | Self::INT_REQ), ..self }
    }

    /// The same with the 2-bit generation: how often the ring has been filled, modulo 4.
    #[must_use]
    pub const fn generation(self, generation: u64) -> Self {
        Self { qw1: U64::new(self.qw1.get() & !(3 << 2) | (generation & 3) << 2), ..self }
    }

    /// Where the bytes lie.
    pub const fn addr(self) -> Iova {
        Iova(self.qw0.get() & 0xffff_ffff_ffff)
    }

    /// How many bytes.
    pub const fn bytes(self) -> u32 {
        (self.qw0.get() >> 48) as u32 & DESC_MAX_BYTES
    }

    /// Whether it begins a packet.
    pub const fn is_first(self) -> bool {
        self.qw0.get() & Self::FIRST != 0
    }

    /// Whether it ends a packet.
    pub const fn is_last(self) -> bool {
        self.qw0.get() & Self::LAST != 0
    }

    /// Whether the head goes to host memory after it.
    pub const fn wants_head(self) -> bool {
        self.qw1.get() & Self::HEAD_TO_HOST != 0
    }

    /// Whether an interrupt is asked for.
    pub const fn wants_interrupt(self) -> bool {
        self.qw1.get() & Self::INT_REQ != 0
    }

    /// The generation bits.
    pub const fn generation_bits(self) -> u64 {
        self.qw1.get() >> 2 & 3
    }

    /// The mode of automatic header generation, bits 15:13: 0 none, 1 store, 2 to 4 use with edits.
    pub const fn ahg_mode(self) -> u64 {
        self.qw1.get() >> 13 & 7
    }
}

//! SDMA descriptors: 16 bytes each, in a ring in host memory.
//!
//! Source: `sdma.h SDMA_DESC*`, `sdma_txreq.h`.

use crate::units::Iova;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes that one descriptor can name.
pub const DESC_MAX_BYTES: u32 = 0x3fff;
/// Most bytes of one packet, PBC included (`sdma.h MAX_SDMA_PKT_SIZE`).
pub const PACKET_MAX_BYTES: u32 = 16 * 1024 - 1;
/// Most ring slots that one packet takes, header edits included (`sdma.h MAX_DESC`).
pub const PACKET_MAX_DESCS: u32 = 64;
/// Headers that an engine stores for header generation.
pub const HEADER_ENTRIES: u32 = 32;
/// Dwords of a stored header, PBC included.
pub const HEADER_DWORDS: u32 = 16;
/// Most edits of a stored header for one packet (`sdma.c:_sdma_txreq_ahgadd`).
pub const MAX_EDITS: usize = 9;

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

/// A change of up to 16 bits of a stored header, in the form that the ring holds.
///
/// Source: `sdma.h:sdma_build_ahg_descriptor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeaderEdit(u32);

impl HeaderEdit {
    /// Puts `value` into `width` bits (1 to 16) from bit `start` on of dword `dword` (0 to 15; 0 and 1 are the PBC, 2 and 3
    /// the LRH). Bits count in the little-endian dword as it lies in memory: a big-endian field is byte-swapped by the
    /// caller. `None` when the field isn't in the header's dword or the value doesn't fit.
    pub const fn new(dword: u8, start: u8, width: u8, value: u16) -> Option<Self> {
        let inside = dword < HEADER_DWORDS as u8 && width >= 1 && width <= 16 && start <= 32 - width;
        if !inside || (value as u32) >> width != 0 {
            return None;
        }
        // A width of 16 is written as 0.
        let field = (start as u32) << 24 | (width as u32 & 0xf) << 20 | (dword as u32) << 16;
        Some(Self(1 << 31 | field | value as u32))
    }

    /// Replaces all of dword `dword` (0 to 15) by `value`: two edits.
    pub const fn dword(dword: u8, value: u32) -> Option<[Self; 2]> {
        match (Self::new(dword, 0, 16, value as u16), Self::new(dword, 16, 16, (value >> 16) as u16)) {
            (Some(low), Some(high)) => Some([low, high]),
            _ => None,
        }
    }

    /// The word as it lies in the ring.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

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

    /// The same, the first of a packet: the header in its bytes is stored as entry `entry` on its way out
    /// (`sdma.h SDMA_AHG_COPY`).
    #[must_use]
    pub const fn store_header(self, entry: u8) -> Self {
        Self { qw1: U64::new(self.qw1.get() | (entry as u64 & 0x1f) << 8 | 1 << 13), ..self }
    }

    /// The first descriptor of a packet that begins with the first `dwords` (2 to 16) of stored header `entry`, changed by
    /// `edits` (1 to 9, more are cut off): it has no bytes of its own. [`SdmaDesc::edits`] gives the slots that follow
    /// (`sdma.c:_sdma_txreq_ahgadd`).
    pub fn stored_header(entry: u8, dwords: u8, edits: &[HeaderEdit]) -> Self {
        let mode = 2 + Self::edit_slots(edits.len()) as u64;
        let first = edits.first().map_or(0, |edit| edit.0);
        let qw1 = u64::from(first) << 32 | mode << 13 | u64::from(entry & 0x1f) << 8 | u64::from(dwords & 0xf) << 4;
        Self { qw0: U64::new(Self::FIRST), qw1: U64::new(qw1) }
    }

    /// Slots that `edits` header edits take behind the descriptor that holds the first of them.
    pub const fn edit_slots(edits: usize) -> u32 {
        match edits {
            0 | 1 => 0,
            2..=5 => 1,
            _ => 2,
        }
    }

    /// A slot with up to four header edits. It has neither flags nor generation (`sdma.c:submit_tx`).
    pub fn edits(edits: &[HeaderEdit]) -> Self {
        let edit = |at: usize| u64::from(edits.get(at).map_or(0, |edit| edit.0));
        Self { qw0: U64::new(edit(0) | edit(1) << 32), qw1: U64::new(edit(2) | edit(3) << 32) }
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

/// Both descriptors' flags and fields; at most one of them may name memory.
impl core::ops::BitOr for SdmaDesc {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        let or = |a: U64, b: U64| U64::new(a.get() | b.get());
        Self { qw0: or(self.qw0, other.qw0), qw1: or(self.qw1, other.qw1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_checked() {
        assert_eq!(
            HeaderEdit::new(6, 16, 16, 0xabcd).map(HeaderEdit::bits),
            Some(1 << 31 | 16 << 24 | 6 << 16 | 0xabcd)
        );
        assert_eq!(HeaderEdit::new(0, 0, 12, 17).map(HeaderEdit::bits), Some(1 << 31 | 12 << 20 | 17));
        for bad in [(16, 0, 1, 0), (0, 17, 16, 0), (0, 32, 1, 0), (0, 0, 17, 0), (0, 0, 0, 0), (0, 0, 4, 16)] {
            assert_eq!(HeaderEdit::new(bad.0, bad.1, bad.2, bad.3), None, "{bad:?}");
        }
    }

    #[test]
    fn edits_lie_where_the_driver_puts_them() {
        let edits: [HeaderEdit; 9] = core::array::from_fn(|n| HeaderEdit::new(n as u8, 0, 16, n as u16).unwrap());
        for (count, mode, slots) in [(1, 2, 0), (2, 3, 1), (5, 3, 1), (6, 4, 2), (9, 4, 2)] {
            let desc = SdmaDesc::stored_header(5, 16, &edits[..count]);
            assert_eq!((desc.ahg_mode(), SdmaDesc::edit_slots(count)), (mode, slots));
            assert_eq!((desc.is_first(), desc.bytes(), desc.qw1.get() >> 32), (true, 0, u64::from(edits[0].bits())));
            assert_eq!(desc.qw1.get() >> 4 & 0x1ff, 5 << 4, "entry 5, and 16 dwords as 0");
        }
        let slot = SdmaDesc::edits(&edits[1..4]);
        let low = u64::from(edits[1].bits()) | u64::from(edits[2].bits()) << 32;
        assert_eq!((slot.qw0.get(), slot.qw1.get()), (low, edits[3].bits().into()));
    }
}

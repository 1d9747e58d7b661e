//! A packet as it is handed up: flags and places, in two registers. Header and payload stay where the chip wrote them.

use super::entry::{PacketKind, payload_len};
use opx_defs::units::Dwords;
use opx_defs::wire::rhf::Rhf;

/// A packet that arrived. What it consists of lies in the context's queues until [`super::RecvContext::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Flags of the chip; checked to name places that are there. Look at the errors first: with any of them set, nothing in
    /// the packet can be trusted.
    rhf: Rhf,
    /// Word of the header queue that holds the flags; the header ends there.
    flags_at: u32,
    header_len: u8,
    kind: PacketKind,
}

impl Received {
    /// A packet whose flags are word `flags_at` of the header queue, right behind `header_len` bytes of header: fewer than
    /// an entry has.
    #[inline]
    pub(super) fn new(rhf: Rhf, flags_at: u32, kind: PacketKind, header_len: u32) -> Self {
        Self { rhf, flags_at, header_len: header_len as u8, kind }
    }

    /// The word of the header queue that holds its flags.
    #[inline]
    pub(super) fn flags_at(&self) -> u32 {
        self.flags_at
    }

    /// Where the header begins in the header queue, in bytes.
    #[inline]
    pub(super) fn header_at(&self) -> u32 {
        self.flags_at.wrapping_mul(8).wrapping_sub(self.header_len.into())
    }

    /// Flags of the chip.
    #[inline]
    pub fn rhf(&self) -> Rhf {
        self.rhf
    }

    /// What kind of packet it is.
    #[inline]
    pub fn kind(&self) -> PacketKind {
        self.kind
    }

    /// Bytes of header.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header_len.into()
    }

    /// Bytes of payload in the eager buffer: of an expected packet none, because its payload is where its TID said.
    #[inline]
    pub fn payload_len(&self) -> usize {
        payload_len(self.rhf, self.kind, self.header_len.into()) as usize
    }

    /// Length of the whole packet, from the first byte of its header to its checksum.
    pub fn length(&self) -> Dwords {
        self.rhf.length()
    }

    /// The RHF's error bits; 0 for a good packet.
    #[inline]
    pub fn errors(&self) -> u64 {
        self.rhf.errors()
    }
}

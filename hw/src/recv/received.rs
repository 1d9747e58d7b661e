//! A packet as it is handed up: flags and places. Header and payload stay where the chip wrote them.

use super::entry::{PacketKind, Parsed};
use opx_defs::units::Dwords;
use opx_defs::wire::rhf::Rhf;

/// A packet that arrived. What it consists of lies in the context's queues until [`super::RecvContext::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Flags of the chip. Look at the errors first: with any of them set, nothing in the packet can be trusted.
    pub rhf: Rhf,
    /// Where the header lies in the header queue; checked to be inside one entry.
    pub(super) header_at: u32,
    pub(super) header_len: u32,
    /// Where the payload lies in the eager buffers; checked to be inside one buffer.
    pub(super) payload_at: u32,
    pub(super) payload_len: u32,
    kind: PacketKind,
}

impl Received {
    #[inline]
    pub(super) fn new(rhf: Rhf, entry_at: u32, parsed: Parsed) -> Self {
        let Parsed { kind, header_at, header_len, payload_at, payload_len } = parsed;
        Self { rhf, header_at: entry_at.wrapping_add(header_at), header_len, payload_at, payload_len, kind }
    }

    /// What kind of packet it is.
    #[inline]
    pub fn kind(&self) -> PacketKind {
        self.kind
    }

    /// Bytes of header.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header_len as usize
    }

    /// Bytes of payload in the eager buffer: of an expected packet none, because its payload is where its TID said.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.payload_len as usize
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

//! Which bytes of a 9B packet its invariant checksum covers.
//!
//! The checksum itself is CRC-32 as in Ethernet; fields that a switch may change count as ones. The chip makes and checks it,
//! software never sees it. INFERRED from the InfiniBand rule with Omni-Path's service class in the place of the virtual lane:
//! neither Linux's driver nor PSM2 computes it.

/// The packet's first bytes, up to the end of BTH, as they count in the checksum.
pub const fn masked_header(mut header: [u8; 20]) -> [u8; 20] {
    // Service class (bits 7:4 of byte 0) may be remapped on the way, and so may the congestion bits of BTH (byte 12).
    header[0] |= 0xf0;
    header[12] = 0xff;
    header
}

//! What an entry of the header queue says: checked before anything of it is used, as a function of plain values.

use opx_defs::wire::OPX_HEADER_BYTES;
use opx_defs::wire::rhf::{RcvType, Rhf};

/// The ICRC at the end of a 9B packet, which the length counts.
const ICRC_BYTES: u32 = 4;
/// Eager buffers are filled in steps of this many bytes.
const EAGER_UNIT: u32 = 64;
/// Bytes of the flags at the end of an entry.
pub(super) const RHF_BYTES: u32 = 8;

/// Sizes of a receive context's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a header queue entry, flags included.
    pub entry_bytes: u32,
    /// Number of eager buffers.
    pub eager_buffers: u32,
    /// Bytes of each.
    pub eager_buffer_size: u32,
}

/// What kind of packet arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// KDETH without a TID: the payload is in an eager buffer.
    Eager,
    /// KDETH with a TID: the payload went where that says.
    Expected,
    /// InfiniBand transport.
    Ib,
    /// A packet with another header than that of 9B, such as 16B; its payload runs to the end of its tail.
    Bypass,
    /// Broken: the chip couldn't tell where it belongs.
    Broken,
}

/// Where the parts of a packet lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// What kind of packet it is.
    pub kind: PacketKind,
    /// Where the header begins, in bytes from the start of its entry.
    pub header_at: u32,
    /// Bytes of header.
    pub header_len: u32,
    /// Where the payload begins, in bytes from the start of the eager buffers.
    pub payload_at: u32,
    /// Bytes of payload in the eager buffer.
    pub payload_len: u32,
}

/// Why an entry can't be what the chip wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadEntry {
    /// Type 5, 6 or 7.
    #[error("its type is undefined")]
    Type,
    /// The header begins behind the flags, or is too short for its type.
    #[error("its header doesn't lie in the entry")]
    Header,
    /// The packet is shorter than its header.
    #[error("the packet is shorter than its header")]
    Short,
    /// There is no eager buffer of that number, or the payload doesn't fit behind that offset.
    #[error("the payload isn't inside an eager buffer")]
    Buffer,
    /// An eager packet with payload says that it uses no buffer.
    #[error("the payload is nowhere")]
    NoPayload,
}

/// Reads an entry's flags.
///
/// ```
/// use opx_defs::units::Dwords;
/// use opx_defs::wire::rhf::{RcvType, Rhf};
/// use opx_hw::recv::{Layout, PacketKind, parse};
/// let layout = Layout { entry_bytes: 128, eager_buffers: 8, eager_buffer_size: 16384 };
/// // 56 bytes of header, 100 of payload and the ICRC; the header starts at dword 16; buffer 3, 128 bytes into it.
/// let rhf = Rhf::new(Dwords(40), RcvType::Eager, 1, Dwords(16)).eager(3, 2);
/// let parsed = parse(rhf, &layout).unwrap();
/// assert_eq!((parsed.kind, parsed.header_len), (PacketKind::Eager, 56));
/// assert_eq!((parsed.payload_at, parsed.payload_len), (3 * 16384 + 128, 100));
/// ```
///
/// # Errors
/// When the chip can't have written that.
pub fn parse(rhf: Rhf, layout: &Layout) -> Result<Parsed, BadEntry> {
    let (kind, least_header, tail) = match rhf.kind() {
        RcvType::Eager => (PacketKind::Eager, OPX_HEADER_BYTES as u32, ICRC_BYTES),
        RcvType::Expected => (PacketKind::Expected, OPX_HEADER_BYTES as u32, ICRC_BYTES),
        RcvType::Ib => (PacketKind::Ib, 0, ICRC_BYTES),
        RcvType::Error => (PacketKind::Broken, 0, ICRC_BYTES),
        // Software lays out the tail of such a packet: it is part of the payload.
        RcvType::Bypass => (PacketKind::Bypass, 0, 0),
        RcvType::Invalid(_) => return Err(BadEntry::Type),
    };
    // The header is followed by the flags without a gap.
    let flags_at = layout.entry_bytes.saturating_sub(RHF_BYTES);
    let header_at = rhf.header_offset().bytes();
    let header_len = flags_at.checked_sub(header_at).ok_or(BadEntry::Header)?;
    if header_len < least_header {
        return Err(BadEntry::Header);
    }
    let length = rhf.length().bytes();
    let (mut payload_at, mut payload_len) = (0, 0);
    if rhf.uses_eager() {
        payload_len = length.checked_sub(header_len + tail).ok_or(BadEntry::Short)?;
        let (index, in_buffer) = (u32::from(rhf.eager_index()), u32::from(rhf.eager_offset()) * EAGER_UNIT);
        if index >= layout.eager_buffers || in_buffer + payload_len > layout.eager_buffer_size {
            return Err(BadEntry::Buffer);
        }
        payload_at = index * layout.eager_buffer_size + in_buffer;
    } else if kind == PacketKind::Eager && rhf.errors() == 0 {
        match length.checked_sub(header_len + tail) {
            Some(0) => {}
            Some(_) => return Err(BadEntry::NoPayload),
            None => return Err(BadEntry::Short),
        }
    }
    Ok(Parsed { kind, header_at, header_len, payload_at, payload_len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use opx_defs::units::Dwords;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the flags are, what comes out lies inside of the entry and of one eager buffer.
        #[test]
        fn what_is_parsed_is_inside(raw: u64, entry in 0usize..2, buffers in 1u32..=256, order in 12u32..=18) {
            let entry_bytes = [64, 128][entry];
            let layout = Layout { entry_bytes, eager_buffers: buffers * 8, eager_buffer_size: 1 << order };
            if let Ok(parsed) = parse(Rhf(raw), &layout) {
                prop_assert_eq!(parsed.header_at + parsed.header_len + RHF_BYTES, entry_bytes);
                if matches!(parsed.kind, PacketKind::Eager | PacketKind::Expected) {
                    prop_assert!(parsed.header_len >= OPX_HEADER_BYTES as u32);
                }
                let (from, to) = (parsed.payload_at, parsed.payload_at + parsed.payload_len);
                prop_assert!(to <= buffers * 8 << order);
                prop_assert!(parsed.payload_len == 0 || from >> order == (to - 1) >> order, "spans two buffers");
                prop_assert!(from % 64 == 0);
            }
        }
    }

    #[test]
    fn a_bypass_packet_keeps_its_tail() {
        let layout = Layout { entry_bytes: 64, eager_buffers: 8, eager_buffer_size: 4096 };
        // 16 bytes of header right before the flags; 40 bytes behind it.
        let rhf = Rhf::new(Dwords(14), RcvType::Bypass, 1, Dwords(10)).eager(0, 0);
        let parsed = parse(rhf, &layout).unwrap();
        assert_eq!((parsed.kind, parsed.header_at, parsed.header_len), (PacketKind::Bypass, 40, 16));
        assert_eq!(parsed.payload_len, 40);
        assert_eq!(parse(Rhf(rhf.0 | 5 << 12), &layout), Err(BadEntry::Type));
    }
}
